//! The options of the event-log cache.

use std::path::PathBuf;

/// The options of the cache.
#[derive(Clone)]
pub(crate) struct CacheConfig {
    pub(crate) directory: PathBuf,
    /// The database of the index.
    pub(crate) index: PathBuf,
    /// In bytes.
    pub(crate) size: Option<u64>,
    pub(crate) count: Option<usize>,
}
