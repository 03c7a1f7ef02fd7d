//! One typed value at a time: a bad one becomes a fault and its default.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::env::Env;
use super::fault::Faults;
use super::keys;
use super::parse;
use super::raw::{Raw, wanted};

/// Reads typed values from what was written.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a Raw,
    pub(super) env: &'a Env,
    pub(super) faults: &'a mut Faults,
}

impl Reader<'_> {
    pub(super) fn origin(&self, name: &str) -> String {
        self.raw.get(name).map_or_else(String::new, |(_, origin)| origin.to_string())
    }

    pub(super) fn text(&self, name: &str) -> String {
        let default = || keys::find(name).map_or("", |key| key.default);
        self.raw.get(name).map_or_else(default, |(text, _)| text).to_owned()
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.text(name)
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect()
    }

    pub(super) fn bad(&mut self, name: &str, allowed: &str) {
        let message = format!("{:?} is not {allowed}", self.text(name));
        self.faults.add(name, self.origin(name), message);
    }

    pub(super) fn wrong_kind(&mut self, name: &str) {
        self.bad(name, keys::find(name).map_or("allowed", |key| wanted(key.kind)));
    }

    pub(super) fn truth(&mut self, name: &str) -> bool {
        parse::truth(&self.text(name)).unwrap_or_else(|| {
            self.wrong_kind(name);
            false
        })
    }

    pub(super) fn choice(&mut self, name: &str, allowed: &[&str]) -> String {
        let text = self.text(name).trim().to_ascii_lowercase();
        if !allowed.contains(&text.as_str()) {
            self.bad(name, &format!("one of {}", allowed.join(", ")));
        }
        text
    }

    pub(super) fn address(&mut self, name: &str) -> IpAddr {
        let text = self.text(name);
        let text = if text.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { text.trim() };
        text.trim_matches(['[', ']']).parse().unwrap_or_else(|_| {
            self.bad(name, "an IP address such as 127.0.0.1 or ::1");
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        })
    }

    /// A number up to `most`.
    pub(super) fn number<T: TryFrom<u64> + Default>(&mut self, name: &str, most: u64) -> T {
        let number = self.text(name).trim().parse::<u64>().ok().filter(|&n| n <= most);
        number.and_then(|n| T::try_from(n).ok()).unwrap_or_else(|| {
            self.bad(name, &format!("a whole number from 0 to {most}"));
            T::default()
        })
    }

    /// A number where 0 means none.
    pub(super) fn limit<T: TryFrom<u64> + Default>(&mut self, name: &str, most: u64) -> Option<T> {
        if self.text(name).trim() == "0" { None } else { Some(self.number(name, most)) }
    }

    /// Bytes up to `most`; 0 means `most`: a buffer in memory always has an end.
    pub(super) fn size(&mut self, name: &str, most: u64) -> usize {
        match parse::size(&self.text(name)) {
            Some(0) => usize::try_from(most).unwrap_or(usize::MAX),
            Some(n) if n <= most => usize::try_from(n).unwrap_or(usize::MAX),
            Some(_) => {
                self.bad(name, &format!("a size of at most {most} bytes"));
                0
            }
            None => {
                self.wrong_kind(name);
                0
            }
        }
    }

    /// Bytes up to `most`, where 0 means no bound.
    pub(super) fn bound(&mut self, name: &str, most: u64) -> Option<usize> {
        if parse::size(&self.text(name)) == Some(0) { None } else { Some(self.size(name, most)) }
    }

    /// A duration where 0 means no clock.
    pub(super) fn clock(&mut self, name: &str) -> Option<Duration> {
        match parse::duration(&self.text(name)) {
            Some(Duration::ZERO) => None,
            Some(d) => Some(d),
            None => {
                self.wrong_kind(name);
                None
            }
        }
    }
}
