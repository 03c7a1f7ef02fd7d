//! `portcullis check`: every fault at once.

use std::process::ExitCode;

use serde_json::json;

use super::{CheckArgs, Flags, WRONG, say, wrong};
use crate::config::env::Env;
use crate::config::keys::{KEYS, Kind};

pub(super) fn run(flags: &Flags, args: CheckArgs, env: &Env) -> ExitCode {
    if args.keys {
        return list(args.json);
    }
    match flags.load(env, |_| {}) {
        Ok(config) if args.json => {
            say(json!({"ok": true, "faults": [], "warnings": config.warnings}));
            ExitCode::SUCCESS
        }
        Ok(config) => {
            say("the configuration is fine");
            for warning in &config.warnings {
                say(format_args!("warning: {warning}"));
            }
            ExitCode::SUCCESS
        }
        Err(faults) if args.json => {
            let list: Vec<_> = faults
                .0
                .iter()
                .map(|fault| json!({"key": fault.key, "origin": fault.origin, "message": fault.message}))
                .collect();
            say(json!({"ok": false, "faults": list, "warnings": []}));
            ExitCode::from(WRONG)
        }
        Err(faults) => wrong(&faults),
    }
}

fn list(as_json: bool) -> ExitCode {
    for key in KEYS {
        let mut names = vec![key.env_name()];
        names.extend(key.older.iter().map(|name| (*name).to_owned()));
        if as_json {
            let secret = key.kind == Kind::Secret;
            say(
                json!({"key": key.name, "env": names, "default": key.default, "secret": secret, "about": key.about}),
            );
        } else {
            let default = if key.default.is_empty() { "none" } else { key.default };
            say(format_args!("{}  [{default}]\n    {}\n    {}", key.name, key.about, names.join(", ")));
        }
    }
    ExitCode::SUCCESS
}
