//! What holds: typed sections with durations, sizes and addresses already judged. Every section is handed to one part.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::files::Files;
use super::origins::Origins;
use super::raw::Raw;
use super::upstream_url::UpstreamUrl;
use crate::types::ModelName;

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Who may call: the operator's key setting.
    pub keys: Keys,
    /// `models.default`.
    pub default_model: ModelName,
    /// Was `models.default` set by hand? Otherwise `up` may fill in the engine's.
    pub default_model_set: bool,
    /// The public listener.
    pub listen: Listen,
    /// Cloudflare Access, where it is asked for.
    pub access: Option<Access>,
    /// An `OpenID` Connect issuer, where tokens are taken.
    pub oidc: Option<Issuer>,
    /// `pages.frame_ancestors` as a CSP source list.
    pub frame_ancestors: String,
    /// The upstream and its clocks.
    pub upstream: Upstream,
    /// The waiting room.
    pub queue: Queue,
    /// Silence after which a heartbeat goes out; `None`: never.
    pub heartbeat: Option<Duration>,
    /// Limits of keys and of bodies.
    pub limits: Limits,
    /// What callers may set.
    pub options: Options,
    /// Log lines.
    pub log: Log,
    /// The record of requests.
    pub audit: Audit,
    /// The listener for operators.
    pub ops: Ops,
    /// The data folder.
    pub data_dir: PathBuf,
    /// `--quarantine`: a damaged store is set aside.
    pub quarantine: bool,
    /// Optional routes.
    pub routes: Routes,
    /// Sentences for the operator, printed at start.
    pub warnings: Vec<String>,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
    /// Every file that something was read from: a change in one of them is a change of the configuration.
    pub files: Files,
    /// What was written, for comparison with the next reading.
    pub written: Raw,
}

/// `keys.api_key`.
#[derive(Clone, PartialEq, Eq)]
pub enum Keys {
    /// Unset: one is generated at first start.
    Generated,
    /// Set but empty: no key is asked.
    Public,
    /// The operator's keys.
    Given(Vec<String>),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generated => f.write_str("Generated"),
            Self::Public => f.write_str("Public"),
            Self::Given(keys) => write!(f, "Given({} keys)", keys.len()),
        }
    }
}

/// `[listen]`.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where to bind.
    pub address: IpAddr,
    /// 0 asks the system.
    pub port: u16,
    /// A Unix socket beside the port.
    pub socket: Option<Socket>,
    /// The port's certificate; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Web origins answered: see [`Origins`].
    pub origins: Origins,
    /// Host names served in public mode, lower case.
    pub hosts: Vec<String>,
    /// In public mode, serve any Host.
    pub public: bool,
    /// Which peers may name the client.
    pub trusted_proxy: TrustedProxy,
    /// Connections at once; `None`: from the open-file limit.
    pub max_connections: Option<usize>,
    /// Connections per client address; `None`: no bound.
    pub max_per_address: Option<usize>,
}

/// Who signs tokens, and which of them are for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Of the names that it gives: `access` or `oidc`.
    pub prefix: &'static str,
    /// The claim `iss`, exactly.
    pub issuer: String,
    /// One of these must be in the claim `aud`.
    pub audience: Vec<String>,
    /// Where its signing keys are.
    pub keys_url: String,
    /// The claims that name somebody; the first that is there counts.
    pub identity: Vec<String>,
    /// Does it verify each address itself, so that no claim says so?
    pub knows_addresses: bool,
    /// Whom to believe about the server of `keys_url`; `None`: the public authorities.
    pub ca_file: Option<PathBuf>,
}

/// `[access]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The team.
    pub issuer: Issuer,
    /// Does the identity stand for a key?
    pub is_identity: bool,
}

/// `listen.socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Where its file is.
    pub path: PathBuf,
    /// The file's permissions.
    pub mode: u32,
}

/// `listen.tls_certificate` and `listen.tls_key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// `listen.trusted_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedProxy {
    /// The peer is the client.
    None,
    /// Loopback peers name it in `CF-Connecting-IP`.
    Cloudflare,
    /// The platform's proxy, whose client header nobody documents: no per-address limits, no client address.
    HuggingFace,
    /// These peers name it in `X-Forwarded-For`, so many hops from the right.
    Forwarded {
        /// Who may.
        peers: Vec<ipnet::IpNet>,
        /// 1: the last entry.
        hops: usize,
    },
}

/// `[upstream]`. A `None` duration is no clock; 0 slots no bound.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where it is.
    pub url: UpstreamUrl,
    /// Requests sent at once; `None`: no bound.
    pub slots: Option<usize>,
    /// Bytes.
    pub max_line: usize,
    /// Bytes.
    pub max_answer: usize,
    /// To connect.
    pub connect: Option<Duration>,
    /// To the first byte.
    pub first_byte: Option<Duration>,
    /// Between lines.
    pub idle: Option<Duration>,
    /// In all.
    pub total: Option<Duration>,
}

/// `[queue]`.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Requests that may wait.
    pub length: usize,
    /// How long.
    pub wait: Option<Duration>,
    /// Requests of one principal that may wait; `None`: as many as all together.
    pub per_key: Option<usize>,
}

/// `[limits]`. `None`: no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// GCRA, a minute's allowance at once: what asks a model.
    pub requests_per_minute: Option<u32>,
    /// Likewise: what asks for lists.
    pub lists_per_minute: Option<u32>,
    /// With a turn at once.
    pub concurrent: Option<u32>,
    /// Tokens of prompts and answers in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Tokens in a day (UTC).
    pub tokens_per_day: Option<u64>,
    /// Tokens in a month (UTC).
    pub tokens_per_month: Option<u64>,
    /// Seconds of the model server's work in a day (UTC).
    pub gpu_seconds_per_day: Option<u64>,
    /// Bytes of a request body.
    pub body: usize,
    /// Bytes of all bodies; `None`: no bound.
    pub body_memory: Option<usize>,
    /// Largest `num_ctx`.
    pub max_context: Option<u32>,
    /// Largest `num_predict`, also filled in.
    pub max_output_tokens: Option<u32>,
}

/// `audit.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditMode {
    /// A begin is on the disk before anything goes upstream.
    Strict,
    /// At most the last second is lost where the process is killed.
    Buffered,
    /// Only sums are kept.
    Off,
}

/// `[audit]`.
#[derive(Debug, Clone, Copy)]
pub struct Audit {
    /// How rows are kept.
    pub mode: AuditMode,
    /// How long; `None`: for ever.
    pub keep: Option<Duration>,
}

/// `[ops]`.
#[derive(Debug, Clone, Copy)]
pub struct Ops {
    /// Where; `None`: nowhere.
    pub address: Option<std::net::SocketAddr>,
    /// Was it set by hand? Then it is a failure where it is taken.
    pub by_hand: bool,
}

/// `[options]`.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Is `num_ctx` the caller's to set?
    pub num_ctx: bool,
    /// Are the load-time options?
    pub load_time: bool,
    /// The longest `keep_alive`.
    pub max_keep_alive: Option<Duration>,
}

/// `[log]`.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// JSON or text; `None`: by terminal.
    pub json: Option<bool>,
    /// What is written.
    pub level: tracing::Level,
}

/// `[routes]`.
#[derive(Debug, Clone, Copy)]
pub struct Routes {
    /// Ollama's own lists.
    pub catalogue: bool,
    /// Pull and the like.
    pub management: bool,
    /// Models on ollama.com.
    pub cloud_models: bool,
}
