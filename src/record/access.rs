//! Access lines and events: gathered per thread, written to stderr by a thread that ticks.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::shard;

const TICK: Duration = Duration::from_millis(50);
/// Where stderr takes nothing, lines beyond this are counted and not kept.
const MOST: usize = 4 << 20;

/// The buffers and their writer.
#[derive(Debug)]
pub struct AccessLog {
    json: bool,
    level: AtomicU8,
    shards: Vec<Mutex<Vec<u8>>>,
    lost: AtomicU64,
    /// Does somebody take what is in the buffers?
    running: AtomicBool,
    stopped: Mutex<bool>,
    wake: Condvar,
}

/// More is more talkative.
const fn weight(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 1,
        tracing::Level::WARN => 2,
        tracing::Level::INFO => 3,
        tracing::Level::DEBUG => 4,
        tracing::Level::TRACE => 5,
    }
}

impl AccessLog {
    /// Text or JSON, at this level.
    pub fn new(json: bool, level: tracing::Level) -> Arc<Self> {
        Arc::new(Self {
            json,
            level: AtomicU8::new(weight(level)),
            shards: (0..shard::COUNT).map(|_| Mutex::new(Vec::new())).collect(),
            lost: AtomicU64::new(0),
            running: AtomicBool::new(false),
            stopped: Mutex::new(false),
            wake: Condvar::new(),
        })
    }

    /// From now on, lines of this level and above it are written.
    pub fn set_level(&self, level: tracing::Level) {
        self.level.store(weight(level), Ordering::Relaxed);
    }

    fn writes(&self, level: tracing::Level) -> bool {
        self.level.load(Ordering::Relaxed) >= weight(level)
    }

    /// Are lines of parts of the page, and of probes?
    pub fn debug(&self) -> bool {
        self.writes(tracing::Level::DEBUG)
    }

    /// Are lines of good requests written?
    pub fn info(&self) -> bool {
        self.writes(tracing::Level::INFO)
    }

    /// Are lines of failed requests?
    pub fn warn(&self) -> bool {
        self.writes(tracing::Level::WARN)
    }

    /// Appends a line to this thread's buffer.
    pub(super) fn write(&self, line: impl FnOnce(bool, &mut Vec<u8>)) {
        let Some(shard) = self.shards.get(shard::of_thread()) else { return };
        let mut buffer = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() > MOST {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        line(self.json, &mut buffer);
    }

    /// Takes the whole line of an event; while nobody writes, at once.
    pub(super) fn event(&self, line: &[u8]) {
        if self.running.load(Ordering::Relaxed) {
            self.write(|_, buffer| buffer.extend_from_slice(line));
        } else {
            // Nobody is left to be told when stderr is gone.
            let _gone = std::io::stderr().write_all(line);
        }
    }

    /// Writes until [`AccessLog::stop`]; runs in a thread of its own, so that a stalled stderr stalls nobody.
    pub fn run(&self) {
        let mut buffer = Vec::new();
        self.running.store(true, Ordering::Relaxed);
        loop {
            let stopped = {
                let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
                *self.wake.wait_timeout(stopped, TICK).unwrap_or_else(PoisonError::into_inner).0
            };
            if stopped {
                self.running.store(false, Ordering::Relaxed);
            }
            self.flush(&mut buffer);
            if stopped {
                return;
            }
        }
    }

    /// Asks the writer to write what is left and to end.
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    fn flush(&self, buffer: &mut Vec<u8>) {
        for shard in &self.shards {
            {
                let mut lines = shard.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.is_empty() {
                    continue;
                }
                std::mem::swap(&mut *lines, buffer);
            }
            // Nobody is left to be told when stderr is gone.
            let _gone = std::io::stderr().write_all(buffer);
            buffer.clear();
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lines = lost, "access lines were lost: stderr did not take them in time");
        }
    }
}
