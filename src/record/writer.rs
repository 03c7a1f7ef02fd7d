//! The writer: one thread that takes the ledger's events to the store, a commit for all that came meanwhile.
//!
//! Promises that a row is written once, in the chain, together with its sums; that what cannot be written is kept and tried again; and that
//! everybody knows while it cannot. Closes what processes that died left open.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use super::boots::{self, Mark};
use super::flood::Flood;
use super::ledger::{Ack, Ended, Event, Ledger};
use super::past;
use super::stamp;
use super::sums::Sums;
use crate::config::AuditMode;
use crate::store::audit::{Anchor, Batch, ChainKey, FORM, Mac, Segment};
use crate::store::{Folder, FolderError, Store, StoreError, wall};

/// At most so much is lost where the process is killed in buffered mode, and a commit takes its time as well.
const TICK: Duration = Duration::from_millis(200);
/// What could not be written is tried again so soon.
const AGAIN: Duration = Duration::from_millis(500);
/// A stop waits so long for a store that cannot be written.
const LAST: Duration = Duration::from_secs(5);
/// So often, where no rows come, it is looked whether an operator did something.
const LOOK: Duration = Duration::from_millis(500);
/// A head is noted so often while rows come.
const NOTE: Duration = Duration::from_mins(1);

/// What the writer needs.
#[derive(Debug)]
pub struct Setup {
    /// The data folder.
    pub folder: Folder,
    /// A connection of its own.
    pub store: Store,
    /// Segments that ended so many seconds ago are dropped; none: never.
    pub keep: Option<i64>,
}

/// A segment without rows.
fn begun(name: String, before: Mac) -> Segment {
    Segment {
        name,
        form: FORM,
        started_at: wall(),
        ended_at: None,
        before,
        head: before,
        dropped: false,
        rows: 0,
        open: 0,
    }
}

/// Why there is no writer.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key of the chain.
    #[error(transparent)]
    Key(#[from] crate::store::audit::KeyError),
    /// The mark of this process, and the heads beside it.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// The writer.
#[derive(Debug)]
pub struct Writer {
    ledger: Arc<Ledger>,
    setup: Setup,
    key: ChainKey,
    /// This process: held while it lives, with the head as it was with the last commit.
    mark: Mark,
    segment: Segment,
    segments: u32,
    noted: (u64, Instant),
    batch: Batch,
    acks: Vec<Arc<Ack>>,
    sums: Sums,
    /// Places to give back with the next commit.
    places: usize,
    /// Begins that are on the disk.
    open: HashSet<u64>,
    /// Ends that came before their begins.
    early: HashSet<u64>,
    flood: Flood,
    looked: Instant,
    /// Was the last head not noted?
    unmarked: bool,
    /// Kept for its room.
    events: Vec<Event>,
}

impl Writer {
    /// Opens the chain: closes what dead processes left, and begins a segment.
    pub fn open(ledger: Arc<Ledger>, mut setup: Setup) -> Result<Self, SetupError> {
        setup.store.durable(ledger.mode == AuditMode::Strict)?;
        let key = ChainKey::of(setup.folder.path())?;
        Anchor::compact(&setup.folder)?;
        let mark = Mark::make(&setup.folder)?;
        let dead = past::dead(&setup.store, &key, &setup.folder)?;
        let before = past::last_head(&setup.store, &setup.folder)?;
        let segment = begun(format!("{}-1", mark.boot), before);
        setup.store.keep_segment(&key, &segment)?;
        let mut writer = Self {
            ledger,
            setup,
            key,
            mark,
            segment,
            segments: 1,
            noted: (0, Instant::now()),
            batch: Batch::default(),
            acks: Vec::new(),
            sums: Sums::default(),
            places: 0,
            open: HashSet::new(),
            early: HashSet::new(),
            flood: Flood::default(),
            looked: Instant::now(),
            unmarked: false,
            events: Vec::new(),
        };
        let (store, folder) = (&mut writer.setup.store, &writer.setup.folder);
        writer.segment = past::close(store, &writer.key, &writer.segment, folder, dead)?;
        past::drop_old(store, &writer.key, writer.setup.keep)?;
        Ok(writer)
    }

    /// Writes until the ledger is stopped, in a thread of its own.
    pub fn run(mut self) -> std::io::Result<JoinHandle<()>> {
        let ledger = Arc::clone(&self.ledger);
        let running = thread::Builder::new().name("audit".into()).spawn(move || self.work())?;
        ledger.written_by(running.thread().clone());
        Ok(running)
    }

    fn work(&mut self) {
        let mut stopping: Option<Instant> = None;
        loop {
            if self.ledger.is_stopped() {
                stopping.get_or_insert_with(Instant::now);
            } else {
                thread::park_timeout(if self.ledger.is_failing() { AGAIN } else { TICK });
            }
            self.gather(stopping.is_some());
            let written = self.commit();
            match stopping {
                Some(_) if written => return self.close(),
                Some(since) if since.elapsed() > LAST => {
                    tracing::error!(
                        rows = self.batch.rows.len(),
                        "rows of the audit are lost: the store could not be written to the end"
                    );
                    return;
                }
                Some(_) => thread::sleep(TICK),
                None => self.tend(),
            }
        }
    }

    /// Takes over what came, and sorts it.
    fn gather(&mut self, last: bool) {
        let mut events = std::mem::take(&mut self.events);
        self.ledger.collect(&mut events);
        self.ledger.metrics.add(&events);
        for event in events.drain(..) {
            match event {
                Event::Begin(begin, ack) => {
                    self.acks.extend(ack);
                    if !self.early.remove(&begin.request_id) {
                        self.batch.begins.insert(begin.request_id, begin);
                    }
                }
                Event::End(ended) => self.ended(ended),
            }
        }
        self.events = events;
        let unkept = self.ledger.take_lost();
        if unkept > 0 {
            self.ledger.metrics.lost(unkept);
            tracing::warn!(
                requests = unkept,
                "requests that were refused or needed no model have no row: there was no place for it"
            );
        }
        let minute = wall().div_euclid(60);
        for row in self.flood.turn(minute, last) {
            self.batch.rows.push(row);
        }
    }

    fn ended(&mut self, ended: Ended) {
        self.places += 1;
        self.sums.add(&ended.row, ended.listed);
        let id = ended.row.request_id;
        if ended.begun {
            // In the same commit as its end, a begin tells nothing.
            if self.open.remove(&id) {
                self.batch.ended.push(id);
            } else if self.batch.begins.remove(&id).is_none() {
                self.early.insert(id);
            }
        }
        if self.ledger.mode == AuditMode::Off {
            return;
        }
        // What nobody known asked for, and nothing went upstream for, comes from whoever likes: it must not fill the disk.
        let idle = ended.row.key_id.is_none() && ended.row.upstream.is_none();
        let row =
            if idle || ended.row.ending == "refused" { self.flood.row(ended.row) } else { Some(ended.row) };
        self.batch.rows.extend(row);
    }

    /// Writes what was gathered; `false`: it is kept for the next time.
    fn commit(&mut self) -> bool {
        // While it failed before, the store is tried whether or not there is something to write: nobody gets in who could bring something.
        let idle = self.batch.is_empty() && self.sums.is_empty() && !self.ledger.is_failing();
        if idle && !self.has_actions() {
            self.ledger.settle(std::mem::take(&mut self.places));
            return true;
        }
        let sums = self.sums.rows();
        self.batch.open = (self.open.len() + self.batch.begins.len()) as u64;
        match self.setup.store.append(&self.key, &self.segment, &self.mark.boot, &self.batch, &sums) {
            Ok(segment) => self.written(segment),
            Err(error) => {
                self.ledger.metrics.failed();
                if self.ledger.set_failing(true) {
                    tracing::error!(%error, "the audit cannot be written: requests are refused until it can");
                }
                self.acks.drain(..).for_each(|ack| ack.tell(false));
                return false;
            }
        }
        true
    }

    /// Has an operator done something that is not in the chain yet? While nothing else is written, looked at now and then.
    fn has_actions(&mut self) -> bool {
        if self.looked.elapsed() < LOOK && !self.ledger.is_stopped() {
            return false;
        }
        self.looked = Instant::now();
        self.setup.store.has_unsealed().unwrap_or(false)
    }

    fn written(&mut self, segment: Segment) {
        self.ledger.metrics.committed(segment.rows - self.segment.rows);
        let first = self.segment.rows == 0 && segment.rows > 0;
        self.segment = segment;
        self.mark();
        if first {
            // From its first rows on, a segment that is taken away is missed.
            self.note();
        }
        self.open.extend(self.batch.begins.keys());
        self.batch = Batch::default();
        self.sums = Sums::default();
        self.acks.drain(..).for_each(|ack| ack.tell(true));
        self.ledger.settle(std::mem::take(&mut self.places));
        if self.ledger.set_failing(false) {
            tracing::warn!("the audit can be written again");
        }
    }

    /// What is due now and then: a noted head, a new day.
    fn tend(&mut self) {
        let (rows, at) = self.noted;
        if self.segment.rows != rows && at.elapsed() >= NOTE {
            self.note();
        }
        let new_day = stamp::day(self.segment.started_at) != stamp::day(wall());
        if new_day
            && self.batch.rows.is_empty()
            && let Err(error) = self.roll()
        {
            tracing::warn!(%error, "the audit goes on in the segment of an earlier day");
        }
    }

    /// Whoever can write to the store alone cannot take this commit back unseen.
    fn mark(&mut self) {
        let strict = self.ledger.mode == AuditMode::Strict;
        let noted = self.mark.note(&Anchor::of(&self.segment), strict);
        if self.unmarked != noted.is_err() {
            self.unmarked = noted.is_err();
            match noted {
                Ok(()) => tracing::info!("the head of the audit is noted again"),
                Err(error) => tracing::warn!(error = %error.kind(), "the head of the audit is not noted"),
            }
        }
    }

    fn note(&mut self) {
        self.noted = (self.segment.rows, Instant::now());
        if let Err(error) = Anchor::of(&self.segment).note(&self.setup.folder) {
            tracing::warn!(%error, "a head of the audit was not noted");
        }
    }

    fn roll(&mut self) -> Result<(), StoreError> {
        self.note();
        let now = wall();
        let closed = Segment { ended_at: Some(now), ..self.segment.clone() };
        self.setup.store.keep_segment(&self.key, &closed)?;
        let head = closed.head;
        self.segment = begun(format!("{}-{}", self.mark.boot, self.segments + 1), head);
        self.segment.open = closed.open;
        self.segments += 1;
        self.noted = (0, Instant::now());
        self.setup.store.keep_segment(&self.key, &self.segment)?;
        // A gateway that never stops has a file of heads that never ends, but for this.
        if let Err(error) = Anchor::compact(&self.setup.folder) {
            tracing::warn!(%error, "the file of heads was not made smaller");
        }
        past::drop_old(&mut self.setup.store, &self.key, self.setup.keep)
    }

    /// The last words of a clean stop.
    fn close(&mut self) {
        self.note();
        self.segment.ended_at = Some(wall());
        match self.setup.store.keep_segment(&self.key, &self.segment) {
            Ok(()) => boots::forget(&self.setup.folder, &self.mark.boot),
            Err(error) => tracing::warn!(%error, "the audit's segment was left open"),
        }
        tracing::info!(head = %Anchor::of(&self.segment), "the audit is closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    #[test]
    fn a_store_that_failed_is_tried_again_though_nothing_waits_to_be_written() {
        let place = testing::Folder::new();
        let store = Store::open(&place.0).unwrap();
        let (folder, ledger) = (Folder::open(&place.0).unwrap(), Ledger::new(AuditMode::Buffered));
        let mut writer = Writer::open(Arc::clone(&ledger), Setup { folder, store, keep: None }).unwrap();
        // As after an action that another gateway has sealed meanwhile.
        ledger.set_failing(true);
        assert!(writer.commit() && !ledger.is_failing());
    }
}
