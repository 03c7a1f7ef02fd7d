//! `portcullis status`: whether the gateway of this configuration runs, is ready, who waits, and what was used today.
//!
//! Asks its own listener whether it is ready and the operators' listener for the rest, and reads the store. Exit code 0 when the gateway is ready, 1 when it is not.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::banner::reachable;
use super::http::{Answer, Ask, Client};
use super::{FAILED, Flags, say, wrong};
use crate::config::env::Env;
use crate::config::{Config, Keys};
use crate::record::stamp;
use crate::store::{Store, StoreError, wall};

/// All questions together.
const TIME: Duration = Duration::from_secs(10);

#[derive(Args, Debug, Clone, Copy)]
pub(super) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the gateway says of itself.
#[derive(Debug, Default)]
struct Gateway {
    /// Where it was asked.
    at: String,
    runs: bool,
    /// `None`: ready; otherwise why not.
    trouble: Option<String>,
    /// Of the operators' listener; empty where there is none.
    metrics: String,
}

impl Gateway {
    /// Its own listener says whether it is ready, the operators' listener the rest.
    fn ask(config: &Config) -> Self {
        let until = Instant::now() + TIME;
        let Some(at) = listener(config) else {
            let trouble = "its port is 0, so nobody knows it: name it with --port N".to_owned();
            return Self { trouble: Some(trouble), ..Self::default() };
        };
        // The certificate names another host; nothing secret is said.
        let ready = Client::new(&at, None, false, until).ask(Ask::get("/readyz"));
        let (runs, trouble) = match &ready {
            Err(why) => (false, Some(format!("nothing answers: {why}"))),
            Ok(answer) if answer.id().is_none() => (false, Some("something else answers".to_owned())),
            Ok(answer) if answer.status == 200 => (true, None),
            Ok(answer) => (true, Some(said(answer))),
        };
        let operators = Client::operators(config, until).filter(|_| runs);
        let page = operators.and_then(|client| client.ask(Ask::get("/metrics")).ok());
        let metrics = page.map(|page| page.text()).filter(|text| text.contains("portcullis_build_info"));
        Self { at, runs, trouble, metrics: metrics.unwrap_or_default() }
    }

    fn number(&self, name: &str) -> u64 {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
        self.metrics.lines().find_map(value).unwrap_or(0)
    }

    fn version(&self) -> Option<&str> {
        let line = self.metrics.lines().find(|line| line.starts_with("portcullis_build_info{"))?;
        line.split('"').nth(1)
    }
}

/// The gateway's own listener, as it is reached from here.
fn listener(config: &Config) -> Option<String> {
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    let address = reachable(SocketAddr::new(config.listen.address, config.listen.port));
    (address.port() != 0).then(|| format!("{scheme}://{address}"))
}

/// The words of an error.
fn said(answer: &Answer) -> String {
    let value = serde_json::from_slice::<Value>(&answer.body).ok();
    let text = value.as_ref().and_then(|value| value.get("error")?.as_str());
    text.map_or_else(|| format!("it answers {}", answer.status), str::to_owned)
}

/// What the store holds.
#[derive(Debug, Default)]
struct Kept {
    active: usize,
    ended: usize,
    requests: u64,
    refused: u64,
    tokens: u64,
}

fn kept(config: &Config) -> Result<Option<Kept>, StoreError> {
    if !Store::is_in(&config.data_dir) {
        return Ok(None);
    }
    let (store, now) = (Store::read(&config.data_dir)?, wall());
    let mut kept = Kept::default();
    for key in store.keys()? {
        if key.state(now) == "active" { kept.active += 1 } else { kept.ended += 1 }
    }
    for row in store.usage(&stamp::day(now), None)? {
        kept.requests += row.requests;
        kept.refused += row.refused;
        kept.tokens += row.prompt_tokens + row.output_tokens;
    }
    Ok(Some(kept))
}

pub(super) fn run(flags: &Flags, args: StatusArgs, env: &Env) -> ExitCode {
    let config = match flags.despite_faults(env) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    let (gateway, kept) = (Gateway::ask(&config), kept(&config));
    let is_ready = gateway.trouble.is_none() && kept.is_ok();
    if args.json {
        say(as_json(&config, &gateway, &kept, is_ready));
    } else {
        tell(&config, &gateway, &kept);
    }
    if is_ready { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn as_json(
    config: &Config,
    gateway: &Gateway,
    kept: &Result<Option<Kept>, StoreError>,
    is_ready: bool,
) -> Value {
    let none = Kept::default();
    let today = kept.as_ref().ok().and_then(Option::as_ref).unwrap_or(&none);
    json!({
        "ready": is_ready,
        "running": gateway.runs,
        "at": gateway.at,
        "trouble": gateway.trouble.clone().or_else(|| kept.as_ref().err().map(ToString::to_string)),
        "version": gateway.version(),
        "upstream": {
            "up": gateway.number("portcullis_upstream_up") == 1,
            "running": gateway.number("portcullis_upstream_running"),
            "slots": gateway.number("portcullis_upstream_slots"),
            "waiting": gateway.number("portcullis_queue_waiting"),
        },
        "audit": {"failing": gateway.number("portcullis_audit_failing") == 1, "pending": gateway.number("portcullis_audit_pending")},
        "config": {"file": config.file, "failing": gateway.number("portcullis_config_reload_failing") == 1},
        "keys": {"active": today.active, "ended": today.ended},
        "today": {"requests": today.requests, "refused": today.refused, "tokens": today.tokens},
        "data": config.data_dir,
    })
}

fn tell(config: &Config, gateway: &Gateway, kept: &Result<Option<Kept>, StoreError>) {
    let line = |name: &str, text: &str| say(format_args!("{name:<9} {text}"));
    let what = format!("{} at {}", gateway.version().unwrap_or("Portcullis"), gateway.at);
    line(
        "gateway",
        &match &gateway.trouble {
            None => format!("{what} runs and is ready"),
            Some(why) if gateway.runs => format!("{what} runs and is NOT READY: {why}"),
            Some(why) => format!("NOT READY: {why} ({})", gateway.at),
        },
    );
    if gateway.runs && gateway.metrics.is_empty() {
        line("", "more is on the operators' listener, which does not answer (ops.enabled, ops.port)");
    }
    if !gateway.metrics.is_empty() {
        let slots = match gateway.number("portcullis_upstream_slots") {
            0 => "no bound".to_owned(),
            slots => format!("{slots} slots"),
        };
        let up = if gateway.number("portcullis_upstream_up") == 1 { "answers" } else { "DOES NOT ANSWER" };
        let (running, waiting) =
            (gateway.number("portcullis_upstream_running"), gateway.number("portcullis_queue_waiting"));
        line("upstream", &format!("{up}; {running} running ({slots}), {waiting} waiting"));
        let failing = gateway.number("portcullis_audit_failing") == 1;
        line("audit", if failing { "CANNOT BE WRITTEN: requests are refused" } else { "is written" });
    }
    let file = config.file.as_ref().map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
    let stale = gateway.number("portcullis_config_reload_failing") == 1;
    line(
        "config",
        &if stale { format!("{file}: HAS FAULTS, an older one holds (portcullis check)") } else { file },
    );
    match kept {
        Err(error) => line("store", &format!("CANNOT BE READ: {error}")),
        Ok(None) => line("store", &format!("nothing is recorded yet in {}", config.data_dir.display())),
        Ok(Some(kept)) => {
            line("store", &config.data_dir.display().to_string());
            let given =
                if matches!(config.keys, Keys::Given(_)) { ", and those of the configuration" } else { "" };
            line("keys", &format!("{} active, {} ended{given}", kept.active, kept.ended));
            line(
                "today",
                &format!(
                    "{} requests, {} refused, {} tokens (UTC)",
                    kept.requests, kept.refused, kept.tokens
                ),
            );
        }
    }
}
