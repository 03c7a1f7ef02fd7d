//! Whom the doctor asks: the public URL, or the gateway's own listener; and which addresses this machine has.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs};

use crate::cli::banner::reachable;
use crate::config::Config;

/// A server to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Scheme, host, port and prefix, without a slash at the end.
    pub(super) base: String,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) https: bool,
    /// Was the port left to the scheme?
    pub(super) plain_port: bool,
    /// By `--url`: what others are told to use.
    pub(super) given: bool,
    pub(super) place: Place,
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Every address of it is a loopback one.
    Loopback,
    /// Every address of it is this machine's, so nothing leaves it.
    Here,
    Elsewhere,
}

impl Target {
    /// A public URL.
    pub(super) fn parse(url: &str, own: &[SocketAddr]) -> Result<Self, String> {
        let wrong = |what: &str| format!("--url: {what}, such as https://ai.example");
        let uri: http::Uri = url.trim().parse().map_err(|_| wrong("not a URL"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("must begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong("must hold no password and no query"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/');
        let scheme = if https { "https" } else { "http" };
        let addresses: Vec<IpAddr> = (host.as_str(), port)
            .to_socket_addrs()
            .map(|found| found.map(|address| address.ip().to_canonical()).collect())
            .unwrap_or_default();
        let all = |test: &dyn Fn(&IpAddr) -> bool| !addresses.is_empty() && addresses.iter().all(test);
        let place = if all(&IpAddr::is_loopback) {
            Place::Loopback
        } else if all(&|ip| ip.is_loopback() || own.iter().any(|mine| mine.ip() == *ip)) {
            Place::Here
        } else {
            Place::Elsewhere
        };
        Ok(Self {
            base: format!("{scheme}://{authority}{path}"),
            host,
            https,
            plain_port: authority.port().is_none(),
            given: true,
            place,
        })
    }

    pub(super) fn is_here(&self) -> bool {
        self.place != Place::Elsewhere
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.place == Place::Loopback
    }

    /// The gateway's own listener, where its port is known.
    pub(super) fn listener(config: &Config) -> Option<Self> {
        let listen = SocketAddr::new(config.listen.address, config.listen.port);
        if listen.port() == 0 {
            return None;
        }
        let (address, https) = (reachable(listen), config.listen.tls.is_some());
        Some(Self {
            base: format!("{}://{address}", if https { "https" } else { "http" }),
            host: address.ip().to_string(),
            https,
            plain_port: false,
            given: false,
            place: if address.ip().is_loopback() { Place::Loopback } else { Place::Here },
        })
    }
}

/// Addresses of this machine, loopback ones aside; port 0.
pub(super) fn own_addresses() -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .filter(|interface| !interface.is_loopback())
        .map(|interface| match interface.ip() {
            // Only its interface makes a link-local address one.
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                SocketAddrV6::new(ip, 0, 0, interface.index.unwrap_or(0)).into()
            }
            ip => SocketAddr::new(ip, 0),
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_judged_before_anything_is_sent() {
        let parse = |url| Target::parse(url, &["192.0.2.7:0".parse().unwrap()]);
        let home = parse("http://127.0.0.1:8000/").unwrap();
        assert_eq!(
            (home.base.as_str(), home.place, home.plain_port),
            ("http://127.0.0.1:8000", Place::Loopback, false)
        );
        let lan = parse("https://192.0.2.7/gate/").unwrap();
        assert_eq!((lan.base.as_str(), lan.place), ("https://192.0.2.7/gate", Place::Here));
        let far = parse("https://192.0.2.8").unwrap();
        assert_eq!((far.place, far.https, far.plain_port), (Place::Elsewhere, true, true));
        assert_eq!(parse("http://[::1]:9/").unwrap().host, "::1");
        for bad in ["", "ai.example", "ftp://a", "https://u:p@a", "https://a/?key=1", "https:///x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
