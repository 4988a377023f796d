//! Waiting until the history server, which reads the cache's directory in its own time, lists an application or has missed it.

use super::failure::Failure;
use super::stored::Log;
use super::{EventLogCache, Flight};
use crate::gateway::history_server::api::Listed;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How often the history server is asked whether it shows an application.
const POLL: Duration = Duration::from_millis(200);
/// How long it can list nothing new before it counts as unable to list an application. It reads its directory each second.
const LISTED: Duration = Duration::from_secs(20);
/// How many bytes of a log the history server reads in a second at least. It reads a packed log whole before it lists it.
const READ_IN_A_SECOND: u64 = 10 << 20;
/// How often the history server is asked how many applications it lists.
const COUNT: Duration = Duration::from_secs(2);
/// How long it can leave questions without an answer while it makes its list anew, as when Java collects its garbage.
const LATE: Duration = Duration::from_secs(10);
/// How long the gateway waits until the history server no longer shows a log that was removed. The second limit is for unfinished
/// logs: the server could show for ever what it has parsed of them.
const NOTICED: Duration = Duration::from_secs(5);
const NOTICED_IN_USE: Duration = Duration::from_secs(60);

/// How long the history server may still take to list an application. After a start it lists all that lies in the directory anew, one
/// after the other: as long as its list changes, it gets on.
struct Patience {
    /// When its list changed last, as far as is known.
    since: Instant,
    /// How many applications it lists.
    listed: Option<usize>,
    /// When it was asked for that last.
    counted: Option<Instant>,
    /// How long it can list nothing new.
    most: Duration,
}

impl Patience {
    fn new(logs: &[Log], now: Instant) -> Self {
        let bytes: u64 = logs.iter().map(Log::size).sum();
        Self { since: now, listed: None, counted: None, most: LISTED + Duration::from_secs(bytes / READ_IN_A_SECOND) }
    }

    fn lists(&mut self, count: usize, now: Instant) {
        if self.listed.replace(count) != Some(count) {
            self.since = now;
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= self.most
    }
}

impl EventLogCache {
    /// Waits until the history server shows all attempts of an application.
    pub(super) async fn wait_until_listed(&self, id: &str, logs: &[Log], flight: &Flight) -> Result<(), Failure> {
        let mut patience = Patience::new(logs, Instant::now());
        flight.lock().is_fetched = true;
        loop {
            let is_listed = match self.history_server.listed(id).await {
                // The request goes to the history server then, and the client gets its error.
                Listed::Unknown | Listed::Late | Listed::Down => return Ok(()),
                listed => has_all(&listed, logs),
            };
            if is_listed {
                if let Some(entry) = self.lock().entries.get_mut(id) {
                    entry.is_listed = true;
                }
                return Ok(());
            }
            if self.is_over(&mut patience).await {
                return Err(Failure::NotListed { names: logs.iter().map(|log| log.name.clone()).collect() });
            }
            sleep(POLL).await;
        }
    }

    /// Waits until the history server, which has just denied something of an application in the cache, lists the application.
    pub(super) async fn wait_until_listed_again(&self, id: &str) {
        let logs_of = || Some(self.lock().entries.get(id)?.stored.logs.clone());
        let Some(logs) = logs_of() else { return };
        let mut patience = Patience::new(&logs, Instant::now());
        let mut answered = Instant::now();
        // If somebody has taken away what was here, there is nothing to wait for.
        if self.has(&logs).await.unwrap_or(true) {
            while !self.is_over(&mut patience).await {
                let Some(logs) = logs_of() else { return };
                match self.history_server.listed(id).await {
                    Listed::Unknown | Listed::Down => return,
                    Listed::Late if answered.elapsed() >= LATE => return,
                    // The history server is busy with its list, and would deny the application again.
                    Listed::Late => {}
                    listed if has_all(&listed, &logs) => return,
                    _ => answered = Instant::now(),
                }
                sleep(POLL).await;
            }
        }
        // The next request waits, and then tells which event logs the history server does not show, or fetches them again.
        if let Some(entry) = self.lock().entries.get_mut(id) {
            entry.is_listed = false;
        }
    }

    /// Whether the history server has had the time to list an application, and has not.
    async fn is_over(&self, patience: &mut Patience) -> bool {
        if patience.counted.is_none_or(|counted| counted.elapsed() >= COUNT) {
            patience.counted = Some(Instant::now());
            if let Some(count) = self.history_server.count().await {
                patience.lists(count, Instant::now());
            }
        }
        patience.is_over(Instant::now())
    }

    /// Waits until the history server shows none of these attempts of an application. Of logs that `were_open` it keeps what it has
    /// parsed until it has missed them, and would show that for ever, so they are worth a longer wait.
    pub(super) async fn wait_until_gone(&self, id: &str, logs: &[Log], were_open: bool) {
        let begun = Instant::now();
        while begun.elapsed() < if were_open { NOTICED_IN_USE } else { NOTICED } {
            match self.history_server.listed(id).await {
                // One that does not run shows nothing, and its next start deletes what it has parsed.
                Listed::No | Listed::Down => return,
                Listed::Attempts(attempts) if !logs.iter().any(|log| attempts.contains(&log.attempt)) => return,
                // One that does not answer may be busy, and has not said that it has missed them.
                Listed::Attempts(_) | Listed::Unknown | Listed::Late => {}
            }
            sleep(POLL).await;
        }
    }
}

/// Whether the history server shows the attempts of all these logs.
fn has_all(listed: &Listed, logs: &[Log]) -> bool {
    matches!(listed, Listed::Attempts(attempts) if logs.iter().all(|log| attempts.contains(&log.attempt)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_server_that_gets_on_is_waited_for() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut patience = Patience::new(&[], begun);
        for (seconds, count) in [(10, 0), (25, 1), (44, 2), (60, 2)] {
            patience.lists(count, after(seconds));
            assert!(!patience.is_over(after(seconds)), "{seconds}");
        }
        // It lists nothing new since the 44th second.
        assert!(!patience.is_over(after(63)) && patience.is_over(after(64)));
        // It has restarted.
        patience.lists(0, after(65));
        assert!(!patience.is_over(after(84)) && patience.is_over(after(85)));
    }
}
