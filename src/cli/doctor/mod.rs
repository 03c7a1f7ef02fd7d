//! `portcullis doctor`: attacks the deployment as an outsider would, and says what it found, with a fix for each finding.
//!
//! Every question is bounded in time, harmless where it gets through, and asked of one target: the public URL, else the gateway's own
//! listener. The key goes only to Portcullis itself, and never in clear to another machine.

mod abort;
mod address;
mod clock;
mod finding;
mod holes;
mod host;
mod local;
mod paths;
mod public;
mod stream;
mod target;
mod upstream;
mod witness;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;
use ureq::tls::{Certificate, RootCerts};

use self::finding::{Finding, Report};
use self::target::{Target, own_addresses};
use super::http::{Answer, Ask, Client, NoAnswer, Secret};
use super::{FAILED, Flags, Trouble, ended, wrong};
use crate::config::env::Env;
use crate::config::{Config, Keys};
use crate::identify::keyfile;

/// All questions together.
const TIME: Duration = Duration::from_secs(75);
/// What needs a gateway that answers.
const OUTSIDE: [&str; 6] = ["key-required", "paths", "headers", "client-address", "streaming", "abort"];

#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// The address that others use [default: the gateway's own listener]
    #[arg(long, value_name = "PUBLIC_URL")]
    url: Option<String>,
    /// A file that holds a key with the scope inference [default: the configured key, else the generated one]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A cloudflared configuration [default: those in the usual places]
    #[arg(long, value_name = "FILE")]
    tunnel: Option<PathBuf>,
    /// Another address of this machine, such as the one on a tailnet; may be given several times
    #[arg(long, value_name = "IP")]
    also: Vec<IpAddr>,
    /// Certificates (PEM) of an authority of your own
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The machine that the doctor stands on.
#[derive(Debug)]
struct Scene<'a> {
    config: &'a Config,
    /// Its addresses beyond loopback.
    own: Vec<SocketAddr>,
    until: Instant,
}

impl Scene<'_> {
    /// Asks a server, without a key.
    fn client(&self, base: &str) -> Client {
        Client::new(base, None, true, self.until)
    }
}

/// A deployment under examination.
#[derive(Debug)]
struct Case<'a> {
    config: &'a Config,
    target: Target,
    /// Asks the target; with the key where that is safe.
    client: Client,
    /// Asks the gateway's own listener, where it answers.
    local: Option<Client>,
    /// Asks the ops listener.
    operators: Option<Client>,
    /// `true`: a key goes along; `false`: none is asked. The error: why nothing is asked that needs one.
    key: Result<bool, String>,
    /// Does the record show our questions?
    is_recorded: bool,
}

pub(super) fn run(flags: &Flags, args: &DoctorArgs, env: &Env) -> ExitCode {
    let config = match flags.despite_faults(env) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    match examine(&config, args, env) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(text) => ended(Err(Trouble::Usage(text))),
    }
}

/// `true`: nothing is serious. The error: what was given cannot be used.
fn examine(config: &Config, args: &DoctorArgs, env: &Env) -> Result<bool, String> {
    let scene = Scene { config, own: own_addresses(), until: Instant::now() + TIME };
    let target = match &args.url {
        Some(url) => Some(Target::parse(url, &scene.own)?),
        None => Target::listener(config),
    };
    let key = key(config, args.key_file.as_deref())?;
    let roots = args.ca.as_deref().map(roots).transpose()?;
    let tunnels = local::tunnels(config, args.tunnel.as_deref(), env)?;
    let mut report = Report::new(args.json);
    let mut health = None;
    match &target {
        Some(target) => health = outside(&mut report, &scene, target, (key, roots)),
        None => report.add_all(["answers", "tls"].into_iter().chain(OUTSIDE).map(|check| {
            Finding::not_run(
                check,
                "the gateway's port is 0, so nobody knows it",
                "name it: --port N, or --url",
            )
        })),
    }
    report.add_all(upstream::exposed(&scene, target.as_ref(), &args.also));
    report.add(upstream::version(&scene));
    report.add(host::check(env));
    report.add_all(tunnels);
    report.add(local::operators(config));
    report.add(local::key_strength(&config.keys));
    report.add(local::key_origin(config));
    report.add(local::data_folder(&config.data_dir));
    report.add(local::config_file(config.file.as_deref()));
    report.add(local::secret_files(config, env));
    report.add(clock::check(target.as_ref(), health.as_ref()));
    Ok(report.end(target.as_ref().map(|target| target.base.as_str())))
}

/// The questions to the target, in order; what it said of its health.
fn outside(
    report: &mut Report,
    scene: &Scene<'_>,
    target: &Target,
    (key, roots): (Result<Option<Secret>, String>, Option<RootCerts>),
) -> Option<Answer> {
    // The listener's certificate names the public host; what is said to it stays on this machine.
    let client = Client::new(&target.base, roots.clone(), target.given, scene.until);
    let first = client.ask(Ask::get("/healthz"));
    let (client, health) = match &first {
        // What is asked without a key may be asked of whoever it is.
        Err(NoAnswer::Certificate(_)) => {
            let any = Client::new(&target.base, roots, false, scene.until);
            let health = any.ask(Ask::get("/healthz"));
            (any, health)
        }
        health => (client, health.clone()),
    };
    report.add(public::answers(target, &health));
    report.add(public::tls(scene, target, first.as_ref().err()));
    let Ok(health) = health else {
        report
            .add_all(OUTSIDE.map(|check| Finding::not_run(check, "nothing answers", "make it answer first")));
        return None;
    };
    let key = key.and_then(|key| may_go_there(target, first.as_ref()).map(|()| key));
    let secret = key.clone().ok().flatten();
    let own = Target::listener(scene.config)
        .map(|listener| Client::new(&listener.base, None, listener.given, scene.until));
    let mut case = Case {
        config: scene.config,
        target: target.clone(),
        client: client.with_key(secret.clone()),
        local: own
            .filter(|own| own.ask(Ask::get("/healthz")).is_ok_and(|answer| public::is_ours(&answer)))
            .map(|own| own.with_key(secret)),
        operators: Client::operators(scene.config, scene.until),
        key: key.map(|key| key.is_some()),
        is_recorded: false,
    };
    report.add(public::key_required(&case));
    report.add(paths::check(&case));
    report.add(public::headers(&case, &health));
    let (finding, is_recorded) = address::check(&case);
    case.is_recorded = is_recorded;
    report.add(finding);
    match model(&case) {
        Ok(model) => {
            report.add(stream::check(&case, &model));
            report.add(abort::check(&case, &model));
        }
        Err((why, fix)) => {
            report.add_all(["streaming", "abort"].map(|check| Finding::not_run(check, why.clone(), fix)));
        }
    }
    Some(health)
}

/// May a key go to whoever answered?
fn may_go_there(target: &Target, health: Result<&Answer, &NoAnswer>) -> Result<(), String> {
    let why = if matches!(health, Err(NoAnswer::Certificate(_))) {
        "the certificate does not hold, so the key stays here"
    } else if !target.https && !target.is_here() {
        "the key would travel in clear, so it stays here"
    } else if !health.is_ok_and(public::is_ours) {
        "it is not Portcullis that answers, so the key stays here"
    } else {
        return Ok(());
    };
    Err(why.into())
}

/// A model that can be asked something: the default one, else one that is loaded, else any; never one that says that it cannot chat. The error: why there is none, and what to do.
fn model(case: &Case<'_>) -> Result<String, (String, &'static str)> {
    const KEY: &str = "name a key with the scopes inference and read: --key-file FILE";
    const UP: &str = "start the model server, with a model: portcullis status";
    case.key.clone().map_err(|why| (why, KEY))?;
    let answer = case.client.ask(Ask::get("/models").with_key(true)).map_err(|why| (why.to_string(), UP))?;
    if answer.status != 200 {
        let fix = if answer.status >= 500 { UP } else { KEY };
        return Err((format!("the list of models answers {}", answer.status), fix));
    }
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let list = value.get("models").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let name = |model: &Value| Some(model.get("name")?.as_str()?.to_owned());
    let is = |model: &Value, what: &str| model.get(what).is_some_and(|mark| mark == true);
    let can_chat = |model: &&Value| {
        let said = model.get("capabilities").and_then(Value::as_array).filter(|list| !list.is_empty());
        said.is_none_or(|list| list.iter().any(|word| word == "completion"))
    };
    // The gateway marks the one that answers where a request names none.
    let best = |model: &&Value| (!is(model, "default"), !is(model, "loaded"));
    list.iter()
        .filter(|model| can_chat(model) || is(model, "default"))
        .min_by_key(best)
        .and_then(name)
        .ok_or_else(|| ("the list holds no model that can chat".to_owned(), UP))
}

/// A key to ask with: the one that was named, the configured one, the generated one. `None`: none is asked. The outer error: the named
/// file cannot be used; the inner: there is none here.
fn key(config: &Config, named: Option<&Path>) -> Result<Result<Option<Secret>, String>, String> {
    if config.access.is_some() {
        return Ok(Err("Cloudflare Access is asked for, and only Cloudflare can sign its assertion".into()));
    }
    if let Some(file) = named {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("--key-file: cannot read {}: {}", file.display(), error.kind()))?;
        let key = text.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("--key-file: {} holds no key", file.display()));
        }
        return Ok(Ok(Some(Secret(key.to_owned()))));
    }
    Ok(match &config.keys {
        Keys::Public => Ok(None),
        Keys::Given(keys) => match keys.first() {
            Some(key) => Ok(Some(Secret(key.clone()))),
            None => Err("there is no key of the operator's own".into()),
        },
        Keys::Generated => match keyfile::read(&config.data_dir) {
            Ok(Some(key)) => Ok(Some(Secret(key.reveal().to_owned()))),
            Ok(None) => Err("there is no key to ask with".into()),
            Err(error) => Err(error.to_string()),
        },
    })
}

/// The certificates of a PEM file.
fn roots(file: &Path) -> Result<RootCerts, String> {
    let pem = std::fs::read(file)
        .map_err(|error| format!("--ca: cannot read {}: {}", file.display(), error.kind()))?;
    let certificates: Vec<Certificate<'static>> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!("--ca: {} holds no certificate", file.display()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
