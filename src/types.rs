//! Newtypes that every stage may name: no policy, no imports from other rooms.

mod model;
mod rights;
mod roll;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use model::{InvalidName, ModelName, is_cloud_name};
pub use rights::{Caps, InvalidGlob, KeyLimits, ModelGlob};
pub use roll::{Roll, Worth};

/// The id of one request: 16 hexadecimal digits, sent as `x-request-id` and written on every line about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The public part of a key: safe in logs, never enough to call anything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeyId(pub Arc<str>);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom limits and turns are counted for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Principal {
    /// A key.
    Key(KeyId),
    /// An address in public mode (IPv6 by /64); `None`: all whom a platform's proxy hides.
    Address(Option<IpAddr>),
}

/// What a key may do. `admin` includes neither of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Spend the models: chat, generate, embed.
    Inference,
    /// Look at lists.
    Read,
    /// Manage the models of the upstream.
    Admin,
}

impl Scope {
    /// The name in configuration and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// A set of [`Scope`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// What a key from `OLLAMA_API_KEY` may do, and everybody in public mode.
    pub const USE: Self = Self(0b011);

    /// Is the scope among them?
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        let all = [Scope::Inference, Scope::Read, Scope::Admin];
        all.into_iter().filter(|scope| self.allow(*scope)).map(Scope::name).collect()
    }

    /// Reads names; `None` where one is none, or there is none at all.
    pub fn parse<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let mut set = Self::default();
        for name in names {
            let all = [Scope::Inference, Scope::Read, Scope::Admin];
            set = set.with(all.into_iter().find(|scope| scope.name() == name.trim())?);
        }
        (set != Self::default()).then_some(set)
    }

    /// The same set and one more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | (1 << scope as u8))
    }
}

/// Whose fault a failure is: it decides the level of the log line and who can mend it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The caller can mend it by sending something else, or later.
    Client,
    /// We refused or failed by ourselves.
    Gateway,
    /// The upstream did.
    Upstream,
}

impl Side {
    /// The word in log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}
