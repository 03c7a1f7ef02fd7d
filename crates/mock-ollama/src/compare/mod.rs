//! Is a server like Ollama? Sends it the recorded requests and compares the answers.
//!
//! Compared are the status, the content type, the names of the header fields, the framing, and the shape of the JSON (keys and types): of
//! a whole answer, or of a stream's last line and of the others as a set. With [`Options::exact`], status lines and error texts too.
//! What a model says, and how much of it, is not compared.
//!
//! # Tolerated
//!
//! - the keys in [`OPTIONAL_KEYS`], missing on either side: Go omits what is zero, and only cloud models have a remote;
//! - an empty list where the other side's has elements;
//! - plain token lines where the recorded stream had only others;
//! - a length for chunks and the reverse, where the size of the answer is what decides (Go chunks what is over 2,048 bytes).

mod client;
mod shape;

use crate::recordings::{self, Body, Recording, Response};
use client::Answer;
use serde_json::Value;
use shape::{Shape, line_differences};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

pub use shape::OPTIONAL_KEYS;

/// Exchanges that change what others ask for: they run at the end of their group.
const LAST: &[&str] = &["models/delete-missing"];
/// Go's buffer: longer answers are chunked.
const BUFFER: usize = 2_048;

/// What to compare.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The groups, in this order; none means all.
    pub groups: &'a [&'a str],
    /// What not to send: globs over `group/name`, each with its reason.
    pub left_out: &'a [(&'a str, &'a str)],
    /// Compare status lines and error texts too, whatever numbers stand in them.
    pub exact: bool,
    /// Time for one answer.
    pub timeout: Duration,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { groups: &[], left_out: &[], exact: false, timeout: Duration::from_mins(1) }
    }
}

/// One thing that is not as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where: `status`, `content type`, `headers`, `framing`, a path into the JSON, …
    pub at: String,
    /// What was recorded.
    pub recorded: String,
    /// What came.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: recorded {}, got {}", self.at, self.recorded, self.got)
    }
}

impl Difference {
    pub(crate) fn new(at: impl Into<String>, recorded: impl Into<String>, got: impl Into<String>) -> Self {
        Self { at: at.into(), recorded: recorded.into(), got: got.into() }
    }
}

/// What became of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As recorded.
    Same,
    /// Not as recorded.
    Differs(Vec<Difference>),
    /// Not sent, and why.
    LeftOut(String),
}

/// An exchange and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `group/name`.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// All verdicts of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// One for each exchange of the groups, in the order in which they were sent.
    pub outcomes: Vec<Outcome>,
    /// Globs of `left_out` that name nothing.
    pub stale: Vec<String>,
}

impl Report {
    /// How many are as recorded.
    pub fn same(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Same).count()
    }

    /// Those that differ.
    pub fn differing(&self) -> impl Iterator<Item = (&str, &[Difference])> {
        self.outcomes.iter().filter_map(|outcome| match &outcome.verdict {
            Verdict::Differs(what) => Some((outcome.name.as_str(), what.as_slice())),
            _ => None,
        })
    }

    /// Those that were left out, with the reason.
    pub fn left_out(&self) -> impl Iterator<Item = (&str, &str)> {
        self.outcomes.iter().filter_map(|outcome| match &outcome.verdict {
            Verdict::LeftOut(why) => Some((outcome.name.as_str(), why.as_str())),
            _ => None,
        })
    }

    /// Nothing differs, and every glob names something.
    pub fn is_clean(&self) -> bool {
        self.differing().next().is_none() && self.stale.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, differences) in self.differing() {
            for difference in differences {
                writeln!(f, "{name}: {difference}")?;
            }
        }
        for glob in &self.stale {
            writeln!(f, "{glob}: left out, but there is no such exchange")?;
        }
        let (differing, left_out) = (self.differing().count(), self.left_out().count());
        writeln!(f, "{} same, {differing} different, {left_out} left out", self.same())
    }
}

/// Sends the recorded requests, one at a time, each on a connection of its own.
pub async fn run(addr: SocketAddr, options: &Options<'_>) -> Report {
    let mut report = Report::default();
    let all: Vec<&str> = recordings::groups().collect();
    let groups = if options.groups.is_empty() { &all } else { options.groups };
    let mut used = vec![false; options.left_out.len()];
    for group in groups {
        let mut exchanges = recordings::load(group);
        exchanges.sort_by_key(|recording| LAST.contains(&path(recording).as_str()));
        for recording in exchanges {
            let name = path(&recording);
            let mut reason = None;
            for ((glob, why), used) in options.left_out.iter().zip(&mut used) {
                if matches(glob, &name) {
                    *used = true;
                    reason = reason.or(Some((*why).to_owned()));
                }
            }
            let verdict = match reason {
                Some(why) => Verdict::LeftOut(why),
                None => exchange(addr, &recording, options).await,
            };
            report.outcomes.push(Outcome { name, verdict });
        }
    }
    let unused = options.left_out.iter().zip(used).filter(|(_, used)| !used);
    report.stale = unused.map(|((glob, _), _)| (*glob).to_owned()).collect();
    report
}

/// Sends one recorded request and compares the answer; the `left_out` of the options does not count.
pub async fn exchange(addr: SocketAddr, recording: &Recording, options: &Options<'_>) -> Verdict {
    let Some(recorded) = &recording.response else {
        return Verdict::LeftOut("nothing was answered when it was recorded".to_owned());
    };
    let sent = client::send(addr, &recording.request, &recording.method, options.timeout).await;
    let differences = match sent {
        Ok(got) => differences(recording, recorded, &got, options.exact),
        Err(error) => vec![Difference::new("connection", "an answer", error.to_string())],
    };
    if differences.is_empty() { Verdict::Same } else { Verdict::Differs(differences) }
}

fn path(recording: &Recording) -> String {
    format!("{}/{}", recording.group, recording.name)
}

/// Globs know `*` alone.
fn matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

fn differences(recording: &Recording, recorded: &Response, got: &Answer, exact: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut check = |at: &str, recorded: String, got: String| {
        if recorded != got {
            found.push(Difference::new(at, recorded, got));
        }
    };
    if exact {
        check("status line", recorded.status_line.clone(), got.status_line.clone());
        check("interim answers", recorded.interim.join(", "), got.interim.join(", "));
    } else {
        check("status", recorded.status.to_string(), got.status.to_string());
    }
    let kind = content_type(&recorded.headers);
    check("content type", kind.to_owned(), content_type(&got.headers).to_owned());
    check("headers", names(&recorded.headers), names(&got.headers));
    check("framing", expected_framing(recording, recorded, got), framing(&got.headers).to_owned());
    let body = recording.response_body();
    if recording.method == "HEAD" {
        return found;
    }
    if kind.starts_with("application/json") {
        found.extend(json_differences(&body, &got.body));
        if exact && recorded.status >= 400 {
            let (recorded, got) = (without_numbers(&body), without_numbers(&got.body));
            if recorded != got {
                found.push(Difference::new("error text", recorded, got));
            }
        }
    } else if kind == "application/x-ndjson" {
        found.extend(line_differences(&body, &got.body));
    } else if exact && body != got.body {
        found.push(Difference::new(
            "body",
            String::from_utf8_lossy(&body),
            String::from_utf8_lossy(&got.body),
        ));
    }
    found
}

fn json_differences(recorded: &[u8], got: &[u8]) -> Vec<Difference> {
    let parse = |bytes| serde_json::from_slice::<Value>(bytes);
    match (parse(recorded), parse(got)) {
        (Ok(recorded), Ok(got)) => {
            let mut found = Vec::new();
            Shape::of(&recorded).compare(&Shape::of(&got), "$", &mut found);
            found
        }
        (_, Err(error)) => vec![Difference::new("body", "JSON", error.to_string())],
        (Err(_), Ok(_)) => Vec::new(),
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn content_type(headers: &[(String, String)]) -> &str {
    header(headers, "content-type").unwrap_or("none")
}

/// The names of all fields but those of the framing, sorted, doubles kept.
fn names(headers: &[(String, String)]) -> String {
    let names = headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    let mut names: Vec<_> =
        names.filter(|name| name != "content-length" && name != "transfer-encoding").collect();
    names.sort_unstable();
    names.join(", ")
}

fn framing(headers: &[(String, String)]) -> &'static str {
    match (header(headers, "transfer-encoding"), header(headers, "content-length")) {
        (Some(_), _) => "chunked",
        (None, Some(_)) => "length",
        (None, None) => "none",
    }
}

/// The recorded framing, or what Go makes of an answer of this size where the size decides.
fn expected_framing(recording: &Recording, recorded: &Response, got: &Answer) -> String {
    let as_recorded = framing(&recorded.headers);
    let whole = content_type(&recorded.headers).starts_with("application/json");
    let long = match &recorded.body {
        Body::Chunks(_) => recording.response_body().len() > BUFFER,
        Body::Whole(_) => true,
    };
    let by_size = match as_recorded {
        _ if recording.method == "HEAD" && whole => framing(&got.headers),
        _ if !whole || !long => as_recorded,
        _ if got.body.len() > BUFFER => "chunked",
        _ => "length",
    };
    by_size.to_owned()
}

/// Texts are compared whatever numbers they name.
fn without_numbers(body: &[u8]) -> String {
    let mut out = String::new();
    for character in String::from_utf8_lossy(body).chars() {
        match character {
            '0'..='9' if out.ends_with('0') => {}
            '0'..='9' => out.push('0'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(matches("models/*", "models/show"));
        assert!(matches("*/v1-*", "paths/v1-trailing"));
        assert!(matches("chat/one", "chat/one"));
        assert!(!matches("chat/one", "chat/one-warm"));
        assert!(!matches("chat/*-warm", "chat/one"));
        assert_eq!(without_numbers(b"a 12 b 3"), "a 0 b 0");
    }
}
