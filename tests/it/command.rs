//! The binary: check, its exit codes, its start-up lines, its log lines, its stop.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use mock_ollama::Mock;

use crate::client::Conn;
use crate::harness::{KEY, MODEL, chat, post};

fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let home = std::env::temp_dir().join(format!("portcullis-home-{}", std::process::id()));
    command
        .env_clear()
        .env("HOME", &home)
        .envs(env.iter().copied())
        .args(args)
        .current_dir(std::env::temp_dir());
    command
}

pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let output = command(args, env).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_prints_every_fault_at_once_and_exits_with_2() {
    let env = [
        ("PORT", "http"),
        ("PORTCULLIS_LIMITS_BODY", "much"),
        ("PORTCULLIS_LISTEN_PROT", "1"),
        ("OLLAMA_LOCAL_URL", "http://u:hunter2@h"),
        ("OLLAMA_API_KEY", "a b"),
        ("PORTCULLIS_LISTEN_TRUSTED_PROXY", "0.0.0.0/0"),
    ];
    let (code, _, errors) = run(&["check"], &env);
    assert_eq!(code, 2);
    for words in [
        "listen.port (from PORT)",
        "a whole number",
        "limits.body",
        "a size such as",
        "did you mean PORTCULLIS_LISTEN_PORT",
        "upstream.url",
        "keys.api_key",
        "listen.trusted_proxy",
    ] {
        assert!(errors.contains(words), "{words} in\n{errors}");
    }
    assert!(!errors.contains("hunter2") && !errors.contains("a b"), "a secret in\n{errors}");
    let (code, out, _) = run(&["check", "--json"], &env);
    assert_eq!(code, 2);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["faults"].as_array().unwrap().len(),
        6
    );
    assert_eq!(run(&["check"], &[]).0, 0);
    assert_eq!(run(&["--no-such-flag"], &[]).0, 2);
    assert_eq!(run(&["--help"], &[]).0, 0);
}

#[test]
fn shells_and_the_manual_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&["completions", shell], &[]);
        assert_eq!(code, 0);
        for word in ["tunnel", "rotate", "quarantine"] {
            assert!(out.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(run(&["completions", "csh"], &[]).0, 2);
    let (code, page, _) = run(&["man"], &[]);
    assert!(code == 0 && page.contains(".TH portcullis 1") && page.contains("portcullis up"), "{page}");
    let folder = std::env::temp_dir().join(format!("portcullis-man-{}", std::process::id()));
    assert_eq!(run(&["man", folder.to_str().unwrap()], &[]).0, 0);
    for name in ["portcullis.1", "portcullis-key-create.1", "portcullis-tunnel-check.1"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn check_looks_at_what_a_start_would_open() {
    for (env, words) in [
        (
            &[("PORTCULLIS_LISTEN_TLS_CERTIFICATE", "/nope"), ("PORTCULLIS_LISTEN_TLS_KEY", "/nope")][..],
            "cannot be read",
        ),
        (&[("PORTCULLIS_LISTEN_SOCKET", "/nope/gate.sock")], "its folder does not exist"),
        (&[("PORT", "9471"), ("PORTCULLIS_OPS_PORT", "9471")], "ops.port"),
    ] {
        let (code, _, errors) = run(&["check"], env);
        assert!(code == 2 && errors.contains(words), "{env:?}: {errors}");
    }
    let (code, out, _) = run(&["check"], &[("OLLAMA_API_KEY", "short")]);
    assert!(code == 0 && out.contains("can be guessed"), "what a start warns of: {out}");
    // The name is Ollama's for its own cloud: whoever writes the key in a place of ours hears nothing of it.
    let long = "a-key-of-more-than-twenty-characters";
    let file = std::env::temp_dir().join(format!("portcullis-key-{}", std::process::id()));
    std::fs::write(&file, long).unwrap();
    for (name, value, warned) in [
        ("OLLAMA_API_KEY", long, true),
        ("OLLAMA_API_KEY_FILE", file.to_str().unwrap(), false),
        ("PORTCULLIS_KEYS_API_KEY", long, false),
        ("OLLAMA_API_KEY", "", false),
    ] {
        let (code, out, _) = run(&["check"], &[(name, value)]);
        assert!(code == 0 && out.contains("ollama.com") == warned, "{name}: {out}");
        assert!(!out.contains(long), "{out}");
    }
    std::fs::remove_file(&file).unwrap();
    let (code, _, errors) = run(&["key", "create", "--name", "a", "--expires", "30"], &[]);
    assert!(code == 2 && errors.contains("30d"), "{errors}");
}

#[test]
fn unsafe_settings_do_not_start() {
    for env in [
        &[("OLLAMA_API_KEY", ""), ("PORTCULLIS_LISTEN_ADDRESS", "0.0.0.0")][..],
        &[("OLLAMA_API_KEY", ""), ("PORTCULLIS_LISTEN_TRUSTED_PROXY", "cloudflare")],
        &[("OLLAMA_API_KEY", ""), ("PORTCULLIS_LISTEN_SOCKET", "/tmp/no.sock")],
        &[
            ("OLLAMA_API_KEY", ""),
            ("PORTCULLIS_ACCESS_TEAM", "acme"),
            ("PORTCULLIS_ACCESS_AUDIENCE", "a"),
            ("PORTCULLIS_ACCESS_MODE", "add"),
        ],
        &[("PORTCULLIS_ACCESS_TEAM", "acme")],
        &[("PORTCULLIS_OIDC_ISSUER", "http://idp.example"), ("PORTCULLIS_OIDC_AUDIENCE", "a")],
        &[("PORTCULLIS_LISTEN_TLS_KEY", "/dev/null")],
        &[("PORTCULLIS_LISTEN_TLS_KEY", "/dev/null"), ("PORTCULLIS_LISTEN_TLS_CERTIFICATE", "/dev/null")],
        &[("PORT", "11434")],
        &[("OLLAMA_LOCAL_URL", "http://127.0.0.1:9000"), ("PORT", "9000")],
        &[("OLLAMA_LOCAL_URL", "file:///etc/passwd")],
    ] {
        let (code, out, errors) = run(&["serve"], env);
        assert_eq!((code, out.as_str()), (2, ""), "{env:?}: {errors}");
    }
    let env = [("OLLAMA_API_KEY", ""), ("PORTCULLIS_LISTEN_ADDRESS", "0.0.0.0")];
    assert_eq!(run(&["check", "--i-know-this-is-public"], &env).0, 0);
}

#[test]
fn a_tunnel_that_exposes_the_model_server_is_refused() {
    let file = std::env::temp_dir().join(format!("portcullis-tunnel-{}.yml", std::process::id()));
    let path = file.display().to_string();
    let rule = |port| {
        format!(
            "ingress:\n  - hostname: '*.example'\n    service: http://localhost:{port}\n  - service: http_status:404\n"
        )
    };
    for (text, code) in
        [(rule(8000), 0), (rule(11434), 1), (rule(11555), 1), (rule(9464), 1), ("a: [".to_owned(), 2)]
    {
        std::fs::write(&file, &text).unwrap();
        let env = [("OLLAMA_LOCAL_URL", "http://127.0.0.1:11555")];
        let (found, out, errors) = run(&["tunnel", "check", &path], &env);
        assert_eq!(found, code, "{text}{out}{errors}");
        assert!(code != 1 || out.contains(&format!("{path}:3: it leads to port ")), "{out}");
        let (_, out, _) = run(&["tunnel", "check", "--json", &path], &env);
        let said: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(said["ok"], code == 0);
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(run(&["tunnel", "check", &path], &[]).0, 2);
}

pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
    pub(crate) out: String,
}

impl Running {
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        let mut child = command(&["serve", "--port", "0"], env)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut out, mut port) = (String::new(), None);
        // The curl line is the last of the start-up lines.
        while let Some(Ok(line)) = lines.next() {
            if let Some((_, rest)) = line.split_once("API    http://127.0.0.1:") {
                port = rest.parse().ok();
            }
            out.push_str(&line);
            out.push('\n');
            if line.trim_start().starts_with("try") {
                break;
            }
        }
        Self { port: port.unwrap_or_else(|| panic!("no port in {out:?}")), child, out }
    }

    /// The port of the operators' listener.
    pub(crate) fn ops(&self) -> u16 {
        let (_, rest) = self.out.split_once("ops    http://127.0.0.1:").unwrap();
        rest.split('/').next().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Asks it to stop; its exit code and all that it wrote to stderr.
    pub(crate) fn stop(mut self) -> (i32, String) {
        self.signal("-TERM");
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code().unwrap(), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nobody behind; one that was stopped is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_name_both_routes_and_never_a_key_or_a_prompt() {
    let mock = Mock::start().await.unwrap();
    for format in ["text", "json"] {
        let url = mock.url();
        let running = Running::start(&[
            ("OLLAMA_API_KEY", KEY),
            ("OLLAMA_LOCAL_URL", &url),
            ("OLLAMA_MODEL", MODEL),
            ("PORTCULLIS_LOG_FORMAT", format),
        ]);
        assert!(!running.out.contains(KEY), "the operator's key is not repeated");
        let body = chat(false).replace("Say hi", "a-secret-prompt");
        for path in ["/chat", "/api/nothing"] {
            let mut conn = Conn::open(([127, 0, 0, 1], running.port).into()).await;
            conn.request(&post(path), body.as_bytes()).await;
            conn.answer().await;
        }
        for path in ["/healthz", "/readyz"] {
            let mut conn = Conn::open(([127, 0, 0, 1], running.port).into()).await;
            conn.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n"), b"").await;
            assert_eq!(conn.answer().await.status, 200);
        }
        let (code, log) = running.stop();
        assert_eq!(code, 0);
        assert!(!log.contains("healthz") && !log.contains("readyz"), "probes are of no interest\n{log}");
        for words in [
            "Proxying POST /chat → Ollama /api/chat (stream=false)",
            "Ollama /api/chat responded: 200 in 0.",
            "Refused POST -: 403",
        ] {
            assert!(log.contains(words), "{words} in\n{log}");
        }
        assert!(!log.contains(KEY) && !log.contains("a-secret-prompt") && !log.contains(&url), "{log}");
        for line in log.lines().filter(|_| format == "json").filter(|line| line.starts_with('{')) {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_key_is_shown_kept_and_works() {
    let mock = Mock::start().await.unwrap();
    let folder = std::env::temp_dir().join(format!("portcullis-generated-{}", std::process::id()));
    let (url, dir) = (mock.url(), folder.display().to_string());
    let env =
        [("OLLAMA_LOCAL_URL", url.as_str()), ("PORTCULLIS_DATA_DIR", dir.as_str()), ("OLLAMA_MODEL", MODEL)];
    let mut shown = Vec::new();
    for _ in 0..2 {
        let running = Running::start(&env);
        let key = running.out.split_whitespace().find(|word| word.starts_with("pc_")).unwrap().to_owned();
        let head = post("/api/chat").replace(KEY, &key);
        let mut conn = Conn::open(([127, 0, 0, 1], running.port).into()).await;
        conn.request(&head, chat(false).as_bytes()).await;
        assert_eq!(conn.answer().await.status, 200);
        let (_, log) = running.stop();
        assert!(!log.contains(&key), "the key is in the log");
        shown.push(key);
    }
    assert_eq!(shown[0], shown[1], "kept from start to start");
    std::fs::remove_dir_all(folder).unwrap();
}

/// What a service manager is sent on its socket (`sd_notify(3)`), in order, until the service says that it stops.
fn told(socket: &std::os::unix::net::UnixDatagram) -> Vec<String> {
    let mut heard: Vec<String> = Vec::new();
    let mut bytes = [0; 256];
    while !heard.iter().any(|word| word.contains("STOPPING=1")) {
        let length = socket.recv(&mut bytes).expect("a word from the service");
        heard.push(String::from_utf8_lossy(&bytes[..length]).trim().to_owned());
    }
    heard
}

#[test]
fn a_service_manager_hears_ready_alive_and_stopping() {
    let path = std::env::temp_dir().join(format!("portcullis-notify-{}", std::process::id()));
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let name = path.display().to_string();
    let running = Running::start(&[
        ("OLLAMA_API_KEY", KEY),
        ("NOTIFY_SOCKET", name.as_str()),
        ("WATCHDOG_USEC", "200000"),
    ]);
    let mut first = [0; 256];
    let length = socket.recv(&mut first).unwrap();
    assert_eq!(&first[..length], b"READY=1\n", "told when it serves, before anything else");
    for _ in 0..2 {
        let length = socket.recv(&mut first).unwrap();
        assert_eq!(&first[..length], b"WATCHDOG=1\n");
    }
    assert_eq!(running.stop().0, 0);
    let heard = told(&socket);
    assert!(heard.iter().filter(|word| word.as_str() != "WATCHDOG=1").eq(["STOPPING=1"]), "{heard:?}");
    std::fs::remove_file(&path).unwrap();
}
