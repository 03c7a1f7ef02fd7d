//! What is counted, as Prometheus reads it (text format 0.0.4).
//!
//! Counted by the writer thread from the rows themselves, off the request path. Labels are names of ours: nobody who calls can add one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ledger::{Ended, Event};
use super::pace::Pace;
use crate::store::audit::AuditRow;
use crate::types::ModelName;

const SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const GAPS: &[f64] = &[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

#[derive(Debug, Default)]
struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, bounds: &[f64], value: f64) {
        self.buckets.resize(bounds.len(), 0);
        for (bucket, bound) in self.buckets.iter_mut().zip(bounds) {
            *bucket += u64::from(value <= *bound);
        }
        self.count += 1;
        self.sum += value;
    }

    fn show(&self, out: &mut String, name: &str, about: &str, bounds: &[f64]) {
        head(out, name, about, "histogram");
        for (at, bound) in bounds.iter().enumerate() {
            let count = self.buckets.get(at).copied().unwrap_or(0);
            line(out, format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        line(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {}", self.count));
        line(out, format_args!("{name}_sum {}", self.sum));
        line(out, format_args!("{name}_count {}", self.count));
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// A few dozen: routes, statuses and endings are names of ours. Searched from the one that was counted last.
    requests: Vec<(RequestKind, u64)>,
    last: usize,
    refusals: BTreeMap<&'static str, u64>,
    prompt_tokens: u64,
    output_tokens: u64,
    total: Histogram,
    queue: Histogram,
    first: Histogram,
    gap: Histogram,
    rows: u64,
    lost: u64,
    /// Does an older configuration hold than the one that is written?
    stale: bool,
    commits: u64,
    failures: u64,
    pace: Pace,
}

/// Route, status, ending.
type RequestKind = (Cow<'static, str>, u16, Cow<'static, str>);

impl Counts {
    fn count(&mut self, row: &AuditRow) {
        let is = |(kind, _): &(RequestKind, u64)| {
            kind.1 == row.status && kind.0 == row.route && kind.2 == row.ending
        };
        if !self.requests.get(self.last).is_some_and(is) {
            self.last = self.requests.iter().position(is).unwrap_or_else(|| {
                self.requests.push(((row.route.clone(), row.status, row.ending.clone()), 0));
                self.requests.len() - 1
            });
        }
        if let Some((_, count)) = self.requests.get_mut(self.last) {
            *count += row.count;
        }
    }

    fn add(&mut self, ended: &Ended) {
        let row = &ended.row;
        self.count(row);
        if let Some(limit) = ended.limit {
            *self.refusals.entry(limit).or_default() += row.count;
        }
        self.prompt_tokens += row.prompt_tokens.unwrap_or(0);
        self.output_tokens += row.output_tokens.unwrap_or(0);
        if row.upstream.is_none() {
            return;
        }
        self.pace.count(row);
        self.total.add(SECONDS, seconds(row.total_ms));
        if let Some(queue) = row.queue_ms {
            self.queue.add(SECONDS, seconds(queue));
        }
        let Some(first) = row.first_ms else { return };
        self.first.add(SECONDS, seconds(first));
        if let Some(tokens @ 2..) = row.output_tokens {
            #[expect(clippy::cast_precision_loss, reason = "tokens of one answer")]
            self.gap.add(GAPS, seconds(row.total_ms.saturating_sub(first)) / (tokens - 1) as f64);
        }
    }
}

/// All counts.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counts>);

/// What is measured when somebody asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Requests that have come and not ended.
    pub in_flight: usize,
    /// Requests that wait for a turn.
    pub waiting: usize,
    /// Turns that are given.
    pub running: usize,
    /// Turns that there are; none: no bound.
    pub slots: Option<usize>,
    /// Bytes of request bodies that are held.
    pub body_bytes: usize,
    /// Did the upstream answer when it was last asked?
    pub upstream_up: bool,
    /// Rows that wait to be written.
    pub audit_pending: usize,
    /// Can rows be written?
    pub audit_failing: bool,
    /// For how many seconds they could not.
    pub audit_lag: u64,
}

fn head(out: &mut String, name: &str, about: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {about}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _written = writeln!(out, "{text}");
}

fn one(out: &mut String, name: &str, kind: &str, about: &str, value: u64) {
    head(out, name, about, kind);
    line(out, format_args!("{name} {value}"));
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a request are far below 2^52")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the requests among these that have ended.
    pub(super) fn add(&self, events: &[Event]) {
        let mut counts = self.counts();
        for event in events {
            if let Event::End(ended) = event {
                counts.add(ended);
            }
        }
    }

    /// Milliseconds that a model worked on each of its last answers; `None` where nothing is known.
    pub fn mean_work(&self, model: &ModelName) -> Option<u64> {
        self.counts().pace.mean(model.as_str())
    }

    /// The configuration was read again; `ok`: it was taken over.
    pub fn reloaded(&self, ok: bool) {
        self.counts().stale = !ok;
    }

    pub(super) fn committed(&self, rows: u64) {
        let mut counts = self.counts();
        counts.rows += rows;
        counts.commits += 1;
    }

    pub(super) fn failed(&self) {
        self.counts().failures += 1;
    }

    pub(super) fn lost(&self, refusals: u64) {
        self.counts().lost += refusals;
    }

    /// The whole page.
    pub fn page(&self, gauges: &Gauges) -> String {
        let mut out = String::with_capacity(8_192);
        head(&mut out, "portcullis_build_info", "The version.", "gauge");
        line(&mut out, format_args!("portcullis_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
        self.requests(&mut out);
        gauges.show(&mut out);
        self.audit(&mut out);
        out
    }

    fn requests(&self, out: &mut String) {
        let counts = self.counts();
        let name = "portcullis_requests_total";
        head(out, name, "Requests that have ended, by route, status and ending.", "counter");
        let sorted: BTreeMap<_, _> = counts.requests.iter().map(|(kind, count)| (kind, count)).collect();
        for ((route, status, ending), count) in sorted {
            line(
                out,
                format_args!("{name}{{route=\"{route}\",status=\"{status}\",ending=\"{ending}\"}} {count}"),
            );
        }
        let name = "portcullis_limit_refusals_total";
        head(out, name, "Requests that a limit refused, by limit.", "counter");
        for (limit, count) in &counts.refusals {
            line(out, format_args!("{name}{{limit=\"{limit}\"}} {count}"));
        }
        let name = "portcullis_tokens_total";
        head(out, name, "Tokens of prompts and answers.", "counter");
        line(out, format_args!("{name}{{kind=\"prompt\"}} {}", counts.prompt_tokens));
        line(out, format_args!("{name}{{kind=\"output\"}} {}", counts.output_tokens));
        let about = "Seconds from the head of a request to the end of its answer.";
        counts.total.show(out, "portcullis_request_duration_seconds", about, SECONDS);
        counts.queue.show(out, "portcullis_queue_wait_seconds", "Seconds in the queue.", SECONDS);
        let about = "Seconds to the first word of a stream.";
        counts.first.show(out, "portcullis_first_byte_seconds", about, SECONDS);
        let about = "Seconds between two tokens of a stream, the mean of each answer.";
        counts.gap.show(out, "portcullis_token_gap_seconds", about, GAPS);
    }

    fn audit(&self, out: &mut String) {
        let counts = self.counts();
        one(out, "portcullis_audit_rows_total", "counter", "Rows written.", counts.rows);
        one(out, "portcullis_audit_commits_total", "counter", "Commits of rows.", counts.commits);
        one(out, "portcullis_audit_failures_total", "counter", "Commits that failed.", counts.failures);
        let about = "Refusals that had no place in the ledger and are only counted.";
        one(out, "portcullis_audit_lost_refusals_total", "counter", about, counts.lost);
        let about = "1: the configuration was last read with a fault, and an older one holds.";
        one(out, "portcullis_config_reload_failing", "gauge", about, counts.stale.into());
    }
}

impl Gauges {
    fn show(&self, out: &mut String) {
        for (name, about, value) in [
            ("portcullis_requests_in_flight", "Requests that have come and not ended.", self.in_flight),
            ("portcullis_queue_waiting", "Requests that wait for a turn.", self.waiting),
            ("portcullis_upstream_running", "Requests that have a turn.", self.running),
            ("portcullis_upstream_slots", "Turns that there are; 0: no bound.", self.slots.unwrap_or(0)),
            ("portcullis_body_bytes", "Bytes of request bodies that are held.", self.body_bytes),
            (
                "portcullis_upstream_up",
                "1: the upstream answered when it was last asked.",
                self.upstream_up.into(),
            ),
            (
                "portcullis_audit_pending",
                "Rows that are not yet written, and places of running requests.",
                self.audit_pending,
            ),
            (
                "portcullis_audit_failing",
                "1: rows cannot be written, and requests are refused.",
                self.audit_failing.into(),
            ),
        ] {
            one(out, name, "gauge", about, value as u64);
        }
        let about = "Seconds for which rows could not be written; 0 while they can.";
        one(out, "portcullis_audit_lag_seconds", "gauge", about, self.audit_lag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit::Begin;

    #[test]
    fn rows_are_counted_with_units() {
        let begin = Begin {
            request_id: 1,
            time: 0,
            key_id: None,
            peer: None,
            method: "POST".into(),
            route: "/api/chat".into(),
            model: Some("alpha:latest".into()),
            stream: true,
        };
        let mut row = begin.interrupted();
        (row.status, row.ending, row.upstream) = (200, "done".into(), Some("/api/chat".into()));
        (row.first_ms, row.total_ms, row.output_tokens, row.queue_ms) = (Some(200), 1_200, Some(11), Some(0));
        let metrics = Metrics::default();
        metrics.add(&[Event::End(Ended { row, begun: true, limit: None, listed: true })]);
        let page = metrics.page(&Gauges { slots: Some(4), ..Gauges::default() });
        for line in [
            "portcullis_requests_total{route=\"/api/chat\",status=\"200\",ending=\"done\"} 1",
            "portcullis_first_byte_seconds_bucket{le=\"0.25\"} 1",
            "portcullis_first_byte_seconds_bucket{le=\"0.1\"} 0",
            "portcullis_token_gap_seconds_sum 0.1",
            "portcullis_request_duration_seconds_sum 1.2",
            "portcullis_tokens_total{kind=\"output\"} 11",
            "portcullis_upstream_slots 4",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
        assert!(!page.contains("alpha"), "no label that a caller could grow");
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
        }
    }
}
