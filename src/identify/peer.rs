//! The client's address: the peer, unless a configured proxy names another.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use crate::config::TrustedProxy;

/// A trusted proxy sent what it never would.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the proxy's client address header: {0}")]
pub struct PeerError(&'static str);

/// Who may name the client, and how.
#[derive(Debug)]
pub struct Peers {
    rule: TrustedProxy,
}

impl Peers {
    pub(super) fn new(rule: &TrustedProxy) -> Self {
        Self { rule: rule.clone() }
    }

    /// Loopback and configured proxies carry many clients over few addresses.
    pub(super) fn is_exempt(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        peer.is_loopback()
            || match &self.rule {
                TrustedProxy::HuggingFace => true,
                TrustedProxy::Forwarded { peers, .. } => peers.iter().any(|net| net.contains(&peer)),
                TrustedProxy::None | TrustedProxy::Cloudflare => false,
            }
    }

    /// The client's address; `None` where nobody can know it. A trusted peer that names nobody counts as itself.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<IpAddr>, PeerError> {
        let peer = peer.to_canonical();
        match &self.rule {
            TrustedProxy::HuggingFace => Ok(None),
            TrustedProxy::Cloudflare if peer.is_loopback() => {
                cloudflare(headers).map(|ip| Some(ip.unwrap_or(peer)))
            }
            TrustedProxy::Forwarded { peers, hops }
                if peers.iter().any(|net: &IpNet| net.contains(&peer)) =>
            {
                forwarded(headers, *hops).map(|ip| Some(ip.unwrap_or(peer)))
            }
            TrustedProxy::None | TrustedProxy::Cloudflare | TrustedProxy::Forwarded { .. } => Ok(Some(peer)),
        }
    }
}

fn cloudflare(headers: &HeaderMap) -> Result<Option<IpAddr>, PeerError> {
    let mut values = headers.get_all("cf-connecting-ip").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(PeerError("it came more than once"));
    }
    let address = value.to_str().ok().and_then(|text| text.parse::<IpAddr>().ok());
    address.map(|ip| Some(ip.to_canonical())).ok_or(PeerError("it holds no address"))
}

/// The entry `hops` from the right of all `X-Forwarded-For` fields (what stands further left is the caller's own text).
fn forwarded(headers: &HeaderMap, hops: usize) -> Result<Option<IpAddr>, PeerError> {
    let mut entries = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        let text = value.to_str().map_err(|_| PeerError("it holds bytes beyond ASCII"))?;
        entries.extend(text.split(',').map(str::trim));
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let entry = entries.len().checked_sub(hops).and_then(|at| entries.get(at)).copied();
    let entry = entry.ok_or(PeerError("it has fewer entries than there are proxies"))?;
    let bare = entry.parse().ok().or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()));
    bare.map(|ip: IpAddr| Some(ip.to_canonical())).ok_or(PeerError("its entry is not an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn ask(
        rule: &TrustedProxy,
        peer: &str,
        pairs: &[(&'static str, &str)],
    ) -> Result<Option<String>, PeerError> {
        let found = Peers::new(rule).client(peer.parse().unwrap(), &headers(pairs))?;
        Ok(found.map(|ip| ip.to_string()))
    }

    #[test]
    fn only_a_trusted_peer_names_the_client() {
        let cf = [("cf-connecting-ip", "1.2.3.4")];
        assert_eq!(ask(&TrustedProxy::None, "127.0.0.1", &cf), Ok(Some("127.0.0.1".into())));
        assert_eq!(ask(&TrustedProxy::Cloudflare, "127.0.0.1", &cf), Ok(Some("1.2.3.4".into())));
        assert_eq!(ask(&TrustedProxy::Cloudflare, "9.9.9.9", &cf), Ok(Some("9.9.9.9".into())));
        assert_eq!(ask(&TrustedProxy::Cloudflare, "127.0.0.1", &[]), Ok(Some("127.0.0.1".into())));
        assert!(ask(&TrustedProxy::Cloudflare, "127.0.0.1", &[cf[0], cf[0]]).is_err());
        assert!(ask(&TrustedProxy::Cloudflare, "127.0.0.1", &[("cf-connecting-ip", "x")]).is_err());
    }

    #[test]
    fn forwarded_counts_from_the_right() {
        let rule = TrustedProxy::Forwarded { peers: vec!["10.0.0.0/8".parse().unwrap()], hops: 2 };
        let xff = [("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "2.2.2.2")];
        assert_eq!(ask(&rule, "10.1.1.1", &xff), Ok(Some("1.1.1.1".into())));
        assert_eq!(ask(&rule, "::ffff:10.1.1.1", &xff), Ok(Some("1.1.1.1".into())));
        assert_eq!(ask(&rule, "11.1.1.1", &xff), Ok(Some("11.1.1.1".into())));
        assert!(ask(&rule, "10.1.1.1", &[("x-forwarded-for", "1.1.1.1")]).is_err());
        assert!(ask(&rule, "10.1.1.1", &[("x-forwarded-for", "unknown, b")]).is_err());
    }
}
