//! A connection's socket: reading into a buffer, writing, and noticing at any time that the caller has left.
//!
//! As Go's server does, it reads while it answers: the end of the caller's sending side counts as leaving.

use bytes::BytesMut;
use std::io::{Error, ErrorKind};
use std::time::Duration;
use tokio::net::TcpStream;

/// Pipelined bytes kept while an answer is under way; beyond them the connection is no longer read.
const AHEAD: usize = 1 << 20;

/// The caller left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    pub(super) reset: bool,
}

impl From<Error> for Gone {
    fn from(error: Error) -> Self {
        Self { reset: matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) }
    }
}

/// The socket and what was read but not used.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    pub(super) buf: BytesMut,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buf: BytesMut::with_capacity(8 * 1024) }
    }

    /// Reads more.
    pub(super) async fn fill(&mut self) -> Result<(), Gone> {
        loop {
            self.stream.readable().await?;
            self.buf.reserve(4 * 1024);
            match self.stream.try_read_buf(&mut self.buf) {
                Ok(0) => return Err(Gone { reset: false }),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends when the caller has left.
    pub(super) async fn gone(&mut self) -> Gone {
        loop {
            if self.buf.len() > AHEAD {
                return std::future::pending().await;
            }
            if let Err(gone) = self.fill().await {
                return gone;
            }
        }
    }

    /// Waits, unless the caller leaves.
    pub(super) async fn wait(&mut self, time: Duration) -> Result<(), Gone> {
        if time.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            gone = self.gone() => Err(gone),
        }
    }

    /// Writes all of it, at most `split` bytes at a time.
    pub(super) async fn send(&mut self, bytes: &[u8], split: Option<usize>) -> Result<(), Gone> {
        match split {
            None => self.write(bytes).await,
            Some(most) => {
                for part in bytes.chunks(most.max(1)) {
                    self.write(part).await?;
                    // Lets the other side read it by itself.
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        // A stream without gaps never waits: let the other connections have their turn.
        tokio::task::coop::consume_budget().await;
        Ok(())
    }

    /// Waits for room, and notices a caller who leaves with its window shut.
    async fn writable(&mut self) -> Result<(), Gone> {
        loop {
            tokio::select! {
                room = self.stream.writable() => return Ok(room?),
                read = self.stream.readable(), if self.buf.len() <= AHEAD => {
                    read?;
                    self.buf.reserve(4 * 1024);
                    match self.stream.try_read_buf(&mut self.buf) {
                        Ok(0) => return Err(Gone { reset: false }),
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Closes with a reset.
    pub(super) async fn reset(mut self) {
        // A reset throws away what the kernel has not sent yet, and it cannot be asked: a moment is enough on loopback.
        self.wait(Duration::from_millis(20)).await.ok();
        self.stream.set_zero_linger().ok();
    }

    /// Closes without a reset even though the caller may still be sending.
    pub(super) async fn close(mut self) {
        use tokio::io::AsyncWriteExt as _;
        self.stream.shutdown().await.ok();
        self.buf.clear();
        // Unread bytes would turn the close into a reset and take the answer with them.
        tokio::time::timeout(Duration::from_millis(500), self.gone()).await.ok();
    }
}
