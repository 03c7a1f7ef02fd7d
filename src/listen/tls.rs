//! TLS in process: one certificate, replaced while connections run.
//!
//! Takes PEM files; promises TLS 1.2 and 1.3 with HTTP/1.1 inside, and that a new certificate holds for the next connection. Refuses
//! files that do not belong together, and keeps the ones that it had. Nothing is sent before a handshake is whole (no 0-RTT).

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why a certificate cannot be used. Names the file by its role: where it lies is the operator's business.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain.
    #[error("listen.tls_certificate: {}", describe(.0))]
    Certificate(pem::Error),
    /// The file holds no certificate.
    #[error("listen.tls_certificate: it holds no certificate (PEM)")]
    Empty,
    /// The key.
    #[error("listen.tls_key: {}", describe(.0))]
    Key(pem::Error),
    /// Both together.
    #[error("listen.tls_certificate and listen.tls_key: {0}")]
    Pair(rustls::Error),
}

fn describe(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {}", error.kind()),
        pem::Error::NoItemsFound => "it holds no private key (PEM)".into(),
        other => format!("is not PEM: {other}"),
    }
}

/// The certificate in use.
#[derive(Debug)]
pub struct Tls(ArcSwap<ServerConfig>);

impl Tls {
    /// Reads a chain, the server's own certificate first, and its key.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from(settings(certificate, key)?)))
    }

    /// Takes over what another reading brought: for connections that begin from now on.
    pub fn renew(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    pub(super) fn accept(
        &self,
        stream: TcpStream,
    ) -> impl Future<Output = std::io::Result<TlsStream<TcpStream>>> + use<> {
        TlsAcceptor::from(self.0.load_full()).accept(stream)
    }
}

fn settings(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::Empty);
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(TlsError::Key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Pair)?;
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(settings))
}
