//! Does an abort reach the model server? A long answer is left after its first piece; the gateway's record, or its count of turns, says
//! when it let go.

use std::io::Read;
use std::time::Duration;

use super::Case;
use super::finding::Finding;
use super::stream::chat;
use super::witness::{Looked, look, now_ms, running, settles};
use crate::cli::http::{Ask, NoAnswer};
use crate::store::audit::AuditRow;

const CHECK: &str = "abort";
/// Long enough that it is not over when the caller leaves, and bounded where nobody notices that they did.
const TOKENS: u32 = 256;
/// A buffer in front shows nothing for longer: then one leaves without having seen a word.
const FIRST: Duration = Duration::from_secs(4);
/// When the model must be free.
const SOON: Duration = Duration::from_secs(6);
/// Milliseconds after the leaving in which an answer may have ended by itself.
const BY_ITSELF: i64 = 500;
/// Milliseconds that an abort may take.
const SLOW: i64 = 3_000;
const FIX: &str = "let the proxy close its connection to the gateway when its caller leaves: nginx: proxy_ignore_client_abort off and \
     proxy_buffering off; Caddy: no flush_interval -1. Until then what somebody stops runs to its end";
const HOW: &str =
    "run the doctor on the gateway's machine, as its user, with its ops listener on (ops.enabled)";

pub(super) fn check(case: &Case<'_>, model: &str) -> Finding {
    let operators = case.operators.as_ref();
    let (before, asked_at) = (running(operators), now_ms());
    let body = chat(model, TOKENS);
    let ask = Ask::post("/api/chat", &body).with_key(true);
    let (mut id, mut during) = (None, None);
    match case.client.stream(ask, FIRST, FIRST * 2) {
        Ok(mut stream) if stream.status == 200 => {
            id = stream.id;
            // A piece, or nothing in time: the caller leaves either way.
            let _first = stream.body.read(&mut [0; 512]);
            during = running(operators);
        }
        Ok(stream) => {
            let why = format!("a chat with the model {model} answers {}", stream.status);
            return Finding::not_run(CHECK, why, "see that the model answers, and run the doctor again");
        }
        Err(NoAnswer::Late) => {}
        Err(why) => {
            return Finding::not_run(CHECK, format!("a chat gets no answer: {why}"), "run the doctor again");
        }
    }
    let left_at = now_ms();
    let is_it = |row: &AuditRow| match id {
        Some(id) => row.request_id == id,
        None => row.time >= asked_at - 50 && row.stream && row.route == "/api/chat",
    };
    match look(case.config, SOON, is_it) {
        Looked::Row(row) => judge(&row.ending, row.time.saturating_add_unsigned(row.total_ms) - left_at),
        // A row is written at the end.
        Looked::Nothing => match (running(operators), before) {
            (Some(now), Some(before)) if now > before => still_runs(),
            (None, _) if id.is_some() && case.is_recorded => still_runs(),
            _ => Finding::not_run(CHECK, "the record shows no such request", HOW),
        },
        Looked::Cannot(why) => match (before, during) {
            (Some(before), Some(during)) if during > before => {
                if settles(operators, before, SOON) {
                    Finding::ok(CHECK, "when the caller leaves, the gateway gives its turn at the model back")
                } else {
                    still_runs()
                }
            }
            _ => Finding::not_run(CHECK, why, HOW),
        },
    }
}

fn still_runs() -> Finding {
    Finding::serious(
        CHECK,
        format!("{} s after the caller has left, the model still works for them", SOON.as_secs()),
        FIX,
    )
}

/// `after`: milliseconds from the caller's leaving to the request's end.
fn judge(ending: &str, after: i64) -> Finding {
    match ending {
        "client_gone" if after <= SLOW => Finding::ok(
            CHECK,
            format!("when the caller leaves, the model is free within {} ms", after.max(1)),
        ),
        "client_gone" => Finding::serious(
            CHECK,
            format!("the model is free only {after} ms after the caller has left"),
            FIX,
        ),
        _ if after > BY_ITSELF => Finding::serious(
            CHECK,
            format!("the answer went on for {after} ms after the caller had left, to its end"),
            FIX,
        ),
        _ => Finding::not_run(
            CHECK,
            "the answer was over before its caller could leave",
            "run the doctor with a larger model (OLLAMA_MODEL)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn the_end_of_the_row_decides() {
        for (ending, after, expected) in [
            ("client_gone", 3, Severity::Ok),
            ("client_gone", 5_000, Severity::Serious),
            ("done", 2_000, Severity::Serious),
            ("done", 100, Severity::NotRun),
            ("done", -700, Severity::NotRun),
        ] {
            assert_eq!(judge(ending, after).severity, expected, "{ending} {after}");
        }
    }
}
