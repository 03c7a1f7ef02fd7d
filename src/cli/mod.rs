//! The command line. Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration.

mod audit;
mod backup;
mod banner;
mod check;
mod doctor;
mod http;
mod key;
mod manual;
mod pull;
mod reload;
mod serve;
mod service;
mod status;
mod table;
mod tunnel;
mod up;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::env::Env;
use crate::config::{self, Config, Faults, Origin, Raw};
use crate::record::stamp;
use crate::store::actions::Actor;
use crate::store::{FolderError, Store, StoreError, wall};

const FAILED: u8 = 1;
const WRONG: u8 = 2;

#[derive(Parser, Debug)]
#[command(
    name = "portcullis",
    version,
    about = "The gate in front of an Ollama server: keys, strict validation, limits, a queue, streaming that is untouched",
    after_help = "Examples:\n  \
        portcullis                               in front of the Ollama on this machine; a key is generated and shown\n  \
        portcullis up                            start Ollama (or the built-in engine) as well\n  \
        OLLAMA_API_KEY=… portcullis --port 9000  with your own key\n  \
        portcullis key create --name laptop      a key of its own for everybody\n  \
        portcullis check                         is the configuration right?\n  \
        portcullis doctor --url https://…        what can an outsider do?\n\n\
        Configuration: flags, then environment, then portcullis.toml, then defaults; `portcullis check --keys` lists all keys."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the gateway (the default)
    Serve,
    /// Run the gateway and the upstream: `ollama serve` if installed, else portcullis-engine
    #[command(
        after_help = "Examples:\n  portcullis up\n  OLLAMA_MODEL=qwen3:4b portcullis up\n  portcullis up --models ~/models/tiny.gguf"
    )]
    Up(UpArgs),
    /// Read the configuration and print every fault at once; exit 0 or 2
    #[command(
        after_help = "Examples:\n  portcullis check\n  portcullis check --config /etc/portcullis.toml --json\n  portcullis check --keys"
    )]
    Check(CheckArgs),
    /// Attack the deployment as an outsider would, and say how to fix what was found; exit 0, 1 (something is serious) or 2
    #[command(
        after_help = "Examples:\n  portcullis doctor\n  portcullis doctor --url https://ai.example\n  portcullis doctor --url https://ai.example --tunnel ~/.cloudflared/config.yml --json"
    )]
    Doctor(doctor::DoctorArgs),
    /// Does it run, is it ready, who waits, what was used today? Exit code 0 when it is ready
    #[command(after_help = "Examples:\n  portcullis status\n  portcullis status --json")]
    Status(status::StatusArgs),
    /// Make, list and end API keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// What was used, by key, model and day
    #[command(
        after_help = "Examples:\n  portcullis usage\n  portcullis usage --since 7d --json\n  portcullis usage --key Ab12Cd34 --since 2026-01-01"
    )]
    Usage(usage::UsageArgs),
    /// Read and verify the record of requests
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Look at a Cloudflare tunnel's configuration
    #[command(subcommand)]
    Tunnel(tunnel::TunnelCommand),
    /// Copy keys, audit and usage into one file, while the gateway runs
    #[command(
        after_help = "Examples:\n  portcullis backup /var/backups/portcullis-$(date +%F).backup\n\nThe copy holds the generated key in clear and the key of the audit's chain: keep it as you keep the data folder."
    )]
    Backup(backup::BackupArgs),
    /// Bring a backup back, while no gateway runs
    #[command(
        after_help = "Examples:\n  portcullis restore portcullis.backup\n  portcullis restore portcullis.backup --replace"
    )]
    Restore(backup::RestoreArgs),
    /// Print the completions of a shell
    #[command(
        after_help = "Examples:\n  portcullis completions bash > ~/.local/share/bash-completion/completions/portcullis\n  portcullis completions zsh > ~/.zfunc/_portcullis\n  portcullis completions fish > ~/.config/fish/completions/portcullis.fish"
    )]
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write one page for every command
    #[command(
        after_help = "Examples:\n  portcullis man | man -l -\n  portcullis man ~/.local/share/man/man1"
    )]
    Man(manual::ManArgs),
}

#[derive(Args, Debug, Clone)]
struct UpArgs {
    /// The engine's binary, where no Ollama is installed [default: beside this one, then PATH]
    #[arg(long, value_name = "PATH")]
    engine: Option<PathBuf>,
    /// A GGUF file or a folder of them, for the engine
    #[arg(long, value_name = "PATH")]
    models: Option<PathBuf>,
}

#[derive(Args, Debug, Clone, Copy)]
struct CheckArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List every key with its environment name, default and meaning
    #[arg(long)]
    keys: bool,
}

#[derive(Args, Debug, Clone, Default)]
struct Flags {
    /// The configuration file [default: ./portcullis.toml, then the user's config folder]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file that was found where nobody named one
    #[arg(skip)]
    found: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, global = true, value_name = "IP")]
    address: Option<String>,
    /// The port to listen on; 0 asks the system
    #[arg(long, global = true, value_name = "PORT")]
    port: Option<String>,
    /// Serve without a key although others can reach it
    #[arg(long, global = true)]
    i_know_this_is_public: bool,
    /// Set a damaged store aside, and begin a new one: keys and the record of requests are in the old file
    #[arg(long, global = true)]
    quarantine: bool,
    /// Any key of the configuration, such as limits.body=1MiB
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Flags {
    /// For commands beside a running gateway, which may hold an older configuration than the one that is written: a fault is told, and
    /// what it concerns is at its default. Where the data folder is in doubt, nothing is done.
    fn despite_faults(&self, env: &Env) -> Result<Config, Faults> {
        let (config, faults) =
            Config::read(self.config.as_deref(), env, |raw, faults| self.read_into(raw, faults));
        // What cannot be read at all may name another folder, and so may what is nearly called so.
        let in_doubt = |fault: &config::Fault| {
            let data = ["data.", "PORTCULLIS_DATA"]
                .iter()
                .any(|name| fault.key.starts_with(name) || fault.message.contains(name));
            data || fault.is_of_file()
        };
        if faults.0.iter().any(in_doubt) {
            return Err(faults);
        }
        for fault in &faults.0 {
            complain(format_args!("warning: {fault}"));
        }
        Ok(config)
    }

    /// The configuration file, whatever stands in it.
    fn file(&self, env: &Env) -> Option<PathBuf> {
        Config::read(self.config.as_deref(), env, |_, _| {}).0.file
    }

    fn load(&self, env: &Env, more: impl FnOnce(&mut Raw)) -> Result<Config, Faults> {
        let (named, found) = (self.config.as_deref(), self.found.as_deref());
        let config = Config::load_again(named, found, env, |raw, faults| {
            self.read_into(raw, faults);
            more(raw);
        })?;
        Ok(Config { quarantine: self.quarantine, ..config })
    }

    /// The same flags, with the file that was found.
    fn with_file(&self, file: Option<&Path>) -> Self {
        Self { found: file.map(Path::to_path_buf), ..self.clone() }
    }

    fn read_into(&self, raw: &mut Raw, faults: &mut Faults) {
        for pair in &self.set {
            match pair.split_once('=') {
                Some((key, value)) if crate::config::keys::find(key).is_some() => {
                    raw.set(key, value, Origin::Flag("--set"));
                }
                _ => faults.add(
                    pair.split('=').next().unwrap_or(""),
                    "--set",
                    "is not KEY=VALUE with a known key",
                ),
            }
        }
        if let Some(address) = &self.address {
            raw.set("listen.address", address, Origin::Flag("--address"));
        }
        if let Some(port) = &self.port {
            raw.set("listen.port", port, Origin::Flag("--port"));
        }
        if self.i_know_this_is_public {
            raw.set("listen.public", "true", Origin::Flag("--i-know-this-is-public"));
        }
    }
}

/// Reads the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors. Nobody is left to be told when the terminal is gone.
            let _gone = error.print();
            return ExitCode::from(if error.use_stderr() { WRONG } else { 0 });
        }
    };
    let env = Env::of_process();
    match cli.command {
        Some(Command::Check(args)) => check::run(&cli.flags, args, &env),
        Some(Command::Status(args)) => status::run(&cli.flags, args, &env),
        Some(Command::Doctor(args)) => doctor::run(&cli.flags, &args, &env),
        Some(Command::Key(command)) => key::run(&cli.flags, &command, &env),
        Some(Command::Usage(args)) => usage::run(&cli.flags, &args, &env),
        Some(Command::Audit(command)) => audit::run(&cli.flags, &command, &env),
        Some(Command::Tunnel(command)) => tunnel::run(&cli.flags, &command, &env),
        Some(Command::Backup(args)) => backup::back_up(&cli.flags, &args, &env),
        Some(Command::Restore(args)) => backup::restore(&cli.flags, &args, &env),
        Some(Command::Completions(args)) => manual::completions(args),
        Some(Command::Man(args)) => manual::pages(&args),
        Some(Command::Up(args)) => up::run(&cli.flags, &args, &env),
        None | Some(Command::Serve) => serve::run(&cli.flags, &env),
    }
}

/// One line to the terminal; a closed terminal stops nobody.
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _gone = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: impl std::fmt::Display) {
    use std::io::Write;
    let _gone = writeln!(std::io::stderr(), "{line}");
}

/// What went wrong with a command, and with which exit code.
enum Trouble {
    /// What was written.
    Usage(String),
    /// Anything else.
    Failed(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<FolderError> for Trouble {
    fn from(error: FolderError) -> Self {
        StoreError::from(error).into()
    }
}

/// Who types commands: the user of this process, for the record of what is done.
fn operator() -> Actor {
    let user = rustix::process::getuid().as_raw();
    Actor { by: format!("cli:{user}"), via: "cli", peer: None, request_id: 0 }
}

/// Records that somebody reads what only operators may. A store that cannot be written to can still be looked at: it may be a copy, or
/// the reason why somebody looks.
fn note_read(store: &mut Store, what: &'static str) {
    if let Err(error) = store.note_read(&operator().does(what, "-")) {
        complain(format_args!("warning: this reading is not recorded: {error}"));
    }
}

/// Ends a command.
fn ended(done: Result<(), Trouble>) -> ExitCode {
    let (text, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Trouble::Usage(text)) => (text, WRONG),
        Err(Trouble::Failed(text)) => (text, FAILED),
    };
    complain(format_args!("portcullis: {text}"));
    ExitCode::from(code)
}

/// Is nothing recorded yet? Says so.
fn nothing_yet(folder: &std::path::Path) -> bool {
    let nothing = !Store::is_in(folder);
    if nothing {
        complain(format_args!("nothing is recorded yet in {}", folder.display()));
    }
    nothing
}

/// A duration from now back, or a day: in milliseconds since 1970.
fn moment(field: &str, text: &str) -> Result<i64, Trouble> {
    if let Some(at) = stamp::start_of(text) {
        return Ok(at.saturating_mul(1_000));
    }
    let wrong = || {
        Trouble::Usage(format!(
            "{field}: {text:?} is neither a duration such as 7d nor a day such as 2026-01-17"
        ))
    };
    let back = config::duration(text).ok_or_else(wrong)?;
    Ok(wall().saturating_sub(i64::try_from(back.as_secs()).unwrap_or(i64::MAX)).saturating_mul(1_000))
}

/// Prints the faults of a configuration.
fn wrong(faults: &Faults) -> ExitCode {
    complain(format_args!(
        "portcullis: the configuration has {} fault(s); nothing was started",
        faults.0.len()
    ));
    for fault in &faults.0 {
        complain(format_args!("  {fault}"));
    }
    ExitCode::from(WRONG)
}
