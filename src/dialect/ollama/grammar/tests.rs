//! What a schema may ask for, at each bound.

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
                let words = format!("{path}.{keyword}: must be a whole number from 0 to {most}, not {bad}");
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
            no(Generate, &pattern(bad)).starts_with("format.items.pattern: may repeat a part at most 10000"),
            "{bad}"
        );
    }
}

#[test]
fn all_schemas_of_a_request_count_together() {
    let tools = |n: usize| {
        let tool =
            json!({"function": {"name": "f", "parameters": {"properties": {"a": {"maxLength": 100_000}}}}});
        json!({"tools": vec![tool; n], "format": {"maxLength": 99_970, "minItems": 1}}).to_string()
    };
    ok(Chat, &tools(9));
    assert!(no(Chat, &tools(10)).contains("at most 1000000 rules of a grammar in all"));
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
    // The converter moves every `$defs` to the root.
    for place in [json!({"properties": {"p": {}}}), json!({"anyOf": [{}]})] {
        let mut schema = place;
        let within = schema.pointer_mut("/properties/p").is_some();
        let holder = schema.pointer_mut(if within { "/properties/p" } else { "/anyOf/0" }).unwrap();
        holder["$defs"] = json!({"a": {"$ref": "#/$defs/a"}});
        schema["allOf"] = json!([{"$ref": "#/$defs/a"}]);
        assert!(no(Generate, &format(&schema)).contains("or back to itself"), "{schema}");
    }
    let many = vec![json!({"$ref": "#/a/a/a/a/a/a/a/a"}); 2_600];
    let deep = json!({"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}, "anyOf": many});
    assert!(no(Generate, &format(&deep)).contains("too many references"));
    let nowhere = |n: usize| json!({"anyOf": vec![json!({"$ref": "#/x"}); n]});
    ok(Generate, &format(&nowhere(256)));
    assert!(no(Generate, &format(&nowhere(257))).contains("lead nowhere"));
    let long = |n: usize| json!({"$ref": "#".repeat(n)});
    ok(Generate, &format(&long(512)));
    assert!(no(Generate, &format(&long(513))).contains("at most 512 bytes"));
}

#[test]
fn lists_of_types_multiply() {
    let nested = |levels: usize, types: usize| {
        (0..levels).fold(json!({}), |inner, _| json!({"type": vec!["object"; types], "items": inner}))
    };
    ok(Generate, &format(&nested(18, 2)));
    assert!(no(Generate, &format(&nested(19, 2))).contains("lists of types inside one another"));
    ok(Generate, &format(&nested(1, 16)));
    assert_eq!(no(Generate, &format(&nested(1, 17))), "format.type: must have at most 16 items, not 17");
    // What is repeated below one is repeated for each type.
    let repeated = json!({"type": vec!["object"; 11], "properties": {"a": {"maxLength": 100_000}}});
    assert!(no(Generate, &format(&repeated)).starts_with("format.properties.a.maxLength: the schemas"));
}

#[test]
fn names_are_short() {
    let named = |n: usize| json!({"properties": {"é".repeat(n): {}}});
    ok(Generate, &format(&named(256)));
    let text = no(Generate, &format(&named(257)));
    assert!(text.ends_with("a name in a schema has at most 256 characters") && text.len() < 200, "{text}");
}
