//! TLS from PEM files, read anew when they change, or with a certificate made at the start.

use anyhow::{Context, Result, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// What the gateway serves TLS with.
pub struct Tls {
    current: RwLock<Arc<ServerConfig>>,
    files: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// From a certificate chain and its key.
    pub fn from_files(chain: PathBuf, key: PathBuf) -> Result<Self> {
        let config = read(&chain, &key)?;
        Ok(Self { current: RwLock::new(config), files: Some((chain, key)) })
    }

    /// With a certificate that nobody vouches for; gives its SHA-256, for people to compare.
    pub fn self_signed(names: Vec<String>) -> Result<(Self, String)> {
        let made = rcgen::generate_simple_self_signed(names).context("making a certificate")?;
        let der = made.cert.der().clone();
        let print: Vec<String> = Sha256::digest(&der).iter().map(|b| format!("{b:02X}")).collect();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|e| anyhow::anyhow!(e))?;
        Ok((Self { current: RwLock::new(config(vec![der], key)?), files: None }, print.join(":")))
    }

    /// What a new connection is served with.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    /// Reads the files again when they change. Ones that do not fit each other are said once, and
    /// the old ones go on. Never returns.
    pub async fn watch(self: Arc<Self>, warn: impl Fn(&str)) {
        let Some((chain, key)) = &self.files else { return };
        let stamps = || [chain, key].map(|f| std::fs::metadata(f).and_then(|m| m.modified()).ok());
        let mut seen: [Option<SystemTime>; 2] = stamps();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = stamps();
            if now == seen {
                continue;
            }
            seen = now;
            match read(chain, key) {
                Ok(config) => *self.current.write().unwrap_or_else(PoisonError::into_inner) = config,
                Err(e) => warn(&format!("the new certificate is not used: {e:#}")),
            }
        }
    }
}

fn read(chain: &PathBuf, key: &PathBuf) -> Result<Arc<ServerConfig>> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}: no certificates in PEM form", chain.display()))?;
    if certificates.is_empty() {
        bail!("{} holds no certificate", chain.display());
    }
    let private =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("{}: no private key in PEM form", key.display()))?;
    config(certificates, private).with_context(|| format!("{} and {}", chain.display(), key.display()))
}

fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}
