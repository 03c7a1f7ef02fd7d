//! Signed identities: JSON Web Tokens of Cloudflare Access and of any `OpenID` Connect issuer (RFC 7519).
//!
//! Takes a token; promises an [`Identity`] that its issuer vouches for, for us, now. Refuses every algorithm but RS256, unknown keys,
//! another issuer or audience, tokens that are not yet or no longer valid, and what the token says of its own key (`jwk`, `jku`, `x5u`).
//! Never waits: a key that must be fetched first is a 503, fetched behind (`keys`).

mod fetch;
mod keys;

use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::config;
use crate::listen::clock::Millis;
use crate::types::KeyId;
use keys::{Found, SigningKeys};

/// Longer tokens are none: issuers that put groups into them stay below a few KiB.
const LONGEST: usize = 16 << 10;
/// Clocks differ by so many seconds.
const LEEWAY: u64 = 60;

/// Why a token is none. Its text is for the log, and holds nothing of the token.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// It proves nothing.
    #[error("{0}")]
    Invalid(&'static str),
    /// The issuer's keys are being fetched, or cannot be.
    #[error("the issuer's signing keys are not at hand")]
    Later,
}

/// Who somebody is, by their issuer's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// `access:alice@example.com`: the name of the key that holds this identity's limits, where there is one.
    pub(super) name: String,
    /// For records and limits, where there is none: tells people apart without naming them.
    pub(super) id: KeyId,
}

/// One issuer.
#[derive(Debug)]
pub(super) struct Issuer {
    prefix: &'static str,
    claims: Vec<String>,
    knows_addresses: bool,
    rules: Validation,
    keys: Arc<SigningKeys>,
}

impl Issuer {
    /// Begins to fetch its keys.
    pub(super) fn new(config: &config::Issuer) -> Self {
        let mut rules = Validation::new(Algorithm::RS256);
        rules.leeway = LEEWAY;
        rules.validate_nbf = true;
        rules.set_issuer(&[&config.issuer]);
        rules.set_audience(&config.audience);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        let keys = SigningKeys::fetched(config.keys_url.clone(), config.ca_file.clone());
        Self {
            prefix: config.prefix,
            claims: config.identity.clone(),
            knows_addresses: config.knows_addresses,
            rules,
            keys,
        }
    }

    /// Whom this token speaks for.
    pub(super) fn verify(&self, token: &str, now: Millis) -> Result<Identity, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Invalid("the token is too long"));
        }
        let head = decode_header(token).map_err(|_| TokenError::Invalid("this is not a token"))?;
        if head.alg != Algorithm::RS256 {
            return Err(TokenError::Invalid("the token is not signed with RS256"));
        }
        if head.crit.is_some() {
            return Err(TokenError::Invalid("the token asks for an extension"));
        }
        let key_id = head.kid.ok_or(TokenError::Invalid("the token names no signing key"))?;
        let key = match self.keys.find(&key_id, now) {
            Found::Key(key) => key,
            Found::Later => return Err(TokenError::Later),
            Found::Unknown => return Err(TokenError::Invalid("the token's signing key is unknown")),
        };
        let claims =
            decode::<Map<String, Value>>(token, &key, &self.rules).map_err(|error| reason(&error))?.claims;
        // A list that holds ours among others is no issuer (RFC 7519 section 4.1.1).
        if !claims.get("iss").is_some_and(Value::is_string) {
            return Err(TokenError::Invalid("the token is another issuer's"));
        }
        if claims
            .get("iat")
            .is_some_and(|at| seconds(at) > crate::store::wall().saturating_add(LEEWAY.cast_signed()))
        {
            return Err(TokenError::Invalid("the token was issued in the future"));
        }
        self.identity(&claims)
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, TokenError> {
        let named = self.claims.iter().find_map(|claim| {
            let text = claims.get(claim)?.as_str().filter(|text| !text.is_empty())?;
            Some((claim.as_str(), text))
        });
        let (claim, text) = named.ok_or(TokenError::Invalid("the token names nobody"))?;
        // An address that anybody could have typed in is nobody's: the issuer must say that it looked (OpenID Connect Core section 5.1).
        let verified = claims.get("email_verified");
        let verified =
            verified.map_or(self.knows_addresses, |verified| *verified == true || *verified == "true");
        if claim == "email" && !verified {
            return Err(TokenError::Invalid("the token's email address is not verified"));
        }
        if text.len() > 320 || text.chars().any(char::is_control) {
            return Err(TokenError::Invalid(
                "the token's name is longer than 320 bytes or holds control characters",
            ));
        }
        // Addresses are the same in any case; of subjects nobody knows (OpenID Connect Core section 2).
        let text = if claim == "email" { text.to_ascii_lowercase() } else { text.to_owned() };
        let name = format!("{}:{text}", self.prefix);
        let id = pseudonym(self.prefix, &name);
        Ok(Identity { name, id })
    }
}

/// A numeric date, which may have a fraction (RFC 7519 section 2); what is none lies ahead of everything.
fn seconds(at: &Value) -> i64 {
    let whole = at.to_string().split('.').next().and_then(|text| text.parse().ok());
    whole.filter(|_| at.is_number()).unwrap_or(i64::MAX)
}

/// `access-0123456789ab`: the first bytes of the name's SHA-256.
fn pseudonym(prefix: &str, name: &str) -> KeyId {
    let digest = Sha256::digest(name.as_bytes());
    let number = digest.iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    KeyId(format!("{prefix}-{number:012x}").into())
}

fn reason(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    TokenError::Invalid(match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is another issuer's",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks exp, iss or aud",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        _ => "the token is not valid",
    })
}
