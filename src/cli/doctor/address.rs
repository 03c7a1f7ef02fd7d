//! Are client addresses true? A request claims an address that is nobody's (RFC 5737), and the audit says what the gateway believed.

use std::net::{IpAddr, Ipv4Addr};

use super::Case;
use super::finding::Finding;
use super::witness::{Looked, PATIENCE, look};
use crate::cli::http::Ask;
use crate::config::TrustedProxy;

const CHECK: &str = "client-address";
const HOW: &str = "run the doctor on the gateway's machine, as its user and with its configuration, with audit.mode = \"buffered\"";

/// What the gateway wrote down for one lie.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noted {
    /// The header that lied.
    header: &'static str,
    /// `None`: no address is known.
    peer: Option<IpAddr>,
    /// Did something stand in front?
    front: bool,
}

/// The finding, and whether the record shows our questions at all.
pub(super) fn check(case: &Case<'_>) -> (Finding, bool) {
    let mut last = [7];
    // Any of them will do.
    let _unseeded = getrandom::fill(&mut last);
    let forged = Ipv4Addr::new(203, 0, 113, last.first().copied().unwrap_or(7).clamp(1, 254));
    let (text, forwarded) = (forged.to_string(), format!("for={forged}"));
    let mut noted = Vec::new();
    // Apart: Cloudflare refuses whoever sends its own header, and would hide what the others do.
    let lies: [(&'static str, &[(&'static str, &str)]); 2] = [
        (
            "X-Forwarded-For",
            &[
                ("x-forwarded-for", &text),
                ("x-real-ip", &text),
                ("true-client-ip", &text),
                ("forwarded", &forwarded),
            ],
        ),
        ("CF-Connecting-IP", &[("cf-connecting-ip", &text)]),
    ];
    for (header, headers) in lies {
        // Without a key: the refusal has its row, and costs nothing.
        let Ok(answer) = case.client.ask(Ask::get("/models").with(headers)) else { continue };
        let Some(id) = answer.id() else { continue };
        match look(case.config, PATIENCE, |row| row.request_id == id) {
            Looked::Row(row) => {
                noted.push(Noted { header, peer: row.peer, front: answer.front().is_some() });
            }
            Looked::Nothing => {}
            Looked::Cannot(why) => return (Finding::not_run(CHECK, why, HOW), false),
        }
    }
    let rule = &case.config.listen.trusted_proxy;
    (
        judge(
            &noted,
            forged.into(),
            rule,
            case.target.given && !case.target.is_loopback(),
            case.target.given,
        ),
        !noted.is_empty(),
    )
}

fn judge(noted: &[Noted], forged: IpAddr, rule: &TrustedProxy, far: bool, given: bool) -> Finding {
    if let Some(lie) = noted.iter().find(|noted| noted.peer == Some(forged)) {
        let seen =
            format!("a caller who sends {} is taken for whom it names: {forged} was recorded", lie.header);
        return if given {
            Finding::serious(
                CHECK,
                format!("{seen}; lock-out and limits per address can be walked around, and the audit lies"),
                "set listen.trusted_proxy to what really stands in front (its address, hops=N), let that proxy overwrite \
                 the header, and let nobody reach the gateway beside it; without a proxy: none",
            )
        } else {
            Finding::note(
                CHECK,
                format!("{seen}, from this machine: listen.trusted_proxy trusts it"),
                "name the public address (--url) to see whether callers from outside can do the same",
            )
        };
    }
    let Some(first) = noted.first() else {
        return Finding::not_run(
            CHECK,
            "the record shows none of our questions: it is another gateway's",
            HOW,
        );
    };
    match first.peer {
        None => Finding::note(
            CHECK,
            "no client address is known here: limits per address and the lock-out hold for all together",
            "give everybody a key of their own (portcullis key create)",
        ),
        Some(peer) if far && (peer.is_loopback() || first.front && *rule == TrustedProxy::None) => {
            Finding::note(
                CHECK,
                format!("every caller is recorded as {peer}, the proxy's address: they share one lock-out"),
                "set listen.trusted_proxy to what stands in front: cloudflare, caddy, or its address and hops=N",
            )
        }
        Some(peer) => {
            Finding::ok(CHECK, format!("forged client addresses are not believed; recorded was {peer}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn who_is_believed_decides() {
        let forged: IpAddr = "203.0.113.9".parse().unwrap();
        let noted =
            |peer: &str, front| vec![Noted { header: "X-Forwarded-For", peer: peer.parse().ok(), front }];
        let hops = TrustedProxy::Forwarded { peers: vec!["127.0.0.0/8".parse().unwrap()], hops: 1 };
        for (noted, rule, far, given, expected) in [
            (noted("203.0.113.9", false), &hops, false, true, Severity::Serious),
            (noted("203.0.113.9", true), &TrustedProxy::Cloudflare, true, true, Severity::Serious),
            (noted("203.0.113.9", false), &hops, false, false, Severity::Note),
            (noted("127.0.0.1", false), &TrustedProxy::None, false, true, Severity::Ok),
            (noted("127.0.0.1", true), &TrustedProxy::None, true, true, Severity::Note),
            (noted("172.17.0.2", true), &TrustedProxy::None, true, true, Severity::Note),
            (noted("198.51.100.7", true), &TrustedProxy::Cloudflare, true, true, Severity::Ok),
            (noted("unknown", true), &TrustedProxy::HuggingFace, true, true, Severity::Note),
            (vec![], &TrustedProxy::None, true, true, Severity::NotRun),
        ] {
            let finding = judge(&noted, forged, rule, far, given);
            assert_eq!(finding.severity, expected, "{noted:?} {finding:?}");
        }
    }
}
