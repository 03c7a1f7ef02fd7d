//! `portcullis up`: the gateway and its upstream together.
//!
//! The upstream is `ollama serve` if it is installed, else the engine. It listens on loopback whatever `OLLAMA_HOST` says, never
//! sees our keys, is waited for, restarted with back-off, and stopped when we stop.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::reload::Load;
use super::serve::{self, Signals};
use super::{FAILED, Flags, UpArgs, WRONG, complain, pull, reload, say, service, wrong};
use crate::config::env::{Env, OLLAMA_NUM_PARALLEL};
use crate::config::{Config, Origin, Raw, UpstreamUrl};
use crate::listen::clock;
use crate::route::Pool;
use crate::types::ModelName;

/// An upstream that does not answer for so long after its start is broken: the engine may fetch its model first.
const READY: Duration = Duration::from_mins(15);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// An upstream that lived so long is forgiven its earlier ends.
const STABLE: Duration = Duration::from_mins(1);

pub(super) fn run(flags: &Flags, args: &UpArgs, env: &Env) -> ExitCode {
    let mut config = match flags.load(env, |raw| one_slot(raw, env)) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    if !config.upstream.url.is_loopback() {
        complain(
            "portcullis: upstream.url names another machine; `up` runs the upstream on this one. Use: portcullis serve",
        );
        return ExitCode::from(WRONG);
    }
    let Some(kind) = Kind::find(args, env) else {
        complain(
            "portcullis: neither `ollama` nor `portcullis-engine` was found; install Ollama, or name an engine: --engine PATH (make run builds one, in target/release)",
        );
        return ExitCode::from(FAILED);
    };
    match serve::runtime() {
        Ok(runtime) => runtime.block_on(up(&mut config, kind, args, (env, flags))),
        Err(code) => code,
    }
}

/// One slot is Ollama's own default, and the engine's; a queue with fair turns beats a hidden one behind it.
fn one_slot(raw: &mut Raw, env: &Env) {
    if raw.get("upstream.slots").is_none() && env.get(OLLAMA_NUM_PARALLEL).is_none() {
        raw.set("upstream.slots", "1", Origin::Default);
    }
}

/// Whatever is written, the upstream is the one that was started; where no model was named, it is the one that was chosen.
fn as_started(raw: &mut Raw, url: &UpstreamUrl, chosen: Option<&ModelName>) {
    raw.set("upstream.url", format!("http://{}", url.authority()), Origin::Default);
    if let Some(chosen) = chosen.filter(|_| raw.get("models.default").is_none()) {
        raw.set("models.default", chosen.to_string(), Origin::Default);
    }
}

async fn up(config: &mut Config, kind: Kind, args: &UpArgs, (env, flags): (&Env, &Flags)) -> ExitCode {
    let Ok(mut signals) = Signals::new() else { return ExitCode::from(FAILED) };
    let port = free_port(config.upstream.url.port);
    config.upstream.url = UpstreamUrl { host: "127.0.0.1".into(), port, prefix: String::new() };
    let upstream = Upstream { kind, models: args.models.clone(), port };
    let (stop, hurry, mut hangup) = signals.split();
    let mut stop = std::pin::pin!(stop);

    let mut child = match upstream.spawn() {
        Ok(child) => child,
        Err(error) => {
            complain(format_args!("portcullis: cannot start {}: {error}", upstream.kind.name()));
            return ExitCode::from(FAILED);
        }
    };
    say(format_args!("starting {}; waiting until it is ready", upstream.kind.name()));
    let made_ready = tokio::select! {
        ready = make_ready(config, &upstream, &mut child) => ready,
        () = &mut stop => Err("stopped before the upstream and its model were there".to_owned()),
        () = hangup.only_gone() => Err("the terminal is gone".to_owned()),
    };
    if let Err(why) = made_ready {
        complain(format_args!("portcullis: {why}"));
        end(&mut child).await;
        return ExitCode::from(FAILED);
    }
    let (url, chosen) =
        (config.upstream.url.clone(), (!config.default_model_set).then(|| config.default_model.clone()));
    as_started(&mut config.written, &url, chosen.as_ref());
    let flags = flags.clone();
    let load: Load = Arc::new(move |env, file| {
        flags.with_file(file).load(env, |raw| {
            one_slot(raw, env);
            as_started(raw, &url, chosen.as_ref());
        })
    });
    let app = match serve::start(config) {
        Ok(app) => app,
        Err(code) => {
            end(&mut child).await;
            return code;
        }
    };
    serve::tell(&app, config).await;
    let watching = reload::watch(app.live(), config, hangup, env, load);
    let running = service::told(app.run(service::stopping(stop), hurry));
    tokio::select! {
        () = running => {}
        () = watching => {}
        () = upstream.keep(&mut child) => {}
    }
    end(&mut child).await;
    ExitCode::SUCCESS
}

/// Waits for the upstream, and brings a model where there is none.
async fn make_ready(config: &mut Config, upstream: &Upstream, child: &mut Child) -> Result<(), String> {
    let pool = Pool::new(&config.upstream, false);
    wait_ready(&pool, child).await?;
    complain(format_args!("upstream: {} on http://127.0.0.1:{}", upstream.kind.name(), upstream.port));
    tokio::select! {
        () = choose_model(config, &pool, &upstream.kind) => Ok(()),
        _ = child.wait() => Err("the upstream ended before its model was there".to_owned()),
    }
}

/// The engine's own model where none was asked for; a pull where the upstream is Ollama and lacks the default.
async fn choose_model(config: &mut Config, pool: &Pool, kind: &Kind) {
    match kind {
        Kind::Engine(_) if !config.default_model_set => {
            if clock::alone(|clock| async move { pool.fetch(&clock).await }).await.is_ok()
                && let Some(name) = pool.any_model()
            {
                config.default_model = name;
            }
        }
        Kind::Engine(_) => {}
        Kind::Ollama(_) => {
            if let Err(why) = pull::pull_if_missing(&config.upstream, pool, &config.default_model).await {
                complain(format_args!("warning: {} was not pulled: {why}", config.default_model));
            }
        }
    }
}

/// What runs as the upstream.
#[derive(Debug)]
enum Kind {
    Ollama(PathBuf),
    Engine(PathBuf),
}

impl Kind {
    fn find(args: &UpArgs, env: &Env) -> Option<Self> {
        if let Some(engine) = &args.engine {
            return Some(Self::Engine(engine.clone()));
        }
        let in_path = |name: &str| {
            let paths = env.get("PATH").unwrap_or("");
            std::env::split_paths(paths).map(|dir| dir.join(name)).find(|file| is_program(file))
        };
        if args.models.is_none()
            && let Some(ollama) = in_path("ollama")
        {
            return Some(Self::Ollama(ollama));
        }
        let beside =
            std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("portcullis-engine")));
        beside.filter(|file| is_program(file)).or_else(|| in_path("portcullis-engine")).map(Self::Engine)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Ollama(_) => "ollama serve",
            Self::Engine(_) => "portcullis-engine",
        }
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[derive(Debug)]
struct Upstream {
    kind: Kind,
    models: Option<PathBuf>,
    port: u16,
}

impl Upstream {
    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = match &self.kind {
            Kind::Ollama(path) => {
                let mut command = Command::new(path);
                command.arg("serve").env("OLLAMA_HOST", format!("127.0.0.1:{}", self.port));
                command
            }
            Kind::Engine(path) => {
                let mut command = Command::new(path);
                command.args(["serve", "--host", "127.0.0.1", "--port", &self.port.to_string()]);
                if let Some(models) = &self.models {
                    command.arg("--models").arg(models);
                }
                command.env_remove("OLLAMA_HOST");
                command
            }
        };
        // Our keys and origins are no business of the upstream's; its own group, so that Ctrl-C lets us drain first.
        for name in ["OLLAMA_API_KEY", "OLLAMA_API_KEY_FILE", "OLLAMA_ORIGINS", "PORT"] {
            command.env_remove(name);
        }
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PORTCULLIS_"))
        {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).kill_on_drop(true).spawn()
    }

    /// Restarts the upstream whenever it ends, more slowly each time it ends early.
    async fn keep(&self, child: &mut Child) {
        let mut backoff = FIRST_BACKOFF;
        let mut since = tokio::time::Instant::now();
        loop {
            let group = group(child);
            let status = child.wait().await;
            // Ollama runs its models in processes of their own: those of a crashed one would keep the memory that the next one needs.
            let _gone = group.map(|group| kill_process_group(group, Signal::KILL));
            let code = status.ok().and_then(|status| status.code());
            if since.elapsed() > STABLE {
                backoff = FIRST_BACKOFF;
            }
            tracing::warn!(code, wait_ms = backoff.as_millis(), "the upstream ended; it is started again");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            since = tokio::time::Instant::now();
            match self.spawn() {
                Ok(next) => *child = next,
                Err(error) => tracing::error!(error = %error.kind(), "the upstream cannot be started"),
            }
        }
    }
}

/// The wanted port if nothing listens there, else one of the system's.
fn free_port(wanted: u16) -> u16 {
    let bound =
        |port| std::net::TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
    bound(wanted).or_else(|_| bound(0)).map_or(wanted, |address| address.port())
}

async fn wait_ready(pool: &Pool, child: &mut Child) -> Result<(), String> {
    let asking = async {
        loop {
            let version = clock::alone(|clock| async move { pool.get(&clock, "/api/version").await });
            let asked = tokio::time::timeout(Duration::from_secs(2), version).await;
            if matches!(asked, Ok(Ok(_))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        asked = tokio::time::timeout(READY, asking) => asked.map_err(|_| "the upstream did not become ready".to_owned()),
        ended = child.wait() => Err(format!(
            "the upstream ended before it was ready{}",
            ended.ok().and_then(|status| status.code()).map_or_else(String::new, |code| format!(" (exit code {code})"))
        )),
    }
}

/// Its process group, while it lives.
fn group(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
}

/// Asks it to end, and insists after a while.
async fn end(child: &mut Child) {
    let group = group(child);
    // The whole group: Ollama runs its models in processes of their own. It may have ended by itself.
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    let _gone = signal(Signal::TERM);
    if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
        let _gone = signal(Signal::KILL);
        let _gone = child.wait().await;
    }
}
