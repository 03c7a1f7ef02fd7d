//! The command line: `serve` and `fetch`.
//!
//! Exit codes: 0 fine, 1 failed, 2 wrong usage.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::fetch;
use crate::infer::{Engine, Settings};
use crate::library::Library;
use crate::log;
use crate::serve::{self, Server};
use crate::wire::duration::KeepAlive;

/// A small, real server for one machine that speaks Ollama's native API.
#[derive(Debug, Parser)]
#[command(name = "portcullis-engine", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve models until SIGTERM or SIGINT.
    Serve(Serve),
    /// Bring the default model into the cache folder and say where it is.
    Fetch,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
struct Serve {
    /// Address to listen on; only loopback unless --expose is given.
    #[arg(long, default_value = "127.0.0.1", value_parser = host)]
    host: IpAddr,
    /// Port to listen on; 0 asks the system for one.
    #[arg(long, default_value_t = 11434)]
    port: u16,
    /// A GGUF file, or a folder of them, to serve instead of the default model; may be repeated.
    #[arg(long, value_name = "PATH")]
    models: Vec<PathBuf>,
    /// Never fetch the default model.
    #[arg(long)]
    offline: bool,
    /// Listen on an address that others reach. There is no authentication here.
    #[arg(long)]
    expose: bool,
    /// How long a model stays in memory: seconds or 5m, negative for ever, 0 not at all.
    #[arg(long, default_value = "5m", value_parser = keep_alive, allow_hyphen_values = true)]
    keep_alive: KeepAlive,
    /// Context length where a request does not say.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(4..=1_048_576))]
    num_ctx: u32,
    /// Threads that compute; the default is the cores this process may use.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Let llama.cpp write its own log to stderr.
    #[arg(long)]
    verbose: bool,
}

fn host(text: &str) -> Result<IpAddr, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| "not an IP address, nor localhost".to_owned())
}

fn keep_alive(text: &str) -> Result<KeepAlive, String> {
    // A bare number is seconds, as in a request.
    let seconds = text.parse::<f64>().is_ok();
    KeepAlive::of_text(&if seconds { format!("{text}s") } else { text.to_owned() })
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Serve(flags) if !flags.expose && !flags.host.is_loopback() => {
            log::warn(format_args!(
                "{} is reached by others, and there is no authentication: give --expose",
                flags.host
            ));
            return ExitCode::from(2);
        }
        Command::Serve(flags) => serve(&flags),
        Command::Fetch => fetch::ensure(false).map_err(io::Error::other).and_then(|path| say(path.display())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr().lock(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn serve(flags: &Serve) -> io::Result<()> {
    // Two threads carry thousands of idle streams; the cores are for the model.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let address = SocketAddr::new(flags.host, flags.port);
    let listener = runtime
        .block_on(TcpListener::bind(address))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    let library = if flags.models.is_empty() {
        Library::of_default(&fetch::ensure(flags.offline).map_err(io::Error::other)?)?
    } else {
        Library::of_paths(&flags.models)?
    };
    let cores = flags.threads.map_or_else(std::thread::available_parallelism, Ok)?;
    let settings = Settings {
        keep_alive: flags.keep_alive,
        num_ctx: flags.num_ctx,
        threads: i32::try_from(cores.get()).unwrap_or(i32::MAX),
        verbose: flags.verbose,
    };
    let (engine, worker) = Engine::start(settings)?;
    for entry in library.entries() {
        log::info(format_args!("serving model={} threads={cores}", entry.name));
    }
    let server = Arc::new(Server { library, engine, exposed: flags.expose });
    runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        say(format_args!("listening on http://{}", listener.local_addr()?))?;
        serve::run(listener, server, async {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            log::info("stopping");
        })
        .await;
        Ok::<_, io::Error>(())
    })?;
    // Answers that are still on their way end here, and with them the worker's reasons to go on.
    drop(runtime);
    worker.join().map_err(|_| io::Error::other("the model's thread did not end well"))
}
