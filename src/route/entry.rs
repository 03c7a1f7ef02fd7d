//! One model of the catalogue, as the upstream's lists and `/api/show` describe it.
//!
//! Only the name is needed: servers of any age are read, and whatever else is missing or of another type counts as not said.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use time::{Date, Month, UtcOffset};

use crate::types::{ModelName, is_cloud_name};

/// Families of models that turn text into vectors and cannot answer, where the server does not say what a model can do: the BERTs
/// (`bert`, `nomic-bert`, `xlm-roberta`, …), and T5's encoder.
const VECTORS: [&str; 3] = ["bert", "roberta", "t5encoder"];

/// What matters about a model.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    /// Runs on ollama.com, whatever its name says.
    pub(super) cloud: bool,
    /// Its place in the list of those in memory.
    pub(super) place: Option<usize>,
    /// Nanoseconds since 1970.
    pub(super) modified: i128,
    /// Of its manifest: another one is another model.
    pub(super) digest: String,
    /// What the list says.
    listed: Facts,
    /// What `/api/show` says, once it was asked.
    pub(super) shown: Option<Facts>,
    /// By its families it only makes vectors.
    makes_vectors: bool,
}

/// What a server may say about a model.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Can it answer a prompt?
    chats: Option<bool>,
    /// The longest context that it was made for.
    context: Option<u64>,
}

impl Model {
    /// Can it answer a prompt? Where the server does not say, its families and its name do.
    pub(super) fn can_chat(&self, name: &ModelName) -> bool {
        let said = self.listed.chats.or_else(|| self.shown?.chats);
        said.unwrap_or_else(|| !self.makes_vectors && !name.as_str().contains("embed"))
    }

    /// Must `/api/show` be asked what it can do?
    pub(super) const fn is_unknown(&self) -> bool {
        self.listed.chats.is_none() && self.shown.is_none() && !self.cloud
    }

    /// The longest context that it was made for.
    pub(super) fn context(&self) -> Option<u64> {
        self.listed.context.or_else(|| self.shown?.context)
    }
}

#[derive(Deserialize)]
struct Tags<'a> {
    // Go writes an empty list as null.
    #[serde(borrow)]
    models: Option<Vec<&'a RawValue>>,
}

/// The body of `/api/tags`; `None` when it is none.
pub(super) fn read(tags: &[u8]) -> Option<BTreeMap<ModelName, Model>> {
    let tags: Tags<'_> = serde_json::from_slice(tags).ok()?;
    let mut models = BTreeMap::new();
    for raw in tags.models.unwrap_or_default() {
        let entry: Value = serde_json::from_str(raw.get()).ok()?;
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        // What is no name to us cannot be asked for either.
        let Ok(name) = ModelName::parse(text("name")) else { continue };
        let details = entry.get("details");
        let families = details.and_then(|details| details.get("families")).and_then(Value::as_array);
        let family = details.and_then(|details| details.get("family"));
        let is_vectors = |family: &Value| {
            let family = family.as_str().unwrap_or_default().to_ascii_lowercase();
            VECTORS.iter().any(|kind| family.contains(kind))
        };
        let model = Model {
            cloud: !text("remote_host").is_empty() || is_cloud_name(text("name")),
            place: None,
            modified: instant(text("modified_at")).unwrap_or(i128::MIN),
            digest: text("digest").to_owned(),
            listed: Facts {
                chats: chats(entry.get("capabilities")),
                context: details.and_then(|details| details.get("context_length")).and_then(positive),
            },
            shown: None,
            makes_vectors: families.into_iter().flatten().chain(family).any(is_vectors),
        };
        models.insert(name, model);
    }
    Some(models)
}

/// The answer of `/api/show`; what is none says nothing.
pub(super) fn facts(body: &[u8]) -> Facts {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let info = body.get("model_info").and_then(Value::as_object);
    // `<architecture>.context_length`
    let context = info.and_then(|info| info.iter().find(|(key, _)| key.ends_with(".context_length")));
    Facts { chats: chats(body.get("capabilities")), context: context.and_then(|(_, value)| positive(value)) }
}

/// An empty list is what a server says that does not know.
fn chats(capabilities: Option<&Value>) -> Option<bool> {
    let list = capabilities?.as_array().filter(|list| !list.is_empty())?;
    Some(list.iter().any(|word| word == "completion"))
}

fn positive(value: &Value) -> Option<u64> {
    value.as_u64().filter(|length| *length > 0)
}

/// An RFC 3339 time, as Go writes it in the zone of its machine, in nanoseconds since 1970.
fn instant(text: &str) -> Option<i128> {
    let (date, rest) = text.split_once('T')?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (date.next()?.parse().ok()?, date.next()?.parse::<u8>().ok()?, date.next()?);
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day.parse().ok()?).ok()?;
    let zone = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at_checked(zone)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let at = date.with_hms_nano(hour, minute, second, nanos).ok()?;
    let offset = match zone.split_at_checked(1)? {
        ("Z", _) => UtcOffset::UTC,
        (sign, hours) => {
            let (hours, minutes) = hours.split_once(':')?;
            let sign: i8 = if sign == "-" { -1 } else { 1 };
            let part = |text: &str| text.parse::<i8>().ok().filter(|part| *part >= 0);
            UtcOffset::from_hms(sign * part(hours)?, sign * part(minutes)?, 0).ok()?
        }
    };
    Some(at.assume_offset(offset).unix_timestamp_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_across_zones() {
        let utc = instant("2026-11-22T08:05:47.010266253Z").unwrap();
        assert_eq!(instant("2026-11-22T10:05:47.010266253+02:00"), Some(utc));
        assert_eq!(instant("2026-11-22T03:35:47.010266253-04:30"), Some(utc));
        assert_eq!(instant("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        for odd in [
            "",
            "T",
            "2026-13-01T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+99:00",
        ] {
            assert_eq!(instant(odd), None, "{odd}");
        }
    }

    #[test]
    fn odd_entries_spoil_no_list() {
        let tags = br#"{"models":[{"name":"a:1","details":7,"capabilities":"x","modified_at":1,"digest":null},{"model":"nameless"}]}"#;
        let models = read(tags).unwrap();
        assert_eq!(models.len(), 1);
        assert!(models.iter().all(|(name, model)| model.can_chat(name) && model.is_unknown()));
        assert!(read(br#"{"models":[1]}"#).is_some_and(|models| models.is_empty()));
    }
}
