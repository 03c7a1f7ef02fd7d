//! One document from an issuer, over HTTPS, whole or not at all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// In all, from the name to the last byte.
const WITHIN: Duration = Duration::from_secs(10);
/// A set of keys has a few KiB.
const MOST: u64 = 256 << 10;

/// Fetches one URL.
pub(super) struct Fetcher {
    agent: Agent,
    url: String,
}

impl Fetcher {
    /// `ca_file`: whom to believe about the server's name, instead of the public authorities.
    pub(super) fn new(url: String, ca_file: Option<PathBuf>) -> Self {
        let roots = match ca_file.map(std::fs::read) {
            None => RootCerts::WebPki,
            Some(Ok(pem)) => trusted(&pem),
            Some(Err(error)) => {
                tracing::error!(error = %error.kind(), "oidc.ca_file cannot be read: nobody is believed");
                trusted(b"")
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
        // Plain HTTP leads to this machine alone (`config`), and then no proxy may stand between.
        let plain = url.starts_with("http://");
        let mut config = Agent::config_builder()
            .tls_config(tls)
            .https_only(!plain)
            .max_redirects(0)
            .timeout_global(Some(WITHIN))
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if plain {
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), url }
    }

    pub(super) fn fetch(&self) -> Result<Vec<u8>, &'static str> {
        let answer = self.agent.get(&self.url).header("accept", "application/json").call();
        let mut answer = answer.map_err(|error| match error {
            ureq::Error::StatusCode(_) | ureq::Error::TooManyRedirects => {
                "the issuer answered with another status than 200"
            }
            ureq::Error::Timeout(_) => "the issuer did not answer in time",
            ureq::Error::HostNotFound => "the issuer's name has no address",
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "the issuer's certificate is not to be trusted",
            _ => "the issuer cannot be reached",
        })?;
        if answer.status() != 200 {
            return Err("the issuer answered with another status than 200");
        }
        let body = answer.body_mut().with_config().limit(MOST).read_to_vec();
        body.map_err(|_| "the issuer's answer broke off, or is too long")
    }
}

fn trusted(pem: &[u8]) -> RootCerts {
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let list: Vec<Certificate<'static>> = parse_pem(pem).filter_map(certificate).collect();
    RootCerts::Specific(Arc::new(list))
}
