//! Objects whose fields are known: which keys may stand there, and what became of the others.
//!
//! Takes the entries of an object; promises that every key which Go would read as a known field is exactly that field.
//! Refuses case variants, whose meaning parsers disagree on; unknown keys are noted as dropped, and nobody reads them.

use super::json::{Entries, Json};
use super::{ValidateError, shown};

/// Names kept in all; a header shows fewer.
const MAX_NAMES: usize = 32;
/// Bytes of a name, more than are shown: it is masked before it is cut. Nothing of a longer one is kept.
const MAX_NAME: usize = 256;

/// The names of what was dropped or changed, each once.
#[derive(Debug, Default)]
pub struct Dropped(Vec<String>);

impl Dropped {
    /// Notes a field of the object at `scope` (`""`: the top level).
    pub fn note(&mut self, scope: &str, name: &str) {
        if self.0.len() == MAX_NAMES {
            return;
        }
        let dot = if scope.is_empty() { "" } else { "." };
        let name = [scope, dot, if name.len() > MAX_NAME { "?" } else { name }].concat();
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// The names in the order they were noted.
    pub fn into_names(self) -> Vec<String> {
        self.0
    }
}

/// The value of a field; `null` is absent.
pub fn get<'t, 'a>(entries: &'t Entries<'a>, name: &str) -> Option<&'t Json<'a>> {
    entries.iter().find(|(key, value)| key == name && *value != Json::Null).map(|(_, value)| value)
}

/// Judges the keys of the object at `scope`: `known` ones will be read, any other that the upstream could take for one of
/// the `watched` is refused, the rest is noted as dropped.
pub fn vet(
    scope: &str,
    entries: &Entries<'_>,
    known: impl Fn(&str) -> bool,
    watched: &[&str],
    dropped: &mut Dropped,
) -> Result<(), ValidateError> {
    for (key, _) in entries {
        if known(key) {
            continue;
        }
        match watched.iter().find(|name| folds_to(key, name)) {
            Some(name) if key != name => {
                return Err(ValidateError::Json(format!(
                    "key {} differs from {name:?} only by case",
                    shown(key)
                )));
            }
            _ => dropped.note(scope, key),
        }
    }
    Ok(())
}

/// Is the key this lower-case ASCII name under Unicode simple case folding, as Go compares field names? Two characters
/// beyond ASCII fold to ASCII letters: the long s and the Kelvin sign.
fn folds_to(key: &str, name: &str) -> bool {
    let folded = key.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(name.chars())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::json;

    fn judge(body: &str) -> Result<Vec<String>, ValidateError> {
        let mut dropped = Dropped::default();
        let entries = json::parse(body.as_bytes()).unwrap().top;
        vet(
            "",
            &entries,
            |key| key == "model",
            &["model", "stream", "keep_alive", "messages"],
            &mut dropped,
        )?;
        Ok(dropped.into_names())
    }

    #[test]
    fn variants_that_go_would_read_are_refused() {
        for key in ["MODEL", "Model", "ſtream", "STREAM", "meſſages", "\u{212a}eep_alive", "KEEP_ALIVE"] {
            for body in
                [format!("{{\"model\":\"a\",\"{key}\":1}}"), format!("{{\"{key}\":1,\"model\":\"a\"}}")]
            {
                let text = judge(&body).unwrap_err().to_string();
                assert!(text.contains("only by case"), "{text}");
            }
        }
        assert_eq!(
            judge("{\"MODEL\":1}").unwrap_err().to_string(),
            "key \"MODEL\" differs from \"model\" only by case"
        );
    }

    #[test]
    fn the_rest_is_dropped_by_name() {
        let names = judge(r#"{"mod\u0065l":"a","stream":true,"models":1,"keep-alive":1,"ſ":null}"#).unwrap();
        assert_eq!(names, ["stream", "models", "keep-alive", "ſ"]);
    }

    #[test]
    fn names_are_few_short_and_once() {
        let mut dropped = Dropped::default();
        dropped.note("options", "foo");
        dropped.note("options", "foo");
        dropped.note("options", &"é".repeat(1_000_000));
        for n in 0..100 {
            dropped.note("messages", &n.to_string());
        }
        let names = dropped.into_names();
        assert_eq!((names.len(), &*names[0], &*names[1]), (32, "options.foo", "options.?"));
    }

    #[test]
    fn null_is_absent() {
        let entries = json::parse(br#"{"a":null,"b":0}"#).unwrap().top;
        assert_eq!(
            (get(&entries, "a"), get(&entries, "b"), get(&entries, "c")),
            (None, Some(&Json::Int(0)), None)
        );
    }
}
