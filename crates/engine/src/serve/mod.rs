//! The HTTP side: accept, answer, stop.
//!
//! Takes a bound listener and promises to answer until it is told to stop; then it lets what is nearly done
//! come to its end and cuts the rest. It refuses requests that a web page of another origin may have caused.

pub mod answer;
pub mod guard;
pub mod routes;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::infer::Engine;
use crate::library::Library;
use crate::log;

/// How long answers may go on after the signal to stop.
const GRACE: Duration = Duration::from_secs(2);
/// How long a caller may take to send a request's head.
const HEAD: Duration = Duration::from_secs(30);

/// What every request needs.
#[derive(Debug)]
pub struct Server {
    /// The models.
    pub library: Library,
    /// The worker.
    pub engine: Engine,
    /// Serve callers of other hosts too.
    pub exposed: bool,
}

/// Serves until `stop` is done.
pub async fn run(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, Arc::clone(&server), stopped.clone()));
                }
                Err(error) => {
                    log::warn(format_args!("accept failed: {error}"));
                    // Out of file descriptors, mostly: without a pause this loop would burn a core.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    server.engine.stop();
    stopping.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        // Dropping a connection drops its answer, which tells the worker that nobody waits.
        connections.shutdown().await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    server: Arc<Server>,
    mut stopped: watch::Receiver<bool>,
) {
    // A token a packet: latency is what streaming is for.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(routes::answer(&server, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // A caller that shuts its sending side has left, as with Ollama.
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result
        && (error.is_parse() || error.is_user())
    {
        log::info(format_args!("peer={peer} connection ended: {error}"));
    }
}
