//! TLS: a certificate from PEM files, which the gateway reloads when they change, or a self-signed
//! certificate, which it creates at each start.

use anyhow::{Context, Result, anyhow, bail};
use fs_err as fs;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// How often the gateway checks whether the files changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) struct Tls {
    current: RwLock<Arc<ServerConfig>>,
    files: Option<PemFiles>,
}

struct PemFiles {
    chain: PathBuf,
    key: PathBuf,
}

impl Tls {
    pub(crate) fn from_files(chain: PathBuf, key: PathBuf) -> Result<Self> {
        let files = PemFiles { chain, key };
        Ok(Self { current: RwLock::new(files.read()?), files: Some(files) })
    }

    /// Also returns the certificate's SHA-256 fingerprint, which users compare with their browser's.
    pub(super) fn self_signed(names: Vec<String>) -> Result<(Self, String)> {
        let generated =
            rcgen::generate_simple_self_signed(names).context("the gateway cannot create a self-signed certificate")?;
        let der = generated.cert.der().clone();
        let fingerprint: Vec<String> = Sha256::digest(&der).iter().map(|b| format!("{b:02X}")).collect();
        let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).map_err(|e| anyhow!(e))?;
        let tls = Self { current: RwLock::new(server_config(vec![der], key)?), files: None };
        Ok((tls, fingerprint.join(":")))
    }

    /// The acceptor for a new connection, with the current certificate.
    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    /// Reloads the files whenever they change. If the new files do not match, it warns once and
    /// keeps the old certificate.
    pub(super) async fn reload_forever(self: Arc<Self>, warn: impl Fn(&str)) {
        let Some(files) = &self.files else { return };
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
