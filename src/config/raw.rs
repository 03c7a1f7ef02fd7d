//! What was written, before anybody judged it: text by key, each with its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::fault::{Faults, NO_TOML};
use super::keys::{self, Kind};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the default.
    Default,
    /// The configuration file.
    File(String),
    /// An environment variable.
    Env(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) | Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What another reading changes, by key.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// These hold now.
    pub now: Vec<&'static str>,
    /// These hold after a restart.
    pub at_restart: Vec<&'static str>,
}

/// Text by key. Lists are joined with commas. Prints its keys alone: some values are secrets.
#[derive(Default, Clone)]
pub struct Raw {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Raw {
    /// Sets a value, over anything that was there.
    pub fn set(&mut self, name: &str, value: impl Into<String>, origin: Origin) {
        if let Some(key) = keys::find(name) {
            self.values.insert(key.name, (value.into(), origin));
        }
    }

    /// What was written for a key, and where; `None` where nothing was.
    pub fn get(&self, name: &str) -> Option<(&str, &Origin)> {
        self.values.get(name).map(|(value, origin)| (value.as_str(), origin))
    }

    /// What can hold at once of another reading, and which keys change now and after a restart.
    pub fn renewed(&self, next: &Self) -> (Self, Changes) {
        let mut merged = self.clone();
        let (now, at_restart): (Vec<&'static keys::Key>, Vec<_>) =
            self.changed(next).into_iter().partition(|key| key.live && self.may_change(key.name, next));
        for key in &now {
            match next.values.get(key.name) {
                Some(value) => merged.values.insert(key.name, value.clone()),
                None => merged.values.remove(key.name),
            };
        }
        let names = |keys: Vec<&'static keys::Key>| keys.into_iter().map(|key| key.name).collect();
        (merged, Changes { now: names(now), at_restart: names(at_restart) })
    }

    /// Whether keys of the operator's own are asked for, and whether the port speaks TLS, is settled when the gate is built.
    fn may_change(&self, name: &str, next: &Self) -> bool {
        let has = |raw: &Self| raw.get(name).is_some_and(|(text, _)| !text.is_empty());
        match name {
            "keys.api_key" => has(self) && has(next),
            "listen.tls_certificate" | "listen.tls_key" => has(self) == has(next),
            _ => true,
        }
    }

    /// The keys whose values differ, wherever they were written.
    fn changed(&self, other: &Self) -> Vec<&'static keys::Key> {
        let value =
            |raw: &Self, key: &keys::Key| raw.get(key.name).map_or(key.default, |(text, _)| text).to_owned();
        // Empty and absent are two things for this one: public mode, and a key that is generated.
        let differs = |key: &&keys::Key| match key.name {
            "keys.api_key" => {
                self.get(key.name).map(|(text, _)| text) != other.get(key.name).map(|(text, _)| text)
            }
            _ => value(self, key) != value(other, key),
        };
        keys::KEYS.iter().filter(differs).collect()
    }

    /// Reads a TOML file's text. A name that is none of ours is a fault, with its line.
    pub fn read_toml(&mut self, text: &str, path: &Path, faults: &mut Faults) {
        let file =
            path.file_name().map_or_else(|| "the file".into(), |name| name.to_string_lossy().into_owned());
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                return faults.add(file, "", format!("{NO_TOML} at line {line}: {}", error.message()));
            }
        };
        for (section, value) in table {
            let Some(inner) = value.as_table() else {
                faults.add(section, &file, "not a section; keys stand in sections such as [listen]");
                continue;
            };
            for (name, value) in inner {
                let dotted = format!("{section}.{name}");
                let origin = format!("{file} line {}", line_of_key(text, &section, name));
                match keys::find(&dotted) {
                    None => faults.add(&dotted, origin, unknown(&dotted)),
                    Some(key) => match as_text(value, key.kind) {
                        Some(text) => self.set(key.name, text, Origin::File(origin)),
                        None => faults.add(key.name, origin, format!("must be {}", wanted(key.kind))),
                    },
                }
            }
        }
    }
}

fn as_text(value: &toml::Value, kind: Kind) -> Option<String> {
    match (value, kind) {
        (toml::Value::String(text), Kind::Text | Kind::Secret | Kind::List | Kind::Duration | Kind::Size) => {
            Some(text.clone())
        }
        (toml::Value::Integer(number), Kind::Number | Kind::Duration | Kind::Size) => {
            Some(number.to_string())
        }
        (toml::Value::Boolean(truth), Kind::Bool) => Some(truth.to_string()),
        (toml::Value::Array(items), Kind::List) => {
            items.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}

/// What a value of this kind looks like, for a fault.
pub(super) const fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Number => "a whole number",
        Kind::Duration => "a duration such as \"90s\", \"5m\" or 0",
        Kind::Size => "a size such as \"20MiB\" or a number of bytes",
        Kind::Text | Kind::Secret => "text",
        Kind::List => "a list of texts",
    }
}

/// "unknown key" with the nearest known one, since most are typing errors.
pub(super) fn unknown(name: &str) -> String {
    let near = keys::KEYS.iter().map(|key| key.name).min_by_key(|known| distance(known, name));
    match near {
        Some(known) if distance(known, name) <= 3 => format!("unknown key; did you mean {known}?"),
        _ => "unknown key; `portcullis check --keys` lists all".into(),
    }
}

/// Edit distance: inputs are a handful of short names, once at start.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let next = (before + usize::from(x != y)).min(left + 1).min(*cell + 1);
            before = *cell;
            *cell = next;
            left = next;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&b| b == b'\n').count() + 1
}

/// The line where a section's key is written; the parser keeps no positions of values.
fn line_of_key(text: &str, section: &str, name: &str) -> usize {
    let mut here = false;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            here = line.trim_start_matches('[').split(']').next().is_some_and(|s| s.trim() == section);
        }
        if here && line.split('=').next().is_some_and(|key| key.trim().trim_matches('"') == name) {
            return i + 1;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Raw, Faults) {
        let (mut raw, mut faults) = (Raw::default(), Faults::default());
        raw.read_toml(text, Path::new("some/portcullis.toml"), &mut faults);
        (raw, faults)
    }

    #[test]
    fn values_come_with_their_origin() {
        let (raw, faults) = read("[listen]\nport = 9000\norigins = [\"a\", \"b\"]\n");
        assert!(faults.0.is_empty());
        let origin = Origin::File("portcullis.toml line 2".into());
        assert_eq!(raw.get("listen.port"), Some(("9000", &origin)));
        assert_eq!(raw.get("listen.origins").unwrap().0, "a,b");
    }

    #[test]
    fn all_faults_at_once() {
        let (_, faults) = read("top = 1\n[listen]\nprot = 1\nport = \"x\"\n[nope]\na = 1\n");
        let text = faults.to_string();
        assert_eq!(faults.0.len(), 4, "{text}");
        assert!(
            text.contains(
                "listen.prot (from portcullis.toml line 3): unknown key; did you mean listen.port?"
            )
        );
        assert!(text.contains("listen.port (from portcullis.toml line 4): must be a whole number"));
    }

    #[test]
    fn broken_toml_names_its_line() {
        let (_, faults) = read("[listen]\nport = = 1\n");
        assert!(faults.to_string().contains("line 2"), "{faults}");
    }
}
