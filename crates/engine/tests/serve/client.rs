//! A real engine as a child process, and a small HTTP client that sees the time of every line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// An engine with the real model on a free port.
pub(crate) struct Engine {
    child: Child,
    address: String,
}

/// One answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) lines: Vec<(Instant, String)>,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis-engine"))
            // One thread: two of them wait for each other at every step, which crawls on a busy machine.
            .args(["serve", "--port", "0", "--threads", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the engine's program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").map(str::to_owned);
        let address = address.expect(
            "the engine did not start: these tests need the default model, and the lines on stderr above say \
             why it cannot be had and what to do",
        );
        Self { child, address }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(2))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        Answer::read(self.send("GET", path, ""))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::read(self.send("POST", path, &body.to_string()))
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address.parse().unwrap()
    }

    /// Posts and returns the connection: dropping it is leaving.
    pub(crate) fn begin(&self, path: &str, body: &Value) -> TcpStream {
        self.send("POST", path, &body.to_string())
    }

    /// Asks for the counters until they are as wanted.
    pub(crate) fn stats_when(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let stats = self.get("/engine/stats").json();
            if wanted(&stats) {
                return stats;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "never came: {stats}");
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Answer {
    fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let status = line().split(' ').nth(1).expect("a status line").parse().unwrap();
        let heads: Vec<String> =
            std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty())).collect();
        let head = |name: &str| {
            let lower = |head: &&String| head.to_lowercase().starts_with(&format!("{name}:"));
            heads.iter().find(lower).map(|head| head.split_once(':').unwrap().1.trim().to_owned())
        };
        let mut lines = Vec::new();
        if head("transfer-encoding").as_deref() == Some("chunked") {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let mut chunk = vec![0; size + 2];
                reader.read_exact(&mut chunk).unwrap();
                if size == 0 {
                    break;
                }
                lines.push((Instant::now(), String::from_utf8(chunk[..size].to_vec()).unwrap()));
            }
        } else {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            lines.push((Instant::now(), rest));
        }
        Self { status, kind: head("content-type").unwrap_or_default(), lines }
    }

    /// The answer as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.lines.iter().map(|(_, text)| text.as_str()).collect::<String>()).unwrap()
    }

    /// The answer's lines as JSON values.
    pub(crate) fn values(&self) -> Vec<Value> {
        self.lines.iter().map(|(_, line)| serde_json::from_str(line).unwrap()).collect()
    }
}
