//! Waits for a condition instead of sleeping.

use std::time::{Duration, Instant};

/// Waits until the condition gives a value; fails after two minutes.
#[track_caller]
pub fn wait<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(Duration::from_secs(120), what, condition)
}

/// The same, for what takes longer on a busy machine.
#[track_caller]
pub fn wait_within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        let waited = begun.elapsed();
        assert!(waited < limit, "waited {limit:?} for {what}");
        // A check starts processes, whose time the node lacks: the longer it has waited, the less often it checks.
        std::thread::sleep((waited / 10).clamp(Duration::from_millis(100), Duration::from_millis(500)));
    }
}
