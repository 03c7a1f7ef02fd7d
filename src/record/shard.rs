//! Which of a few buffers a thread writes to: threads seldom meet at one.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many buffers there are.
pub(super) const COUNT: usize = 16;

/// This thread's.
pub(super) fn of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
    }
    SHARD.with(|shard| *shard)
}
