//! TLS: a certificate from PEM files, which the gateway reloads when they change, or a self-signed
//! certificate (`self_signed.rs`).

use super::handshakes::Handshakes;
use super::limits::HANDSHAKE_TIMEOUT;
use super::self_signed::SelfSigned;
use super::shares::Client;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::Acceptor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the gateway checks whether the files changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often the gateway looks whether its own certificate ends soon.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(6 * 3600);

pub(crate) struct Tls {
    current: RwLock<Arc<ServerConfig>>,
    source: Source,
    pub(super) handshakes: Handshakes,
}

enum Source {
    Files(PemFiles),
    SelfSigned(OwnCertificate),
}

struct OwnCertificate {
    names: Vec<String>,
    fingerprint: Mutex<String>,
}

struct PemFiles {
    chain: PathBuf,
    key: PathBuf,
}

impl Tls {
    pub(crate) fn from_files(chain: PathBuf, key: PathBuf) -> Result<Self> {
        let files = PemFiles { chain, key };
        Ok(Self {
            current: RwLock::new(files.read()?),
            source: Source::Files(files),
            handshakes: Handshakes::default(),
        })
    }

    /// A certificate that the gateway signs itself, for these host names.
    pub(super) fn self_signed(names: Vec<String>) -> Result<Self> {
        let current = SelfSigned::get(names.clone())?;
        let (certificate, key) = current.parts()?;
        let config = server_config(vec![certificate], key)?;
        let own = OwnCertificate { names, fingerprint: Mutex::new(current.fingerprint()) };
        Ok(Self { current: RwLock::new(config), source: Source::SelfSigned(own), handshakes: Handshakes::default() })
    }

    /// The fingerprint of the certificate, if the gateway has signed it itself.
    pub(super) fn own_fingerprint(&self) -> Option<String> {
        let Source::SelfSigned(own) = &self.source else { return None };
        Some(own.fingerprint.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Makes the handshake of a new connection, with the current certificate. What costs time of a core begins when the client has sent
    /// its first message and it is the client's turn.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        client: Client,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        let begun = Instant::now();
        let hello = timeout(HANDSHAKE_TIMEOUT, LazyConfigAcceptor::new(Acceptor::default(), stream)).await??;
        let left = HANDSHAKE_TIMEOUT.saturating_sub(begun.elapsed());
        self.handshakes.wait_for_turn(client).await;
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        timeout(left, hello.into_stream(current)).await?
    }

    /// Reloads the files whenever they change. If the new files do not match, it warns once and
    /// keeps the old certificate.
    pub(super) async fn reload_forever(self: Arc<Self>, warn: impl Fn(&str)) {
        let files = match &self.source {
            Source::Files(files) => files,
            Source::SelfSigned(own) => return self.renew_forever(own, warn).await,
        };
        let mut loaded = files.modified();
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let modified = files.modified();
            if modified == loaded {
                continue;
            }
            loaded = modified;
            match files.read() {
                Ok(config) => *self.current.write().unwrap_or_else(PoisonError::into_inner) = config,
                Err(e) => {
                    warn(&format!("the gateway keeps its old certificate, because it cannot use the new one: {e:#}"))
                }
            }
        }
    }

    /// Renews the certificate that the gateway signs itself before it ends.
    async fn renew_forever(&self, own: &OwnCertificate, warn: impl Fn(&str)) {
        loop {
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            let renewed = SelfSigned::get(own.names.clone());
            let config = renewed.and_then(|new| {
                let (certificate, key) = new.parts()?;
                Ok((server_config(vec![certificate], key)?, new.fingerprint()))
            });
            match config {
                Ok((config, fingerprint)) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                    *own.fingerprint.lock().unwrap_or_else(PoisonError::into_inner) = fingerprint;
                }
                Err(error) => warn(&format!("the gateway cannot renew its certificate: {error:#}")),
            }
        }
    }
}

impl PemFiles {
    fn modified(&self) -> [Option<SystemTime>; 2] {
        [&self.chain, &self.key].map(|file| fs::metadata(file).and_then(|m| m.modified()).ok())
    }

    fn read(&self) -> Result<Arc<ServerConfig>> {
        let Self { chain, key } = self;
        let certificates = read_chain(chain)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("cannot read a private key in PEM format from {}", key.display()))?;
        server_config(certificates, private).with_context(|| format!("{} and {}", chain.display(), key.display()))
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read certificates in PEM format from {}", path.display()))?;
    if certificates.is_empty() {
        bail!("{} contains no certificate", path.display());
    }
    Ok(certificates)
}

fn server_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // The best cipher suite that both know, and not the one that the client likes best.
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}
