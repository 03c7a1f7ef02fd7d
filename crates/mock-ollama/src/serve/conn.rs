//! One connection: request after request until somebody leaves.

use super::Server;
use super::body::take_chunked;
use super::frame::Writer;
use super::head::{Head, Parsed, parse};
use super::socket::{Gone, Socket};
use crate::log::{Disconnect, Phase, Seen, Ticket};
use crate::script::Script;
use bytes::Bytes;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What follows an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Keep,
    Close,
    Reset,
}

/// A connection and the exchange that is under way on it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) socket: Socket,
    pub(super) server: Arc<Server>,
    pub(super) writer: Writer,
    pub(super) out: Vec<u8>,
    pub(super) ticket: Option<Ticket>,
    /// How far the answer has come.
    pub(super) phase: Phase,
    pub(super) tokens_sent: usize,
    id: u64,
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, server: Arc<Server>, id: u64) {
    let mut conn = Conn {
        socket: Socket::new(stream),
        server,
        writer: Writer::default(),
        out: Vec::with_capacity(1_024),
        ticket: None,
        phase: Phase::ReadingBody,
        tokens_sent: 0,
        id,
    };
    loop {
        match conn.request().await {
            Ok(Next::Keep) => {}
            Ok(Next::Close) => return conn.socket.close().await,
            Ok(Next::Reset) => return conn.socket.reset().await,
            Err(Gone { .. }) => return,
        }
    }
}

impl Conn {
    /// Reads a head and answers it.
    async fn request(&mut self) -> Result<Next, Gone> {
        loop {
            if !self.socket.buf.is_empty() {
                match parse(&self.socket.buf) {
                    Parsed::Partial => {}
                    Parsed::Head(head, length) => {
                        drop(self.socket.buf.split_to(length));
                        return self.exchange(head).await;
                    }
                    Parsed::Refused(abrupt) => {
                        self.socket.send(&abrupt.bytes(), None).await?;
                        return Ok(Next::Close);
                    }
                    Parsed::Answered(whole) => {
                        let head = Head { keep_alive: true, ..Head::default() };
                        self.out.clear();
                        self.writer.whole(&mut self.out, &whole, &head, &Script::default());
                        self.socket.send(&self.out, None).await?;
                        return Ok(Next::Close);
                    }
                }
            }
            self.socket.fill().await?;
        }
    }

    async fn exchange(&mut self, head: Head) -> Result<Next, Gone> {
        let begun = Instant::now();
        let id = self.id;
        self.ticket = self.server.log.open(|| seen(&head, id, begun));
        (self.phase, self.tokens_sent) = (Phase::ReadingBody, 0);
        let result = self.answered(&head).await;
        let (phase, tokens_sent, at) = (self.phase, self.tokens_sent, Instant::now());
        self.server.log.note(self.ticket, |seen| match &result {
            Ok(_) => seen.finished_at = Some(at),
            Err(Gone { reset }) => {
                let after = at.saturating_duration_since(begun);
                seen.disconnected = Some(Disconnect { phase, after, at, tokens_sent, reset: *reset });
            }
        });
        result
    }

    async fn answered(&mut self, head: &Head) -> Result<Next, Gone> {
        if head.expects && (head.chunked || head.length > 0) {
            self.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n", None).await?;
        }
        let Some(body) = self.body(head).await? else { return Ok(Next::Close) };
        self.phase = Phase::BeforeHead;
        self.server.log.note(self.ticket, |seen| {
            seen.body = body.clone();
            seen.complete = true;
        });
        let script = self.server.pick(&head.method, &head.target, &body);
        self.perform(head, &body, &script).await
    }

    /// The request's body; `None` if its coding is broken.
    async fn body(&mut self, head: &Head) -> Result<Option<Bytes>, Gone> {
        loop {
            if head.chunked {
                match take_chunked(&mut self.socket.buf) {
                    Ok(None) => {}
                    Ok(done) => return Ok(done),
                    Err(_) => return Ok(None),
                }
            } else if self.socket.buf.len() >= head.length {
                return Ok(Some(self.socket.buf.split_to(head.length).freeze()));
            }
            self.socket.fill().await?;
        }
    }

    /// Sends what was written to the buffer; the head is among it.
    pub(super) async fn flush(&mut self, script: &Script, tokens: usize) -> Result<(), Gone> {
        self.phase = Phase::Answering;
        self.socket.send(&self.out, script.split).await?;
        self.out.clear();
        self.tokens_sent += tokens;
        let sent = self.tokens_sent;
        self.server.log.note(self.ticket, |seen| {
            seen.tokens_sent = sent;
            seen.first_token_at = seen.first_token_at.or_else(|| Some(Instant::now()));
        });
        Ok(())
    }
}

fn seen(head: &Head, connection: u64, head_at: Instant) -> Seen {
    Seen {
        connection,
        method: head.method.clone(),
        target: head.target.clone(),
        headers: head.headers.clone(),
        body: Bytes::new(),
        complete: false,
        head_at,
        first_token_at: None,
        finished_at: None,
        disconnected: None,
        tokens_sent: 0,
    }
}
