//! How the index is: for monitoring, and for the page.

use crate::gateway::metrics::Text;
use crate::index::{Requests, Sent, now};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(in crate::gateway) struct Status {
    pub(super) requests: Arc<Requests>,
    state: Mutex<State>,
    /// Rises when another file takes the place of the database.
    generation: AtomicU64,
    is_damaged: AtomicBool,
}

/// The index as the keeper saw it last. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct State {
    /// Attempts that the list shows.
    pub(in crate::gateway) attempts: u64,
    pub(in crate::gateway) unread: u64,
    pub(in crate::gateway) unreadable: u64,
    /// When the last look began that reached all sources; `None` before the first.
    pub(in crate::gateway) looked: Option<i64>,
    /// The same of complete listings.
    pub(in crate::gateway) listed: Option<i64>,
    /// How many event logs this process knows from the snapshot, and when that was written.
    pub(in crate::gateway) snapshot: Option<(u64, i64)>,
    /// The sources that fail, with the reason.
    pub(in crate::gateway) failing: Vec<(String, String)>,
}

impl Status {
    pub(super) fn new(requests: Arc<Requests>) -> Self {
        Self { requests, state: Mutex::default(), generation: AtomicU64::new(0), is_damaged: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::gateway) fn state(&self) -> State {
        self.lock().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
    }

    /// The answer to `/-/index`.
    pub(in crate::gateway) fn json(&self) -> String {
        let State { attempts, unread, unreadable, looked, listed, failing, snapshot: _ } = self.state();
        let failing: Vec<_> = failing.into_iter().map(|(uri, why)| json!({"uri": uri, "why": why})).collect();
        json!({
            "attempts": attempts, "unread": unread, "unreadable": unreadable, "looked": looked, "listed": listed,
            "failing": failing,
        })
        .to_string()
    }

    /// The part of `/-/metrics`.
    pub(in crate::gateway) fn metrics(&self) -> String {
        let state = self.state();
        let Sent { list, get, put } = self.requests.sent();
        let mut text = Text::default();
        text.gauge("index_attempts", "Attempts of applications that the list shows.", &state.attempts.to_string());
        text.gauge("index_unread", "Event logs that are not completely read yet.", &state.unread.to_string());
        text.gauge("index_unreadable", "Event logs that show no application.", &state.unreadable.to_string());
        text.gauge(
            "index_failing_sources",
            "Prefixes with event logs that cannot be listed.",
            &state.failing.len().to_string(),
        );
        let [look, listing] = self.ages().map(|age| age.map_or("+Inf".into(), |age: u64| age.to_string()));
        text.gauge("index_look_age_seconds", "Time since the last look that reached all prefixes.", &look);
        text.gauge("index_listing_age_seconds", "Time since the last complete listing of all prefixes.", &listing);
        let sent = [("LIST", list), ("GET", get), ("PUT", put)];
        text.counter("index_s3_requests_total", "Requests to S3 for the index, by kind.", "kind", &sent);
        text.0
    }

    /// Seconds since the last look, and since the last complete listing.
    pub(in crate::gateway) fn ages(&self) -> [Option<u64>; 2] {
        let state = self.lock();
        [state.looked, state.listed].map(|time| Some(u64::try_from((now() - time?).max(0)).unwrap_or(0) / 1000))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The database is another file now.
    pub(super) fn has_begun_anew(&self) {
        self.change(|state| state.snapshot = None);
        self.is_damaged.store(false, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// A reader has found damage in the database that it opened in this generation. Damage of an earlier generation does not count: that
    /// database is already replaced.
    pub(super) fn note_damage(&self, generation: u64) {
        if generation == self.generation() {
            self.is_damaged.store(true, Ordering::Release);
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Acquire)
    }
}
