//! `portcullis usage`: requests, tokens and the model server's time, by key, model and day.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Flags, Trouble, complain, ended, moment, note_read, nothing_yet, say, table, wrong};
use crate::config::env::Env;
use crate::record::stamp;
use crate::store::Store;
use crate::store::usage::UsageRow;

#[derive(Args, Debug)]
pub(super) struct UsageArgs {
    /// Since when: a duration back, such as 7d, or a day, such as 2026-01-17
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    since: String,
    /// Only this key
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &Flags, args: &UsageArgs, env: &Env) -> ExitCode {
    match flags.despite_faults(env) {
        Ok(config) if nothing_yet(&config.data_dir) => {
            if args.json {
                say("[]");
            }
            ExitCode::SUCCESS
        }
        Ok(config) => ended(
            Store::read(&config.data_dir)
                .map_err(Trouble::from)
                .and_then(|mut store| usage(&mut store, args)),
        ),
        Err(faults) => wrong(&faults),
    }
}

fn usage(store: &mut Store, args: &UsageArgs) -> Result<(), Trouble> {
    note_read(store, "usage.read");
    let since = stamp::day(moment("since", &args.since)?.div_euclid(1_000));
    let rows = store.usage(&since, args.key.as_deref())?;
    let names: HashMap<_, _> = store.keys()?.into_iter().map(|key| (key.id, key.name)).collect();
    let name = |row: &UsageRow| names.get(&row.key_id).cloned().unwrap_or_else(|| row.key_id.clone());
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "day": row.day,
                    "key_id": row.key_id,
                    "name": name(row),
                    "model": row.model,
                    "requests": row.requests,
                    "prompt_tokens": row.prompt_tokens,
                    "output_tokens": row.output_tokens,
                    "gpu_seconds": tenths(row.gpu_ms),
                    "refused": row.refused,
                    "cancelled": row.cancelled,
                    "failed": row.failed,
                })
            })
            .collect();
        say(json!(rows));
        return Ok(());
    }
    if rows.is_empty() {
        complain(format_args!("nothing was used since {since}"));
    }
    let cells = |row: &UsageRow| {
        vec![
            row.day.clone(),
            or_dash(&row.key_id),
            or_dash(&name(row)),
            or_dash(&row.model),
            row.requests.to_string(),
            row.prompt_tokens.to_string(),
            row.output_tokens.to_string(),
            tenths(row.gpu_ms).to_string(),
            row.refused.to_string(),
            row.cancelled.to_string(),
            row.failed.to_string(),
        ]
    };
    let heads = [
        "DAY",
        "KEY",
        "NAME",
        "MODEL",
        "REQUESTS",
        "PROMPT TOKENS",
        "OUTPUT TOKENS",
        "GPU S",
        "REFUSED",
        "CANCELLED",
        "FAILED",
    ];
    table::print(&heads, &rows.iter().map(cells).collect::<Vec<_>>());
    Ok(())
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// Seconds with one digit behind the point.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn tenths(millis: u64) -> f64 {
    (millis as f64 / 100.0).round() / 10.0
}
