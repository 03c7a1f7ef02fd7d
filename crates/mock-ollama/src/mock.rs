//! The handle that a test holds: starts the server, sets scripts, tells what was seen.

use crate::api::World;
use crate::api::catalog::{Catalog, Model};
use crate::log::{Disconnect, Log, Seen, TimedOut, ended_at_least, seen_at_least};
use crate::script::{On, Script};
use crate::serve::{Server, accept};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How a server starts.
#[derive(Debug)]
pub struct Builder {
    models: Vec<Model>,
    pullable: Vec<String>,
    version: String,
    cloud: bool,
    record: bool,
    default: Script,
    port: u16,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            models: Model::defaults(),
            pullable: Vec::new(),
            version: "0.33.0-rc2".to_owned(),
            cloud: false,
            record: true,
            default: Script::default(),
            port: 0,
        }
    }
}

impl Builder {
    /// The models that are there, in place of [`Model::defaults`].
    #[must_use]
    pub fn models(mut self, models: Vec<Model>) -> Self {
        self.models = models;
        self
    }

    /// Models that a pull finds.
    #[must_use]
    pub fn pullable<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.pullable = names.into_iter().map(Into::into).collect();
        self
    }

    /// What `/api/version` says.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Answer cloud models, and say so under `/api/status`; otherwise they are refused with 403.
    #[must_use]
    pub fn cloud(mut self, on: bool) -> Self {
        self.cloud = on;
        self
    }

    /// Keep what is seen; a bench switches it off.
    #[must_use]
    pub fn record(mut self, on: bool) -> Self {
        self.record = on;
        self
    }

    /// The script of requests for which none was set (probes aside).
    #[must_use]
    pub fn default_script(mut self, script: Script) -> Self {
        self.default = script;
        self
    }

    /// The port on 127.0.0.1; 0, the default, is any free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts the server on the current runtime.
    pub async fn start(self) -> io::Result<Mock> {
        let world = World {
            catalog: Catalog::new(self.models),
            version: self.version,
            cloud: self.cloud,
            pullable: self.pullable,
        };
        let server = Arc::new(Server::new(world, Log::new(self.record), self.default));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, Arc::clone(&server)));
        Ok(Mock { server, addr, task: Mutex::new(Some(task)) })
    }
}

/// A running server. Dropped, it stops and its connections are closed.
#[derive(Debug)]
pub struct Mock {
    server: Arc<Server>,
    addr: SocketAddr,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Mock {
    /// A server with the defaults, on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// For a server that differs.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same as a URL without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Sets a script for the requests to come; it wins over older ones for the same.
    pub fn script(&self, on: On, script: Script) {
        self.server.script(on, script);
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.server.log.clear();
    }

    /// Forgets what was seen, and all scripts.
    pub fn reset(&self) {
        self.server.forget_scripts();
        self.clear();
    }

    /// The requests so far, in the order of their heads; probes left out.
    pub fn seen(&self) -> Vec<Seen> {
        self.server.log.list(false)
    }

    /// The probes so far ([`Seen::is_probe`]).
    pub fn probes(&self) -> Vec<Seen> {
        self.server.log.list(true)
    }

    /// Waits until so many requests have been read (probes left out).
    pub async fn wait_seen(&self, count: usize, timeout: Duration) -> Result<Vec<Seen>, TimedOut> {
        self.server.log.wait(&format!("{count} requests"), timeout, seen_at_least(count)).await
    }

    /// Waits until so many requests have ended: answered, cut by their script, or left by their caller.
    pub async fn wait_ended(&self, count: usize, timeout: Duration) -> Result<Vec<Seen>, TimedOut> {
        self.server.log.wait(&format!("{count} ended requests"), timeout, ended_at_least(count)).await
    }

    /// Waits until a caller has left; gives the earliest since the last [`clear`](Self::clear).
    pub async fn wait_disconnect(&self, timeout: Duration) -> Result<Disconnect, TimedOut> {
        let first = |seen: &[&Seen]| seen.iter().filter_map(|one| one.disconnected).min_by_key(|one| one.at);
        self.server.log.wait("a disconnect", timeout, first).await
    }

    /// Waits until so many callers have left; gives their requests.
    pub async fn wait_gone(&self, count: usize, timeout: Duration) -> Result<Vec<Seen>, TimedOut> {
        let gone = |seen: &[&Seen]| {
            let gone: Vec<_> =
                seen.iter().filter(|one| one.disconnected.is_some()).map(|one| (*one).clone()).collect();
            (gone.len() >= count).then_some(gone)
        };
        self.server.log.wait(&format!("{count} callers to leave"), timeout, gone).await
    }

    /// Waits until some request has been sent so many tokens.
    pub async fn wait_tokens(&self, count: usize, timeout: Duration) -> Result<Seen, TimedOut> {
        let first =
            |seen: &[&Seen]| seen.iter().find(|one| one.tokens_sent >= count).map(|one| (*one).clone());
        self.server.log.wait(&format!("{count} tokens"), timeout, first).await
    }

    /// Cuts every open connection, and goes on listening.
    pub fn cut_connections(&self) {
        self.server.cut.notify_one();
    }

    /// Stops listening and cuts every connection, as a server that dies.
    pub async fn stop_listening(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // Ends as soon as the listener and the connections are dropped.
            task.await.ok();
        }
    }

    /// Listens again, on the same port.
    pub async fn listen_again(&self) -> io::Result<()> {
        self.stop_listening().await;
        let listener = TcpListener::bind(self.addr).await?;
        let task = tokio::spawn(accept(listener, Arc::clone(&self.server)));
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}
