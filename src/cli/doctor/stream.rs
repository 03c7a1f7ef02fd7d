//! Is streaming unbuffered? One short answer, timed line by line, and the same at the gateway itself where something may stand in between.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Case;
use super::finding::Finding;
use crate::cli::http::{Ask, Client};

const CHECK: &str = "streaming";
/// Words enough to see a rhythm, and few enough to cost nothing.
const TOKENS: u32 = 32;
/// A cold model is loaded first.
const HEAD: Duration = Duration::from_secs(30);
/// Lines that lie closer came together.
const TOGETHER: Duration = Duration::from_millis(3);
/// What a rhythm takes at least.
const ENOUGH: Duration = Duration::from_millis(150);
const FIX: &str = "nginx: proxy_http_version 1.1, proxy_buffering off, gzip off for these types; Apache: flushpackets=on; Cloudflare: no rule \
     that changes or caches answers of this name (docs/DOCTOR.md)";

/// How an answer came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Timing {
    lines: usize,
    /// Groups of lines that came together.
    bunches: usize,
    /// From the first byte to the last.
    spread: Duration,
    /// How long the model says that it spoke.
    spoke: Duration,
}

impl Timing {
    /// Do lines come as they are made?
    const fn is_live(&self) -> bool {
        self.lines >= 6 && self.bunches * 3 >= self.lines
    }

    fn told(&self) -> String {
        match self.bunches {
            1 => format!("{} lines at once", self.lines),
            pieces => format!("{} lines in {pieces} pieces over {} ms", self.lines, self.spread.as_millis()),
        }
    }
}

/// A chat whose answer is as long as this.
pub(super) fn chat(model: &str, tokens: u32) -> String {
    let message =
        json!({"role": "user", "content": "Count from one to five hundred in words, one number on a line."});
    json!({"model": model, "messages": [message], "stream": true, "options": {"num_predict": tokens}})
        .to_string()
}

pub(super) fn check(case: &Case<'_>, model: &str) -> Finding {
    let public = match measure(&case.client, model) {
        Ok(timing) => timing,
        Err(why) => {
            return Finding::not_run(CHECK, why, "see that the model answers, and run the doctor again");
        }
    };
    if public.is_live() || !case.target.given {
        return judge(&public, None, false);
    }
    // What the gateway gives away at the same question tells a buffer in front from a fast model.
    let itself = case.local.as_ref().and_then(|local| measure(local, model).ok());
    judge(&public, itself.as_ref(), true)
}

/// `front`: may something stand between the doctor and the gateway?
fn judge(public: &Timing, itself: Option<&Timing>, front: bool) -> Finding {
    if public.is_live() {
        return Finding::ok(CHECK, format!("an answer comes as it is made: {}", public.told()));
    }
    // Without a look at the gateway, what the model says of itself is the next best.
    let (spread, live) = itself.map_or((public.spoke, false), |timing| (timing.spread, timing.is_live()));
    let held = spread >= ENOUGH && public.spread * 3 < spread;
    if front && (held || live) {
        let made = itself.map_or_else(
            || format!("the model spoke for {} ms", spread.as_millis()),
            |itself| format!("the gateway itself gave {}", itself.told()),
        );
        return Finding::serious(
            CHECK,
            format!("something in front holds answers back: {}, and {made}", public.told()),
            FIX,
        );
    }
    Finding::not_run(
        CHECK,
        format!("the answer is too fast or too short to tell: {}", public.told()),
        "run the doctor with a larger model (OLLAMA_MODEL), or while the machine is busy",
    )
}

fn measure(client: &Client, model: &str) -> Result<Timing, String> {
    let body = chat(model, TOKENS);
    let ask = Ask::post("/api/chat", &body).with_key(true);
    let mut stream =
        client.stream(ask, HEAD, HEAD + HEAD).map_err(|why| format!("a chat gets no answer: {why}"))?;
    if stream.status != 200 {
        return Err(format!("a chat with the model {model} answers {}", stream.status));
    }
    let (mut timing, mut all) = (Timing::default(), Vec::new());
    let (mut piece, mut first, mut last) = (vec![0; 16 << 10], None, None);
    loop {
        let count = stream
            .body
            .read(&mut piece)
            .map_err(|error| format!("the answer broke off: {}", error.kind()))?;
        if count == 0 {
            break;
        }
        let (now, bytes) = (Instant::now(), piece.get(..count).unwrap_or_default());
        timing.lines += memchr::memchr_iter(b'\n', bytes).count();
        if last.is_none_or(|last| now - last > TOGETHER) {
            timing.bunches += 1;
        }
        (first, last) = (first.or(Some(now)), Some(now));
        all.extend_from_slice(bytes);
    }
    if let (Some(first), Some(last)) = (first, last) {
        timing.spread = last - first;
    }
    timing.spoke = spoke(&all);
    Ok(timing)
}

/// `eval_duration` of the last line.
fn spoke(answer: &[u8]) -> Duration {
    let last = answer.trim_ascii_end().rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    let value: Value = serde_json::from_slice(last).unwrap_or_default();
    Duration::from_nanos(value.get("eval_duration").and_then(Value::as_u64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn timing(lines: usize, bunches: usize, spread: u64, spoke: u64) -> Timing {
        let millis = Duration::from_millis;
        Timing { lines, bunches, spread: millis(spread), spoke: millis(spoke) }
    }

    #[test]
    fn a_buffer_is_told_from_a_fast_model() {
        let (live, burst, fast) = (timing(32, 30, 900, 900), timing(32, 1, 0, 900), timing(32, 2, 6, 10));
        for (public, itself, front, expected) in [
            (live, None, false, Severity::Ok),
            (live, Some(live), true, Severity::Ok),
            (burst, Some(live), true, Severity::Serious),
            // Run from another machine: the model's own word.
            (burst, None, true, Severity::Serious),
            // Pieces of a buffer's size, over the whole time.
            (timing(32, 3, 800, 900), Some(live), true, Severity::Serious),
            // The gateway itself gives it so.
            (burst, Some(burst), true, Severity::NotRun),
            (burst, None, false, Severity::NotRun),
            (fast, None, true, Severity::NotRun),
            (fast, Some(fast), true, Severity::NotRun),
            (timing(2, 2, 100, 100), None, true, Severity::NotRun),
        ] {
            let finding = judge(&public, itself.as_ref(), front);
            assert_eq!(finding.severity, expected, "{public:?} {itself:?} {finding:?}");
        }
        assert_eq!(spoke(b"{}\n{\"done\":true,\"eval_duration\":7000000}\n"), Duration::from_millis(7));
    }
}
