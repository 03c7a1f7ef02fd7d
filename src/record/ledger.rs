//! Ledger: where records go to be kept. Gathered per thread, taken over by one writer (`writer`).
//!
//! Takes a row for every request that ended; promises that the row of an admitted request has a place before the request is admitted, so
//! that it cannot be lost, and that memory is bounded. Where the writer is behind, new requests wait, and then are refused; where it
//! cannot write at all, they are refused at once.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread::Thread;

use atomic_waker::AtomicWaker;

use super::metrics::Metrics;
use super::shard;
use crate::config::AuditMode;
use crate::store::audit::{AuditRow, Begin};

/// Rows that may wait to be written, those of running requests included.
const MOST: usize = 65_536;

/// Why a request cannot be recorded, and so not be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The last rows could not be written: a full disk, a lock.
    #[error("the audit cannot be written")]
    Failing,
    /// The writer is behind.
    #[error("the audit is behind by too many rows")]
    Behind,
}

/// What the writer is told.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most are the large one, and a box would be freed by another thread"
)]
pub(super) enum Event {
    /// A request has begun; whoever waits for it to be on the disk hears of it.
    Begin(Begin, Option<Arc<Ack>>),
    /// A request has ended.
    End(Ended),
}

/// A row, and what came before it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) row: AuditRow,
    /// Was its begin told?
    pub(super) begun: bool,
    /// Which limit refused it.
    pub(super) limit: Option<&'static str>,
    /// Has an upstream its model?
    pub(super) listed: bool,
}

/// Tells one waiting request how the writing of its begin went.
#[derive(Debug, Default)]
pub struct Ack {
    state: AtomicU8,
    waker: AtomicWaker,
}

const WRITTEN: u8 = 1;
const FAILED: u8 = 2;

impl Ack {
    pub(super) fn tell(&self, written: bool) {
        self.state.store(if written { WRITTEN } else { FAILED }, Ordering::Release);
        self.waker.wake();
    }

    /// Is the begin on the disk?
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Result<(), LedgerError>> {
        self.waker.register(cx.waker());
        match self.state.load(Ordering::Acquire) {
            WRITTEN => Poll::Ready(Ok(())),
            FAILED => Poll::Ready(Err(LedgerError::Failing)),
            _ => Poll::Pending,
        }
    }
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    /// How rows are kept.
    pub mode: AuditMode,
    shards: Vec<Mutex<Vec<Event>>>,
    /// Rows that wait, and places of requests that run.
    pending: AtomicUsize,
    /// Refusals that found no place.
    lost: AtomicU64,
    failing: AtomicBool,
    /// Since when, in seconds since 1970.
    failing_since: AtomicU64,
    stopped: AtomicBool,
    writer: OnceLock<Thread>,
    /// Requests that have come and not ended.
    pub(super) open: AtomicUsize,
    /// What is counted.
    pub metrics: Metrics,
}

impl Ledger {
    /// An empty one.
    pub fn new(mode: AuditMode) -> Arc<Self> {
        Arc::new(Self {
            mode,
            shards: (0..shard::COUNT).map(|_| Mutex::new(Vec::new())).collect(),
            pending: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            failing_since: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            writer: OnceLock::new(),
            open: AtomicUsize::new(0),
            metrics: Metrics::default(),
        })
    }

    /// Can rows be written?
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// For how many seconds rows could not be written; 0 while they can.
    pub fn lag(&self) -> u64 {
        if !self.is_failing() {
            return 0;
        }
        crate::store::wall().unsigned_abs().saturating_sub(self.failing_since.load(Ordering::Relaxed))
    }

    /// Rows that wait to be written, places of running requests included.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Requests that have come and not ended.
    pub fn in_flight(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a place for the row of a request; `false` while there is none.
    pub fn take_place(&self) -> Result<bool, LedgerError> {
        self.take(MOST)
    }

    fn take(&self, most: usize) -> Result<bool, LedgerError> {
        // Sums alone can wait for a store that cannot be written.
        if self.is_failing() && self.mode != AuditMode::Off {
            return Err(LedgerError::Failing);
        }
        if self.pending.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(true);
        }
        self.pending.fetch_sub(1, Ordering::Relaxed);
        Ok(false)
    }

    /// Tells that a request begins; in strict mode, whoever sends it on waits for the [`Ack`].
    pub(super) fn begin(&self, begin: Begin) -> Option<Arc<Ack>> {
        let ack = (self.mode == AuditMode::Strict).then(Arc::<Ack>::default);
        self.push(Event::Begin(begin, ack.clone()));
        if ack.is_some() {
            self.wake();
        }
        ack
    }

    /// Takes a row. One without a place of its own is counted, and not kept, where there is none.
    pub(super) fn end(&self, ended: Ended, placed: bool) {
        // A flood of refusals leaves places for those who are admitted.
        if !placed && !self.take(MOST / 2).unwrap_or(false) {
            self.lost.fetch_add(ended.row.count, Ordering::Relaxed);
            return;
        }
        self.push(Event::End(ended));
    }

    fn push(&self, event: Event) {
        if let Some(shard) = self.shards.get(shard::of_thread()) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }

    /// All that came since the last time, into `events`.
    pub(super) fn collect(&self, events: &mut Vec<Event>) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            events.append(&mut shard);
        }
    }

    /// Refusals that found no place since the last time.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// So many rows are written, or given up.
    pub(super) fn settle(&self, rows: usize) {
        self.pending.fetch_sub(rows, Ordering::Relaxed);
    }

    /// Whether rows can be written; `true` when that is news.
    pub(super) fn set_failing(&self, failing: bool) -> bool {
        if failing && !self.is_failing() {
            self.failing_since.store(crate::store::wall().unsigned_abs(), Ordering::Relaxed);
        }
        self.failing.swap(failing, Ordering::Relaxed) != failing
    }

    pub(super) fn written_by(&self, writer: Thread) {
        // There is one writer.
        let _set = self.writer.set(writer);
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Asks the writer to write what is left, and to end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
