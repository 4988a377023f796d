//! What the cache counts.

use std::sync::atomic::AtomicU64;

#[derive(Default)]
pub(super) struct Counters {
    pub(super) fetches: AtomicU64,
    pub(super) fetched_bytes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) evictions: AtomicU64,
    /// Applications that are too large for the cache or the disk.
    pub(super) refusals: AtomicU64,
}
