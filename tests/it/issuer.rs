//! An issuer of signed identities that a test holds in its hand: it signs anything, and publishes what it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) const AUDIENCE: &str = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2";

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let word =
            piece.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - piece.len()));
        for i in 0..=piece.len() {
            text.push(char::from(DIGITS[(word >> (18 - 6 * i)) as usize & 63]));
        }
    }
    text
}

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// One signing key.
pub(crate) struct Signer {
    pub(crate) id: &'static str,
    pub(crate) pair: KeyPair,
}

impl Signer {
    pub(crate) fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    pub(crate) fn jwk(&self) -> Value {
        let public = self.pair.public_key();
        let (n, e) = (
            public.modulus().big_endian_without_leading_zero(),
            public.exponent().big_endian_without_leading_zero(),
        );
        json!({"kid": self.id, "kty": "RSA", "alg": "RS256", "use": "sig", "n": base64(n), "e": base64(e)})
    }

    pub(crate) fn sign(&self, head: &Value, claims: &Value) -> String {
        let text =
            format!("{}.{}", base64(head.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", base64(&signature))
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "RS256", "kid": self.id, "typ": "JWT"}), claims)
    }
}

/// Where an issuer publishes its keys: a small HTTP server that says what it is told to.
pub(crate) struct Issuer {
    pub(crate) url: String,
    said: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Issuer {
    pub(crate) async fn publishing(keys: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (said, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (answer, count) = (Arc::clone(&said), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while crate::client::find(&head, b"\r\n\r\n").is_none() {
                    if stream.read_buf(&mut head).await.unwrap() == 0 {
                        break;
                    }
                }
                count.fetch_add(1, Ordering::Relaxed);
                let answer = answer.lock().unwrap().clone();
                stream.write_all(&answer).await.ok();
            }
        });
        let issuer = Self { url, said, asked, serving };
        issuer.publish(keys);
        issuer
    }

    /// From now on nobody listens there.
    pub(crate) async fn die(&mut self) {
        self.serving.abort();
        assert!((&mut self.serving).await.unwrap_err().is_cancelled());
    }

    pub(crate) fn publish(&self, keys: &[&Signer]) {
        let list: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.say("200 OK", &json!({"keys": list, "public_certs": []}).to_string());
    }

    pub(crate) fn say(&self, status: &str, body: &str) {
        *self.said.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes();
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn claims(&self) -> Value {
        json!({"iss": self.url, "aud": [AUDIENCE], "email": "Alice@example.com", "sub": "7335d417-61da-459d-899c-0a01c76a2f94",
               "iat": now(), "nbf": now(), "exp": now() + 300, "type": "app"})
    }
}
