//! The form of our keys: `pc_<8 characters, public id>_<43 of base62: 256 random bits><6 of base62: CRC-32>`.
//!
//! The prefix lets scanners find leaks, the check digits catch typing errors before any look-up, the id may stand in logs.

use std::fmt;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID: usize = 8;
const SECRET: usize = 43;
const CHECK: usize = 6;

/// A key of ours in clear. Prints as its id.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Why a key could not be made or read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
    /// Not the form, or the check digits do not fit.
    #[error("not a key of the form pc_…")]
    Form,
}

impl ApiKey {
    /// A new one from the system's random source.
    pub fn generate() -> Result<Self, KeyError> {
        let mut id = [0; ID];
        getrandom::fill(&mut id).map_err(|_| KeyError::Random)?;
        // The id only names the key; a slight bias of the modulus does not matter.
        let id: String = id.iter().map(|byte| digit(usize::from(*byte) % 62)).collect();
        Self::generate_for(&id)
    }

    /// A new secret for a key of this id.
    pub fn generate_for(id: &str) -> Result<Self, KeyError> {
        if id.len() != ID || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(KeyError::Form);
        }
        let mut bits = [0; 32];
        getrandom::fill(&mut bits).map_err(|_| KeyError::Random)?;
        let mut body = format!("pc_{id}_{}", base62(&bits, SECRET));
        let check = base62(&crc32fast::hash(body.as_bytes()).to_be_bytes(), CHECK);
        body.push_str(&check);
        Ok(Self(body))
    }

    /// Reads one, by its form and check digits alone.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let whole = text.len() == 3 + ID + 1 + SECRET + CHECK && text.is_ascii();
        let (body, check) = text.split_at_checked(text.len().saturating_sub(CHECK)).ok_or(KeyError::Form)?;
        let parts: Vec<&str> = body.split('_').collect();
        let form = matches!(parts.as_slice(), ["pc", id, secret] if id.len() == ID && secret.len() == SECRET
            && id.bytes().chain(secret.bytes()).all(|b| b.is_ascii_alphanumeric()));
        if whole && form && base62(&crc32fast::hash(body.as_bytes()).to_be_bytes(), CHECK) == check {
            Ok(Self(text.to_owned()))
        } else {
            Err(KeyError::Form)
        }
    }

    /// Is there a whole key somewhere in this text?
    pub fn is_in(text: &str) -> bool {
        let whole = |at: usize| text.get(at..at + 3 + ID + 1 + SECRET + CHECK);
        text.match_indices("pc_").any(|(at, _)| whole(at).is_some_and(|part| Self::parse(part).is_ok()))
    }

    /// The public part of what somebody presented, whether or not the rest is right: for the log.
    pub fn id_of(text: &str) -> Option<&str> {
        let id = text.strip_prefix("pc_")?.get(..ID)?;
        let form =
            id.bytes().all(|b| b.is_ascii_alphanumeric()) && text.as_bytes().get(3 + ID) == Some(&b'_');
        form.then_some(id)
    }

    /// The public part.
    pub fn id(&self) -> &str {
        self.0.get(3..3 + ID).unwrap_or_default()
    }

    /// The whole key, to show once or to hash.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(pc_{}_…)", self.id())
    }
}

fn digit(n: usize) -> char {
    char::from(ALPHABET.get(n % 62).copied().unwrap_or(b'0'))
}

/// A big-endian number in base 62, padded to `width`.
fn base62(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = Vec::with_capacity(width);
    for _ in 0..width {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        digits.push(digit(rest as usize));
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_form_and_differ() {
        let (a, b) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.reveal().len(), 61);
        assert_eq!(ApiKey::parse(a.reveal()), Ok(a.clone()));
        assert!(!format!("{a:?}").contains(a.reveal().split_at(12).1));
    }

    #[test]
    fn a_typing_error_is_seen_without_a_look_up() {
        let key = ApiKey::generate().unwrap();
        for at in [3, 12, 30, 60] {
            let mut text = key.reveal().as_bytes().to_vec();
            text[at] = if text[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(ApiKey::parse(std::str::from_utf8(&text).unwrap()), Err(KeyError::Form));
        }
        assert!(
            ApiKey::parse("pc_").is_err() && ApiKey::parse("").is_err() && ApiKey::parse("ключ").is_err()
        );
    }

    #[test]
    fn base62_is_a_plain_number() {
        assert_eq!(base62(&[0, 61], 2), "0z");
        assert_eq!(base62(&[0, 62], 2), "10");
        assert_eq!(base62(&[0xff; 4], 6), "4gfFC3");
    }
}
