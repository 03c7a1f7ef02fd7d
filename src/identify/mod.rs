//! Identify: who is calling. The peer address, then the key.
//!
//! Takes the peer and the head; promises a [`Caller`], the witness that admission asks for. Refuses a missing or wrong key
//! (401), two different ones (400), an address that guessed too often (429), a key without the scope (403), a key by Basic from a
//! page of somebody else's (403) and, in public mode, a Host that is not ours (421). The only place that reads credentials and forwarded headers.

mod caller;
mod credential;
pub mod issue;
mod key;
pub mod keyfile;
mod keyring;
mod lockout;
mod peer;
mod ring;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;

use crate::config::{self, Config, Listen, Origins};
use crate::listen::clock::Millis;
use crate::types::Scope;

pub use caller::{Caller, IdentifyError};
use credential::assertion;
pub use credential::{Credential, credential};
pub use key::{ApiKey, KeyError};
pub use keyring::{Key, Keyring};
use lockout::{Lockout, Verdict};
pub use peer::{PeerError, Peers};
pub use ring::Ring;
pub use token::TokenError;
use token::{Identity, Issuer};

/// Cloudflare Access, in front of everything that asks for a key.
#[derive(Debug)]
struct Access {
    issuer: Issuer,
    is_identity: bool,
}

/// The stage.
#[derive(Debug)]
pub struct Identify {
    peers: Peers,
    ring: Option<Arc<Ring>>,
    access: Option<Arc<Access>>,
    oidc: Option<Arc<Issuer>>,
    hosts: Vec<String>,
    origins: Origins,
    any_host: bool,
    /// Stays where the rest is renewed.
    lockout: Arc<Lockout>,
}

impl Identify {
    /// For these keys; none: public mode.
    pub fn new(ring: Option<Arc<Ring>>, config: &Config) -> Self {
        let access = config.access.as_ref().map(|access| {
            Arc::new(Access { issuer: Issuer::new(&access.issuer), is_identity: access.is_identity })
        });
        let oidc = config.oidc.as_ref().map(|oidc| Arc::new(Issuer::new(oidc)));
        Self { access, oidc, ..Self::plain(ring, &config.listen) }
    }

    fn plain(ring: Option<Arc<Ring>>, listen: &Listen) -> Self {
        Self {
            peers: Peers::new(&listen.trusted_proxy),
            ring,
            access: None,
            oidc: None,
            hosts: listen.hosts.clone(),
            origins: listen.origins.clone(),
            any_host: listen.public,
            lockout: Arc::default(),
        }
    }

    /// The same stage for another configuration: who is locked out stays so, and so do the issuers.
    #[must_use]
    pub fn renewed(&self, listen: &Listen) -> Self {
        Self {
            lockout: Arc::clone(&self.lockout),
            access: self.access.clone(),
            oidc: self.oidc.clone(),
            ..Self::plain(self.ring.clone(), listen)
        }
    }

    /// Is a key asked at all?
    pub const fn is_public(&self) -> bool {
        self.ring.is_none()
    }

    /// The client's address behind a peer.
    pub fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Option<IpAddr>, PeerError> {
        self.peers.client(peer.ip(), headers)
    }

    /// May this peer open more connections than others?
    pub fn is_exempt(&self, peer: IpAddr) -> bool {
        self.peers.is_exempt(peer)
    }

    /// In public mode: is the Host one of ours? (DNS rebinding, trust.md B05.)
    pub fn host(&self, headers: &HeaderMap) -> Result<(), IdentifyError> {
        if !self.is_public() || self.any_host || self.is_own_host(headers) {
            return Ok(());
        }
        Err(IdentifyError::Host)
    }

    /// Is the Host a loopback name or address, or one that the operator listed?
    pub fn is_own_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        let name = host
            .rsplit_once(':')
            .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host });
        let bare = name.trim_matches(['[', ']']);
        // How most callers of this machine name it.
        if matches!(bare, "127.0.0.1" | "localhost") {
            return true;
        }
        let names_loopback = |suffix: &str| {
            let at = bare.len().saturating_sub(suffix.len());
            bare.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        let is_number = bare.contains(':') || bare.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let loopback = if is_number {
            bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        } else {
            bare.eq_ignore_ascii_case("localhost") || names_loopback(".localhost")
        };
        let ours =
            self.hosts.iter().any(|own| own.eq_ignore_ascii_case(bare) || own.eq_ignore_ascii_case(host));
        loopback || ours
    }

    /// Who is calling, and may they do this? `scope`: what their key must have; `None`: any key will do.
    pub fn identify(
        &self,
        address: Option<IpAddr>,
        headers: &HeaderMap,
        scope: Option<Scope>,
        now: Millis,
    ) -> Result<Caller, IdentifyError> {
        let Some(access) = &self.access else { return self.by_key(address, headers, scope, now) };
        let token = assertion(headers).map_err(IdentifyError::Credential)?;
        let token = token.ok_or(TokenError::Invalid("no assertion of Cloudflare Access came"))?;
        let key = self.key_of(&access.issuer.verify(token, now)?)?;
        let presented = credential(headers).map_err(IdentifyError::Credential)?;
        if access.is_identity && presented == Credential::None {
            return within(Caller { address, key: Some(key), ambient: true }, scope);
        }
        self.by_key(address, headers, scope, now)
    }

    /// The same, by the key alone: what comes on the operators' listener has not been through Cloudflare Access.
    pub fn by_key(
        &self,
        address: Option<IpAddr>,
        headers: &HeaderMap,
        scope: Option<Scope>,
        now: Millis,
    ) -> Result<Caller, IdentifyError> {
        let Some(ring) = &self.ring else {
            // Public mode: what everybody may do; a key that came anyway is ignored.
            return within(Caller { address, key: None, ambient: false }, scope);
        };
        let (presented, ambient) = match credential(headers) {
            Ok(Credential::None) => return Err(IdentifyError::Missing),
            Ok(Credential::Key(key)) => (key, false),
            Ok(Credential::Basic(key)) => {
                self.own_page(headers)?;
                (key, true)
            }
            Err(message) => return Err(IdentifyError::Credential(message)),
        };
        // No key of ours looks like a token: `eyJ` is how a JSON object begins in base64, and an operator's own key has no two dots.
        if let Some(oidc) = &self.oidc
            && presented.starts_with("eyJ")
            && presented.matches('.').count() == 2
        {
            let key = Some(self.key_of(&oidc.verify(&presented, now)?)?);
            return within(Caller { address, key, ambient }, scope);
        }
        let key = Some(self.found(ring, &presented, address, now)?);
        within(Caller { address, key, ambient }, scope)
    }

    /// What a browser sends by itself counts only where no page, or one that may, made the request: the browser says so in
    /// `Sec-Fetch-Site` (which it leaves out over plain HTTP), and in `Origin` wherever the request could change something.
    fn own_page(&self, headers: &HeaderMap) -> Result<(), IdentifyError> {
        let text = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or(""));
        let host = text(http::header::HOST).unwrap_or("");
        let site = text(http::HeaderName::from_static("sec-fetch-site"));
        let origin = text(http::header::ORIGIN);
        let own = site.is_none_or(|site| matches!(site, "same-origin" | "none"))
            && origin.is_none_or(|origin| self.origins.allow(origin) || config::is_same_host(origin, host));
        if own { Ok(()) } else { Err(IdentifyError::ForeignPage) }
    }

    fn found(
        &self,
        ring: &Ring,
        presented: &str,
        address: Option<IpAddr>,
        now: Millis,
    ) -> Result<Arc<Key>, IdentifyError> {
        let verdict = self.lockout.verdict(address, now);
        let found = ring.find(presented);
        if let Verdict::Locked { seconds, may_try: false } = verdict
            && !found.as_ref().is_some_and(|key| key.strong)
        {
            return Err(IdentifyError::LockedOut { seconds });
        }
        found.ok_or_else(|| {
            self.lockout.failed(address, presented, now);
            match verdict {
                Verdict::Locked { seconds, .. } => IdentifyError::LockedOut { seconds },
                Verdict::Open => IdentifyError::Wrong(ApiKey::id_of(presented).map(Into::into)),
            }
        })
    }

    /// The key that holds an identity's limits.
    fn key_of(&self, identity: &Identity) -> Result<Arc<Key>, IdentifyError> {
        let ring = self.ring.as_ref().ok_or(IdentifyError::Missing)?;
        ring.of_identity(&identity.name, &identity.id).ok_or(IdentifyError::ShutOut)
    }
}

/// May they do this?
fn within(caller: Caller, scope: Option<Scope>) -> Result<Caller, IdentifyError> {
    scope.map_or(Ok(()), |scope| caller.may(scope))?;
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origins, TrustedProxy};
    use crate::listen::Bell;
    use crate::store::Store;
    use std::net::Ipv4Addr;

    fn stage(keys: &[&str]) -> Identify {
        let listen = Listen {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            socket: None,
            tls: None,
            origins: Origins::Only(vec![]),
            hosts: vec!["gate.example".into()],
            public: false,
            trusted_proxy: TrustedProxy::None,
            max_connections: None,
            max_per_address: None,
        };
        let given: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        let ring = Ring::open(Some(&given), Store::in_memory(), Bell::default()).unwrap();
        Identify::plain((!keys.is_empty()).then_some(ring), &listen)
    }

    fn bearer(key: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
        headers
    }

    const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));

    #[test]
    fn guessing_locks_the_address_and_not_the_key() {
        let stage = stage(&["short", "a-key-of-more-than-twenty-characters"]);
        let ask =
            |address, key: &str| stage.identify(address, &bearer(key), Some(Scope::Inference), 5).map(|_| ());
        for n in 0..10 {
            assert_eq!(ask(HERE, &format!("guess-{n}")), Err(IdentifyError::Wrong(None)));
        }
        assert!(matches!(ask(HERE, "guess"), Err(IdentifyError::LockedOut { .. })));
        assert!(
            matches!(ask(HERE, "short"), Err(IdentifyError::LockedOut { .. })),
            "tried once this second already"
        );
        assert_eq!(ask(HERE, "a-key-of-more-than-twenty-characters"), Ok(()), "cannot have been guessed");
        assert_eq!(ask(THERE, "short"), Ok(()), "another address is not concerned");
        assert_eq!(
            stage.identify(HERE, &HeaderMap::new(), Some(Scope::Read), 5).unwrap_err(),
            IdentifyError::Missing
        );
    }

    #[test]
    fn scopes_hold() {
        let stage = stage(&["k"]);
        let ask = |scope| stage.identify(HERE, &bearer("k"), Some(scope), 5).map(|_| ());
        assert_eq!(ask(Scope::Read), Ok(()));
        assert_eq!(ask(Scope::Admin), Err(IdentifyError::Scope(Scope::Admin)));
    }

    #[test]
    fn public_mode_serves_loopback_names_and_its_own() {
        let stage = stage(&[]);
        let ask = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            stage.host(&headers)
        };
        for host in [
            "localhost",
            "127.0.0.1:8000",
            "[::1]:8000",
            "app.localhost:1",
            "gate.example",
            "GATE.example:443",
        ] {
            assert_eq!(ask(host), Ok(()), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"] {
            assert_eq!(ask(host), Err(IdentifyError::Host), "{host}");
        }
    }
}
