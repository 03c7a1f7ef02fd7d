//! Is it a program on this machine that asks, or a web page in somebody's browser?
//!
//! Takes Host and Origin and refuses, as Ollama does with an empty 403, names that are not this machine's: a
//! page elsewhere must not reach the engine by a DNS name that points here.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{HOST, ORIGIN};

/// May this request be served?
pub fn allows(headers: &HeaderMap, exposed: bool) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let origin = text(ORIGIN).is_none_or(|origin| {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host.is_some_and(|host| is_here(host) || text(HOST) == Some(host))
    });
    // An exposed engine is reached under any name, but still not from any page.
    origin && (exposed || text(HOST).is_none_or(|host| host.is_empty() || is_here(host)))
}

fn is_here(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host: &str, origin: Option<&str>, exposed: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        allows(&headers, exposed)
    }

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in ["127.0.0.1:11434", "localhost", "LOCALHOST:1", "[::1]:80", "a.localhost:3"] {
            assert!(allowed(host, None, false), "{host}");
        }
        for host in ["evil.example", "evil.example:11434", "10.0.0.1", "localhost.evil.example"] {
            assert!(!allowed(host, None, false), "{host}");
        }
        assert!(allowed("box.lan:1", None, true));
    }

    #[test]
    fn pages_of_other_origins_are_not_served() {
        assert!(allowed("127.0.0.1:1", Some("http://localhost:8000"), false));
        assert!(!allowed("127.0.0.1:1", Some("https://evil.example"), false));
        assert!(!allowed("127.0.0.1:1", Some("null"), false));
        assert!(!allowed("box.lan:1", Some("https://evil.example"), true));
        assert!(allowed("box.lan:1", Some("http://box.lan:1"), true));
    }
}
