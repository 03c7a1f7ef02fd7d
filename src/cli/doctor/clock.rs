//! Is the clock right? Ends of keys, tokens of Cloudflare Access and the audit's times stand on it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::finding::Finding;
use super::target::Target;
use crate::cli::http::Answer;

const CHECK: &str = "clock";
/// A second's rounding and a slow answer.
const FINE: Duration = Duration::from_mins(1);
/// What tokens forgive at most.
const WRONG: Duration = Duration::from_mins(5);
const HOW: &str = "timedatectl (System clock synchronized: yes), or name a public https address (--url)";
/// systemd-timesyncd's own mark.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Only another machine's date proves anything.
pub(super) fn check(target: Option<&Target>, health: Option<&Answer>) -> Finding {
    let is_far = target.is_some_and(|target| !target.is_here());
    let date = health.filter(|_| is_far).and_then(|answer| answer.header("date"));
    match date.and_then(|date| httpdate::parse_http_date(date).ok()) {
        Some(theirs) => judge(SystemTime::now(), theirs),
        None if Path::new(SYNCHRONISED).exists() => Finding::ok(CHECK, "systemd-timesyncd keeps it"),
        None => Finding::not_run(CHECK, "nobody outside was asked for the time", HOW),
    }
}

fn judge(ours: SystemTime, theirs: SystemTime) -> Finding {
    let apart = ours.duration_since(theirs).unwrap_or_else(|error| error.duration());
    let seen = format!("this clock and that of the public address are {} s apart", apart.as_secs());
    let fix = "keep the time with systemd-timesyncd or chrony, on both machines; ends of keys and signed tokens stand on it";
    if apart <= FINE {
        Finding::ok(CHECK, seen)
    } else if apart <= WRONG {
        Finding::note(CHECK, seen, fix)
    } else {
        Finding::serious(CHECK, seen, fix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::target::Place;
    use super::*;

    #[test]
    fn far_apart_in_either_direction_is_wrong() {
        let now = SystemTime::now();
        for (seconds, expected) in [(2, Severity::Ok), (100, Severity::Note), (3_600, Severity::Serious)] {
            let apart = Duration::from_secs(seconds);
            assert_eq!(judge(now, now - apart).severity, expected);
            assert_eq!(judge(now, now + apart).severity, expected);
        }
        let here = Target::parse("http://127.0.0.1:1", &[]).unwrap();
        let mut answer = Answer::default();
        answer.headers.insert("date", "Thu, 01 Jan 1970 00:00:00 GMT".parse().unwrap());
        assert_ne!(
            check(Some(&here), Some(&answer)).severity,
            Severity::Serious,
            "our own date proves nothing"
        );
        let far = Target { place: Place::Elsewhere, ..here };
        assert_eq!(check(Some(&far), Some(&answer)).severity, Severity::Serious);
    }
}
