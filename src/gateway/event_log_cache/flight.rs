//! A flight: one application on its way into the cache, as those who wait for it see it.

use super::failure::{Failure, Stage};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// For how long nobody asks for an application that waits for room before it no longer waits. A browser reloads a page that nobody
/// looks at only once a minute.
pub(super) const ABANDONED: Duration = Duration::from_secs(75);

/// The one look at an application, and fetch of it, that all who ask for it wait for.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The history server shows it.
    Ready,
    /// The index does not know it.
    Unknown,
    Failed(Arc<Failure>),
}

pub(super) struct Progress {
    pub(super) is_waiting: bool,
    /// How many bytes are fetched, once there is room.
    pub(super) all: Option<u64>,
    pub(super) done: Arc<AtomicU64>,
    pub(super) is_fetched: bool,
    /// When somebody last asked for it.
    pub(super) asked: Instant,
}

impl Flight {
    pub(super) fn new(outcome: watch::Receiver<Option<Outcome>>) -> Self {
        let progress =
            Progress { is_waiting: false, all: None, is_fetched: false, done: Arc::default(), asked: Instant::now() };
        Self { outcome, progress: Arc::new(Mutex::new(progress)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Whether nobody has asked for it for too long.
    pub(super) fn is_abandoned(&self) -> bool {
        self.asked.elapsed() >= ABANDONED
    }

    pub(super) fn stage(&self) -> Stage {
        match self.all {
            _ if self.is_fetched => Stage::Listing,
            Some(all) => Stage::Fetching { done: self.done.load(Ordering::Relaxed), all },
            None if self.is_waiting => Stage::Waiting,
            None => Stage::Looking,
        }
    }
}
