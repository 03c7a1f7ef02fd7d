//! The model server: can anybody reach it beside the gate, and is it a version with known holes?

use std::net::{IpAddr, SocketAddr};

use super::Scene;
use super::finding::Finding;
use super::holes::{self, Hole};
use super::paths::{is_ollama, listed};
use super::target::Target;
use crate::cli::http::{Answer, Ask, knock};
use crate::cli::tunnel::OLLAMA;

/// Addresses that are tried, all at once: machines with many containers have hundreds.
const MOST: usize = 64;
const LOOPBACK: &str =
    "set OLLAMA_HOST=127.0.0.1 for Ollama itself (in its service, container or shell) and start it again";

/// What answers at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Ollama,
    Somebody,
}

/// Is the model server reachable on an address that others have?
pub(super) fn exposed(scene: &Scene<'_>, target: Option<&Target>, also: &[IpAddr]) -> Vec<Finding> {
    const CHECK: &str = "exposed";
    let url = &scene.config.upstream.url;
    let is_here = url.is_loopback() || scene.own.iter().any(|own| url.host.parse() == Ok(own.ip()));
    let mut ports = vec![OLLAMA];
    if is_here {
        ports.push(url.port);
    }
    ports.sort_unstable();
    ports.dedup();
    let listener = (scene.config.listen.address, scene.config.listen.port);
    let own = scene.own.iter().copied().chain(also.iter().map(|ip| SocketAddr::new(*ip, 0)));
    let is_gate =
        |at: &SocketAddr| at.port() == listener.1 && (listener.0.is_unspecified() || listener.0 == at.ip());
    let at: Vec<SocketAddr> = own
        .flat_map(|mut address| {
            ports.iter().map(move |&port| {
                address.set_port(port);
                address
            })
        })
        .filter(|at| !is_gate(at))
        .take(MOST)
        .collect();
    let mut heard = ask_all(&at);
    heard.extend(target.and_then(|target| by_name(scene, target)));
    let mut findings = vec![judge(CHECK, &heard, &ports)];
    if !is_here {
        findings.push(Finding::note(
            CHECK,
            "the model server runs on another machine or in another container: who reaches it there is not seen from here",
            "let only the gateway reach it: a network of their own, or a firewall",
        ));
    }
    findings
}

fn judge(check: &'static str, heard: &[(String, Heard)], ports: &[u16]) -> Finding {
    let those = |what| -> Vec<String> {
        heard.iter().filter(|(_, one)| *one == what).map(|(at, _)| at.clone()).collect()
    };
    let (ollama, somebody) = (those(Heard::Ollama), those(Heard::Somebody));
    if !ollama.is_empty() {
        return Finding::serious(
            check,
            format!(
                "the model server answers at {}: whoever reaches that goes around the gate",
                listed(&ollama)
            ),
            format!("{LOOPBACK}; where it must listen there, let a firewall keep everybody else away"),
        );
    }
    if !somebody.is_empty() {
        return Finding::note(
            check,
            format!("something answers at {}, and not as Ollama does", listed(&somebody)),
            "see what listens there (ss -ltnp), and whether it leads to the model server",
        );
    }
    let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    match heard.len() {
        0 => Finding::not_run(
            check,
            "this machine has no address but loopback",
            "name others, such as the host's behind a container, with --also ADDRESS",
        ),
        count => Finding::ok(
            check,
            format!("no model server answers on port {ports} ({count} tried beyond loopback)"),
        ),
    }
}

/// All at once: a firewall that says nothing costs two seconds in all.
fn ask_all(at: &[SocketAddr]) -> Vec<(String, Heard)> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = at.iter().map(|&at| (at, scope.spawn(move || hear(at)))).collect();
        let told = |(at, thread): (SocketAddr, std::thread::ScopedJoinHandle<'_, Heard>)| {
            (at.to_string(), thread.join().unwrap_or(Heard::Nothing))
        };
        asking.into_iter().map(told).collect()
    })
}

fn hear(at: SocketAddr) -> Heard {
    let Some(text) = knock(at, "/api/version") else { return Heard::Nothing };
    let Some(rest) = text.strip_prefix("HTTP/1.") else {
        // An empty answer is how a port mapping without a server behind it looks.
        return if text.is_empty() { Heard::Nothing } else { Heard::Somebody };
    };
    let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
    let is_gate = head.to_ascii_lowercase().contains("x-request-id:");
    // Ollama on loopback behind a port mapping refuses foreign names with a bare 403.
    if body.contains("\"version\"") && !is_gate || head.starts_with("1 403") && body.is_empty() {
        Heard::Ollama
    } else if is_gate {
        Heard::Nothing
    } else {
        Heard::Somebody
    }
}

/// Ollama's port at the public name.
fn by_name(scene: &Scene<'_>, target: &Target) -> Option<(String, Heard)> {
    let Target { host, given: true, .. } = target else { return None };
    if target.is_loopback() {
        return None;
    }
    let authority =
        if host.contains(':') { format!("[{host}]:{OLLAMA}") } else { format!("{host}:{OLLAMA}") };
    let heard = match scene.client(&format!("http://{authority}")).ask(Ask::get("/api/version")) {
        Ok(answer) if answer.id().is_some() => Heard::Nothing,
        Ok(answer) if is_ollama(&answer) || answer.status == 403 && answer.body.is_empty() => Heard::Ollama,
        Ok(_) => Heard::Somebody,
        Err(_) => Heard::Nothing,
    };
    Some((authority, heard))
}

/// Is it a version with known holes?
pub(super) fn version(scene: &Scene<'_>) -> Finding {
    const CHECK: &str = "version";
    let url = &scene.config.upstream.url;
    let base = format!("http://{}{}", url.authority(), url.prefix);
    let said = scene.client(&base).ask(Ask::get("/api/version"));
    match said.map(|answer| named(&answer)) {
        Err(why) => Finding::not_run(CHECK, format!("the model server does not answer: {why}"), "start it"),
        Ok(None) => {
            Finding::note(CHECK, "the model server names no version", "see what OLLAMA_LOCAL_URL leads to")
        }
        Ok(Some(version)) => match holes::known(&version) {
            None => Finding::note(
                CHECK,
                format!("the model server calls itself {version:?}: a build whose holes nobody lists"),
                format!("use a release, {} or later", holes::CLEAN),
            ),
            Some(holes) => told(CHECK, &version, &holes),
        },
    }
}

/// What it calls itself, with nothing in it that a terminal obeys.
fn named(answer: &Answer) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let version = value.get("version")?.as_str()?;
    Some(version.chars().filter(char::is_ascii_graphic).take(40).collect())
}

fn told(check: &'static str, version: &str, holes: &[&Hole]) -> Finding {
    let list: Vec<String> = holes.iter().map(|hole| format!("{} ({})", hole.id, hole.what)).collect();
    let seen = format!("Ollama {version} has known holes: {}", listed(&list));
    let fix = format!("update Ollama to {} or later", holes::CLEAN);
    if holes.is_empty() {
        Finding::ok(check, format!("Ollama {version}: no hole of the list (it ends with {})", holes::CLEAN))
    } else if holes.iter().any(|hole| hole.grave) {
        Finding::serious(
            check,
            seen,
            format!("{fix}; behind the gate callers reach few of them, around it all"),
        )
    } else {
        Finding::note(check, seen, fix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn whoever_answers_for_ollama_is_serious() {
        let one = |heard| vec![("192.0.2.7:11434".to_owned(), heard)];
        assert_eq!(judge("exposed", &one(Heard::Nothing), &[OLLAMA]).severity, Severity::Ok);
        assert_eq!(judge("exposed", &one(Heard::Ollama), &[OLLAMA]).severity, Severity::Serious);
        assert_eq!(judge("exposed", &one(Heard::Somebody), &[OLLAMA]).severity, Severity::Note);
        assert_eq!(judge("exposed", &[], &[OLLAMA]).severity, Severity::NotRun);
        let said = |version| told("version", version, &holes::known(version).unwrap()).severity;
        assert_eq!(
            [said("0.5.0"), said("0.32.14"), said("0.33.0")],
            [Severity::Serious, Severity::Note, Severity::Ok]
        );
    }

    #[test]
    fn a_version_cannot_write_on_the_terminal() {
        let answer = Answer { body: b"{\"version\":\"0.1\\u001b[2J\\n\"}".to_vec(), ..Answer::default() };
        assert_eq!(named(&answer).unwrap(), "0.1[2J");
    }
}
