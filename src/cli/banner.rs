//! What a start prints: where the page and the API are, the key, and a curl line that works when pasted.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{complain, say};
use crate::app::{App, Found, Generated};
use crate::config::{Config, Keys, Origin};
use crate::route::StandIn;
use crate::types::ModelName;

/// Prints the start-up lines; `found`: what the upstream has, where it says so.
pub(super) fn print(app: &App, config: &Config, found: Option<&Found>) {
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    let base = format!("{scheme}://{}", reachable(app.address));
    say(format_args!("Portcullis {}", env!("CARGO_PKG_VERSION")));
    say(format_args!("  page   {base}/chat"));
    say(format_args!("  API    {base}"));
    if let Some(socket) = &config.listen.socket {
        say(format_args!("  socket {}", socket.path.display()));
    }
    // What lies in the working folder decides: nobody should have to guess that it does.
    if let Some(file) = &config.file {
        say(format_args!("  config {}", shown(file)));
    }
    say(format_args!("  key    {}", key_line(&config.keys, app.generated.as_ref())));
    say(format_args!("  model  {}", model_line(&app.default_model, found)));
    if let Some(ops) = app.ops_address {
        say(format_args!("  ops    http://{}/metrics", reachable(ops)));
    }
    let auth = match (&config.keys, &app.generated) {
        (Keys::Public, _) => String::new(),
        (_, Some(generated)) => format!(" -H 'Authorization: Bearer {}'", generated.key.reveal()),
        // The operator's own key is repeated on a terminal, where the line is pasted from, and in no service's log.
        (Keys::Given(list), _) if on_terminal() && !list.is_empty() => {
            list.first().map_or_else(String::new, |key| format!(" -H 'Authorization: Bearer {key}'"))
        }
        (Keys::Given(list), _) if !list.is_empty() && is_in_variable(config) => {
            " -H \"Authorization: Bearer $OLLAMA_API_KEY\"".into()
        }
        _ => " -H 'Authorization: Bearer <your key>'".into(),
    };
    // What stands in for the default is named as well: the line works whatever becomes the default later.
    let model = match found {
        Some(Found::Instead(other) | Found::Nothing(Some(other))) => {
            format!("\"model\":\"{}\",", other.model)
        }
        _ => String::new(),
    };
    say(format_args!(
        "  try    curl {base}/chat_api{auth} -H 'Content-Type: application/json' -d '{{{model}\"prompt\":\"Say hello.\"}}'"
    ));
    for warning in warnings(config) {
        complain(format_args!("warning: {warning}"));
    }
}

/// Which model answers where a request names none, and why that one.
fn model_line(default: &ModelName, found: Option<&Found>) -> String {
    match found {
        Some(Found::Instead(StandIn { model, loaded })) => {
            let why = if *loaded { "is in memory" } else { "is the newest that can chat" };
            format!(
                "{model} (when a request names none: OLLAMA_MODEL is unset, {default} is not there, and this one {why})"
            )
        }
        _ => format!("{default} (when a request names none)"),
    }
}

/// What a start warns of.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut all = config.warnings.clone();
    match &config.keys {
        Keys::Public => all.push(
            "PUBLIC MODE: OLLAMA_API_KEY is empty, so anybody who reaches this address can use the models. \
             Unset it to have a key generated."
                .into(),
        ),
        Keys::Given(keys) if keys.iter().any(|key| key.len() < 20) => all.push(
            "a key shorter than 20 characters can be guessed; during a lock-out it is tried once a second at most".into(),
        ),
        _ => {}
    }
    if may_be_inherited(config) {
        all.push(format!("{INHERITED}; {KEEP_APART}"));
    }
    all
}

/// The whole path of a file that may have been found by a short one.
pub(super) fn shown(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// The variable is also the name of another secret.
pub(super) const INHERITED: &str = "the gateway's keys come from OLLAMA_API_KEY in the environment, where Ollama's own programs keep their key of ollama.com";
/// What ends that.
pub(super) const KEEP_APART: &str = "make sure that it is not that one; PORTCULLIS_KEYS_API_KEY, OLLAMA_API_KEY_FILE or keys.api_key in portcullis.toml say that it is yours";

/// Do the keys come from a variable that somebody may have set for another program? A service's own environment looks the same from inside.
pub(super) fn may_be_inherited(config: &Config) -> bool {
    is_in_variable(config) && matches!(&config.keys, Keys::Given(keys) if !keys.is_empty())
}

/// Is the key in the variable that the curl line names?
fn is_in_variable(config: &Config) -> bool {
    let (_, origin) = config.written.get("keys.api_key").unwrap_or(("", &Origin::Default));
    *origin == Origin::Env("OLLAMA_API_KEY".into())
}

fn on_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// `0.0.0.0` is where one listens, not where one goes.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: IpAddr =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() };
        return SocketAddr::new(loopback, address.port());
    }
    address
}

fn key_line(keys: &Keys, generated: Option<&Generated>) -> String {
    match (keys, generated) {
        (Keys::Public, _) => "none is asked: PUBLIC MODE".into(),
        (_, Some(Generated { key, new })) => {
            let how = if *new { "generated just now" } else { "generated at the first start" };
            format!("{}   ({how}; kept in the data folder)", key.reveal())
        }
        (Keys::Generated, None) => "those of the store: portcullis key list".into(),
        (Keys::Given(list), None) if list.is_empty() => {
            "none of your own: signed identities, and keys of the store".into()
        }
        (Keys::Given(list), None) if on_terminal() => list.join("  "),
        (Keys::Given(list), None) if list.len() > 1 => format!("any of your {} keys", list.len()),
        _ => "yours, from the configuration".into(),
    }
}
