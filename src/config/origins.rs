//! `listen.origins`: which web origins may read our answers.
//!
//! Takes origins and patterns as `OLLAMA_ORIGINS` has them (`*`, `http://localhost:*`, `chrome-extension://*`, `https://*.example.com`).
//! Promises a comparison by parts, as browsers write them: scheme and host without case, a default port left out (RFC 6454 section 6.1). So
//! a `*` stands for a piece of a host or for a port and never for anything else: Ollama compares beginnings and ends of the whole text.
//! Refuses by name what no browser sends, since it would never match, and patterns that would let in hosts of others.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Who may read answers from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Any origin, `null` too.
    Any,
    /// These; none by default.
    Only(Vec<OriginPattern>),
}

impl Origins {
    /// Reads a list; for what is none of it, the value and what to write instead.
    pub(super) fn parse(list: &[String]) -> (Self, Vec<(String, &'static str)>) {
        if list.iter().any(|item| item == "*") {
            return (Self::Any, Vec::new());
        }
        let (mut patterns, mut faults) = (Vec::new(), Vec::new());
        for item in list {
            match OriginPattern::parse(item) {
                Ok(pattern) => patterns.push(pattern),
                Err(why) => faults.push((item.clone(), why)),
            }
        }
        (Self::Only(patterns), faults)
    }

    /// May this origin read our answers?
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(list) => {
                !list.is_empty()
                    && Parts::of(origin).is_some_and(|parts| list.iter().any(|own| own.matches(&parts)))
            }
        }
    }
}

/// Is an origin that of the server that was asked, by the `Host` of the request? Behind a proxy that ends TLS nobody knows the scheme, so it
/// is not compared.
pub fn is_same_host(origin: &str, host: &str) -> bool {
    Parts::of(origin).is_some_and(|own| {
        let named = [own.scheme, "://", host].concat();
        Parts::of(&named).is_some_and(|asked| {
            own.is_web() && asked.host.eq_ignore_ascii_case(own.host) && asked.port == own.port
        })
    })
}

/// An origin that was sent.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'o> {
    scheme: &'o str,
    /// Empty in `file://`.
    host: &'o str,
    /// But the scheme's own.
    port: Option<u16>,
}

impl<'o> Parts<'o> {
    fn of(text: &'o str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'\\' | b'?' | b'#' | b'@' | b'*');
        if !is_scheme(scheme) || !rest.bytes().all(plain) {
            return None;
        }
        let (host, port) = split_port(rest)?;
        let port = port.map(|digits| number(digits).ok_or(())).transpose().ok()?;
        let parts = Self { scheme, host, port: port.filter(|port| !is_default(scheme, *port)) };
        (!host.is_empty() || !parts.is_web()).then_some(parts)
    }

    fn is_web(&self) -> bool {
        is_web(self.scheme)
    }
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: String,
    host: Host,
    port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    Only(String),
    /// `192.168.1.*`: addresses that begin so.
    Net(String),
    /// `*.example.com`: hosts below it, however deep.
    Below(String),
    /// `app-*.example.com`: within one label.
    Label(String, String),
    /// `obsidian.md*`, of schemes without a web: whatever begins so.
    Begins(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Any,
    /// `None`: the scheme's own.
    Only(Option<u16>),
}

impl OriginPattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.eq_ignore_ascii_case("null") {
            return Err("pages without an origin send it, anybody's: only * allows them");
        }
        let (scheme, rest) =
            text.split_once("://").ok_or("write the scheme too, as in https://app.example")?;
        if !is_scheme(scheme) {
            return Err("a scheme is a name such as https; it cannot hold a *");
        }
        if !rest.is_ascii() {
            return Err("browsers send such a name in its ASCII form, which begins with xn--");
        }
        if !rest.bytes().all(|b| b.is_ascii_graphic()) || rest.contains(['/', '\\', '?', '#', '@']) {
            return Err("an origin is scheme, host and port alone: leave out the path and everything else");
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) =
            split_port(rest).ok_or("an IPv6 address stands in brackets, as in http://[::1]:*")?;
        let host = host.to_ascii_lowercase();
        let port = match port {
            Some("*") => Port::Any,
            Some(digits) => {
                let port = number(digits).ok_or("a port is a number up to 65535, or *")?;
                Port::Only(Some(port).filter(|port| !is_default(&scheme, *port)))
            }
            // As in Ollama, a * at the end stands for whatever follows.
            None if host.ends_with('*') => Port::Any,
            None => Port::Only(None),
        };
        let host = if is_web(&scheme) { web_host(&host)? } else { other_host(&host)? };
        Ok(Self { scheme, host, port })
    }

    fn matches(&self, origin: &Parts<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(origin.scheme)
            && (self.port == Port::Any || self.port == Port::Only(origin.port))
            && self.host.matches(origin.host)
    }
}

impl Host {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(own) => own.eq_ignore_ascii_case(host),
            Self::Net(start) => host.starts_with(start.as_str()) && host.parse::<Ipv4Addr>().is_ok(),
            Self::Begins(start) => between(host, start, "").is_some(),
            Self::Below(end) => between(host, "", end).is_some_and(|name| !name.is_empty()),
            Self::Label(start, end) => {
                between(host, start, end).is_some_and(|piece| !piece.is_empty() && !piece.contains('.'))
            }
        }
    }
}

/// What stands between such a beginning and such an end.
fn between<'h>(host: &'h str, start: &str, end: &str) -> Option<&'h str> {
    let rest = host.get(..start.len()).filter(|own| own.eq_ignore_ascii_case(start))?.len();
    let until = host.len().checked_sub(end.len()).filter(|until| *until >= rest)?;
    host.get(until..).filter(|own| own.eq_ignore_ascii_case(end))?;
    host.get(rest..until)
}

/// The host of `http` and `https`: what names somebody in the net.
fn web_host(host: &str) -> Result<Host, &'static str> {
    if host.is_empty() {
        return Err("it names no host");
    }
    if host == "*" {
        return Ok(Host::Any);
    }
    let Some((start, end)) = host.split_once('*') else { return exact(host).map(Host::Only) };
    let named =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !named(start) || !named(end) {
        return Err("a host holds letters, digits, hyphens and dots, and one * at most");
    }
    match (start, end) {
        (net, "") if is_net(net) => Ok(Host::Net(net.to_owned())),
        (_, "") => Err("a * at the end of a host would let in hosts of others; for any port write :*"),
        ("", below) if below.len() > 1 && below.starts_with('.') => Ok(Host::Below(below.to_owned())),
        ("", _) => Err("it would let in hosts of others; for all below a name write *.example.com"),
        (start, end) if end.contains('.') => Ok(Host::Label(start.to_owned(), end.to_owned())),
        _ => Err("a * in the last part of a host would let in hosts of others"),
    }
}

/// A host as browsers write it.
fn exact(host: &str) -> Result<String, &'static str> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Result<Ipv6Addr, _> = address.parse();
        return address.map(|ip| format!("[{ip}]")).map_err(|_| "it holds no IPv6 address");
    }
    let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !named || host.starts_with('.') || host.contains("..") {
        return Err("a host holds letters, digits, hyphens and dots, and one * at most");
    }
    // Whatever ends in a number is an address, and browsers write it with four.
    let last = host.rsplit('.').next().unwrap_or("");
    if last.bytes().all(|b| b.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err("browsers write such an address with four numbers, as in 127.0.0.1");
    }
    Ok(host.to_owned())
}

/// The host of extensions and programs: a name that nobody can register.
fn other_host(host: &str) -> Result<Host, &'static str> {
    match host.split_once('*') {
        None => Ok(Host::Only(host.to_owned())),
        Some(("", "")) => Ok(Host::Any),
        Some((start, "")) => Ok(Host::Begins(start.to_owned())),
        Some(_) => Err("with this scheme a * stands at the end"),
    }
}

/// One to three whole numbers of an address, as in `192.168.`.
fn is_net(text: &str) -> bool {
    let numbers = text.strip_suffix('.').unwrap_or("");
    let plain = |part: &str| part.parse::<u8>().is_ok_and(|n| n.to_string() == part);
    (1..=3).contains(&numbers.split('.').count()) && numbers.split('.').all(plain)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

fn is_default(scheme: &str, port: u16) -> bool {
    (port == 443 && scheme.eq_ignore_ascii_case("https"))
        || (port == 80 && scheme.eq_ignore_ascii_case("http"))
}

/// Host and port; `None` where colons stand in a host without brackets.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at_checked(end)?;
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        Some(port) if !port.contains(':') => Some((host, Some(port))),
        _ => None,
    }
}

fn number(digits: &str) -> Option<u16> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
