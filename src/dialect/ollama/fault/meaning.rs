//! The wordings of known cases, and what callers hear of each.
//!
//! Collected from recordings (`crates/mock-ollama/recordings`) and from the sources of Ollama and llama.cpp; all of them in lower
//! case, the most particular first.

use super::Fault;
use crate::record::brief;
use crate::types::ModelName;

/// Known cases. What the caller can mend is 400, what passes with time 503, the rest 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The model lacks an ability.
    Unable(&'static str),
    NotFound,
    CloudOff,
    BadCall,
    Memory,
    OneImage,
    BadImage,
    Base64,
    Context,
    ContextFull,
    ContextIds,
    Grammar,
    /// A field of the request that the upstream could not read.
    Field(&'static str),
    ThinkLevel,
    Raw,
    Turns,
    Template,
    Busy,
    Loading,
    LoadTime,
    LoadFailed,
    Repeats,
    NoNumbers,
    Crashed,
    GivenUp,
}

/// Abilities as Ollama names them, and as callers know them.
const ABILITIES: &[(&str, &str)] = &[
    ("tools", "tools"),
    ("thinking", "thinking"),
    ("insert", "insert"),
    ("chat", "chat"),
    ("generate", "generate"),
    ("embeddings", "embeddings"),
    ("embedding", "embeddings"),
    ("vision", "images"),
    ("multimodal", "images"),
    ("image", "images"),
    ("images", "images"),
    ("audio", "audio"),
    ("completion", "completion"),
];

/// Bytes of a text that are looked at: an error line may be as long as any other.
const MAX_TEXT: usize = 16 << 10;

/// Fields that a Go decoder may name in a refusal.
const FIELDS: &[&str] = &[
    "tools",
    "messages",
    "format",
    "options",
    "think",
    "keep_alive",
    "images",
    "context",
    "prompt",
    "input",
    "dimensions",
    "model",
    "stream",
];

/// Texts that quote what the model or the caller wrote, which may hold any of the words further down.
const QUOTING: &[(Meaning, &[&str])] = &[
    (
        Meaning::BadCall,
        &["error parsing tool call", "failed to parse tool call", "failed to parse input at pos"],
    ),
    (Meaning::Grammar, &["json schema conversion failed", "invalid format:"]),
];

const KNOWN: &[(Meaning, &[&str])] = &[
    (
        Meaning::Grammar,
        &[
            "invalid json schema",
            "parse grammar",
            "parsing grammar",
            "initialize grammar",
            "grammar stack",
            "vocabulary required for format",
            "exceeds sane defaults",
            "unrecognized schema",
        ],
    ),
    (
        Meaning::Memory,
        &[
            "out of memory",
            "outofmemory",
            "out of device memory",
            "out_of_device_memory",
            "more system memory",
            "more gpu memory",
            "more vram",
            "cudamalloc failed",
            "hipmalloc failed",
            "failed to allocate",
            "unable to allocate",
            "allocation failed",
            "cannot be allocated",
            "not enough memory",
            "insufficient memory",
            "insufficient vram",
            "cannot allocate memory",
            "bad_alloc",
        ],
    ),
    (
        Meaning::OneImage,
        &["only supports one image", "only supports a single image", "single image per message"],
    ),
    (
        Meaning::Unable("images"),
        &[
            "does not support multimodal",
            "does not support image",
            "image input is not supported",
            "required for image input",
        ],
    ),
    (Meaning::Unable("audio"), &["audio input is not supported"]),
    (Meaning::Unable("tools"), &["tools param requires", "tool use is not supported"]),
    (Meaning::Unable("embeddings"), &["server does not support embeddings"]),
    (Meaning::Base64, &["illegal base64"]),
    (
        Meaning::BadImage,
        &[
            "image: unknown format",
            "unknown image format",
            "unsupported image",
            "invalid image",
            "decode image",
            "load image",
            "process image",
            "image embed",
            "number of bitmaps",
            "png: invalid",
            "jpeg: invalid",
            "invalid jpeg",
            "webp: invalid",
        ],
    ),
    (
        Meaning::ContextFull,
        &["context size has been exceeded", "k-shift", "slot for batch", "kv cache slot", "in the kv cache"],
    ),
    (
        Meaning::Context,
        &[
            "exceed_context_size_error",
            "context length",
            "context size",
            "context window",
            "available context",
            "prompt is too long",
            "prompt too long",
            "input is too long",
            "too large to process",
            "physical batch size",
            "maximum number of tokens",
        ],
    ),
    (Meaning::ContextIds, &["detokenize error"]),
    (Meaning::ThinkLevel, &["think value", "invalid think"]),
    (Meaning::Raw, &["raw mode does not support"]),
    (Meaning::Field("options"), &["option \"", "invalid options", "value must be between"]),
    (Meaning::Field("top_logprobs"), &["top_logprobs must be"]),
    (Meaning::Field("input"), &["invalid input type"]),
    (Meaning::Field("keep_alive"), &["time: invalid duration"]),
    (
        Meaning::Turns,
        &["roles must alternate", "raise_exception", "jinja exception", "only user and assistant roles"],
    ),
    (
        Meaning::Template,
        &["template: ", "chat template", "apply-template", "template error", "generate parser"],
    ),
    (
        Meaning::Busy,
        &[
            "server busy",
            "maximum pending requests",
            "no slot",
            "overloaded",
            "slots are busy",
            "too many requests",
        ],
    ),
    (Meaning::LoadTime, &["timed out waiting for", "timed out loading"]),
    (
        Meaning::LoadFailed,
        &[
            "error loading model",
            "failed to load model",
            "model failed to load",
            "unable to load model",
            "error loading llama",
            "error starting",
            "failed to start",
            "unable to create llama context",
            "failed to initialize the context",
            "unknown model architecture",
            "unsupported model",
            "model architecture",
            "unsupported file format",
            "invalid file magic",
            "exceeds file size",
            "missing tensor",
            "no such file",
            "incompatible with your version",
            "newer version of ollama",
            "not supported by your version",
            "no suitable llama",
            "binary not found",
        ],
    ),
    (Meaning::Loading, &["loading model", "model is loading", "still loading"]),
    (Meaning::Repeats, &["token repeat limit"]),
    (Meaning::NoNumbers, &["unsupported value: nan", "unsupported value: +inf", "embedding contains nan"]),
    (
        Meaning::Crashed,
        &[
            "process has terminated",
            "no longer running",
            "unexpectedly stopped",
            "encountered while running the model",
            "unexpected eof",
            "cuda error",
            "rocm error",
            "ggml_assert",
            "signal: ",
            "exit status",
            "runner crashed",
        ],
    ),
    (Meaning::GivenUp, &["request canceled", "context canceled"]),
];

impl Meaning {
    pub(super) fn of(status: Option<u16>, text: &str) -> Option<Self> {
        let end = text.floor_char_boundary(MAX_TEXT);
        let text = text.get(..end).unwrap_or_default().to_ascii_lowercase();
        let first = |known: &[(Self, &[&str])]| {
            let holds = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
            known.iter().find(|(_, needles)| holds(needles)).map(|(meaning, _)| *meaning)
        };
        if let Some(quoting) = first(QUOTING) {
            return Some(quoting);
        }
        if let Some(field) = unread_field(&text) {
            return Some(Self::Field(field));
        }
        if let Some(ability) = missing_ability(&text) {
            return Some(Self::Unable(ability));
        }
        if text.starts_with("model ") && text.contains(" not found") {
            return Some(Self::NotFound);
        }
        if status == Some(403) && text.starts_with("ollama cloud is disabled") {
            return Some(Self::CloudOff);
        }
        first(KNOWN)
    }

    /// As what a caller gets it.
    pub(super) fn fault(self, model: Option<&ModelName>, detail: String) -> Fault {
        Fault { status: self.status(), public: self.words(model), detail, retry_after: self.retry_after() }
    }

    const fn status(self) -> u16 {
        match self {
            Self::CloudOff => 403,
            Self::NotFound => 404,
            Self::Memory | Self::Busy | Self::Loading | Self::LoadTime => 503,
            Self::BadCall
            | Self::Template
            | Self::LoadFailed
            | Self::Repeats
            | Self::NoNumbers
            | Self::Crashed
            | Self::GivenUp => 502,
            _ => 400,
        }
    }

    /// Seconds after which another try makes sense. Memory comes back when another model leaves it.
    const fn retry_after(self) -> Option<u64> {
        match self {
            Self::Busy | Self::Loading => Some(5),
            Self::Memory | Self::LoadTime => Some(60),
            _ => None,
        }
    }

    fn words(self, model: Option<&ModelName>) -> String {
        let the =
            model.map_or_else(|| "the model".to_owned(), |name| format!("\"{}\"", brief(name.as_str())));
        let fixed = match self {
            Self::Unable(ability) => return format!("{the} does not support {ability}"),
            Self::NotFound => {
                return model.map_or_else(
                    || "the model was not found".to_owned(),
                    |name| format!("model '{}' not found", brief(name.as_str())),
                );
            }
            Self::OneImage => return format!("{the} takes only one image a message"),
            Self::ThinkLevel => return format!("{the} does not take this level of think"),
            Self::LoadFailed => return format!("the model server could not load {the}"),
            Self::Field(field) => {
                return format!("{field}: the model server cannot read what was sent there");
            }
            Self::CloudOff => "this model runs in the cloud, which is switched off here",
            Self::BadCall => "the model wrote a tool call that cannot be read; asking again may help",
            Self::Memory => {
                "the model server has too little memory for this model and request; a smaller model or num_ctx needs less"
            }
            Self::BadImage => "an image could not be read: send PNG or JPEG",
            Self::Base64 => "an image is not valid base64",
            Self::Context => "the input is longer than the model's context",
            Self::ContextFull => {
                "the model's context is full: the input and the answer together are longer than it"
            }
            Self::ContextIds => "context: it holds an id that this model does not have",
            Self::Grammar => {
                "the JSON schema in format or tools cannot be used: the model server makes no grammar of it"
            }
            Self::Raw => "raw does not go with system or context",
            Self::Turns => "messages: the model's template does not take these roles in this order",
            Self::Template => "the model's template cannot be used for this request",
            Self::Busy => "the model server is busy; try again",
            Self::Loading => "the model server is still loading the model; try again",
            Self::LoadTime => "the model server took too long to load the model; try again",
            Self::Repeats => "the model repeated itself without end, and the model server stopped it",
            Self::NoNumbers => "the model gave values that are not numbers",
            Self::Crashed => "the model's process failed: it ran out of resources, or has a fault of its own",
            Self::GivenUp => "the model server gave the request up",
        };
        fixed.to_owned()
    }
}

/// The field of the request that a Go decoder stumbled over, as the caller knows it.
fn unread_field(text: &str) -> Option<&'static str> {
    let (_, path) =
        text.split_once("into go struct field ").or_else(|| text.split_once("into go value of type "))?;
    let mut steps = path.split_whitespace().next().unwrap_or_default().split('.');
    let named = steps.find_map(|step| FIELDS.iter().find(|name| **name == step));
    Some(named.copied().unwrap_or("the request"))
}

/// The first ability in `… does not support completion\ntools`.
fn missing_ability(text: &str) -> Option<&'static str> {
    let (_, named) = text.split_once(" does not support ")?;
    let word = named.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
    ABILITIES.iter().find(|(name, _)| *name == word).map(|(_, ability)| *ability)
}
