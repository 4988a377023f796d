//! The addresses of a name, as `/etc/hosts` and `/etc/resolv.conf` give them.
//!
//! The C library asks a resolver for IPv4 and IPv6 addresses at once, and musl's, which is in the static binary, finds no
//! address at all if the resolver refuses one of the two questions. Resolvers of companies often refuse the one for
//! IPv6. So this module asks the two questions apart, and the addresses of either answer count.

use dns_lookup::{AddrFamily, AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long the lookup of a name may take. This is less than any client here waits for a connection, so that the error
/// names the lookup, and more than musl waits before it asks a second time.
const TIMEOUT: Duration = Duration::from_millis(2800);
/// How long IPv4 addresses wait for those of IPv6. Both answers come from the same resolver.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long IPv6 addresses wait for those of IPv4. Many networks do not route IPv6, and on a busy machine this process can read the
/// answer about IPv4 late.
const PATIENCE_FOR_IPV4: Duration = Duration::from_secs(1);
/// For how long [`lookup_later`] keeps the addresses of a name: connections that are opened one after the other share a lookup, and an
/// address that has changed is used soon.
const KEPT: Duration = Duration::from_secs(5);
/// The pause before another attempt to start a thread.
const NEXT_ATTEMPT: Duration = Duration::from_millis(50);
/// How long a lookup waits for a thread.
const LAST_BEGIN: Duration = Duration::from_secs(1);
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
    /// This process could not start a thread that asks.
    NoThread(String),
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
            (Why::NoThread(why), _) => write!(f, "this process had no thread left that looks for {name}: {why}"),
            (Why::Other(why), _) => write!(f, "DNS gives no address of {name} ({why}); asked: {resolver}"),
        }
    }
}

impl std::error::Error for NotResolved {}

impl NotResolved {
    /// Whether nobody was asked, because this process had no thread left. Then the error says nothing of the name's host.
    pub(crate) fn lacks_a_thread(&self) -> bool {
        matches!(self.why, Why::NoThread(_))
    }
}

/// The addresses of a name, those of IPv4 first. An address is its own.
pub(crate) fn lookup(name: &str) -> Result<Vec<IpAddr>, NotResolved> {
    if let Some(address) = address(name) {
        return Ok(vec![address]);
    }
    let (sender, answers) = mpsc::channel();
    let mut failures = Vec::new();
    for family in [AddrFamily::Inet, AddrFamily::Inet6] {
        let (sender, owned) = (sender.clone(), name.to_string());
        // A thread of its own, because a lookup cannot be cancelled. The receiver may give up waiting.
        let asks = move || drop(sender.send(ask(&owned, family)));
        if let Err(e) = start(Box::new(asks)) {
            failures.push(Why::NoThread(e.to_string()));
        }
    }
    drop(sender);
    let begun = Instant::now();
    let mut found: Vec<IpAddr> = Vec::new();
    loop {
        let left = TIMEOUT.saturating_sub(begun.elapsed());
        let patience = if found.is_empty() {
            left
        } else if found.iter().any(IpAddr::is_ipv4) {
            PATIENCE
        } else {
            PATIENCE_FOR_IPV4.min(left)
        };
        match answers.recv_timeout(patience) {
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

/// [`lookup`], in a thread of its own. All who ask for a name at the same time share one lookup, because each takes three threads,
/// of which the gateway may have some hundreds.
pub(crate) async fn lookup_later(name: &str) -> Result<Vec<IpAddr>, NotResolved> {
    static LOOKUPS: LazyLock<Lookups> = LazyLock::new(|| Lookups::new(lookup, start));
    match address(name) {
        Some(address) => Ok(vec![address]),
        None => LOOKUPS.lookup(name).await,
    }
}

type Found = Result<Vec<IpAddr>, NotResolved>;
type Work = Box<dyn FnOnce() + Send>;
/// When the lookup ended, and what it found; `None` while it is under way.
type Answer = watch::Receiver<Option<(Instant, Found)>>;

/// Lookups by name, those that are under way and those that ended a moment ago.
struct Lookups {
    names: Mutex<HashMap<String, Answer>>,
    /// Counts who asks, so that each begins with another address.
    turn: AtomicUsize,
    lookup: fn(&str) -> Found,
    start: fn(Work) -> io::Result<()>,
}

impl Lookups {
    fn new(lookup: fn(&str) -> Found, start: fn(Work) -> io::Result<()>) -> Self {
        Self { names: Mutex::default(), turn: AtomicUsize::new(0), lookup, start }
    }

    async fn lookup(&self, name: &str) -> Found {
        let begun = Instant::now();
        let mut answer = loop {
            match self.answer(name) {
                Ok(answer) => break answer,
                // Other work of this process ends meanwhile.
                Err(_) if begun.elapsed() < LAST_BEGIN => tokio::time::sleep(NEXT_ATTEMPT).await,
                Err(e) => return Err(not_resolved(name, Why::NoThread(e.to_string()))),
            }
        };
        let ended = answer.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        let mut found = ended.map_or_else(|| Err(not_resolved(name, Why::NoAnswer)), |(_, found)| found)?;
        // A name with many addresses spreads its clients over them.
        let first = found.iter().take_while(|address| address.is_ipv4()).count();
        if first > 1 {
            found[..first].rotate_left(self.turn.fetch_add(1, Ordering::Relaxed) % first);
        }
        Ok(found)
    }

    /// The answer that is kept or under way, or else that of a new lookup.
    fn answer(&self, name: &str) -> io::Result<Answer> {
        let mut names = self.names();
        names.retain(|_, answer| counts(answer));
        if let Some(answer) = names.get(name) {
            return Ok(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        let (lookup, owned) = (self.lookup, name.to_string());
        (self.start)(Box::new(move || {
            let found = lookup(&owned);
            sender.send_replace(Some((Instant::now(), found)));
        }))?;
        names.insert(name.into(), answer.clone());
        Ok(answer)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a lookup is under way, or has found addresses a moment ago.
fn counts(answer: &Answer) -> bool {
    match &*answer.borrow() {
        // Without a sender, the lookup has died.
        None => answer.has_changed().is_ok(),
        Some((ended, found)) => found.is_ok() && ended.elapsed() < KEPT,
    }
}

/// Does something in a thread of its own.
fn start(work: Work) -> io::Result<()> {
    thread::Builder::new().name("dns".into()).spawn(work).map(drop)
}

/// The address that a name is itself.
fn address(name: &str) -> Option<IpAddr> {
    name.trim_matches(['[', ']']).parse().ok()
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
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{Found, LAST_BEGIN, Lookups, NotResolved, Why, lookup, resolvers, start};
    use std::collections::BTreeSet;
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    fn run<T>(test: impl Future<Output = T>) -> T {
        crate::aws::config::runtime().unwrap().block_on(test)
    }

    #[test]
    fn an_address_is_its_own_and_hosts_counts() {
        assert_eq!(lookup("169.254.169.254"), Ok(vec![IpAddr::from([169, 254, 169, 254])]));
        assert_eq!(lookup("[::1]"), Ok(vec![Ipv6Addr::LOCALHOST.into()]));
        assert_eq!(lookup("localhost").map(|found| found[0]), Ok(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn all_who_ask_for_a_name_share_one_lookup() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static ALL_ASK: AtomicBool = AtomicBool::new(false);
        fn four(name: &str) -> Found {
            ASKED.fetch_add(1, Ordering::Relaxed);
            while !ALL_ASK.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            match name {
                "s3" => Ok((1..5).map(|last| IpAddr::from([10, 0, 0, last])).collect()),
                _ => Err(NotResolved { name: name.into(), resolvers: Vec::new(), why: Why::NoAnswer }),
            }
        }
        run(async {
            let lookups = Arc::new(Lookups::new(four, start));
            let mut asking = tokio::task::JoinSet::new();
            for n in 0..200 {
                let lookups = lookups.clone();
                asking.spawn(async move { lookups.lookup(if n % 2 == 0 { "s3" } else { "x" }).await });
            }
            // All tasks of this thread ask before it goes on.
            tokio::task::yield_now().await;
            ALL_ASK.store(true, Ordering::Relaxed);
            let found = asking.join_all().await;
            assert_eq!((found.iter().flatten().count(), ASKED.load(Ordering::Relaxed)), (100, 2));
            let first: BTreeSet<IpAddr> = found.iter().flatten().map(|found| found[0]).collect();
            assert_eq!(first.len(), 4, "they do not all begin with the same address");
            assert!(lookups.lookup("s3").await.is_ok() && lookups.lookup("x").await.is_err());
            assert_eq!(ASKED.load(Ordering::Relaxed), 3, "a failure is not kept");
            assert_eq!(lookups.names().len(), 2);
        });
    }

    #[test]
    fn a_lookup_waits_for_a_thread_and_says_if_there_is_none() {
        static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
        let second = Lookups::new(lookup, |work| match ATTEMPTS.fetch_add(1, Ordering::Relaxed) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => start(work),
        });
        assert!(run(second.lookup("localhost")).is_ok());
        let begun = Instant::now();
        let refused = run(Lookups::new(lookup, |_| Err(io::ErrorKind::WouldBlock.into())).lookup("localhost"));
        assert!(refused.is_err_and(|error| error.lacks_a_thread()) && begun.elapsed() >= LAST_BEGIN);
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
