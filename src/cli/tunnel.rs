//! `portcullis tunnel check`: is a cloudflared configuration safe? Only the gateway may be behind the tunnel, never the model server.
//!
//! Takes the file as cloudflared reads it (YAML, `ingress` rules from top to bottom); names each line that opens another way. A host name
//! does not matter: whoever finds it is in.

mod yaml;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use saphyr::{LoadableYamlNode, MarkedYaml, YamlData};
use serde_json::json;

use yaml::{fields, get, is_true, text_of};

use super::{FAILED, Flags, WRONG, complain, say, wrong};
use crate::config::Config;
use crate::config::env::Env;

/// Ollama's own.
pub(super) const OLLAMA: u16 = 11434;
/// Bytes of a configuration.
const MOST: u64 = 1 << 20;

#[derive(Subcommand, Debug)]
pub(super) enum TunnelCommand {
    /// Refuse a cloudflared configuration that opens another way than the gateway; exit code 0 safe, 1 not, 2 unreadable
    #[command(
        after_help = "Examples:\n  portcullis tunnel check ~/.cloudflared/config.yml\n  portcullis tunnel check /etc/cloudflared/config.yml --json"
    )]
    Check(CheckArgs),
}

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line that is not safe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) line: usize,
    pub(super) what: String,
    pub(super) fix: &'static str,
}

pub(super) fn run(flags: &Flags, command: &TunnelCommand, env: &Env) -> ExitCode {
    let TunnelCommand::Check(args) = command;
    let config = match flags.despite_faults(env) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(why) => return unreadable(args, &why),
    };
    match check(&text, &closed(&config)) {
        Err(why) => unreadable(args, &why),
        Ok(findings) => tell(args, &findings),
    }
}

/// A port, and what listens there.
pub(super) type Closed = (u16, &'static str);

/// The ports of this machine that no tunnel may lead to.
pub(super) fn closed(config: &Config) -> Vec<Closed> {
    let model_server = [OLLAMA, config.upstream.url.port].map(|port| (port, "the model server's"));
    let operators = config.ops.address.map(|address| (address.port(), "the operators' listener's"));
    model_server.into_iter().chain(operators).collect()
}

/// The text of a configuration.
pub(super) fn read(file: &std::path::Path) -> Result<String, String> {
    let fault = |error: std::io::Error| format!("cannot read {}: {}", file.display(), error.kind());
    if std::fs::metadata(file).map_err(fault)?.len() > MOST {
        return Err(format!("{} is larger than {MOST} bytes", file.display()));
    }
    std::fs::read_to_string(file).map_err(fault)
}

fn unreadable(args: &CheckArgs, why: &str) -> ExitCode {
    if args.json {
        say(json!({"ok": false, "error": why, "findings": []}));
    }
    complain(format_args!("portcullis: {why}"));
    ExitCode::from(WRONG)
}

fn tell(args: &CheckArgs, findings: &[Finding]) -> ExitCode {
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|finding| json!({"line": finding.line, "what": finding.what, "fix": finding.fix}))
            .collect();
        say(json!({"ok": list.is_empty(), "findings": list}));
    } else {
        for Finding { line, what, fix } in findings {
            say(format_args!("{}:{line}: {what}\n    {fix}", args.file.display()));
        }
        if findings.is_empty() {
            say(format_args!("{} is safe: no rule leads around the gateway", args.file.display()));
        }
    }
    ExitCode::from(if findings.is_empty() { 0 } else { FAILED })
}

/// All findings, by line; the error: it is no configuration.
pub(super) fn check(text: &str, closed: &[Closed]) -> Result<Vec<Finding>, String> {
    let documents = MarkedYaml::load_from_str(text).map_err(|error| format!("no YAML: {error}"))?;
    let [document] = documents.as_slice() else {
        return Err(format!("{} YAML documents: cloudflared reads one", documents.len()));
    };
    if !matches!(document.data, YamlData::Mapping(_)) {
        return Err("no YAML mapping at the top level".into());
    }
    let mut findings = yaml::refused(text, document);
    let mut add = |node: &MarkedYaml<'_>, what: String, fix| {
        findings.push(Finding { line: node.span.start.line(), what, fix });
    };
    let mut ingress = None;
    for (name, value) in fields(document) {
        match text_of(name).as_str() {
            "ingress" => ingress = Some((name, value)),
            "url" | "unix-socket" => {
                let what =
                    format!("`{}` at the top level sends every host name to one service", text_of(name));
                add(name, what, "use ingress rules that end with a catch-all");
            }
            key @ ("bastion" | "socks5" | "hello-world") if is_true(value) => {
                add(name, format!("`{key}` lets callers choose where they go"), "take it out");
            }
            "warp-routing" if get(value, "enabled").is_some_and(is_true) => {
                let what =
                    "`warp-routing` opens the whole network behind the tunnel, the model server included";
                add(name, what.into(), "take it out, or give the model server's address to nobody by policy");
            }
            "originRequest" => origin(value, &mut add),
            _ => {}
        }
    }
    match ingress {
        None => add(
            document,
            "there are no ingress rules".into(),
            "write `ingress:` with the gateway and a catch-all",
        ),
        Some((name, rules)) => self::rules(name, rules, closed, &mut add),
    }
    findings.sort_by_key(|finding| finding.line);
    Ok(findings)
}

fn rules<'y>(
    name: &MarkedYaml<'y>,
    rules: &MarkedYaml<'y>,
    closed: &[Closed],
    add: &mut impl FnMut(&MarkedYaml<'y>, String, &'static str),
) {
    let YamlData::Sequence(list) = &rules.data else {
        return add(
            name,
            "`ingress` is not a list of rules".into(),
            "write a list: `- hostname: …` and `service: …`",
        );
    };
    for rule in list {
        if let Some(options) = get(rule, "originRequest") {
            origin(options, add);
        }
        let Some(service) = get(rule, "service") else {
            add(
                rule,
                "a rule without a service".into(),
                "say where it leads: to the gateway's listen.socket (`service: unix:/…`) or listen.port (`service: http://127.0.0.1:8000`)",
            );
            continue;
        };
        if let Some(what) = leads_astray(&text_of(service), closed) {
            add(
                service,
                what,
                "lead it to the gateway's listen.socket (`service: unix:/…`) or listen.port (`service: http://127.0.0.1:8000`)",
            );
        }
    }
    let fix = "end the list with `- service: http_status:404`";
    match list.last() {
        Some(end) if is_catch_all(end) => {}
        None => add(name, "`ingress` is empty".into(), fix),
        Some(end) => {
            add(end, "the last rule has a condition: a catch-all has neither hostname nor path".into(), fix);
        }
    }
}

/// No host name (or any), and no path.
fn is_catch_all(rule: &MarkedYaml<'_>) -> bool {
    let empty = |name| get(rule, name).map(text_of).is_none_or(|text| text.is_empty() || text == "*");
    empty("hostname") && empty("path")
}

fn origin<'y>(options: &MarkedYaml<'y>, add: &mut impl FnMut(&MarkedYaml<'y>, String, &'static str)) {
    if let Some(mode) = get(options, "bastionMode").filter(|mode| is_true(mode)) {
        add(mode, "`bastionMode` lets callers choose where they go".into(), "take it out");
    }
    if let Some(kind) = get(options, "proxyType").filter(|kind| text_of(kind).eq_ignore_ascii_case("socks")) {
        add(kind, "`proxyType: socks` lets callers choose where they go".into(), "take it out");
    }
}

/// What is wrong with where a rule leads.
fn leads_astray(service: &str, closed: &[Closed]) -> Option<String> {
    let lower = service.trim().to_ascii_lowercase();
    if ["bastion", "socks-proxy"].contains(&lower.as_str()) {
        return Some(format!("`{lower}` lets callers choose where they go, the model server included"));
    }
    let (scheme, rest) = lower.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).or(match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    });
    let (port, whose) = closed.iter().find(|(closed, _)| Some(*closed) == port)?;
    Some(format!("it leads to port {port}, which is {whose}: whoever finds the name goes around the gate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn lines(text: &str) -> Vec<(usize, String)> {
        let found =
            check(text, &[(OLLAMA, "the model server's"), (9999, "the operators' listener's")]).unwrap();
        found.into_iter().map(|finding| (finding.line, finding.what)).collect()
    }

    #[test]
    fn what_is_shipped_is_safe() {
        let text = include_str!("../../deploy/cloudflare/cloudflare-tunnel-config.yml");
        assert_eq!(check(text, &[(OLLAMA, "the model server's")]), Ok(vec![]));
    }

    #[test]
    fn each_other_way_is_named_with_its_line() {
        let end = "  - service: http_status:404\n";
        for (text, line, words) in [
            (
                format!("ingress:\n  - hostname: a.example\n    service: http://localhost:11434\n{end}"),
                3,
                "port 11434",
            ),
            (
                format!(
                    "ingress:\n  - hostname: '*.example'\n    service: \"http://10.0.0.5:11434/api\"\n{end}"
                ),
                3,
                "port 11434",
            ),
            (format!("ingress:\n  - service: tcp://[::1]:11434\n{end}"), 2, "port 11434"),
            (format!("ingress:\n  - service: HTTP://user@host:9999\n{end}"), 2, "port 9999"),
            (format!("ingress:\n  - {{hostname: a, service: 'http://x:11434'}}\n{end}"), 2, "port 11434"),
            (format!("ingress:\n  - hostname: ssh.example\n    service: bastion\n{end}"), 3, "`bastion`"),
            (format!("ingress:\n  - service: socks-proxy\n{end}"), 2, "`socks-proxy`"),
            (format!("url: http://localhost:8000\ningress:\n{end}"), 1, "`url`"),
            (format!("warp-routing:\n  enabled: true\ningress:\n{end}"), 1, "`warp-routing`"),
            (
                format!(
                    "ingress:\n  - service: http://localhost:8000\n    originRequest:\n      bastionMode: yes\n{end}"
                ),
                4,
                "`bastionMode`",
            ),
            (format!("originRequest:\n  proxyType: socks\ningress:\n{end}"), 2, "socks"),
            (
                "ingress:\n  - hostname: a.example\n    service: http://localhost:8000\n".into(),
                2,
                "a catch-all has neither",
            ),
            ("ingress:\n  - path: /x\n    service: http_status:404\n".into(), 2, "a catch-all has neither"),
            ("tunnel: x\n".into(), 1, "no ingress rules"),
            ("ingress: []\n".into(), 1, "empty"),
            (format!("ingress:\n  - hostname: a.example\n{end}"), 2, "without a service"),
            (
                format!(
                    "x: &o http://127.0.0.1:11434\ningress:\n  - hostname: a.example\n    service: *o\n{end}"
                ),
                0,
                "port 11434",
            ),
        ] {
            let found = lines(&text);
            assert_eq!(found.len(), 1, "{text}{found:?}");
            assert!(found[0].1.contains(words), "{text}{found:?}");
            assert!(line == 0 || found[0].0 == line, "{text}{found:?}");
        }
        assert_eq!(lines(&format!("ingress:\n  - service: http://localhost:8000\n{end}")), []);
        assert_eq!(lines(&format!("ingress:\n  - service: unix:/run/portcullis.sock\n{end}")), []);
        for broken in ["", "a: b: c", "- a\n- b\n", "a: 1\n---\nb: 2\n", "a: [\n"] {
            assert!(check(broken, &[(OLLAMA, "the model server's")]).is_err(), "{broken:?}");
        }
    }
}
