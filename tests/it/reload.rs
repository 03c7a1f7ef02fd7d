//! A changed configuration is taken over while the gateway runs; a bad one is not.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use mock_ollama::{Mock, On, Script};
use portcullis::app::App;
use portcullis::config::env::Env;
use portcullis::config::{Changes, Config};
use portcullis::record::AccessLog;
use tokio::time::Instant;

use crate::client::Conn;
use crate::command::Running;
use crate::doors::{Folder, certificate, tls_to};
use crate::harness::{KEY, MODEL, PATIENCE, chat, post};

async fn ask(port: u16, head: &str, body: &[u8]) -> u16 {
    let mut conn = Conn::open(SocketAddr::from(([127, 0, 0, 1], port))).await;
    conn.request(head, body).await;
    conn.answer().await.status
}

async fn tags(port: u16) -> u16 {
    ask(port, &format!("GET /api/tags HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"), b"")
        .await
}

/// Asks until the answer is this one.
async fn until(status: u16, mut ask: impl AsyncFnMut() -> u16) {
    let begun = Instant::now();
    loop {
        let found = ask().await;
        if found == status {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "still {found}, not {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the metrics say that a configuration was refused.
async fn until_refused(running: &Running) {
    let begun = Instant::now();
    loop {
        let mut conn = Conn::open(SocketAddr::from(([127, 0, 0, 1], running.ops()))).await;
        conn.request("GET /metrics HTTP/1.1\r\nHost: localhost\r\n", b"").await;
        if conn.answer().await.text().contains("\nportcullis_config_reload_failing 1\n") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the metrics do not say that it was refused");
    }
}

#[tokio::test]
async fn a_file_that_changes_holds_without_a_restart() {
    let mock = Mock::start().await.unwrap();
    let folder = Folder::new("reload");
    let (file, key) = (folder.file("portcullis.toml"), folder.file("key"));
    fs::write(&key, KEY).unwrap();
    let write = |routes: bool, more: &str| {
        let next = folder.file("next");
        fs::write(&next, format!("[routes]\ncatalogue = {routes}\n{more}")).unwrap();
        fs::rename(&next, &file).unwrap();
    };
    write(false, "");
    let data = folder.file("data");
    let url = mock.url();
    let running = Running::start(&[
        ("PORTCULLIS_CONFIG", &file),
        ("PORTCULLIS_DATA_DIR", &data),
        ("OLLAMA_API_KEY_FILE", &key),
        ("OLLAMA_LOCAL_URL", &url),
        ("OLLAMA_MODEL", MODEL),
        ("PORTCULLIS_OPS_PORT", "0"),
    ]);
    let port = running.port;
    assert_eq!(tags(port).await, 403);
    // A stream that began before runs on through all of this.
    mock.script(On::prompt("Say hi"), Script { tokens: Some(3), hold_after: Some(1), ..Script::default() });
    let mut conn = Conn::open(SocketAddr::from(([127, 0, 0, 1], port))).await;
    conn.request(&post("/api/chat"), chat(true).as_bytes()).await;
    assert_eq!(conn.head().await.status, 200);
    conn.chunk().await.unwrap();
    // Another that asks before a change holds must not be held like it.
    mock.reset();

    write(true, "");
    until(200, async || tags(port).await).await;
    // A file that cannot be read as one leaves everything as it was; so does one that is gone.
    fs::write(&file, "[routes]\ncatalogue = perhaps\n").unwrap();
    running.signal("-HUP");
    until_refused(&running).await;
    fs::remove_file(&file).unwrap();
    running.signal("-HUP");
    write(true, "management = false\n[limits]\nbody = \"1KiB\"\n[listen]\naddress = \"127.0.0.2\"\n");
    running.signal("-HUP");
    let long = chat(false).replace("Say hi", &"x".repeat(2_000));
    until(413, async || ask(port, &post("/api/chat"), long.as_bytes()).await).await;
    assert_eq!(tags(port).await, 200);
    // Another key in the file: the old one ends, and so does what runs under it.
    let other = "another-key-of-the-operator-s-own";
    fs::write(&key, other).unwrap();
    until(401, async || tags(port).await).await;
    // The new one is masked like the first, wherever somebody puts it.
    let (head, planted) =
        (post("/api/chat").replace(KEY, other), chat(false).replace(MODEL, &format!("x-{other}")));
    assert_eq!(ask(port, &head, planted.as_bytes()).await, 404);
    let ended = tokio::time::timeout(PATIENCE, async { while conn.chunk().await.is_some() {} }).await;
    ended.expect("a stream outlives its key");
    let (code, errors) = running.stop();
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("\"model\":\"x-…:latest\"") && !errors.contains(other), "{errors}");
    for words in
        ["the old one stays", "listen.address", "limits.body", "keys.api_key", "hold after a restart"]
    {
        assert!(errors.contains(words), "{words} in\n{errors}");
    }
    assert!(!errors.contains("another-key") && !errors.contains(KEY), "a key in\n{errors}");
}

#[tokio::test]
async fn a_new_certificate_serves_the_next_connection() {
    let (mock, folder) = (Mock::start().await.unwrap(), Folder::new("renewed"));
    let (cert, key, first) = certificate(&folder, "a");
    let settings = [
        ("PORT", "0"),
        ("OLLAMA_API_KEY", KEY),
        ("OLLAMA_LOCAL_URL", &mock.url()),
        ("OLLAMA_MODEL", MODEL),
        ("PORTCULLIS_OPS_PORT", "0"),
        ("PORTCULLIS_LOG_LEVEL", "error"),
        ("PORTCULLIS_DATA_DIR", &folder.file("data")),
        ("PORTCULLIS_LISTEN_TLS_CERTIFICATE", &cert),
        ("PORTCULLIS_LISTEN_TLS_KEY", &key),
    ];
    let env = Env(settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let load = || Config::load(None, &env, |_, _| {}).unwrap();
    let config = load();
    let app = App::build(&config, AccessLog::new(true, config.log.level)).unwrap();
    let (address, live) = (app.address, app.live());
    let running = tokio::spawn(app.run(std::future::pending(), std::future::pending()));
    let talk = async |conn: &mut Conn| {
        conn.request(&post("/api/chat"), chat(false).as_bytes()).await;
        assert_eq!(conn.answer().await.status, 200);
    };
    let mut old = tls_to(address, &first).await.unwrap();
    talk(&mut old).await;

    let (new_cert, new_key, second) = certificate(&folder, "b");
    fs::copy(&new_cert, &cert).unwrap();
    assert!(live.renew(load(), &env).is_err(), "a certificate without its key");
    talk(&mut tls_to(address, &first).await.unwrap()).await;
    fs::copy(&new_key, &key).unwrap();
    assert_eq!(live.renew(load(), &env).unwrap().changes, Changes::default(), "the names are the same");
    talk(&mut tls_to(address, &second).await.unwrap()).await;
    assert!(tls_to(address, &first).await.is_err());
    talk(&mut old).await;
    running.abort();
}

#[tokio::test]
async fn a_reload_opens_nothing_that_a_start_would_refuse() {
    let (mock, folder) = (Mock::start().await.unwrap(), Folder::new("unsafe"));
    let file = folder.file("portcullis.toml");
    fs::write(&file, "").unwrap();
    let (data, url) = (folder.file("data"), mock.url());
    let running = Running::start(&[
        ("PORTCULLIS_CONFIG", &file),
        ("PORTCULLIS_DATA_DIR", &data),
        ("OLLAMA_API_KEY", ""),
        ("OLLAMA_LOCAL_URL", &url),
        ("OLLAMA_MODEL", MODEL),
        ("PORTCULLIS_OPS_PORT", "0"),
    ]);
    let foreign = post("/api/chat").replace("Host: localhost", "Host: gate.example");
    let status = async || ask(running.port, &foreign, chat(false).as_bytes()).await;
    assert_eq!(status().await, 421);
    // As a whole it would be safe; without what waits for a restart it is an open gate behind a proxy.
    let access = "[access]\nteam = \"acme\"\naudience = [\"a\"]\nmode = \"identity\"\n";
    let open = "[listen]\ntrusted_proxy = \"cloudflare\"\nhosts = [\"gate.example\"]\n";
    fs::write(&file, format!("{access}{open}")).unwrap();
    running.signal("-HUP");
    until_refused(&running).await;
    assert_eq!(status().await, 421);
    let (code, errors) = running.stop();
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("not safe to take over before a restart"), "{errors}");
}

#[tokio::test]
async fn a_file_that_appears_is_read_and_is_missed_when_it_goes() {
    let (mock, folder) = (Mock::start().await.unwrap(), Folder::new("appears"));
    let (home, data, url) = (folder.file("config"), folder.file("data"), mock.url());
    let running = Running::start(&[
        ("XDG_CONFIG_HOME", &home),
        ("PORTCULLIS_DATA_DIR", &data),
        ("OLLAMA_API_KEY", KEY),
        ("OLLAMA_LOCAL_URL", &url),
        ("OLLAMA_MODEL", MODEL),
        ("PORTCULLIS_OPS_PORT", "0"),
    ]);
    assert_eq!(tags(running.port).await, 403);
    let file = folder.0.join("config/portcullis/portcullis.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "[routes]\ncatalogue = true\n").unwrap();
    until(200, async || tags(running.port).await).await;
    // Its settings are not the defaults' to undo.
    fs::remove_file(&file).unwrap();
    running.signal("-HUP");
    until_refused(&running).await;
    assert_eq!(tags(running.port).await, 200);
}
