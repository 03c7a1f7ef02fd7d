//! A mock held by a test in another language: a JSON object a line in, one a line out, in the same order.
//!
//! | command | answer |
//! |---|---|
//! | `{"do":"script","on":{"prompt":"x"},"script":{"gap":60}}` | `{}` |
//! | `{"do":"seen"}` | `{"seen":[…]}`: what came in, probes left out |
//! | `{"do":"wait_gone","count":2,"millis":2000}` | `{"gone":true}` once so many callers have left |
//! | `{"do":"stop"}` | `{}`: nobody listens any more |
//! | `{"do":"reset"}` | `{}`: scripts and what was seen are forgotten |
//!
//! What is no command is answered with `{"error":"…"}`. The end of the input ends the program.

use mock_ollama::{Mock, On, Script, Seen};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Command {
    Script { on: On, script: Box<Script> },
    Seen,
    WaitGone { count: usize, millis: u64 },
    Stop,
    Reset,
}

pub(crate) async fn run(mock: &Mock) -> io::Result<()> {
    say(&json!({ "url": mock.url() }))?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line) {
            Ok(command) => obey(mock, command).await,
            Err(error) => json!({ "error": error.to_string() }),
        };
        say(&answer)?;
    }
    Ok(())
}

async fn obey(mock: &Mock, command: Command) -> Value {
    match command {
        Command::Script { on, script } => mock.script(on, *script),
        Command::Seen => return json!({ "seen": mock.seen().iter().map(entry).collect::<Vec<_>>() }),
        Command::WaitGone { count, millis } => {
            return match mock.wait_gone(count, Duration::from_millis(millis)).await {
                Ok(_) => json!({ "gone": true }),
                Err(error) => json!({ "error": error.to_string() }),
            };
        }
        Command::Stop => mock.stop_listening().await,
        Command::Reset => mock.reset(),
    }
    json!({})
}

fn entry(seen: &Seen) -> Value {
    json!({
        "path": seen.target,
        "asked": serde_json::from_slice::<Value>(&seen.body).unwrap_or_default(),
        "done": seen.finished_at.is_some(),
        "gone": seen.disconnected.is_some(),
        "tokens": seen.tokens_sent,
    })
}

fn say(answer: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}")?;
    out.flush()
}
