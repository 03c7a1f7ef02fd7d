//! A changed configuration, taken over while requests run: at SIGHUP, and when one of its files changes.
//!
//! A bad file changes nothing and says why.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::serve::Hangup;
use crate::app::Live;
use crate::config::env::Env;
use crate::config::{Config, Faults, Files};

/// How often the files are looked at. A change counts once it has stood still between two looks: an editor may write a file in pieces,
/// and half a file can be a good one with other limits.
const LOOK: Duration = Duration::from_secs(1);
const REFUSED: &str = "the new configuration is not used, the old one stays";

/// Reads the configuration anew, from this file where one is known.
pub(super) type Load = Arc<dyn Fn(&Env, Option<&Path>) -> Result<Config, Faults> + Send + Sync>;

/// Where the configuration comes from.
#[derive(Debug, Clone)]
struct Source {
    /// Once it was found, a file that is gone is a fault, and not the defaults.
    file: Option<PathBuf>,
    files: Files,
}

/// Reads the configuration again whenever it may have changed. Never returns.
pub(super) async fn watch(live: Arc<Live>, config: &Config, mut hangup: Hangup<'_>, env: &Env, load: Load) {
    let mut source = Source { file: config.file.clone(), files: config.files.clone() };
    let mut before = source.files.clone();
    loop {
        let asked = tokio::select! {
            () = hangup.reload() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let looked = before.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || looked.again()).await else { continue };
        if asked || (now != source.files && now == before) {
            let (live, env, load) = (Arc::clone(&live), env.clone(), Arc::clone(&load));
            let file = source.file.clone();
            // Not on a worker: a disk that hangs delays nobody.
            let reloaded =
                tokio::task::spawn_blocking(move || reload(&live, &env, file.as_deref(), &load)).await;
            match reloaded {
                Ok(Some(next)) => source = next,
                _ => source.files = now,
            }
            before.clone_from(&source.files);
        } else {
            before = now;
        }
    }
}

/// What counts from now on.
fn reload(live: &Live, env: &Env, file: Option<&Path>, load: &Load) -> Option<Source> {
    let config = match load(env, file) {
        Ok(config) => config,
        Err(faults) => {
            for fault in &faults.0 {
                tracing::error!(%fault, "{REFUSED}");
            }
            live.refused();
            return None;
        }
    };
    match live.renew(config, env) {
        Err(error) => {
            tracing::error!(fault = %error, "{REFUSED}");
            live.refused();
            None
        }
        Ok(renewed) => {
            let changed = match renewed.changes.now.join(",") {
                none if none.is_empty() => "no setting; certificates are read each time".to_owned(),
                changed => changed,
            };
            tracing::info!(changed, "the configuration was read again");
            if !renewed.changes.at_restart.is_empty() {
                let keys = renewed.changes.at_restart.join(",");
                tracing::warn!(keys, "these settings hold after a restart");
            }
            for warning in &renewed.warnings {
                tracing::warn!("{warning}");
            }
            Some(Source { file: renewed.file, files: renewed.files })
        }
    }
}
