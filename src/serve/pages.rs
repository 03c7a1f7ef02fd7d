//! The pages: embedded files, and the policy that keeps everything else out of them.

use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
};

const PAGE: &str = include_str!("../../web/chat.html");
const ASSETS: [(&str, &str, &str); 2] = [
    ("/static/app.js", "text/javascript; charset=utf-8", include_str!("../../web/app.js")),
    ("/static/style.css", "text/css; charset=utf-8", include_str!("../../web/style.css")),
];

/// The pages' files and headers.
#[derive(Debug)]
pub(super) struct Pages {
    policy: HeaderValue,
}

impl Pages {
    pub(super) fn new(frame_ancestors: &str) -> Self {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors {frame_ancestors}; \
             require-trusted-types-for 'script'; trusted-types 'none'"
        );
        // The configuration let only plain sources through.
        let policy = policy.parse().unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { policy }
    }

    /// A file by path, and its headers.
    pub(super) fn file(&self, path: &str) -> Option<(&'static str, HeaderMap)> {
        let (kind, text) = match path {
            "/chat" => ("text/html; charset=utf-8", PAGE),
            _ => ASSETS.iter().find(|asset| asset.0 == path).map(|asset| (asset.1, asset.2))?,
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        for (name, value) in [
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Some((text, headers))
    }
}
