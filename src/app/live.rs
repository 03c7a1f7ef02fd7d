//! What of a running gate can change: everything but its listeners, its queue and its store.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::env::Env;
use crate::config::{Changes, Config, Faults, Files, Keys, Raw};
use crate::identify::Ring;
use crate::listen::{Tls, TlsError};
use crate::record::{AccessLog, trace};
use crate::serve::Front;

/// Why a new configuration was not taken over: all of the old one stays.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Without what waits for a restart it would not be a good one.
    #[error("it is not safe to take over before a restart: {0}")]
    Beside(Faults),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What was taken over.
#[derive(Debug)]
pub struct Renewed {
    /// By key.
    pub changes: Changes,
    /// The configuration file, where there is one.
    pub file: Option<PathBuf>,
    /// The files that count from now on.
    pub files: Files,
    /// Sentences for the operator.
    pub warnings: Vec<String>,
}

/// The parts of a running gate that can be renewed.
#[derive(Debug)]
pub struct Live {
    pub(super) front: Arc<Front>,
    pub(super) ring: Option<Arc<Ring>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) log: Arc<AccessLog>,
    /// What holds, with the keys that wait for a restart at their old values.
    pub(super) holding: Mutex<Raw>,
}

impl Live {
    /// A configuration that cannot be read was there: the metrics say so until one is taken over.
    pub fn refused(&self) {
        self.front.gate().desk.ledger.metrics.reloaded(false);
    }

    /// Takes a configuration over, or leaves everything as it is. Certificates are read again even where nothing else changed. Waits for
    /// the disk: not to be called on a worker.
    pub fn renew(&self, next: Config, env: &Env) -> Result<Renewed, RenewError> {
        let mut holding = self.holding.lock().unwrap_or_else(PoisonError::into_inner);
        let (config, changes) = next.beside(&holding, env).map_err(RenewError::Beside)?;
        let tls = match (&self.tls, &config.listen.tls) {
            (Some(tls), Some(files)) => Some((tls, Tls::read(&files.certificate, &files.key)?)),
            _ => None,
        };
        if let (Some(ring), Keys::Given(keys)) = (&self.ring, &config.keys)
            && changes.now.contains(&"keys.api_key")
        {
            self.front.gate().desk.secrets.give(keys);
            ring.give(keys);
        }
        if let Some((tls, new)) = tls {
            tls.renew(&new);
        }
        self.front.renew(&config);
        self.log.set_level(config.log.level);
        trace::set_level(config.log.level);
        self.front.gate().desk.ledger.metrics.reloaded(true);
        *holding = config.written;
        Ok(Renewed { changes, file: config.file, files: config.files, warnings: config.warnings })
    }
}
