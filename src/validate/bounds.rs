//! Typed reads: a value as what its field holds, within its bound.
//!
//! Each takes the place of a field and its value; promises the value as a Rust type. Refuses with the field's name, the
//! bound, and what came instead: numbers and short words are shown, the content of prompts never is.

use std::fmt;

use super::json::{Entries, Json};
use super::{ValidateError, shown};
use crate::record::mask;

/// Where a value stands: `options.top_k`, `messages[2].images[0]`. Costs nothing until it is written into an error.
#[derive(Debug, Clone, Copy)]
pub struct At<'p> {
    within: Option<&'p Self>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Name(&'p str),
    /// The caller's own word.
    Key(&'p str),
    Index(usize),
}

/// Bytes of a place in an error: a schema of the caller's own words may be deep.
const MAX_PLACE: usize = 128;

impl<'p> At<'p> {
    /// A field of the top level.
    pub const fn top(name: &'p str) -> Self {
        Self { within: None, step: Step::Name(name) }
    }

    /// A field of the object here.
    #[must_use]
    pub const fn field(&'p self, name: &'p str) -> Self {
        Self { within: Some(self), step: Step::Name(name) }
    }

    /// A member of the object here, whose key the caller chose: it is escaped and cut.
    #[must_use]
    pub const fn key(&'p self, key: &'p str) -> Self {
        Self { within: Some(self), step: Step::Key(key) }
    }

    /// An item of the list here, from 0.
    #[must_use]
    pub const fn item(&'p self, index: usize) -> Self {
        Self { within: Some(self), step: Step::Index(index) }
    }

    /// The refusal of what stands here.
    pub fn refuse(&self, message: impl Into<String>) -> ValidateError {
        let mut field = self.to_string();
        let mut ours = self.ours().map_or(0, |at| at.to_string().len());
        if field.len() > MAX_PLACE {
            // Where it begins and where it ends say most.
            let (head, tail) = (MAX_PLACE / 2 - 2, field.len() - MAX_PLACE / 2 + 2);
            let head = field.floor_char_boundary(head);
            let tail = field.ceil_char_boundary(tail);
            field.replace_range(head..tail, "…");
            ours = ours.min(head);
        }
        ValidateError::Field { field, ours, message: message.into() }
    }

    /// The part of this place that holds no word of the caller's; `None`: not even its beginning.
    fn ours(&self) -> Option<&Self> {
        let (mut ours, mut at) = (Some(self), Some(self));
        while let Some(here) = at {
            if matches!(here.step, Step::Key(_)) {
                ours = here.within;
            }
            at = here.within;
        }
        ours
    }

    fn wanted(&self, what: impl fmt::Display, got: &Json<'_>) -> ValidateError {
        self.refuse(format!("must be {what}, not {}", received(got)))
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.within, self.step) {
            (None, Step::Name(name)) => f.write_str(name),
            (Some(within), Step::Name(name)) => write!(f, "{within}.{name}"),
            (within, Step::Key(key)) => {
                if let Some(within) = within {
                    write!(f, "{within}.")?;
                }
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$');
                if key.len() <= 40 && !key.is_empty() && key.bytes().all(plain) {
                    f.write_str(&mask(key))
                } else {
                    f.write_str(&shown(key))
                }
            }
            (Some(within), Step::Index(index)) => write!(f, "{within}[{index}]"),
            (None, Step::Index(index)) => write!(f, "[{index}]"),
        }
    }
}

/// What came, as an error may show it.
fn received(value: &Json<'_>) -> String {
    match value {
        Json::Bool(value) => value.to_string(),
        Json::Int(value) => value.to_string(),
        Json::UInt(value) => value.to_string(),
        Json::Float(value) => format!("{value:?}"),
        Json::Str(text) => shown(text),
        other => other.kind().to_owned(),
    }
}

/// Text of any length; nothing of another value is shown but its type, since such fields hold prompts.
pub fn text<'t>(at: At<'_>, value: &'t Json<'_>) -> Result<&'t str, ValidateError> {
    match value {
        Json::Str(text) => Ok(text),
        other => Err(at.refuse(format!("must be a string, not {}", other.kind()))),
    }
}

/// Text of at most so many characters.
pub fn short_text<'t>(at: At<'_>, value: &'t Json<'_>, most: usize) -> Result<&'t str, ValidateError> {
    let text = text(at, value)?;
    // Bytes are never fewer than characters, so most texts need no counting.
    if text.len() <= most {
        return Ok(text);
    }
    match text.chars().count() {
        count if count > most => Err(at.refuse(format!("must have at most {most} characters, not {count}"))),
        _ => Ok(text),
    }
}

/// `true` or `false`.
pub fn flag(at: At<'_>, value: &Json<'_>) -> Result<bool, ValidateError> {
    match value {
        Json::Bool(flag) => Ok(*flag),
        other => Err(at.wanted("true or false", other)),
    }
}

/// The whole number that a value is, however it is spelled: `1`, `1.0`, `1e0`.
pub fn whole(value: &Json<'_>) -> Option<i128> {
    match value {
        Json::Int(n) => Some(i128::from(*n)),
        Json::UInt(n) => Some(i128::from(*n)),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole, and beyond i128 the cast saturates beyond every bound"
        )]
        Json::Float(n) if n.fract() == 0.0 => Some(*n as i128),
        _ => None,
    }
}

/// A whole number within bounds, both included.
pub fn integer(at: At<'_>, value: &Json<'_>, least: i64, most: i64) -> Result<i64, ValidateError> {
    whole(value)
        .and_then(|n| i64::try_from(n).ok())
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| at.wanted(format_args!("a whole number from {least} to {most}"), value))
}

/// A number within bounds, both included.
pub fn number(at: At<'_>, value: &Json<'_>, least: f64, most: f64) -> Result<(), ValidateError> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "every bound is small; what is rounded lies far beyond it"
    )]
    let inside = match value {
        Json::Int(n) => (least..=most).contains(&(*n as f64)),
        Json::Float(n) => (least..=most).contains(n),
        _ => false,
    };
    if inside { Ok(()) } else { Err(at.wanted(format_args!("a number from {least} to {most}"), value)) }
}

/// A list of at most so many items.
pub fn list<'t, 'a>(at: At<'_>, value: &'t Json<'a>, most: usize) -> Result<&'t [Json<'a>], ValidateError> {
    match value {
        Json::Arr(items) if items.len() <= most => Ok(items),
        Json::Arr(items) => Err(at.refuse(format!("must have at most {most} items, not {}", items.len()))),
        other => Err(at.refuse(format!("must be a list, not {}", other.kind()))),
    }
}

/// An object.
pub fn object<'t, 'a>(at: At<'_>, value: &'t Json<'a>) -> Result<&'t Entries<'a>, ValidateError> {
    match value {
        Json::Obj(entries) => Ok(entries),
        other => Err(at.refuse(format!("must be an object, not {}", other.kind()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At<'_> = At::top("f");

    #[test]
    fn places_read_as_paths() {
        let (messages, index) = (At::top("messages"), 2);
        let message = messages.item(index);
        assert_eq!(message.field("role").to_string(), "messages[2].role");
        assert_eq!(AT.key("a b\n").to_string(), "f.\"a b\\n\"");
        // A log has none of a caller's words.
        let (within, theirs) = (messages.item(0), At::top("tools"));
        let (within, theirs) = (within.field("role").refuse("no"), theirs.key("hamster").refuse("no"));
        assert_eq!(within.detail(), "messages[0].role is refused");
        assert_eq!((&*theirs.to_string(), &*theirs.detail()), ("tools.hamster: no", "tools… is refused"));
        let long = "é".repeat(1_000);
        let (a, b) = (AT.key(&long), At::top("g"));
        let (deep, other) = (a.key(&long), b.key(&long));
        for at in [a.key("maxItems"), deep.key("maxItems"), other.key("maxItems")] {
            let text = at.refuse("no").to_string();
            assert!(text.len() < 140 && text.ends_with("maxItems: no"), "{text}");
        }
    }

    #[test]
    fn whole_numbers_may_be_spelled_as_floats() {
        for value in [Json::Int(1000), Json::Float(1000.0), Json::Float(1e3)] {
            assert_eq!(integer(AT, &value, 1, 1000), Ok(1000));
        }
        assert_eq!(integer(AT, &Json::Float(-0.0), 0, 1), Ok(0));
        for value in [
            Json::Float(1.5),
            Json::Str("1".into()),
            Json::Bool(true),
            Json::UInt(u64::MAX),
            Json::Float(1e300),
            Json::Float(-1e300),
            Json::Int(0),
            Json::Int(1001),
            Json::Arr(vec![]),
            Json::Null,
        ] {
            assert!(integer(AT, &value, 1, 1000).is_err(), "{value:?}");
        }
        assert_eq!(integer(AT, &Json::Int(i64::MIN), i64::MIN, i64::MAX), Ok(i64::MIN));
        assert!(integer(AT, &Json::Float(9_223_372_036_854_775_808.0), i64::MIN, i64::MAX).is_err());
    }

    #[test]
    fn refusals_name_field_bound_and_value() {
        let text = integer(AT, &Json::Float(1e300), 0, 9).unwrap_err().to_string();
        assert_eq!(text, "f: must be a whole number from 0 to 9, not 1e300");
        let text = number(AT, &Json::Str("hot".into()), 0.0, 10.0).unwrap_err().to_string();
        assert_eq!(text, "f: must be a number from 0 to 10, not \"hot\"");
        assert_eq!(flag(AT, &Json::Int(1)).unwrap_err().to_string(), "f: must be true or false, not 1");
        let secret = Json::Arr(vec![Json::Str("canary".into())]);
        assert_eq!(super::text(AT, &secret).unwrap_err().to_string(), "f: must be a string, not a list");
    }

    #[test]
    fn sizes_are_bounded() {
        let text = |n: usize| Json::Str("é".repeat(n).into());
        assert!(short_text(AT, &text(3), 4).is_ok() && short_text(AT, &text(4), 4).is_ok());
        assert!(
            short_text(AT, &text(5), 4).unwrap_err().to_string().ends_with("at most 4 characters, not 5")
        );
        let items = |n: usize| Json::Arr(vec![Json::Null; n]);
        assert!(
            list(AT, &items(1), 2).is_ok()
                && list(AT, &items(2), 2).is_ok()
                && list(AT, &items(3), 2).is_err()
        );
        assert!(object(AT, &items(0)).is_err());
        assert!(
            number(AT, &Json::Int(10), 0.0, 10.0).is_ok()
                && number(AT, &Json::Float(10.1), 0.0, 10.0).is_err()
        );
    }
}
