//! Whose program answers in the history server's place. While the history server is down, any process of the node can listen
//! on its port. Such a process would get the cookies of users, and its pages would be the gateway's own for a browser.

use anyhow::{Result, bail};
use procfs::net::{TcpNetEntry, TcpState};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is remembered whose program listens.
const FRESH: Duration = Duration::from_secs(2);

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

    /// Refuses an address at which another account's program listens.
    pub(super) async fn check(&self, address: SocketAddr) -> Result<()> {
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
            Some(uid) => bail!(
                "a program of another account (uid {uid}) listens on port {}, wanted one of {}",
                address.port(),
                self.name
            ),
            None => bail!("nothing on this node listens on {address}, wanted a program of {}", self.name),
        }
    }
}

/// The uid of whoever listens at an address: at exactly this one, or else at all addresses.
fn listener(address: SocketAddr) -> Option<u32> {
    let (tcp, tcp6) = (procfs::net::tcp().unwrap_or_default(), procfs::net::tcp6().unwrap_or_default());
    let at_port =
        |entry: &&TcpNetEntry| entry.state == TcpState::Listen && entry.local_address.port() == address.port();
    let listeners: Vec<&TcpNetEntry> = tcp.iter().chain(&tcp6).filter(at_port).collect();
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
    use std::net::TcpListener;

    #[tokio::test]
    async fn only_a_program_of_the_account_may_answer() {
        let own = nix::unistd::getuid().as_raw();
        for at in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listening = TcpListener::bind(at).unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], listening.local_addr().unwrap().port()));
            assert!(ListenerAccount::new("me", own).check(address).await.is_ok());
            let error = ListenerAccount::new("spark", own + 1).check(address).await.unwrap_err().to_string();
            assert!(error.contains(&format!("(uid {own})")) && error.ends_with("wanted one of spark"), "{error}");
            drop(listening);
            let error = ListenerAccount::new("me", own).check(address).await.unwrap_err().to_string();
            assert!(error.starts_with("nothing on this node listens"), "{error}");
        }
    }
}
