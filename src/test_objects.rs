//! The objects in S3 that a command writes for a test or a proof, and deletes again.
//!
//! Each object is known here from before its request until it is certain that the object does not exist. So however a
//! command ends, and whichever of its findings it shows, it can name what may be left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a command that is about to end waits for another thread that deletes its objects.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(0);

struct Known {
    id: usize,
    uri: String,
    /// Whether somebody still works with the object, and will delete it.
    is_used: bool,
}

/// An object of a test. Dropped, it may be left in S3, unless [`TestObject::gone`] said otherwise.
pub(crate) struct TestObject(usize);

impl TestObject {
    /// Notes an object before the request that writes it.
    pub(crate) fn about_to_be_written(bucket: &str, key: &str) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let uri = format!("s3://{bucket}/{key}");
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).push(Known { id, uri, is_used: true });
        Self(id)
    }

    /// The object does not exist: it was not written, or it was deleted.
    pub(crate) fn gone(self) {
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known.id != self.0);
    }
}

impl Drop for TestObject {
    fn drop(&mut self) {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter_mut().filter(|known| known.id == self.0).for_each(|known| known.is_used = false);
    }
}

/// The objects that may be left now.
pub(crate) fn left() -> Vec<String> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|known| known.uri.clone()).collect()
}

/// The objects that may be left, once every thread that deletes one has had a moment to do so.
pub(crate) fn left_at_the_end() -> Vec<String> {
    let begun = Instant::now();
    let is_used = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known.is_used);
    while is_used() && begun.elapsed() < PATIENCE {
        std::thread::sleep(POLL);
    }
    left()
}
