//! What must survive: kill -9 at any moment, a full disk, a damaged store.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mock_ollama::{Mock, On, Script};
use portcullis::store::audit::ChainKey;
use portcullis::store::{Store, StoreError};

use tokio::time::Instant;

use crate::client::Conn;
use crate::harness::{KEY, PATIENCE, chat, post};
use crate::keys::{command, json};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A gateway as a process of its own, killed without a word when it is dropped.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn start(command: &mut Command, folder: &Path, mock: &Mock) -> Self {
        let mut child = command
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", folder)
            .env("OLLAMA_API_KEY", KEY)
            .env("OLLAMA_LOCAL_URL", mock.url())
            .env("OLLAMA_MODEL", "alpha")
            .env("PORTCULLIS_DATA_DIR", folder)
            .env("PORTCULLIS_OPS_ENABLED", "false")
            .env("PORTCULLIS_AUDIT_MODE", "strict")
            .env("PORTCULLIS_LOG_LEVEL", "error")
            .env("PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE", "0")
            .env("PORTCULLIS_LIMITS_CONCURRENT", "0")
            .env("PORT", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("API    http://127.0.0.1:").and_then(|(_, port)| port.parse().ok())
        });
        Self { child, port: port.expect("a gateway that starts") }
    }

    async fn connect(&self) -> Conn {
        Conn::open(([127, 0, 0, 1], self.port).into()).await
    }

    async fn status(&self, head: &str, body: &[u8]) -> u16 {
        let mut conn = self.connect().await;
        conn.request(head, body).await;
        conn.answer().await.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn gateway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("serve").current_dir(std::env::temp_dir());
    command
}

/// How the tests themselves are run.
#[expect(clippy::disallowed_methods, reason = "nothing of the product's configuration")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A few numbers that look like chance, the same each time.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Asks one after another until the gateway is gone; notes the id of every answer whose head came.
async fn ask_until_gone(port: u16, seen: Arc<Mutex<Vec<String>>>) {
    loop {
        let Ok(stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
        let body = chat(true);
        let request = format!("{}Content-Length: {}\r\n\r\n{body}", post("/api/chat"), body.len());
        let Some(id) = first_id(stream, &request).await else { return };
        seen.lock().unwrap().push(id);
    }
}

/// The id in the head of the answer; `None` where none came.
async fn first_id(mut stream: tokio::net::TcpStream, request: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = Vec::new();
    loop {
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
        let said = String::from_utf8_lossy(&text);
        if let Some((_, rest)) = said.split_once("x-request-id: ")
            && said.starts_with("HTTP/1.1 200")
            && let Some(id) = rest.get(..16).map(str::to_owned)
        {
            // The rest of the answer, or what there is of it.
            while stream.read_buf(&mut text).await.is_ok_and(|n| n > 0) && !text.ends_with(b"0\r\n\r\n") {}
            return Some(id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let cycles = setting("PORTCULLIS_KILL_CYCLES").and_then(|n| n.parse().ok()).unwrap_or(50);
    let (folder, mock) = (Folder::new("kill"), Mock::start().await.unwrap());
    mock.script(On::Any, Script { tokens: Some(4), gap: Duration::from_millis(1), ..Script::default() });
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut seed = Seed(20_261_126);
    for _ in 0..cycles {
        let process = Process::start(&mut gateway(), &folder.0, &mock);
        let callers: Vec<_> =
            (0..4).map(|_| tokio::spawn(ask_until_gone(process.port, Arc::clone(&acknowledged)))).collect();
        tokio::time::sleep(Duration::from_millis(20 + seed.below(60))).await;
        drop(process);
        for caller in callers {
            caller.await.unwrap();
        }
    }
    // One more start closes what the last kill left open.
    let last = Process::start(&mut gateway(), &folder.0, &mock);
    assert_eq!(last.status(&post("/api/chat"), chat(false).as_bytes()).await, 200);
    let store = Store::read(&folder.0).unwrap();
    let (mut ids, mut endings) = (Vec::new(), std::collections::BTreeMap::<String, usize>::new());
    store
        .rows(i64::MIN, |chained| {
            ids.push(format!("{:016x}", chained.row.request_id));
            *endings.entry(chained.row.ending.to_string()).or_default() += 1;
            true
        })
        .unwrap();
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(
        acknowledged.len() > cycles,
        "{} answers in {cycles} cycles: too few to tell",
        acknowledged.len()
    );
    ids.sort_unstable();
    let missing: Vec<_> = acknowledged.iter().filter(|id| ids.binary_search(id).is_err()).collect();
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged requests have no row, such as {:?}",
        missing.len(),
        acknowledged.len(),
        missing.first()
    );
    assert_eq!(ids.windows(2).filter(|pair| pair[0] == pair[1]).count(), 0, "a request has two rows");
    assert!(endings.contains_key("interrupted"), "no kill came in the middle of a request: {endings:?}");
    let key = ChainKey::read(&folder.0).unwrap().unwrap();
    assert_eq!(store.verify(&key, &[], None).unwrap().fault, None);
}

/// What gives a process mounts of its own: root may, and others where they may be root of their own.
fn unshare() -> Command {
    use std::os::unix::fs::MetadataExt;
    let mut command = Command::new("unshare");
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        command.arg("--map-root-user");
    }
    command.arg("--mount");
    command
}

/// Size-limited memory as the data folder, in a mount namespace of the gateway's own.
fn in_tmpfs(size: &str) -> Command {
    let mut command = unshare();
    let script =
        format!("mount -t tmpfs -o size={size},mode=700 tmpfs \"$PORTCULLIS_DATA_DIR\" && exec \"$0\" serve");
    command.args(["sh", "-c", &script, env!("CARGO_BIN_EXE_portcullis")]);
    command
}

/// Fills the file system of a folder to its last byte.
fn fill(folder: &Path) -> PathBuf {
    let ballast = folder.join("ballast");
    let file = fs::File::create(&ballast).unwrap();
    let mut at = 0;
    for size in [4096, 512, 1] {
        let block = vec![7; size];
        while file.write_at(&block, at).is_ok_and(|n| n > 0) {
            at += size as u64;
            assert!(at < 64 << 20, "this is no small disk");
        }
    }
    ballast
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_requests_are_refused_until_there_is_room_again() {
    let may = unshare().arg("true").status();
    if !may.is_ok_and(|status| status.success()) {
        let text = "this machine lets nobody mount: a full disk was not tried";
        assert!(setting("CI").is_none(), "{text}");
        eprintln!("{text}");
        return;
    }
    let (folder, mock) = (Folder::new("full"), Mock::start().await.unwrap());
    let process = Process::start(&mut in_tmpfs("1m"), &folder.0, &mock);
    let inside = PathBuf::from(format!("/proc/{}/root{}", process.child.id(), folder.0.display()));
    let (head, body) = (post("/api/chat"), chat(false));
    assert_eq!(process.status(&head, body.as_bytes()).await, 200);
    let ballast = fill(&inside);
    let begun = Instant::now();
    // There may be room for a few more rows in the pages that it has.
    while process.status(&head, body.as_bytes()).await != 503 {
        assert!(begun.elapsed() < PATIENCE, "served although nothing can be written");
    }
    let ready = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n";
    assert_eq!(process.status(ready, b"").await, 503);
    mock.clear();
    assert_eq!(process.status(&head, body.as_bytes()).await, 503);
    assert!(mock.seen().is_empty(), "what cannot be recorded is not served");
    fs::remove_file(ballast).unwrap();
    let begun = Instant::now();
    while process.status(&head, body.as_bytes()).await != 200 {
        assert!(begun.elapsed() < PATIENCE, "it does not come back by itself");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(process.status(ready, b"").await, 200);
    // SQLite follows links, and would look for the file in this namespace.
    let copy = Folder::new("full-copy");
    for name in ["portcullis.db", "portcullis.db-wal", "audit.key"] {
        fs::copy(inside.join(name), copy.0.join(name)).unwrap();
    }
    let key = ChainKey::read(&copy.0).unwrap().unwrap();
    assert_eq!(Store::read(&copy.0).unwrap().verify(&key, &[], None).unwrap().fault, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_named_and_set_aside_on_demand() {
    let (folder, mock) = (Folder::new("damaged"), Mock::start().await.unwrap());
    json(&folder.0, &["key", "create", "--name", "old", "--json"]);
    let process = Process::start(&mut gateway(), &folder.0, &mock);
    assert_eq!(process.status(&post("/api/chat"), chat(false).as_bytes()).await, 200);
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let begun = Instant::now();
    while !fs::read_to_string(folder.0.join("audit.heads")).is_ok_and(|text| text.contains(' ')) {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(process);
    let file = folder.0.join("portcullis.db");
    let sound = fs::read(&file).unwrap();
    let pages = sound.len() / 4096;
    let mut found = 0;
    for page in 0..pages {
        let mut bytes = sound.clone();
        bytes[page * 4096..page * 4096 + 64].fill(0xa5);
        fs::write(&file, &bytes).unwrap();
        match Store::open(&folder.0).and_then(|store| store.check(false)) {
            Err(StoreError::Damaged(_)) => found += 1,
            Err(other) => panic!("page {page}: {other}"),
            Ok(()) => {}
        }
    }
    assert!(found * 10 >= pages * 9, "damage was found in {found} of {pages} pages");
    let mut bytes = sound;
    bytes[4096..8192].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    let arguments = ["--address", "127.0.0.1", "--port", "0", "--set", "ops.enabled=false"];
    let (code, _, errors) = command(&folder.0, &[&["serve"][..], &arguments].concat());
    assert_eq!(code, 1);
    assert!(errors.contains("the store is damaged") && errors.contains("--quarantine"), "{errors}");
    let mut again = gateway();
    let process = Process::start(again.arg("--quarantine"), &folder.0, &mock);
    assert_eq!(process.status(&post("/api/chat"), chat(false).as_bytes()).await, 200);
    let names: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        names.iter().any(|name| name.to_string_lossy().starts_with("portcullis.db.damaged-")),
        "{names:?}"
    );
    let (code, said, errors) = command(&folder.0, &["audit", "verify"]);
    assert_eq!(code, 0, "the new chain begins with the head of the old: {said} {errors}");
}
