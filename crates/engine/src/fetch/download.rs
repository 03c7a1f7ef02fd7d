//! Downloading by the machine's own programs: they know its proxies and certificates.
//!
//! Takes an address and a file, and promises progress on stderr: a bar on a terminal, else a line every few
//! seconds.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::log;

/// How often the file's size is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(3);

/// Downloads with curl into `part`, going on where an earlier try ended.
pub(super) fn with_curl(url: &str, part: &Path, size: u64) -> Result<(), String> {
    let have = length(part);
    if have == size {
        return Ok(());
    }
    if have > size {
        drop(std::fs::remove_file(part));
    }
    let mut child = Command::new("curl")
        .args(["-fsSL", "-C", "-", "--retry", "3", "--connect-timeout", "20", "--proto", "=http,https"])
        // A stalled transfer ends; a slow one does not.
        .args(["--speed-limit", "1000", "--speed-time", "60"])
        .arg("-o")
        .arg(part)
        .args(["--url", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run curl: {error}"))?;
    let mut progress = Progress::new(size);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        progress.show(length(part));
        std::thread::sleep(LOOK);
    };
    progress.end();
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        drop(stderr.read_to_string(&mut said));
    }
    Err(format!("{} ({status})", said.trim()))
}

/// Has pip download a package into a folder.
pub(super) fn with_pip(package: &str, into: &Path) -> Result<(), String> {
    let out = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:", "-d"])
        .arg(into)
        .arg(package)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run python3: {error}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let last = said
        .lines()
        .rfind(|line| line.contains("ERROR") || line.contains("No module"))
        .or(said.lines().last());
    let last = last.unwrap_or("failed");
    Err(last.trim().to_owned())
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

enum Progress {
    Bar(ProgressBar),
    Lines { size: u64, last: Instant },
}

impl Progress {
    fn new(size: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            log::info(format_args!("fetching the default model, {} MB", size / 1_000_000));
            return Self::Lines { size, last: Instant::now() };
        }
        let bar = ProgressBar::new(size);
        let style = ProgressStyle::with_template(
            "fetching the default model {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    fn show(&mut self, have: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(have),
            Self::Lines { size, last } if last.elapsed() >= LINE => {
                *last = Instant::now();
                let percent = have * 100 / (*size).max(1);
                log::info(format_args!(
                    "fetched {} of {} MB ({percent}%)",
                    have / 1_000_000,
                    *size / 1_000_000
                ));
            }
            Self::Lines { .. } => {}
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
