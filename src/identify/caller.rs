//! A caller, and why somebody is none.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Key, PeerError, TokenError};
use crate::types::{KeyId, ModelName, Scope, Scopes};

/// Somebody who may call, and what they may do.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) address: Option<IpAddr>,
    pub(super) key: Option<Arc<Key>>,
    /// The word of Cloudflare Access alone stands for the key, or it came by Basic: a browser sends both along with whatever a page asks for.
    pub(super) ambient: bool,
}

impl Caller {
    /// Somebody at this address, in public mode.
    #[cfg(test)]
    pub(crate) const fn at(address: Option<IpAddr>) -> Self {
        Self { address, key: None, ambient: false }
    }

    /// The client's address; `None` where a platform's proxy hides it.
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Did they themselves present a key? What a browser sends by itself is no sign that its user meant it.
    pub const fn has_presented_key(&self) -> bool {
        self.key.is_some() && !self.ambient
    }

    /// May they do this? Without a key: what everybody may in public mode.
    pub fn may(&self, scope: Scope) -> Result<(), IdentifyError> {
        let scopes = self.key().map_or(Scopes::USE, |key| key.scopes);
        if scopes.allow(scope) { Ok(()) } else { Err(IdentifyError::Scope(scope)) }
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
    /// The key is fine and may not use this model. Its name is a caller's text and stands in the record's own column.
    #[error("the key may not use the model")]
    Model(ModelName),
    /// A token is none, or the assertion of Cloudflare Access is missing.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Somebody whose issuer vouches for them, and whom the operator has shut out.
    #[error("this identity was revoked here")]
    ShutOut,
    /// The key came by Basic, which a browser sends by itself, with the request of a page that is not allowed.
    #[error("Basic with a request of a foreign page")]
    ForeignPage,
    /// Public mode, and a Host that is not ours: a page in somebody's browser may be behind it.
    #[error("the host name is not served")]
    Host,
}

fn tried(id: Option<&str>) -> String {
    id.map_or_else(String::new, |id| format!(" pc_{id}"))
}
