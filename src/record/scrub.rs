//! What an upstream says, without what tells about its machine: addresses, URLs and paths.

use super::redact::is_invisible;

/// An upstream's words without what they quote (a model's output may stand there) and without what tells about its machine:
/// cut at the first quote or brace and at 200 bytes; words that hold a slash, a digest, a dotted name, an address or a port
/// become `…`.
pub fn scrub(text: &str) -> String {
    let quoted = text.find(['"', '\'', '`', '{', '[', '=', '\u{201c}']).unwrap_or(text.len());
    let mut out = String::new();
    for word in text.get(..quoted).unwrap_or_default().split_whitespace() {
        if out.len() + word.len() > 200 {
            out.push_str(" …");
            return clean(&out);
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(if tells(word) { "…" } else { word });
    }
    if quoted < text.len() {
        out.push('…');
    }
    clean(&out)
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect()
}

fn tells(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    word.contains(['/', '\\', '@'])
        || bare.contains("sha256")
        || bare.contains('.')
        || bare.eq_ignore_ascii_case("localhost")
        || bare.matches(':').count() > 1
        || bare
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrubbed_words_tell_nothing() {
        let text = "open /usr/share/ollama/x: no such file; see http://10.1.2.3:8080/t?token=a at 127.0.0.1:11434 sha256-6a07";
        let clean = scrub(text);
        for secret in ["/usr", "10.1.2.3", "token", "11434", "sha256"] {
            assert!(!clean.contains(secret), "{clean}");
        }
        assert!(clean.contains("no such file"));
        assert!(scrub(&"word ".repeat(1000)).len() < 300);
    }

    #[test]
    fn what_a_model_said_and_hosts_without_digits_go_too() {
        let text = r#"error parsing tool call: raw='{"city": "Paris"}', err=invalid"#;
        assert_eq!(scrub(text), "error parsing tool call: raw…");
        let clean = scrub("lookup ollama.internal.corp: no such host near 2001:db8:a:b:c:d:e:f");
        assert_eq!(clean, "lookup … no such host near …");
    }
}
