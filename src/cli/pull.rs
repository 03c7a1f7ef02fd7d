//! The default model of a supervised upstream: found, or pulled with a progress line.
//!
//! Takes an upstream that answers; promises the model, or the reason why it is not there, for every wait has an end: that for the first
//! word is `upstream.first_byte_timeout`, and silence between two is `upstream.idle_timeout`. Refuses a line of progress without end.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::config;
use crate::listen::clock::{self, Clock};
use crate::route::Pool;
use crate::types::ModelName;
use crate::upstream::{Client, Outgoing, Piece};

/// Where the operator set no clock: a large file is verified in less.
const LONGEST: Duration = Duration::from_mins(10);
/// A line of progress has some hundred bytes.
const LONGEST_LINE: usize = 64 << 10;

/// Pulls a model that the upstream lacks.
pub(super) async fn pull_if_missing(
    upstream: &config::Upstream,
    pool: &Pool,
    name: &ModelName,
) -> Result<(), String> {
    clock::alone(|clock| async move {
        pool.fetch(&clock).await.map_err(|error| error.to_string())?;
        if pool.has(name) == Some(true) { Ok(()) } else { pull(upstream, name, &clock).await }
    })
    .await
}

async fn pull(upstream: &config::Upstream, name: &ModelName, clock: &Clock) -> Result<(), String> {
    let client = Client::new(upstream.url.clone(), Some(Duration::from_secs(5)));
    let body = serde_json::json!({"model": name.as_str(), "stream": true}).to_string();
    let request =
        Outgoing { method: "POST", path: "/api/pull", accept: "application/x-ndjson", body: body.as_bytes() };
    let by = clock::after(clock.now(), Some(upstream.first_byte.unwrap_or(LONGEST)));
    let mut answer = client.send(clock, by, request).await.map_err(|error| error.to_string())?;
    let bar = ProgressBar::new(0).with_message(format!("pulling {name}"));
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    let (silence, mut lines) = (upstream.idle.unwrap_or(LONGEST), Vec::new());
    loop {
        let by = clock::after(clock.now(), Some(silence));
        let reading = poll_fn(|cx| answer.body.poll_piece(cx, &mut lines));
        let piece = clock::until(clock, by, pin!(reading)).await;
        let piece = piece.ok_or_else(|| format!("the upstream fell silent for {silence:?}"))?;
        while let Some(end) = memchr::memchr(b'\n', &lines) {
            let rest = lines.split_off(end + 1);
            let done = step(&std::mem::replace(&mut lines, rest), &bar)?;
            if done {
                bar.finish_and_clear();
                return Ok(());
            }
        }
        match piece {
            Ok(Piece::Data) if lines.len() <= LONGEST_LINE => {}
            Ok(Piece::Data) => return Err("a line of the pull has no end".into()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamUrl;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_millis(200);
    const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n";

    /// Pulls from an upstream that has no model and says this to a pull, and then nothing more. `None`: it says nothing at all.
    async fn pulled(says: Option<String>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = UpstreamUrl {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            prefix: String::new(),
        };
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let n = stream.read(&mut head).await.unwrap();
                let list = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"models\":[]}";
                let answer = match &says {
                    Some(_) if head[..n].starts_with(b"GET") => list,
                    Some(answer) => answer.as_str(),
                    None => "",
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                open.push(stream);
            }
        });
        let written = config::Config::load(None, &config::env::Env::default(), |_, _| {}).unwrap();
        let upstream =
            config::Upstream { url, first_byte: Some(SOON), idle: Some(SOON), ..written.upstream.clone() };
        let pool = Pool::new(&upstream, false);
        let name = ModelName::parse("tiny:1b").unwrap();
        let pulling = pull_if_missing(&upstream, &pool, &name);
        let ended = tokio::time::timeout(Duration::from_secs(20), pulling).await.expect("it waits for ever");
        serving.abort();
        ended
    }

    #[tokio::test]
    async fn an_upstream_that_falls_silent_is_not_waited_for() {
        assert_eq!(pulled(Some(String::new())).await, Err("no answer in time".into()), "nothing to the pull");
        let begun = format!("{STREAM}{{\"status\":\"pulling\",\"total\":10,\"completed\":5}}\n");
        assert_eq!(pulled(Some(begun.clone())).await, Err("the upstream fell silent for 200ms".into()));
        assert_eq!(pulled(Some(format!("{begun}{{\"status\":\"success\"}}\n"))).await, Ok(()));
        let endless = pulled(Some(format!("{begun}{}", "x".repeat(100_000)))).await;
        assert_eq!(endless, Err("a line of the pull has no end".into()));
        assert_eq!(pulled(None).await, Err("no answer in time".into()), "accepted, and nothing more");
    }
}
