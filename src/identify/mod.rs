//! Identify: who is calling. The peer address, then the key.
//!
//! Takes the peer and the head; promises a [`Caller`], the witness that admission asks for. Refuses a missing or wrong key
//! (401), two different ones (400), an address that guessed too often (429), a key without the scope (403) and, in public
//! mode, a Host that is not ours (421). The only place that reads credentials and forwarded headers.

mod credential;
pub mod issue;
mod key;
pub mod keyfile;
mod keyring;
mod lockout;
mod peer;
mod ring;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;

use crate::config::Listen;
use crate::listen::clock::Millis;
use crate::types::{KeyId, ModelName, Scope, Scopes};

pub use credential::{Credential, credential};
pub use key::{ApiKey, KeyError};
pub use keyring::{Key, Keyring};
use lockout::{Lockout, Verdict};
pub use peer::{PeerError, Peers};
pub use ring::Ring;

/// Somebody who may call, and what they may do.
#[derive(Debug, Clone)]
pub struct Caller {
    address: Option<IpAddr>,
    key: Option<Arc<Key>>,
}

impl Caller {
    /// Somebody at this address, in public mode.
    #[cfg(test)]
    pub(crate) const fn at(address: Option<IpAddr>) -> Self {
        Self { address, key: None }
    }

    /// The client's address; `None` where a platform's proxy hides it.
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The key; `None` in public mode.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_deref()
    }

    /// Does their key say something about models? Then they see only those.
    pub fn is_narrow(&self) -> bool {
        self.key.as_deref().is_some_and(|key| !key.models.is_empty())
    }

    /// May they use this model? The one place that decides, whatever the route and the spelling.
    pub fn use_model(&self, model: &ModelName) -> Result<(), IdentifyError> {
        match self.key.as_deref() {
            Some(key) if !key.may_use(model) => Err(IdentifyError::Model(model.clone())),
            _ => Ok(()),
        }
    }

    /// Was their key revoked since they called?
    pub fn has_ended(&self) -> bool {
        self.key.as_deref().is_some_and(Key::has_ended)
    }

    /// The id for log lines.
    pub fn key_id(&self) -> Option<&KeyId> {
        self.key.as_deref().map(|key| &key.id)
    }
}

/// Why somebody is not a caller.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentifyError {
    /// No key came.
    #[error("no key")]
    Missing,
    /// A key came and is none of ours; its public part, where it has the form of ours.
    #[error("unknown key{}", tried(.0.as_deref()))]
    Wrong(Option<Box<str>>),
    /// The credential headers contradict each other or are malformed.
    #[error("credential headers: {0}")]
    Credential(&'static str),
    /// The forwarded headers of a trusted proxy are malformed.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The address is locked out.
    #[error("locked out for {seconds} s")]
    LockedOut {
        /// For `Retry-After`.
        seconds: u64,
    },
    /// The key is fine and may not do this.
    #[error("the key lacks the scope {}", .0.name())]
    Scope(Scope),
    /// The key is fine and may not use this model.
    #[error("the key may not use {0}")]
    Model(ModelName),
    /// Public mode, and a Host that is not ours: a page in somebody's browser may be behind it.
    #[error("the host name is not served")]
    Host,
}

fn tried(id: Option<&str>) -> String {
    id.map_or_else(String::new, |id| format!(" pc_{id}"))
}

/// The stage.
#[derive(Debug)]
pub struct Identify {
    peers: Peers,
    ring: Option<Arc<Ring>>,
    hosts: Vec<String>,
    any_host: bool,
    /// Stays where the rest is renewed.
    lockout: Arc<Lockout>,
}

impl Identify {
    /// For these keys; none: public mode.
    pub fn new(ring: Option<Arc<Ring>>, listen: &Listen) -> Self {
        Self {
            peers: Peers::new(&listen.trusted_proxy),
            ring,
            hosts: listen.hosts.clone(),
            any_host: listen.public,
            lockout: Arc::default(),
        }
    }

    /// The same stage for another configuration: who is locked out stays so.
    pub fn renewed(&self, listen: &Listen) -> Self {
        Self { lockout: Arc::clone(&self.lockout), ..Self::new(self.ring.clone(), listen) }
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
        let loopback = bare.eq_ignore_ascii_case("localhost")
            || bare.to_ascii_lowercase().ends_with(".localhost")
            || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
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
        let lacks = |scopes: Scopes| scope.filter(|scope| !scopes.allow(*scope));
        let Some(ring) = &self.ring else {
            // Public mode: what everybody may do; a key that came anyway is ignored.
            return match lacks(Scopes::USE) {
                None => Ok(Caller { address, key: None }),
                Some(scope) => Err(IdentifyError::Scope(scope)),
            };
        };
        let presented = match credential(headers) {
            Ok(Credential::None) => return Err(IdentifyError::Missing),
            Ok(Credential::Key(key)) => key,
            Err(message) => return Err(IdentifyError::Credential(message)),
        };
        let verdict = self.lockout.verdict(address, now);
        let found = ring.find(presented);
        if let Verdict::Locked { seconds, may_try: false } = verdict
            && !found.as_ref().is_some_and(|key| key.strong)
        {
            return Err(IdentifyError::LockedOut { seconds });
        }
        let Some(key) = found else {
            self.lockout.failed(address, now);
            return Err(match verdict {
                Verdict::Locked { seconds, .. } => IdentifyError::LockedOut { seconds },
                Verdict::Open => IdentifyError::Wrong(ApiKey::id_of(presented).map(Into::into)),
            });
        };
        if let Some(scope) = lacks(key.scopes) {
            return Err(IdentifyError::Scope(scope));
        }
        Ok(Caller { address, key: Some(key) })
    }
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
        let ring = Ring::open(&given, Store::in_memory(), Bell::default()).unwrap();
        Identify::new((!keys.is_empty()).then_some(ring), &listen)
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
        let ask = |address, key| stage.identify(address, &bearer(key), Some(Scope::Inference), 5).map(|_| ());
        for _ in 0..10 {
            assert_eq!(ask(HERE, "guess"), Err(IdentifyError::Wrong(None)));
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
