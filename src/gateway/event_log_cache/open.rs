//! The requests for an application that wait until it is in the cache: however many wait, one flight brings it, and all of them see
//! how far it is.

use super::failure::{Failure, Stage};
use super::fetch::Stopped;
use super::flight::{ABANDONED, Flight, Outcome};
use super::{EventLogCache, Use};
use crate::gateway::archive::admit;
use crate::gateway::shares::{Client, Share};
use crate::shown::visible_line;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long a failure is told without another try, so that the page that reloads shows it.
const FAILURE_FRESH: Duration = Duration::from_secs(5);

/// What a request for an application comes to.
pub(super) enum Opened {
    Ready(Use),
    /// The index does not know it.
    Unknown,
    /// Not yet: how far it is.
    Waiting(Stage),
    Failed(Arc<Failure>),
    /// Too many wait.
    Busy,
}

impl EventLogCache {
    /// Waits until the history server shows the newest state of an application, `patience` at most.
    pub(super) async fn open(self: &Arc<Self>, client: Client, id: &str, patience: Duration) -> Opened {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(used) = self.ready(client, id) {
                return Opened::Ready(used);
            }
            let mut flight = match self.join(client, id) {
                Ok(flight) => flight,
                Err(refused) => return refused,
            };
            let outcome = loop {
                flight.lock().asked = Instant::now();
                let left = deadline.saturating_duration_since(Instant::now());
                let outcome = flight.outcome.wait_for(Option::is_some);
                let outcome = timeout(left.min(ABANDONED / 4), outcome).await.map(|seen| seen.map(|seen| seen.clone()));
                match outcome {
                    Ok(Ok(outcome)) => break outcome,
                    // Nobody seemed to wait for it.
                    Ok(Err(_)) => break None,
                    Err(_) if Instant::now() >= deadline => return Opened::Waiting(flight.lock().stage()),
                    Err(_) => {}
                }
            };
            match outcome {
                Some(Outcome::Ready) => {
                    let mut state = self.lock();
                    if state.entries.contains_key(id) {
                        return Opened::Ready(self.begin_use(&mut state, client, id, Instant::now()));
                    }
                }
                Some(Outcome::Unknown) => return Opened::Unknown,
                Some(Outcome::Failed(failure)) => return Opened::Failed(failure),
                None => {}
            }
            if Instant::now() >= deadline {
                return Opened::Waiting(Stage::Looking);
            }
        }
    }

    /// The flight for an application: there is one, whoever asks. An error is the answer to a client that may not begin it.
    fn join(self: &Arc<Self>, client: Client, id: &str) -> Result<Flight, Opened> {
        let mut state = self.lock();
        if let Some(flight) = state.flights.get(id) {
            return Ok(flight.clone());
        }
        let share = self.fetches.take(client).ok_or(Opened::Busy)?;
        let not_admitted =
            |error| Opened::Failed(Arc::new(Failure::S3 { uri: format!("the event logs of {id}"), error }));
        let admission = admit().map_err(not_admitted)?;
        let (sends, outcome) = watch::channel(None);
        let flight = Flight::new(outcome);
        state.flights.insert(id.into(), flight.clone());
        let (cache, id, taken) = (self.clone(), id.to_string(), flight.clone());
        tokio::spawn(async move {
            let has_failed = admission.run(cache.fly(client, &id, &taken, &sends, share)).await;
            if has_failed {
                sleep(FAILURE_FRESH).await;
                cache.lock().flights.remove(&id);
            }
        });
        Ok(flight)
    }

    /// Brings an application, and returns whether that has failed.
    async fn fly(
        self: &Arc<Self>,
        client: Client,
        id: &str,
        flight: &Flight,
        sends: &watch::Sender<Option<Outcome>>,
        share: Share,
    ) -> bool {
        let outcome = match self.look_and_fetch(client, id, flight).await {
            Ok(outcome) => Some(outcome),
            Err(Stopped::Abandoned) => None,
            Err(Stopped::Failed(failure)) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                eprintln!("event log of {}: {}", visible_line(id), visible_line(&failure.in_a_line()));
                Some(Outcome::Failed(Arc::new(failure)))
            }
        };
        drop(share);
        let has_failed = matches!(outcome, Some(Outcome::Failed(_)));
        if !has_failed {
            self.lock().flights.remove(id);
        }
        if outcome.is_some() {
            sends.send_replace(outcome);
        }
        has_failed
    }
}
