//! The server: connections, heads and bodies in, scripted replies out. HTTP/1.1 by hand, so that a test decides about every byte.

mod body;
mod conn;
mod frame;
mod head;
mod perform;
mod socket;

use crate::api::World;
use crate::api::names::Name;
use crate::api::routes::path;
use crate::go::fields::{self, Kind, Shape};
use crate::log::{Log, is_probe};
use crate::script::{On, Script};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) world: World,
    pub(crate) log: Log,
    /// Rung to cut every connection.
    pub(crate) cut: Notify,
    default: Arc<Script>,
    plain: Arc<Script>,
    scripts: RwLock<Arc<Vec<Held>>>,
    connections: AtomicU64,
}

#[derive(Debug)]
struct Held {
    on: On,
    script: Arc<Script>,
    left: AtomicUsize,
}

impl Server {
    pub(crate) fn new(world: World, log: Log, default: Script) -> Self {
        Self {
            world,
            log,
            cut: Notify::new(),
            default: Arc::new(default),
            plain: Arc::default(),
            scripts: RwLock::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// Sets a script before all others of its kind.
    pub(crate) fn script(&self, on: On, script: Script) {
        let left = AtomicUsize::new(script.times.unwrap_or(usize::MAX));
        let on = match on {
            On::Model(name) => On::Model(key(&name)),
            other => other,
        };
        let mut scripts = self.scripts.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = vec![Held { on, script: Arc::new(script), left }];
        new.extend(scripts.iter().map(|held| Held {
            on: held.on.clone(),
            script: Arc::clone(&held.script),
            left: AtomicUsize::new(held.left.load(Ordering::Relaxed)),
        }));
        *scripts = Arc::new(new);
    }

    pub(crate) fn forget_scripts(&self) {
        *self.scripts.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    /// The script for a request. Probes heed none but those for their path: a gateway's health checks go on.
    fn pick(&self, method: &str, target: &str, body: &[u8]) -> Arc<Script> {
        let probe = is_probe(method, target);
        let otherwise = || Arc::clone(if probe { &self.plain } else { &self.default });
        let scripts = Arc::clone(&self.scripts.read().unwrap_or_else(PoisonError::into_inner));
        if scripts.is_empty() {
            return otherwise();
        }
        let model = scripts.iter().any(|held| matches!(held.on, On::Model(_))).then(|| model_of(body));
        let prompt = scripts.iter().any(|held| matches!(held.on, On::Prompt(_))).then(|| asked(body));
        let path = path(target);
        let fits = |rank: u8, held: &Held| match &held.on {
            On::Prompt(text) => rank == 0 && !probe && prompt.as_ref().is_some_and(|all| all.contains(text)),
            On::Model(name) => rank == 1 && !probe && model.as_ref() == Some(name),
            On::Path(wanted) => rank == 2 && wanted == path,
            On::Any => rank == 3 && !probe,
        };
        let take = |held: &&Held| {
            held.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
                usize::MAX => Some(left),
                left => left.checked_sub(1),
            })
        };
        let ranked = (0..4).flat_map(|rank| scripts.iter().filter(move |held| fits(rank, held)));
        ranked
            .into_iter()
            .find(|held| take(held).is_ok())
            .map_or_else(otherwise, |held| Arc::clone(&held.script))
    }
}

fn key(model: &str) -> String {
    Name::parse(model).map_or_else(|| model.to_owned(), |name| name.key())
}

fn model_of(body: &[u8]) -> String {
    const SHAPE: Shape = Shape {
        name: "Request",
        fields: &[("model", Kind::Any), ("name", Kind::Any), ("source", Kind::Any)],
    };
    let fields = fields::read(body, &SHAPE).unwrap_or_default();
    let model = fields.model();
    key(if model.is_empty() { fields.text("source") } else { model })
}

/// What a request asks: its prompt, or the last turn of a user.
pub(crate) fn asked(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let turns = body.get("messages").and_then(Value::as_array);
    let user = |turn: &&Value| turn.get("role").and_then(Value::as_str) == Some("user");
    let turn = turns.and_then(|turns| turns.iter().rev().find(user)).and_then(|turn| turn.get("content"));
    body.get("prompt").or(turn).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Accepts until it is dropped; its connections end with it.
pub(crate) async fn accept(listener: TcpListener, server: Arc<Server>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Without a descriptor there is nothing to accept; the next caller may have more luck.
                let Ok((stream, _)) = accepted else { tokio::task::yield_now().await; continue };
                stream.set_nodelay(true).ok();
                let id = server.connections.fetch_add(1, Ordering::Relaxed) + 1;
                connections.spawn(conn::serve(stream, Arc::clone(&server), id));
            }
            Some(_) = connections.join_next() => {}
            () = server.cut.notified() => connections.shutdown().await,
        }
    }
}
