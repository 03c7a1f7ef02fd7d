//! The run: upstream, contenders, rounds in turn, figures.
//!
//! The proxy under test has one core, the upstream and the generator another. Ratios are taken within a round, since the
//! machine's mood lasts longer than a round.

mod contender;
mod process;
mod report;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::load::{self, Mode, Plan};
use crate::{CompareArgs, KEY, Outcome};
use contender::{Contender, Kind, Site, find_nginx};
use process::{Cores, Proc, Scratch};
use report::Results;

/// Lines of a streamed answer.
const LINES: u32 = 200;
/// Every way of asking, before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// Runs everything and prints the figures.
pub(crate) async fn run(args: &CompareArgs) -> Outcome<ExitCode> {
    let nginx = find_nginx(args.nginx.as_deref())?;
    let gateway = std::path::absolute(&args.gateway)?;
    if !gateway.is_file() {
        return Err(
            format!("no gateway at {}: cargo build --release, or --gateway PATH", gateway.display()).into()
        );
    }
    let cores = Cores::pick()?;
    Cores::pin(cores.load)?;
    let scratch = Scratch::new()?;
    let (_upstream, address) = start_upstream(cores)?;
    let site = Site { scratch: scratch.path(), upstream: address, gateway: &gateway, nginx: &nginx, cores };
    let mut results = Results::default();
    let mut contenders = Vec::new();
    for kind in Kind::ALL {
        let contender = Contender::start(kind, site).await?;
        results.set_resident(kind, contender.proc.resident()?);
        contenders.push(contender);
    }
    head(args, cores)?;
    rounds(args, &mut contenders, &mut results).await?;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{:#}", results.json())?;
    } else {
        writeln!(out, "{results}")?;
    }
    Ok(if args.check && !results.holds() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What this is, on stderr, so that JSON stays JSON.
fn head(args: &CompareArgs, cores: Cores) -> Outcome {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut err = std::io::stderr();
    writeln!(
        err,
        "{} rounds of {} s, {} connections; proxy on core {}, upstream and generator on core {}; load average {}",
        args.rounds,
        args.seconds,
        args.connections,
        cores.proxy,
        cores.load,
        load.split_whitespace().next().unwrap_or("unknown"),
    )?;
    if cores.proxy == cores.load {
        writeln!(err, "one core only: the figures hold the cost of sharing it")?;
    }
    Ok(())
}

fn start_upstream(cores: Cores) -> Outcome<(Proc, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["upstream", "--lines", &LINES.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut proc = Proc::spawn(&mut command, cores.load, cores.load)?;
    let mut line = String::new();
    let stdout = proc.child().stdout.take().ok_or("the upstream has no output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let address = crate::loopback(line.trim())?;
    Ok((proc, address))
}

async fn rounds(args: &CompareArgs, contenders: &mut [Contender], results: &mut Results) -> Outcome {
    let modes = if args.modes.is_empty() { Mode::ALL.to_vec() } else { args.modes.clone() };
    for contender in contenders.iter() {
        for &mode in &modes {
            measure(args, contender, mode, WARM_UP).await?;
        }
    }
    let span = Duration::from_secs_f64(args.seconds);
    for round in 1..=args.rounds {
        for &mode in &modes {
            for contender in contenders.iter() {
                let micros = measure(args, contender, mode, span).await?;
                results.add(contender.kind, mode, micros);
            }
        }
        // Whoever came first comes last: what drifts within a round falls on everybody.
        contenders.rotate_left(1);
        writeln!(std::io::stderr(), "round {round} of {} is done", args.rounds)?;
    }
    Ok(())
}

/// Microseconds of CPU per request, or per line of a stream.
async fn measure(args: &CompareArgs, contender: &Contender, mode: Mode, span: Duration) -> Outcome<f64> {
    contender.drain_log("")?;
    let plan = Plan {
        address: contender.address,
        mode,
        connections: args.connections,
        key: KEY.into(),
        lines: LINES,
    };
    let report = load::run(&plan, span, || contender.proc.cpu())
        .await
        .map_err(|error| format!("{}, {}: {error}", contender.kind.name(), mode.name()))?;
    check_log(contender, report.requests)?;
    let units = if mode == Mode::Chat { report.requests } else { report.lines };
    let (first, last) = report.looks;
    Ok(per(last.saturating_sub(first), units))
}

/// Does the contender write the lines that it is measured with, and no others?
fn check_log(contender: &Contender, requests: u64) -> Outcome {
    // What is left in the buffers is written a few times a second.
    std::thread::sleep(Duration::from_millis(150));
    let lines = contender.drain_log("Ollama /api/chat")?;
    let lines = u64::try_from(lines)?;
    match contender.kind {
        Kind::Lines if lines < 2 * requests => {
            Err(format!("{lines} access lines for {requests} requests and more: some are missing").into())
        }
        Kind::Nginx | Kind::Gateway | Kind::Audited if lines > 0 => {
            Err("access lines where none were asked".into())
        }
        _ => Ok(()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^52")]
fn per(nanos: u64, units: u64) -> f64 {
    nanos as f64 / 1000.0 / units.max(1) as f64
}
