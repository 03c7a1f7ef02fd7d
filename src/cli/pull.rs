//! The default model of a supervised upstream: found, or pulled with a progress line.

use std::task::ready;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::config::UpstreamUrl;
use crate::listen::clock::{NEVER, Sweeper};
use crate::route::Pool;
use crate::types::ModelName;
use crate::upstream::{Client, Outgoing, Piece};

/// Pulls a model that the upstream lacks.
pub(super) async fn pull_if_missing(url: &UpstreamUrl, pool: &Pool, name: &ModelName) -> Result<(), String> {
    let sweeper = Sweeper::default();
    let clock = sweeper.clock();
    pool.fetch(&clock).await.map_err(|error| error.to_string())?;
    if pool.has(name) == Some(true) {
        return Ok(());
    }
    let client = Client::new(url.clone(), Some(Duration::from_secs(5)));
    let body = serde_json::json!({"model": name.as_str(), "stream": true}).to_string();
    let request =
        Outgoing { method: "POST", path: "/api/pull", accept: "application/x-ndjson", body: body.as_bytes() };
    let mut answer = client.send(&clock, NEVER, request).await.map_err(|error| error.to_string())?;
    let bar = ProgressBar::new(0).with_message(format!("pulling {name}"));
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    let mut lines = Vec::new();
    loop {
        let piece = std::future::poll_fn(|cx| {
            let piece = ready!(answer.body.poll_piece(cx, &mut lines));
            std::task::Poll::Ready(piece)
        })
        .await;
        while let Some(end) = memchr::memchr(b'\n', &lines) {
            let rest = lines.split_off(end + 1);
            let done = step(&std::mem::replace(&mut lines, rest), &bar)?;
            if done {
                bar.finish_and_clear();
                return Ok(());
            }
        }
        match piece {
            Ok(Piece::Data) => {}
            Ok(Piece::End) => return Err("the upstream ended the pull".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    total: Option<u64>,
    #[serde(default)]
    completed: Option<u64>,
}

/// One line of the pull; `true` at its end.
fn step(line: &[u8], bar: &ProgressBar) -> Result<bool, String> {
    let step: Step = serde_json::from_slice(line).map_err(|_| "a line of the pull is no JSON".to_owned())?;
    if let Some(error) = step.error {
        return Err(crate::record::scrub(&error));
    }
    if let Some(total) = step.total {
        bar.set_length(total);
        bar.set_position(step.completed.unwrap_or(0));
    }
    Ok(step.status == "success")
}
