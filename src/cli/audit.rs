//! `portcullis audit`: the last rows, all rows, and whether they are what was written.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{Flags, Trouble, complain, ended, moment, note_read, nothing_yet, say, table, wrong};
use crate::config::env::Env;
use crate::record::boots;
use crate::record::escape;
use crate::record::show::{as_json, at, facts};
use crate::store::audit::{Anchor, AuditRow, ChainKey, Chained, Fault};
use crate::store::{Folder, Store};

#[derive(Subcommand, Debug)]
pub(super) enum AuditCommand {
    /// Show the last rows
    #[command(
        after_help = "Examples:\n  portcullis audit tail\n  portcullis audit tail -n 100 --follow\n  portcullis audit tail --json"
    )]
    Tail(TailArgs),
    /// Write rows to stdout, as JSON lines or CSV
    #[command(
        after_help = "Examples:\n  portcullis audit export > audit.jsonl\n  portcullis audit export --since 7d --format csv > week.csv"
    )]
    Export(ExportArgs),
    /// Is every row what was written? Exit code 0 or 1; names the first that is not
    #[command(
        after_help = "Examples:\n  portcullis audit verify\n  portcullis audit verify --head '5f0c… 812 9a…'   (a head that was noted elsewhere)"
    )]
    Verify(VerifyArgs),
}

#[derive(Args, Debug)]
pub(super) struct TailArgs {
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: u32,
    /// Go on with new ones
    #[arg(short, long)]
    follow: bool,
    /// Print JSON, a row a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A JSON object a line
    Jsonl,
    /// Comma-separated, safe to open as a table
    Csv,
}

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// Since when: a duration back, such as 7d, or a day, such as 2026-01-17 [default: all]
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// The form
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// A head that was noted elsewhere: segment, rows and code, as `audit.heads` holds them
    #[arg(long, value_name = "HEAD")]
    head: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &Flags, command: &AuditCommand, env: &Env) -> ExitCode {
    let config = match flags.despite_faults(env) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    if !matches!(command, AuditCommand::Verify(_)) && nothing_yet(&config.data_dir) {
        return ExitCode::SUCCESS;
    }
    let work = || -> Result<(), Trouble> {
        let mut store = Store::read(&config.data_dir)?;
        // Before this reading is recorded itself.
        let unsealed = store.unsealed_rows()?;
        let what = match command {
            AuditCommand::Tail(_) => "audit.read",
            AuditCommand::Export(_) => "audit.export",
            AuditCommand::Verify(_) => "audit.verify",
        };
        note_read(&mut store, what);
        match command {
            AuditCommand::Tail(args) => tail(&store, &unsealed, args),
            AuditCommand::Export(args) => export(&store, &unsealed, args),
            AuditCommand::Verify(args) => verify(&store, args, &config.data_dir),
        }
    };
    ended(work())
}

fn tail(store: &Store, unsealed: &[AuditRow], args: &TailArgs) -> Result<(), Trouble> {
    let rows = store.tail(args.lines, 0)?;
    let mut last = rows.last().map_or(0, |row| row.seq);
    show(&rows, args.json);
    for row in unsealed {
        show_unsealed(row, args.json);
    }
    if !args.follow {
        return Ok(());
    }
    // Until somebody presses Ctrl+C.
    loop {
        std::thread::sleep(Duration::from_millis(500));
        // In parts: a reader that stands in the middle of the table would keep the gateway from tidying up behind it.
        loop {
            let rows = store.rows_after(last, 1_000)?;
            let Some(newest) = rows.last() else { break };
            last = newest.seq;
            for row in &rows {
                if args.json { say(as_json(row)) } else { say(line(&row.row)) }
            }
        }
    }
}

fn show(rows: &[Chained], json: bool) {
    if json {
        for row in rows {
            say(as_json(row));
        }
        return;
    }
    if rows.is_empty() {
        complain("no rows yet");
    }
    let heads =
        ["TIME", "KEY", "PEER", "ROUTE", "MODEL", "STATUS", "ENDING", "TOKENS", "MS", "COUNT", "REASON"];
    table::print(&heads, &rows.iter().map(|row| cells(&row.row)).collect::<Vec<_>>());
}

/// What an operator did, and no gateway has taken into the chain yet.
fn show_unsealed(row: &AuditRow, json: bool) {
    if json { say(facts(row)) } else { say(format_args!("{}  (not sealed yet)", line(row))) }
}

fn cells(row: &AuditRow) -> Vec<String> {
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let tokens = row.output_tokens.map(|tokens| format!("{tokens}{}", if row.estimated { "~" } else { "" }));
    vec![
        at(row.time),
        dash(row.key_id.as_deref().map(str::to_owned)),
        dash(row.peer.map(|peer| peer.to_string())),
        format!("{} {}", row.method, row.route),
        dash(row.model.as_deref().map(str::to_owned)),
        row.status.to_string(),
        row.ending.to_string(),
        dash(tokens),
        row.total_ms.to_string(),
        row.count.to_string(),
        dash(row.reason.as_deref().map(|reason| escape(reason).to_string())),
    ]
}

fn line(row: &AuditRow) -> String {
    cells(row).join("  ")
}

fn export(store: &Store, unsealed: &[AuditRow], args: &ExportArgs) -> Result<(), Trouble> {
    let since = args.since.as_deref().map_or(Ok(i64::MIN), |text| moment("since", text))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut gone = None;
    let mut first = true;
    store.rows(since, |chained| {
        let value = as_json(&chained);
        let written = match args.format {
            Format::Jsonl => writeln!(out, "{value}"),
            Format::Csv => csv(&mut out, &value, std::mem::take(&mut first)),
        };
        gone = written.err();
        gone.is_none()
    })?;
    for row in unsealed.iter().filter(|row| row.time >= since) {
        if gone.is_some() {
            break;
        }
        let value = facts(row);
        let written = match args.format {
            Format::Jsonl => writeln!(out, "{value}"),
            Format::Csv => csv(&mut out, &value, std::mem::take(&mut first)),
        };
        gone = written.err();
    }
    match gone.or_else(|| out.flush().err()) {
        // `head` has seen enough.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Some(error) => Err(Trouble::Failed(format!("cannot write: {}", error.kind()))),
        None => Ok(()),
    }
}

/// A row of a table (RFC 4180), with its heads first. A text that a spreadsheet would take for a formula begins with an apostrophe.
fn csv(out: &mut impl Write, value: &Value, heads: bool) -> std::io::Result<()> {
    let Some(fields) = value.as_object() else { return Ok(()) };
    if heads {
        writeln!(out, "{}", fields.keys().cloned().collect::<Vec<_>>().join(","))?;
    }
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    };
    writeln!(out, "{}", fields.values().map(cell).collect::<Vec<_>>().join(","))
}

fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn verify(store: &Store, args: &VerifyArgs, folder: &Path) -> Result<(), Trouble> {
    let key = ChainKey::read(folder).map_err(|error| Trouble::Failed(error.to_string()))?;
    let key = key.ok_or_else(|| Trouble::Failed("there is no key of the chain in the data folder".into()))?;
    let folder = Folder::open(folder)?;
    // Before the store, which then has at least what they speak of.
    let mut anchors = Anchor::noted(&folder)?;
    anchors.extend(boots::last_words(&folder)?);
    for text in &args.head {
        let wrong =
            || Trouble::Usage(format!("head: {text:?} is not a segment, a number of rows and a code"));
        anchors.push(Anchor::parse(text).ok_or_else(wrong)?);
    }
    let report = store.verify(&key, &anchors, Anchor::before(&folder)?)?;
    let fault = report.fault.as_ref();
    if args.json {
        say(json!({
            "ok": fault.is_none(),
            "rows": report.rows,
            "segments": report.segments,
            "heads": report.anchors,
            "restored": report.restored.iter().map(|time| at(*time)).collect::<Vec<_>>(),
            "fault": fault.map(|fault| json!({"seq": fault.seq, "what": fault.what})),
        }));
    } else if fault.is_none() {
        say(format_args!(
            "{} rows in {} segments are what was written; {} noted heads fit",
            report.rows, report.segments, report.anchors
        ));
    }
    let last = report.restored.iter().max();
    if let (Some(last), None, false) = (last, fault, args.json) {
        say(format_args!(
            "the store was restored from a backup at {}: rows from after the backup are in the files that were set aside",
            at(*last)
        ));
    }
    fault.map_or(Ok(()), |fault| Err(does_not_hold(fault, last.copied())))
}

fn does_not_hold(fault: &Fault, restored: Option<i64>) -> Trouble {
    let why = restored.map_or_else(String::new, |time| {
        format!(" (the store was restored from a backup at {}, and rows from after the backup are missing for that reason)", at(time))
    });
    Trouble::Failed(format!("the audit does not hold: {fault}{why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_no_formulas() {
        assert_eq!(quoted("=cmd|'/c calc'!A1"), "'=cmd|'/c calc'!A1");
        assert_eq!(quoted("@x, \"y\""), "\"'@x, \"\"y\"\"\"");
        assert_eq!(quoted("plain"), "plain");
        let mut out = Vec::new();
        csv(&mut out, &json!({"a": "-1", "b": 2, "c": null}), true).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a,b,c\n'-1,2,\n");
    }
}
