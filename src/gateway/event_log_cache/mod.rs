//! The event-log cache: a directory on this node into which the gateway fetches the event logs of an application when somebody
//! opens it. The history server reads nothing but this directory.
//!
//! Start reading at request.rs, through which a request for an application comes. All who wait for one application share a
//! `flight`, which `open` begins. `room` decides what must go, `directory` is the only one that writes files, `download` reads S3,
//! `listed` waits for the history server, and `fetch` does all of that in order for one application.

mod config;
mod counters;
mod directory;
mod download;
pub(in crate::gateway) mod failure;
mod fetch;
mod flight;
mod listed;
mod metrics;
mod names;
mod open;
mod request;
mod room;
mod start;
mod stored;

pub(crate) use config::CacheConfig;

use super::archive::{Archive, BucketStore, LogBucket};
use super::history_server::proxy::HistoryServerProxy;
use super::shares::{Client, ClientKey, Shares};
use crate::aws::uri::EventLogs;
use counters::Counters;
use directory::Directory;
use failure::Stage;
use flight::Flight;
use room::{Asker, Room};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stored::Stored;

/// For how long what is known of an application's logs counts. Then they are looked at again when somebody asks.
const FRESH: Duration = Duration::from_secs(10);

pub(in crate::gateway) struct EventLogCache {
    directory: Arc<Directory>,
    index: PathBuf,
    /// The sources of the index: nothing else is read. Empty if another process keeps the index.
    sources: Vec<EventLogs>,
    archive: Arc<Archive>,
    history_server: Arc<HistoryServerProxy>,
    /// Where the bucket of a source is.
    store: Box<dyn Fn(&str) -> BucketStore + Send + Sync>,
    /// By name.
    buckets: Mutex<HashMap<String, Arc<LogBucket>>>,
    state: Mutex<State>,
    /// Whoever writes the file that tells what the directory has.
    saving: tokio::sync::Mutex<()>,
    /// Applications that somebody waits for.
    fetches: Shares,
    counters: Counters,
}

/// What the cache has, and what it fetches.
struct State {
    room: Room,
    /// By the application's id.
    entries: BTreeMap<String, Entry>,
    flights: HashMap<String, Flight>,
    /// The names of logs that are being taken away. Nothing may get such a name meanwhile.
    leaving: HashSet<String>,
    /// Whether the file that tells what the directory has is older than this.
    is_unsaved: bool,
}

/// An application in the cache.
struct Entry {
    stored: Stored,
    /// When its logs were last compared with S3.
    checked: Option<Instant>,
    /// Whether the history server has shown it.
    is_listed: bool,
}

/// A request that waits for the history server, for an application of the cache.
pub(in crate::gateway) struct Use {
    cache: Arc<EventLogCache>,
    id: String,
}

impl Use {
    /// The bucket and the key of the event log that a path of the history server shows: that of the attempt in the path.
    pub(in crate::gateway) fn event_log(&self, path: &str) -> Option<(String, String)> {
        let state = self.cache.lock();
        let logs = &state.entries.get(&self.id)?.stored.logs;
        let attempt =
            request::second_name(path).and_then(|name| logs.iter().find(|log| log.attempt.as_deref() == Some(name)));
        // Without a number, the history server shows the only attempt that has none.
        let log = attempt.or_else(|| logs.iter().find(|log| log.attempt.is_none()))?;
        Some(log.place.clone())
    }

    /// Waits until the history server lists the application, which is in the cache. A history server that has restarted knows no
    /// application until it has read its directory.
    pub(in crate::gateway) async fn wait_until_listed(&self) {
        self.cache.wait_until_listed_again(&self.id).await;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.cache.lock().room.note_request(&self.id, false);
    }
}

impl EventLogCache {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The use of an application that is in the cache and need not be looked at.
    fn ready(self: &Arc<Self>, client: Client, id: &str) -> Option<Use> {
        let mut state = self.lock();
        let now = Instant::now();
        let is_fresh = |entry: &Entry| entry.is_listed && entry.checked.is_some_and(|at| now - at < FRESH);
        state.entries.get(id).filter(|entry| is_fresh(entry))?;
        Some(self.begin_use(&mut state, client, id, now))
    }

    fn begin_use(self: &Arc<Self>, state: &mut State, client: Client, id: &str, now: Instant) -> Use {
        state.room.note_use(id, asker(client), now);
        state.room.note_request(id, true);
        state.is_unsaved = true;
        Use { cache: self.clone(), id: id.into() }
    }

    fn bucket(&self, name: &str) -> Arc<LogBucket> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(self.archive.event_log_bucket(name, (self.store)(name)));
        buckets.entry(name.into()).or_insert_with(made).clone()
    }

    /// How many bytes of the disk the cache may take now, beside what is being fetched.
    fn free(&self, state: &State) -> u64 {
        let Some(disk) = self.directory.disk() else { return 0 };
        let done: u64 = state
            .flights
            .values()
            .map(|flight| match flight.lock().stage() {
                Stage::Fetching { done, all } => all.saturating_sub(done),
                _ => 0,
            })
            .sum();
        disk.free.saturating_sub(disk.kept()).saturating_sub(done)
    }
}

fn asker(client: Client) -> Asker {
    // All tunnels together, whichever accounts they have, get half of the places.
    let client_key = if client.is_own { ClientKey::Address(Ipv4Addr::LOCALHOST.into()) } else { client.key() };
    Asker { client: client_key, is_own: client.is_own }
}
