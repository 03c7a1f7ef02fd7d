//! `portcullis serve`: run the gateway until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{FAILED, Flags, banner, complain, service, wrong};
use crate::app::{App, BuildError};
use crate::config::Config;
use crate::config::env::Env;
use crate::record::{AccessLog, trace};

pub(super) fn run(flags: &Flags, env: &Env) -> ExitCode {
    let config = match flags.load(env, |_| {}) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    match runtime() {
        Ok(runtime) => runtime.block_on(serve(&config)),
        Err(code) => code,
    }
}

/// As many workers as cores are allowed: more only cost (performance.md).
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        complain(format_args!("portcullis: cannot start: {error}"));
        ExitCode::from(FAILED)
    })
}

async fn serve(config: &Config) -> ExitCode {
    let (app, mut signals) = match (start(config), Signals::new()) {
        (Ok(app), Ok(signals)) => (app, signals),
        (Err(code), _) => return code,
        (_, Err(error)) => {
            complain(format_args!("portcullis: cannot listen for signals: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    banner::print(&app, config);
    tell_default_model(&app).await;
    let (stop, hurry) = signals.split();
    service::told(app.run(service::stopping(stop), hurry)).await;
    ExitCode::SUCCESS
}

/// Logs on, parts built, listener bound.
pub(super) fn start(config: &Config) -> Result<App, ExitCode> {
    let json = trace::is_json(config.log.json);
    let log: Arc<AccessLog> = AccessLog::new(json, config.log.level);
    trace::install(json, config.log.level, &log);
    App::build(config, log).map_err(|error| {
        complain(format_args!("portcullis: {error}"));
        // What the operator wrote is wrong, or the machine is.
        let written = matches!(error, BuildError::Key(_) | BuildError::Tls(_));
        ExitCode::from(if written { super::WRONG } else { FAILED })
    })
}

/// A default that the upstream lacks would be a 404 for every request that names no model.
pub(super) async fn tell_default_model(app: &App) {
    match app.has_default_model().await {
        Some(true) => {}
        Some(false) => complain(format_args!(
            "warning: the upstream does not have the default model {0}; run: ollama pull {0}   (or set OLLAMA_MODEL)",
            app.default_model
        )),
        None => complain("warning: the upstream does not answer yet; requests get 502 until it does"),
    }
}

/// SIGTERM, SIGINT and SIGHUP (the terminal is gone): the first asks for a stop, the second hurries it.
pub(super) struct Signals {
    term: [Signal; 2],
    int: [Signal; 2],
    hup: [Signal; 2],
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        let two = |kind| Ok::<_, std::io::Error>([signal(kind)?, signal(kind)?]);
        Ok(Self {
            term: two(SignalKind::terminate())?,
            int: two(SignalKind::interrupt())?,
            hup: two(SignalKind::hangup())?,
        })
    }

    /// A future for the first, and one for the second.
    pub(super) fn split(&mut self) -> (impl Future<Output = ()>, impl Future<Output = ()>) {
        let ([term, term2], [int, int2], [hup, hup2]) = (&mut self.term, &mut self.int, &mut self.hup);
        let first = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hup.recv() => {}
            }
        };
        let second = async move {
            // The first signal reaches this pair as well.
            for _ in 0..2 {
                tokio::select! {
                    _ = term2.recv() => {}
                    _ = int2.recv() => {}
                    _ = hup2.recv() => {}
                }
            }
        };
        (first, second)
    }
}
