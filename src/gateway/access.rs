//! Who may talk to the gateway: this node's own addresses, or whoever logs in; and only under a
//! name that is the gateway's (a page elsewhere could have its own name point here).

use anyhow::{Context, Result, anyhow, bail};
use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// An address without what makes two spellings of the same one differ.
pub fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// The addresses of this machine's interfaces. They can change while it runs.
#[derive(Default)]
pub struct Addresses(RwLock<Option<(Instant, HashSet<IpAddr>)>>);

impl Addresses {
    /// Whether an address is this machine's own.
    pub fn contain(&self, address: IpAddr) -> bool {
        const FRESH: Duration = Duration::from_secs(10);
        let address = plain(address);
        if address.is_loopback() {
            return true;
        }
        if let Some((when, known)) = &*self.0.read().unwrap_or_else(PoisonError::into_inner)
            && when.elapsed() < FRESH
        {
            return known.contains(&address);
        }
        let found = own_addresses();
        let own = found.contains(&address);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found));
        own
    }
}

fn own_addresses() -> HashSet<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}

/// The names the gateway answers to.
pub struct HostNames(HashSet<String>);

impl HostNames {
    /// These, and `localhost`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().chain(["localhost".into()]);
        Self(names.map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect())
    }

    /// Whether a `Host` header, with any port, names this gateway.
    pub fn contain(&self, host: &str, own: &Addresses) -> bool {
        let Some(name) = host_name(host) else { return false };
        if self.0.contains(name.as_str()) {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|address| own.contain(address))
    }
}

/// The name in `name:port` or `[address]:port`, if it is well formed.
fn host_name(host: &str) -> Option<String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (inner, port) = rest.split_once(']')?;
            inner.parse::<Ipv6Addr>().ok()?;
            (inner, port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_is_one = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    (port_is_one && !name.is_empty()).then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

/// People who may log in, from a file such as `htpasswd -B` writes.
pub struct Users {
    hashes: BTreeMap<String, String>,
    /// Logins that were right: checking a password takes a tenth of a second on purpose, and a
    /// page is many requests. Only digests are kept.
    right: Mutex<HashSet<[u8; 32]>>,
    salt: [u8; 16],
}

impl Users {
    /// Reads `name:hash` lines.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs_err::read_to_string(path)?;
        let mut hashes = BTreeMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
            let place = || format!("{}:{}", path.display(), i + 1);
            let (name, hash) =
                line.trim_end().split_once(':').with_context(|| format!("{}: wanted NAME:HASH", place()))?;
            let known = ["$2a$", "$2b$", "$2y$", "$argon2"].iter().any(|kind| hash.starts_with(kind));
            if !known {
                bail!(
                    "{}: the hash of {name} is neither bcrypt nor argon2; make one with: htpasswd -nB {name}",
                    place()
                );
            }
            hashes.insert(name.to_string(), hash.to_string());
        }
        if hashes.is_empty() {
            bail!("{} names nobody; add a line with: htpasswd -nB NAME", path.display());
        }
        let mut salt = [0; 16];
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        random.fill(&mut salt).map_err(|_| anyhow!("this machine gives no random numbers"))?;
        Ok(Self { hashes, right: Mutex::default(), salt })
    }

    /// Whether an `Authorization` header was somebody's before.
    pub fn remember(&self, authorization: &str) -> bool {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.digest(authorization))
    }

    /// Whether an `Authorization` header is somebody's. Takes a tenth of a second.
    pub fn know(&self, authorization: &str) -> bool {
        const MOST: usize = 1024;
        let right = self.check(authorization).is_some();
        if right {
            let mut known = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(self.digest(authorization));
        }
        right
    }

    fn digest(&self, authorization: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.salt).chain_update(authorization).finalize().into()
    }

    fn check(&self, authorization: &str) -> Option<()> {
        let (kind, encoded) = authorization.split_once(' ')?;
        if !kind.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (name, password) = decoded.split_once(':')?;
        let known = self.hashes.get(name);
        // Compared even for a name nobody has, so that time does not tell which names there are.
        let hash = known.or_else(|| self.hashes.values().next())?.as_str();
        let right = if hash.starts_with("$argon2") {
            Argon2::default().verify_password(password.as_bytes(), hash).is_ok()
        } else {
            bcrypt::verify(password, hash).unwrap_or(false)
        };
        (right && known.is_some()).then_some(())
    }
}
