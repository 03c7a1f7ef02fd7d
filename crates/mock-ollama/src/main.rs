//! The scripted Ollama as a program: `serve` for demos and benches, `drive` for tests in other languages, `compare` for a look at a new release of Ollama.

#![forbid(unsafe_code)]

mod drive;

use clap::{Parser, Subcommand};
use mock_ollama::compare::{self, Options, Report};
use mock_ollama::{Capability, Disconnect, Mock, Model, Script, Seen, recordings};
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// Ollama's wire behaviour, scripted.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGINT, then print as JSON what was seen.
    Serve {
        /// Port on 127.0.0.1; 0 is any free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Time between tokens (20ms, 1s).
        #[arg(long, default_value = "0ms", value_parser = duration)]
        gap: Duration,
        /// Time until the first token.
        #[arg(long, default_value = "0ms", value_parser = duration)]
        head_delay: Duration,
        /// Tokens of an answer.
        #[arg(long)]
        tokens: Option<usize>,
        /// Keep no record of requests: for benches.
        #[arg(long)]
        no_record: bool,
    },
    /// Serve for a test in another language: prints the URL, then answers a JSON command a line, until its input ends.
    Drive {
        /// Models besides the usual ones.
        #[arg(long = "model")]
        models: Vec<String>,
        /// Models that see.
        #[arg(long = "vision")]
        seeing: Vec<String>,
        /// Models whose names are no names.
        #[arg(long = "odd", allow_hyphen_values = true)]
        odd: Vec<String>,
        /// Leave out the models of the recordings.
        #[arg(long)]
        few: bool,
    },
    /// Send the recorded requests to a server and print where it differs. Exit code: 0 same, 1 different, 2 usage.
    Compare {
        /// The server, as in <http://127.0.0.1:11434>.
        url: String,
        /// Only these groups.
        #[arg(long = "group", value_parser = known_group)]
        groups: Vec<String>,
        /// Leave out exchanges: globs over group/name.
        #[arg(long = "skip")]
        skip: Vec<String>,
        /// Compare error texts too.
        #[arg(long)]
        exact: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, scale) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1e-3),
        (None, Some(number)) => (number, 1.0),
        (None, None) => return Err("a number with ms or s".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "a number with ms or s".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

fn known_group(text: &str) -> Result<String, String> {
    let known: Vec<_> = recordings::groups().collect();
    if known.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("the groups are {}", known.join(", ")))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<ExitCode> {
    match Cli::parse().command {
        Command::Serve { port, gap, head_delay, tokens, no_record } => {
            let script = Script { gap, head_delay, tokens, ..Script::default() };
            let mock = Mock::builder().port(port).record(!no_record).default_script(script).start().await?;
            serve(&mock).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Drive { models, seeing, odd, few } => {
            let seeing = seeing
                .iter()
                .map(|name| Model::plain(name).with(&[Capability::Completion, Capability::Vision]));
            let mut all = if few { Vec::new() } else { Model::defaults() };
            all.extend(models.iter().map(|name| Model::plain(name)).chain(seeing));
            all.extend(odd.iter().map(|name| Model::odd(name)));
            drive::run(&Mock::builder().models(all).start().await?).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Compare { url, groups, skip, exact, json } => {
            let Some(addr) = resolve(&url).await else {
                writeln!(io::stderr(), "{url}: not a URL of a server that can be found")?;
                return Ok(ExitCode::from(2));
            };
            let groups: Vec<_> = groups.iter().map(String::as_str).collect();
            let left_out: Vec<_> = skip.iter().map(|glob| (glob.as_str(), "--skip")).collect();
            let options = Options { groups: &groups, left_out: &left_out, exact, ..Options::default() };
            let report = compare::run(addr, &options).await;
            let mut out = io::stdout().lock();
            if json {
                writeln!(out, "{}", as_json(&report))?;
            } else {
                write!(out, "{report}")?;
            }
            Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

async fn serve(mock: &Mock) -> io::Result<()> {
    writeln!(io::stdout(), "{}", mock.url())?;
    tokio::signal::ctrl_c().await?;
    let seen = mock.seen();
    let gone: Vec<_> = seen.iter().filter_map(|one| Some(gone(one, one.disconnected?))).collect();
    let report = json!({
        "requests": seen.len(),
        "probes": mock.probes().len(),
        "finished": seen.iter().filter(|one| one.finished_at.is_some()).count(),
        "tokens_sent": seen.iter().map(|one| one.tokens_sent).sum::<usize>(),
        "disconnected": gone,
    });
    writeln!(io::stdout(), "{report}")
}

fn gone(seen: &Seen, gone: Disconnect) -> Value {
    json!({
        "method": seen.method,
        "target": seen.target,
        "phase": format!("{:?}", gone.phase),
        "after_ms": gone.after.as_secs_f64() * 1e3,
        "tokens_sent": gone.tokens_sent,
        "reset": gone.reset,
    })
}

fn as_json(report: &Report) -> Value {
    let differing: Vec<_> = report
        .differing()
        .map(|(name, what)| json!({ "name": name, "differs": what.iter().map(ToString::to_string).collect::<Vec<_>>() }))
        .collect();
    let left_out: Vec<_> =
        report.left_out().map(|(name, why)| json!({ "name": name, "reason": why })).collect();
    json!({ "same": report.same(), "differing": differing, "left_out": left_out, "stale": report.stale })
}

/// The address of a plain HTTP URL.
async fn resolve(url: &str) -> Option<SocketAddr> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let authority =
        rest.split('/').next().filter(|authority| !authority.is_empty() && !rest.contains("://"))?;
    let port = authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
    let full = if port { authority.to_owned() } else { format!("{authority}:80") };
    tokio::net::lookup_host(full).await.ok()?.next()
}
