//! `portcullis serve`: run the gateway until it is told to stop.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::reload::Load;
use super::{FAILED, Flags, banner, complain, reload, service, wrong};
use crate::app::{App, BuildError, Found};
use crate::config::Config;
use crate::config::env::Env;
use crate::record::{AccessLog, trace};
use crate::store::StoreError;

pub(super) fn run(flags: &Flags, env: &Env) -> ExitCode {
    let config = match flags.load(env, |_| {}) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    match runtime() {
        Ok(runtime) => {
            let flags = flags.clone();
            let load: Load = Arc::new(move |env, file| flags.with_file(file).load(env, |_| {}));
            runtime.block_on(serve(&config, env, load))
        }
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

async fn serve(config: &Config, env: &Env, load: Load) -> ExitCode {
    let (app, mut signals) = match (start(config), Signals::new()) {
        (Ok(app), Ok(signals)) => (app, signals),
        (Err(code), _) => return code,
        (_, Err(error)) => {
            complain(format_args!("portcullis: cannot listen for signals: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    tell(&app, config).await;
    let (stop, hurry, hangup) = signals.split();
    let watching = reload::watch(app.live(), config, hangup, env, load);
    tokio::select! {
        () = service::told(app.run(service::stopping(stop), hurry)) => {}
        () = watching => {}
    }
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
        let written = matches!(
            error,
            BuildError::Key(_) | BuildError::Tls(_) | BuildError::Store(StoreError::Folder(_))
        );
        ExitCode::from(if written { super::WRONG } else { FAILED })
    })
}

/// Prints the start-up lines, with what the upstream has: a default that it lacks would be a 404 for every request that names no model.
pub(super) async fn tell(app: &App, config: &Config) {
    let found = app.find_model().await;
    banner::print(app, config, found.as_ref());
    let default = &app.default_model;
    let lacks = format!("warning: the upstream does not have the default model {default}");
    match found {
        Some(Found::Default | Found::Instead(_)) => {}
        Some(Found::Nothing(Some(other))) => complain(format_args!(
            "{lacks}, so a request that names none gets 404; set OLLAMA_MODEL={}, which it has, or run: ollama pull {default}",
            other.model
        )),
        Some(Found::Nothing(None)) => {
            complain(format_args!("{lacks}, nor any other that can chat; run: ollama pull {default}"));
        }
        None => complain("warning: the upstream does not answer yet; requests get 502 until it does"),
    }
}

/// SIGTERM and SIGINT: the first asks for a stop, the second hurries it. SIGHUP asks for the configuration to be read again, unless it
/// says that the terminal is gone.
pub(super) struct Signals {
    term: [Signal; 2],
    int: [Signal; 2],
    hup: Signal,
    on_terminal: bool,
    gone: Notify,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        let two = |kind| Ok::<_, std::io::Error>([signal(kind)?, signal(kind)?]);
        Ok(Self {
            term: two(SignalKind::terminate())?,
            int: two(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            on_terminal: has_terminal(),
            gone: Notify::new(),
        })
    }

    /// A future for the first signal to stop, one for the second, and what hears of hang-ups.
    pub(super) fn split(&mut self) -> (impl Future<Output = ()>, impl Future<Output = ()>, Hangup<'_>) {
        let ([term, term2], [int, int2]) = (&mut self.term, &mut self.int);
        let gone = &self.gone;
        let first = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                () = gone.notified() => {}
            }
        };
        let second = async move {
            // The first signal reaches this pair as well.
            for _ in 0..2 {
                tokio::select! {
                    _ = term2.recv() => {}
                    _ = int2.recv() => {}
                }
            }
        };
        (first, second, Hangup { signal: &mut self.hup, on_terminal: self.on_terminal, gone })
    }
}

/// SIGHUP, which means one thing to a daemon and another to whoever sits at a terminal.
pub(super) struct Hangup<'s> {
    signal: &'s mut Signal,
    on_terminal: bool,
    gone: &'s Notify,
}

impl Hangup<'_> {
    /// Listens only for the end of the terminal: nothing can be read again yet.
    pub(super) async fn only_gone(&mut self) {
        loop {
            self.reload().await;
        }
    }

    /// Waits until the configuration shall be read again.
    pub(super) async fn reload(&mut self) {
        loop {
            if self.signal.recv().await.is_none() {
                return std::future::pending().await;
            }
            // A terminal that was hung up is none any more.
            if self.on_terminal && !has_terminal() {
                self.gone.notify_one();
            } else {
                return;
            }
        }
    }
}

fn has_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stderr().is_terminal()
}
