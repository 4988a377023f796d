//! The addresses of a name, as `/etc/hosts` and `/etc/resolv.conf` give them.
//!
//! The C library asks a resolver for IPv4 and IPv6 addresses at once, and musl's, which is in the static binary, finds no
//! address at all if the resolver refuses one of the two questions. Resolvers of companies often refuse the one for
//! IPv6. So this module asks the two questions apart, and the addresses of either answer count.

use dns_lookup::{AddrFamily, AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the lookup of a name may take. This is less than any client here waits for a connection, so that the error
/// names the lookup, and more than musl waits before it asks a second time.
const TIMEOUT: Duration = Duration::from_millis(2800);
/// How long addresses of one family wait for those of the other. Both answers come from the same resolver.
const PATIENCE: Duration = Duration::from_millis(50);
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A name without an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotResolved {
    name: String,
    /// The resolvers that `/etc/resolv.conf` names.
    resolvers: Vec<String>,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// The resolver knows the name, or does not, but gives no address.
    NoSuchName,
    /// No answer came, or the resolver answered that it failed, such as with SERVFAIL or REFUSED: musl waits in that case,
    /// too.
    NoAnswer,
    Other(String),
}

impl Why {
    fn of(error: &LookupError) -> Self {
        match error.kind() {
            LookupErrorKind::NoName | LookupErrorKind::NoData => Self::NoSuchName,
            LookupErrorKind::Again | LookupErrorKind::Fail => Self::NoAnswer,
            kind => Self::Other(format!("{kind:?}")),
        }
    }
}

impl fmt::Display for NotResolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, resolvers, why } = self;
        let resolver = match resolvers.as_slice() {
            [] => format!("the resolver of this node ({RESOLV_CONF} names none)"),
            [one] => format!("the resolver {one} ({RESOLV_CONF})"),
            more => format!("the resolvers {} ({RESOLV_CONF})", more.join(", ")),
        };
        match (why, resolvers.len() > 1) {
            (Why::NoSuchName, false) => write!(f, "DNS knows no address of {name}: {resolver} gives none"),
            (Why::NoSuchName, true) => write!(f, "DNS knows no address of {name}: {resolver} give none"),
            (Why::NoAnswer, _) => write!(f, "DNS gives no address of {name}: {resolver} did not answer, or refused to"),
            (Why::Other(why), _) => write!(f, "DNS gives no address of {name} ({why}); asked: {resolver}"),
        }
    }
}

impl std::error::Error for NotResolved {}

/// The addresses of a name, those of IPv4 first. An address is its own.
pub(crate) fn lookup(name: &str) -> Result<Vec<IpAddr>, NotResolved> {
    if let Ok(address) = name.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let (sender, answers) = mpsc::channel();
    for family in [AddrFamily::Inet, AddrFamily::Inet6] {
        let (sender, owned) = (sender.clone(), name.to_string());
        // A thread of its own, because a lookup cannot be cancelled. The receiver may give up waiting.
        let asks = move || drop(sender.send(ask(&owned, family)));
        if let Err(e) = thread::Builder::new().name("dns".into()).spawn(asks) {
            return Err(not_resolved(name, Why::Other(e.to_string())));
        }
    }
    drop(sender);
    let begun = Instant::now();
    let mut found: Vec<IpAddr> = Vec::new();
    let mut failures = Vec::new();
    loop {
        let left = if found.is_empty() { TIMEOUT.saturating_sub(begun.elapsed()) } else { PATIENCE };
        match answers.recv_timeout(left) {
            Ok(Ok(addresses)) => found.extend(addresses),
            Ok(Err(why)) => failures.push(why),
            Err(RecvTimeoutError::Timeout) => {
                failures.push(Why::NoAnswer);
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if found.is_empty() {
        // A family whose question failed may have an address; the other one certainly has none.
        failures.sort_by_key(|why| *why == Why::NoSuchName);
        return Err(not_resolved(name, failures.into_iter().next().unwrap_or(Why::NoSuchName)));
    }
    found.sort_by_key(IpAddr::is_ipv6);
    Ok(found)
}

/// [`lookup`], in a thread of its own.
pub(crate) async fn lookup_later(name: &str) -> Result<Vec<IpAddr>, NotResolved> {
    let (sender, answer) = tokio::sync::oneshot::channel();
    let owned = name.to_string();
    let asks = move || drop(sender.send(lookup(&owned)));
    if let Err(e) = thread::Builder::new().name("dns".into()).spawn(asks) {
        return Err(not_resolved(name, Why::Other(e.to_string())));
    }
    answer.await.unwrap_or_else(|_| Err(not_resolved(name, Why::NoAnswer)))
}

/// The addresses of one family.
fn ask(name: &str, family: AddrFamily) -> Result<Vec<IpAddr>, Why> {
    let hints = AddrInfoHints { address: family.into(), socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let answer = getaddrinfo(Some(name), None, Some(hints)).map_err(|e| Why::of(&e))?;
    let addresses: io::Result<Vec<IpAddr>> = answer.map(|info| Ok(info?.sockaddr.ip())).collect();
    addresses.map_err(|e| Why::Other(e.to_string()))
}

fn not_resolved(name: &str, why: Why) -> NotResolved {
    let text = fs_err::read_to_string(RESOLV_CONF).unwrap_or_default();
    NotResolved { name: name.into(), resolvers: resolvers(&text), why }
}

fn resolvers(resolv_conf: &str) -> Vec<String> {
    let words = resolv_conf.lines().map(str::split_whitespace);
    words.filter_map(|mut words| (words.next()? == "nameserver").then(|| words.next())?.map(str::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use super::{NotResolved, Why, lookup, resolvers};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    #[test]
    fn an_address_is_its_own_and_hosts_counts() {
        assert_eq!(lookup("169.254.169.254"), Ok(vec![IpAddr::from([169, 254, 169, 254])]));
        assert_eq!(lookup("[::1]"), Ok(vec![Ipv6Addr::LOCALHOST.into()]));
        assert_eq!(lookup("localhost").map(|found| found[0]), Ok(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn the_message_names_the_name_and_the_resolver() {
        let found = resolvers("# by DHCP\nsearch ec2.internal\nnameserver 10.0.0.2\nnameserver\t10.0.0.3\noptions x\n");
        let failed = |resolvers: &[&str], why| {
            let resolvers = resolvers.iter().map(ToString::to_string).collect();
            NotResolved { name: "b.s3.eu-west-3.amazonaws.com".into(), resolvers, why }.to_string()
        };
        assert_eq!(found, ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(
            failed(&["10.0.0.2"], Why::NoAnswer),
            "DNS gives no address of b.s3.eu-west-3.amazonaws.com: the resolver 10.0.0.2 (/etc/resolv.conf) did not answer, or refused to"
        );
        assert_eq!(
            failed(&["10.0.0.2", "10.0.0.3"], Why::NoSuchName),
            "DNS knows no address of b.s3.eu-west-3.amazonaws.com: the resolvers 10.0.0.2, 10.0.0.3 (/etc/resolv.conf) give none"
        );
    }
}
