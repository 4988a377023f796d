//! What clients share: each takes a part while it needs it, none takes all.

use super::http::{Body, hold};
use super::limits::KEPT_REQUESTS;
use hyper::Response;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Whether the address is this node's own: all tunnels have such an address.
    pub(super) is_own: bool,
    /// The id of the account of this node that has made the connection, if the kernel has told it.
    pub(super) account: Option<u32>,
}

/// The id of root's account.
const ROOT: u32 = 0;

/// What a limit counts as one client. Nobody gets more of a limit by many addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ClientKey {
    Address(IpAddr),
    /// The addresses of a /64, by the first one: a machine can choose any of them.
    Network(Ipv6Addr),
    /// An account of this node, whose programs can choose any address of 127.0.0.0/8. `None`: the kernel has not told it.
    Account {
        id: Option<u32>,
        at: OwnAddress,
    },
}

/// Where an account connects from. An account is two clients, so that what it does elsewhere pushes out no tunnel of `ssh -L`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum OwnAddress {
    /// 127.0.0.1 or ::1, as all tunnels of `ssh -L` do.
    Localhost,
    /// Another address of this node, as all tunnels of `ssh -D` do.
    Elsewhere,
}

impl Client {
    /// What the limits count this client by. An address of IPv6 that is this node's own is a client alone, so that the rest of its /64
    /// takes nothing from it. Root is trusted: each of its addresses is a client.
    pub(super) fn key(self) -> ClientKey {
        const NETWORK: u128 = u128::MAX << 64;
        match self.address {
            IpAddr::V6(v6) if !self.is_own => ClientKey::Network(Ipv6Addr::from(u128::from(v6) & NETWORK)),
            address if self.is_own && !self.is_root() && (self.account.is_some() || address.is_loopback()) => {
                let is_localhost = address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST;
                let at = if is_localhost { OwnAddress::Localhost } else { OwnAddress::Elsewhere };
                ClientKey::Account { id: self.account, at }
            }
            address => ClientKey::Address(address),
        }
    }

    /// Whether a program of this node's root has made the connection. Some places are kept for these.
    pub(super) fn is_root(self) -> bool {
        self.account == Some(ROOT)
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Network(first) => write!(f, "{first}/64"),
            Self::Account { id, at } => {
                match id {
                    Some(id) => write!(f, "the account {id} of this node")?,
                    None => write!(f, "an account of this node")?,
                }
                f.write_str(if *at == OwnAddress::Localhost { ", at localhost," } else { "" })
            }
        }
    }
}

#[derive(Clone)]
pub(super) struct Shares(Arc<Table>);

struct Table {
    in_all: usize,
    of_client: usize,
    taken: Mutex<Taken>,
    refused: AtomicU64,
}

#[derive(Default)]
struct Taken {
    by_client: HashMap<ClientKey, usize>,
    /// How many of the shares that are kept for root, beside the others.
    kept: usize,
}

/// Of what there is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// All are taken.
    All,
    /// The client has its part.
    OfClient,
}

/// A share that a client has taken; dropped, it is given back.
pub(super) struct Share {
    table: Arc<Table>,
    /// `None` if the share is one of those that are kept for root.
    client: Option<ClientKey>,
}

/// The share of an answer that the client reads: it ends with the body, or when another client needs it.
#[derive(Clone)]
pub(super) struct ReadersShare(Arc<Mutex<Option<Share>>>);

impl ReadersShare {
    /// Gives the share back. Returns whether it was still there.
    pub(super) fn end(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    pub(super) fn is_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Share {
    /// Keeps the share until the body of a response is sent, or given up. The connection that sends the response finds the share in
    /// its extensions.
    pub(super) fn until_read(self, mut response: Response<Body>) -> Response<Body> {
        let share = ReadersShare(Arc::new(Mutex::new(Some(self))));
        response.extensions_mut().insert(share.clone());
        response.map(|body| hold(body, UntilDropped(share)))
    }
}

/// Ends a share when it is dropped, whoever else knows of the share.
struct UntilDropped(ReadersShare);

impl Drop for UntilDropped {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Shares {
    pub(super) fn new(in_all: usize, of_client: usize) -> Self {
        Self(Arc::new(Table { in_all, of_client, taken: Mutex::default(), refused: AtomicU64::new(0) }))
    }

    /// Takes a share, or counts that there was none.
    pub(super) fn take(&self, client: Client) -> Option<Share> {
        let share = self.take_if_free(client);
        if share.is_none() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        share
    }

    /// Takes a share, once `make_room` has made room if there is none. Counts that there was none.
    pub(super) fn take_or(&self, client: Client, make_room: impl FnOnce(Lack) -> bool) -> Option<Share> {
        match self.take_of(client, self.0.in_all, self.0.of_client) {
            Ok(share) => Some(share),
            Err(lack) => {
                make_room(lack);
                self.take(client)
            }
        }
    }

    /// Takes a share; `None` if all are taken, or if a client other than this node has taken its part. Root takes those that are
    /// kept for it first.
    pub(super) fn take_if_free(&self, client: Client) -> Option<Share> {
        self.take_of(client, self.0.in_all, self.0.of_client).ok()
    }

    /// Takes a share for something that an answer can do without. There are half as many of these, so that they leave room for
    /// answers that cannot.
    pub(super) fn take_spare(&self, client: Client) -> Option<Share> {
        self.take_of(client, self.0.in_all / 2, self.0.of_client / 2).ok()
    }

    fn take_of(&self, client: Client, in_all: usize, of_client: usize) -> Result<Share, Lack> {
        let mut taken = self.0.lock();
        if client.is_root() && taken.kept < KEPT_REQUESTS {
            taken.kept += 1;
            return Ok(Share { table: self.0.clone(), client: None });
        }
        let its_own = taken.by_client.get(&client.key()).copied().unwrap_or(0);
        if !client.is_own && its_own >= of_client {
            return Err(Lack::OfClient);
        }
        if taken.by_client.values().sum::<usize>() >= in_all {
            return Err(Lack::All);
        }
        taken.by_client.insert(client.key(), its_own + 1);
        Ok(Share { table: self.0.clone(), client: Some(client.key()) })
    }

    /// How many shares are taken.
    pub(super) fn used(&self) -> usize {
        let taken = self.0.lock();
        taken.by_client.values().sum::<usize>() + taken.kept
    }

    /// How many of the shares that are kept for root are taken.
    pub(super) fn kept(&self) -> usize {
        self.0.lock().kept
    }

    /// How many requests were refused.
    pub(super) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.table.lock();
        let Some(client) = self.client else {
            taken.kept -= 1;
            return;
        };
        if let Some(count) = taken.by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                taken.by_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn client(last: u8) -> Client {
        Client { address: IpAddr::from([10, 0, 0, last]), is_own: last <= 1, account: (last == 0).then_some(ROOT) }
    }

    #[test]
    fn a_client_takes_its_part_and_this_node_what_is_left() {
        let shares = Shares::new(3, 2);
        let foreign: Vec<_> = (0..2).map(|_| shares.take(client(2))).collect();
        assert!(foreign.iter().all(Option::is_some) && shares.take(client(2)).is_none());
        let own = shares.take(client(1));
        assert!(own.is_some() && shares.take(client(1)).is_none());
        assert_eq!((shares.used(), shares.refused()), (3, 2));
        drop(foreign);
        assert!(shares.take(client(1)).is_some() && shares.0.lock().by_client.len() == 1);
    }

    #[test]
    fn a_machine_is_one_client_whichever_of_its_addresses_it_chooses() {
        let of = |address: &str, is_own| {
            let address = crate::gateway::access::canonical_ip(address.parse().unwrap());
            Client { address, is_own, account: None }
        };
        let shares = Shares::new(100, 2);
        let many: Vec<_> = (0..10).filter_map(|n| shares.take(of(&format!("2001:db8:0:1::{n}"), false))).collect();
        assert_eq!((many.len(), shares.refused()), (2, 8));
        assert!(shares.take(of("2001:db8:0:2::1", false)).is_some(), "another network");
        assert!(shares.take(of("2001:db8:0:1::1", true)).is_some(), "this node");
        let shown = |address, is_own| of(address, is_own).key().to_string();
        assert_eq!(shown("2001:db8:0:1:a:b:c:d", false), "2001:db8:0:1::/64");
        assert_eq!(shown("2001:db8:0:1::1", true), "2001:db8:0:1::1");
        assert_eq!([shown("::ffff:10.0.0.1", false), shown("10.0.0.2", false)], ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(shown("::1", true), "an account of this node, at localhost,");
    }

    #[test]
    fn an_account_is_two_clients_at_localhost_and_elsewhere() {
        let of = |account: Option<u32>, address: &str| {
            Client { address: address.parse().unwrap(), is_own: true, account }.key()
        };
        assert_eq!(of(Some(1001), "127.0.0.2"), of(Some(1001), "127.3.2.1"));
        assert_eq!(of(Some(1001), "127.0.0.1"), of(Some(1001), "::1"));
        assert_ne!(of(Some(1001), "127.0.0.1"), of(Some(1001), "127.0.0.2"), "a tunnel, and what is none");
        assert_ne!(of(Some(1001), "127.0.0.1"), of(Some(1002), "127.0.0.1"), "two accounts");
        assert_eq!(of(Some(1001), "127.0.0.1").to_string(), "the account 1001 of this node, at localhost,");
        assert_ne!(of(Some(ROOT), "127.0.0.2"), of(Some(ROOT), "127.0.0.3"));
        // Where the kernel does not tell the account.
        assert_eq!(of(None, "127.0.0.2"), of(None, "127.0.0.3"));
        assert_ne!(of(None, "127.0.0.1"), of(None, "127.0.0.2"));
    }

    #[test]
    fn what_can_be_left_out_takes_half_of_the_room() {
        let shares = Shares::new(8, 4);
        let foreign: Vec<_> = (0..4).filter_map(|_| shares.take_spare(client(2))).collect();
        let own: Vec<_> = (0..8).filter_map(|_| shares.take_spare(client(1))).collect();
        assert_eq!((foreign.len(), own.len(), shares.refused()), (2, 2, 0));
        assert!(shares.take(client(1)).is_some());
    }

    #[test]
    fn a_reader_has_its_share_until_it_has_read_or_another_one_needs_it() {
        let shares = Shares::new(2, 1);
        let answers: Vec<_> = [2, 3]
            .into_iter()
            .filter_map(|last| shares.take(client(last)))
            .map(|share| share.until_read(Response::new(crate::gateway::http::full("text"))))
            .collect();
        assert_eq!((shares.used(), answers.len()), (2, 2));
        let first = answers[0].extensions().get::<ReadersShare>().cloned();
        let make_room = |wanted: Lack| {
            let first = first.clone();
            move |lack: Lack| lack == wanted && first.is_some_and(|share| share.end())
        };
        assert!(shares.take_or(client(3), make_room(Lack::OfClient)).is_none(), "its own place is the one it needs");
        let taken = shares.take_or(client(4), |_| true);
        assert!(taken.is_some() && shares.take_or(client(5), |_| false).is_none());
        assert_eq!((shares.used(), shares.refused()), (2, 2));
        drop(answers);
        assert_eq!(shares.used(), 1, "no share is given back twice");
    }

    #[test]
    fn root_has_places_that_nobody_else_can_take() {
        let shares = Shares::new(3, 2);
        let others: Vec<_> = (0..4).filter_map(|_| shares.take(client(1))).collect();
        let root: Vec<_> = (0..=KEPT_REQUESTS).filter_map(|_| shares.take(client(0))).collect();
        assert_eq!((others.len(), root.len(), shares.refused()), (3, KEPT_REQUESTS, 2));
        assert_eq!((shares.used(), shares.kept()), (3 + KEPT_REQUESTS, KEPT_REQUESTS));
        drop(others);
        assert!(shares.take(client(0)).is_some(), "one of the others'");
        drop(root);
        assert_eq!((shares.used(), shares.kept()), (0, 0));
        // Root takes nothing of the others' as long as its own suffice.
        let _root = shares.take(client(0));
        assert_eq!((0..4).filter_map(|_| shares.take(client(1))).collect::<Vec<_>>().len(), 3);
    }
}
