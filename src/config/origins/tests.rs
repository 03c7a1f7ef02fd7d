//! What patterns match, and what is none.

use super::*;

/// A pattern, what it matches, and what it does not.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    ("*", &["https://a.example", "null", "chrome-extension://abc"], &[]),
    (
        "https://App.Example",
        &["https://app.example", "HTTPS://APP.EXAMPLE", "https://app.example:443"],
        &["http://app.example", "https://app.example:444", "https://app.example.evil", "null", ""],
    ),
    ("https://app.example:443", &["https://app.example"], &["https://app.example:80"]),
    ("http://localhost:80", &["http://localhost"], &["https://localhost", "http://localhost:443"]),
    (
        "http://localhost:*",
        &["http://localhost", "http://localhost:3000", "http://LOCALHOST:1"],
        &[
            "https://localhost:3000",
            "http://localhost.evil.example",
            "http://localhost:3000@evil.example",
            "http://localhost:evil.example",
            "http://localhost:99999",
        ],
    ),
    (
        "https://*.example.com",
        &["https://a.example.com", "https://a.b.EXAMPLE.com"],
        &[
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://example.com.evil.com",
            "https://evil.com/.example.com",
            "https://evil.com?.example.com",
            "https://evil.com#.example.com",
            "https://evil.com\\.example.com",
            "https://evil.com:1.example.com",
            "https://u@a.example.com",
            "https://a.example.com:8443",
            "http://a.example.com",
        ],
    ),
    (
        "https://app-*.pages.example:*",
        &["https://app-1.pages.example", "https://app-x.pages.example:9"],
        &["https://app-.pages.example", "https://app-1.evil.pages.example", "https://app.pages.example"],
    ),
    (
        "http://192.168.*",
        &["http://192.168.1.5", "http://192.168.255.1:8080"],
        &["http://192.168.evil.example", "http://192.1680.1.1", "https://192.168.1.5", "http://192.168.1"],
    ),
    ("https://*", &["https://a.example:9"], &["http://a.example", "chrome-extension://a", "null"]),
    (
        "chrome-extension://*",
        &["chrome-extension://abcdefgh", "chrome-extension://x"],
        &["moz-extension://abc", "https://chrome-extension", "chrome-extension://a/b"],
    ),
    (
        "app://obsidian.md*",
        &["app://obsidian.md", "app://obsidian.md.local:1"],
        &["app://obsidian", "https://obsidian.md"],
    ),
    ("tauri://localhost", &["tauri://localhost"], &["tauri://localhost:1", "http://localhost"]),
    ("file://", &["file://"], &["file://x", "null"]),
    ("http://[0:0::1]:*", &["http://[::1]:5", "http://[::1]"], &["http://[::2]", "http://::1"]),
];

fn one(text: &str) -> Origins {
    let (origins, faults) = Origins::parse(&[text.to_owned()]);
    assert!(faults.is_empty(), "{faults:?}");
    origins
}

#[test]
fn patterns_match_what_browsers_send_and_nothing_of_others() {
    for (own, good, bad) in CASES {
        let origins = one(own);
        for origin in *good {
            assert!(origins.allow(origin), "{own} refuses {origin}");
        }
        for origin in *bad {
            assert!(!origins.allow(origin), "{own} lets in {origin}");
        }
    }
    assert!(!Origins::Only(vec![]).allow("https://a.example"));
}

#[test]
fn what_never_matches_is_named() {
    for bad in [
        "null",
        "app.example",
        "*.example.com",
        "*://localhost",
        "https://",
        "https://app.example/",
        "https://app.example/path",
        "https://u:p@app.example",
        "https://app.example?x",
        "https://app.example:99999",
        "https://app.example:x",
        "https://app.example:",
        "https://bücher.example",
        "https://a b",
        "https://example.com*",
        "https://*example.com",
        "https://*.*.example.com",
        "https://a*b",
        "https://.",
        "http://::1",
        "http://[::x]",
        "http://127.1",
        "http://10.*.evil*",
        "http://192.168*",
        "chrome-extension://*x",
        "1http://x",
    ] {
        let (origins, faults) = Origins::parse(&[bad.to_owned(), "https://ok.example".to_owned()]);
        assert_eq!(faults.len(), 1, "{bad}");
        assert_eq!(faults[0].0, bad);
        assert!(origins.allow("https://ok.example"));
    }
}

#[test]
fn the_same_host_is_told_from_others() {
    for (origin, host) in [
        ("http://gate.example:8000", "gate.example:8000"),
        ("https://Gate.example", "gate.example"),
        ("https://gate.example", "gate.example:443"),
        ("http://[::1]:8000", "[::1]:8000"),
    ] {
        assert!(is_same_host(origin, host), "{origin} {host}");
    }
    for (origin, host) in [
        ("http://gate.example:8001", "gate.example:8000"),
        ("https://evil.example", "gate.example"),
        ("null", "gate.example"),
        ("app://gate.example", "gate.example"),
        ("https://gate.example", ""),
        ("https://gate.example", "gate.example/x"),
    ] {
        assert!(!is_same_host(origin, host), "{origin} {host}");
    }
}
