//! `OLLAMA_HOST`, which decides where Ollama listens: in our environment, in that of a running Ollama, in its service's unit.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::config::env::{Env, OLLAMA_HOST};

const CHECK: &str = "ollama-host";

pub(super) fn check(env: &Env) -> Finding {
    let root = Path::new("/");
    let mut bad = running(&root.join("proc"));
    bad.extend(units(root));
    if !bad.is_empty() {
        return Finding::serious(
            CHECK,
            format!("Ollama is told to listen beyond loopback: {}", bad.join("; ")),
            "OLLAMA_HOST=127.0.0.1 there (systemctl edit ollama), and start it again",
        );
    }
    // The same variable names the server for clients, where another machine's address is no fault.
    match env.get(OLLAMA_HOST).filter(|value| is_unspecified(value)) {
        Some(value) => Finding::note(
            CHECK,
            format!(
                "OLLAMA_HOST={value:?} stands in this environment: an Ollama that is started from it listens everywhere"
            ),
            "OLLAMA_HOST=127.0.0.1 for Ollama, OLLAMA_LOCAL_URL for the gateway",
        ),
        None => Finding::ok(CHECK, "no OLLAMA_HOST that was found makes Ollama listen beyond loopback"),
    }
}

/// The address that a value binds, as Ollama reads it; empty: all of them.
fn host(value: &str) -> String {
    let value = value.trim().trim_matches(['"', '\'']).trim();
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or(rest);
    match rest.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest).to_owned(),
        // An IPv6 address without brackets has no port.
        None if rest.matches(':').count() > 1 => rest.to_owned(),
        None => rest.split(':').next().unwrap_or(rest).to_owned(),
    }
}

fn is_unspecified(value: &str) -> bool {
    let host = host(value);
    (host.is_empty() && value.contains(':')) || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// For a server's own setting, every address beyond loopback is one that others may reach.
fn is_open(value: &str) -> bool {
    is_unspecified(value) || host(value).parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback())
}

/// Processes called `ollama` whose environment may be read, in this network.
fn running(proc: &Path) -> Vec<String> {
    let network = |pid: &Path| fs::read_link(pid.join("ns/net")).ok();
    let ours = network(&proc.join("self"));
    let folders = fs::read_dir(proc).into_iter().flatten().flatten().map(|entry| entry.path());
    folders
        .filter(|pid| fs::read_to_string(pid.join("comm")).is_ok_and(|name| name.trim() == "ollama"))
        // In a container of its own, all addresses are the container's.
        .filter(|pid| network(pid) == ours)
        .filter_map(|pid| {
            let all = fs::read(pid.join("environ")).ok()?;
            let value = all.split(|&byte| byte == 0).find_map(|pair| pair.strip_prefix(b"OLLAMA_HOST="))?;
            let value = String::from_utf8_lossy(value).into_owned();
            let name = pid.file_name()?.to_string_lossy().into_owned();
            is_open(&value).then(|| format!("process {name} has OLLAMA_HOST={value:?}"))
        })
        .collect()
}

/// systemd's unit and what is laid over it; later files win, so the last word counts.
fn units(root: &Path) -> Vec<String> {
    let folders = ["lib/systemd/system", "usr/lib/systemd/system", "etc/systemd/system"];
    let mut files: Vec<PathBuf> =
        folders.iter().map(|folder| root.join(folder).join("ollama.service")).collect();
    let mut over: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| {
            fs::read_dir(root.join(folder).join("ollama.service.d")).into_iter().flatten().flatten()
        })
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "conf"))
        .collect();
    over.sort();
    files.extend(over);
    let mut last = None;
    for file in files {
        for line in fs::read_to_string(&file).unwrap_or_default().lines() {
            let Some(rest) = line.trim().strip_prefix("Environment=") else { continue };
            let value = rest
                .split_whitespace()
                .find_map(|word| word.trim_matches(['"', '\'']).strip_prefix("OLLAMA_HOST="));
            if let Some(value) = value {
                last = Some((file.clone(), value.to_owned()));
            }
        }
    }
    let open = last.filter(|(_, value)| is_open(value));
    open.map(|(file, value)| format!("{} has OLLAMA_HOST={value:?}", file.display())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ollama_would_bind() {
        for open in [
            "0.0.0.0",
            "0.0.0.0:11434",
            "http://0.0.0.0",
            "[::]:11434",
            "::",
            ":11434",
            "\"0.0.0.0\"",
            "192.0.2.7",
        ] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["", "127.0.0.1", "localhost:11434", "[::1]", "http://127.0.0.1:9/x"] {
            assert!(!is_open(closed), "{closed}");
        }
        assert!(is_unspecified(":11434") && !is_unspecified("192.0.2.7:11434"));
    }

    #[test]
    fn a_process_and_a_unit_are_read() {
        let root = std::env::temp_dir().join(format!("portcullis-doctor-host-{}", std::process::id()));
        let (pid, unit) = (root.join("proc/77"), root.join("etc/systemd/system/ollama.service.d"));
        fs::create_dir_all(&pid).unwrap();
        fs::create_dir_all(&unit).unwrap();
        fs::write(pid.join("comm"), "ollama\n").unwrap();
        fs::write(pid.join("environ"), b"A=1\0OLLAMA_HOST=0.0.0.0\0B=2\0").unwrap();
        assert_eq!(running(&root.join("proc")), ["process 77 has OLLAMA_HOST=\"0.0.0.0\""]);
        fs::write(pid.join("comm"), "bash\n").unwrap();
        assert!(running(&root.join("proc")).is_empty());
        fs::write(unit.join("a.conf"), "[Service]\nEnvironment=\"OLLAMA_HOST=0.0.0.0:11434\"\n").unwrap();
        assert_eq!(units(&root).len(), 1);
        fs::write(unit.join("b.conf"), "[Service]\nEnvironment=X=1 OLLAMA_HOST=127.0.0.1\n").unwrap();
        assert!(units(&root).is_empty(), "the last word counts");
        fs::remove_dir_all(root).unwrap();
    }
}
