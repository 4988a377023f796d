//! Who can use the gateway: peers with an address of this node, or users who log in.
//!
//! The gateway also checks the name in the `Host` header. Without this check, another site could
//! point its own domain at this node and read logs through a visitor's browser (DNS rebinding).

use super::limits::{BCRYPT_COST, MAX_ARGON2_MEMORY, MAX_ARGON2_PASSES, MAX_BCRYPT_COST};
use crate::host::Host;
use crate::paths::{GATEWAY_RUN_DIR, GATEWAY_TOKEN};
use crate::shown::hint;
use anyhow::{Context, Result, anyhow, bail};
use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use base64::prelude::{BASE64_STANDARD, Engine};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
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
pub(super) struct HostNames(Vec<String>);

impl HostNames {
    /// These names and `localhost`.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().chain(["localhost".into()]);
        Self(names.map(|name| name.trim_end_matches('.').into()).collect())
    }

    /// Whether a `Host` header, with any port, contains one of these names or an address of this node.
    pub(super) fn contains(&self, host: &str, node_addresses: &NodeAddresses) -> bool {
        let Some(name) = host_name(host) else { return false };
        // There are few, and every request asks.
        if self.0.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|address| node_addresses.contains(address))
    }
}

/// The name in `name:port` or `[address]:port`; `None` if the text is malformed.
fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    // RFC 3986 allows a colon without a port.
    let valid_port = port.strip_prefix(':').map_or(port.is_empty(), |p| p.is_empty() || p.parse::<u16>().is_ok());
    (valid_port && !name.is_empty()).then(|| name.trim_end_matches('.'))
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
    /// Sorted by name.
    users: Vec<User>,
    /// The logins that were verified, by salted digest, with their users. Verifying a password takes a tenth of a
    /// second, and a page needs many requests.
    verified: Mutex<HashMap<[u8; 32], Arc<str>>>,
    salt: [u8; 16],
}

struct User {
    name: Arc<str>,
    hash: Hash,
}

/// The hash of a password. Its cost is within the limits of `limits.rs`.
enum Hash {
    Bcrypt(String),
    Argon2(String),
}

/// A name and a password that a client has sent.
pub(super) struct Login {
    /// The digest of the name, whoever has it, if anybody.
    pub(super) name: [u8; 32],
    /// `None` if nobody has this name.
    user: Option<Arc<str>>,
    /// The number of the user whose hash is computed: for a name that nobody has, any user's, always the same one. Otherwise the time
    /// of the answer would tell which names exist.
    hash: usize,
    password: String,
    digest: [u8; 32],
}

impl Users {
    /// Reads `name:hash` lines.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::of(&fs::read(path)?, path)
    }

    /// Reads the bytes of a file.
    pub(crate) fn of(bytes: &[u8], path: &Path) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let command = |name: &str| hint!("emr-shs proxy passwd {} {}", path, name);
        let mut users = BTreeMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
            let place = || format!("{}:{}", path.display(), i + 1);
            let (name, hash) = line.trim_end().split_once(':').with_context(|| {
                format!("{}: the line is not NAME:HASH; delete it, then type: sudo {}", place(), command("NAME"))
            })?;
            let hash = Hash::parse(hash)
                .map_err(|why| anyhow!("{}: the hash of {name} {why}; type: sudo {}", place(), command(name)))?;
            if users.insert(name.to_string(), hash).is_some() {
                bail!("{}: {name} has a line already; delete one of the two", place());
            }
        }
        if users.is_empty() {
            bail!("{} contains no users; type: sudo {}", path.display(), command("NAME"));
        }
        let users = users.into_iter().map(|(name, hash)| User { name: name.into(), hash }).collect();
        Ok(Self { users, verified: Mutex::default(), salt: random()? })
    }

    /// The user whose login [`Users::verify`] has found right before.
    pub(super) fn verified(&self, authorization: &str) -> Option<Arc<str>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(&self.digest(authorization)).cloned()
    }

    /// The login in an `Authorization` header; `None` if it contains no name and password.
    pub(super) fn login(&self, authorization: &str) -> Option<Login> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (name, password) = decoded.split_once(':')?;
        let number = self.users.binary_search_by(|user| user.name.as_ref().cmp(name)).ok();
        let user = number.and_then(|number| self.users.get(number)).map(|user| user.name.clone());
        let name = self.digest(name);
        let hash = number.unwrap_or(usize::from(name[0]) % self.users.len());
        Some(Login { name, user, hash, password: password.into(), digest: self.digest(authorization) })
    }

    /// Whether a login has the right password. Takes a tenth of a second.
    pub(super) fn verify(&self, login: &Login) -> bool {
        let is_right = self.users.get(login.hash).is_some_and(|user| user.hash.is_of(&login.password));
        let Some(user) = login.user.clone().filter(|_| is_right) else { return false };
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(login.digest, user);
        true
    }

    fn digest(&self, text: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.salt).chain_update(text).finalize().into()
    }
}

/// The hash of a password, as the password file contains it.
pub(crate) fn hash_password(password: &str) -> Result<String> {
    bcrypt::non_truncating_hash(password, BCRYPT_COST).map_err(|e| anyhow!("the password cannot be hashed: {e}"))
}

impl Hash {
    /// Reads a hash. The error says what is wrong with it.
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("$argon2") {
            return Self::parse_argon2(text);
        }
        if !["$2a$", "$2b$", "$2y$"].iter().any(|kind| text.starts_with(kind)) {
            return Err("is neither bcrypt nor argon2".into());
        }
        let parts: bcrypt::HashParts = text.parse().map_err(|_| "is no complete bcrypt hash".to_string())?;
        if parts.get_cost() > MAX_BCRYPT_COST {
            return Err(format!("has the cost {}, wanted at most {MAX_BCRYPT_COST}", parts.get_cost()));
        }
        Ok(Self::Bcrypt(text.into()))
    }

    fn parse_argon2(text: &str) -> Result<Self, String> {
        let parsed = argon2::PasswordHash::new(text).map_err(|_| "is no complete argon2 hash".to_string())?;
        let params = argon2::Params::try_from(&parsed).map_err(|_| "is no complete argon2 hash".to_string())?;
        if params.m_cost() > MAX_ARGON2_MEMORY {
            let (found, wanted) = (params.m_cost() / 1024, MAX_ARGON2_MEMORY / 1024);
            return Err(format!("needs {found} MiB of memory, wanted at most {wanted}"));
        }
        if params.t_cost() > MAX_ARGON2_PASSES {
            return Err(format!("makes {} passes, wanted at most {MAX_ARGON2_PASSES}", params.t_cost()));
        }
        Ok(Self::Argon2(text.into()))
    }

    fn is_of(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2(hash) => Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok(),
        }
    }
}
