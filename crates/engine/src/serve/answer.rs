//! Bodies of answers: a whole text, or lines that the worker has yet to write.
//!
//! Lines are made as the connection asks for them; dropping the body, as hyper does when the caller leaves,
//! drops the guard and so stops the worker.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use crate::infer::job::Event;
use crate::infer::outlet::Guard;
use crate::wire::Refusal;
use crate::wire::reply::{self, Dialect};

/// Up to here Go's server knows the length before it sends; longer answers come in chunks.
const BUFFERED: usize = 2048;

const JSON: &str = "application/json; charset=utf-8";
const LINES: &str = "application/x-ndjson";

/// The body of an answer.
#[derive(Debug)]
pub enum Answer {
    /// A whole text.
    Whole(Option<Bytes>),
    /// Lines to come.
    Lines(Box<Lines>),
}

/// Lines to come.
#[derive(Debug)]
pub struct Lines {
    dialect: Dialect,
    model: String,
    first: Option<Event>,
    events: mpsc::Receiver<Event>,
    ended: bool,
    _guard: Guard,
}

impl Lines {
    /// Lines of a generation whose first event has come.
    pub fn new(
        dialect: Dialect,
        model: String,
        first: Event,
        events: mpsc::Receiver<Event>,
        guard: Guard,
    ) -> Self {
        Self { dialect, model, first: Some(first), events, ended: false, _guard: guard }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.first.take() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.events.poll_recv(context),
        }
    }

    fn line(&mut self, event: Option<Event>) -> String {
        match event {
            Some(Event::Piece(text, logprobs)) => {
                return reply::piece(self.dialect, &self.model, &text, &logprobs);
            }
            // Vectors are never asked for as lines.
            Some(Event::Vectors(_)) => return String::new(),
            _ => self.ended = true,
        }
        match event {
            Some(Event::Done(summary)) => reply::last(self.dialect, &self.model, "", &[], &summary),
            Some(Event::Failed(refusal)) => reply::error(&refusal.text),
            _ => reply::error("an error was encountered while running the model: unexpected EOF"),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Lines(lines) if lines.ended => Poll::Ready(None),
            Self::Lines(lines) => lines.poll_event(context).map(|event| {
                let mut line = lines.line(event);
                line.push('\n');
                Some(Ok(Frame::data(line.into())))
            }),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(text)) if text.len() <= BUFFERED => SizeHint::with_exact(text.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

/// A whole answer of any type.
pub fn whole(status: u16, kind: &'static str, text: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(text.into())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A JSON answer.
pub fn json(text: String) -> Response<Answer> {
    whole(200, JSON, text)
}

/// A refusal.
pub fn refused(refusal: &Refusal) -> Response<Answer> {
    whole(refusal.status, JSON, reply::error(&refusal.text))
}

/// A stream of lines.
pub fn lines(lines: Lines) -> Response<Answer> {
    let mut response = Response::new(Answer::Lines(Box::new(lines)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    response
}

/// No body at all.
pub fn empty(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(None));
    *response.status_mut() = status;
    response
}
