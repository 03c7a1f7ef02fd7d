//! JSON schemas become grammars upstream: what would explode there is refused here.
//!
//! Takes a schema, of `format` or of a tool; promises that what a converter writes out for it stays in proportion. llama.cpp writes
//! a rule for each repetition that is allowed, so one small number is worth a hundred megabytes: each is bounded, and all of one
//! request together. A `$ref` that leads back to itself sends its converter into a recursion without end. `maxProperties` is
//! ignored there, and an `enum` costs what it weighs, so neither needs a bound of its own.
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
/// Bytes of a `pattern`.
const MAX_PATTERN: usize = 512;
/// All repetitions of one request: some hundred megabytes of rules.
const MAX_REPETITIONS: i64 = 1_000_000;
/// `$ref`s that point at one another.
const MAX_CHAIN: u8 = 8;
/// Names looked up to follow the `$ref`s of one request.
const MAX_LOOKUPS: u32 = 20_000;

/// What the schemas of one request have cost so far.
#[derive(Debug, Default)]
pub(super) struct Spent {
    repetitions: i64,
    lookups: u32,
}

/// Judges a schema.
pub(super) fn vet(draft: &mut Draft<'_>, at: At<'_>, schema: &Json<'_>) -> Result<(), ValidateError> {
    walk(at, schema, schema, &mut draft.spent)
}

fn walk(at: At<'_>, root: &Json<'_>, value: &Json<'_>, spent: &mut Spent) -> Result<(), ValidateError> {
    match value {
        Json::Obj(entries) => {
            for (key, value) in entries {
                let at = at.key(key);
                keyword(at, root, key, value, spent)?;
                walk(at, root, value, spent)?;
            }
        }
        Json::Arr(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(at.item(index), root, item, spent)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn keyword(
    at: At<'_>,
    root: &Json<'_>,
    key: &str,
    value: &Json<'_>,
    spent: &mut Spent,
) -> Result<(), ValidateError> {
    let repeated = match (key, value) {
        ("maxItems" | "minItems", Json::Int(_) | Json::UInt(_) | Json::Float(_)) => {
            bounds::integer(at, value, 0, MAX_ITEMS)?
        }
        ("maxLength" | "minLength", Json::Int(_) | Json::UInt(_) | Json::Float(_)) => {
            bounds::integer(at, value, 0, MAX_LENGTH)?
        }
        ("pattern", Json::Str(pattern)) => self::pattern(at, pattern)?,
        ("$ref", Json::Str(target)) => return reference(at, root, target, spent),
        _ => return Ok(()),
    };
    spent.repetitions += repeated;
    if spent.repetitions > MAX_REPETITIONS {
        return Err(at.refuse(format!(
            "the schemas of a request may ask for at most {MAX_REPETITIONS} repetitions in all (maxItems, maxLength and the \
             like), not {} and more",
            spent.repetitions
        )));
    }
    Ok(())
}

/// The repetitions that a pattern asks for: `{m,n}` is written out like the others.
fn pattern(at: At<'_>, pattern: &str) -> Result<i64, ValidateError> {
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
    Ok(repeated)
}

/// A `$ref` within the schema must arrive somewhere: one that points at another is followed.
fn reference(at: At<'_>, root: &Json<'_>, target: &str, spent: &mut Spent) -> Result<(), ValidateError> {
    let mut target = target;
    for _ in 0..MAX_CHAIN {
        let Some(entries) = resolve(root, target, spent) else { return Ok(()) };
        if spent.lookups > MAX_LOOKUPS {
            return Err(at.refuse("the schemas of a request hold too many references"));
        }
        match entries.iter().find(|(key, _)| key == "$ref") {
            Some((_, Json::Str(next))) => target = next,
            _ => return Ok(()),
        }
    }
    Err(at.refuse(format!("leads through more than {MAX_CHAIN} references, or back to itself")))
}

/// The object at `#/a/b`; the names are taken as they are written.
fn resolve<'t, 'a>(root: &'t Json<'a>, target: &str, spent: &mut Spent) -> Option<&'t Entries<'a>> {
    let mut here = root;
    for name in target.strip_prefix('#')?.split('/').filter(|name| !name.is_empty()) {
        spent.lookups = spent.lookups.saturating_add(1);
        here = match here {
            Json::Obj(entries) => &entries.iter().find(|(key, _)| key == name)?.1,
            Json::Arr(items) => items.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    match here {
        Json::Obj(entries) => Some(entries),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{no, ok, sent};
    use crate::endpoint::Proxied::{Chat, Generate};

    /// Puts a schema somewhere inside another.
    type Place = fn(Value) -> Value;

    fn tool(parameters: &Value) -> String {
        json!({"tools": [{"function": {"name": "f", "parameters": parameters}}]}).to_string()
    }

    fn format(schema: &Value) -> String {
        json!({"prompt": "p", "format": schema}).to_string()
    }

    #[test]
    fn repetitions_are_bounded_wherever_they_stand() {
        let places: [(&str, Place); 7] = [
            ("", |schema| schema),
            (".properties.a", |schema| json!({"properties": {"a": schema}})),
            (".$defs.n", |schema| json!({"$defs": {"n": schema}, "$ref": "#/$defs/n"})),
            (".anyOf[1]", |schema| json!({"anyOf": [{}, schema]})),
            (".items.items", |schema| json!({"items": {"items": schema}})),
            (".default", |schema| json!({"default": schema, "$ref": "#/default"})),
            (".x.y", |schema| json!({"x": {"y": schema}})),
        ];
        for (keyword, most) in
            [("maxItems", 10_000), ("minItems", 10_000), ("maxLength", 100_000), ("minLength", 100_000)]
        {
            for (path, place) in places {
                for good in [json!(0), json!(most), json!(f64::from(most))] {
                    let schema = place(json!({keyword: good}));
                    assert_eq!(sent(&ok(Generate, &format(&schema)))["format"], schema);
                    ok(Chat, &tool(&schema));
                }
                for bad in [json!(most + 1), json!(-1), json!(1.5), json!(u64::MAX), json!(250_000.0)] {
                    let schema = place(json!({keyword: bad}));
                    let words =
                        format!("{path}.{keyword}: must be a whole number from 0 to {most}, not {bad}");
                    assert_eq!(no(Generate, &format(&schema)), format!("format{words}"));
                    assert_eq!(no(Chat, &tool(&schema)), format!("tools[0].function.parameters{words}"));
                }
            }
        }
    }

    #[test]
    fn a_property_of_that_name_is_no_keyword() {
        for name in ["maxItems", "minLength", "pattern", "$ref"] {
            let schema = json!({"type": "object", "properties": {name: {"type": "integer"}}, "required": [name], "enum": [name]});
            assert_eq!(sent(&ok(Generate, &format(&schema)))["format"], schema);
            ok(Chat, &tool(&schema));
        }
    }

    #[test]
    fn patterns_are_short_and_repeat_little() {
        let pattern = |text: &str| format(&json!({"items": {"pattern": text}}));
        ok(Generate, &pattern(&"x".repeat(512)));
        assert_eq!(
            no(Generate, &pattern(&"x".repeat(513))),
            "format.items.pattern: must have at most 512 bytes, not 513"
        );
        for good in ["^a{10000}$", "a{1,10000}b{3}", "a{,7}", r"\{99999}", "{", "a{x}", "a{10000"] {
            ok(Generate, &pattern(good));
        }
        for bad in ["a{10001}", "(a{2}){1,99999}", "a{99999999999999999999999}", r"\\{10001}"] {
            assert!(
                no(Generate, &pattern(bad))
                    .starts_with("format.items.pattern: may repeat a part at most 10000"),
                "{bad}"
            );
        }
    }

    #[test]
    fn all_schemas_of_a_request_count_together() {
        let tools = |n: usize| {
            let tool = json!({"function": {"name": "f", "parameters": {"properties": {"a": {"maxLength": 100_000}}}}});
            json!({"tools": vec![tool; n], "format": {"maxLength": 99_999, "minItems": 1}}).to_string()
        };
        ok(Chat, &tools(9));
        assert!(no(Chat, &tools(10)).contains("at most 1000000 repetitions in all"));
    }

    #[test]
    fn references_arrive_somewhere() {
        let recursive =
            json!({"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}});
        let elsewhere = json!({"allOf": [{"$ref": "https://example.com/a"}, {"$ref": "#/$defs/none"}, {"$ref": "#"}], "x": 1});
        for good in [&recursive, &elsewhere] {
            ok(Generate, &format(good));
            ok(Chat, &tool(good));
        }
        for bad in [
            json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}),
            json!({"$ref": "#/a", "a": {"$ref": "#/b/0"}, "b": [{"$ref": "#/a"}]}),
            json!({"$ref": "#"}),
        ] {
            assert!(no(Generate, &format(&bad)).contains("or back to itself"), "{bad}");
        }
        let many = vec![json!({"$ref": "#/a/a/a/a/a/a/a/a"}); 2_600];
        let deep = json!({"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}, "anyOf": many});
        assert!(no(Generate, &format(&deep)).contains("too many references"));
    }
}
