//! Who can use the gateway: peers with an address of this node, or users who log in.
//!
//! The gateway also checks the name in the `Host` header. Without this check, another site could
//! point its own domain at this node and read logs through a visitor's browser (DNS rebinding).

use crate::host::Host;
use crate::paths::{GATEWAY_RUN_DIR, GATEWAY_TOKEN};
use anyhow::{Context, Result, anyhow, bail};
use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use base64::prelude::{BASE64_STANDARD, Engine};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long the node's addresses are remembered. They can change while the gateway runs.
const ADDRESSES_FRESH: Duration = Duration::from_secs(10);
/// How many verified logins are remembered.
const MAX_VERIFIED: usize = 1024;

/// Converts `::ffff:10.0.0.1` to `10.0.0.1`: a dual-stack socket reports IPv4 peers in
/// the longer form.
pub(super) fn canonical_ip(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// The addresses of this node's network interfaces.
#[derive(Default)]
pub(super) struct NodeAddresses(RwLock<Option<(Instant, HashSet<IpAddr>)>>);

impl NodeAddresses {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = canonical_ip(address);
        if address.is_loopback() {
            return true;
        }
        if let Some((when, addresses)) = &*self.0.read().unwrap_or_else(PoisonError::into_inner)
            && when.elapsed() < ADDRESSES_FRESH
        {
            return addresses.contains(&address);
        }
        let addresses = interface_addresses();
        let found = addresses.contains(&address);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), addresses));
        found
    }
}

/// The addresses of all interfaces, the loopback one included.
pub(crate) fn interface_addresses() -> HashSet<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}

/// The names that the gateway answers to.
pub(super) struct HostNames(HashSet<String>);

impl HostNames {
    /// These names and `localhost`.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().chain(["localhost".into()]);
        Self(names.map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect())
    }

    /// Whether a `Host` header, with any port, contains one of these names or an address of this node.
    pub(super) fn contains(&self, host: &str, node_addresses: &NodeAddresses) -> bool {
        let Some(name) = host_name(host) else { return false };
        if self.0.contains(name.as_str()) {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|address| node_addresses.contains(address))
    }
}

/// The name in `name:port` or `[address]:port`; `None` if the text is malformed.
fn host_name(host: &str) -> Option<String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let valid_port = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    (valid_port && !name.is_empty()).then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

/// A secret that the gateway makes at its start and that only root can read besides the gateway itself. Whoever sends
/// it is root, and needs no login.
pub(super) struct RootToken([u8; 32]);

impl RootToken {
    /// Makes a token where systemd has given the gateway a directory of its own.
    pub(super) fn make() -> Result<Option<Self>> {
        let host = Host::new(Path::new("/"));
        let own = nix::unistd::geteuid().as_raw();
        if !host.metadata(Path::new(GATEWAY_RUN_DIR))?.is_some_and(|meta| meta.is_dir() && meta.uid() == own) {
            return Ok(None);
        }
        let token: String = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        host.write_atomic(Path::new(GATEWAY_TOKEN), token.as_bytes(), 0o600, None)?;
        Ok(Some(Self(Sha256::digest(&token).into())))
    }

    /// Whether an `Authorization` header contains the token. Compares digests, so the time tells nothing about the
    /// token.
    pub(super) fn is_in(&self, authorization: &str) -> bool {
        let sent = authorization.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        sent.is_some_and(|(_, token)| <[u8; 32]>::from(Sha256::digest(token.trim())) == self.0)
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| anyhow!("this machine provides no random numbers"))?;
    Ok(bytes)
}

/// The users who may log in, from a file such as `htpasswd -B` writes.
pub(crate) struct Users {
    hashes: BTreeMap<String, String>,
    /// Salted digests of the logins that were verified. Verifying a password takes a tenth of a
    /// second by design, and a page needs many requests.
    verified: Mutex<HashSet<[u8; 32]>>,
    salt: [u8; 16],
}

impl Users {
    /// Reads `name:hash` lines.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut hashes = BTreeMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
            let place = || format!("{}:{}", path.display(), i + 1);
            let (name, hash) = line.trim_end().split_once(':').with_context(|| {
                format!("{}: the line is not NAME:HASH; create one with: htpasswd -nB NAME", place())
            })?;
            let supported = ["$2a$", "$2b$", "$2y$", "$argon2"].iter().any(|kind| hash.starts_with(kind));
            if !supported {
                bail!(
                    "{}: the hash of {name} is neither bcrypt nor argon2; create one with: htpasswd -nB {name}",
                    place()
                );
            }
            hashes.insert(name.to_string(), hash.to_string());
        }
        if hashes.is_empty() {
            bail!("{} contains no users; create a line with: htpasswd -nB NAME", path.display());
        }
        Ok(Self { hashes, verified: Mutex::default(), salt: random()? })
    }

    /// Whether [`Users::verify`] has accepted this `Authorization` header before.
    pub(super) fn has_verified(&self, authorization: &str) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.digest(authorization))
    }

    /// Whether an `Authorization` header contains the right password of a user. Takes a tenth of a
    /// second.
    pub(super) fn verify(&self, authorization: &str) -> bool {
        let right = self.check(authorization).is_some();
        if right {
            let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if verified.len() >= MAX_VERIFIED {
                verified.clear();
            }
            verified.insert(self.digest(authorization));
        }
        right
    }

    fn digest(&self, authorization: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.salt).chain_update(authorization).finalize().into()
    }

    fn check(&self, authorization: &str) -> Option<()> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (name, password) = decoded.split_once(':')?;
        let known = self.hashes.get(name);
        // Also check the password of an unknown user: otherwise the response time would reveal which users exist.
        let hash = known.or_else(|| self.hashes.values().next())?.as_str();
        let right = if hash.starts_with("$argon2") {
            Argon2::default().verify_password(password.as_bytes(), hash).is_ok()
        } else {
            bcrypt::verify(password, hash).unwrap_or(false)
        };
        (right && known.is_some()).then_some(())
    }
}
