//! `portcullis-bench`: CPU per request and per streamed line, side by side with nginx.
//!
//! `upstream` is a small fast stand-in for Ollama, `load` a generator that checks every answer, `compare` runs both around each
//! contender in turn and prints ratios, `scale` times a full store. Everything stays on loopback and ends by itself.

#![forbid(unsafe_code)]

mod answer;
mod compare;
mod load;
mod scale;
mod upstream;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Whatever stops a run, in words.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of everything here.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The key of the runs; it opens nothing else.
const KEY: &str = "bench-key-of-enough-length-xx";

#[derive(Debug, Parser)]
#[command(name = "portcullis-bench", version, about = "CPU per request and per streamed line, beside nginx")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve like a small, very fast Ollama on 127.0.0.1, until killed
    Upstream {
        /// 0 asks the system; the address is printed
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Lines of a streamed answer
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        lines: u32,
        /// Milliseconds between the lines of a paced answer
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
        gap_ms: u64,
    },
    /// Send requests to one server and check that every answer is whole
    Load {
        /// Such as <http://127.0.0.1:8000>: loopback only
        #[arg(long)]
        url: String,
        /// What to ask for
        #[arg(long, value_enum)]
        mode: load::Mode,
        /// Kept open, one request at a time on each
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
        connections: u16,
        /// Seconds that count
        #[arg(long, default_value_t = 1.0, value_parser = seconds)]
        seconds: f64,
        /// Sent as the bearer key
        #[arg(long, default_value = KEY)]
        key: String,
        /// Lines that a streamed answer must have; 0: any number
        #[arg(long, default_value_t = 0)]
        lines: u32,
    },
    /// Fill a store with keys and rows, and time what operators ask of it
    Scale(ScaleArgs),
    /// Measure nginx, the gateway, and the gateway with its access lines, in turn
    Compare(CompareArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct CompareArgs {
    /// Rounds; the median of their ratios counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Kept open, one request at a time on each
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// The gateway's binary
    #[arg(long, default_value = "target/release/portcullis")]
    gateway: PathBuf,
    /// nginx's binary [default: on PATH, then /usr/sbin/nginx]
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// Only these ways of asking [default: all]
    #[arg(long = "mode", value_enum)]
    modes: Vec<load::Mode>,
    /// Print JSON, rounds included
    #[arg(long)]
    json: bool,
    /// Exit 1 if a bound is broken
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct ScaleArgs {
    /// The gateway's binary
    #[arg(long, default_value = "target/release/portcullis")]
    gateway: PathBuf,
    /// Keys in the store
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    keys: u32,
    /// Rows in its audit
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rows: u32,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.05..=60.0).contains(&value) => Ok(value),
        _ => Err("seconds from 0.05 to 60".into()),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers. Nobody is left to be told when the terminal is gone.
            let _gone = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            let _gone = writeln!(std::io::stderr(), "portcullis-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Upstream { port, lines, gap_ms } => {
            runtime.block_on(upstream::run(port, lines, Duration::from_millis(gap_ms)))?;
        }
        Command::Load { url, mode, connections, seconds, key, lines } => {
            let plan = load::Plan { address: loopback(&url)?, mode, connections, key, lines };
            let span = Duration::from_secs_f64(seconds);
            let report = runtime.block_on(load::run(&plan, span, || Ok(())))?;
            writeln!(std::io::stdout(), "{report}")?;
        }
        Command::Scale(args) => scale::run(&args)?,
        Command::Compare(args) => return runtime.block_on(compare::run(&args)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The address in a URL, which must be on this machine.
fn loopback(url: &str) -> Outcome<SocketAddr> {
    let rest =
        url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').replace("localhost", "127.0.0.1");
    let address: SocketAddr =
        rest.parse().map_err(|_| format!("{url:?} is not like http://127.0.0.1:8000"))?;
    if address.ip().is_loopback() { Ok(address) } else { Err("load goes to this machine only".into()) }
}
