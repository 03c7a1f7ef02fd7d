//! What of a running gate can change: everything but its listeners, its queue and its store.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::keys::Key;
use crate::config::{Config, Keys, Raw};
use crate::identify::Ring;
use crate::listen::{Tls, TlsError};
use crate::record::{AccessLog, trace};
use crate::serve::Front;

/// Why a new configuration was not taken over: all of the old one stays.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What a new configuration changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Keys that hold now.
    pub now: Vec<&'static str>,
    /// Keys that hold after a restart.
    pub at_restart: Vec<&'static str>,
}

/// The parts of a running gate that can be renewed.
#[derive(Debug)]
pub struct Live {
    pub(super) front: Arc<Front>,
    pub(super) ring: Option<Arc<Ring>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) log: Arc<AccessLog>,
    /// What holds, with the keys that wait for a restart at their old values.
    pub(super) written: Mutex<Raw>,
}

impl Live {
    /// A configuration that cannot be read was there: the metrics say so until one is taken over.
    pub fn refused(&self) {
        self.front.gate().desk.ledger.metrics.reloaded(false);
    }

    /// Takes a configuration over, or leaves everything as it is. Certificates are read again even where nothing else changed.
    pub fn renew(&self, config: &Config) -> Result<Renewed, RenewError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, later): (Vec<&'static Key>, Vec<_>) = written
            .changed(&config.written)
            .into_iter()
            .partition(|key| key.live && self.can_change(key.name, config));
        let tls = match (&self.tls, &config.listen.tls) {
            (Some(tls), Some(files)) => Some((tls, Tls::read(&files.certificate, &files.key)?)),
            _ => None,
        };
        if let (Some(ring), Keys::Given(keys)) = (&self.ring, &config.keys)
            && now.iter().any(|key| key.name == "keys.api_key")
        {
            ring.give(keys);
        }
        if let Some((tls, new)) = tls {
            tls.renew(&new);
        }
        self.front.renew(config);
        self.log.set_level(config.log.level);
        trace::set_level(config.log.level);
        let names = |keys: &[&'static Key]| keys.iter().map(|key| key.name).collect();
        self.front.gate().desk.ledger.metrics.reloaded(true);
        let renewed = Renewed { now: names(&now), at_restart: names(&later) };
        for key in now {
            written.take_over(key, &config.written);
        }
        Ok(renewed)
    }

    /// Whether a key is asked at all, and whether the port speaks TLS, is settled when the gate is built.
    fn can_change(&self, name: &str, config: &Config) -> bool {
        match name {
            "keys.api_key" => {
                let given = self.ring.as_ref().is_some_and(|ring| ring.is_given());
                given && matches!(config.keys, Keys::Given(_))
            }
            "listen.tls_certificate" | "listen.tls_key" => self.tls.is_some() && config.listen.tls.is_some(),
            _ => true,
        }
    }
}
