//! A changed configuration, taken over while requests run: at SIGHUP, and when one of its files changes.
//!
//! A bad file changes nothing and says why.

use std::sync::Arc;
use std::time::Duration;

use super::serve::Hangup;
use crate::app::Live;
use crate::config::{Config, Faults, Files};

/// How often the files are looked at. A change counts once it has stood still between two looks: an editor may write a file in pieces,
/// and half a file can be a good one with other limits.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the configuration again whenever it may have changed. Never returns.
pub(super) async fn watch(
    live: Arc<Live>,
    config: &Config,
    mut hangup: Hangup<'_>,
    load: impl Fn() -> Result<Config, Faults>,
) {
    let mut known = config.files.clone();
    let mut before = known.clone();
    loop {
        let asked = tokio::select! {
            () = hangup.reload() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let now = again(&known).await;
        let stands_still = now == before;
        before.clone_from(&now);
        if asked || (now != known && stands_still) {
            known = reload(&live, &load).unwrap_or(now);
            before.clone_from(&known);
        }
    }
}

/// The files that count from now on.
fn reload(live: &Live, load: &impl Fn() -> Result<Config, Faults>) -> Option<Files> {
    let config = match load() {
        Ok(config) => config,
        Err(faults) => {
            for fault in &faults.0 {
                tracing::error!(%fault, "the new configuration is not used, the old one stays");
            }
            live.refused();
            return None;
        }
    };
    match live.renew(&config) {
        Err(error) => {
            tracing::error!(%error, "the new configuration is not used, the old one stays");
            live.refused();
            None
        }
        Ok(renewed) => {
            tracing::info!(changed = renewed.now.join(","), "the configuration was read again");
            if !renewed.at_restart.is_empty() {
                tracing::warn!(keys = renewed.at_restart.join(","), "these settings hold after a restart");
            }
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            Some(config.files)
        }
    }
}

/// Not on a worker: a disk that hangs delays nobody.
async fn again(files: &Files) -> Files {
    let known = files.clone();
    tokio::task::spawn_blocking(move || known.again()).await.unwrap_or_else(|_| files.clone())
}
