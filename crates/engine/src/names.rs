//! Model names: what a caller writes, what it means, and what a file is called.
//!
//! Takes `[scheme://][host/][namespace/]model[:tag]` in any case and promises one canonical form (lower case,
//! default host and namespace and scheme stripped, tag always there). It refuses what Ollama refuses: empty
//! parts, parts that are too long, characters outside `A-Z a-z 0-9 _ - .`.

use std::path::Path;

const DEFAULT_HOST: &str = "registry.ollama.ai";
const DEFAULT_NAMESPACE: &str = "library";
const LONGEST_PART: usize = 80;
const LONGEST_HOST: usize = 350;

/// A model name in canonical form, `alpha:latest` or `team/alpha:v2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

/// Why a name means no model here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// It is no name at all.
    Malformed,
    /// It asks for a model that runs on somebody else's machine.
    Cloud,
}

impl ModelName {
    /// Reads a name as a caller wrote it.
    pub fn parse(text: &str) -> Result<Self, NameFault> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
        // `:local` only says what holds here anyway: the model runs on this machine.
        let text = match text.strip_suffix(":local") {
            Some(rest) if rest.rsplit('/').next().is_some_and(|last| !last.is_empty()) => rest,
            _ => text,
        };
        let parts: Vec<&str> = text.split('/').collect();
        let (host, namespace, last) = match *parts.as_slice() {
            [last] => (DEFAULT_HOST, DEFAULT_NAMESPACE, last),
            [namespace, last] => (DEFAULT_HOST, namespace, last),
            [host, namespace, last] => (host, namespace, last),
            _ => return Err(NameFault::Malformed),
        };
        let (model, tag) = last.split_once(':').unwrap_or((last, "latest"));
        let sound = part(host, LONGEST_HOST, ".:")
            && part(namespace, LONGEST_PART, "")
            && part(model, LONGEST_PART, ".")
            && part(tag, LONGEST_PART, ".");
        if !sound {
            return Err(NameFault::Malformed);
        }
        if tag == "cloud" || tag.ends_with("-cloud") {
            return Err(NameFault::Cloud);
        }
        Ok(Self(match (host == DEFAULT_HOST, namespace == DEFAULT_NAMESPACE) {
            (true, true) => format!("{model}:{tag}"),
            (true, false) => format!("{namespace}/{model}:{tag}"),
            (false, _) => format!("{host}/{namespace}/{model}:{tag}"),
        }))
    }

    /// The name of a model file.
    ///
    /// The file name without its ending, in lower case, other characters as `-`. A tag is hinted by `--`
    /// (`qwen3--4b.gguf` is `qwen3:4b`) or by a first part that is a size, a number and `k`, `m` or `b`
    /// (`SmolLM2-135M-Instruct.Q4_1.gguf` is `smollm2:135m-instruct.q4_1`); without a hint it is `latest`.
    pub fn of_file(path: &Path) -> Result<Self, NameFault> {
        let stem = path.file_stem().ok_or(NameFault::Malformed)?.to_string_lossy().to_lowercase();
        let clean: String = stem
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .collect();
        let clean = clean.trim_start_matches(['-', '.']);
        let hinted = clean.split_once("--").map(|(model, tag)| format!("{model}:{tag}"));
        let sized = || {
            let at = clean.match_indices('-').map(|(at, _)| at).find(|at| {
                let tag = clean.get(at + 1..).unwrap_or_default();
                is_size(tag.split(['-', '_']).next().unwrap_or_default())
            })?;
            Some(format!("{}:{}", clean.get(..at)?, clean.get(at + 1..)?))
        };
        Self::parse(&hinted.or_else(sized).unwrap_or_else(|| clean.to_owned()))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with host and namespace, as Ollama's capability errors print it.
    pub fn full(&self) -> String {
        match self.0.matches('/').count() {
            0 => format!("{DEFAULT_HOST}/{DEFAULT_NAMESPACE}/{}", self.0),
            1 => format!("{DEFAULT_HOST}/{}", self.0),
            _ => self.0.clone(),
        }
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn part(text: &str, longest: usize, extra: &str) -> bool {
    let mut chars = text.chars();
    text.len() <= longest
        && chars.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || extra.contains(c))
}

fn is_size(text: &str) -> bool {
    text.strip_suffix(['k', 'm', 'b'])
        .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_model_are_one_name() {
        for text in [
            "smollm2:135m",
            "  SMOLLM2:135M ",
            "library/smollm2:135m",
            "registry.ollama.ai/library/smollm2:135m",
            "http://registry.ollama.ai/library/smollm2:135m",
            "smollm2:135m:local",
        ] {
            assert_eq!(
                ModelName::parse(text).map(|n| n.to_string()),
                Ok("smollm2:135m".to_owned()),
                "{text}"
            );
        }
        assert_eq!(ModelName::parse("Llama3").unwrap().as_str(), "llama3:latest");
        assert_eq!(ModelName::parse("team/Tuned:v2").unwrap().as_str(), "team/tuned:v2");
        assert_eq!(ModelName::parse("a:b").unwrap().full(), "registry.ollama.ai/library/a:b");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(100);
        for text in ["", " ", "a//b", "../x", "a@sha256:00", "a b", "a:", "/a", "a/b/c/d", "ä", &long] {
            assert_eq!(ModelName::parse(text), Err(NameFault::Malformed), "{text}");
        }
        for text in ["gpt-oss:120b-cloud", "smollm2:CLOUD"] {
            assert_eq!(ModelName::parse(text), Err(NameFault::Cloud), "{text}");
        }
    }

    #[test]
    fn files_have_names() {
        let name = |file: &str| ModelName::of_file(Path::new(file)).unwrap().to_string();
        assert_eq!(name("/m/SmolLM2-135M-Instruct.Q4_1.gguf"), "smollm2:135m-instruct.q4_1");
        assert_eq!(name("qwen3--4b.gguf"), "qwen3:4b");
        assert_eq!(name("qwen3-4b.gguf"), "qwen3:4b");
        assert_eq!(name("my model.gguf"), "my-model:latest");
        assert_eq!(name("tiny.gguf"), "tiny:latest");
        assert_eq!(name("a-0.5b-q8.gguf"), "a:0.5b-q8");
    }
}
