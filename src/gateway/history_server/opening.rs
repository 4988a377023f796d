//! Applications that the history server is opening. Before it sends the first page of an application, it reads the whole
//! event log, which can take minutes. The browser gets a page that says so meanwhile.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// After how long a browser is told that the history server is still opening an application.
const PATIENCE: Duration = Duration::from_secs(8);
/// How many seconds later its page asks again.
pub(in crate::gateway) const RELOAD: u32 = 2;

/// The applications that are being opened, by the path of their pages. The channel closes when an application is open.
#[derive(Clone, Default)]
pub(in crate::gateway) struct Openings(Arc<Mutex<HashMap<String, watch::Receiver<()>>>>);

impl Openings {
    /// The answer to a request for a page of an application; `None` if the history server is still opening it. Only the
    /// first such request reaches the history server before the application is open.
    pub(in crate::gateway) async fn page<T: Send + 'static>(
        &self,
        application: &str,
        answer: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let opening = self.lock().get(application).cloned();
        if let Some(mut opening) = opening {
            tokio::time::timeout(PATIENCE, opening.changed()).await.ok()?.err()?;
        }
        let mut task = tokio::spawn(answer);
        if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut task).await {
            return answer.ok();
        }
        let (is_open, opening) = watch::channel(());
        if self.lock().insert(application.into(), opening).is_some() {
            // Another request has become the one that is waited for.
            return None;
        }
        let (openings, application) = (self.clone(), application.to_string());
        tokio::spawn(async move {
            let _ = task.await;
            openings.lock().remove(&application);
            drop(is_open);
        });
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test(start_paused = true)]
    async fn a_slow_application_is_opened_once() {
        let openings = Openings::default();
        let slow = |seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            "open"
        };
        assert_eq!(openings.page("/history/a", slow(1)).await, Some("open"));
        assert_eq!(openings.page("/history/a", slow(60)).await, None);
        assert_eq!(openings.page("/history/a", async { panic!("asked again") }).await, None::<&str>);
        assert_eq!(openings.page("/history/b", slow(1)).await, Some("open"));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(openings.page("/history/a", slow(1)).await, Some("open"));
        assert!(openings.lock().is_empty());
    }
}
