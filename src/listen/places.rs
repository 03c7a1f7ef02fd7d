//! Who is connected: how many in all, how many of one address, and who makes room.
//!
//! Takes a peer that was accepted; promises a [`Place`], which counts until it is dropped. Refuses a peer that has too many. Where a
//! listener is for few, as that of the operators, whoever idles there longest makes room for who comes: otherwise a handful of silent
//! connections shuts everybody out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::accept::Settings;
use super::state::ConnState;

/// Whoever was told to make room is gone at once; somebody else is told where that is not so.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The counts of one listener.
#[derive(Debug)]
pub(super) struct Places {
    per_address: Option<usize>,
    makes_room: bool,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    slots: Arc<Semaphore>,
    all: usize,
    closed: Notify,
    /// Only where room is made, and then as many as there are slots.
    guests: Mutex<Vec<(IpAddr, Weak<ConnState>)>>,
}

/// What there is no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    All,
    Address,
}

impl Places {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        let all = settings.max_connections.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            per_address: settings.max_per_address,
            makes_room: settings.makes_room,
            addresses: Mutex::default(),
            slots: Arc::new(Semaphore::new(all)),
            all,
            closed: Notify::new(),
            guests: Mutex::default(),
        })
    }

    /// Before anybody is accepted: beyond the cap, callers wait in the kernel's backlog. Where room is made for who comes, they must be
    /// seen first. `None`: the listener ends.
    pub(super) async fn before_accept(&self) -> Option<Option<OwnedSemaphorePermit>> {
        if self.makes_room {
            return Some(None);
        }
        Arc::clone(&self.slots).acquire_owned().await.ok().map(Some)
    }

    /// A place for a peer; `None` where it has too many. `exempt`: it may have any number.
    pub(super) async fn take(
        self: &Arc<Self>,
        peer: IpAddr,
        exempt: bool,
        mut permit: Option<OwnedSemaphorePermit>,
        state: &Arc<ConnState>,
    ) -> Option<Place> {
        let address = network(peer);
        let most = self.per_address.filter(|_| !exempt);
        let mut told = false;
        loop {
            // Before it is looked: who closes in between is not missed.
            let closed = self.closed.notified();
            let Err(full) = self.count(address, most, &mut permit) else { break };
            told = told || (self.makes_room && self.tell(address, full));
            if !told && full == Full::Address {
                tracing::debug!(client = %address, "refused: too many connections from one address");
                return None;
            }
            if tokio::time::timeout(AT_ONCE, closed).await.is_err() {
                told = false;
            }
        }
        let guest = self.makes_room.then(|| Arc::downgrade(state));
        if let Some(guest) = &guest {
            lock(&self.guests).push((address, Weak::clone(guest)));
        }
        Some(Place { places: Arc::clone(self), address: most.map(|_| address), permit, guest })
    }

    /// Counts one more, if there is room.
    fn count(
        &self,
        address: IpAddr,
        most: Option<usize>,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), Full> {
        let mut addresses = lock(&self.addresses);
        if most.is_some_and(|most| addresses.get(&address).is_some_and(|open| *open >= most)) {
            return Err(Full::Address);
        }
        if permit.is_none() {
            *permit = Some(Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Full::All)?);
        }
        if most.is_some() {
            *addresses.entry(address).or_insert(0) += 1;
        }
        Ok(())
    }

    /// Tells the one whose time runs out first to make room, of those for whom nothing is being done: silent ones, and those whose request
    /// is still on its way. `false` where there is none.
    fn tell(&self, address: IpAddr, full: Full) -> bool {
        let guests = lock(&self.guests);
        let idle = guests
            .iter()
            .filter(|(own, _)| full == Full::All || *own == address)
            .filter_map(|(_, state)| state.upgrade())
            .filter(|state| !state.is_busy() && !state.gives_way());
        let oldest = idle.min_by_key(|state| state.read_by());
        if let Some(state) = &oldest {
            state.give_way();
        }
        oldest.is_some()
    }

    /// How many are connected.
    pub(super) fn open(&self) -> usize {
        self.all - self.slots.available_permits()
    }

    /// Until nobody is.
    pub(super) async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one client: an IPv4 address, or a /64 of IPv6, which everybody owns at least.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A connection's place in the counts, given back when it ends.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
    permit: Option<OwnedSemaphorePermit>,
    guest: Option<Weak<ConnState>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            let mut addresses = lock(&self.places.addresses);
            if let Some(open) = addresses.get_mut(&address) {
                *open -= 1;
                if *open == 0 {
                    addresses.remove(&address);
                }
            }
        }
        if let Some(guest) = &self.guest {
            lock(&self.places.guests).retain(|(_, other)| !other.ptr_eq(guest));
        }
        drop(self.permit.take());
        self.places.closed.notify_waiters();
    }
}
