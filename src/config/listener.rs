//! `[listen]`: where, how, and whom to believe about callers.

use std::net::IpAddr;
use std::path::PathBuf;

use super::origins::Origins;
use super::resolved::{Listen, Socket, TlsFiles, TrustedProxy};
use super::value::Reader;

impl Reader<'_> {
    pub(super) fn listen(&mut self) -> Listen {
        Listen {
            address: self.address("listen.address"),
            port: self.number("listen.port", 65_535),
            socket: self.socket(),
            tls: self.tls(),
            origins: self.origins(),
            hosts: self.list("listen.hosts").into_iter().map(|host| host.to_ascii_lowercase()).collect(),
            public: self.truth("listen.public"),
            trusted_proxy: self.trusted_proxy(),
            max_connections: self.limit("listen.max_connections", 10_000_000),
            max_per_address: self.limit("listen.max_connections_per_address", 10_000_000),
        }
    }

    fn socket(&mut self) -> Option<Socket> {
        let name = "listen.socket";
        let path = PathBuf::from(self.raw.get(name).map(|(text, _)| text).filter(|text| !text.is_empty())?);
        // The kernel's bound is 108 with the final zero; the name that it is bound under is longer by ten bytes.
        if path.as_os_str().len() > 96 {
            self.bad(name, "a path of at most 96 bytes, the most that a socket's name can be");
        }
        let mode = u32::from_str_radix(self.text("listen.socket_mode").trim(), 8).ok();
        let mode = mode.filter(|mode| *mode <= 0o777).unwrap_or_else(|| {
            self.bad("listen.socket_mode", "permissions in octal, such as 0660");
            0o600
        });
        Some(Socket { path, mode })
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        let file = |name| {
            self.raw.get(name).map(|(text, _)| text).filter(|text| !text.is_empty()).map(PathBuf::from)
        };
        match (file("listen.tls_certificate"), file("listen.tls_key")) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (certificate, _) => {
                let (set, missing) = if certificate.is_some() {
                    ("listen.tls_certificate", "listen.tls_key")
                } else {
                    ("listen.tls_key", "listen.tls_certificate")
                };
                self.faults.add(
                    missing,
                    "",
                    format!("is missing: {set} is set, and one is nothing without the other"),
                );
                None
            }
        }
    }

    fn origins(&mut self) -> Origins {
        let name = "listen.origins";
        let (origins, faults) = Origins::parse(&self.list(name));
        for (value, why) in faults {
            self.faults.add(name, self.origin(name), format!("{value:?} is not taken: {why}"));
        }
        origins
    }

    fn trusted_proxy(&mut self) -> TrustedProxy {
        let name = "listen.trusted_proxy";
        let text = self.text(name);
        let loopback = || ["127.0.0.0/8", "::1/128"].into_iter().filter_map(|net| net.parse().ok()).collect();
        match text.as_str() {
            "none" => return TrustedProxy::None,
            "cloudflare" => return TrustedProxy::Cloudflare,
            "huggingface" => return TrustedProxy::HuggingFace,
            "caddy" => return TrustedProxy::Forwarded { peers: loopback(), hops: 1 },
            _ => {}
        }
        let (mut peers, mut hops): (Vec<ipnet::IpNet>, _) = (Vec::new(), 1);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let net = part.parse().ok().or_else(|| part.parse::<IpAddr>().ok().map(ipnet::IpNet::from));
            if let Some(Ok(n @ 1..=16)) = part.strip_prefix("hops=").map(str::parse::<usize>) {
                hops = n;
            } else if let Some(net) = net.filter(|net| net.prefix_len() > 0) {
                peers.push(net);
            } else {
                let message = format!(
                    "{part:?} is not known; write none, cloudflare, huggingface, caddy, a CIDR (not /0) or hops=1 to 16"
                );
                self.faults.add(name, self.origin(name), message);
            }
        }
        TrustedProxy::Forwarded { peers, hops }
    }
}

/// Scheme and authority, and nothing that would end a source in a policy.
pub(super) fn is_origin(text: &str) -> bool {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    !rest.is_empty()
        && !rest.contains(['/', '*', '@', ';', '\'', '"'])
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}
