//! What the reader passes, refuses and bounds; a full parser beside it agrees.

use super::super::writer::Emit as _;
use super::*;

fn refused(body: impl AsRef<[u8]>) -> String {
    match parse(body.as_ref()) {
        Err(ValidateError::Json(text)) => text,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(body.as_ref())),
    }
}

#[test]
fn plain_json_is_read_and_borrowed() {
    let entries =
        parse(br#" {"mod\u0065l":"a","n":[1,-2,1.5,18446744073709551615,true,null],"-0":-0} "#).unwrap().top;
    assert_eq!(entries[0], ("model".into(), Json::Str("a".into())));
    let numbers = vec![
        Json::Int(1),
        Json::Int(-2),
        Json::Float(1.5),
        Json::UInt(u64::MAX),
        Json::Bool(true),
        Json::Null,
    ];
    assert_eq!(entries[1].1, Json::Arr(numbers));
    assert!(matches!(entries[0].1, Json::Str(Cow::Borrowed(_))));
}

#[test]
fn keys_that_stand_twice_are_refused_at_every_depth() {
    let (key, other) = (r#"{"model":"a","model":"b"}"#, r#"{"a":[{"b":{"c":1,"\u0063":2}}]}"#);
    assert_eq!(refused(key), "duplicate key \"model\" at line 1 column 14");
    assert!(refused(other).starts_with("duplicate key \"c\""));
    let many = |last: &str| {
        let keys: Vec<_> = (0..40).map(|n| format!("\"k{n}\":0")).collect();
        format!("{{{},\"{last}\":0}}", keys.join(","))
    };
    assert!(parse(many("fresh").as_bytes()).is_ok());
    assert!(refused(many("k17")).starts_with("duplicate key \"k17\""));
}

#[test]
fn what_parsers_read_differently_is_refused() {
    for body in [
        &b"{\"a\":1} {\"b\":2}"[..],
        b"{}x",
        b"\xef\xbb\xbf{}",
        b"{\"\\ud800\":1}",
        b"{\"a\":{\"b\\udc00\\ud800\":1}}",
        b"{\"a\":\"\xff\"}",
        b"{\"\xff\":1}",
        b"{\"a\":NaN}",
        b"{\"a\":Infinity}",
        b"{\"a\":1e400}",
        b"{\"a\":01}",
        b"{'a':1}",
        b"{\"a\":1,}",
        b"{\"a\":1}//",
        b"{a:1}",
        b"{\"a\":\"\n\"}",
        b"\xff\xfe{\0}\0",
        b"{",
        b"{\"a\":",
        b"{\"a\":1}\0",
        b"{\"a\":+1}",
        b"{\"a\":.5}",
        b"{\"\\udfff\":1}",
    ] {
        assert!(refused(body).starts_with("the body is not valid JSON: "), "{body:?}");
    }
    for body in ["", " \r\n\t "] {
        assert_eq!(refused(body), "the request body is empty");
    }
    for (body, kind) in [("[]", "a list"), ("\"a\"", "a string"), ("null", "null"), ("7", "a number")] {
        assert_eq!(refused(body), format!("the body must be a JSON object, not {kind}"));
    }
}

#[test]
fn halves_of_surrogate_pairs_are_read_as_go_reads_them() {
    for (written, read) in [
        (r"\ud800", "\u{fffd}"),
        (r"a\udc00b", "a\u{fffd}b"),
        (r"\ud800A", "\u{fffd}A"),
        (r"\ud800\u0041", "\u{fffd}A"),
        (r"\udc00\ud800", "\u{fffd}\u{fffd}"),
        (r"\ud800\ud800\udc00", "\u{fffd}\u{10000}"),
        (r"\ud83d\\ude00", "\u{fffd}\\ude00"),
        (r"\ud83d\n", "\u{fffd}\n"),
        (r"\ud83dé", "\u{fffd}é"),
        (r"\ud83d", "\u{fffd}"),
    ] {
        let body = format!(r#"{{"a":"\u0041","b":[{{"c":"{written}"}}],"d":"\ud83d\ude00"}}"#);
        let Document { top, mended } = parse(body.as_bytes()).unwrap();
        let inner = Json::Obj(vec![("c".into(), Json::Str(read.into()))]);
        assert_eq!((&top[1].1, &mended), (&Json::Arr(vec![inner]), &vec![Cow::from("b")]), "{written}");
        assert_eq!(top[2].1, Json::Str("😀".into()));
    }
    let Document { top, mended } = parse(br#"{"a":"\ud800","b":1,"c":{"d":"\udfff","e":"\u00e9"}}"#).unwrap();
    assert_eq!((top.len(), mended), (3, vec!["a".into(), "c".into()]));
    // In a key it could make two keys one.
    let text = refused(r#"{"a":1,"\ud800":2}"#);
    assert!(text.ends_with("half a surrogate pair in a key at line 1 column 8"), "{text}");
}

#[test]
fn texts_show_nothing_of_the_content() {
    let text = refused("{\"prompt\":\"a canary sings\", canary}");
    assert!(!text.contains("canary"), "{text}");
    assert!(text.ends_with("at line 1 column 29"), "{text}");
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    for levels in [31, 32] {
        assert!(parse(nested(levels).as_bytes()).is_ok(), "{levels}");
    }
    for levels in [33, 127, 10_000] {
        assert!(refused(nested(levels)).contains("more than 32 levels"), "{levels}");
    }
}

#[test]
fn keys_and_values_are_bounded() {
    let keys = |n: usize| {
        let keys: Vec<_> = (0..n).map(|n| format!("\"k{n}\":0")).collect();
        format!("{{{}}}", keys.join(","))
    };
    assert!(parse(keys(255).as_bytes()).is_ok() && parse(keys(256).as_bytes()).is_ok());
    assert!(refused(keys(257)).contains("more than 256 keys"));
    let values = |n: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(n - 3));
    let most = MAX_VALUES as usize;
    assert!(parse(values(most - 1).as_bytes()).is_ok() && parse(values(most).as_bytes()).is_ok());
    assert!(refused(values(most + 1)).contains("values"));
    assert!(refused(format!("{{\"a\":{}}}", "9".repeat(1_000_000))).contains("out of range"));
}

fn written(tree: &Json<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    tree.emit(&mut out);
    out
}

/// As `serde_json` reads it: the numbers, the escapes, and what is refused.
fn full(body: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(body).ok().filter(serde_json::Value::is_object)
}

/// `serde_json`'s floats may be off by a bit; ours are exact.
fn alike(own: &serde_json::Value, full: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (own, full) {
        (Number(a), Number(b)) if a.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= a.abs() * 1e-14
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        _ => own == full,
    }
}

#[test]
fn agrees_with_a_full_parser_on_every_damaged_body() {
    let bodies = [
        r#"{"a":"say \"x\" \\ \u00e9 \ud83d\ude00","b":[1,-2.5e+3,0,-0.1E9,[],{}],"c":{"d":null,"e":true,"f":false}}"#,
        " {\n\t\"n\" : [ 9223372036854775807 , 9223372036854775808, -9223372036854775809 , -0 , 1e22 ] } ",
    ];
    for body in bodies {
        for at in 0..body.len() {
            for byte in *b",:{}[]\"x1 0.-e\\u\n\x1f\x7f\xc3d8" {
                let (before, rest) = body.as_bytes().split_at(at);
                for damaged in [
                    [before, &[byte], rest].concat(),
                    [before, &[byte], &rest[1..]].concat(),
                    [before, &rest[1..]].concat(),
                ] {
                    let shown = String::from_utf8_lossy(&damaged);
                    match (parse(&damaged), full(&damaged)) {
                        (Ok(read), Some(value)) => {
                            assert!(read.mended.is_empty());
                            let own = full(&written(&Json::Obj(read.top))).unwrap();
                            assert!(alike(&own, &value), "{own} and {value}: {shown}");
                        }
                        (Err(error), Some(_)) => {
                            assert!(error.to_string().starts_with("duplicate key"), "{error}: {shown}");
                        }
                        // A full parser refuses halves of surrogate pairs; that is all it may refuse more.
                        (Ok(read), None) => assert_eq!(read.mended, ["a"], "passed: {shown}"),
                        (Err(_), None) => {}
                    }
                }
            }
        }
    }
}

#[test]
fn a_tree_is_written_as_it_was_read() {
    let body = r#"{"a":[1,-2,1.5,1e300,{"b":null,"c":"\u0000\"\\é\ud83d\ude00"}],"d":true}"#;
    let tree = Json::Obj(parse(body.as_bytes()).unwrap().top);
    let again = written(&tree);
    assert_eq!(full(&again), full(body.as_bytes()));
    assert_eq!(Json::Obj(parse(&again).unwrap().top), tree);
}
