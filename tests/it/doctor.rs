//! `portcullis doctor` against deployments that are right, and against ones that were broken on purpose.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mock_ollama::{Mock, On, Script};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::find;
use crate::doors::{Folder, certificate};
use crate::harness::{Gateway, KEY, MODEL};

struct Found {
    code: i32,
    out: String,
    errors: String,
    said: Value,
}

impl Found {
    /// The worst severity of a check, `ok` first.
    fn of(&self, check: &str) -> &str {
        let list = self.said["findings"].as_array().unwrap();
        let own =
            list.iter().filter(|one| one["check"] == check).map(|one| one["severity"].as_str().unwrap());
        own.max_by_key(|severity| ["ok", "not_run", "note", "serious"].iter().position(|one| one == severity))
            .unwrap_or_else(|| panic!("no {check} in {}", self.out))
    }

    fn assert(&self, expected: &[(&str, &str)]) {
        for (check, severity) in expected {
            assert_eq!(self.of(check), *severity, "{check} in {:#}\n{}", self.said, self.errors);
        }
    }

    fn serious(&self) -> Vec<&str> {
        let list = self.said["findings"].as_array().unwrap().iter();
        list.filter(|one| one["severity"] == "serious").map(|one| one["check"].as_str().unwrap()).collect()
    }
}

/// The doctor with the configuration of this gateway; later settings win.
fn doctor(gate: &Gateway, args: &[&str], settings: &[(&str, &str)]) -> Found {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .env_clear()
        .env("HOME", &gate.folder)
        .env("PORTCULLIS_DATA_DIR", &gate.folder)
        .env("PORT", gate.address.port().to_string())
        .env("PORTCULLIS_OPS_PORT", gate.ops.port().to_string())
        .env("OLLAMA_LOCAL_URL", gate.mock.url())
        .env("OLLAMA_API_KEY", KEY)
        .env("OLLAMA_MODEL", MODEL)
        .envs(settings.iter().copied())
        .args(["doctor", "--json"])
        .args(args)
        .current_dir(&gate.folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, errors) = (text(output.stdout), text(output.stderr));
    assert!(!out.contains(KEY) && !errors.contains(KEY), "the key is shown: {out}{errors}");
    Found {
        code: output.status.code().unwrap(),
        said: serde_json::from_str(&out).unwrap_or_default(),
        out,
        errors,
    }
}

/// A model that speaks as slowly as one does.
fn speaks(mock: &Mock) {
    mock.script(On::Any, Script { tokens: Some(1_000), gap: Duration::from_millis(20), ..Script::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_right_has_nothing_serious() {
    let gate = Gateway::start().await;
    speaks(&gate.mock);
    let url = format!("http://{}", gate.address);
    let found = doctor(&gate, &["--url", &url], &[]);
    assert_eq!(found.serious(), Vec::<&str>::new(), "{:#}", found.said);
    assert_eq!(found.code, 0);
    let ok = [
        "answers",
        "key-required",
        "paths",
        "headers",
        "client-address",
        "streaming",
        "abort",
        "version",
        "operators",
        "key-strength",
        "data-folder",
    ];
    found.assert(&ok.map(|check| (check, "ok")));
    // It costs two chats, and nothing that an attacker asks goes through.
    let seen = gate.mock.seen();
    let paths: Vec<_> = seen.iter().map(|seen| seen.target.as_str()).collect();
    assert_eq!(paths, ["/api/chat", "/api/chat"]);
    assert!(seen.iter().any(|seen| seen.disconnected.is_some()), "the abort reached the model server");
    // Without an address, its own listener.
    let found = doctor(&gate, &[], &[]);
    assert_eq!((found.code, found.said["target"].as_str()), (0, Some(url.as_str())), "{:#}", found.said);
    found.assert(&[("tls", "not_run"), ("streaming", "ok"), ("abort", "ok"), ("client-address", "ok")]);
    // A key that is none gets no answer; one from a file does.
    let other = [("OLLAMA_API_KEY", "another-key-than-the-gateway-has")];
    doctor(&gate, &[], &other).assert(&[("streaming", "not_run"), ("abort", "not_run")]);
    let file = gate.folder.join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let found = doctor(&gate, &["--key-file", &file.display().to_string()], &other);
    found.assert(&[("streaming", "ok"), ("abort", "ok")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_server_in_the_gateways_place_is_serious_and_is_not_given_the_key() {
    let gate = Gateway::start().await;
    let found = doctor(&gate, &["--url", &gate.mock.url()], &[]);
    assert_eq!(found.code, 1);
    found.assert(&[
        ("answers", "serious"),
        ("key-required", "serious"),
        ("paths", "serious"),
        ("streaming", "not_run"),
        ("abort", "not_run"),
    ]);
    for seen in gate.mock.seen().into_iter().chain(gate.mock.probes()) {
        assert_eq!(seen.header("authorization"), None, "{}", seen.target);
    }
    // It looked, and changed nothing.
    assert!(gate.get("/models").await.text().contains(MODEL));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_server_beside_the_gate_is_serious() {
    let gate = Gateway::before(Mock::builder().version("0.5.0").start().await.unwrap(), &[]);
    let found = doctor(&gate, &["--also", "127.0.0.1"], &[]);
    assert_eq!(found.code, 1);
    found.assert(&[("exposed", "serious"), ("version", "serious")]);
    let at = gate.mock.addr().to_string();
    assert!(found.out.contains(&at) && found.out.contains("CVE-2026-7482"), "{}", found.out);
    let found = doctor(&gate, &[], &[("OLLAMA_HOST", "0.0.0.0")]);
    found.assert(&[("ollama-host", "note")]);
    doctor(&gate, &[], &[("PORTCULLIS_LISTEN_ADDRESS", "0.0.0.0")]).assert(&[("tls", "note")]);
    assert_ne!(found.of("exposed"), "serious", "{}", found.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_is_believed_is_serious() {
    let rule = [("PORTCULLIS_LISTEN_TRUSTED_PROXY", "127.0.0.0/8,hops=1")];
    let gate = Gateway::with(&rule).await;
    let url = format!("http://{}", gate.address);
    let found = doctor(&gate, &["--url", &url], &rule);
    found.assert(&[("client-address", "serious")]);
    assert_eq!(found.code, 1);
    assert!(found.out.contains("listen.trusted_proxy"), "{}", found.out);
    // From this machine, without an address that others use, it is what was configured.
    doctor(&gate, &[], &rule).assert(&[("client-address", "note")]);
    doctor(&gate, &["--url", &url], &[("PORTCULLIS_AUDIT_MODE", "off")])
        .assert(&[("client-address", "not_run")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_without_a_key_is_told() {
    let public = [("OLLAMA_API_KEY", "")];
    let gate = Gateway::with(&public).await;
    speaks(&gate.mock);
    let url = format!("http://{}", gate.address);
    let found = doctor(&gate, &[], &public);
    assert_eq!(found.code, 0, "{:#}", found.said);
    found.assert(&[
        ("key-required", "note"),
        ("streaming", "ok"),
        ("abort", "ok"),
        ("key-strength", "not_run"),
    ]);
    doctor(&gate, &["--url", &url], &public).assert(&[("key-required", "serious")]);
    // Whoever meant it has said so.
    let meant = [public[0], ("PORTCULLIS_LISTEN_PUBLIC", "true")];
    doctor(&gate, &["--url", &url], &meant).assert(&[("key-required", "note")]);
    // One that asks no key although its configuration has one.
    doctor(&gate, &[], &[]).assert(&[("key-required", "serious")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_others_may_use_and_a_short_key_are_told() {
    let gate = Gateway::start().await;
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(&gate.folder, 0o755);
    doctor(&gate, &[], &[]).assert(&[("data-folder", "note")]);
    mode(&gate.folder.join("portcullis.db"), 0o644);
    let found = doctor(&gate, &[], &[("OLLAMA_API_KEY", "short")]);
    found.assert(&[("data-folder", "serious"), ("key-strength", "note"), ("key-origin", "note")]);
    assert_eq!(found.code, 1);
    let file = gate.folder.join("portcullis.toml");
    std::fs::write(&file, "[keys]\napi_key = \"a-secret-of-the-file\"\n").unwrap();
    mode(&file, 0o644);
    let found = doctor(&gate, &[], &[]);
    found.assert(&[("config-file", "serious")]);
    assert!(!found.out.contains("a-secret-of-the-file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_leads_around_the_gate_is_serious_and_what_cannot_be_used_is_2() {
    let gate = Gateway::start().await;
    let (bad, good) = (gate.folder.join("bad.yml"), gate.folder.join("good.yml"));
    let rule = |port| {
        format!(
            "ingress:\n  - hostname: a.example\n    service: http://localhost:{port}\n  - service: http_status:404\n"
        )
    };
    std::fs::write(&bad, rule(gate.mock.addr().port())).unwrap();
    std::fs::write(&good, rule(8000)).unwrap();
    let found = doctor(&gate, &["--tunnel", &bad.display().to_string()], &[]);
    assert_eq!(found.code, 1);
    found.assert(&[("tunnel", "serious")]);
    doctor(&gate, &["--tunnel", &good.display().to_string()], &[]).assert(&[("tunnel", "ok")]);
    let cloudflared = gate.folder.join(".cloudflared");
    std::fs::create_dir(&cloudflared).unwrap();
    std::fs::copy(&bad, cloudflared.join("config.yml")).unwrap();
    doctor(&gate, &[], &[]).assert(&[("tunnel", "serious")]);
    for args in [
        &["--tunnel", "/nowhere/at.yml"][..],
        &["--url", "ai.example"],
        &["--key-file", "/nowhere"],
        &["--ca", "/nowhere"],
        &["--also", "x"],
    ] {
        assert_eq!(doctor(&gate, args, &[]).code, 2, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_is_serious() {
    let mut gate = Gateway::start().await;
    gate.stop_now().await.unwrap();
    let found = doctor(&gate, &[], &[]);
    found.assert(&[("answers", "serious"), ("paths", "not_run"), ("data-folder", "ok")]);
    assert_eq!(found.code, 1);
    let found = doctor(&gate, &[], &[("PORT", "0")]);
    found.assert(&[("answers", "not_run"), ("streaming", "not_run"), ("data-folder", "ok")]);
    assert_eq!(found.code, 0, "{:#}", found.said);
}

/// A proxy that gives answers on when they are whole, finishes them for whoever has left, and drops the page's policy.
async fn holding_proxy(gate: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = Vec::new();
                let length = |head: &[u8]| {
                    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
                    let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    line.map_or(0, |length| length.trim().parse().unwrap())
                };
                while find(&asked, b"\r\n\r\n").is_none_or(|at| asked.len() < at + 4 + length(&asked[..at])) {
                    if !matches!(caller.read_buf(&mut asked).await, Ok(1..)) {
                        return;
                    }
                }
                let line = find(&asked, b"\r\n").unwrap() + 2;
                let mut to = TcpStream::connect(gate).await.unwrap();
                to.write_all(&[&asked[..line], b"Connection: close\r\n", &asked[line..]].concat())
                    .await
                    .unwrap();
                let mut whole = Vec::new();
                to.read_to_end(&mut whole).await.unwrap();
                while let Some(at) = find(&whole, b"content-security-policy: ") {
                    whole[at] = b'x';
                }
                caller.write_all(&whole).await.ok();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_holds_back_what_it_should_pass_on_is_serious() {
    let gate = Gateway::start().await;
    gate.mock
        .script(On::Any, Script { tokens: Some(1_000), gap: Duration::from_millis(50), ..Script::default() });
    let url = format!("http://{}", holding_proxy(gate.address).await);
    let found = doctor(&gate, &["--url", &url], &[]);
    assert_eq!(found.code, 1);
    found.assert(&[
        ("answers", "ok"),
        ("key-required", "ok"),
        ("paths", "ok"),
        ("headers", "serious"),
        ("streaming", "serious"),
        ("abort", "serious"),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_hold_is_serious_and_keeps_the_key_here() {
    let folder = Folder::new("doctor-tls");
    let (cert, key, _) = certificate(&folder, "gate");
    let tls = [("PORTCULLIS_LISTEN_TLS_CERTIFICATE", cert.as_str()), ("PORTCULLIS_LISTEN_TLS_KEY", &key)];
    let gate = Gateway::with(&tls).await;
    speaks(&gate.mock);
    let url = format!("https://localhost:{}", gate.address.port());
    let found = doctor(&gate, &["--url", &url], &tls);
    assert_eq!(found.code, 1);
    found.assert(&[("tls", "serious"), ("paths", "ok"), ("key-required", "ok"), ("streaming", "not_run")]);
    assert_eq!(gate.mock.seen().len(), 0, "no chat was sent");
    let found = doctor(&gate, &["--url", &url, "--ca", &cert], &tls);
    assert_eq!(found.serious(), Vec::<&str>::new(), "{:#}", found.said);
    found.assert(&[("tls", "ok"), ("streaming", "ok"), ("abort", "ok"), ("headers", "note")]);
    // Its own listener is on this machine, whatever name the certificate has.
    let found = doctor(&gate, &[], &tls);
    assert_eq!(found.serious(), Vec::<&str>::new(), "{:#}", found.said);
    found.assert(&[("answers", "ok"), ("tls", "not_run"), ("streaming", "ok")]);
}
