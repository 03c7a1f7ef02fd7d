//! A full store: what operators ask of it, in seconds, and whether a key is found as fast among ten thousand as among ten.

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use portcullis::identify::issue::{self, Wish};
use portcullis::identify::{ApiKey, Keyring};
use portcullis::store::actions::Actor;
use portcullis::store::audit::{AuditRow, Batch, Begin, ChainKey, FORM, Segment};
use portcullis::store::usage::UsageRow;
use portcullis::store::{Store, wall};

use crate::{Outcome, ScaleArgs};

/// Rows of one commit.
const COMMIT: u32 = 10_000;
/// Look-ups that are timed.
const LOOKUPS: u32 = 200_000;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Fills, asks, prints.
pub(crate) fn run(args: &ScaleArgs) -> Outcome {
    let gateway = std::path::absolute(&args.gateway)?;
    let folder = Folder(std::env::temp_dir().join(format!("portcullis-scale-{}", std::process::id())));
    let mut out = std::io::stdout();
    let begun = Instant::now();
    let keys = fill(&folder.0, args)?;
    writeln!(
        out,
        "{} keys and {} rows written in {:.1} s",
        args.keys,
        args.rows,
        begun.elapsed().as_secs_f64()
    )?;
    writeln!(out, "the store has {} MB", fs::metadata(folder.0.join("portcullis.db"))?.len() / 1_000_000)?;
    lookups(&folder.0, &keys, &mut out)?;
    for command in [
        &["key", "list", "--json"][..],
        &["usage", "--json"],
        &["audit", "tail", "--json"],
        &["audit", "verify"],
    ] {
        let took = timed(&gateway, &folder.0, command)?;
        writeln!(out, "portcullis {}: {:.3} s", command.join(" "), took.as_secs_f64())?;
    }
    let took = start(&gateway, &folder.0)?;
    writeln!(out, "start-up to the first answer: {:.3} s", took.as_secs_f64())?;
    Ok(())
}

fn fill(folder: &Path, args: &ScaleArgs) -> Outcome<Vec<ApiKey>> {
    let mut store = Store::open(folder)?;
    let by = Actor { by: "bench".into(), via: "cli", peer: None, request_id: 0 };
    let mut keys = Vec::new();
    for n in 0..args.keys {
        keys.push(issue::create(&mut store, &Wish { name: format!("key {n}"), ..Wish::default() }, &by)?.1);
    }
    let key = ChainKey::of(folder)?;
    let now = wall();
    let mut segment = Segment {
        name: "bench-1".into(),
        started_at: now,
        ended_at: None,
        before: [0; 32],
        head: [0; 32],
        dropped: false,
        rows: 0,
        open: 0,
        form: FORM,
    };
    let mut written = 0;
    while written < args.rows {
        let count = COMMIT.min(args.rows - written);
        let rows = (written..written + count).map(|n| row(n, &keys, now)).collect();
        let sums: Vec<_> = (0..50).map(|n| sum(written / COMMIT, n, &keys)).collect();
        segment = store.append(&key, &segment, "bench", &Batch { rows, ..Batch::default() }, &sums)?;
        written += count;
    }
    Ok(keys)
}

fn key_of(n: u32, keys: &[ApiKey]) -> &str {
    keys.get(n as usize % keys.len().max(1)).map_or("", ApiKey::id)
}

fn row(n: u32, keys: &[ApiKey], now: i64) -> AuditRow {
    let begin = Begin {
        request_id: u64::from(n) + 1,
        time: now * 1_000,
        key_id: Some(key_of(n, keys).into()),
        peer: Some([127, 0, 0, 1].into()),
        method: "POST".into(),
        route: "/api/chat".into(),
        model: Some("alpha:latest".into()),
        stream: true,
    };
    let done = begin.interrupted();
    AuditRow { status: 200, ending: "done".into(), output_tokens: Some(24), reason: None, ..done }
}

/// A sum of one of the last hundred days.
fn sum(day: u32, n: u32, keys: &[ApiKey]) -> UsageRow {
    let day = portcullis::record::stamp::day(wall() - i64::from(day % 100) * 86_400);
    UsageRow {
        day,
        key_id: key_of(n * 7, keys).into(),
        model: "alpha:latest".into(),
        requests: 200,
        ..UsageRow::default()
    }
}

fn lookups(folder: &Path, keys: &[ApiKey], out: &mut impl std::io::Write) -> Outcome {
    let store = Store::open(folder)?;
    let (rows, secrets) = (store.keys()?, store.secrets()?);
    for count in [10, rows.len()] {
        let some: Vec<_> = rows.iter().take(count).cloned().collect();
        let ids: HashSet<_> = some.iter().map(|row| row.id.clone()).collect();
        let (ring, _) = Keyring::renewed(&Keyring::default(), &some, &secrets);
        let known: Vec<_> = keys.iter().filter(|key| ids.contains(key.id())).map(ApiKey::reveal).collect();
        let begun = Instant::now();
        let mut found = 0_u32;
        for key in known.iter().cycle().take(LOOKUPS as usize) {
            found += u32::from(black_box(ring.find(black_box(key))).is_some());
        }
        let each = begun.elapsed() / LOOKUPS;
        writeln!(out, "a look-up among {count} keys: {} ns ({found} of {LOOKUPS} found)", each.as_nanos())?;
    }
    Ok(())
}

fn timed(gateway: &Path, folder: &Path, args: &[&str]) -> Outcome<Duration> {
    let begun = Instant::now();
    let status = Command::new(gateway)
        .args(args)
        .env("PORTCULLIS_DATA_DIR", folder)
        .env("HOME", folder)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()?;
    let took = begun.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{}: {status}", args.join(" ")).into()) }
}

fn start(gateway: &Path, folder: &Path) -> Outcome<Duration> {
    let begun = Instant::now();
    let mut child = Command::new(gateway)
        .args(["serve", "--address", "127.0.0.1", "--port", "0", "--set", "ops.enabled=false"])
        .env("PORTCULLIS_DATA_DIR", folder)
        .env("HOME", folder)
        .env("OLLAMA_API_KEY", crate::KEY)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let url = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("API    ").map(|(_, url)| url.to_owned()));
    let asked = url.ok_or("it did not start".into()).and_then(|url| healthy(&url));
    let took = begun.elapsed();
    child.kill()?;
    child.wait()?;
    asked.map(|()| took)
}

fn healthy(url: &str) -> Outcome {
    let mut stream = std::net::TcpStream::connect(crate::loopback(url)?)?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = String::new();
    BufReader::new(stream).read_line(&mut head)?;
    if head.contains(" 200 ") { Ok(()) } else { Err(format!("/healthz said {head:?}").into()) }
}
