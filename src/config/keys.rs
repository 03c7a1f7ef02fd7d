//! Every configuration key: its name in the file, older environment names, default and meaning (design.md section 2).

/// What kind of value a key takes; decides how text from the environment is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Number,
    /// `"90s"`, `"5m"`, `"250ms"`, or seconds.
    Duration,
    /// `"20MiB"`, `"8MB"`, or bytes.
    Size,
    /// Text.
    Text,
    /// A list, or text with commas.
    List,
    /// Text that is never shown; has a `_FILE` twin.
    Secret,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `section.key`.
    pub name: &'static str,
    /// Names from the systems that Portcullis replaces, still honoured.
    pub older: &'static [&'static str],
    /// How its value is read.
    pub kind: Kind,
    /// As it is written in `portcullis.example.toml`; empty where there is none.
    pub default: &'static str,
    /// One line for the example and the docs.
    pub about: &'static str,
    /// Does a change hold at once, without a restart?
    pub live: bool,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, older: &[], kind, default, about, live: true }
}

const fn older(older: &'static [&'static str], key: Key) -> Key {
    Key { older, ..key }
}

/// A key whose change needs a restart.
const fn fixed(key: Key) -> Key {
    Key { live: false, ..key }
}

use Kind::{Bool, Duration, List, Number, Secret, Size, Text};

/// All of them, by section.
pub const KEYS: &[Key] = &[
    older(
        &["OLLAMA_API_KEY"],
        key(
            "keys.api_key",
            Secret,
            "",
            "the key, or several with commas; unset: one is generated; empty: public mode",
        ),
    ),
    older(
        &["OLLAMA_MODEL"],
        key(
            "models.default",
            Text,
            "qwen3:4b",
            "the model when a request names none; not written, and not there: one that can chat, in memory or the newest",
        ),
    ),
    fixed(key("listen.address", Text, "127.0.0.1", "the address to listen on")),
    older(&["PORT"], fixed(key("listen.port", Number, "8000", "the port; 0 asks the system for a free one"))),
    fixed(key(
        "listen.socket",
        Text,
        "",
        "a Unix socket to listen on as well: the best target for a tunnel on this machine",
    )),
    fixed(key("listen.socket_mode", Text, "0660", "the permissions of its file")),
    key(
        "listen.tls_certificate",
        Text,
        "",
        "a PEM file with the certificate and its chain: the port then speaks TLS alone",
    ),
    key("listen.tls_key", Text, "", "the PEM file of its private key"),
    key(
        "listen.public",
        Bool,
        "false",
        "no key asked although others can reach it (--i-know-this-is-public)",
    ),
    older(
        &["OLLAMA_ORIGINS"],
        key(
            "listen.origins",
            List,
            "",
            "web origins that may call from a browser, as Ollama writes them: https://app.example, http://localhost:*, chrome-extension://*; * for all",
        ),
    ),
    key("listen.hosts", List, "", "Host names served in public mode, besides loopback names"),
    key("listen.trusted_proxy", Text, "none", "none, cloudflare, huggingface, caddy, or CIDRs and hops=N"),
    fixed(key("listen.max_connections", Number, "0", "connections at once; 0: from the open-file limit")),
    fixed(key("listen.max_connections_per_address", Number, "64", "per client address; 0: no bound")),
    fixed(key("ops.enabled", Bool, "true", "the listener for operators: metrics and the admin API")),
    fixed(key("ops.address", Text, "127.0.0.1", "its address")),
    fixed(key("ops.port", Number, "9464", "its port")),
    fixed(key(
        "access.team",
        Text,
        "",
        "the Cloudflare Access team whose assertion every request must bring, such as acme; empty: none is asked",
    )),
    fixed(key("access.audience", List, "", "the application's audience tags (AUD)")),
    fixed(key(
        "access.mode",
        Text,
        "add",
        "add: to a key; identity: it stands for a key, and limits are by person",
    )),
    fixed(key(
        "oidc.issuer",
        Text,
        "",
        "an OpenID Connect issuer whose tokens are taken as bearer keys; empty: none",
    )),
    fixed(key("oidc.audience", List, "", "the audiences that its tokens may be for")),
    fixed(key("oidc.jwks_url", Text, "", "where its signing keys are")),
    fixed(key("oidc.identity", Text, "sub", "the claim that names a person")),
    fixed(key(
        "oidc.ca_file",
        Text,
        "",
        "a PEM file of the authorities to believe about jwks_url, instead of the public ones",
    )),
    key(
        "pages.frame_ancestors",
        List,
        "none",
        "who may show the pages in a frame: none, self, huggingface, origins",
    ),
    older(
        &["OLLAMA_LOCAL_URL"],
        key("upstream.url", Text, "http://localhost:11434", "the Ollama behind the gate"),
    ),
    fixed(key("upstream.slots", Number, "4", "requests sent at once, the rest waits; 0: no bound")),
    key("upstream.max_line", Size, "8MB", "the longest line of a stream"),
    key(
        "upstream.max_answer",
        Size,
        "64MiB",
        "the longest whole answer; embeddings may be four times as long",
    ),
    key("upstream.connect_timeout", Duration, "2s", "to connect"),
    key(
        "upstream.first_byte_timeout",
        Duration,
        "300s",
        "from sending to the first byte; whole answers must be whole",
    ),
    key("upstream.idle_timeout", Duration, "300s", "silence between two lines"),
    key("upstream.total_timeout", Duration, "0", "the whole life of an answer"),
    fixed(key("queue.length", Number, "64", "requests that may wait; 0: nobody waits")),
    fixed(key("queue.wait", Duration, "120s", "the longest wait")),
    fixed(key(
        "queue.per_key",
        Number,
        "32",
        "requests of one key that may wait, per address in public mode; beyond it 429",
    )),
    key("stream.heartbeat", Duration, "15s", "silence on a stream after which a heartbeat goes out"),
    key(
        "limits.requests_per_minute",
        Number,
        "600",
        "requests to models, per key; per address in public mode",
    ),
    key(
        "limits.lists_per_minute",
        Number,
        "1200",
        "lists, facts about models and /usage, which count by themselves",
    ),
    key("limits.concurrent", Number, "8", "requests of one key that run at once; what is beyond waits"),
    key("limits.tokens_per_minute", Number, "0", "tokens of prompts and answers of one key in a minute"),
    key("limits.tokens_per_day", Number, "0", "the same in a day (UTC)"),
    key("limits.tokens_per_month", Number, "0", "the same in a month (UTC)"),
    key(
        "limits.gpu_seconds_per_day",
        Number,
        "0",
        "seconds of the model server's work for one key in a day (UTC)",
    ),
    key("limits.body", Size, "20MiB", "the largest request body"),
    key(
        "limits.body_memory",
        Size,
        "512MiB",
        "request bodies of all callers together, waiting ones included; beyond it 503",
    ),
    key("limits.max_context", Number, "0", "the largest num_ctx that a caller may ask for"),
    key("limits.max_output_tokens", Number, "0", "the largest num_predict; filled in where none is named"),
    fixed(key("audit.mode", Text, "buffered", "strict, buffered or off")),
    fixed(key(
        "audit.keep",
        Duration,
        "90d",
        "rows older than this are dropped, a day's at a time; 0: never",
    )),
    fixed(key("log.format", Text, "auto", "text, json, or auto: text on a terminal")),
    key("log.level", Text, "info", "error, warn, info, debug or trace"),
    key(
        "options.num_ctx",
        Text,
        "allow",
        "allow, or drop on shared machines: another value loads the model again",
    ),
    key("options.load_time", Bool, "false", "pass num_gpu, num_thread and the like on"),
    key("options.max_keep_alive", Duration, "24h", "the longest keep_alive"),
    fixed(key("data.dir", Text, "", "where the generated key is kept; default: the user's data folder")),
    fixed(key("data.store", Secret, "", "postgres:// URL for shared state (not used yet)")),
    fixed(key("data.limits", Secret, "", "redis:// URL for shared limits (not used yet)")),
    key(
        "routes.catalogue",
        Bool,
        "false",
        "answer /api/tags, /api/ps, /api/version, /api/show to keys that may read",
    ),
    key("routes.management", Bool, "false", "answer /api/pull and the like to admin keys"),
    key("routes.cloud_models", Bool, "false", "let callers use models that run on ollama.com"),
];

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Key {
    /// `limits.body` → `PORTCULLIS_LIMITS_BODY`.
    pub fn env_name(&self) -> String {
        format!("PORTCULLIS_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rule() {
        let mut names: Vec<_> = KEYS.iter().map(Key::env_name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
        assert_eq!(
            find("limits.requests_per_minute").unwrap().env_name(),
            "PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE"
        );
    }
}
