//! A caller from outside: each question is bounded in time, follows no redirect, and knows no proxy of the environment.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request};
use tokio::time::Instant;
use ureq::Body;
use ureq::tls::{RootCerts, TlsConfig};

use super::banner::reachable;
use crate::config::Config;

/// One question.
const ONE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are looked at.
const MOST: u64 = 256 << 10;

/// A secret that is never printed.
#[derive(Clone)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// With the key?
    pub(super) keyed: bool,
    pub(super) body: Option<&'a str>,
    pub(super) headers: &'a [(&'static str, &'a str)],
}

impl<'a> Ask<'a> {
    pub(super) const fn get(path: &'a str) -> Self {
        Self { method: "GET", path, keyed: false, body: None, headers: &[] }
    }

    pub(super) const fn post(path: &'a str, body: &'a str) -> Self {
        Self { method: "POST", path, keyed: false, body: Some(body), headers: &[] }
    }

    pub(super) const fn with_key(self, keyed: bool) -> Self {
        Self { keyed, ..self }
    }

    pub(super) const fn with(self, headers: &'a [(&'static str, &'a str)]) -> Self {
        Self { headers, ..self }
    }
}

/// What came.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The gateway's own id of this request: 16 hexadecimal digits.
    pub(super) fn id(&self) -> Option<u64> {
        id_in(&self.headers)
    }

    /// Did somebody else than Portcullis write or carry it? Portcullis names no server.
    pub(super) fn front(&self) -> Option<String> {
        ["server", "via", "cf-ray", "x-served-by"]
            .iter()
            .find_map(|name| self.header(name).map(|value| format!("{name}: {value}")))
    }
}

/// A streamed answer whose head is there.
pub(super) struct Stream {
    pub(super) status: u16,
    pub(super) id: Option<u64>,
    pub(super) body: ureq::BodyReader<'static>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("status", &self.status).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Who answers shows no certificate that holds for this name.
    Certificate(String),
    /// The time is up.
    Late,
    /// Anything else.
    Other(String),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Certificate(why) => write!(f, "the certificate does not hold: {why}"),
            Self::Late => f.write_str("no answer in time"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// Asks one server.
#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: ureq::Agent,
    /// Scheme, host and port, without a slash at the end.
    base: String,
    key: Option<Secret>,
    until: Instant,
}

impl Client {
    /// `roots`: authorities of certificates besides the public ones. `verify` false: the answer may be anybody's, so no key goes with it.
    pub(super) fn new(base: &str, roots: Option<RootCerts>, verify: bool, until: Instant) -> Self {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(roots.unwrap_or(RootCerts::WebPki))
            .disable_verification(!verify)
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(Duration::from_secs(5)))
            .timeout_connect(Some(Duration::from_secs(5)))
            .build()
            .new_agent();
        Self { agent, base: base.to_owned(), key: None, until }
    }

    /// Asks the operators' listener, where there is one whose port is known.
    pub(super) fn operators(config: &Config, until: Instant) -> Option<Self> {
        let address: SocketAddr = config.ops.address.filter(|address| address.port() != 0)?;
        Some(Self::new(&format!("http://{}", reachable(address)), None, true, until))
    }

    pub(super) fn with_key(mut self, key: Option<Secret>) -> Self {
        self.key = key;
        self
    }

    /// What is left of `most`.
    fn left(&self, most: Duration) -> Duration {
        self.until.saturating_duration_since(Instant::now()).min(most)
    }

    /// A whole answer.
    pub(super) fn ask(&self, ask: Ask<'_>) -> Result<Answer, NoAnswer> {
        let (parts, body) = self.send(ask, self.left(ONE), None)?.into_parts();
        let mut bytes = Vec::new();
        body.into_with_config()
            .limit(MOST + 1)
            .reader()
            .take(MOST)
            .read_to_end(&mut bytes)
            .map_err(|error| io(&error))?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: bytes })
    }

    /// A stream, once its head came: within `head`, and to be read within `all`.
    pub(super) fn stream(&self, ask: Ask<'_>, head: Duration, all: Duration) -> Result<Stream, NoAnswer> {
        let (parts, body) = self.send(ask, self.left(all), Some(head))?.into_parts();
        let body = body.into_with_config().limit(8 << 20).reader();
        Ok(Stream { status: parts.status.as_u16(), id: id_in(&parts.headers), body })
    }

    fn send(
        &self,
        ask: Ask<'_>,
        all: Duration,
        head: Option<Duration>,
    ) -> Result<http::Response<Body>, NoAnswer> {
        if all.is_zero() {
            return Err(NoAnswer::Late);
        }
        let other = |error: http::Error| NoAnswer::Other(error.to_string());
        let mut request = Request::builder()
            .method(Method::from_bytes(ask.method.as_bytes()).map_err(|error| other(error.into()))?)
            .uri(format!("{}{}", self.base, ask.path));
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if let Some(Secret(key)) = self.key.as_ref().filter(|_| ask.keyed) {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = ask.body.map(str::to_owned);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let answered = match body {
            None => self.run(request.body(()).map_err(other)?, all, head),
            Some(body) => self.run(request.body(body).map_err(other)?, all, head),
        };
        answered.map_err(no_answer)
    }

    fn run<S: ureq::AsSendBody>(
        &self,
        request: Request<S>,
        all: Duration,
        head: Option<Duration>,
    ) -> Result<http::Response<Body>, ureq::Error> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(all))
            .timeout_recv_response(head)
            .build();
        self.agent.run(request)
    }
}

fn id_in(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("x-request-id")?.to_str().ok()?;
    if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None }
}

fn no_answer(error: ureq::Error) -> NoAnswer {
    match error {
        ureq::Error::Timeout(_) => NoAnswer::Late,
        ureq::Error::Rustls(error) => tls(&error),
        ureq::Error::Io(error) => io(&error),
        ureq::Error::HostNotFound => NoAnswer::Other("no such host".into()),
        other => NoAnswer::Other(other.to_string()),
    }
}

fn io(error: &std::io::Error) -> NoAnswer {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => tls(inner),
        None if error.kind() == std::io::ErrorKind::TimedOut => NoAnswer::Late,
        // The kind says it without the address, which a reader has in front of them.
        None => NoAnswer::Other(error.kind().to_string()),
    }
}

fn tls(error: &rustls::Error) -> NoAnswer {
    match error {
        rustls::Error::InvalidCertificate(why) => NoAnswer::Certificate(why.to_string()),
        other => NoAnswer::Other(format!("TLS: {other}")),
    }
}

/// One plain GET at an address, a link-local one with its interface included; what came of its head and body within two seconds.
pub(super) fn knock(at: SocketAddr, path: &str) -> Option<String> {
    const SHORT: Duration = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&at, SHORT).ok()?;
    stream.set_read_timeout(Some(SHORT)).ok()?;
    stream.set_write_timeout(Some(SHORT)).ok()?;
    // A scope id has no place in a Host field.
    let host = SocketAddr::new(at.ip(), at.port());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let (mut bytes, begun) = (Vec::new(), Instant::now());
    let mut piece = [0; 2048];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if bytes.len() > 8 << 10 || begun.elapsed() > SHORT {
            break;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
