//! A load generator: connections that are kept open, one request at a time on each, every answer checked.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::answer::Reader;
use crate::upstream::{read, write_all};
use crate::{Failure, Outcome};

/// Steady before it counts.
const WARM: Duration = Duration::from_millis(200);
/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Latencies that are kept.
const MOST: usize = 2_000_000;

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// One JSON object
    Chat,
    /// A stream without gaps
    Flat,
    /// A stream with a gap between lines
    Paced,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Chat, Self::Flat, Self::Paced];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Flat => "flat",
            Self::Paced => "paced",
        }
    }

    const fn is_stream(self) -> bool {
        !matches!(self, Self::Chat)
    }
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) mode: Mode,
    pub(crate) connections: u16,
    pub(crate) key: String,
    /// Lines that a stream must have; 0: any number.
    pub(crate) lines: u32,
}

impl Plan {
    fn request(&self) -> Vec<u8> {
        let body = format!(
            "{{\"model\":\"alpha:latest\",\"messages\":[{{\"role\":\"system\",\"content\":\"You answer in one sentence.\"}},\
             {{\"role\":\"user\",\"content\":\"What keeps a gate of iron in its grooves of stone? ({})\"}}],\"stream\":{}}}",
            self.mode.name(),
            self.mode.is_stream(),
        );
        format!(
            "POST /api/chat HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nUser-Agent: portcullis-bench\r\n\
             Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.key,
            body.len(),
        )
        .into_bytes()
    }
}

/// What all connections count together.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    lines: AtomicU64,
    stop: AtomicBool,
    failed: AtomicBool,
    latencies: Mutex<Vec<u32>>,
}

/// What was counted between the two looks.
#[derive(Debug)]
pub(crate) struct Report<T> {
    mode: Mode,
    pub(crate) took: Duration,
    /// Whole answers.
    pub(crate) requests: u64,
    /// Lines, those of answers under way included.
    pub(crate) lines: u64,
    p50: u32,
    p99: u32,
    /// What `look` saw first and last.
    pub(crate) looks: (T, T),
}

impl<T> fmt::Display for Report<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = per_second(self.requests, self.took);
        write!(
            f,
            "{}: {} requests ({rate:.0}/s), {} lines ({:.0}/s) in {:.2} s; latency p50 {} µs, p99 {} µs; all answers whole",
            self.mode.name(),
            self.requests,
            self.lines,
            per_second(self.lines, self.took),
            self.took.as_secs_f64(),
            self.p50,
            self.p99,
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^52")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

/// Runs until the span is over and the last answers are whole. `look` is called when counting begins and when it ends.
pub(crate) async fn run<T>(
    plan: &Plan,
    span: Duration,
    mut look: impl FnMut() -> Outcome<T>,
) -> Outcome<Report<T>> {
    let counts = Arc::new(Counts::default());
    let request: Arc<[u8]> = plan.request().into();
    let mut tasks = Vec::new();
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(plan.address).await?;
        stream.set_nodelay(true)?;
        let (plan, request, counts) = (plan.clone(), Arc::clone(&request), Arc::clone(&counts));
        tasks.push(tokio::spawn(async move {
            let result = drive(&stream, &plan, &request, &counts).await;
            if result.is_err() {
                counts.failed.store(true, Ordering::Relaxed);
                counts.stop.store(true, Ordering::Relaxed);
            }
            result
        }));
    }
    wait(WARM, &counts).await;
    counts.latencies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let (from, first) = (Instant::now(), look()?);
    let (requests, lines) = (counts.requests.load(Ordering::Relaxed), counts.lines.load(Ordering::Relaxed));
    wait(span, &counts).await;
    let (took, last) = (from.elapsed(), look()?);
    let requests = counts.requests.load(Ordering::Relaxed) - requests;
    let lines = counts.lines.load(Ordering::Relaxed) - lines;
    let mut latencies = std::mem::take(&mut *counts.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    counts.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    if requests == 0 && lines == 0 {
        return Err("nothing came in the time that counts".into());
    }
    latencies.sort_unstable();
    let quantile = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or(0);
    let (p50, p99) = (quantile(50), quantile(99));
    Ok(Report { mode: plan.mode, took, requests, lines, p50, p99, looks: (first, last) })
}

/// Waits, in steps, so that a failure ends the run at once.
async fn wait(span: Duration, counts: &Counts) {
    let end = Instant::now() + span;
    while !counts.failed.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_millis(250))).await;
    }
}

/// One connection.
async fn drive(stream: &TcpStream, plan: &Plan, request: &[u8], counts: &Counts) -> Outcome {
    let mut reader = Reader::new();
    let mut buffer = vec![0; 64 << 10];
    while !counts.stop.load(Ordering::Relaxed) {
        let from = Instant::now();
        write_all(stream, request).await?;
        while !reader.ended() {
            let reading = tokio::time::timeout(PATIENCE, read(stream, &mut buffer));
            let n = reading.await.map_err(|_| Failure::from("no answer in 30 s"))??;
            if n == 0 {
                return Err("the connection was closed within an answer".into());
            }
            let lines = reader.feed(buffer.get(..n).unwrap_or_default())?;
            counts.lines.fetch_add(lines, Ordering::Relaxed);
        }
        reader.finish(plan.mode.is_stream(), plan.lines)?;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let mut latencies = counts.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        if latencies.len() < MOST {
            latencies.push(u32::try_from(from.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    Ok(())
}
