//! A listener with a tiny handler: who is taken, who makes room, and how long anybody is waited for.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body::{Body, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::clock::Millis;
use super::{Answering, Bell, ConnState, Deadlines, Doors, Handler, InFlight, Reject, Settings, Verb, serve};

const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough that only what never comes runs into it.
const LONG: Millis = 600_000;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Nobody is waited for less than this test's patience.
const PATIENT: Deadlines = Deadlines {
    first: LONG,
    head: LONG,
    idle: LONG,
    body: LONG,
    body_most: LONG,
    body_silence: LONG,
    write_stall: LONG,
    linger: LONG,
};

/// Says `ok`, at once or once it may.
#[derive(Default)]
struct Tiny {
    holds: bool,
    began: Notify,
    goes_on: Notify,
}

struct Word(Option<InFlight>);

impl Body for Word {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|_| Ok(Frame::data(Bytes::from_static(b"ok")))))
    }
}

impl Handler for Tiny {
    type Body = Word;

    fn answer(self: &Arc<Self>, state: Arc<ConnState>, _: SocketAddr, _: Parts) -> Answering<Word> {
        let own = Arc::clone(self);
        own.began.notify_one();
        Box::pin(async move {
            if own.holds {
                own.goes_on.notified().await;
            }
            let close = !state.is_whole();
            let mut response = Response::new(Word(Some(InFlight::new(state))));
            if close {
                response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }

    fn rejected(&self, _: SocketAddr, reject: Reject, verb: Verb) -> Vec<u8> {
        format!("{} {verb:?}", reject.status.as_u16()).into_bytes()
    }

    fn largest_body(&self) -> usize {
        1 << 20
    }

    fn is_exempt(&self, peer: IpAddr) -> bool {
        peer == IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9))
    }
}

struct Running {
    address: SocketAddr,
    handler: Arc<Tiny>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(handler: Tiny, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, handler) = (listener.local_addr().unwrap(), Arc::new(handler));
        let never = std::future::pending::<()>;
        let own = Arc::clone(&handler);
        let task = tokio::spawn(async move {
            serve(Doors::plain(listener), settings, own, Bell::default(), never(), never()).await;
        });
        Self { address, handler, task }
    }

    /// Connects from an address of this machine.
    async fn from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Connects, asks, and reads until the answer is whole.
    async fn served(&self, last: u8) -> TcpStream {
        let mut stream = self.from(last).await;
        assert!(asks(&mut stream).await, "refused");
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Is a request answered on this connection?
async fn asks(stream: &mut TcpStream) -> bool {
    stream.write_all(GET).await.is_ok() && is_answered(stream).await
}

async fn is_answered(stream: &mut TcpStream) -> bool {
    let mut got = Vec::new();
    while !got.ends_with(b"ok\r\n0\r\n\r\n") && !got.ends_with(b"\r\n\r\nok") {
        match tokio::time::timeout(PATIENCE, stream.read_buf(&mut got)).await.expect("silence") {
            Ok(1..) => {}
            _ => return false,
        }
    }
    true
}

/// What comes until the listener closes.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    let _reset = ended.expect("it stays open");
    String::from_utf8(rest).unwrap()
}

fn settings(max_connections: usize, max_per_address: Option<usize>, makes_room: bool) -> Settings {
    Settings { max_connections, max_per_address, makes_room, deadlines: PATIENT }
}

#[tokio::test]
async fn an_address_has_its_share_and_no_more() {
    let gate = Running::start(Tiny::default(), settings(100, Some(2), false)).await;
    let (first, _second) = (gate.served(1).await, gate.served(1).await);
    assert_eq!(until_closed(&mut gate.from(1).await).await, "", "a third is refused");
    let _other = gate.served(2).await;
    let mut exempt = Vec::new();
    for _ in 0..5 {
        exempt.push(gate.served(9).await);
    }
    drop(first);
    // As soon as it is noticed.
    let again = async { while !asks(&mut gate.from(1).await).await {} };
    tokio::time::timeout(PATIENCE, again).await.expect("its place is lost");
}

#[tokio::test]
async fn beyond_the_cap_in_all_callers_wait_for_a_place() {
    let gate = Running::start(Tiny::default(), settings(2, None, false)).await;
    let (first, mut second) = (gate.served(1).await, gate.served(2).await);
    let mut third = gate.from(3).await;
    third.write_all(GET).await.unwrap();
    assert!(asks(&mut second).await, "those who are in go on");
    let early = tokio::time::timeout(Duration::from_millis(50), is_answered(&mut third)).await;
    assert!(early.is_err(), "taken beyond the cap");
    drop(first);
    assert!(is_answered(&mut third).await);
}

#[tokio::test]
async fn who_idles_longest_makes_room() {
    for per_address in [None, Some(2)] {
        let most = if per_address.is_some() { 100 } else { 2 };
        let gate = Running::start(Tiny::default(), settings(most, per_address, true)).await;
        let mut oldest = gate.served(1).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut younger = gate.served(1).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut newest = gate.served(1).await;
        assert_eq!(until_closed(&mut oldest).await, "", "closed without a word");
        assert!(asks(&mut younger).await && asks(&mut newest).await, "the others stay");
        // Who has begun a head and does not end it has asked nothing either.
        for stream in [&mut younger, &mut newest] {
            stream.write_all(b"GET / HT").await.unwrap();
        }
        drop(gate.served(1).await);
    }
}

#[tokio::test]
async fn nobody_who_is_being_answered_makes_room() {
    let holding = Tiny { holds: true, ..Tiny::default() };
    let gate = Running::start(holding, settings(1, None, true)).await;
    let mut busy = gate.from(1).await;
    busy.write_all(GET).await.unwrap();
    gate.handler.began.notified().await;
    let mut next = gate.from(1).await;
    next.write_all(GET).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), next.read_u8()).await;
    assert!(early.is_err());
    gate.handler.goes_on.notify_one();
    assert!(is_answered(&mut busy).await);
    gate.handler.goes_on.notify_one();
    assert!(is_answered(&mut next).await, "who was answered idles, and makes room");
}

#[tokio::test]
async fn silence_has_its_end_in_every_phase() {
    let short = 1;
    for (deadlines, sends, said) in [
        (Deadlines { first: short, ..PATIENT }, "", ""),
        (Deadlines { head: short, ..PATIENT }, "GET / HTTP/1.1\r\n", "408 Other"),
        (Deadlines { head: short, ..PATIENT }, "HEAD / HTTP/1.1\r\n", "408 Head"),
        (Deadlines { head: short, ..PATIENT }, "HE", "408 Unread"),
        (
            Deadlines { body: short, ..PATIENT },
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh",
            "408 Other",
        ),
        (
            Deadlines { body_silence: short, ..PATIENT },
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5",
            "408 Other",
        ),
    ] {
        // A body that nobody reads would be answered at once.
        let tiny = Tiny { holds: true, ..Tiny::default() };
        let deadlines = Deadlines { linger: short, ..deadlines };
        let gate = Running::start(tiny, Settings { deadlines, ..settings(10, None, false) }).await;
        let mut stream = gate.from(1).await;
        stream.write_all(sends.as_bytes()).await.unwrap();
        assert_eq!(until_closed(&mut stream).await, said, "{sends:?}");
    }
    let deadlines = Deadlines { idle: short, ..PATIENT };
    let gate = Running::start(Tiny::default(), Settings { deadlines, ..settings(10, None, false) }).await;
    let mut stream = gate.served(1).await;
    assert_eq!(until_closed(&mut stream).await, "");
}

/// What is behind an early answer is read for a while, up to the largest body, and no longer.
#[tokio::test]
async fn what_comes_behind_an_early_answer_is_bounded() {
    for (linger, sends) in [(200, 1_000), (LONG, 64 << 20)] {
        let deadlines = Deadlines { linger, ..PATIENT };
        let gate = Running::start(Tiny::default(), Settings { deadlines, ..settings(10, None, false) }).await;
        let stream = gate.from(1).await;
        let (mut reading, mut writing) = stream.into_split();
        writing.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n").await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"ok\r\n0\r\n\r\n") {
            reading.read_buf(&mut got).await.unwrap();
        }
        let sending = async {
            let piece = vec![b'x'; 1_000];
            for _ in 0..sends / piece.len() {
                if writing.write_all(&piece).await.is_err() {
                    return;
                }
            }
            // Closed all the same, though this end is open.
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, sending).await.expect("it is taken for ever");
    }
}
