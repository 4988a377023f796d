//! Which accounts of this node may use a gateway without a login: root, and those that people log in with. A connection
//! that ssh forwards is made by the account that has logged in.
//!
//! The address alone tells less: a program of this node can pass on requests of others, such as YARN's proxy, a notebook or
//! Livy, and every job on the node has the node's address. **It is no login**: jobs that run as `hadoop` are served, too.

use super::pages::Message;
use super::sockets::{self, Owner};
use crate::host::Host;
use crate::programs;
use crate::shown::shell_word;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The value of `--allow-account` for every account.
pub(crate) const ANY_ACCOUNT: &str = "*";
/// How long it is remembered what an account is. Accounts can change while the gateway runs.
const FRESH: Duration = Duration::from_secs(10);
/// How many accounts are remembered.
const MAX_ACCOUNTS: usize = 1024;
/// How many questions to the node's directory of accounts there can be at the same time.
const DIRECTORY_QUESTIONS: usize = 4;
/// How long the node's directory of accounts may take to answer.
const GETENT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a relay adds to the requests that it passes on.
const RELAYED: [&str; 7] = [
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-context",
    "x-real-ip",
];
/// The cookie in which YARN's proxy names its user.
const YARN_COOKIE: &str = "proxy-user";

/// Shells of accounts that nobody logs in with.
const NO_SHELLS: [&str; 6] = ["nologin", "false", "true", "sync", "halt", "shutdown"];
/// Where services have their homes. Some of them have a shell.
const HOMES_OF_SERVICES: [&str; 15] = [
    "/var",
    "/usr",
    "/etc",
    "/run",
    "/opt",
    "/srv",
    "/bin",
    "/sbin",
    "/lib",
    "/proc",
    "/dev",
    "/sys",
    "/tmp",
    "/mnt/var",
    "/nonexistent",
];

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Nobody asks: there is a login, or the owner wants every peer to be served.
    Unasked,
    /// An account that the owner has named: it may pass on requests of others.
    Named,
    Served,
    /// This kernel does not tell.
    Unseen,
    /// The kernel has not answered.
    Unanswered,
    /// An account that is not served.
    Other(String),
    /// No process of this node.
    Nobody,
}

pub(super) struct Callers {
    /// Names and ids of accounts.
    allowed: Vec<String>,
    known: Mutex<HashMap<u32, (Instant, Caller)>>,
    /// A permit for each question to the node's directory of accounts.
    asking: Semaphore,
}

impl Callers {
    pub(super) fn new(allowed: &[String]) -> Self {
        if !sockets::are_seen() {
            eprintln!(
                "warning: this kernel does not tell whose programs connect, so the gateway serves every program of this node; \
                 a login tells who asks: sudo emr-shs proxy install --tls-self-signed --htpasswd /etc/emr-shs/users"
            );
        }
        Self { allowed: allowed.to_vec(), known: Mutex::default(), asking: Semaphore::new(DIRECTORY_QUESTIONS) }
    }

    /// Who has connected from `peer` to `own`. `owner` is what the kernel has told of it before, if it has.
    pub(super) async fn find(&self, peer: SocketAddr, own: SocketAddr, owner: Option<Owner>) -> Caller {
        let owner = match owner {
            Some(owner) => owner,
            None => blocking(move || sockets::of_peer(peer, own)).await.unwrap_or(Owner::Unanswered),
        };
        let uid = match owner {
            Owner::Uid(uid) => uid,
            Owner::Nobody => return Caller::Nobody,
            Owner::Unknown => return Caller::Unseen,
            Owner::Unanswered => return Caller::Unanswered,
        };
        if uid == 0 {
            // Root waits for no directory of accounts.
            let root = Account { name: "root".into(), home: "/root".into(), shell: "/bin/sh".into() };
            return self.judge(uid, Some(root));
        }
        if let Some(caller) = self.known(uid) {
            return caller;
        }
        if let Some(account) = blocking(move || Account::of_file(uid)).await.flatten() {
            return self.judge(uid, Some(account));
        }
        // A directory that does not answer holds up few threads, and only those whose accounts it has.
        let _turn = self.asking.acquire().await;
        if let Some(caller) = self.known(uid) {
            return caller;
        }
        let account = blocking(move || Account::of_directory(uid)).await.flatten();
        self.judge(uid, account)
    }

    /// What an account is, if that was found out a moment ago.
    fn known(&self, uid: u32) -> Option<Caller> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&uid).filter(|(when, _)| when.elapsed() < FRESH).map(|(_, caller)| caller.clone())
    }

    fn judge(&self, uid: u32, account: Option<Account>) -> Caller {
        let caller = self.judge_anew(uid, account);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ACCOUNTS {
            known.clear();
        }
        known.insert(uid, (Instant::now(), caller.clone()));
        caller
    }

    fn judge_anew(&self, uid: u32, account: Option<Account>) -> Caller {
        let id = uid.to_string();
        let is_named = |name: &str| self.allowed.iter().any(|allowed| allowed == name);
        if is_named(&id) || account.as_ref().is_some_and(|account| is_named(&account.name)) {
            return Caller::Named;
        }
        let is_own = uid == 0 || uid == nix::unistd::geteuid().as_raw();
        if is_own || is_named(ANY_ACCOUNT) || account.as_ref().is_some_and(Account::is_a_persons) {
            return Caller::Served;
        }
        Caller::Other(account.map_or(id, |account| account.name))
    }

    /// Why a request is refused, if it is.
    pub(super) fn refusal(&self, caller: &Caller, headers: &HeaderMap, tunnel_command: &str) -> Option<Message> {
        match caller {
            Caller::Unasked | Caller::Named => None,
            Caller::Served | Caller::Unseen => {
                let mark = mark(headers)?;
                Some(
                    Message::new(StatusCode::FORBIDDEN, "This gateway serves no relay")
                        .text(format!("The request contains {mark}: a program of this node passes it on for somebody else. Without a login, the gateway cannot know for whom. Open the gateway itself, through an SSH tunnel:"))
                        .code(tunnel_command)
                        .text("If the relay asks for a login itself, name its account on the node:")
                        .code(self.how_to_allow("NAME")),
                )
            }
            Caller::Unanswered => Some(
                Message::new(StatusCode::SERVICE_UNAVAILABLE, "The gateway cannot see who asks")
                    .text("Without TLS and a login, the gateway asks the kernel which account has made a connection. The kernel has not answered now. Reload this page in a few seconds."),
            ),
            Caller::Other(account) => Some(
                Message::new(StatusCode::FORBIDDEN, format!("This gateway does not serve programs of {account}"))
                    .text(format!("Without TLS and a login, the gateway serves root and the accounts that people log in with. {account} is no such account, by its shell and its home. Through an SSH tunnel, your requests come from the account with which you log in:"))
                    .code(tunnel_command)
                    .text(format!("To serve each program of {account}, and everybody for whom it passes on requests, type on the node:"))
                    .code(self.how_to_allow(account)),
            ),
            Caller::Nobody => Some(
                Message::new(StatusCode::FORBIDDEN, "This gateway serves only its own node")
                    .text("No process of this node has made this connection. Through an SSH tunnel, your requests come from the node itself:")
                    .code(tunnel_command),
            ),
        }
    }

    fn how_to_allow(&self, account: &str) -> String {
        let named = self.allowed.iter().map(String::as_str).chain([account]);
        named.fold("sudo emr-shs proxy install".to_string(), |command, name| {
            format!("{command} --allow-account {}", shell_word(name.as_bytes()))
        })
    }
}

/// Whether this node knows an account by a name or an id that `--allow-account` takes.
pub(crate) fn is_known(account: &str) -> bool {
    let asked = || programs::run("getent", &["passwd", account], GETENT_TIMEOUT, &mut || ());
    account == ANY_ACCOUNT || Host::this().account(account).is_some() || asked().is_ok_and(|asked| asked.success)
}

/// Does something that may block; `None` if it died.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// What tells that a request is passed on for somebody else.
pub(super) fn mark(headers: &HeaderMap) -> Option<String> {
    // One way through the headers: looking for each of these names takes longer, and every request asks.
    let relayed = |name: &&HeaderName| RELAYED.contains(&name.as_str());
    if let Some(name) = headers.keys().find(relayed) {
        return Some(format!("the header {name}"));
    }
    let mut cookies =
        headers.get_all(header::COOKIE).iter().flat_map(|cookies| cookies.as_bytes().split(|b| *b == b';'));
    let is_yarns = |cookie: &[u8]| {
        cookie.trim_ascii().strip_prefix(YARN_COOKIE.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    cookies.any(is_yarns).then(|| format!("the cookie {YARN_COOKIE} of YARN's proxy"))
}

/// An account, as the node's directory of accounts describes it.
struct Account {
    name: String,
    home: String,
    shell: String,
}

impl Account {
    /// The account with an id in the node's own file.
    fn of_file(uid: u32) -> Option<Self> {
        let passwd = Host::this().read(Path::new("/etc/passwd")).ok().flatten().unwrap_or_default();
        passwd.lines().find_map(|line| Self::parse(line, uid))
    }

    /// The same in a directory of the company, where people's accounts can be.
    fn of_directory(uid: u32) -> Option<Self> {
        let asked = programs::run("getent", &["passwd", &uid.to_string()], GETENT_TIMEOUT, &mut || ()).ok()?;
        asked.out.lines().find_map(|line| Self::parse(line, uid))
    }

    fn parse(line: &str, uid: u32) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, _, _, home, shell] = fields[..] else { return None };
        (id.parse() == Ok(uid)).then(|| Self { name: name.into(), home: home.into(), shell: shell.trim().into() })
    }

    /// Whether people log in with it: it has a shell, and a home that is not a service's.
    fn is_a_persons(&self) -> bool {
        let shell = self.shell.rsplit('/').next().unwrap_or_default();
        let home = Path::new(&self.home);
        let is_a_services = HOMES_OF_SERVICES.iter().any(|place| home.starts_with(place));
        !NO_SHELLS.contains(&shell) && home.is_absolute() && home != Path::new("/") && !is_a_services
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn judge(allowed: &[&str], line: &str) -> Caller {
        let uid = line.split(':').nth(2).unwrap().parse().unwrap();
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        Callers { allowed, known: Mutex::default(), asking: Semaphore::new(1) }
            .judge_anew(uid, Account::parse(line, uid))
    }

    #[test]
    fn people_are_served_and_services_only_by_name() {
        for person in [
            "hadoop:x:992:992::/home/hadoop:/bin/bash",
            "ec2-user:x:1000:1000:EC2 Default User:/home/ec2-user:/bin/bash",
            "alice@corp:*:1234567:513:Alice:/home/alice@corp:/bin/zsh",
            "bob:x:2000:2000::/data/home/bob:",
            "root:x:0:0:root:/root:/bin/bash",
        ] {
            assert_eq!(judge(&[], person), Caller::Served, "{person}");
        }
        for service in [
            "yarn:x:990:990:Hadoop Yarn:/var/lib/hadoop-yarn:/bin/bash",
            "livy:x:985:985:Livy:/var/lib/livy:/sbin/nologin",
            "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin",
            "hue:x:980:980:Hue:/usr/lib/hue:/bin/bash",
            "sync:x:5:0:sync:/sbin:/bin/sync",
            "spark:x:999:997::/home/spark:/sbin/nologin",
            "notebook:x:70:70::/:/bin/sh",
        ] {
            let name = service.split(':').next().unwrap();
            assert_eq!(judge(&[], service), Caller::Other(name.into()), "{service}");
            assert_eq!(judge(&["x", name], service), Caller::Named, "{service}");
            assert_eq!(judge(&["*"], service), Caller::Served, "{service}");
        }
        assert_eq!(judge(&["990"], "yarn:x:990:990::/var/lib/hadoop-yarn:/bin/bash"), Caller::Named);
        assert_eq!(judge(&["99"], "yarn:x:990:990::/var/lib/hadoop-yarn:/bin/bash"), Caller::Other("yarn".into()));
    }

    #[test]
    fn whom_the_kernel_does_not_tell_is_served_only_where_it_tells_of_nobody() {
        let callers = Callers { allowed: Vec::new(), known: Mutex::default(), asking: Semaphore::new(1) };
        let end = SocketAddr::from(([127, 0, 0, 1], 1));
        let runtime = crate::aws::config::runtime().unwrap();
        let refused = |owner| {
            let caller = runtime.block_on(callers.find(end, end, Some(owner)));
            callers.refusal(&caller, &HeaderMap::new(), "").map(|message| message.response().status())
        };
        assert_eq!(refused(Owner::Unknown), None);
        assert_eq!(refused(Owner::Unanswered), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(refused(Owner::Nobody), Some(StatusCode::FORBIDDEN));
    }

    #[test]
    fn what_a_relay_adds_is_known() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(header::HeaderName::from_static(name), header::HeaderValue::from_static(value))])
        };
        for (name, value) in [
            ("via", "1.1 knox"),
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("cookie", "a=b; proxy-user=dr.who"),
        ] {
            assert!(mark(&headers(name, value)).is_some(), "{name}: {value}");
        }
        for (name, value) in [("cookie", "my-proxy-user=x; proxy-users=y"), ("accept", "via")] {
            assert_eq!(mark(&headers(name, value)), None, "{name}: {value}");
        }
    }
}
