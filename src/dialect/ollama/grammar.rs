//! JSON schemas become grammars upstream: what would explode there is refused here.
//!
//! Takes a schema, of `format` or of a tool; promises that what llama.cpp's converter makes of it stays in proportion. It writes a rule
//! for each repetition that is allowed, so one small number is worth a hundred megabytes. It visits a schema once for each type
//! of a list, so nested ones multiply. It follows a `$ref` inside `allOf` without end where that leads back to itself, quotes
//! the whole schema for each one that leads nowhere, and runs a recursive expression over every name. All of that is bounded.
//! `maxProperties` it ignores, and an `enum` costs what it weighs.
//!
//! A `$ref` may point anywhere, into data too, so keywords are judged wherever they stand. A property *named* `maxItems` is not
//! mistaken for one: its value is a schema, never a number.

use super::draft::Draft;
use crate::validate::ValidateError;
use crate::validate::bounds::{self, At};
use crate::validate::json::{Entries, Json};

/// `maxItems` and `minItems`, and the counts in a pattern.
const MAX_ITEMS: i64 = 10_000;
/// `maxLength` and `minLength`.
const MAX_LENGTH: i64 = 100_000;
/// Bytes of a `pattern`, and of a `$ref`.
const MAX_PATTERN: usize = 512;
/// Characters of a name.
const MAX_NAME: usize = 256;
/// Types of one value; JSON has seven.
const MAX_TYPES: usize = 16;
/// Rules of all schemas of one request: some hundred megabytes.
const MAX_RULES: u64 = 1_000_000;
/// `$ref`s that point at one another.
const MAX_CHAIN: u8 = 8;
/// `$ref`s of one schema that lead nowhere.
const MAX_DANGLING: u32 = 256;
/// Names looked up to follow the `$ref`s of one request.
const MAX_LOOKUPS: u32 = 20_000;

/// What the schemas of one request have cost so far.
#[derive(Debug, Default)]
pub(super) struct Spent {
    rules: u64,
    lookups: u32,
}

/// Judges a schema.
pub(super) fn vet(draft: &mut Draft<'_>, at: At<'_>, schema: &Json<'_>) -> Result<(), ValidateError> {
    let mut judge = Judge { root: schema, hoisted: None, dangling: 0, spent: &mut draft.spent };
    judge.walk(at, schema, 1)
}

struct Judge<'t, 'a, 's> {
    root: &'t Json<'a>,
    /// The members of all `$defs`, which the converter moves to the root: collected once there is a `$ref`.
    hoisted: Option<Vec<(&'t str, &'t Json<'a>)>>,
    dangling: u32,
    spent: &'s mut Spent,
}

impl<'t, 'a> Judge<'t, 'a, '_> {
    /// Judges what stands here; it is visited `times` times.
    fn walk(&mut self, at: At<'_>, value: &'t Json<'a>, times: u64) -> Result<(), ValidateError> {
        match value {
            Json::Obj(entries) => {
                let times = times.saturating_mul(types(at, entries)?);
                self.spend(at, times)?;
                for (key, value) in entries {
                    let at = at.key(key);
                    if key.len() > MAX_NAME && key.chars().count() > MAX_NAME {
                        return Err(
                            at.refuse(format!("a name in a schema has at most {MAX_NAME} characters"))
                        );
                    }
                    self.keyword(at, key, value, times)?;
                    self.walk(at, value, times)?;
                }
            }
            Json::Arr(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(at.item(index), item, times)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn keyword(
        &mut self,
        at: At<'_>,
        key: &str,
        value: &'t Json<'a>,
        times: u64,
    ) -> Result<(), ValidateError> {
        let most = match (key, value) {
            ("maxItems" | "minItems", Json::Int(_) | Json::UInt(_) | Json::Float(_)) => MAX_ITEMS,
            ("maxLength" | "minLength", Json::Int(_) | Json::UInt(_) | Json::Float(_)) => MAX_LENGTH,
            ("pattern", Json::Str(pattern)) => {
                let repeated = self::pattern(at, pattern)?;
                return self.spend(at, repeated.saturating_mul(times));
            }
            ("$ref", Json::Str(target)) => return self.reference(at, target),
            _ => return Ok(()),
        };
        let repeated = bounds::integer(at, value, 0, most)?.unsigned_abs();
        self.spend(at, repeated.saturating_mul(times))
    }

    fn spend(&mut self, at: At<'_>, rules: u64) -> Result<(), ValidateError> {
        self.spent.rules = self.spent.rules.saturating_add(rules);
        if self.spent.rules > MAX_RULES {
            return Err(at.refuse(format!(
                "the schemas of a request may make at most {MAX_RULES} rules of a grammar in all: maxItems, maxLength, lists of \
                 types inside one another and the like ask for {} and more",
                self.spent.rules
            )));
        }
        Ok(())
    }

    /// A `$ref` within the schema must arrive somewhere: one that points at another is followed.
    fn reference(&mut self, at: At<'_>, target: &'t str) -> Result<(), ValidateError> {
        if target.len() > MAX_PATTERN {
            return Err(at.refuse(format!("must have at most {MAX_PATTERN} bytes, not {}", target.len())));
        }
        let mut target = target;
        for _ in 0..MAX_CHAIN {
            let found = self.resolve(target);
            if self.spent.lookups > MAX_LOOKUPS {
                return Err(at.refuse("the schemas of a request hold too many references"));
            }
            let Some(entries) = found else {
                self.dangling += 1;
                if self.dangling > MAX_DANGLING {
                    return Err(
                        at.refuse(format!("more than {MAX_DANGLING} references of this schema lead nowhere"))
                    );
                }
                return Ok(());
            };
            match entries.iter().find(|(key, _)| key == "$ref") {
                Some((_, Json::Str(next))) => target = next,
                _ => return Ok(()),
            }
        }
        Err(at.refuse(format!("leads through more than {MAX_CHAIN} references, or back to itself")))
    }

    /// The object at `#/a/b`, with the names as they are written.
    fn resolve(&mut self, target: &str) -> Option<&'t Entries<'a>> {
        let path = target.strip_prefix('#')?;
        let found = self.descend(self.root, path).or_else(|| {
            let rest = path.strip_prefix("/$defs/")?;
            let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
            let root = self.root;
            let hoisted = self.hoisted.get_or_insert_with(|| {
                let mut all = Vec::new();
                hoist(root, &mut all);
                all
            });
            self.spent.lookups =
                self.spent.lookups.saturating_add(u32::try_from(hoisted.len() / 64).unwrap_or(u32::MAX));
            let here = hoisted.iter().find(|(known, _)| *known == name)?.1;
            self.descend(here, rest)
        })?;
        match found {
            Json::Obj(entries) => Some(entries),
            _ => None,
        }
    }

    fn descend(&mut self, from: &'t Json<'a>, path: &str) -> Option<&'t Json<'a>> {
        let mut here = from;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            self.spent.lookups = self.spent.lookups.saturating_add(1);
            here = match here {
                Json::Obj(entries) => &entries.iter().find(|(key, _)| key == name)?.1,
                Json::Arr(items) => items.get(name.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(here)
    }
}

/// How often a schema is visited for its list of types.
fn types(at: At<'_>, entries: &Entries<'_>) -> Result<u64, ValidateError> {
    match entries.iter().find(|(key, _)| key == "type") {
        Some((_, list @ Json::Arr(_))) => {
            bounds::list(at.field("type"), list, MAX_TYPES).map(|types| types.len().max(1) as u64)
        }
        _ => Ok(1),
    }
}

/// The members of every `$defs` in and below a node, the outermost first.
fn hoist<'t, 'a>(node: &'t Json<'a>, all: &mut Vec<(&'t str, &'t Json<'a>)>) {
    match node {
        Json::Obj(entries) => {
            if let Some((_, Json::Obj(members))) = entries.iter().find(|(key, _)| key == "$defs") {
                all.extend(members.iter().map(|(name, schema)| (name.as_ref(), schema)));
            }
            for (_, value) in entries.iter().filter(|(key, _)| key != "$defs") {
                hoist(value, all);
            }
        }
        Json::Arr(items) => items.iter().for_each(|item| hoist(item, all)),
        _ => {}
    }
}

/// The repetitions that a pattern asks for: `{m,n}` is written out like the others.
fn pattern(at: At<'_>, pattern: &str) -> Result<u64, ValidateError> {
    if pattern.len() > MAX_PATTERN {
        return Err(at.refuse(format!("must have at most {MAX_PATTERN} bytes, not {}", pattern.len())));
    }
    let (mut repeated, mut bytes) = (0_i64, pattern.bytes().peekable());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'{' => {
                let mut most = 0_i64;
                let mut count = 0_i64;
                while let Some(digit) = bytes.next_if(|b| b.is_ascii_digit() || *b == b',') {
                    count = if digit == b',' {
                        0
                    } else {
                        count.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
                    };
                    most = most.max(count);
                }
                if most > MAX_ITEMS {
                    return Err(at.refuse(format!("may repeat a part at most {MAX_ITEMS} times, not {most}")));
                }
                repeated += most;
            }
            _ => {}
        }
    }
    Ok(repeated.unsigned_abs())
}

#[cfg(test)]
mod tests;
