//! `[access]` and `[oidc]`: who may vouch for callers.

use std::path::PathBuf;

use super::resolved::{Access, Issuer};
use super::value::Reader;

impl Reader<'_> {
    pub(super) fn access(&mut self) -> Option<Access> {
        let is_identity = self.choice("access.mode", &["add", "identity"]) == "identity";
        let audience = self.list("access.audience");
        let team = self.text("access.team").trim().trim_end_matches('/').to_owned();
        if team.is_empty() {
            self.alone("access.audience", "access.team");
            return None;
        }
        let plain = team.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let issuer = if plain { format!("https://{team}.cloudflareaccess.com") } else { team };
        if !is_trusted_url(&issuer) || issuer.matches('/').count() != 2 {
            self.bad("access.team", "a team's name such as acme, or https://acme.cloudflareaccess.com");
        }
        self.present("access.audience", "access.team", audience.is_empty());
        let keys_url = format!("{issuer}/cdn-cgi/access/certs");
        // People have an address, service tokens a common name.
        let identity = vec!["email".to_owned(), "common_name".to_owned()];
        let issuer = Issuer {
            prefix: "access",
            issuer,
            audience,
            keys_url,
            identity,
            knows_addresses: true,
            ca_file: None,
        };
        Some(Access { issuer, is_identity })
    }

    pub(super) fn oidc(&mut self) -> Option<Issuer> {
        let (issuer, audience) = (self.text("oidc.issuer"), self.list("oidc.audience"));
        let keys_url = self.text("oidc.jwks_url");
        if issuer.is_empty() {
            self.alone("oidc.audience", "oidc.issuer");
            self.alone("oidc.jwks_url", "oidc.issuer");
            return None;
        }
        self.present("oidc.audience", "oidc.issuer", audience.is_empty());
        self.present("oidc.jwks_url", "oidc.issuer", keys_url.is_empty());
        for (name, url) in [("oidc.issuer", &issuer), ("oidc.jwks_url", &keys_url)] {
            if !url.is_empty() && !is_trusted_url(url) {
                self.bad(name, "an https:// URL (http:// leads to this machine alone)");
            }
        }
        let claim = self.text("oidc.identity");
        if claim.is_empty() {
            self.bad("oidc.identity", "the name of a claim, such as sub or email");
        }
        let ca_file = self.raw.get("oidc.ca_file").map(|(text, _)| text).filter(|text| !text.is_empty());
        let ca_file = ca_file.map(PathBuf::from);
        if let Some(Err(error)) = ca_file.as_ref().map(std::fs::read) {
            self.bad("oidc.ca_file", &format!("a file that can be read ({})", error.kind()));
        }
        let identity = vec![claim];
        Some(Issuer { prefix: "oidc", issuer, audience, keys_url, identity, knows_addresses: false, ca_file })
    }

    /// A setting that means nothing without another.
    fn alone(&mut self, name: &str, needs: &str) {
        if self.raw.get(name).is_some_and(|(text, _)| !text.is_empty()) {
            self.faults.add(
                name,
                self.origin(name),
                format!("is set, and {needs} is not: nothing would be checked"),
            );
        }
    }

    fn present(&mut self, name: &str, needs: &str, missing: bool) {
        if missing {
            self.faults.add(name, self.origin(name), format!("is missing: {needs} is set and needs it"));
        }
    }
}

/// What is fetched over plain HTTP could be anybody's word, but for this machine's.
fn is_trusted_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or("");
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let clean = !host.is_empty() && url.bytes().all(|b| b.is_ascii_graphic()) && !url.contains(['@', '#']);
    let here = host.eq_ignore_ascii_case("localhost") || host == "[::1]" || host == "127.0.0.1";
    clean && (scheme == "https" || (scheme == "http" && here))
}
