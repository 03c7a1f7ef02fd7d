//! What a request waits for so that it cannot be lost: a place for its row and, in strict mode, its begin on the disk.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::gate::Visit;
use crate::listen::clock::{self, Clock};
use crate::record::{Ack, LedgerError};

/// Longer than this nobody is kept waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// A place in the ledger: at once, or within two seconds.
pub(super) async fn place(visit: &mut Visit) -> Result<(), LedgerError> {
    let clock = std::sync::Arc::clone(&visit.state.clock);
    let Some(record) = &mut visit.record else { return Ok(()) };
    if record.place()? {
        return Ok(());
    }
    let by = clock::after(clock.now(), Some(PATIENCE));
    poll_fn(|_| match record.place() {
        Ok(false) if clock.passed(by) => Poll::Ready(Err(LedgerError::Behind)),
        Ok(false) => {
            // The next sweep looks again.
            clock.passed(clock.now() + 1);
            Poll::Pending
        }
        placed => Poll::Ready(placed.map(|_| ())),
    })
    .await
}

/// A place in the ledger, where nothing is waited for.
pub(super) fn place_now(visit: &mut Visit) -> Result<(), LedgerError> {
    let placed = visit.record.as_mut().map_or(Ok(true), |record| record.place())?;
    if placed { Ok(()) } else { Err(LedgerError::Behind) }
}

/// Tells that something goes upstream for this request, once however often it is said; in strict mode it goes on when that is on the disk.
/// Nothing may be asked of the upstream for a caller's sake before this.
pub(super) async fn begin(visit: &mut Visit) -> Result<(), LedgerError> {
    match visit.record.as_mut().and_then(|record| record.begin()) {
        None => Ok(()),
        Some(ack) => written(&ack, &std::sync::Arc::clone(&visit.state.clock)).await,
    }
}

async fn written(ack: &Ack, clock: &Clock) -> Result<(), LedgerError> {
    let by = clock::after(clock.now(), Some(PATIENCE));
    poll_fn(|cx| match ack.poll(cx) {
        Poll::Pending if clock.passed(by) => Poll::Ready(Err(LedgerError::Failing)),
        poll => poll,
    })
    .await
}
