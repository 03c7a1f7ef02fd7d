//! `portcullis backup` and `portcullis restore`: the data folder in one file, and back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Flags, Trouble, ended, operator, say, wrong};
use crate::config::env::Env;
use crate::identify::keyfile;
use crate::store::audit::{Anchor, ChainKey};
use crate::store::backup::{self, Copied, Out};
use crate::store::{InUse, wall};

/// What lies beside the store.
const BESIDE: &[&str] = &[ChainKey::FILE, Anchor::FILE, keyfile::FILE];

#[derive(Args, Debug)]
pub(super) struct BackupArgs {
    /// A file that is not there yet
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct RestoreArgs {
    /// What `portcullis backup` made
    file: PathBuf,
    /// Set the store that is there aside, under other names in the data folder
    #[arg(long)]
    replace: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn back_up(flags: &Flags, args: &BackupArgs, env: &Env) -> ExitCode {
    let config = match flags.despite_faults(env) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    let work = || -> Result<(), Trouble> {
        let mut out = Out::make(&args.file)?;
        let copied = backup::back_up(&config.data_dir, BESIDE, &mut out, &operator())?;
        out.keep()?;
        tell(copied, &args.file, "copied to", args.json);
        Ok(())
    };
    ended(work())
}

pub(super) fn restore(flags: &Flags, args: &RestoreArgs, env: &Env) -> ExitCode {
    let config = match flags.load(env, |_| {}) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    let work = || -> Result<(), Trouble> {
        let mut from = backup::opened(&args.file, &config.data_dir)?;
        let _alone = InUse::alone(&config.data_dir)?;
        let (replace, by) = (args.replace.then(wall), operator());
        let copied = backup::restore((&mut from, &args.file), &config.data_dir, BESIDE, replace, &by)?;
        tell(copied, &config.data_dir, "restored into", args.json);
        Ok(())
    };
    ended(work())
}

fn tell(copied: Copied, path: &Path, done: &str, as_json: bool) {
    let Copied { bytes, keys, rows } = copied;
    if as_json {
        say(json!({"path": path, "bytes": bytes, "keys": keys, "audit_rows": rows}));
    } else {
        say(format_args!(
            "{keys} keys and {rows} rows of the audit {done} {} ({bytes} bytes)",
            path.display()
        ));
    }
}
