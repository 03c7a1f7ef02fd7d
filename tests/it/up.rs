//! `portcullis up` with a program that stands for `ollama`: what it is given, its restart, its end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::client::Conn;
use crate::harness::{KEY, chat, post};

/// Writes down its environment and every pull, has a model once it was pulled, and dies when it is asked for an embedding.
const FAKE: &str = include_str!("../fake_ollama.py");

struct Up {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Up {
    fn start(name: &str) -> Self {
        Self::with(name, None)
    }

    /// `mute`: all that is said to a pull.
    fn with(name: &str, mute: Option<&str>) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-up-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let fake = folder.join("ollama");
        fs::write(&fake, FAKE).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        if let Some(mute) = mute {
            fs::write(folder.join("mute"), mute).unwrap();
        }
        // The tests run side by side: each looks for its upstream's port from another number on.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let errors = fs::File::create(folder.join("stderr")).unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var_os("PATH").unwrap().to_string_lossy());
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["up", "--port", "0"])
            .env_clear()
            .env("PATH", path)
            .env("HOME", &folder)
            .env("OLLAMA_API_KEY", KEY)
            .env("OLLAMA_ORIGINS", "*")
            .env("OLLAMA_HOST", "0.0.0.0")
            .env("OLLAMA_LOCAL_URL", format!("http://{free}"))
            .env("OLLAMA_MODEL", "tiny:1b")
            .env("PORTCULLIS_UPSTREAM_FIRST_BYTE_TIMEOUT", "1s")
            .env("PORTCULLIS_UPSTREAM_IDLE_TIMEOUT", "1s")
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut port = None;
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("API    http://127.0.0.1:") {
                port = rest.parse().ok();
            }
            if line.trim_start().starts_with("try") {
                break;
            }
        }
        Self { child, folder, port: port.expect("it never became ready") }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(Path::new(&self.folder).join(name)).unwrap()
    }

    async fn ask(&self, path: &str, body: &str) -> u16 {
        let mut conn = Conn::open(([127, 0, 0, 1], self.port).into()).await;
        conn.request(&post(path), body.as_bytes()).await;
        conn.answer().await.status
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // A test that failed leaves nothing running.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

#[tokio::test]
async fn the_upstream_is_bound_to_loopback_pulls_is_restarted_and_ends_with_us() {
    let mut up = Up::start("whole");
    let first: serde_json::Value = serde_json::from_str(up.read("starts").lines().next().unwrap()).unwrap();
    assert!(first["OLLAMA_HOST"].as_str().unwrap().starts_with("127.0.0.1:"), "{first}");
    for ours in ["OLLAMA_API_KEY", "OLLAMA_ORIGINS"] {
        assert!(first.get(ours).is_none(), "{ours} reached the upstream");
    }
    assert_eq!(up.read("pulled"), "tiny:1b");
    let body = chat(false).replace("alpha:latest", "tiny:1b");
    assert_eq!(up.ask("/api/chat", &body).await, 200);
    // It dies; it is started again within its first back-off.
    assert_eq!(up.ask("/api/embed", "{\"input\":\"x\"}").await, 502);
    let mut status = 0;
    for _ in 0..100 {
        status = up.ask("/api/chat", &body).await;
        if status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!((status, up.read("starts").lines().count()), (200, 2));
    let runner = fs::read_to_string(format!("/proc/{}/stat", up.read("runner")));
    // Gone, or dead and not yet buried by whoever inherited it.
    assert!(
        runner.as_ref().map_or(true, |stat| stat.contains(") Z ")),
        "what it left behind still runs: {runner:?}"
    );
    let address = first["OLLAMA_HOST"].as_str().unwrap().to_owned();
    assert!(Command::new("kill").args(["-TERM", &up.child.id().to_string()]).status().unwrap().success());
    assert_eq!(up.child.wait().unwrap().code(), Some(0));
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the upstream outlived us");
}

#[test]
fn a_pull_that_hears_nothing_ends_with_a_warning_and_the_gate_opens() {
    for (mute, why) in [
        ("", "no answer in time"),
        (r#"{"status":"pulling","total":10,"completed":5}"#, "the upstream fell silent for 1s"),
    ] {
        let mut up = Up::with("mute", Some(mute));
        let told = up.read("stderr");
        assert!(told.contains("tiny:1b was not pulled") && told.contains(why), "{told}");
        assert!(Command::new("kill").args(["-TERM", &up.child.id().to_string()]).status().unwrap().success());
        assert_eq!(up.child.wait().unwrap().code(), Some(0));
    }
}
