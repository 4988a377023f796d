//! The cache's part of `/-/metrics`.

use super::EventLogCache;
use crate::gateway::metrics::Text;
use std::sync::atomic::{AtomicU64, Ordering};

impl EventLogCache {
    pub(in crate::gateway) fn metrics(&self) -> String {
        let (bytes, applications, waiting, limits) = {
            let state = self.lock();
            let room = &state.room;
            (room.bytes(), room.applications(), room.waiting(), room.limits())
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let mut text = Text::default();
        text.gauge("event_log_cache_bytes", "Bytes of event logs in the cache.", &bytes.to_string());
        text.gauge("event_log_cache_limit_bytes", "Bytes that the cache may have.", &limits.bytes.to_string());
        text.gauge("event_log_cache_applications", "Applications in the cache.", &applications.to_string());
        text.gauge(
            "event_log_cache_limit_applications",
            "Applications that the cache may have.",
            &limits.applications.to_string(),
        );
        text.gauge("event_log_cache_waiting", "Applications that wait for room in the cache.", &waiting.to_string());
        let counters = &self.counters;
        text.total("event_log_cache_fetches_total", "Fetches of applications.", &read(&counters.fetches));
        text.total("event_log_cache_fetched_bytes_total", "Bytes fetched from S3.", &read(&counters.fetched_bytes));
        text.total("event_log_cache_failures_total", "Fetches that failed.", &read(&counters.failures));
        text.total("event_log_cache_evictions_total", "Applications that made room.", &read(&counters.evictions));
        text.total(
            "event_log_cache_refusals_total",
            "Applications too large for the cache or its disk.",
            &read(&counters.refusals),
        );
        text.total(
            "event_log_cache_busy_total",
            "Requests for applications that had no place to wait.",
            &self.fetches.refused().to_string(),
        );
        text.into_string()
    }
}
