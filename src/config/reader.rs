//! From what was written to what holds: reads every key, judges it, and collects the faults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::env::{self, Env};
use super::fault::Faults;
use super::files::Files;
use super::found::Place;
use super::keys;
use super::listener::is_origin;
use super::raw::{Changes, Origin, Raw};
use super::resolved::{
    Access, Audit, AuditMode, Config, Keys, Limits, Listen, Log, Ops, Options, Queue, Routes, TrustedProxy,
    Upstream,
};
use super::upstream_url::UpstreamUrl;
use super::value::Reader;
use crate::types::ModelName;

impl Config {
    /// Reads the file (named, or found), the environment and the flags, and judges them. `flags` win over the environment.
    pub fn load(
        file: Option<&Path>,
        env: &Env,
        flags: impl FnOnce(&mut Raw, &mut Faults),
    ) -> Result<Self, Faults> {
        Self::load_again(file, None, env, flags)
    }

    /// The same; `found`: what was found when nobody named a file, and is not looked for anew.
    pub fn load_again(
        file: Option<&Path>,
        found: Option<&Path>,
        env: &Env,
        flags: impl FnOnce(&mut Raw, &mut Faults),
    ) -> Result<Self, Faults> {
        let (config, faults) = Self::read_at(&place(file, found, env), env, flags);
        if faults.0.is_empty() { Ok(config) } else { Err(faults) }
    }

    /// The same, with what is at fault at its default, and the faults. For commands that work beside a running gateway.
    pub fn read(file: Option<&Path>, env: &Env, flags: impl FnOnce(&mut Raw, &mut Faults)) -> (Self, Faults) {
        Self::read_at(&place(file, None, env), env, flags)
    }

    fn read_at(place: &Place, env: &Env, flags: impl FnOnce(&mut Raw, &mut Faults)) -> (Self, Faults) {
        let (mut raw, mut faults) = (Raw::default(), Faults::default());
        let file = place.path().map(Path::to_path_buf);
        // Looked at before they are read: what changes in between is read again.
        let mut files = Files::look(file.clone().map_or_else(|| places(env), |file| vec![file]));
        files.add(Files::look(env.secret_files()));
        match (place.read(), &file) {
            (Ok(Some(text)), Some(path)) => raw.read_toml(&text, path, &mut faults),
            (Ok(_), _) => {}
            (Err(why), _) => faults.add("the configuration file", "", why),
        }
        env.read_into(&mut raw, &mut faults);
        flags(&mut raw, &mut faults);
        let config = Reader { raw: &raw, env, faults: &mut faults }.config();
        files.add(Files::look(
            config.listen.tls.iter().flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]),
        ));
        (Self { file, files, written: raw, ..config }, faults)
    }

    /// What holds when this is taken over by a gate that runs with `holding`: without what needs a restart. That is judged as a whole,
    /// since what is safe together with a setting that waits may not be safe without it.
    pub fn beside(self, holding: &Raw, env: &Env) -> Result<(Self, Changes), Faults> {
        let (merged, changes) = holding.renewed(&self.written);
        if changes.at_restart.is_empty() {
            return Ok((self, changes));
        }
        let mut faults = Faults::default();
        let held = Reader { raw: &merged, env, faults: &mut faults }.config();
        if !faults.0.is_empty() {
            return Err(faults);
        }
        let Self { file, files, quarantine, .. } = self;
        Ok((Self { file, files, quarantine, written: merged, ..held }, changes))
    }
}

/// The file that somebody named, or that was found, now or before.
fn place(file: Option<&Path>, found: Option<&Path>, env: &Env) -> Place {
    if let Some(named) = file.map(Path::to_path_buf).or_else(|| env.get(env::CONFIG).map(PathBuf::from)) {
        return Place::Named(named);
    }
    let looked = || places(env).into_iter().find(|path| path.is_file());
    found.map(Path::to_path_buf).or_else(looked).map_or(Place::Nowhere, Place::Found)
}

/// Where a file that nobody named is looked for, in order.
fn places(env: &Env) -> Vec<PathBuf> {
    let user =
        env.user_folder("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("portcullis/portcullis.toml"));
    std::iter::once(PathBuf::from("portcullis.toml")).chain(user).collect()
}

impl Reader<'_> {
    fn config(mut self) -> Config {
        let mut warnings = Vec::new();
        let (access, oidc) = (self.access(), self.oidc());
        let keys = self.keys(access.as_ref(), oidc.is_some());
        let listen = self.listen();
        let url = self.upstream_url(&listen, &mut warnings);
        let config = Config {
            default_model: self.default_model(),
            default_model_set: matches!(self.raw.get("models.default"), Some((_, origin)) if *origin != Origin::Default),
            access,
            oidc,
            frame_ancestors: self.frame_ancestors(),
            upstream: self.upstream(url),
            queue: Queue {
                length: self.number("queue.length", 1_000_000),
                wait: self.clock("queue.wait"),
                per_key: self.limit("queue.per_key", 1_000_000),
            },
            heartbeat: self.clock("stream.heartbeat"),
            limits: self.limits(),
            options: Options {
                num_ctx: self.choice("options.num_ctx", &["allow", "drop"]) == "allow",
                load_time: self.truth("options.load_time"),
                max_keep_alive: self.clock("options.max_keep_alive"),
            },
            log: self.log(),
            audit: self.audit(),
            ops: self.ops(),
            data_dir: self.data_dir(),
            quarantine: false,
            routes: Routes {
                catalogue: self.truth("routes.catalogue"),
                management: self.truth("routes.management"),
                cloud_models: self.truth("routes.cloud_models"),
            },
            keys,
            listen,
            warnings: Vec::new(),
            file: None,
            files: Files::default(),
            written: Raw::default(),
        };
        self.rest(&config.limits, &mut warnings);
        self.public_mode(&config);
        Config { warnings, ..config }
    }

    /// Empty: public mode, unless somebody signs for callers. Then there is no key of the operator's own, and one is asked all the same.
    fn no_key(&mut self, access: Option<&Access>, oidc: bool) -> Keys {
        match access {
            Some(access) if !access.is_identity && !oidc => {
                let message = "is empty, and access.mode is add: an assertion is asked for beside a key. Set one, or access.mode = \"identity\"";
                self.faults.add("keys.api_key", self.origin("keys.api_key"), message);
                Keys::Given(Vec::new())
            }
            None if !oidc => Keys::Public,
            _ => Keys::Given(Vec::new()),
        }
    }

    /// What is allowed and hardly meant, and keys that this version accepts and does not use: said, never silent.
    fn rest(&mut self, limits: &Limits, warnings: &mut Vec<String>) {
        if limits.body_memory.is_some_and(|all| all < limits.body) {
            let all = self.text("limits.body_memory");
            warnings.push(format!(
                "limits.body_memory ({all}) is less than limits.body: the largest requests are never answered. Raise the one or lower the other"
            ));
        }
        for (key, what) in [
            ("data.store", "shared state is not part of this version"),
            ("data.limits", "shared limits are not part of this version"),
        ] {
            if self
                .raw
                .get(key)
                .is_some_and(|(value, _)| Some(value) != keys::find(key).map(|key| key.default))
            {
                warnings.push(format!("{key} is set, but {what}: it has no effect yet"));
            }
        }
    }

    fn public_mode(&mut self, config: &Config) {
        let listen = &config.listen;
        if config.keys != Keys::Public || listen.public {
            return;
        }
        let behind = listen.trusted_proxy != TrustedProxy::None;
        let socket = listen.socket.is_some();
        if !listen.address.is_loopback() || behind || socket {
            let why = match (behind, socket) {
                (true, _) => "behind a proxy",
                (false, true) => "through the socket, which is there for a proxy",
                (false, false) => "on an address that others can reach",
            };
            self.faults.add(
                "keys.api_key",
                self.origin("keys.api_key"),
                format!(
                    "is empty: anybody could use the models, {why}. Set a key, or say --i-know-this-is-public"
                ),
            );
        }
    }

    fn keys(&mut self, access: Option<&Access>, oidc: bool) -> Keys {
        let Some((text, origin)) = self.raw.get("keys.api_key") else { return Keys::Generated };
        if text.is_empty() {
            return self.no_key(access, oidc);
        }
        let keys: Vec<String> =
            text.split(',').map(|k| k.trim().to_owned()).filter(|k| !k.is_empty()).collect();
        if keys.is_empty() || keys.iter().any(|key| !key.bytes().all(|b| b.is_ascii_graphic())) {
            self.faults.add(
                "keys.api_key",
                origin,
                "a key is visible ASCII without spaces; several are separated by commas (the value is not shown)",
            );
        }
        Keys::Given(keys)
    }

    fn upstream_url(&mut self, listen: &Listen, warnings: &mut Vec<String>) -> UpstreamUrl {
        let hint = self.env.get(env::OLLAMA_HOST).filter(|host| !host.trim().is_empty());
        if let Some(host) = hint
            && ["0.0.0.0", "[::]"].iter().any(|all| host.contains(all))
        {
            warnings.push(
                "OLLAMA_HOST binds Ollama to every interface: whoever reaches its port goes around this gate. \
                 Set OLLAMA_HOST=127.0.0.1 for Ollama itself"
                    .into(),
            );
        }
        let (origin, parsed) = match (self.raw.get("upstream.url"), hint) {
            (Some((text, origin)), _) => (origin.to_string(), UpstreamUrl::parse(text)),
            (None, Some(host)) => (env::OLLAMA_HOST.to_owned(), UpstreamUrl::parse_ollama_host(host)),
            (None, None) => (String::new(), UpstreamUrl::parse("http://localhost:11434")),
        };
        let url = parsed.unwrap_or_else(|message| {
            self.faults.add("upstream.url", &origin, message);
            UpstreamUrl { host: "localhost".into(), port: 11434, prefix: String::new() }
        });
        if url.port == listen.port && listen.port != 0 && url.may_be(listen.address) {
            self.faults.add(
                "upstream.url",
                origin,
                format!("is this gateway's own listener (port {}): requests would run in a circle", url.port),
            );
        }
        url
    }

    fn upstream(&mut self, url: UpstreamUrl) -> Upstream {
        let parallel =
            self.env.get(env::OLLAMA_NUM_PARALLEL).and_then(|n| n.trim().parse().ok()).filter(|&n| n > 0);
        let slots = match (self.raw.get("upstream.slots"), parallel) {
            (None, Some(n)) => Some(n),
            _ => self.limit("upstream.slots", 1_000_000),
        };
        Upstream {
            url,
            slots,
            max_line: self.size("upstream.max_line", 8_000_000),
            max_answer: self.size("upstream.max_answer", 1 << 30),
            connect: self.clock("upstream.connect_timeout"),
            first_byte: self.clock("upstream.first_byte_timeout"),
            idle: self.clock("upstream.idle_timeout"),
            total: self.clock("upstream.total_timeout"),
        }
    }

    fn limits(&mut self) -> Limits {
        Limits {
            requests_per_minute: self.limit("limits.requests_per_minute", 10_000_000),
            lists_per_minute: self.limit("limits.lists_per_minute", 10_000_000),
            concurrent: self.limit("limits.concurrent", 1_000_000),
            tokens_per_minute: self.limit("limits.tokens_per_minute", 1_000_000_000),
            tokens_per_day: self.limit("limits.tokens_per_day", u64::MAX >> 1),
            tokens_per_month: self.limit("limits.tokens_per_month", u64::MAX >> 1),
            gpu_seconds_per_day: self.limit("limits.gpu_seconds_per_day", u64::MAX >> 20),
            body: self.size("limits.body", 1 << 30),
            body_memory: self.bound("limits.body_memory", 1 << 40),
            max_context: self.limit("limits.max_context", 1_048_576),
            max_output_tokens: self.limit("limits.max_output_tokens", 1_000_000),
        }
    }

    fn log(&mut self) -> Log {
        let json = match self.choice("log.format", &["auto", "text", "json"]).as_str() {
            "text" => Some(false),
            "json" => Some(true),
            _ => None,
        };
        let level = match self.choice("log.level", &["info", "error", "warn", "debug", "trace"]).as_str() {
            "error" => tracing::Level::ERROR,
            "warn" => tracing::Level::WARN,
            "debug" => tracing::Level::DEBUG,
            "trace" => tracing::Level::TRACE,
            _ => tracing::Level::INFO,
        };
        Log { json, level }
    }

    fn audit(&mut self) -> Audit {
        let mode = match self.choice("audit.mode", &["buffered", "strict", "off"]).as_str() {
            "strict" => AuditMode::Strict,
            "off" => AuditMode::Off,
            _ => AuditMode::Buffered,
        };
        Audit { mode, keep: self.clock("audit.keep") }
    }

    fn ops(&mut self) -> Ops {
        let (enabled, address) = (self.truth("ops.enabled"), self.address("ops.address"));
        let port = self.number("ops.port", 65_535);
        let by_hand = ["ops.address", "ops.port"].iter().any(|name| self.raw.get(name).is_some());
        Ops { address: enabled.then(|| SocketAddr::new(address, port)), by_hand }
    }

    fn default_model(&mut self) -> ModelName {
        ModelName::parse(&self.text("models.default")).unwrap_or_else(|_| {
            self.bad("models.default", "a model's name such as qwen3:4b");
            ModelName::default()
        })
    }

    fn frame_ancestors(&mut self) -> String {
        let list = self.list("pages.frame_ancestors");
        let mut sources = Vec::new();
        for item in &list {
            match item.as_str() {
                "none" if list.len() == 1 => sources.push("'none'".to_owned()),
                "self" => sources.push("'self'".into()),
                "huggingface" => sources.push("https://huggingface.co".into()),
                // Over plain http too: dashboards in a home network frame pages.
                web if is_origin(web) && (web.starts_with("https://") || web.starts_with("http://")) => {
                    sources.push(web.to_owned());
                }
                other => self.faults.add(
                    "pages.frame_ancestors",
                    self.origin("pages.frame_ancestors"),
                    format!("{other:?} is not known; write none (alone), self, huggingface, or an origin such as https://app.example"),
                ),
            }
        }
        if sources.is_empty() { "'none'".into() } else { sources.join(" ") }
    }

    fn data_dir(&mut self) -> PathBuf {
        match self.raw.get("data.dir").filter(|(path, _)| !path.is_empty()) {
            Some((path, _)) => PathBuf::from(path),
            None => self
                .env
                .user_folder("XDG_DATA_HOME", ".local/share")
                .map_or_else(|| PathBuf::from("portcullis-data"), |dir| dir.join("portcullis")),
        }
    }
}
