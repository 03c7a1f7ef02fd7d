//! The upstream's address: `OLLAMA_LOCAL_URL` as a URL, `OLLAMA_HOST` as Ollama's own clients read it.

use std::net::IpAddr;

/// An upstream: `http://host[:port][/prefix]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A path in front of every route, without a final slash; usually empty.
    pub prefix: String,
}

impl UpstreamUrl {
    /// Reads a URL. The fault's words never repeat the URL: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(
                    "https upstreams are not supported yet; use http, or a local TLS tunnel such as stunnel",
                );
            }
            Some(_) => return Err("must start with http://"),
            None => return Err("must be a URL such as http://127.0.0.1:11434"),
        };
        Self::authority_and_path(rest, 80)
    }

    /// Reads `OLLAMA_HOST` (ollama-api.md section 4.3): `host`, `host:port`, `:port`, with or without scheme and path.
    /// `0.0.0.0` and an empty host are dialled as loopback.
    pub fn parse_ollama_host(text: &str) -> Result<Self, &'static str> {
        let text = text.trim().trim_matches(['"', '\'']).trim();
        let (rest, port) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, 80),
            Some(_) => return Err("must be host, host:port or http://host:port"),
            None => (text, 11434),
        };
        let rest = if rest.is_empty() || rest.starts_with([':', '/']) {
            format!("127.0.0.1{rest}")
        } else {
            rest.to_owned()
        };
        let mut url = Self::authority_and_path(&rest, port)?;
        if url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            url.host = if url.host.contains(':') { "::1".into() } else { "127.0.0.1".into() };
        }
        Ok(url)
    }

    fn authority_and_path(rest: &str, default_port: u16) -> Result<Self, &'static str> {
        if rest.contains(['?', '#']) {
            return Err("must have no query and no fragment");
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("must not hold a user name or a password");
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => default_port,
            Some(text) => match text.parse() {
                Ok(0) | Err(_) => return Err("the port must be 1 to 65535"),
                Ok(port) => port,
            },
        };
        let prefix = path.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        if !prefix.chars().all(plain)
            || prefix.split('/').skip(1).any(|s| s.is_empty() || s == "." || s == "..")
        {
            return Err("the path must be plain segments");
        }
        Ok(Self { host: host.to_owned(), port, prefix: prefix.to_owned() })
    }

    /// The `Host` header for it (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Does a connection to it reach a listener on this address of this machine, the port aside? The names of other addresses
    /// of this machine are not known here.
    pub fn may_be(&self, listener: IpAddr) -> bool {
        match self.host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            // An unspecified address is dialled as loopback.
            Ok(ip) if ip.is_unspecified() => listener.is_unspecified() || listener.is_loopback(),
            Ok(ip) => ip == listener || (listener.is_unspecified() && ip.is_loopback()),
            Err(_) => self.is_loopback() && (listener.is_unspecified() || listener.is_loopback()),
        }
    }

    /// Is it on this machine?
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    const BAD: &str = "the host must be a name or an address";
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or(BAD)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| BAD)?;
        return match tail {
            "" => Ok((host, None)),
            _ => Ok((host, Some(tail.strip_prefix(':').ok_or(BAD)?))),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err("an IPv6 address needs brackets"),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(named) { Err(BAD) } else { Ok((host, port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, port: u16, prefix: &str) -> UpstreamUrl {
        UpstreamUrl { host: host.into(), port, prefix: prefix.into() }
    }

    #[test]
    fn urls() {
        assert_eq!(UpstreamUrl::parse("http://localhost:11434/"), Ok(url("localhost", 11434, "")));
        assert_eq!(UpstreamUrl::parse("http://[::1]:9/a/b/"), Ok(url("::1", 9, "/a/b")));
        assert_eq!(UpstreamUrl::parse("HTTP://box"), Ok(url("box", 80, "")));
        for bad in [
            "",
            "localhost:11434",
            "https://x",
            "file:///etc",
            "http://u:p@h",
            "http://h?x",
            "http://h#x",
            "http://h/../x",
            "http://h:0",
            "http://h:99999",
            "http://",
            "http://a b",
            "http://::1:80",
            "http://h/%2e",
        ] {
            assert!(UpstreamUrl::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_circle_is_told_from_a_neighbour() {
        let ask = |host: &str, listener: &str| url(host, 1, "").may_be(listener.parse().unwrap());
        for (host, listener) in [
            ("localhost", "127.0.0.1"),
            ("localhost", "::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("localhost", "0.0.0.0"),
            ("0.0.0.0", "127.0.0.1"),
            ("192.168.1.5", "192.168.1.5"),
            ("::1", "::"),
        ] {
            assert!(ask(host, listener), "{host} at {listener}");
        }
        for (host, listener) in [
            ("localhost", "192.168.1.5"),
            ("127.0.0.1", "192.168.1.5"),
            ("127.0.0.2", "127.0.0.1"),
            ("box.lan", "0.0.0.0"),
            ("192.168.1.6", "192.168.1.5"),
        ] {
            assert!(!ask(host, listener), "{host} at {listener}");
        }
    }

    #[test]
    fn ollama_host_forms() {
        let parse = UpstreamUrl::parse_ollama_host;
        assert_eq!(parse("0.0.0.0"), Ok(url("127.0.0.1", 11434, "")));
        assert_eq!(parse(":1234"), Ok(url("127.0.0.1", 1234, "")));
        assert_eq!(parse("box"), Ok(url("box", 11434, "")));
        assert_eq!(parse("http://box"), Ok(url("box", 80, "")));
        assert_eq!(parse(" \"box:5\" "), Ok(url("box", 5, "")));
        assert_eq!(parse("[::]:7"), Ok(url("::1", 7, "")));
        assert_eq!(parse(""), Ok(url("127.0.0.1", 11434, "")));
    }
}
