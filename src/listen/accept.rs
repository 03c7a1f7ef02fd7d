//! The accept loop: a port and perhaps a socket, caps in all and per address, back-off when descriptors run out, and a drain with a
//! deadline.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::clock::{self, Clock, Sweeper, TICK};
use super::connection::{self, Handler};
use super::guard::HEAD_TIME;
use super::socket::Socket;
use super::stream::Stream;
use super::tls::Tls;

/// A running stop gives what streams this long: below the usual 30 s kill of a container runtime.
const DRAIN: Duration = Duration::from_secs(25);

/// How many connections are taken.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// In all.
    pub max_connections: usize,
    /// Per client address, IPv6 by /64; `None`: no bound.
    pub max_per_address: Option<usize>,
}

/// Who connects through a Unix socket was let in by its file's permissions, as processes of this machine are: a peer on loopback.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What is listened on.
#[derive(Debug)]
pub struct Doors {
    /// The port.
    pub tcp: TcpListener,
    /// Its certificate; `None`: no TLS.
    pub tls: Option<Arc<Tls>>,
    /// A Unix socket beside it.
    pub socket: Option<Socket>,
}

impl Doors {
    /// A port alone, without TLS.
    pub const fn plain(tcp: TcpListener) -> Self {
        Self { tcp, tls: None, socket: None }
    }

    async fn accept(&self) -> io::Result<(Arrival, SocketAddr)> {
        let tcp = async { self.tcp.accept().await.map(|(stream, peer)| (Arrival::Port(stream), peer)) };
        let Some(socket) = &self.socket else { return tcp.await };
        tokio::select! {
            arrived = tcp => arrived,
            arrived = socket.accept() => arrived.map(|stream| (Arrival::Ready(Stream::Unix(stream)), LOCAL)),
        }
    }
}

/// A connection that was accepted.
enum Arrival {
    /// Perhaps with a handshake to come.
    Port(TcpStream),
    Ready(Stream),
}

/// Accepts until `stop` is done, then drains: running answers end by themselves, or with an error line after 25 s, or at
/// once when `hurry` is done.
pub async fn serve<H: Handler>(
    doors: Doors,
    settings: Settings,
    handler: Arc<H>,
    bell: Bell,
    stop: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) {
    let shared = Arc::new(Shared {
        sweeper: bell.0,
        addresses: Mutex::new(HashMap::new()),
        slots: Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS))),
        all: settings.max_connections.min(Semaphore::MAX_PERMITS),
        closed: Notify::new(),
    });
    let accepting = accept_all(&doors, settings, &shared, &handler);
    let sweeping = async {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            shared.sweeper.sweep();
        }
    };
    let (mut sweeping, mut stop) = (std::pin::pin!(sweeping), std::pin::pin!(stop));
    tokio::select! {
        () = accepting => {}
        () = &mut sweeping => {}
        () = &mut stop => {}
    }
    drop(doors);
    tokio::select! {
        () = drain(&shared, hurry) => {}
        () = sweeping => {}
    }
}

/// Wakes every connection of a listener.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Sweeper>);

impl Bell {
    /// Every connection's task looks at what it waits for.
    pub fn ring(&self) {
        self.0.wake_all();
    }
}

struct Shared {
    sweeper: Arc<Sweeper>,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    slots: Arc<Semaphore>,
    all: usize,
    closed: Notify,
}

async fn accept_all<H: Handler>(doors: &Doors, settings: Settings, shared: &Arc<Shared>, handler: &Arc<H>) {
    loop {
        // The permit first: beyond the cap, callers wait in the kernel's backlog.
        let Ok(permit) = Arc::clone(&shared.slots).acquire_owned().await else { return };
        match doors.accept().await {
            Ok((arrival, peer)) => {
                if let Some(place) = admit(peer, permit, settings, shared, &**handler) {
                    let (clock, handler) = (shared.sweeper.clock(), Arc::clone(handler));
                    let tls = doors.tls.clone();
                    tokio::spawn(async move {
                        if let Some(stream) = ready(arrival, tls, &clock).await {
                            connection::run(stream, peer, clock, handler).await;
                        }
                        drop(place);
                    });
                }
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                tracing::warn!(error = %error.kind(), "cannot accept connections for the moment");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Errors of one connection that was gone before it was accepted.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// A place for a peer; `None` where it has too many.
fn admit<H: Handler>(
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    settings: Settings,
    shared: &Arc<Shared>,
    handler: &H,
) -> Option<Place> {
    let address = network(peer.ip());
    let mut place = Place { shared: Arc::clone(shared), address: None, permit: Some(permit) };
    if let Some(most) = settings.max_per_address
        && !handler.is_exempt(peer.ip())
    {
        let mut addresses = shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let open = addresses.entry(address).or_insert(0);
        if *open >= most {
            tracing::debug!(client = %address, "refused: too many connections from one address");
            return None;
        }
        *open += 1;
        place.address = Some(address);
    }
    Some(place)
}

/// The stream that requests come on. A handshake must be whole in the time of a head, and delays no stop.
async fn ready(arrival: Arrival, tls: Option<Arc<Tls>>, clock: &Clock) -> Option<Stream> {
    let stream = match arrival {
        Arrival::Ready(stream) => return Some(stream),
        Arrival::Port(stream) => stream,
    };
    let _unsupported = stream.set_nodelay(true);
    let Some(tls) = tls else { return Some(Stream::Tcp(stream)) };
    let by = clock::after(clock::now(), Some(HEAD_TIME));
    let mut shaking = pin!(Box::pin(tls.accept(stream)));
    std::future::poll_fn(|cx| {
        clock.begin(cx.waker());
        match shaking.as_mut().poll(cx) {
            Poll::Ready(shaken) => Poll::Ready(shaken.ok().map(|stream| Stream::Tls(Box::new(stream)))),
            Poll::Pending if clock.passed(by) || clock.draining() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What counts as one client: an IPv4 address, or a /64 of IPv6, which everybody owns at least.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A connection's place in the counts, given back when it ends.
struct Place {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            let mut addresses = self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = addresses.get_mut(&address) {
                *open -= 1;
                if *open == 0 {
                    addresses.remove(&address);
                }
            }
        }
        drop(self.permit.take());
        self.shared.closed.notify_waiters();
    }
}

impl Shared {
    fn open(&self) -> usize {
        self.all - self.slots.available_permits()
    }

    async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}

async fn drain(shared: &Shared, hurry: impl Future<Output = ()>) {
    shared.sweeper.drain();
    if shared.open() > 0 {
        tracing::info!(connections = shared.open(), "stopping; waiting for running answers");
    }
    tokio::select! {
        // Where nothing is open, nothing is cut, however much of a hurry there is.
        biased;
        () = shared.all_closed() => return,
        () = hurry => {}
        () = tokio::time::sleep(DRAIN) => {}
    }
    shared.sweeper.cut();
    tracing::warn!(connections = shared.open(), "ending what still runs");
    let _ended = tokio::time::timeout(Duration::from_secs(1), shared.all_closed()).await;
}
