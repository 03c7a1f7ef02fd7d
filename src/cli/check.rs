//! `portcullis check`: every fault at once.

use std::net::SocketAddr;
use std::process::ExitCode;

use serde_json::json;

use super::banner;
use super::{CheckArgs, Flags, WRONG, say, wrong};
use crate::config::env::Env;
use crate::config::keys::{KEYS, Kind};
use crate::config::{Config, Faults};
use crate::listen::Tls;

pub(super) fn run(flags: &Flags, args: CheckArgs, env: &Env) -> ExitCode {
    if args.keys {
        return list(args.json);
    }
    match flags.load(env, |_| {}).and_then(opens) {
        Ok(config) if args.json => {
            let file = config.file.as_deref().map(banner::shown);
            say(json!({"ok": true, "file": file, "faults": [], "warnings": banner::warnings(&config)}));
            ExitCode::SUCCESS
        }
        Ok(config) => {
            match &config.file {
                Some(file) => say(format_args!("the configuration is fine, with {}", banner::shown(file))),
                None => say("the configuration is fine"),
            }
            for warning in banner::warnings(&config) {
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
            let file = flags.file(env).map(|path| banner::shown(&path));
            say(json!({"ok": false, "file": file, "faults": list, "warnings": []}));
            ExitCode::from(WRONG)
        }
        Err(faults) => wrong(&faults),
    }
}

/// What a start would open, as far as it can be looked at without opening it.
fn opens(config: Config) -> Result<Config, Faults> {
    let (mut faults, listen) = (Faults::default(), &config.listen);
    if let Some(Err(error)) = listen.tls.as_ref().map(|tls| Tls::read(&tls.certificate, &tls.key)) {
        faults.add("listen.tls", "", error.to_string());
    }
    let folder = listen.socket.as_ref().and_then(|socket| socket.path.parent());
    if folder.is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        faults.add("listen.socket", "", "its folder does not exist");
    }
    if listen.port != 0
        && config.ops.by_hand
        && config.ops.address == Some(SocketAddr::new(listen.address, listen.port))
    {
        faults.add("ops.port", "", "is listen.port as well: operators need a port of their own");
    }
    if faults.0.is_empty() { Ok(config) } else { Err(faults) }
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
