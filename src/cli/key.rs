//! `portcullis key`: create, list, show, rotate, revoke. Works on the store itself, so the gateway may run or not; a running one follows
//! within a second.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Flags, Trouble, complain, ended, operator, say, table, wrong};
use crate::config::env::Env;
use crate::config::{self, Config};
use crate::identify::ApiKey;
use crate::identify::issue::{self, IssueError, Wish};
use crate::identify::keyfile;
use crate::record::stamp;
use crate::store::keys::KeyRow;
use crate::store::{Store, wall};
use crate::types::{KeyLimits, ModelGlob, Scope};

#[derive(Subcommand, Debug)]
pub(super) enum KeyCommand {
    /// Make a key; its secret is shown once
    #[command(
        after_help = "Examples:\n  portcullis key create --name laptop\n  portcullis key create --name ci --model 'qwen3:*' --expires 30d --requests-per-minute 20\n  portcullis key create --name ops --scope admin --json"
    )]
    Create(Box<CreateArgs>),
    /// List the keys
    List(JsonArgs),
    /// Show one key
    Show(IdArgs),
    /// Give a key a new secret; the old one works on for a while
    #[command(
        after_help = "Examples:\n  portcullis key rotate Ab12Cd34\n  portcullis key rotate Ab12Cd34 --overlap 0"
    )]
    Rotate(RotateArgs),
    /// End a key at once, and the answers that run with it
    Revoke(IdArgs),
}

#[derive(Args, Debug)]
pub(super) struct CreateArgs {
    /// What to call it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// inference, read, admin, with commas [default: inference,read]
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<String>,
    /// A model or pattern that it may use, such as 'qwen3:*'; may be given several times [default: all]
    #[arg(long, value_name = "GLOB")]
    model: Vec<String>,
    /// How long it works, such as 30d [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
    /// Requests in a minute; 0: no limit [default of this and the next ones: the configuration's]
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u32>,
    /// Requests that run at once; what is beyond waits
    #[arg(long, value_name = "N")]
    concurrent: Option<u32>,
    /// Tokens of prompts and answers in a minute
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Tokens in a day (UTC)
    #[arg(long, value_name = "N")]
    tokens_per_day: Option<u64>,
    /// Tokens in a month (UTC)
    #[arg(long, value_name = "N")]
    tokens_per_month: Option<u64>,
    /// Seconds of the model server's work in a day (UTC)
    #[arg(long, value_name = "N")]
    gpu_seconds_per_day: Option<u64>,
    /// Tokens of one answer
    #[arg(long, value_name = "N")]
    max_output_tokens: Option<u32>,
    /// Tokens of context
    #[arg(long, value_name = "N")]
    max_context: Option<u32>,
    /// Turns in the queue for each turn of a key with 1, up to 100
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Anything else
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct IdArgs {
    /// The key's public part, as `key list` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    key: IdArgs,
    /// How long the old secret works on
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    overlap: String,
}

impl From<IssueError> for Trouble {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Field { .. } => Self::Usage(error.to_string()),
            IssueError::Store(_) | IssueError::Key(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<keyfile::KeyFileError> for Trouble {
    fn from(error: keyfile::KeyFileError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) fn run(flags: &Flags, command: &KeyCommand, env: &Env) -> ExitCode {
    let config = match flags.despite_faults(env) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    let work = || -> Result<(), Trouble> {
        let mut store = opened(&config, matches!(command, KeyCommand::Create(_)))?;
        match command {
            KeyCommand::Create(args) => create(&mut store, args, &config),
            KeyCommand::List(args) => list(&store, args.json),
            KeyCommand::Show(args) => show(&store, args),
            KeyCommand::Rotate(args) => rotate(&mut store, args, &config),
            KeyCommand::Revoke(args) => revoke(&mut store, args, &config),
        }
    };
    ended(work())
}

/// Only a new key makes a store where there is none: whoever looks in the wrong folder leaves nothing there.
fn opened(config: &Config, is_new: bool) -> Result<Store, Trouble> {
    let folder = config.data_dir.display();
    let is_there = Store::is_in(&config.data_dir);
    if !is_there && !is_new {
        return Err(Trouble::Failed(format!(
            "there is no store in {folder}, and so no key; `portcullis key create` makes both. Are they in another folder? (data.dir, PORTCULLIS_DATA_DIR)"
        )));
    }
    if !is_there {
        complain(format_args!(
            "warning: there was no store in {folder}; one is made. A gateway with another data folder will not know this key (data.dir, PORTCULLIS_DATA_DIR)"
        ));
    }
    Ok(if is_new { Store::open(&config.data_dir)? } else { Store::read(&config.data_dir)? })
}

fn seconds(field: &str, text: &str) -> Result<i64, Trouble> {
    let duration = config::duration(text).ok_or_else(|| {
        Trouble::Usage(format!(
            "{field}: {text:?} is not a duration; write it as 30d, 24h or 90s (ten years at most)"
        ))
    })?;
    Ok(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

/// Elsewhere a bare number is seconds; here nobody means that.
fn lasting(text: &str) -> Result<i64, Trouble> {
    if text.trim() != "0" && text.trim().bytes().all(|b| b.is_ascii_digit()) {
        return Err(Trouble::Usage(format!(
            "expires: {text:?} needs a unit, such as {0}d for days or {0}h for hours",
            text.trim()
        )));
    }
    seconds("expires", text)
}

fn create(store: &mut Store, args: &CreateArgs, config: &Config) -> Result<(), Trouble> {
    let wish = Wish {
        name: args.name.clone(),
        scopes: args.scope.clone(),
        models: args.model.clone(),
        expires_in: args.expires.as_deref().map(lasting).transpose()?,
        limits: KeyLimits {
            requests_per_minute: args.requests_per_minute,
            concurrent: args.concurrent,
            tokens_per_minute: args.tokens_per_minute,
            tokens_per_day: args.tokens_per_day,
            tokens_per_month: args.tokens_per_month,
            gpu_seconds_per_day: args.gpu_seconds_per_day,
            max_output_tokens: args.max_output_tokens,
            max_context: args.max_context,
            weight: args.weight,
        },
        note: args.note.clone(),
    };
    let (row, key) = issue::create(store, &wish, &operator())?;
    told(&row, &key, args.json, config, "made");
    Ok(())
}

fn rotate(store: &mut Store, args: &RotateArgs, config: &Config) -> Result<(), Trouble> {
    let overlap = seconds("overlap", &args.overlap)?;
    let (row, key) = issue::rotate(store, &args.key.id, overlap, &operator())?;
    if row.generated {
        keyfile::replace(&config.data_dir, &key)?;
    }
    told(&row, &key, args.key.json, config, "given a new secret");
    if !args.key.json && overlap > 0 {
        say(format_args!("the old secret works until {}", stamp::of(wall().saturating_add(overlap))));
    } else if !args.key.json {
        say("the old secret has ended, and within a second what runs with it ends too");
    }
    Ok(())
}

fn revoke(store: &mut Store, args: &IdArgs, config: &Config) -> Result<(), Trouble> {
    let new = issue::revoke(store, &args.id, &operator())?;
    let row = found(store, &args.id)?;
    if row.generated {
        keyfile::forget(&config.data_dir)?;
    }
    if args.json {
        say(as_json(&row));
    } else if new {
        say(format_args!("{} ({}) is revoked; a running gateway follows within a second", row.id, row.name));
    } else {
        say(format_args!("{} ({}) had been revoked before", row.id, row.name));
    }
    Ok(())
}

fn found(store: &Store, id: &str) -> Result<KeyRow, Trouble> {
    store.key(id)?.ok_or_else(|| {
        Trouble::Failed(format!("there is no key {}; `portcullis key list` shows all", issue::named(id)))
    })
}

/// The secret: here, and never again.
fn told(row: &KeyRow, key: &ApiKey, json: bool, config: &Config, how: &str) {
    if json {
        let mut value = as_json(row);
        if let Some(map) = value.as_object_mut() {
            map.insert("key".into(), key.reveal().into());
        }
        return say(value);
    }
    say(format_args!("{} ({}) is {how}. The key, shown only now:\n", row.id, row.name));
    say(format_args!("  {}\n", key.reveal()));
    if let Some(end) = row.expires_at {
        say(format_args!("It works until {}.\n", stamp::of(end)));
    }
    if !row.scopes.allow(Scope::Inference) {
        return;
    }
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    // A key that may not use the default model gets a line with one that it may.
    let named = row.models.iter().map(ModelGlob::as_str).find(|model| !model.contains('*'));
    let model = match named {
        Some(model) => format!("\"model\":\"{model}\","),
        None if row.models.is_empty() || row.models.iter().any(|glob| glob.fits(&config.default_model)) => {
            String::new()
        }
        None => "\"model\":\"<one of its models>\",".to_owned(),
    };
    say(format_args!(
        "  curl {scheme}://localhost:{}/chat_api -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d '{{{model}\"prompt\":\"Say hello.\"}}'\n",
        config.listen.port,
        key.reveal()
    ));
}

/// A key as the API and `--json` show it, without its secret.
pub(super) fn as_json(row: &KeyRow) -> Value {
    row.as_json(wall(), stamp::of)
}

fn list(store: &Store, json: bool) -> Result<(), Trouble> {
    let (rows, now) = (store.keys()?, wall());
    if json {
        say(Value::Array(rows.iter().map(as_json).collect()));
        return Ok(());
    }
    if rows.is_empty() {
        complain("no keys in the store; make one: portcullis key create --name NAME");
    }
    let cells = |row: &KeyRow| {
        vec![
            row.id.clone(),
            row.name.clone(),
            row.state(now).to_owned(),
            row.scopes.names().join(","),
            row.model_names().join(" "),
            stamp::of(row.created_at),
            row.expires_at.map_or_else(|| "-".into(), stamp::of),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    table::print(&["ID", "NAME", "STATE", "SCOPES", "MODELS", "CREATED", "EXPIRES"], &rows);
    Ok(())
}

fn show(store: &Store, args: &IdArgs) -> Result<(), Trouble> {
    let row = found(store, &args.id)?;
    if args.json {
        say(as_json(&row));
        return Ok(());
    }
    let limits = json!(row.limits);
    let pairs = limits.as_object().into_iter().flatten().map(|(name, value)| format!("{name} {value}"));
    let limits: Vec<_> = pairs.collect();
    for (name, value) in [
        ("id", row.id.clone()),
        ("name", row.name.clone()),
        ("state", row.state(wall()).to_owned()),
        ("scopes", row.scopes.names().join(", ")),
        ("models", row.model_names().join(", ")),
        ("limits", if limits.is_empty() { "the configuration's".into() } else { limits.join(", ") }),
        ("created", stamp::of(row.created_at)),
        ("expires", row.expires_at.map_or_else(|| "never".into(), stamp::of)),
        ("rotated", row.rotated_at.map_or_else(|| "never".into(), stamp::of)),
        ("revoked", row.revoked_at.map_or_else(|| "no".into(), stamp::of)),
        ("note", row.note.clone()),
    ] {
        say(format_args!("{name:8} {}", table::plain(&value)));
    }
    Ok(())
}
