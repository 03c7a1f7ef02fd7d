//! The ways in beside the plain port: a Unix socket, and TLS in process.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mock_ollama::{On, Script};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::client::Conn;
use crate::harness::{Gateway, KEY, PATIENCE, chat, post};

/// A folder of one test's own.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[tokio::test]
async fn a_socket_is_a_way_in_like_the_port() {
    let folder = Folder::new("socket");
    let path = folder.file("gate.sock");
    // What a gateway that was killed leaves behind is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    fs::create_dir(format!("{path}.{}", std::process::id())).unwrap();
    let settings =
        [("PORTCULLIS_LISTEN_SOCKET", path.as_str()), ("PORTCULLIS_LISTEN_TRUSTED_PROXY", "cloudflare")];
    let mut gate = Gateway::with(&settings).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let ask = async |head: &str, body: &[u8]| {
        let mut conn = Conn::over(UnixStream::connect(&path).await.unwrap());
        conn.request(head, body).await;
        conn.answer().await
    };
    let head = format!("{}CF-Connecting-IP: 203.0.113.9\r\n", post("/api/chat"));
    let answer = ask(&head, chat(true).as_bytes()).await;
    assert!(answer.status == 200 && answer.lines().len() > 2, "{answer:?}");
    let keyless = post("/api/chat").replace(&format!("Authorization: Bearer {KEY}\r\n"), "");
    assert_eq!(ask(&keyless, chat(true).as_bytes()).await.status, 401);
    assert_eq!(ask("GET /api/tags HTTP/1.1\r\nHost: localhost\r\n", b"").await.status, 403);
    gate.assert_well().await;
    let taken = portcullis::listen::Socket::bind(Path::new(&path), 0o600).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse, "another gateway's socket is left alone");
    // A caller who leaves is noticed here as well.
    gate.mock.script(On::Any, Script { never: true, ..Script::default() });
    let mut conn = Conn::over(UnixStream::connect(&path).await.unwrap());
    conn.request(&post("/api/chat"), chat(true).as_bytes()).await;
    gate.mock.wait_seen(1, PATIENCE).await.unwrap();
    conn.leave();
    gate.mock.wait_disconnect(PATIENCE).await.unwrap();
    gate.stop().await.unwrap();
    assert!(!Path::new(&path).exists(), "the file goes with the gateway");
}

/// A certificate for `localhost` and its key, in files.
pub(crate) fn certificate(folder: &Folder, name: &str) -> (String, String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.file(&format!("{name}.crt")), folder.file(&format!("{name}.key")));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    (cert, key, made.cert.der().clone())
}

/// Connects, believing this certificate alone.
async fn tls(gate: &Gateway, trusted: &CertificateDer<'static>) -> std::io::Result<Conn> {
    tls_to(gate.address, trusted).await
}

pub(crate) async fn tls_to(address: SocketAddr, trusted: &CertificateDer<'static>) -> std::io::Result<Conn> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(Conn::over)
}

#[tokio::test]
async fn tls_in_process() {
    let folder = Folder::new("tls");
    let (cert, key, trusted) = certificate(&folder, "a");
    let settings =
        [("PORTCULLIS_LISTEN_TLS_CERTIFICATE", cert.as_str()), ("PORTCULLIS_LISTEN_TLS_KEY", &key)];
    let mut gate = Gateway::with(&settings).await;
    let mut conn = tls(&gate, &trusted).await.unwrap();
    for stream in [false, true, true] {
        conn.request(&post("/api/chat"), chat(stream).as_bytes()).await;
        let answer = conn.answer().await;
        assert!(answer.status == 200 && answer.whole, "{answer:?}");
    }
    // Who sends all before they read hears a refusal here as well.
    let mut conn = tls(&gate, &trusted).await.unwrap();
    let head = post("/api/chat").replace(KEY, "wrong-but-long-enough-for-a-key");
    conn.write(format!("{head}Content-Length: {}\r\n\r\n", 6 << 20).as_bytes()).await;
    for piece in vec![b' '; 6 << 20].chunks(64 << 10) {
        assert!(conn.try_write(piece).await, "cut while it was sending");
    }
    assert_eq!(conn.answer().await.status, 401);
    // Larger than every buffer on the way, to a reader who lets it fill them all first.
    gate.mock.script(On::Any, Script { tokens: Some(4_000), token_size: Some(1_000), ..Script::default() });
    let mut conn = tls(&gate, &trusted).await.unwrap();
    conn.request(&post("/api/chat"), chat(true).as_bytes()).await;
    gate.mock.wait_tokens(500, PATIENCE).await.unwrap();
    let answer = conn.answer().await;
    assert!(answer.whole && answer.body.len() > 4_000_000, "{} bytes", answer.body.len());
    // The end is said, and not only there: a cut would be an error here.
    let mut conn = tls(&gate, &trusted).await.unwrap();
    conn.request(&format!("{}Connection: close\r\n", post("/api/chat")), chat(false).as_bytes()).await;
    assert_eq!(conn.answer().await.status, 200);
    conn.ends_well().await;
    // A caller who takes nothing and breaks the rules is not held.
    gate.mock.script(On::Any, Script { endless: true, token_size: Some(60_000), ..Script::default() });
    let mut deaf = tls(&gate, &trusted).await.unwrap();
    deaf.request(&post("/api/chat"), chat(true).as_bytes()).await;
    gate.mock.wait_tokens(200, PATIENCE).await.unwrap();
    deaf.write(b"GARBAGE\r\n\r\n").await;
    gate.mock.reset();
    // Who speaks no TLS, or half of it, gets nothing, and is in nobody's way.
    let mut plain = gate.connect().await;
    plain.request(&post("/api/chat"), chat(false).as_bytes()).await;
    let said = plain.until_end().await;
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
    let mut dawdler = TcpStream::connect(gate.address).await.unwrap();
    let stopped = gate.stop();
    tokio::time::timeout(PATIENCE / 4, stopped).await.expect("somebody delays the stop").unwrap();
    deaf.leave();
    assert!(!matches!(dawdler.read(&mut [0; 64]).await, Ok(1..)));
}
