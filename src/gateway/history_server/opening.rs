//! Applications that the history server is opening. Before it sends the first page of an application, it reads the whole
//! event log, which can take minutes. The browser gets a page that says so meanwhile.

use crate::gateway::limits::{MAX_OPENINGS, MAX_OPENINGS_OF_CLIENT};
use crate::gateway::shares::{Client, Share, Shares};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// After how long a browser is told that the history server is still opening an application.
const PATIENCE: Duration = Duration::from_secs(8);
/// How many seconds later its page asks again.
pub(in crate::gateway) const RELOAD: u32 = 2;
/// For how long nobody asks for an application before the gateway no longer waits for it. A browser reloads a page that nobody
/// looks at only once a minute.
const ABANDONED: Duration = Duration::from_secs(75);

/// The applications that are being opened, by the path of their pages.
#[derive(Clone)]
pub(in crate::gateway) struct Openings {
    by_path: Arc<Mutex<HashMap<String, Opening>>>,
    shares: Shares,
}

struct Opening {
    /// Closes when the application is open, or when the gateway no longer waits for it.
    ends: watch::Receiver<()>,
    asked: Instant,
}

impl Default for Openings {
    fn default() -> Self {
        Self { by_path: Arc::default(), shares: Shares::new(MAX_OPENINGS, MAX_OPENINGS_OF_CLIENT) }
    }
}

impl Openings {
    /// The answer to a request for a page of an application; `None` if the history server is still opening it. Only the
    /// first such request reaches the history server before the application is open, except where too many are being opened:
    /// then the gateway forgets the request, and asks again when the page reloads. The history server goes on meanwhile.
    pub(in crate::gateway) async fn page<T: Send + 'static>(
        &self,
        client: Client,
        application: &str,
        answer: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let opening = self.lock().get_mut(application).map(|opening| {
            opening.asked = Instant::now();
            opening.ends.clone()
        });
        if let Some(mut ends) = opening {
            timeout(PATIENCE, ends.changed()).await.ok()?.err()?;
        }
        // Whoever drops a set of tasks ends them.
        let mut task = JoinSet::new();
        task.spawn(answer);
        if let Ok(answer) = timeout(PATIENCE, task.join_next()).await {
            return answer?.ok();
        }
        let share = self.shares.take_if_free(client)?;
        let (opens, ends) = watch::channel(());
        {
            let mut by_path = self.lock();
            if by_path.contains_key(application) {
                // Another request has become the one that is waited for.
                return None;
            }
            by_path.insert(application.into(), Opening { ends, asked: Instant::now() });
        }
        let (openings, application) = (self.clone(), application.to_string());
        tokio::spawn(async move { openings.wait(task, &application, share, opens).await });
        None
    }

    /// The same for a program, which cannot reload a page that says so: it waits. It waits longer than a browser only where an
    /// application that a browser asks for would be waited for, because the gateway cannot see whether the program is still there.
    /// `None` if it must come back.
    pub(in crate::gateway) async fn answer<T>(&self, client: Client, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        if let Ok(answer) = timeout(PATIENCE, &mut answer).await {
            return Some(answer);
        }
        let _share = self.shares.take(client)?;
        Some(answer.await)
    }

    /// How many programs had to come back.
    pub(in crate::gateway) fn refused(&self) -> u64 {
        self.shares.refused()
    }

    /// How many of the places that are kept for root are taken.
    pub(in crate::gateway) fn kept(&self) -> usize {
        self.shares.kept()
    }

    /// Waits until an application is open, as long as somebody asks for it.
    async fn wait<T: Send + 'static>(
        &self,
        mut task: JoinSet<T>,
        application: &str,
        _share: Share,
        _opens: watch::Sender<()>,
    ) {
        loop {
            let asked = self.lock().get(application).map(|opening| opening.asked);
            let Some(asked) = asked else { break };
            tokio::select! {
                _ = task.join_next() => break,
                () = sleep_until(asked + ABANDONED) => {
                    let is_abandoned = |opening: &Opening| opening.asked.elapsed() >= ABANDONED;
                    if self.lock().get(application).is_none_or(is_abandoned) {
                        break;
                    }
                }
            }
        }
        self.lock().remove(application);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Opening>> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of an application's pages, without the page's own name.
pub(in crate::gateway) fn application(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/history/")?;
    let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let attempt = rest.split('/').next().filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let length = "/history/".len() + id.len() + attempt.map_or(0, |attempt| 1 + attempt.len());
    (!id.is_empty()).then(|| &path[..length])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_an_attempt_belong_together() {
        assert_eq!(application("/history/application_1_0001/1/jobs/"), Some("/history/application_1_0001/1"));
        assert_eq!(application("/history/application_1_0001/jobs/"), Some("/history/application_1_0001"));
        assert_eq!(application("/history/local-1"), Some("/history/local-1"));
        assert_eq!(application("/history/"), None);
        assert_eq!(application("/static/x"), None);
    }

    fn client(last: u8) -> Client {
        Client { address: [10, 0, 0, last].into(), is_own: last == 1, account: None }
    }

    async fn slow(seconds: u64) -> &'static str {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        "open"
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_application_is_opened_once() {
        let openings = Openings::default();
        assert_eq!(openings.page(client(1), "/history/a", slow(1)).await, Some("open"));
        assert_eq!(openings.page(client(1), "/history/a", slow(60)).await, None);
        assert_eq!(openings.page(client(2), "/history/a", async { panic!("asked again") }).await, None::<&str>);
        assert_eq!(openings.page(client(1), "/history/b", slow(1)).await, Some("open"));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(openings.page(client(1), "/history/a", slow(1)).await, Some("open"));
        assert!(openings.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn programs_wait_for_a_few_applications() {
        let openings = Openings::default();
        let mut asked = JoinSet::new();
        for n in 0..40 {
            let openings = openings.clone();
            asked.spawn(async move { openings.answer(client(2), slow(if n < 20 { 60 } else { 1 })).await });
        }
        let answers = asked.join_all().await;
        assert_eq!(answers.into_iter().flatten().count(), 20 + MAX_OPENINGS_OF_CLIENT);
        assert_eq!((openings.shares.used(), openings.refused()), (0, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_is_opened_for_an_hour_as_long_as_somebody_asks() {
        let openings = Openings::default();
        let used = Arc::new(());
        let hour = |used: Arc<()>| async move {
            let _used = used;
            slow(3600).await
        };
        assert_eq!(openings.page(client(1), "/history/a", hour(used.clone())).await, None);
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(openings.page(client(1), "/history/a", async { panic!("asked again") }).await, None::<&str>);
        }
        assert_eq!(Arc::strong_count(&used), 2);
        tokio::time::sleep(ABANDONED + Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&used), 1, "nobody asks any more");
        assert!(openings.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn many_applications_that_do_not_open_keep_little() {
        let openings = Openings::default();
        let used = Arc::new(());
        let hour = || {
            let used = used.clone();
            async move {
                let _used = used;
                slow(3600).await
            }
        };
        for (last, applications) in [(2, 0..300), (1, 300..600)] {
            let mut asked = JoinSet::new();
            for n in applications {
                let (openings, hour) = (openings.clone(), hour());
                asked.spawn(async move { openings.page(client(last), &format!("/history/{n}"), hour).await });
            }
            while let Some(answer) = asked.join_next().await {
                assert_eq!(answer.unwrap(), None);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let kept = |applications: std::ops::Range<u32>| {
            let by_path = openings.lock();
            applications.filter(|n| by_path.contains_key(&format!("/history/{n}"))).count()
        };
        assert_eq!((kept(0..300), kept(0..600)), (MAX_OPENINGS_OF_CLIENT, MAX_OPENINGS));
        assert_eq!(Arc::strong_count(&used), 1 + MAX_OPENINGS);
        tokio::time::sleep(ABANDONED + Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&used), 1);
        // Two at once for the same application leave one.
        let page = || openings.page(client(3), "/history/x", hour());
        assert_eq!(tokio::join!(page(), page()), (None, None));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&used), 2);
        tokio::time::sleep(ABANDONED + Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&used), 1);
        assert!(openings.lock().is_empty());
    }
}
