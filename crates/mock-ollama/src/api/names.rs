//! Model names: `[scheme://][host/][namespace/]model[:tag]`, as Ollama reads them.
//!
//! Takes a caller's spelling; gives the canonical name, or says that it is none. What a name means is the catalogue's
//! business.

/// A name with every part filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    host: String,
    namespace: String,
    model: String,
    tag: String,
    /// The caller asked for Ollama's cloud by the name alone.
    pub(crate) cloud: bool,
}

const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";

impl Name {
    /// Reads a caller's spelling; `None` if it is malformed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let local = text.len().checked_sub(6).and_then(|at| text.split_at_checked(at));
        let text = match local {
            Some((before, suffix)) if suffix.eq_ignore_ascii_case(":local") => before,
            _ => text,
        };
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let mut parts = text.rsplitn(3, '/');
        let last = parts.next()?;
        let namespace = parts.next().unwrap_or(NAMESPACE);
        let host = parts.next().unwrap_or(HOST);
        let (model, tag) = last.rsplit_once(':').unwrap_or((last, "latest"));
        let lower_tag = tag.to_ascii_lowercase();
        let cloud = lower_tag == "cloud" || lower_tag.ends_with("-cloud");
        let good =
            part(host, 350, ".:") && part(namespace, 80, "") && part(model, 80, ".") && part(tag, 80, ".");
        good.then(|| Self {
            host: host.to_owned(),
            namespace: namespace.to_owned(),
            model: model.to_owned(),
            tag: tag.to_owned(),
            cloud,
        })
    }

    /// As `ollama list` shows it: without the parts that everybody has.
    pub(crate) fn short(&self) -> String {
        let Self { host, namespace, model, tag, .. } = self;
        match (host.as_str(), namespace.as_str()) {
            (HOST, NAMESPACE) => format!("{model}:{tag}"),
            (HOST, _) => format!("{namespace}/{model}:{tag}"),
            _ => format!("{host}/{namespace}/{model}:{tag}"),
        }
    }

    /// What names are compared by.
    pub(crate) fn key(&self) -> String {
        self.short().to_ascii_lowercase()
    }

    /// With host and namespace, as some refusals write it.
    pub(crate) fn full(&self) -> String {
        let Self { host, namespace, model, tag, .. } = self;
        format!("{host}/{namespace}/{model}:{tag}")
    }

    /// Where a registry keeps the model's manifest.
    pub(crate) fn manifest_url(&self) -> String {
        let Self { host, namespace, model, tag, .. } = self;
        format!("https://{host}/v2/{namespace}/{model}/manifests/{tag}")
    }

    /// The registry's host.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

fn part(text: &str, longest: usize, more: &str) -> bool {
    let first = text.chars().next();
    first.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= longest
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || more.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_model() {
        for text in [
            "smollm2:135m",
            " SMOLLM2:135M ",
            "library/smollm2:135m",
            "http://registry.ollama.ai/library/smollm2:135m",
            "smollm2:135m:local",
        ] {
            assert_eq!(Name::parse(text).expect(text).key(), "smollm2:135m");
        }
    }

    #[test]
    fn malformed_names() {
        for text in ["", "a//b", "../x", "a@sha256:00", "-a", "a/b/c/d e", &"a".repeat(81)] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        assert!(Name::parse("gpt-oss:120b-cloud").expect("good").cloud);
    }
}
