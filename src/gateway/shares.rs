//! What clients share: each takes a part while it needs it, none takes all.

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
}

#[derive(Clone)]
pub(super) struct Shares(Arc<Table>);

struct Table {
    in_all: usize,
    of_client: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
    refused: AtomicU64,
}

/// A share that a client has taken; dropped, it is given back.
pub(super) struct Share {
    table: Arc<Table>,
    client: IpAddr,
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

    /// Takes a share; `None` if all are taken, or if a client other than this node has taken its part.
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
        let its_own = taken.get(&client.address).copied().unwrap_or(0);
        let is_full = taken.values().sum::<usize>() >= in_all;
        if is_full || !client.is_own && its_own >= of_client {
            return None;
        }
        taken.insert(client.address, its_own + 1);
        Some(Share { table: self.0.clone(), client: client.address })
    }

    /// How many shares are taken.
    pub(super) fn used(&self) -> usize {
        self.0.lock().values().sum()
    }

    /// How many requests were refused.
    pub(super) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.table.lock();
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_its_part_and_this_node_what_is_left() {
        let shares = Shares::new(3, 2);
        let client = |last| Client { address: IpAddr::from([10, 0, 0, last]), is_own: last == 1 };
        let foreign: Vec<_> = (0..2).map(|_| shares.take(client(2))).collect();
        assert!(foreign.iter().all(Option::is_some) && shares.take(client(2)).is_none());
        let own = shares.take(client(1));
        assert!(own.is_some() && shares.take(client(1)).is_none());
        assert_eq!((shares.used(), shares.refused()), (3, 2));
        drop(foreign);
        assert!(shares.take(client(1)).is_some() && shares.0.lock().len() == 1);
    }

    #[test]
    fn what_can_be_left_out_takes_half_of_the_room() {
        let shares = Shares::new(8, 4);
        let client = |last| Client { address: IpAddr::from([10, 0, 0, last]), is_own: last == 1 };
        let foreign: Vec<_> = (0..4).filter_map(|_| shares.take_spare(client(2))).collect();
        let own: Vec<_> = (0..8).filter_map(|_| shares.take_spare(client(1))).collect();
        assert_eq!((foreign.len(), own.len(), shares.refused()), (2, 2, 0));
        assert!(shares.take(client(1)).is_some());
    }
}
