//! Whose program answers in the history server's place. While the history server is down, any process of the node can listen
//! on its port. Such a process would get the cookies of users, and its pages would be the gateway's own for a browser.
//!
//! The kernel tells whose socket the other end of a connection is (sock_diag(7)). Where it does not, the listener counts.

use crate::gateway::sockets::{self, Diagnosis};
use anyhow::{Result, bail};
use procfs::net::{TcpNetEntry, TcpState};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is remembered whose program listens, where the kernel does not tell whose a connection is.
const FRESH: Duration = Duration::from_secs(2);

/// How often the gateway asks the kernel whose a connection is, and the pause between: older kernels say 0 as long as the
/// program has not accepted the connection.
const ACCEPTED: (u32, Duration) = (5, Duration::from_millis(1));

/// The account whose program may answer.
pub(in crate::gateway) struct ListenerAccount {
    name: String,
    uid: u32,
    /// When this account was last seen to listen, and where.
    seen: Mutex<Option<(Instant, SocketAddr)>>,
}

impl ListenerAccount {
    pub(in crate::gateway) fn new(name: &str, uid: u32) -> Self {
        Self { name: name.into(), uid, seen: Mutex::default() }
    }

    /// Refuses a connection from `own` to `address` whose other end belongs to another account's program.
    pub(super) async fn check(&self, own: SocketAddr, address: SocketAddr) -> Result<()> {
        for _ in 0..ACCEPTED.0 {
            match owner(address, own) {
                Some(uid) if uid == self.uid => return Ok(()),
                Some(0) => tokio::time::sleep(ACCEPTED.1).await,
                Some(uid) => return self.refuse(uid, address),
                None => break,
            }
        }
        self.check_listener(address).await
    }

    fn refuse(&self, uid: u32, address: SocketAddr) -> Result<()> {
        let port = address.port();
        bail!("a program of another account (uid {uid}) listens on port {port}, wanted one of {}", self.name)
    }

    /// Refuses an address at which another account's program listens.
    async fn check_listener(&self, address: SocketAddr) -> Result<()> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_some_and(|(when, at)| at == address && when.elapsed() < FRESH) {
            return Ok(());
        }
        // The table of a busy node has thousands of lines.
        let listener = tokio::task::spawn_blocking(move || listener(address)).await?;
        match listener {
            Some(uid) if uid == self.uid => {
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), address));
                Ok(())
            }
            Some(uid) => self.refuse(uid, address),
            None => bail!("nothing on this node listens on {address}, wanted a program of {}", self.name),
        }
    }
}

/// The uid of the other end of a connection on this machine, as the kernel tells it; `None` if it does not.
fn owner(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    match sockets::diagnose(theirs, ours)? {
        Diagnosis::Socket { uid, .. } => Some(uid),
        Diagnosis::Missing => None,
    }
}

/// The uid of whoever listens at an address: at exactly this one, or else at all addresses.
fn listener(address: SocketAddr) -> Option<u32> {
    let table = sockets::table();
    let at_port =
        |entry: &&TcpNetEntry| entry.state == TcpState::Listen && entry.local_address.port() == address.port();
    let listeners: Vec<&TcpNetEntry> = table.iter().filter(at_port).collect();
    let is_at = |entry: &&&TcpNetEntry| entry.local_address.ip().to_canonical() == address.ip().to_canonical();
    let exactly = listeners.iter().find(is_at);
    // The kernel prefers a listener of the same version of IP.
    let all = |entry: &&&TcpNetEntry| entry.local_address.ip().is_unspecified();
    let same = |entry: &&&TcpNetEntry| entry.local_address.is_ipv4() == address.ip().to_canonical().is_ipv4();
    let found = exactly.or_else(|| listeners.iter().filter(all).find(same)).or_else(|| listeners.iter().find(all));
    found.map(|entry| entry.uid)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn only_a_program_of_the_account_may_answer() {
        let uid = nix::unistd::getuid().as_raw();
        for at in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listening) = TcpListener::bind(at) else { continue };
            let address = SocketAddr::from(([127, 0, 0, 1], listening.local_addr().unwrap().port()));
            let connected = TcpStream::connect(address).unwrap();
            let own = connected.local_addr().unwrap();
            assert!(ListenerAccount::new("me", uid).check(own, address).await.is_ok());
            let error = ListenerAccount::new("spark", uid + 1).check(own, address).await.unwrap_err().to_string();
            assert!(error.contains(&format!("(uid {uid})")) && error.ends_with("wanted one of spark"), "{error}");
            drop(listening);
            let error = ListenerAccount::new("me", uid).check_listener(address).await.unwrap_err().to_string();
            assert!(error.starts_with("nothing on this node listens"), "{error}");
        }
    }

    #[test]
    fn the_kernel_tells_whose_the_other_end_is_after_its_listener_has_gone() {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        let (theirs, _) = listening.accept().unwrap();
        drop(listening);
        let found = owner(ours.peer_addr().unwrap(), ours.local_addr().unwrap());
        // A kernel can be built without it.
        assert!(found.is_none_or(|uid| uid == nix::unistd::getuid().as_raw()), "{found:?}");
        drop((theirs, ours));
    }
}
