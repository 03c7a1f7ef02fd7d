//! Model names: the one spelling of each.
//!
//! Takes `[scheme://][host/][namespace/]model[:tag]` as Ollama reads it: trimmed, without regard to case, with or without
//! the parts that are defaults. Promises the canonical [`ModelName`], which is compared with allow-lists and sent on.
//! Refuses what Ollama cannot mean by a name: empty parts, other characters, `..`, digests, too many parts.

use std::fmt;
use std::sync::Arc;

const DEFAULT_HOST: &str = "registry.ollama.ai";
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// Bytes of a host.
const MAX_HOST: usize = 350;
/// Bytes of any other part.
const MAX_PART: usize = 80;

/// A canonical model name: `alpha:latest`, `team/alpha:v2`, `host/team/alpha:v2`; lower case, never a default part.
/// The default is nobody's name: no spelling leads to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ModelName(Arc<str>);

/// No model can have this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidName;

impl ModelName {
    /// Reads a name in any spelling that Ollama takes; cloud names are names too, see [`is_cloud_name`].
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        if is_plain(name) {
            return Ok(Self(Arc::from(name)));
        }
        Parts::of(name.trim()).map(|parts| parts.name()).ok_or(InvalidName)
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `model:tag` as it is kept, which most requests send: one look spares the rest.
fn is_plain(name: &str) -> bool {
    let mut parts = name.as_bytes().splitn(2, |&b| b == b':');
    let (Some(model), Some(tag)) = (parts.next(), parts.next()) else { return false };
    let small = |part: &[u8]| {
        let first = part.first().is_some_and(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        // A dot is plain where no other follows it.
        let dots = part.windows(2).any(|pair| pair == b"..");
        let rest = part.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'));
        first && rest && !dots && part.len() <= MAX_PART
    };
    small(model) && small(tag) && tag != b"local"
}

/// Would Ollama run this name on ollama.com, on the account of its owner?
pub fn is_cloud_name(name: &str) -> bool {
    let name = name.trim();
    // Most names end otherwise.
    if !matches!(name.as_bytes().last(), Some(b'd' | b'D' | b'l' | b'L')) {
        return false;
    }
    let name = without_suffix(name, ":local").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').is_some_and(|(_, tag)| {
        let tail = tag.rsplit([':', '-']).next().unwrap_or(tag);
        tail.eq_ignore_ascii_case("cloud")
    })
}

/// The parts of a valid name, in the case they came in; `None` where a default stood or was meant.
struct Parts<'n> {
    host: Option<&'n str>,
    namespace: Option<&'n str>,
    model: &'n str,
    tag: &'n str,
}

impl<'n> Parts<'n> {
    fn of(spelled: &'n str) -> Option<Self> {
        let unschemed = without_prefix(spelled, "https://").or_else(|| without_prefix(spelled, "http://"));
        let rest = unschemed.unwrap_or(spelled);
        // `:local` says what holds anyway; with `:cloud` before it, Ollama refuses too.
        let rest = match without_suffix(rest, ":local") {
            Some(local) if is_cloud_name(local) || without_suffix(local, ":local").is_some() => return None,
            Some(local) => local,
            None => rest,
        };
        let (head, last) = rest.rsplit_once('/').map_or((None, rest), |(head, last)| (Some(head), last));
        let (host, namespace) = match head.map(|head| head.split_once('/').ok_or(head)) {
            None => (None, None),
            Some(Err(namespace)) => (None, Some(namespace)),
            Some(Ok((host, namespace))) => (Some(host), Some(namespace)),
        };
        let (model, tag) = last.split_once(':').unwrap_or((last, DEFAULT_TAG));
        let valid = (unschemed.is_none() || host.is_some())
            && host.is_none_or(|host| is_part(host, MAX_HOST, b".:"))
            && namespace.is_none_or(|namespace| is_part(namespace, MAX_PART, b""))
            && is_part(model, MAX_PART, b".")
            && is_part(tag, MAX_PART, b".");
        valid.then_some(Self { host, namespace, model, tag }.without_defaults())
    }

    fn without_defaults(self) -> Self {
        let host = self.host.filter(|host| !host.eq_ignore_ascii_case(DEFAULT_HOST));
        let default_namespace = |name: &&str| host.is_some() || !name.eq_ignore_ascii_case(DEFAULT_NAMESPACE);
        Self { host, namespace: self.namespace.filter(default_namespace), ..self }
    }

    fn name(&self) -> ModelName {
        let mut name = String::with_capacity(64);
        for part in [self.host, self.namespace].into_iter().flatten() {
            name.push_str(part);
            name.push('/');
        }
        name.push_str(self.model);
        name.push(':');
        name.push_str(self.tag);
        name.make_ascii_lowercase();
        ModelName(Arc::from(name))
    }
}

/// A letter, digit or `_`, then these, `-` and the extra ones; never `..`.
fn is_part(part: &str, longest: usize, extra: &[u8]) -> bool {
    let bytes = part.as_bytes();
    bytes.len() <= longest
        && bytes.first().is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-') || extra.contains(&b))
        && !bytes.windows(2).any(|pair| pair == b"..")
}

fn without_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn without_suffix<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    let (rest, tail) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    tail.eq_ignore_ascii_case(suffix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_means_one_name() {
        for (spelled, name) in [
            ("llama3", "llama3:latest"),
            ("LLAMA3:Latest", "llama3:latest"),
            ("  llama3\n", "llama3:latest"),
            ("library/llama3", "llama3:latest"),
            ("registry.ollama.ai/library/llama3:latest", "llama3:latest"),
            ("Registry.Ollama.AI/Library/llama3", "llama3:latest"),
            ("http://registry.ollama.ai/library/llama3", "llama3:latest"),
            ("HTTPS://registry.ollama.ai/library/llama3", "llama3:latest"),
            ("llama3:latest:local", "llama3:latest"),
            ("llama3:LOCAL", "llama3:latest"),
            ("team/alpha:v2", "team/alpha:v2"),
            ("registry.ollama.ai/team/alpha:V2", "team/alpha:v2"),
            ("hf.co/Org/Model-GGUF:Q4_K_M", "hf.co/org/model-gguf:q4_k_m"),
            ("hf.co/library/m", "hf.co/library/m:latest"),
            ("localhost:5000/ns/m:t", "localhost:5000/ns/m:t"),
            ("qwen2.5-coder:1.5b", "qwen2.5-coder:1.5b"),
            ("_x:_y", "_x:_y"),
        ] {
            let got = ModelName::parse(spelled).unwrap();
            assert_eq!(got.as_str(), name, "{spelled}");
            assert_eq!(ModelName::parse(got.as_str()), Ok(got), "canonical twice: {spelled}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for spelled in [
            "",
            " ",
            "mistral 7b",
            "mistral:7b\nx",
            "../../etc/passwd",
            "a..b",
            "a:..",
            "..",
            ".",
            "/a",
            "a/",
            "a//b",
            "a/b/c/d",
            ":tag",
            "a:",
            "a:b:c",
            "-a",
            "a:-b",
            "a@sha256:00",
            "a%2fb",
            "a\\b",
            "é",
            "a\0",
            "ns.x/m",
            "ftp://h/n/m",
            "http://llama3",
            "http://h/m",
            "x:cloud:local",
            "x:7b-CLOUD:local",
            "x:local:local",
            ":local",
            "a/..",
            "\u{212a}imi",
        ] {
            assert_eq!(ModelName::parse(spelled), Err(InvalidName), "{spelled:?}");
        }
        let long = "a".repeat(80);
        assert!(
            ModelName::parse(&"a".repeat(79)).is_ok()
                && ModelName::parse(&long).is_ok()
                && ModelName::parse(&format!("{long}a")).is_err()
        );
        let host = "h".repeat(350);
        assert!(
            ModelName::parse(&format!("{host}/n/m")).is_ok()
                && ModelName::parse(&format!("{host}h/n/m")).is_err()
        );
    }

    #[test]
    fn cloud_names_are_told_by_their_tag() {
        for name in ["a:cloud", "A:Cloud", "gpt:120b-cloud", "n/a:7B-CLOUD", " a:cloud ", "a:cloud:local"] {
            assert!(is_cloud_name(name), "{name}");
        }
        for name in ["a", "a-cloud", "a-cloud:latest", "a:cloudy", "cloud/a:7b", "cloud", "h:1/cloud/a:b"] {
            assert!(!is_cloud_name(name), "{name}");
        }
    }
}
