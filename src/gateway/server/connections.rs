//! The open connections: how many there are, and which one goes when there is no room.

use crate::gateway::limits::{KEPT_CONNECTIONS, MAX_CONNECTIONS, MAX_CONNECTIONS_OF_CLIENT};
use crate::gateway::shares::{Client, ClientKey, ReadersShare};
use std::collections::HashMap;
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
    by_client: HashMap<ClientKey, Arc<AtomicUsize>>,
    /// How many of them have a place that is kept for root.
    kept: usize,
    next: u64,
}

/// What is known of an open connection.
pub(in crate::gateway) struct Link {
    id: u64,
    client: ClientKey,
    /// Whether it has a place that is kept for root: it makes no room for others.
    is_kept: bool,
    /// How many connections the client has.
    of_client: Arc<AtomicUsize>,
    begun: Instant,
    /// When bytes moved last, in milliseconds after `begun`.
    moved: AtomicU64,
    /// Whether the client has sent anything.
    has_spoken: AtomicBool,
    /// Whether a request is being answered: the client waits for the gateway.
    is_answered: AtomicBool,
    /// How many bytes of a page wait for the client.
    held: AtomicUsize,
    /// The share of the answer that the client reads, if the answer has one.
    reads: Mutex<Option<ReadersShare>>,
    /// Since when bytes wait that the client does not take, in milliseconds after `begun`; [`u64::MAX`] while it takes them.
    unread_since: AtomicU64,
    evicted: Notify,
}

/// An open connection; dropped, it is closed.
pub(in crate::gateway) struct OpenConnection {
    table: Arc<Table>,
    pub(in crate::gateway) link: Arc<Link>,
}

impl Connections {
    /// Takes a new connection, if there is room or another one can go.
    pub(super) fn open(&self, client: Client) -> Option<OpenConnection> {
        let (is_own, is_root, client) = (client.is_own, client.is_root(), client.key());
        let mut open = self.0.lock();
        let of_client = open.by_client.get(&client).map_or(0, |count| count.load(Ordering::Relaxed));
        let is_kept = is_root && open.kept < KEPT_CONNECTIONS;
        let room = if is_kept {
            true
        } else if !is_own && of_client >= MAX_CONNECTIONS_OF_CLIENT {
            self.0.evict(&mut open, |link| link.client == client).is_some()
        } else {
            open.by_id.len() - open.kept < MAX_CONNECTIONS || self.0.evict(&mut open, |link| !link.is_kept).is_some()
        };
        if !room {
            self.count_closed(Closed::AllBusy);
            return None;
        }
        let id = open.next;
        open.next += 1;
        let of_client = open.by_client.entry(client).or_default().clone();
        of_client.fetch_add(1, Ordering::Relaxed);
        open.kept += usize::from(is_kept);
        let link = Arc::new(Link {
            id,
            client,
            is_kept,
            of_client,
            begun: Instant::now(),
            moved: AtomicU64::new(0),
            has_spoken: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            reads: Mutex::default(),
            unread_since: AtomicU64::new(u64::MAX),
            evicted: Notify::new(),
        });
        open.by_id.insert(id, link.clone());
        Some(OpenConnection { table: self.0.clone(), link })
    }

    /// Closes the connection that keeps a page and has been silent for the longest time, if one has been so for this time.
    /// Returns how many bytes its page has.
    pub(in crate::gateway) fn evict_holder(&self, silent: Duration) -> Option<usize> {
        let mut open = self.0.lock();
        let may_go = |link: &Link| !link.is_kept && link.held.load(Ordering::Relaxed) > 0 && link.silence() > silent;
        self.0.evict(&mut open, may_go).map(|link| link.held.load(Ordering::Relaxed))
    }

    /// Closes a connection whose client has left an answer with a share unread for this time: one of the client with the most
    /// connections, or one of this client, if one is given. Returns whether there is a share more now.
    pub(in crate::gateway) fn evict_reader(&self, unread: Duration, of: Option<Client>) -> bool {
        let mut open = self.0.lock();
        let may_go = |link: &Link| {
            let is_of = of.is_none_or(|of| of.key() == link.client);
            is_of && !link.is_kept && link.reads_shared() && link.unread_for().is_some_and(|time| time > unread)
        };
        self.0.evict(&mut open, may_go).is_some_and(|link| link.end_share())
    }

    /// Closes all connections that wait for no answer and have been silent for this time.
    pub(super) fn evict_silent(&self, silent: Duration) {
        let mut open = self.0.lock();
        while self.0.evict(&mut open, |link| link.silence() > silent).is_some() {}
    }

    /// Closes all connections whose client has not sent anything yet.
    pub(super) fn evict_speechless(&self) {
        let mut open = self.0.lock();
        while self.0.evict(&mut open, |link| !link.has_spoken.load(Ordering::Relaxed)).is_some() {}
    }

    pub(in crate::gateway) fn count(&self) -> usize {
        self.0.lock().by_id.len()
    }

    /// How many connections have a place that is kept for root.
    pub(in crate::gateway) fn kept(&self) -> usize {
        self.0.lock().kept
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
    /// no request, or does not read. Returns that connection.
    fn evict(&self, open: &mut Open, may_go: impl Fn(&Link) -> bool) -> Option<Arc<Link>> {
        let candidates = open.by_id.values().filter(|link| !link.is_answered.load(Ordering::Relaxed) && may_go(link));
        let link = candidates.max_by_key(|link| (link.of_client.load(Ordering::Relaxed), link.silence())).cloned()?;
        open.remove(&link);
        link.evicted.notify_one();
        self.count_closed(Closed::NoRoom);
        Some(link)
    }
}

impl Open {
    fn remove(&mut self, link: &Link) {
        if self.by_id.remove(&link.id).is_none() {
            return;
        }
        self.kept -= usize::from(link.is_kept);
        if link.of_client.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.by_client.remove(&link.client);
        }
    }
}

impl Link {
    /// Notes that the client has sent something.
    pub(super) fn has_spoken(&self) {
        self.has_spoken.store(true, Ordering::Relaxed);
        self.moved();
    }

    /// Notes that bytes moved.
    pub(super) fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    /// In milliseconds after `begun`.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes that the client takes what the gateway has for it, or since now does not.
    pub(super) fn takes(&self, takes: bool) {
        if takes {
            self.unread_since.store(u64::MAX, Ordering::Relaxed);
            self.moved();
        } else {
            self.unread_since.fetch_min(self.now(), Ordering::Relaxed);
        }
    }

    /// For how long the client has not taken what the gateway has for it.
    fn unread_for(&self) -> Option<Duration> {
        let since = Some(self.unread_since.load(Ordering::Relaxed)).filter(|since| *since != u64::MAX)?;
        Some(self.begun.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Notes that the client reads an answer that has a share.
    pub(super) fn reads(&self, share: ReadersShare) {
        *self.reads.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
    }

    fn reads_shared(&self) -> bool {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(ReadersShare::is_there)
    }

    /// Gives the share of the answer back. Returns whether it was still there.
    fn end_share(&self) -> bool {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).take().is_some_and(|share| share.end())
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

    /// Whether it has a place that is kept for root.
    pub(in crate::gateway) fn is_kept(&self) -> bool {
        self.is_kept
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
    use std::net::IpAddr;

    /// A client on another machine.
    fn remote(last: u8) -> Client {
        Client { address: IpAddr::from([10, 0, 0, last]), is_own: false, account: None }
    }

    fn local() -> Client {
        Client { is_own: true, ..remote(1) }
    }

    fn root() -> Client {
        Client { account: Some(0), ..local() }
    }

    fn is_closed(connection: &OpenConnection, connections: &Connections) -> bool {
        !connections.0.lock().by_id.contains_key(&connection.link.id)
    }

    #[test]
    fn a_client_with_too_many_connections_loses_its_own() {
        let connections = Connections::default();
        let other = connections.open(remote(1));
        let many: Vec<_> = (0..=MAX_CONNECTIONS_OF_CLIENT).map(|_| connections.open(remote(2))).collect();
        assert!(many.iter().all(Option::is_some));
        assert_eq!(connections.count(), MAX_CONNECTIONS_OF_CLIENT + 1);
        assert!(other.is_some_and(|other| !is_closed(&other, &connections)));
    }

    #[test]
    fn where_there_is_no_room_the_connection_goes_that_has_been_silent_longest() {
        let connections = Connections::default();
        let own: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| connections.open(local())).collect();
        std::thread::sleep(Duration::from_millis(5));
        for connection in own.iter().filter(|connection| connection.link.id != 7) {
            connection.link.moved();
        }
        let new = connections.open(remote(3));
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
        let silent = connections.open(local());
        std::thread::sleep(Duration::from_millis(5));
        let many: Vec<_> =
            (0..2 * MAX_CONNECTIONS).filter_map(|_| connections.open(Client { is_own: true, ..remote(2) })).collect();
        assert_eq!((many.len(), connections.count()), (2 * MAX_CONNECTIONS, MAX_CONNECTIONS));
        assert!(silent.is_some_and(|silent| !is_closed(&silent, &connections)));
    }

    #[test]
    fn a_connection_that_is_being_answered_stays() {
        let connections = Connections::default();
        let own: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| connections.open(local())).collect();
        let _answering: Vec<_> = own.iter().map(|connection| connection.link.answers()).collect();
        assert!(connections.open(remote(3)).is_none());
        assert_eq!(connections.closed()[2], ("all_busy", 1));
    }

    #[test]
    fn root_gets_a_place_where_nobody_else_does_and_keeps_it() {
        let connections = Connections::default();
        let first = connections.open(root());
        std::thread::sleep(Duration::from_millis(5));
        let many: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| connections.open(local())).collect();
        let _answering: Vec<_> = many.iter().map(|connection| connection.link.answers()).collect();
        let roots: Vec<_> = (1..KEPT_CONNECTIONS).filter_map(|_| connections.open(root())).collect();
        assert_eq!((roots.len(), connections.kept()), (KEPT_CONNECTIONS - 1, KEPT_CONNECTIONS));
        assert!(connections.open(root()).is_none() && connections.open(local()).is_none());
        connections.0.lock().by_id.values().for_each(|link| link.is_answered.store(false, Ordering::Relaxed));
        let others: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| connections.open(local())).collect();
        assert_eq!(others.len(), MAX_CONNECTIONS);
        assert!(first.iter().chain(&roots).all(|root| !is_closed(root, &connections)));
        drop((first, roots));
        assert_eq!((connections.kept(), connections.count()), (0, MAX_CONNECTIONS));
    }
}
