//! The application: every part built once from the configuration, then run until it is told to stop.

mod live;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;

use crate::config::{self, Config, Keys};
use crate::identify::keyfile::{KeyFileError, generated_key};
use crate::identify::{ApiKey, Ring};
use crate::listen::clock;
use crate::listen::{self, Bell, Deadlines, Doors, Settings, Socket, Tls, TlsError};
use crate::record::boots;
use crate::record::writer::{Setup, SetupError, Writer};
use crate::record::{AccessLog, Desk, Ledger, Secrets, stamp};
use crate::route::StandIn;
use crate::serve::{Front, Gate, Ops};
use crate::store::audit::Anchor;
use crate::store::{self, Folder, InUse, Store, StoreError, wall};
use crate::types::ModelName;

pub use live::{Live, RenewError, Renewed};

/// Why the application cannot be built. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The generated key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Keys and audit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit's writer.
    #[error(transparent)]
    Audit(#[from] SetupError),
    /// The operators' address is taken or not ours.
    #[error("cannot listen on {address} for operators: {}; set ops.port", .error.kind())]
    Ops {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket's file.
    #[error("listen.socket: cannot listen there: {}", describe_socket(.0))]
    Socket(io::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {}", describe(.error))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "something listens there already; choose another with --port".into(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need privileges".into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        kind => kind.to_string(),
    }
}

fn describe_socket(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another gateway does".into(),
        io::ErrorKind::AlreadyExists => "the file is there and is not a socket".into(),
        io::ErrorKind::NotFound => "its folder does not exist".into(),
        kind => kind.to_string(),
    }
}

/// The generated key, and whether it was made just now.
#[derive(Debug)]
pub struct Generated {
    /// In clear, to be shown.
    pub key: ApiKey,
    /// Made at this start.
    pub new: bool,
}

/// What answers where a request names no model, as the upstream is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The default model, which the upstream has.
    Default,
    /// Nobody chose a default, and the upstream lacks the usual one: this stands in.
    Instead(StandIn),
    /// Nothing does. Where somebody chose the default, perhaps another can chat.
    Nothing(Option<StandIn>),
}

/// A gate that is bound and ready to run.
#[derive(Debug)]
pub struct App {
    doors: Doors,
    settings: Settings,
    live: Arc<Live>,
    writer: Writer,
    in_use: InUse,
    ops: Option<(TcpListener, Ops)>,
    bell: Bell,
    /// The key to show, where one is generated.
    pub generated: Option<Generated>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where operators are listened to.
    pub ops_address: Option<SocketAddr>,
    /// The default model.
    pub default_model: ModelName,
    /// Did somebody choose it?
    pub default_chosen: bool,
}

impl App {
    /// Builds every part and binds the listener. Must run in a runtime.
    pub fn build(config: &Config, log: Arc<AccessLog>) -> Result<Self, BuildError> {
        let default_model = config.default_model.clone();
        Folder::make(&config.data_dir).and_then(|folder| folder.must_be_ours()).map_err(StoreError::from)?;
        let in_use = InUse::shared(&config.data_dir)?;
        let mut store = open_store(config)?;
        let generated = match config.keys {
            Keys::Generated => {
                generated_key(&config.data_dir, &mut store)?.map(|(key, new)| Generated { key, new })
            }
            Keys::Given(_) | Keys::Public => None,
        };
        let spent = store.spent(&stamp::day(wall()))?;
        let bell = Bell::default();
        let ring = match &config.keys {
            Keys::Public => None,
            Keys::Given(keys) => Some(Ring::open(Some(keys), store, bell.clone())?),
            Keys::Generated => Some(Ring::open(None, store, bell.clone())?),
        };
        let (doors, address) = open_doors(&config.listen)?;
        let settings = Settings {
            max_connections: config.listen.max_connections.unwrap_or_else(from_open_files),
            max_per_address: config.listen.max_per_address,
            makes_room: false,
            deadlines: Deadlines::PUBLIC,
        };
        let ops = bind_ops(&config.ops)?;
        // Behind the addresses: a start that fails at them leaves no mark in the audit.
        let ledger = Ledger::new(config.audit.mode);
        let writer = open_record(config, &ledger)?;
        let secrets = match &config.keys {
            Keys::Given(keys) => Secrets::of(keys),
            Keys::Generated | Keys::Public => Secrets::default(),
        };
        let desk = Arc::new(Desk { log: Arc::clone(&log), ledger, secrets });
        let live = Arc::new(Live {
            front: Front::new(Gate::new(config, ring.clone(), spent, desk)),
            ring: ring.clone(),
            tls: doors.tls.clone(),
            log,
            holding: Mutex::new(config.written.clone()),
        });
        let on_loopback = config.ops.address.is_none_or(|address| address.ip().is_loopback());
        let ops_address = ops.as_ref().and_then(|listener| listener.local_addr().ok());
        let ops = ops.map(|listener| {
            (listener, Ops::new(Arc::clone(&live.front), ring, config.data_dir.clone(), on_loopback))
        });
        Ok(Self {
            doors,
            settings,
            live,
            writer,
            in_use,
            ops,
            bell,
            generated,
            address,
            ops_address,
            default_model,
            default_chosen: config.default_model_set,
        })
    }

    /// What of it can change while it runs.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Asks the upstream what answers where a request names no model. `None`: it does not say yet.
    pub async fn find_model(&self) -> Option<Found> {
        let gate = self.live.front.gate();
        let pool = &gate.pool;
        let usual = &self.default_model;
        let by = clock::after(clock::now(), Some(std::time::Duration::from_secs(3)));
        let asking = clock::alone(|clock| async move {
            // Of what is not said in time the names decide.
            let heard = clock::until(&clock, by, pin!(pool.fetch(&clock))).await;
            if matches!(heard, Some(Ok(_))) && pool.has(usual) == Some(false) {
                pool.learned(&clock).await;
            }
            heard
        });
        asking.await?.ok()?;
        if gate.pool.has(&self.default_model)? {
            return Some(Found::Default);
        }
        let stand_in = gate.pool.stand_in(&self.default_model, |_| true);
        Some(match stand_in {
            Some(stand_in) if !self.default_chosen => Found::Instead(stand_in),
            other => Found::Nothing(other),
        })
    }

    /// Runs until `stop`, then drains; `hurry` cuts the drain short. Access log and audit are written to their ends.
    pub async fn run(self, stop: impl Future<Output = ()>, hurry: impl Future<Output = ()>) {
        let Live { front, ring, log, .. } = &*self.live;
        let ledger = Arc::clone(&front.gate().desk.ledger);
        let writing = Arc::clone(log);
        let lines = std::thread::Builder::new().name("access-log".into()).spawn(move || writing.run());
        let rows = self.writer.run();
        let keys = ring.as_ref().map(|ring| (ring, ring.watch()));
        let done = Arc::new(Notify::new());
        let ops = self.ops.map(|(listener, ops)| tokio::spawn(serve_ops(listener, ops, Arc::clone(&done))));
        listen::serve(self.doors, self.settings, Arc::clone(front), self.bell, stop, hurry).await;
        done.notify_one();
        if let Some(ops) = ops {
            let _ended = ops.await;
        }
        if let Some((ring, Ok(watch))) = keys {
            ring.stop(&watch);
        }
        // A thread that panicked has nothing left to write.
        let end = |thread: std::io::Result<JoinHandle<()>>| {
            tokio::task::spawn_blocking(move || thread.map(JoinHandle::join))
        };
        ledger.stop();
        let _ended = end(rows).await;
        log.stop();
        let _ended = end(lines).await;
        drop(self.in_use);
    }
}

/// The store, looked at for damage. A damaged one is never written to: it is a failure, or set aside where the operator says so.
fn open_store(config: &Config) -> Result<Store, StoreError> {
    let open = || {
        let store = Store::open(&config.data_dir)?;
        store.check(config.quarantine).map(|()| store)
    };
    match open() {
        Err(StoreError::Damaged(what)) if config.quarantine => {
            let now = wall();
            // What dead processes wrote last belongs to the heads that are set aside.
            boots::forget_dead(&Folder::open(&config.data_dir)?)?;
            let file = store::quarantine(&config.data_dir, now)?;
            Anchor::set_aside(&config.data_dir, now)?;
            tracing::warn!(what, file, "a damaged store was set aside: a new one begins");
            open()
        }
        other => other,
    }
}

/// The audit's writer, with a connection to the store of its own.
fn open_record(config: &Config, ledger: &Arc<Ledger>) -> Result<Writer, BuildError> {
    let setup = Setup {
        folder: Folder::open(&config.data_dir).map_err(StoreError::from)?,
        store: Store::open(&config.data_dir)?,
        keep: config.audit.keep.map(|keep| i64::try_from(keep.as_secs()).unwrap_or(i64::MAX)),
    };
    Ok(Writer::open(Arc::clone(ledger), setup)?)
}

/// Operators are few, and nobody may keep them from looking: who idles makes room. Their listener ends at once with the public one.
async fn serve_ops(listener: TcpListener, ops: Ops, done: Arc<Notify>) {
    let settings = Settings {
        max_connections: 64,
        max_per_address: Some(16),
        makes_room: true,
        deadlines: Deadlines::OPS,
    };
    let stop = async move { done.notified().await };
    listen::serve(
        Doors::plain(listener),
        settings,
        Arc::new(ops),
        Bell::default(),
        stop,
        std::future::ready(()),
    )
    .await;
}

/// Certificate, port and socket, in the order in which a fault costs least.
fn open_doors(listen: &config::Listen) -> Result<(Doors, SocketAddr), BuildError> {
    let tls = listen.tls.as_ref().map(|files| Tls::read(&files.certificate, &files.key)).transpose()?;
    let wanted = SocketAddr::new(listen.address, listen.port);
    let bound = bind(wanted).and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    let (tcp, address) = bound.map_err(|error| BuildError::Bind { address: wanted, error })?;
    let socket = listen.socket.as_ref().map(|socket| Socket::bind(&socket.path, socket.mode));
    let socket = socket.transpose().map_err(BuildError::Socket)?;
    Ok((Doors { tcp, tls: tls.map(Arc::new), socket }, address))
}

/// Where nobody chose the port and it is taken, the gateway goes without.
fn bind_ops(ops: &config::Ops) -> Result<Option<TcpListener>, BuildError> {
    let Some(address) = ops.address else { return Ok(None) };
    match bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if ops.by_hand => Err(BuildError::Ops { address, error }),
        Err(error) => {
            tracing::warn!(%address, error = %error.kind(), "no metrics and no admin API: their address is taken; set ops.port");
            Ok(None)
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the kernel to forget the connections of the last run.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Two descriptors a connection (the caller's and the upstream's), and some kept back for files and lists.
fn from_open_files() -> usize {
    let most = rlimit::increase_nofile_limit(1 << 20).unwrap_or(1024);
    usize::try_from(most.saturating_sub(64) / 2).unwrap_or(usize::MAX).clamp(16, 100_000)
}
