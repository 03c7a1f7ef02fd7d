//! A gateway in this process, on a free port, in front of a scripted Ollama.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mock_ollama::Mock;
use portcullis::app::App;
use portcullis::config::Config;
use portcullis::config::env::Env;
use portcullis::record::AccessLog;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::client::{Answer, Conn};

/// Long enough that only what never comes runs into it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const KEY: &str = "a-test-key-that-nobody-guesses";
pub(crate) const MODEL: &str = "alpha:latest";

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) mock: Mock,
    stop: Option<oneshot::Sender<()>>,
    hurry: Option<oneshot::Sender<()>>,
    running: Option<tokio::task::JoinHandle<()>>,
    pub(crate) folder: PathBuf,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these settings, by environment name.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Self::before(Mock::start().await.unwrap(), settings)
    }

    pub(crate) fn before(mock: Mock, settings: &[(&str, &str)]) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("portcullis-it-{}-{n}", std::process::id()));
        let mut env: BTreeMap<String, String> = [
            ("PORT", "0"),
            ("OLLAMA_API_KEY", KEY),
            ("OLLAMA_MODEL", MODEL),
            ("PORTCULLIS_OPS_PORT", "0"),
            ("PORTCULLIS_LOG_LEVEL", "error"),
            ("PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE", "0"),
            ("PORTCULLIS_LIMITS_CONCURRENT", "0"),
        ]
        .into_iter()
        .chain(settings.iter().copied())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        env.insert("OLLAMA_LOCAL_URL".into(), mock.url());
        env.entry("PORTCULLIS_DATA_DIR".into()).or_insert_with(|| folder.display().to_string());
        let config = Config::load(None, &Env(env), |_, _| {}).unwrap();
        let app = App::build(&config, AccessLog::new(true, config.log.level)).unwrap();
        let (address, ops) = (app.address, app.ops_address.unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let (hurry, hurried) = oneshot::channel::<()>();
        let running =
            tokio::spawn(app.run(async move { drop(stopped.await) }, async move { drop(hurried.await) }));
        Self { address, ops, mock, stop: Some(stop), hurry: Some(hurry), running: Some(running), folder }
    }

    pub(crate) async fn connect(&self) -> Conn {
        Conn::open(self.address).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut conn = self.connect().await;
        conn.request(head, body).await;
        conn.answer().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"), b"")
            .await
    }

    /// A POST with the key and a JSON body.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(&post(path), body.as_bytes()).await
    }

    pub(crate) async fn chat(&self, stream: bool) -> Answer {
        self.post("/api/chat", &chat(stream)).await
    }

    /// Opens a streamed chat and waits for its head.
    pub(crate) async fn stream(&self) -> (Conn, Answer) {
        let mut conn = self.connect().await;
        conn.request(&post("/api/chat"), chat(true).as_bytes()).await;
        let head = conn.head().await;
        (conn, head)
    }

    /// Whatever happened before, the next good request works.
    pub(crate) async fn assert_well(&self) {
        self.mock.reset();
        let answer = self.chat(false).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.mock.clear();
    }

    pub(crate) fn assert_nothing_upstream(&self) {
        let seen = self.mock.seen();
        assert!(seen.is_empty(), "reached the upstream: {seen:?}");
    }

    /// Asks for a stop; the future ends when everything has drained.
    pub(crate) fn stop(&mut self) -> tokio::task::JoinHandle<()> {
        drop(self.stop.take());
        self.running.take().unwrap()
    }
}

impl Gateway {
    /// Asks for a stop at once, as a second signal does.
    pub(crate) fn stop_now(&mut self) -> tokio::task::JoinHandle<()> {
        drop(self.hurry.take());
        self.stop()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        // Only a gateway with a generated key has one.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

pub(crate) fn post(path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    )
}

pub(crate) fn chat(stream: bool) -> String {
    json!({"model": MODEL, "messages": [{"role": "user", "content": "Say hi"}], "stream": stream}).to_string()
}

pub(crate) fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| panic!("no JSON: {:?}", String::from_utf8_lossy(body)))
}

/// Exactly Ollama's error shape: one key, a text.
pub(crate) fn assert_native_error(body: &[u8]) -> String {
    let value = parsed(body);
    let object = value.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["error"], "{value}");
    object["error"].as_str().unwrap().to_owned()
}
