//! A request for a page or an answer of one application: it opens the application before it goes on to the history server.

use super::open::Opened;
use super::{EventLogCache, Use};
use crate::gateway::http::Body;
use crate::gateway::limits::EVENT_LOG_TIMEOUT;
use crate::gateway::metrics::RequestOutcome;
use crate::gateway::pages;
use crate::gateway::shares::{Client, Shares};
use crate::index::LONGEST;
use hyper::Response;
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use std::time::Duration;

/// After how long a browser is told that an application is being fetched. A small one is open by then, the history server's two looks at
/// its directory included.
const PATIENCE: Duration = Duration::from_secs(4);

const PAGES: &str = "/history/";
const API: &str = "/api/v1/applications/";

impl EventLogCache {
    /// Opens the application that a path of the history server names. What it gives is held until the history server has answered;
    /// an error is the answer.
    pub(in crate::gateway) async fn before(
        self: &Arc<Self>,
        client: Client,
        path: &str,
        is_browser: bool,
        waiting: &Shares,
    ) -> Result<Option<Use>, Box<(Response<Body>, RequestOutcome)>> {
        let Some(id) = application_id(path) else { return Ok(None) };
        if let Some(used) = self.ready(client, &id) {
            return Ok(Some(used));
        }
        let Some(_share) = waiting.take(client) else {
            return Err(Box::new((pages::busy().response(), RequestOutcome::Busy)));
        };
        let shows_pages = is_browser && path.starts_with(PAGES);
        let patience = if shows_pages { PATIENCE } else { EVENT_LOG_TIMEOUT };
        match self.open(client, &id, patience).await {
            Opened::Ready(used) => Ok(Some(used)),
            Opened::Unknown => Ok(None),
            Opened::Waiting(stage) => {
                Err(Box::new((pages::event_log_on_its_way(&id, stage, shows_pages), RequestOutcome::EventLog)))
            }
            Opened::Failed(failure) => {
                let (page, outcome) = pages::event_log_failure(&id, &failure);
                Err(Box::new((page, outcome)))
            }
            Opened::Busy => Err(Box::new((pages::busy().response(), RequestOutcome::Busy))),
        }
    }
}

/// The id in `/history/<id>…` and in `/api/v1/applications/<id>/…`, if the index can know it. The index answers
/// `/api/v1/applications/<id>` itself.
fn application_id(path: &str) -> Option<String> {
    let rest = match path.strip_prefix(API) {
        Some(rest) => rest.split_once('/').filter(|(_, rest)| !rest.is_empty()).map(|(id, _)| id)?,
        None => path.strip_prefix(PAGES)?.split('/').next()?,
    };
    // Behind a semicolon stand parameters, which the history server leaves out.
    let id = percent_decode_str(rest.split(';').next()?).decode_utf8().ok()?;
    (1..=LONGEST).contains(&id.len()).then(|| id.into_owned())
}

/// The name behind the id. It is the number of an attempt, or that of a page or of an answer.
pub(super) fn second_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix(API).or_else(|| path.strip_prefix(PAGES))?.split('/').nth(1)?;
    name.split(';').next()
}

#[cfg(test)]
mod tests {
    use super::{application_id, second_name};

    #[test]
    fn the_paths_of_an_application_open_it() {
        for (path, id) in [
            ("/history/application_1_0001", Some("application_1_0001")),
            ("/history/application_1_0001/1/jobs/", Some("application_1_0001")),
            ("/history/local%2D1/", Some("local-1")),
            ("/history/application_1_0001;jsessionid=1/1/jobs/", Some("application_1_0001")),
            ("/api/v1/applications/application_1_0001/jobs", Some("application_1_0001")),
            ("/api/v1/applications/application_1_0001/1", Some("application_1_0001")),
            ("/api/v1/applications/application_1_0001/logs", Some("application_1_0001")),
            ("/api/v1/applications/application_1_0001", None),
            ("/api/v1/applications/application_1_0001/", None),
            ("/api/v1/applications", None),
            ("/history/", None),
            ("/static/x", None),
            ("/history//application_1_0001", None),
            ("/history/%ff/", None),
            ("/history/a%2fb/", Some("a/b")),
            ("/history/a%3bb;c/", Some("a;b")),
            ("/history/;a/", None),
        ] {
            assert_eq!(application_id(path).as_deref(), id, "{path}");
        }
        // No id of the index is longer.
        let of_length = |length| application_id(&format!("/history/{}/", "a".repeat(length))).is_some();
        assert!(of_length(4096) && !of_length(4097));
        assert_eq!(second_name("/history/application_1_0001/1/jobs/"), Some("1"));
        assert_eq!(second_name("/api/v1/applications/application_1_0001/2;a=b/executors"), Some("2"));
        assert_eq!(second_name("/history/application_1_0001"), None);
    }
}
