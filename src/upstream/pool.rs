//! Idle connections to the upstream, the youngest first.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::net::TcpStream;

use crate::listen::clock::Millis;

/// More than this many idle ones are closed.
const MOST: usize = 128;
/// Older ones are closed: Go's server keeps its own for ever, balancers in between do not.
const OLDEST: Millis = 30_000;

#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<VecDeque<(TcpStream, Millis)>>,
    authority: OnceLock<String>,
}

impl Pool {
    /// A connection that is alive and silent.
    pub(super) fn take(&self, now: Millis) -> Option<TcpStream> {
        loop {
            let (stream, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back()?;
            if now.saturating_sub(since) > OLDEST {
                continue;
            }
            // Bytes that nobody asked for would be read as the next caller's answer.
            if matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
    }

    pub(super) fn give(&self, stream: TcpStream, since: Millis) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The oldest goes, which nobody took for longest: a young one is alive.
        if idle.len() >= MOST {
            idle.pop_front();
        }
        idle.push_back((stream, since));
    }

    /// The Host header, made once.
    pub(super) fn authority(&self, make: impl FnOnce() -> String) -> &str {
        self.authority.get_or_init(make)
    }
}
