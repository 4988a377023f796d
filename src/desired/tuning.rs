//! The keys that make the history server faster. A value that somebody else set wins.

use super::Context;
use super::keys::{KeyRow, must, tuning};
use super::local_store::LocalStore;
use crate::paths::{LOCAL_STORE_KEY, REPLAY_THREADS_KEY, SCAN_INTERVAL_KEY};

/// From this heap on, in MiB, Spark's hybrid store has room: the store holds an application in memory first.
const HYBRID_STORE_HEAP: u64 = 4096;
/// The heap in MiB that each thread needs that reads event logs. One event of 143 MB fills a heap of 1 GiB, which is EMR's,
/// with two threads (`docs/emr.md §7.4`).
const THREAD_HEAP: u64 = 1024;

impl Context<'_> {
    /// The local store, in the fastest form that this Spark has.
    pub(super) fn store_keys(&self, store: &LocalStore) -> Vec<KeyRow> {
        let at_least = |major, minor| self.node.spark.version.as_ref().is_some_and(|v| v.at_least(major, minor));
        let why = "after a restart the history server reads only new event logs";
        let mut rows = vec![tuning(LOCAL_STORE_KEY, store.directory.display().to_string(), why)];
        let heap = self.node.server_heap_mib();
        let has_room = at_least(3, 1) && heap >= HYBRID_STORE_HEAP;
        let why = "a heap of 4 GB or more has room for it";
        rows.extend(self.by_heap("spark.history.store.hybridStore.enabled", has_room.then(|| "true".into()), why));
        let quarter = has_room.then(|| format!("{}m", heap / 4));
        let why = "Spark's 2g would leave too little heap for the threads that read event logs";
        rows.extend(self.by_heap("spark.history.store.hybridStore.maxMemoryUsage", quarter, why));
        if at_least(3, 3) {
            rows.push(tuning("spark.history.store.hybridStore.diskBackend", "ROCKSDB", "the faster local store"));
        }
        if at_least(3, 4) {
            rows.push(tuning("spark.history.store.serializer", "PROTOBUF", "the faster local store"));
        }
        rows.extend(store.limits().into_iter().map(|(key, value, why)| tuning(key, value, why)));
        rows
    }

    /// How often the history server scans S3, and with how many threads it reads event logs.
    pub(super) fn scan_keys(&self) -> Vec<KeyRow> {
        // A scan takes two LIST requests for each rolling event log (`docs/emr.md §7.2`).
        let interval = if self.node.spark.rolls_event_logs(&self.settings.set) { "300s" } else { "60s" };
        let scan = match self.cache {
            None => tuning(SCAN_INTERVAL_KEY, interval, "every scan costs S3 requests; Spark's default is 10s"),
            Some(_) => {
                must(SCAN_INTERVAL_KEY, "1s", "a scan of the local cache costs nothing, and somebody waits for it")
            }
        };
        let mut rows = vec![scan];
        // Below another root the cores of this machine say nothing about the node's.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = if self.host.is_live() { cores as u64 } else { 1 };
        let threads = cores.max(8).min(self.node.server_heap_mib() / THREAD_HEAP);
        let threads = (threads > cores.div_ceil(4)).then(|| threads.to_string());
        let why = "threads that read from S3 mostly wait; the heap has room for so many";
        rows.extend(self.by_heap(REPLAY_THREADS_KEY, threads, why));
        rows
    }

    /// A key whose value follows from the heap. While the server is down, nothing tells its heap for certain, so the key stays as the
    /// earlier installation wrote it.
    fn by_heap(&self, key: &'static str, value: Option<String>, why: &str) -> Option<KeyRow> {
        let is_down = self.node.server.as_ref().is_some_and(|server| server.process.is_none());
        let value = if is_down && !self.receipt.entries.is_empty() { self.receipt.value_of(key) } else { value };
        Some(tuning(key, value?, why))
    }
}
