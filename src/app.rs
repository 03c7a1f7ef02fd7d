//! The application: every part built once from the configuration, then run until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};

use crate::config::{Config, Keys};
use crate::identify::keyfile::{KeyFileError, generated_key};
use crate::identify::{ApiKey, Ring};
use crate::listen::{self, Bell, Settings};
use crate::record::{AccessLog, stamp};
use crate::serve::Gate;
use crate::store::{Store, StoreError, wall};
use crate::types::ModelName;
use crate::validate::Rules;

/// Why the application cannot be built. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The generated key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Keys and audit.
    #[error(transparent)]
    Store(#[from] StoreError),
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

/// The generated key, and whether it was made just now.
#[derive(Debug)]
pub struct Generated {
    /// In clear, to be shown.
    pub key: ApiKey,
    /// Made at this start.
    pub new: bool,
}

/// A gate that is bound and ready to run.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    settings: Settings,
    gate: Arc<Gate>,
    log: Arc<AccessLog>,
    ring: Option<Arc<Ring>>,
    bell: Bell,
    /// The key to show, where one is generated.
    pub generated: Option<Generated>,
    /// Where it listens.
    pub address: SocketAddr,
    /// The default model.
    pub default_model: ModelName,
}

impl App {
    /// Builds every part and binds the listener. Must run in a runtime.
    pub fn build(config: &Config, log: Arc<AccessLog>) -> Result<Self, BuildError> {
        let default_model = config.default_model.clone();
        let mut store = Store::open(&config.data_dir)?;
        store.check()?;
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
            Keys::Given(keys) => Some(Ring::open(keys, store, bell.clone())?),
            Keys::Generated => Some(Ring::open(&[], store, bell.clone())?),
        };
        let rules = Rules {
            default_model: default_model.clone(),
            limits: config.limits,
            options: config.options,
            cloud_models: config.routes.cloud_models,
        };
        let wanted = SocketAddr::new(config.listen.address, config.listen.port);
        let listener = bind(wanted).map_err(|error| BuildError::Bind { address: wanted, error })?;
        let address = listener.local_addr().map_err(|error| BuildError::Bind { address: wanted, error })?;
        let settings = Settings {
            max_connections: config.listen.max_connections.unwrap_or_else(from_open_files),
            max_per_address: config.listen.max_per_address,
        };
        let gate = Arc::new(Gate::new(config, rules, ring.clone(), spent, Arc::clone(&log)));
        Ok(Self { listener, settings, gate, log, ring, bell, generated, address, default_model })
    }

    /// Does the upstream have the default model? `None`: it does not answer yet.
    pub async fn has_default_model(&self) -> Option<bool> {
        let sweeper = listen::clock::Sweeper::default();
        let clock = sweeper.clock();
        let asking = self.gate.pool.fetch(&clock);
        match tokio::time::timeout(std::time::Duration::from_secs(3), asking).await {
            Ok(Ok(())) => self.gate.pool.has(&self.default_model),
            _ => None,
        }
    }

    /// Runs until `stop`, then drains; `hurry` cuts the drain short. The access log is written to its end.
    pub async fn run(self, stop: impl Future<Output = ()>, hurry: impl Future<Output = ()>) {
        let log = Arc::clone(&self.log);
        let writer = std::thread::Builder::new().name("access-log".into()).spawn(move || log.run());
        let keys = self.ring.as_ref().map(|ring| (ring, ring.watch()));
        listen::serve(self.listener, self.settings, self.gate, self.bell, stop, hurry).await;
        if let Some((ring, Ok(watch))) = keys {
            ring.stop(&watch);
        }
        self.log.stop();
        if let Ok(writer) = writer {
            // A writer that panicked has nothing left to write.
            let _ended = tokio::task::spawn_blocking(move || writer.join()).await;
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
