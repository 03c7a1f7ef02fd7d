//! The page: embedded files in the coding that the browser takes, and the policy that keeps everything else out of it.
//!
//! Takes a path and what the browser says of codings and of what it has; promises the file, or 304 where it has it. Its files
//! stand under a hash of them all (`build.rs`), and may be kept for ever.

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY,
};

/// One file, made by the build.
#[derive(Debug)]
struct Asset {
    path: &'static str,
    etag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
}

const PAGE: Asset = include!(concat!(env!("OUT_DIR"), "/page.rs"));
/// By path.
const ASSETS: &[Asset] = &include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The pages' files and headers.
#[derive(Debug)]
pub(super) struct Pages {
    policy: HeaderValue,
}

/// What goes out.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

impl Pages {
    pub(super) fn new(frame_ancestors: &str) -> Self {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
             font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors {frame_ancestors}; require-trusted-types-for 'script'; trusted-types 'none'"
        );
        // The configuration let only plain sources through.
        let policy = policy.parse().unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { policy }
    }

    /// The file at a path, for a browser that says this of itself.
    pub(super) fn file(&self, path: &str, request: &HeaderMap) -> Option<Page> {
        let (asset, kept) = match path {
            "/chat" => (&PAGE, "no-cache"),
            _ => (ASSETS.iter().find(|asset| asset.path == path)?, "public, max-age=31536000, immutable"),
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(asset.path)));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
        headers.insert(ETAG, HeaderValue::from_static(asset.etag));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        for (name, value) in [
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if has(request, asset.etag) {
            return Some(Page { status: StatusCode::NOT_MODIFIED, headers, bytes: Bytes::new() });
        }
        let (coding, bytes) = coded(asset, request);
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        Some(Page { status: StatusCode::OK, headers, bytes: Bytes::from_static(bytes) })
    }
}

/// RFC 9110 section 13.1.2: a list of tags, weak ones included, or any.
fn has(request: &HeaderMap, etag: &str) -> bool {
    let values = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// Brotli, else gzip, else as it is (RFC 9110 section 12.5.3); `q=0` is a no.
fn coded(asset: &Asset, request: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
    let takes = |coding: &str| {
        let values = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|list| list.split(',')).any(|item| {
            let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight.trim().trim_start_matches("q=").parse::<f32>().unwrap_or(0.0);
            name.trim().eq_ignore_ascii_case(coding) && weight > 0.0
        })
    };
    if takes("br") {
        (Some("br"), asset.brotli)
    } else if takes("gzip") {
        (Some("gzip"), asset.gzip)
    } else {
        (None, asset.plain)
    }
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("webmanifest") => "application/manifest+json",
        _ => "text/html; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str, pairs: &[(HeaderName, &'static str)]) -> Option<Page> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        Pages::new("'none'").file(path, &headers)
    }

    #[test]
    fn every_file_of_the_page_is_there_in_each_coding() {
        let page = ask("/chat", &[]).unwrap();
        let text = String::from_utf8(page.bytes.to_vec()).unwrap();
        assert!(!text.contains("{static}") && !text.contains("{preload}"));
        for address in text.split('"').filter(|part| part.starts_with("/static/")) {
            let plain = ask(address, &[]).unwrap_or_else(|| panic!("{address}"));
            assert_eq!(plain.headers[CACHE_CONTROL], "public, max-age=31536000, immutable");
            for (asked, got) in
                [("gzip, deflate, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip;q=0.5", "gzip")]
            {
                let coded = ask(address, &[(ACCEPT_ENCODING, asked)]).unwrap();
                assert_eq!(coded.headers[CONTENT_ENCODING], got, "{address}");
                assert!(coded.bytes.len() <= plain.bytes.len() + 32);
            }
        }
        assert!(ask("/static/js/main.js", &[]).is_none(), "only under its hash");
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let page = ask("/chat", &[]).unwrap();
        assert_eq!(
            (page.status, &page.headers[CACHE_CONTROL]),
            (StatusCode::OK, &HeaderValue::from_static("no-cache"))
        );
        for tag in [PAGE.etag, "*", "\"other\", *"] {
            let again = ask("/chat", &[(IF_NONE_MATCH, tag)]).unwrap();
            assert_eq!((again.status, again.bytes.len()), (StatusCode::NOT_MODIFIED, 0), "{tag}");
        }
        assert_eq!(ask("/chat", &[(IF_NONE_MATCH, "\"other\"")]).unwrap().status, StatusCode::OK);
    }

    /// The first load is what stands between a reader and the page; everything is what it may ever cost.
    #[test]
    fn the_page_stays_small() {
        let page = String::from_utf8_lossy(PAGE.plain);
        let lazy = |path: &str| !page.contains(&format!("\"{path}\""));
        let first: usize =
            ASSETS.iter().filter(|asset| !lazy(asset.path)).map(|asset| asset.gzip.len()).sum::<usize>()
                + PAGE.gzip.len();
        let all: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum::<usize>() + PAGE.gzip.len();
        assert!(first <= 45_000, "the first load has {first} bytes");
        assert!(all <= 150_000, "everything has {all} bytes");
    }
}
