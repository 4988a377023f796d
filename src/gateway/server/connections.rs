//! The open connections: how many there are, and which one goes when there is no room.

use crate::gateway::limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_OF_CLIENT};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

#[derive(Clone, Default)]
pub(in crate::gateway) struct Connections(Arc<Table>);

#[derive(Default)]
struct Table {
    open: Mutex<Open>,
    closed: [AtomicU64; REASONS.len()],
}

/// Why the gateway closes a connection, or does not take it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Closed {
    /// Others needed the room.
    NoRoom,
    /// The client did not read.
    Unread,
    /// Every open connection was being answered.
    AllBusy,
    /// The client sent no request, or no TLS handshake, in time.
    Silent,
    /// The head of a request was too large.
    LargeHead,
    /// The client is not served, and too many such clients were being told so.
    Stranger,
}

/// The names in the metrics, in the order of [`Closed`].
const REASONS: [&str; 6] = ["no_room", "unread", "all_busy", "silent", "large_head", "not_served"];

#[derive(Default)]
struct Open {
    by_id: HashMap<u64, Arc<Link>>,
    by_client: HashMap<IpAddr, Arc<AtomicUsize>>,
    next: u64,
}

/// What is known of an open connection.
pub(in crate::gateway) struct Link {
    id: u64,
    client: IpAddr,
    /// How many connections the client has.
    of_client: Arc<AtomicUsize>,
    begun: Instant,
    /// When bytes moved last, in milliseconds after `begun`.
    moved: AtomicU64,
    /// Whether a request is being answered: the client waits for the gateway.
    is_answered: AtomicBool,
    /// How many bytes of a page wait for the client.
    held: AtomicUsize,
    evicted: Notify,
}

/// An open connection; dropped, it is closed.
pub(in crate::gateway) struct OpenConnection {
    table: Arc<Table>,
    pub(in crate::gateway) link: Arc<Link>,
}

impl Connections {
    /// Takes a new connection, if there is room or another one can go. `is_own` says that the client is this node.
    pub(super) fn open(&self, client: IpAddr, is_own: bool) -> Option<OpenConnection> {
        let mut open = self.0.lock();
        let of_client = open.by_client.get(&client).map_or(0, |count| count.load(Ordering::Relaxed));
        let room = if !is_own && of_client >= MAX_CONNECTIONS_OF_CLIENT {
            self.0.evict(&mut open, |link| link.client == client).is_some()
        } else {
            open.by_id.len() < MAX_CONNECTIONS || self.0.evict(&mut open, |_| true).is_some()
        };
        if !room {
            self.count_closed(Closed::AllBusy);
            return None;
        }
        let id = open.next;
        open.next += 1;
        let of_client = open.by_client.entry(client).or_default().clone();
        of_client.fetch_add(1, Ordering::Relaxed);
        let link = Arc::new(Link {
            id,
            client,
            of_client,
            begun: Instant::now(),
            moved: AtomicU64::new(0),
            is_answered: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            evicted: Notify::new(),
        });
        open.by_id.insert(id, link.clone());
        Some(OpenConnection { table: self.0.clone(), link })
    }

    /// Closes the connection that keeps a page and has been silent for the longest time, if one has been so for this time.
    /// Returns how many bytes its page has.
    pub(in crate::gateway) fn evict_holder(&self, silent: Duration) -> Option<usize> {
        let mut open = self.0.lock();
        self.0.evict(&mut open, |link| link.held.load(Ordering::Relaxed) > 0 && link.silence() > silent)
    }

    /// Closes all connections that wait for no answer and have been silent for this time.
    pub(super) fn evict_silent(&self, silent: Duration) {
        let mut open = self.0.lock();
        while self.0.evict(&mut open, |link| link.silence() > silent).is_some() {}
    }

    pub(in crate::gateway) fn count(&self) -> usize {
        self.0.lock().by_id.len()
    }

    /// Notes that a connection was closed or not taken.
    pub(super) fn count_closed(&self, reason: Closed) {
        self.0.count_closed(reason);
    }

    /// How many connections were closed or not taken, by reason.
    pub(in crate::gateway) fn closed(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|reason| (REASONS[reason], self.0.closed[reason].load(Ordering::Relaxed)))
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_closed(&self, reason: Closed) {
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Of the client with the most connections, closes the one that has been silent for the longest time: the client sends
    /// no request, or does not read. Returns how many bytes of a page it kept.
    fn evict(&self, open: &mut Open, may_go: impl Fn(&Link) -> bool) -> Option<usize> {
        let candidates = open.by_id.values().filter(|link| !link.is_answered.load(Ordering::Relaxed) && may_go(link));
        let link = candidates.max_by_key(|link| (link.of_client.load(Ordering::Relaxed), link.silence())).cloned()?;
        open.remove(&link);
        link.evicted.notify_one();
        self.count_closed(Closed::NoRoom);
        Some(link.held.load(Ordering::Relaxed))
    }
}

impl Open {
    fn remove(&mut self, link: &Link) {
        if self.by_id.remove(&link.id).is_none() {
            return;
        }
        if link.of_client.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.by_client.remove(&link.client);
        }
    }
}

impl Link {
    /// Notes that bytes moved.
    pub(super) fn moved(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// For how long no bytes have moved.
    fn silence(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.moved.load(Ordering::Relaxed)))
    }

    /// Notes that a request is being answered, as long as the result exists.
    pub(super) fn answers(&self) -> Answering<'_> {
        self.is_answered.store(true, Ordering::Relaxed);
        Answering(self)
    }

    /// Notes that a page of so many bytes waits for the client, or that it is gone.
    pub(in crate::gateway) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::gateway) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Ends when the connection must close.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

/// A request is being answered.
pub(super) struct Answering<'a>(&'a Link);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.is_answered.store(false, Ordering::Relaxed);
        // From here on it is the client that must read.
        self.0.moved();
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.table.lock().remove(&self.link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_closed(connection: &OpenConnection, connections: &Connections) -> bool {
        !connections.0.lock().by_id.contains_key(&connection.link.id)
    }

    #[test]
    fn a_client_with_too_many_connections_loses_its_own() {
        let connections = Connections::default();
        let other = connections.open(address(1), false);
        let many: Vec<_> = (0..=MAX_CONNECTIONS_OF_CLIENT).map(|_| connections.open(address(2), false)).collect();
        assert!(many.iter().all(Option::is_some));
        assert_eq!(connections.count(), MAX_CONNECTIONS_OF_CLIENT + 1);
        assert!(other.is_some_and(|other| !is_closed(&other, &connections)));
    }

    #[test]
    fn where_there_is_no_room_the_connection_goes_that_has_been_silent_longest() {
        let connections = Connections::default();
        let own: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| connections.open(address(1), true)).collect();
        std::thread::sleep(Duration::from_millis(5));
        for connection in own.iter().filter(|connection| connection.link.id != 7) {
            connection.link.moved();
        }
        let new = connections.open(address(3), false);
        assert!(new.is_some() && is_closed(&own[7], &connections));
        assert_eq!(connections.count(), MAX_CONNECTIONS);
        drop(own);
        assert_eq!(connections.count(), 1);
        drop(new);
        assert_eq!(connections.0.lock().by_client.len(), 0);
    }

    #[test]
    fn whoever_opens_connections_without_end_closes_no_one_elses() {
        let connections = Connections::default();
        let silent = connections.open(address(1), true);
        std::thread::sleep(Duration::from_millis(5));
        let many: Vec<_> = (0..2 * MAX_CONNECTIONS).filter_map(|_| connections.open(address(2), true)).collect();
        assert_eq!((many.len(), connections.count()), (2 * MAX_CONNECTIONS, MAX_CONNECTIONS));
        assert!(silent.is_some_and(|silent| !is_closed(&silent, &connections)));
    }

    #[test]
    fn a_connection_that_is_being_answered_stays() {
        let connections = Connections::default();
        let own: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| connections.open(address(1), true)).collect();
        let _answering: Vec<_> = own.iter().map(|connection| connection.link.answers()).collect();
        assert!(connections.open(address(3), false).is_none());
        assert_eq!(connections.closed()[2], ("all_busy", 1));
    }
}
