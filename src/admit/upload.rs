//! Bodies on their way: how many of one principal are unfinished, and how much memory all bodies take.
//!
//! A body that is whole when it is asked for costs an addition and a subtraction. One that is not takes a place among its principal's
//! uploads; when there are too many, the slowest gives way, so that whoever sends a byte a second shuts nobody out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use atomic_waker::AtomicWaker;

use super::AdmitError;
use crate::listen::clock::{Clock, Millis};
use crate::listen::{Grants, UNASKED};

/// Unfinished uploads of one principal.
const UPLOADS: usize = 64;
/// A young upload is taken to have brought so much in a second more: nobody is the slowest for being the last to come.
const START: u64 = 16 << 10;

/// One body that is not whole.
#[derive(Debug)]
struct Upload {
    since: Millis,
    here: AtomicUsize,
    gives_way: AtomicBool,
    waker: AtomicWaker,
}

impl Upload {
    /// Bytes in so many milliseconds.
    fn pace(&self, now: Millis) -> (u64, u64) {
        let here = self.here.load(Ordering::Relaxed) as u64;
        (here + START, now.saturating_sub(self.since) + 1_000)
    }
}

/// Those of one principal.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<Vec<Arc<Upload>>>);

impl Uploads {
    fn begin(&self, now: Millis) -> Arc<Upload> {
        let upload = Arc::new(Upload {
            since: now,
            here: AtomicUsize::new(0),
            gives_way: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slowest = all.iter().enumerate().min_by(|(_, a), (_, b)| {
            let ((a, in_a), (b, in_b)) = (a.pace(now), b.pace(now));
            a.saturating_mul(in_b).cmp(&b.saturating_mul(in_a))
        });
        if all.len() >= UPLOADS
            && let Some((at, _)) = slowest
        {
            let slowest = all.swap_remove(at);
            slowest.gives_way.store(true, Ordering::Release);
            slowest.waker.wake();
        }
        all.push(Arc::clone(&upload));
        upload
    }

    fn end(&self, upload: &Arc<Upload>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, upload));
    }
}

/// The memory for all bodies together.
#[derive(Debug)]
pub(super) struct Memory {
    held: AtomicUsize,
}

/// Beyond this, only small bodies are taken: a sixteenth is kept for them.
const fn for_large(most: usize) -> usize {
    most - most / 16
}

/// What one body takes of the memory, until it is dropped.
#[derive(Debug)]
pub struct Share {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0) })
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Share {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0 }
    }

    fn grow(&mut self, to: usize, most: Option<usize>) -> Result<(), AdmitError> {
        let more = to.saturating_sub(self.bytes);
        let held = self.memory.held.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        self.bytes += more;
        match most {
            Some(most) if held > if to > UNASKED { for_large(most) } else { most } => {
                Err(AdmitError::BodyMemory { most })
            }
            _ => Ok(()),
        }
    }

    /// From now on it is so many bytes: the body was rebuilt.
    pub fn becomes(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.memory.held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.memory.held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A place among the unfinished uploads, until it is dropped.
#[derive(Debug)]
struct Place<'a>(&'a Uploads, Arc<Upload>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.end(&self.1);
    }
}

/// Watches over a body on its way.
#[derive(Debug)]
pub struct Watch<'a> {
    uploads: &'a Uploads,
    clock: &'a Clock,
    most: Option<usize>,
    share: Share,
    place: Option<Place<'a>>,
}

impl<'a> Watch<'a> {
    pub(super) const fn new(
        uploads: &'a Uploads,
        clock: &'a Clock,
        most: Option<usize>,
        share: Share,
    ) -> Self {
        Self { uploads, clock, most, share, place: None }
    }

    /// It is whole; this is what it takes.
    pub fn into_share(self) -> Share {
        self.share
    }
}

impl Grants for Watch<'_> {
    type Error = AdmitError;

    fn comes(&mut self, here: usize, cx: &Context<'_>) -> Result<(), AdmitError> {
        let (uploads, clock) = (self.uploads, self.clock);
        let Place(_, upload) = self.place.get_or_insert_with(|| Place(uploads, uploads.begin(clock.now())));
        upload.here.store(here, Ordering::Relaxed);
        upload.waker.register(cx.waker());
        if upload.gives_way.load(Ordering::Acquire) {
            return Err(AdmitError::Uploads { most: UPLOADS });
        }
        Ok(())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), AdmitError> {
        self.share.grow(bytes, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::clock::Sweeper;
    use std::task::Waker;

    #[test]
    fn the_slowest_upload_gives_way_and_not_the_last_to_come() {
        let (uploads, clock, memory) = (Uploads::default(), Sweeper::default().clock(), Memory::new());
        let cx = Context::from_waker(Waker::noop());
        clock.begin(cx.waker());
        let watch = || Watch::new(&uploads, &clock, None, Share::new(&memory));
        let mut all: Vec<_> = (0..UPLOADS).map(|_| watch()).collect();
        for (at, upload) in all.iter_mut().enumerate() {
            upload.comes(if at == 40 { 0 } else { 100_000 }, &cx).unwrap();
        }
        let mut last = watch();
        last.comes(0, &cx).unwrap();
        let slow: Vec<_> = (0..UPLOADS).filter(|at| all[*at].comes(100_000, &cx).is_err()).collect();
        assert_eq!(slow, [40]);
        assert_eq!(last.comes(0, &cx), Ok(()));
        drop((all, last));
        assert!(uploads.0.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn memory_is_counted_exactly_and_small_bodies_are_refused_last() {
        let memory = Memory::new();
        let most = Some(16 << 20);
        let mut large = Share::new(&memory);
        assert_eq!(large.grow(15 << 20, most), Ok(()));
        let mut second = Share::new(&memory);
        assert!(second.grow(UNASKED + 1, most).is_err());
        drop(second);
        let mut small: Vec<_> = (0..16).map(|_| Share::new(&memory)).collect();
        assert!(small.iter_mut().all(|share| share.grow(UNASKED, most).is_ok()));
        assert!(Share::new(&memory).grow(1, most).is_err());
        large.becomes(1 << 20);
        assert!(Share::new(&memory).grow(1 << 20, most).is_ok());
        drop((large, small));
        assert_eq!(memory.held.load(Ordering::Relaxed), 0);
    }
}
