//! Waits for a condition instead of sleeping.

use std::time::{Duration, Instant};

/// Waits until the condition gives a value; fails after two minutes.
#[track_caller]
pub fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited two minutes for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
