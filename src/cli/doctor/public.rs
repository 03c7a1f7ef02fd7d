//! The deployment's face: does Portcullis answer, over TLS, with its headers, and only to those with a key?

use super::finding::Finding;
use super::paths::is_ollama;
use super::target::Target;
use super::{Case, Scene};
use crate::cli::http::{Answer, Ask, NoAnswer};
use crate::config::Keys;

/// A model that nobody has: where no key is asked, nothing is loaded by it.
const NOBODY: &str = r#"{"model":"portcullis-doctor/nobody:none","messages":[],"stream":false}"#;

/// Is the gateway alive, and is it ours?
pub(super) fn is_ours(answer: &Answer) -> bool {
    answer.status == 200 && answer.id().is_some() && answer.text().contains("\"status\"")
}

pub(super) fn answers(target: &Target, health: &Result<Answer, NoAnswer>) -> Finding {
    const CHECK: &str = "answers";
    let base = &target.base;
    match health {
        Err(why) if target.given => Finding::serious(
            CHECK,
            format!("{base} gives no answer: {why}"),
            "start the gateway, its proxy or its tunnel; see where the name leads",
        ),
        Err(why) => Finding::serious(
            CHECK,
            format!("{base} gives no answer: {why}"),
            "start the gateway, or name its port (--port) or its public address (--url)",
        ),
        Ok(answer) if is_ours(answer) => match answer.front() {
            Some(front) => Finding::ok(CHECK, format!("Portcullis answers at {base}, behind {front}")),
            None => Finding::ok(CHECK, format!("Portcullis answers at {base}")),
        },
        Ok(answer) if is_ollama(answer) => Finding::serious(
            CHECK,
            format!("{base} is the model server itself: whoever finds it owns its models"),
            "lead the name to Portcullis (port 8000 by default), and bind the model server to 127.0.0.1",
        ),
        Ok(answer) => Finding::note(
            CHECK,
            format!("{base} answers {} to /healthz, and not as Portcullis does", answer.status),
            "where a login page or another site stands in front, run the doctor without --url as well; nothing that needs \
             a key is tried here",
        ),
    }
}

pub(super) fn tls(scene: &Scene<'_>, target: &Target, trouble: Option<&NoAnswer>) -> Finding {
    const CHECK: &str = "tls";
    if let Some(NoAnswer::Certificate(why)) = trouble {
        return Finding::serious(
            CHECK,
            format!("the certificate of {} does not hold: {why}", target.host),
            "get one that names this host from an authority that callers know; for one of your own: --ca FILE (a server's certificate that signs itself must say that it is no authority: openssl req … -addext basicConstraints=critical,CA:FALSE)",
        );
    }
    let listen = scene.config.listen.address;
    if !target.given && !target.https && !listen.is_loopback() {
        return Finding::note(
            CHECK,
            format!(
                "the gateway listens on {listen} in plain HTTP: keys travel in clear to whoever calls it there"
            ),
            "listen.address = \"127.0.0.1\" behind a tunnel or a proxy with TLS; in a container, publish the port on \
             127.0.0.1 alone",
        );
    }
    if !target.given {
        return Finding::not_run(CHECK, "no public address was named", "portcullis doctor --url https://…");
    }
    if !target.https {
        return if target.is_loopback() {
            Finding::not_run(CHECK, "a loopback address needs no TLS", "name the address that others use")
        } else {
            Finding::serious(
                CHECK,
                format!("{} is plain HTTP: keys and prompts travel in clear", target.base),
                "put TLS in front: a Cloudflare tunnel (deploy/cloudflare), or a reverse proxy with a certificate",
            )
        };
    }
    // A key that is sent to the plain port once has been read by whoever listens.
    let plain = format!("http://{}", target.host);
    match scene.client(&plain).ask(Ask::get("/healthz")) {
        Ok(answer) if target.plain_port && answer.status < 300 => Finding::note(
            CHECK,
            format!("the certificate holds; {plain} answers too, in clear"),
            "let plain HTTP redirect to https, and nothing else",
        ),
        _ => Finding::ok(CHECK, format!("the certificate of {} holds", target.host)),
    }
}

pub(super) fn key_required(case: &Case<'_>) -> Finding {
    const CHECK: &str = "key-required";
    let answer = match case.client.ask(Ask::post("/api/chat", NOBODY)) {
        Ok(answer) => answer,
        Err(why) => return Finding::not_run(CHECK, format!("no answer: {why}"), "run the doctor again"),
    };
    let (status, public) = (answer.status, case.config.keys == Keys::Public);
    match status {
        401 => Finding::ok(CHECK, "a chat without a key is refused with 401"),
        421 if public => Finding::note(
            CHECK,
            "public mode: no key is asked of whoever comes by a name in listen.hosts; this name is refused",
            "unset OLLAMA_API_KEY to have a key made",
        ),
        429 | 500.. => {
            Finding::not_run(CHECK, format!("a chat without a key answers {status}"), "run the doctor again")
        }
        300..=399 | 403 if answer.id().is_none() => Finding::ok(
            CHECK,
            format!("a chat without a key is stopped in front of the gateway, with {status}"),
        ),
        _ if public && (case.config.listen.public || case.target.is_loopback() && !case.target.given) => {
            Finding::note(
                CHECK,
                "public mode: OLLAMA_API_KEY is set and empty, so no key is asked",
                "unset OLLAMA_API_KEY to have a key made, or set it",
            )
        }
        _ => Finding::serious(
            CHECK,
            format!("a chat without a key is not refused for its lack: {status}"),
            "unset OLLAMA_API_KEY (a key is made) or set it, and let nothing but Portcullis answer at this address",
        ),
    }
}

pub(super) fn headers(case: &Case<'_>, health: &Answer) -> Finding {
    const CHECK: &str = "headers";
    let page = match case.client.ask(Ask::get("/chat")) {
        Ok(page) if page.status == 200 => page,
        Ok(page) => {
            let why = format!("the chat page answers {}", page.status);
            return Finding::not_run(CHECK, why, "look at the page in a browser");
        }
        Err(why) => return Finding::not_run(CHECK, format!("no answer: {why}"), "run the doctor again"),
    };
    let has = |answer: &Answer, name: &str, part: &str| {
        answer.header(name).is_some_and(|value| value.to_ascii_lowercase().contains(part))
    };
    let mut missing = Vec::new();
    for (answer, what, name, part) in [
        (&page, "the page", "content-security-policy", "default-src 'none'"),
        (&page, "the page", "content-security-policy", "frame-ancestors"),
        (&page, "the page", "referrer-policy", "no-referrer"),
        (&page, "the page", "x-content-type-options", "nosniff"),
        (health, "the API", "x-content-type-options", "nosniff"),
        (health, "the API", "cache-control", "no-store"),
    ] {
        if !has(answer, name, part) {
            missing.push(format!("{name} ({part}) on {what}"));
        }
    }
    if !missing.is_empty() {
        return Finding::serious(
            CHECK,
            format!("missing: {}", missing.join("; ")),
            "let the proxy pass the gateway's headers on, and set none of these itself",
        );
    }
    let mut notes = Vec::new();
    if case.target.https && page.header("strict-transport-security").is_none() {
        notes.push((
            "there is no Strict-Transport-Security".to_owned(),
            "where every service of this host name speaks TLS, let the proxy add Strict-Transport-Security: max-age=31536000",
        ));
    }
    let told = ["server", "x-powered-by"].iter().filter_map(|name| page.header(name));
    // A name is what everybody can guess; a version is what somebody looks up.
    notes.extend(
        told.filter(|value| value.contains('/'))
            .map(|value| (format!("a version is told: {value}"), "hide it (nginx: server_tokens off)")),
    );
    if notes.is_empty() {
        return Finding::ok(CHECK, "policy of the page, nosniff, no-store and no-referrer arrive");
    }
    let (seen, fixes): (Vec<_>, Vec<_>) = notes.into_iter().unzip();
    Finding::note(CHECK, format!("what the gateway sends arrives; {}", seen.join("; ")), fixes.join("; "))
}
