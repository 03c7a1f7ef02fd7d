//! Acts a script out: from a reply to bytes, in time, up to the cut that the script asks for.

use super::conn::{Conn, Next};
use super::frame::{END, Framing, chunk};
use super::head::Head;
use super::socket::Gone;
use crate::api::Ask;
use crate::api::answer::Answer;
use crate::api::reply::{NDJSON, Reply, Whole, error_object};
use crate::script::{End, Raw, Script, Then};
use bytes::Bytes;
use std::time::Duration;

/// What a script does at a place in a stream.
enum Turn {
    Line,
    Hold,
    Die,
    Error,
}

fn turn(script: &Script, at: usize, last: usize) -> Turn {
    let here = |place: Option<usize>| place.is_some_and(|place| place.min(last) == at);
    if here(script.hold_after) {
        Turn::Hold
    } else if here(script.die_after) {
        Turn::Die
    } else if here(script.error_at) {
        Turn::Error
    } else {
        Turn::Line
    }
}

fn end(script: &Script) -> Next {
    match script.die {
        End::Close => Next::Close,
        End::Reset => Next::Reset,
    }
}

impl Conn {
    pub(super) async fn perform(&mut self, head: &Head, body: &Bytes, script: &Script) -> Result<Next, Gone> {
        if script.never {
            return Err(self.socket.gone().await);
        }
        self.socket.wait(script.head_delay).await?;
        if let Some(raw) = &script.raw {
            return self.raw(raw, script).await;
        }
        if let Some(whole) = scripted(script) {
            return self.whole(&whole, head, script).await;
        }
        let ask = Ask {
            method: &head.method,
            target: &head.target,
            host: head.host(),
            origin: head.value("origin"),
            body,
            script,
        };
        match self.server.world.answer(&ask) {
            Reply::Whole(whole) => self.whole(&whole, head, script).await,
            Reply::Lines(lines) => self.lines(&lines, head, script).await,
            Reply::Model(answer) if answer.stream => self.stream(&answer, head, script).await,
            Reply::Model(answer) => self.at_once(&answer, head, script).await,
            Reply::Abrupt(abrupt) => {
                self.socket.send(&abrupt.bytes(), None).await?;
                Ok(Next::Close)
            }
        }
    }

    async fn raw(&mut self, raw: &Raw, script: &Script) -> Result<Next, Gone> {
        for (at, piece) in raw.pieces.iter().enumerate() {
            if at > 0 {
                self.socket.wait(script.gap).await?;
            }
            self.out.clear();
            self.out.extend_from_slice(piece);
            self.flush(script, 1).await?;
        }
        match raw.then {
            Then::Keep => Ok(Next::Keep),
            Then::Close => Ok(Next::Close),
            Then::Reset => Ok(Next::Reset),
            Then::Hold => Err(self.socket.gone().await),
        }
    }

    async fn whole(&mut self, whole: &Whole, head: &Head, script: &Script) -> Result<Next, Gone> {
        self.out.clear();
        let keep = self.writer.whole(&mut self.out, whole, head, script);
        self.flush(script, 0).await?;
        Ok(if keep { Next::Keep } else { Next::Close })
    }

    /// Starts a stream; says whether its body is chunked.
    fn begin(&mut self, head: &Head, script: &Script) -> bool {
        let framing = if head.http10 { Framing::Close } else { Framing::Chunked };
        self.out.clear();
        let fields = [("Content-Type", NDJSON)].into_iter();
        self.writer.head(&mut self.out, (200, framing), fields, (head, script));
        framing == Framing::Chunked
    }

    async fn lines(&mut self, lines: &[String], head: &Head, script: &Script) -> Result<Next, Gone> {
        let chunked = self.begin(head, script);
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                self.socket.wait(script.gap).await?;
            }
            self.put(format!("{line}\n").as_bytes(), chunked);
            self.flush(script, 1).await?;
        }
        self.finish(head, script, chunked).await
    }

    fn put(&mut self, data: &[u8], chunked: bool) {
        if chunked {
            chunk(&mut self.out, data);
        } else {
            self.out.extend_from_slice(data);
        }
    }

    async fn finish(&mut self, head: &Head, script: &Script, chunked: bool) -> Result<Next, Gone> {
        if chunked {
            self.out.extend_from_slice(END);
        }
        self.flush(script, 0).await?;
        Ok(if chunked && head.keep_alive { Next::Keep } else { Next::Close })
    }

    async fn stream(&mut self, answer: &Answer, head: &Head, script: &Script) -> Result<Next, Gone> {
        if script.error_at == Some(0) {
            return self.whole(&Whole::early_error(500, script.error_text()), head, script).await;
        }
        let chunked = self.begin(head, script);
        let last = answer.lines();
        let glue = script.glue.unwrap_or(1).max(1);
        let mut lines = Vec::with_capacity(512);
        let mut pending = 0;
        for at in 0..last {
            match turn(script, at, last) {
                Turn::Line => {}
                other => {
                    return self.broken_off(&other, (at, pending), &mut lines, (answer, head, script)).await;
                }
            }
            if at > 0 {
                self.socket.wait(script.gap).await?;
            }
            let start = lines.len();
            answer.push_line(&mut lines, at);
            if script.malformed_at == Some(at) {
                lines.truncate(start);
                lines.extend_from_slice(b"{\"model\":\"x\",,}\n");
            }
            pending += 1;
            if pending == glue {
                self.put(&lines, chunked);
                lines.clear();
                self.flush(script, pending).await?;
                pending = 0;
            }
        }
        let turn = turn(script, last, last);
        if !matches!(turn, Turn::Line) {
            return self.broken_off(&turn, (last, pending), &mut lines, (answer, head, script)).await;
        }
        self.socket.wait(script.gap).await?;
        if !script.no_done {
            answer.push_last(&mut lines, last);
        }
        if let Some(extra) = &script.extra_line {
            lines.extend_from_slice(extra.as_bytes());
            lines.push(b'\n');
        }
        if !lines.is_empty() {
            self.put(&lines, chunked);
        }
        self.tokens_sent += pending;
        self.finish(head, script, chunked).await
    }

    /// The stream does not get to its end.
    async fn broken_off(
        &mut self,
        turn: &Turn,
        (at, pending): (usize, usize),
        lines: &mut Vec<u8>,
        (answer, head, script): (&Answer, &Head, &Script),
    ) -> Result<Next, Gone> {
        let chunked = !head.http10;
        if matches!(turn, Turn::Error) {
            self.socket.wait(script.gap).await?;
            lines.extend_from_slice(&error_object(script.error_text()));
            lines.push(b'\n');
        }
        if !lines.is_empty() {
            self.put(lines, chunked);
        }
        match turn {
            Turn::Error => {
                self.tokens_sent += pending;
                return self.finish(head, script, chunked).await;
            }
            Turn::Die if script.die_mid_line => {
                let mut line = Vec::new();
                answer.push_line(&mut line, at);
                let size = format!("{:x}\r\n", line.len());
                self.out.extend_from_slice(if chunked { size.as_bytes() } else { b"" });
                self.out.extend_from_slice(line.get(..line.len() / 2).unwrap_or_default());
            }
            _ => {}
        }
        self.flush(script, pending).await?;
        match turn {
            Turn::Hold => Err(self.socket.gone().await),
            _ => Ok(end(script)),
        }
    }

    /// The answer in one object, after the time that its tokens take.
    async fn at_once(&mut self, answer: &Answer, head: &Head, script: &Script) -> Result<Next, Gone> {
        let lines = answer.lines();
        let stop = [script.hold_after, script.die_after, script.error_at].into_iter().flatten().min();
        let tokens = u32::try_from(stop.unwrap_or(lines).min(lines)).unwrap_or(u32::MAX);
        let time = script.gap.checked_mul(tokens).unwrap_or(Duration::MAX);
        if lines == usize::MAX && stop.is_none() || script.hold_after.is_some() {
            return Err(self.socket.gone().await);
        }
        self.socket.wait(time).await?;
        if script.error_at.is_some() {
            return self.whole(&Whole::error(500, script.error_text()), head, script).await;
        }
        let mut body = answer.whole();
        if script.malformed_at.is_some() {
            body.truncate(body.len() / 2);
        }
        let whole = Whole::json(200, body);
        if script.die_after.is_none() {
            return self.whole(&whole, head, script).await;
        }
        if script.die_mid_line {
            self.out.clear();
            self.writer.whole(&mut self.out, &whole, head, script);
            self.out.truncate(self.out.len() - whole.body.len() / 2);
            self.flush(script, 0).await?;
        }
        Ok(end(script))
    }
}

/// A whole answer that the script spells out.
fn scripted(script: &Script) -> Option<Whole> {
    if let Some(to) = &script.redirect {
        return Some(Whole::empty(307).with("Location", to.clone()));
    }
    if script.html {
        let page = "<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>\n";
        return Some(Whole::text(script.status.unwrap_or(502), "text/html", page));
    }
    script.status.map(|status| Whole::error(status, script.error_text()))
}
