//! The accept loop: a port and perhaps a socket, caps in all and per address, back-off when descriptors run out, and a drain with a
//! deadline.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::clock::{Sweeper, TICK};
use super::connection::{self, Handler};
use super::deadlines::Deadlines;
use super::places::Places;
use super::socket::Socket;
use super::state::ConnState;
use super::stream::Stream;
use super::tls::Tls;

/// A running stop gives what streams this long: below the usual 30 s kill of a container runtime.
const DRAIN: Duration = Duration::from_secs(25);

/// How many connections are taken, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// In all.
    pub max_connections: usize,
    /// Per client address, IPv6 by /64; `None`: no bound.
    pub max_per_address: Option<usize>,
    /// Does who idles longest make room for who comes? Otherwise who comes waits, or is refused where their address has too many.
    pub makes_room: bool,
    /// Of each connection.
    pub deadlines: Deadlines,
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
        places: Places::new(&settings),
        deadlines: Arc::new(settings.deadlines),
    });
    let accepting = accept_all(&doors, &shared, &handler);
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
    places: Arc<Places>,
    deadlines: Arc<Deadlines>,
}

async fn accept_all<H: Handler>(doors: &Doors, shared: &Shared, handler: &Arc<H>) {
    loop {
        let Some(permit) = shared.places.before_accept().await else { return };
        match doors.accept().await {
            Ok((arrival, peer)) => {
                let state = ConnState::new(shared.sweeper.enrol(), Arc::clone(&shared.deadlines));
                let exempt = handler.is_exempt(peer.ip());
                if let Some(place) = shared.places.take(peer.ip(), exempt, permit, &state).await {
                    let (handler, tls) = (Arc::clone(handler), doors.tls.clone());
                    tokio::spawn(async move {
                        if let Some(stream) = ready(arrival, tls, &state).await {
                            connection::run(stream, peer, state, handler).await;
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

/// The stream that requests come on. A handshake counts against the time to the first request, and delays no stop.
async fn ready(arrival: Arrival, tls: Option<Arc<Tls>>, state: &ConnState) -> Option<Stream> {
    let stream = match arrival {
        Arrival::Ready(stream) => return Some(stream),
        Arrival::Port(stream) => stream,
    };
    let _unsupported = stream.set_nodelay(true);
    let Some(tls) = tls else { return Some(Stream::Tcp(stream)) };
    let clock = &state.clock;
    let mut shaking = pin!(Box::pin(tls.accept(stream)));
    std::future::poll_fn(|cx| {
        clock.begin(cx.waker());
        match shaking.as_mut().poll(cx) {
            Poll::Ready(shaken) => Poll::Ready(shaken.ok().map(|stream| Stream::Tls(Box::new(stream)))),
            Poll::Pending if clock.passed(state.read_by()) || clock.draining() || state.gives_way() => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn drain(shared: &Shared, hurry: impl Future<Output = ()>) {
    shared.sweeper.drain();
    if shared.places.open() > 0 {
        tracing::info!(connections = shared.places.open(), "stopping; waiting for running answers");
    }
    tokio::select! {
        // Where nothing is open, nothing is cut, however much of a hurry there is.
        biased;
        () = shared.places.all_closed() => return,
        () = hurry => {}
        () = tokio::time::sleep(DRAIN) => {}
    }
    shared.sweeper.cut();
    tracing::warn!(connections = shared.places.open(), "ending what still runs");
    let _ended = tokio::time::timeout(Duration::from_secs(1), shared.places.all_closed()).await;
}
