//! The import law: a room imports only rooms of a lower rank; no stage knows a web framework; files stay readable.

use std::fs;
use std::path::{Path, PathBuf};

/// In the order in which a request meets them, so to say from the ground up.
const RANKS: [(&str, u8); 19] = [
    ("types", 0),
    ("endpoint", 0),
    ("config", 1),
    ("store", 2),
    ("record", 3),
    ("listen", 3),
    ("identify", 4),
    ("upstream", 4),
    ("admit", 5),
    ("validate", 6),
    ("dialect", 7),
    ("route", 8),
    ("queue", 9),
    ("respond", 10),
    ("forward", 11),
    ("serve", 12),
    ("app", 13),
    ("cli", 14),
    ("main", 14),
];

fn rank(room: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank)
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 40);
    found
}

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

#[test]
fn rooms_import_only_lower_rooms() {
    let mut faults = Vec::new();
    for path in sources() {
        let room = room_of(&path);
        if room == "lib" {
            continue;
        }
        let own = rank(&room).unwrap_or_else(|| panic!("{room} has no rank"));
        let text = fs::read_to_string(&path).unwrap();
        // Tests may look around.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for part in line.split("crate::").skip(1) {
                let other: String =
                    part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                // The newtypes are the ground that everybody stands on.
                if let Some(rank) = rank(&other)
                    && other != room
                    && other != "types"
                    && rank >= own
                {
                    faults.push(format!("{}: {room} ({own}) imports {other} ({rank})", path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_file_outgrows_its_reader() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().lines().count();
        assert!(code <= 400, "{} has {code} lines", path.display());
        assert!(text.starts_with("//!"), "{} has no header", path.display());
    }
}
