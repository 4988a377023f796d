//! Builds the cache from its options, and keeps the disk's room free.

use super::config::CacheConfig;
use super::counters::Counters;
use super::directory::Directory;
use super::room::{Limits, Room};
use super::stored::{Stored, is_within};
use super::{Entry, EventLogCache, State};
use crate::aws::uri::EventLogs;
use crate::gateway::archive::{Archive, BucketStore};
use crate::gateway::history_server::proxy::HistoryServerProxy;
use crate::gateway::limits::{
    MAX_EVENT_LOG_FETCHES, MAX_EVENT_LOG_FETCHES_OF_CLIENT, MAX_WAITING_EVENT_LOGS, MAX_WAITING_EVENT_LOGS_OF_CLIENT,
};
use crate::gateway::shares::Shares;
use crate::shown::visible_line;
use anyhow::Result;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// The part of the file system that the cache takes if nobody says how much: HDFS and YARN live there, too.
const PART: u64 = 10;
/// The most that it takes then. Much more than people look at within a week.
const MOST: u64 = 50_000_000_000;
/// How many applications the cache has if nobody says how many. The history server keeps 75 MB on its disk for each that was opened,
/// whatever its size: 15 GB. A scan of so many costs it 1.6 % of a core.
const APPLICATIONS: usize = 200;
/// How often the room of the disk is looked at, and how often the file that tells what the directory has is written.
const WATCH: Duration = Duration::from_secs(10);

impl EventLogCache {
    /// Opens the directory, and takes over what an earlier process has fetched below these sources.
    pub(in crate::gateway) fn start(
        config: &CacheConfig,
        sources: Vec<EventLogs>,
        archive: Arc<Archive>,
        history_server: Arc<HistoryServerProxy>,
        store: impl Fn(&str) -> BucketStore + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        let (directory, mut stored) = Directory::open(&config.directory)?;
        let is_within = |stored: &Stored| stored.logs.iter().all(|log| is_within(&sources, &log.place));
        // Somebody has removed their source.
        for (_, stored) in stored.extract_if(.., |_, stored| !is_within(stored)) {
            stored.logs.iter().try_for_each(|log| directory.hide(&log.name))?;
        }
        // A disk that is full must not keep the gateway from serving: `watch_forever` makes room, and tries again.
        let saved = directory.save(&stored);
        if let Err(error) = &saved {
            let error = visible_line(&format!("{error:#}")).into_owned();
            eprintln!("warning: {error}; the event-log cache tries again, and serves meanwhile");
        }
        let limits = Limits {
            bytes: config.size.unwrap_or_else(|| directory.disk().map_or(MOST, |disk| (disk.total / PART).min(MOST))),
            applications: config.count.unwrap_or(APPLICATIONS),
            fetches: MAX_EVENT_LOG_FETCHES,
            fetches_of_client: MAX_EVENT_LOG_FETCHES_OF_CLIENT,
        };
        let mut room = Room::new(limits);
        let (now, system) = (Instant::now(), SystemTime::now());
        let mut entries = BTreeMap::new();
        for (id, stored) in stored {
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(stored.used);
            let age = system.duration_since(used).unwrap_or_default();
            let bytes = stored.logs.iter().map(super::stored::Log::size).sum();
            let names = stored.logs.iter().map(|log| log.name.clone()).collect();
            // A clock that counts from the start of the machine has no time before that.
            room.take_over(&id, bytes, names, now.checked_sub(age).unwrap_or(now));
            entries.insert(id, Entry { stored, checked: None, is_listed: false });
        }
        let state =
            State { room, entries, flights: HashMap::new(), leaving: HashSet::new(), is_unsaved: saved.is_err() };
        Ok(Arc::new(Self {
            directory: Arc::new(directory),
            index: config.index.clone(),
            sources,
            archive,
            history_server,
            store: Box::new(store),
            buckets: Mutex::default(),
            state: Mutex::new(state),
            saving: tokio::sync::Mutex::default(),
            fetches: Shares::new(MAX_WAITING_EVENT_LOGS, MAX_WAITING_EVENT_LOGS_OF_CLIENT),
            counters: Counters::default(),
        }))
    }

    /// Keeps the bounds while nobody asks: others fill the disk, and options can be smaller than those of an earlier process.
    pub(in crate::gateway) async fn watch_forever(self: Arc<Self>) {
        loop {
            let (victims, is_unsaved) = {
                let mut state = self.lock();
                let limits = state.room.limits();
                let over = state.room.bytes().saturating_sub(limits.bytes);
                let disk = self.directory.disk();
                let lacking = disk.map_or(0, |disk| disk.kept().saturating_sub(disk.free)).max(over);
                let mut victims = state.room.excess(lacking, Instant::now());
                while state.room.applications() > limits.applications {
                    match state.room.excess(1, Instant::now()) {
                        more if more.is_empty() => break,
                        more => victims.extend(more),
                    }
                }
                (victims, state.is_unsaved)
            };
            match self.evict(victims).await {
                Err(failure) => eprintln!("warning: {}", visible_line(&failure.in_a_line())),
                Ok(()) if is_unsaved => self.save().await,
                Ok(()) => {}
            }
            tokio::time::sleep(WATCH).await;
        }
    }
}
