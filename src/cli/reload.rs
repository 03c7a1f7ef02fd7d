//! A changed configuration, taken over while requests run: at SIGHUP, and when one of its files changes.
//!
//! A bad file changes nothing and says why.

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

/// Reads the configuration anew.
pub(super) type Load = Arc<dyn Fn(&Env) -> Result<Config, Faults> + Send + Sync>;

/// Reads the configuration again whenever it may have changed. Never returns.
pub(super) async fn watch(live: Arc<Live>, files: Files, mut hangup: Hangup<'_>, env: &Env, load: Load) {
    let (mut known, mut before) = (files.clone(), files);
    loop {
        let asked = tokio::select! {
            () = hangup.reload() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let looked = before.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || looked.again()).await else { continue };
        if asked || (now != known && now == before) {
            let (live, env, load) = (Arc::clone(&live), env.clone(), Arc::clone(&load));
            // Not on a worker: a disk that hangs delays nobody.
            let reloaded = tokio::task::spawn_blocking(move || reload(&live, &env, &load)).await;
            known = reloaded.ok().flatten().unwrap_or(now);
            before.clone_from(&known);
        } else {
            before = now;
        }
    }
}

/// The files that count from now on.
fn reload(live: &Live, env: &Env, load: &Load) -> Option<Files> {
    let config = match load(env) {
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
            Some(renewed.files)
        }
    }
}
