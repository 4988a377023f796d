//! What clients share: each takes a part while it needs it, none takes all.

use super::limits::KEPT_REQUESTS;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Whether the address is this node's own: all tunnels have such an address.
    pub(super) is_own: bool,
    /// Whether a program of this node's root has made the connection. Some places are kept for these.
    pub(super) is_root: bool,
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
    by_client: HashMap<IpAddr, usize>,
    /// How many of the shares that are kept for root, beside the others.
    kept: usize,
}

/// A share that a client has taken; dropped, it is given back.
pub(super) struct Share {
    table: Arc<Table>,
    /// `None` if the share is one of those that are kept for root.
    client: Option<IpAddr>,
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

    /// Takes a share; `None` if all are taken, or if a client other than this node has taken its part. Root takes those that are
    /// kept for it first.
    pub(super) fn take_if_free(&self, client: Client) -> Option<Share> {
        self.take_of(client, self.0.in_all, self.0.of_client)
    }

    /// Takes a share for something that an answer can do without. There are half as many of these, so that they leave room for
    /// answers that cannot.
    pub(super) fn take_spare(&self, client: Client) -> Option<Share> {
        self.take_of(client, self.0.in_all / 2, self.0.of_client / 2)
    }

    fn take_of(&self, client: Client, in_all: usize, of_client: usize) -> Option<Share> {
        let mut taken = self.0.lock();
        if client.is_root && taken.kept < KEPT_REQUESTS {
            taken.kept += 1;
            return Some(Share { table: self.0.clone(), client: None });
        }
        let its_own = taken.by_client.get(&client.address).copied().unwrap_or(0);
        let is_full = taken.by_client.values().sum::<usize>() >= in_all;
        if is_full || !client.is_own && its_own >= of_client {
            return None;
        }
        taken.by_client.insert(client.address, its_own + 1);
        Some(Share { table: self.0.clone(), client: Some(client.address) })
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
mod tests {
    use super::*;

    fn client(last: u8) -> Client {
        Client { address: IpAddr::from([10, 0, 0, last]), is_own: last <= 1, is_root: last == 0 }
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
    fn what_can_be_left_out_takes_half_of_the_room() {
        let shares = Shares::new(8, 4);
        let foreign: Vec<_> = (0..4).filter_map(|_| shares.take_spare(client(2))).collect();
        let own: Vec<_> = (0..8).filter_map(|_| shares.take_spare(client(1))).collect();
        assert_eq!((foreign.len(), own.len(), shares.refused()), (2, 2, 0));
        assert!(shares.take(client(1)).is_some());
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
