//! Answers that are kept for a while, and fetched once for all who ask for them at the same time.
//!
//! A request for an answer runs to its end, whoever hangs up: a client that asks and leaves again and again costs one
//! request, and not one each time.

use super::error::LogError;
use super::payer;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The value of a successful answer. [`Fresh`] keeps failures, too.
pub(super) trait Answer: Clone + Send + Sync + 'static {
    /// Whether this answer says the same as an earlier one, so that the trust in both can grow.
    fn confirms(&self, _earlier: &Self) -> bool {
        false
    }

    /// The memory that it takes, in units of a name.
    fn weight(&self) -> u64 {
        1
    }
}

/// An answer, and how old it is.
#[derive(Clone, Debug)]
pub(super) struct Known<T> {
    pub(super) value: Result<T, LogError>,
    at: Instant,
    since: Instant,
}

impl<T> Known<T> {
    /// For how long the answers have been the same when the last one came.
    pub(super) fn unchanged(&self) -> Duration {
        self.at.duration_since(self.since)
    }
}

/// Answers by question. Each entry is an answer, or a request under way.
pub(super) struct Fresh<K, T> {
    entries: Arc<Mutex<Cache<K, Entry<T>, ByWeight>>>,
}

struct Entry<T> {
    answer: watch::Receiver<Option<Known<T>>>,
    /// The cache needs one that does not change while the entry is in it.
    weight: u64,
}

#[derive(Clone)]
struct ByWeight;

impl<K, T> Weighter<K, Entry<T>> for ByWeight {
    fn weight(&self, _: &K, entry: &Entry<T>) -> u64 {
        entry.weight
    }
}

/// An answer that is there, or under way.
pub(super) struct Flight<T>(watch::Receiver<Option<Known<T>>>);

impl<T: Answer> Flight<T> {
    /// For a client that may not ask S3 now.
    fn refused(why: LogError) -> Self {
        let now = Instant::now();
        Self(watch::channel(Some(Known { value: Err(why), at: now, since: now })).1)
    }

    /// Waits for the answer.
    pub(super) async fn answer(mut self) -> Result<T, LogError> {
        let answered = self.0.wait_for(Option::is_some).await;
        // Without a sender, the request has died.
        answered.ok().and_then(|known| known.clone()).map_or_else(|| Err(LogError::died()), |known| known.value)
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Answer> Fresh<K, T> {
    /// `capacity` is the weight that the answers can have in all.
    pub(super) fn new(items: usize, capacity: u64) -> Self {
        Self { entries: Arc::new(Mutex::new(Cache::with_weighter(items, capacity, ByWeight))) }
    }

    /// The last answer to a question, however old.
    pub(super) fn known(&self, question: &K) -> Option<Known<T>> {
        lock(&self.entries).get(question)?.answer.borrow().clone()
    }

    /// The answer to a question, if it is trusted for longer than it is old; otherwise a request for it, shared by all who
    /// ask meanwhile. If the client may not ask S3 now, it alone gets that refusal, which is
    /// not kept. Returns at once.
    pub(super) fn ask<F>(
        &self,
        question: K,
        trust: impl Fn(&Known<T>) -> Duration,
        request: impl FnOnce() -> F,
    ) -> Flight<T>
    where
        F: Future<Output = Result<T, LogError>> + Send + 'static,
    {
        let mut entries = lock(&self.entries);
        let mut earlier = None;
        if let Some(entry) = entries.get(&question) {
            let known = entry.answer.borrow().clone();
            match known {
                Some(known) if known.at.elapsed() < trust(&known) => return Flight(entry.answer.clone()),
                Some(known) => earlier = Some(known),
                // Without a sender, the request has died.
                None if entry.answer.has_changed().is_ok() => return Flight(entry.answer.clone()),
                None => {}
            }
        }
        let admission = match payer::admit() {
            Ok(admission) => admission,
            Err(why) => return Flight::refused(why),
        };
        let (sender, answer) = watch::channel(None);
        entries.insert(question.clone(), Entry { answer: answer.clone(), weight: 1 });
        drop(entries);
        let (kept, request) = (self.entries.clone(), request());
        tokio::spawn(admission.run(async move {
            let value = request.await;
            let at = Instant::now();
            let is_confirmed =
                |earlier: &Known<T>| matches!((&value, &earlier.value), (Ok(new), Ok(old)) if new.confirms(old));
            let since = earlier.filter(is_confirmed).map_or(at, |earlier| earlier.since);
            let weight = value.as_ref().map_or(1, T::weight).max(1);
            sender.send_replace(Some(Known { value, at, since }));
            let answer = sender.subscribe();
            let mut kept = lock(&kept);
            if kept.peek(&question).is_some_and(|entry| entry.answer.same_channel(&answer)) {
                kept.insert(question, Entry { answer, weight });
            }
        }));
        Flight(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{Answer, Fresh, Known};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    impl Answer for usize {
        fn confirms(&self, earlier: &Self) -> bool {
            self == earlier
        }
        fn weight(&self) -> u64 {
            *self as u64
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn many_who_ask_at_once_share_one_request_also_if_they_leave() {
        run(async {
            let (fresh, asked) = (Fresh::<&str, usize>::new(16, 1 << 20), Arc::new(AtomicUsize::new(0)));
            let ask = || {
                let asked = asked.clone();
                fresh.ask(
                    "a",
                    |_: &Known<usize>| LONG,
                    || async move {
                        asked.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok(7)
                    },
                )
            };
            for _ in 0..100 {
                drop(ask());
            }
            let flights: Vec<_> = (0..100).map(|_| ask()).collect();
            for flight in flights {
                assert_eq!(flight.answer().await.unwrap(), 7);
            }
            assert_eq!(ask().answer().await.unwrap(), 7);
            assert_eq!(asked.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn an_old_answer_is_fetched_again_and_remembers_since_when_it_is_the_same() {
        run(async {
            let fresh = Fresh::<&str, usize>::new(16, 1 << 20);
            let ask = async |value: usize| {
                let answer = fresh.ask("a", |_| Duration::ZERO, || async move { Ok(value) }).answer().await;
                assert_eq!(answer.unwrap(), value);
                fresh.known(&"a").unwrap()
            };
            assert_eq!(ask(1).await.unchanged(), Duration::ZERO);
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(ask(1).await.unchanged() >= Duration::from_millis(30));
            assert_eq!(ask(2).await.unchanged(), Duration::ZERO, "another answer is new");
        });
    }

    #[test]
    fn a_request_that_dies_is_not_waited_for_and_made_again() {
        run(async {
            let fresh = Fresh::<&str, usize>::new(16, 1 << 20);
            let died = fresh.ask("a", |_| LONG, || async { panic!("as a test") });
            assert!(died.answer().await.is_err());
            assert_eq!(fresh.ask("a", |_| LONG, || async { Ok(3) }).answer().await.unwrap(), 3);
        });
    }

    #[test]
    fn large_answers_push_others_out() {
        run(async {
            let fresh = Fresh::<usize, usize>::new(16, 10_000);
            let asked = Arc::new(AtomicUsize::new(0));
            let ask = async |question: usize| {
                let asked = asked.clone();
                let request = || async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    Ok(4_000)
                };
                assert_eq!(fresh.ask(question, |_| LONG, request).answer().await.unwrap(), 4_000);
                tokio::task::yield_now().await;
            };
            for question in 0..50 {
                ask(question).await;
            }
            for question in 0..50 {
                ask(question).await;
            }
            assert!(asked.load(Ordering::Relaxed) > 90, "at most two of them fit");
        });
    }
}
