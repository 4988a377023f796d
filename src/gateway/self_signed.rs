//! The certificate that the gateway signs itself. It stays the same over restarts, so that users compare its fingerprint
//! once, and is renewed before it ends.

use crate::host::Host;
use crate::paths::{GATEWAY_CERTIFICATE, GATEWAY_STATE_DIR};
use anyhow::{Context, Result, anyhow};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a certificate is valid. Browsers refuse longer ones of some authorities.
const LIFETIME: Duration = Duration::from_secs(397 * 86_400);
/// How long before its end a certificate is renewed.
const RENEWED_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// A certificate is valid some time before now: clocks differ.
const CLOCKS: Duration = Duration::from_secs(86_400);
/// A file of another version is not read.
const VERSION: u32 = 1;

/// The certificate with its key, as the gateway keeps it in its state directory, which nobody else can read.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SelfSigned {
    version: u32,
    /// The host names in the certificate, in order.
    names: Vec<String>,
    /// When it ends, in seconds since 1970.
    ends: u64,
    /// DER.
    certificate: Vec<u8>,
    /// PKCS #8, DER.
    key: Vec<u8>,
}

impl SelfSigned {
    /// The certificate that the gateway has, or a new one if there is none for these names that is valid for long enough.
    pub(super) fn get(mut names: Vec<String>) -> Result<Self> {
        names.sort_unstable();
        names.dedup();
        let (host, now) = (Host::this(), SystemTime::now());
        let own = nix::unistd::geteuid().as_raw();
        let directory = host.metadata(Path::new(GATEWAY_STATE_DIR)).ok().flatten();
        // A gateway that is not the unit's has no such directory, and keeps nothing.
        let keeps = directory.is_some_and(|meta| meta.is_dir() && meta.uid() == own);
        let kept = || Self::read(&host.place(Path::new(GATEWAY_CERTIFICATE)).ok()?.read().ok()?, &names, now);
        if let Some(kept) = keeps.then(kept).flatten() {
            return Ok(kept);
        }
        let new = Self::new(names, now)?;
        let written = || host.write_atomic(Path::new(GATEWAY_CERTIFICATE), &serde_json::to_vec(&new)?, 0o600, None);
        if keeps && let Err(error) = written() {
            eprintln!("warning: the gateway will make another certificate at its next start: {error:#}");
        }
        Ok(new)
    }

    /// The certificate in a file, if it is good for these names.
    pub(super) fn read(file: &[u8], names: &[String], now: SystemTime) -> Option<Self> {
        let kept: Self = serde_json::from_slice(file).ok()?;
        (kept.is_good_for(names, now) && kept.parts().is_ok()).then_some(kept)
    }

    fn new(names: Vec<String>, now: SystemTime) -> Result<Self> {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let context = "the gateway cannot create a self-signed certificate";
        let mut parameters = rcgen::CertificateParams::new(names.clone()).context(context)?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        parameters.not_before = epoch + since_1970.saturating_sub(CLOCKS);
        parameters.not_after = epoch + since_1970 + LIFETIME;
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "emr-shs self-signed");
        let key = rcgen::KeyPair::generate().context(context)?;
        let certificate = parameters.self_signed(&key).context(context)?;
        Ok(Self {
            version: VERSION,
            names,
            ends: (since_1970 + LIFETIME).as_secs(),
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        })
    }

    fn is_good_for(&self, names: &[String], now: SystemTime) -> bool {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (renewed, longest) = ((since_1970 + RENEWED_BEFORE).as_secs(), since_1970 + CLOCKS + LIFETIME);
        // A clock that was wrong at the start can have made one that begins in the future.
        self.version == VERSION && self.names == names && self.ends > renewed && self.ends <= longest.as_secs()
    }

    /// What TLS needs; an error if the file was damaged.
    pub(super) fn parts(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let key = PrivateKeyDer::try_from(self.key.clone()).map_err(|e| anyhow!(e))?;
        Ok((CertificateDer::from(self.certificate.clone()), key))
    }

    /// The SHA-256 fingerprint, which users compare with their browser's.
    pub(super) fn fingerprint(&self) -> String {
        let bytes: Vec<String> = Sha256::digest(&self.certificate).iter().map(|b| format!("{b:02X}")).collect();
        bytes.join(":")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_used_until_a_month_before_its_end_and_for_its_names() {
        let names = vec!["ip-10-0-0-1.ec2.internal".to_string(), "localhost".into()];
        let day = Duration::from_secs(86_400);
        let now = SystemTime::now();
        let made = SelfSigned::new(names.clone(), now).unwrap();
        let read: SelfSigned = serde_json::from_slice(&serde_json::to_vec(&made).unwrap()).unwrap();
        assert_eq!(read.fingerprint(), made.fingerprint());
        assert!(read.parts().is_ok());
        assert!(read.is_good_for(&names, now) && read.is_good_for(&names, now + 366 * day));
        assert!(!read.is_good_for(&names, now + 368 * day), "it ends soon");
        assert!(!read.is_good_for(&names, now - 2 * day), "it is of the future");
        assert!(!read.is_good_for(&names[1..], now));
        assert_ne!(SelfSigned::new(names, now).unwrap().fingerprint(), made.fingerprint());
    }
}
