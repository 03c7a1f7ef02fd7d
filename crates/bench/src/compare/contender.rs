//! What is measured: nginx with nothing on but the key, and the gateway.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Cores, Proc};
use crate::{KEY, Outcome};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    /// `log.level = "warn"`: no line per request; no audit, no limits, no metrics.
    Gateway,
    /// `log.level = "info"`: two lines per request, into a file.
    Lines,
    /// As the first, with audit, limits and metrics.
    Audited,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Nginx, Self::Gateway, Self::Lines, Self::Audited];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx proxy_pass",
            Self::Gateway => "portcullis",
            Self::Lines => "portcullis, INFO lines",
            Self::Audited => "portcullis, audit, limits, metrics",
        }
    }
}

/// A proxy that runs.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) kind: Kind,
    pub(super) proc: Proc,
    pub(super) address: SocketAddr,
    /// Where its log lines go.
    log: PathBuf,
}

/// Where things are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) scratch: &'a Path,
    pub(super) upstream: SocketAddr,
    pub(super) gateway: &'a Path,
    pub(super) nginx: &'a Path,
    pub(super) cores: Cores,
}

impl Contender {
    /// Starts it and waits until it takes connections.
    pub(super) async fn start(kind: Kind, site: Site<'_>) -> Outcome<Self> {
        let address = free_address()?;
        let home = site.scratch.join(format!("{kind:?}").to_ascii_lowercase());
        fs::create_dir(&home)?;
        let log = home.join("stderr.log");
        let mut command = match kind {
            Kind::Nginx => nginx(site, &home, address)?,
            Kind::Gateway | Kind::Lines | Kind::Audited => gateway(kind, site, &home, address),
        };
        let stderr = File::options().create(true).append(true).open(&log)?;
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"] {
            command.env(name, &home);
        }
        if kind != Kind::Nginx {
            command.env("OLLAMA_API_KEY", KEY).env("OLLAMA_MODEL", "alpha:latest");
            command.env("OLLAMA_LOCAL_URL", format!("http://{}", site.upstream));
        }
        command.current_dir(&home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let proc = Proc::spawn(&mut command, site.cores.proxy, site.cores.load)?;
        let mut contender = Self { kind, proc, address, log };
        contender.ready().await?;
        Ok(contender)
    }

    async fn ready(&mut self) -> Outcome {
        for _ in 0..200 {
            if self.proc.ended()?.is_some() {
                break;
            }
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                // Let it settle: the idle figure is of a process that has started.
                tokio::time::sleep(Duration::from_millis(300)).await;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        Err(format!("{} did not start; it said: {said:.2000}", self.kind.name()).into())
    }

    /// Empties its log; how many lines with this word it held.
    pub(super) fn drain_log(&self, word: &str) -> Outcome<usize> {
        let text = fs::read(&self.log)?;
        File::options().write(true).open(&self.log)?.set_len(0)?;
        Ok(String::from_utf8_lossy(&text).lines().filter(|line| line.contains(word)).count())
    }
}

/// Free at this moment; nobody else on the machine is in the race as a rule, and a loser says so.
fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn gateway(kind: Kind, site: Site<'_>, home: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new(site.gateway);
    command.args(["serve", "--address", "127.0.0.1", "--port", &address.port().to_string()]);
    let level = if kind == Kind::Lines { "log.level=info" } else { "log.level=warn" };
    let data = format!("data.dir={}", home.display());
    // Limits that hold nobody up here, and are counted all the same.
    let policy: &[&str] = if kind == Kind::Audited {
        &[
            "limits.requests_per_minute=10000000",
            "limits.concurrent=1000000",
            "upstream.slots=1000",
            "ops.port=0",
        ]
    } else {
        &[
            "limits.requests_per_minute=0",
            "limits.concurrent=0",
            "upstream.slots=0",
            "audit.mode=off",
            "ops.enabled=false",
        ]
    };
    for set in policy.iter().chain(&["log.format=text", level, data.as_str()]) {
        command.args(["--set", set]);
    }
    command
}

fn nginx(site: Site<'_>, home: &Path, address: SocketAddr) -> Outcome<Command> {
    let config = home.join("nginx.conf");
    fs::write(&config, nginx_config(home, site.upstream, address))?;
    let mut command = Command::new(site.nginx);
    command.arg("-p").arg(home).arg("-c").arg(&config).args(["-e", "stderr"]);
    Ok(command)
}

fn nginx_config(home: &Path, upstream: SocketAddr, address: SocketAddr) -> String {
    let mut text = String::new();
    if rustix::process::geteuid().is_root() {
        // The workers of root's nginx would be another user, who may not enter this folder.
        text.push_str("user root;\n");
    }
    let home = home.display();
    // Writing to a string cannot fail.
    let _written = write!(
        text,
        r#"daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_timeout 120s;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    map $http_authorization $allowed {{
        default 0;
        "Bearer {KEY}" 1;
    }}
    upstream ollama {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
            if ($allowed = 0) {{ return 401; }}
            proxy_pass http://ollama;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"#
    );
    text
}

/// The one that was named, or the one that Debian's packages bring.
pub(super) fn find_nginx(named: Option<&Path>) -> Outcome<PathBuf> {
    let places: Vec<PathBuf> = match named {
        Some(path) => vec![path.to_owned()],
        None => ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx", "/usr/local/bin/nginx"]
            .iter()
            .map(PathBuf::from)
            .collect(),
    };
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        "nginx is not installed: scripts/ensure.sh bench, or apt-get install nginx-light, or --nginx PATH"
            .into()
    })
}
