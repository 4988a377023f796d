//! The history server's REST API: names and states of applications, the role of each container, and
//! the NodeManager's page of a log, for the gateway's pages (docs/emr.md §3.2, §5.5).

use super::proxy::HistoryServerProxy;
use crate::gateway::presign::encode_value;
use crate::gateway::route::{LogDirectory, LogRequest};
use crate::ids::Container;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode, header};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// How long a page waits for the REST API. A page also makes sense without the names from it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long the history server can take to take up an attempt that it has opened before.
const TAKE_UP: Duration = Duration::from_secs(30);
/// The largest answer that the gateway reads into memory, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// What the history server shows of an application.
pub(in crate::gateway) enum Listed {
    /// It answers with an error.
    Unknown,
    /// It does not answer in time.
    Late,
    /// Nothing takes the connection: it does not run.
    Down,
    No,
    /// Its attempts.
    Attempts(Vec<Option<String>>),
}

/// Why the history server gives no answer.
enum NoAnswer {
    Unreachable,
    Late,
}

#[derive(Default)]
pub(in crate::gateway) struct ApplicationInfo {
    pub(in crate::gateway) name: Option<String>,
    /// Whether the application is still running, according to its event log.
    pub(in crate::gateway) incomplete: bool,
    pub(in crate::gateway) ended: Option<SystemTime>,
    /// The role of each container, by its ID: `driver`, `executor 3`, …
    pub(in crate::gateway) roles: BTreeMap<String, String>,
    /// The NodeManager's page of the requested log. It exists while the container runs.
    pub(in crate::gateway) live_url: Option<String>,
}

impl HistoryServerProxy {
    /// The names of the first thousand applications that the history server lists, by application ID.
    pub(in crate::gateway) async fn application_names(&self) -> BTreeMap<String, String> {
        let applications = self.json("/api/v1/applications?limit=1000").await.unwrap_or_default();
        let name =
            |application: &Value| Some((application["id"].as_str()?.into(), application["name"].as_str()?.into()));
        array(&applications).iter().filter_map(name).collect()
    }

    /// How many applications the history server lists; `None` if it does not say. Only for one that reads an event-log cache, which
    /// has few.
    pub(in crate::gateway) async fn count(&self) -> Option<usize> {
        Some(self.json("/api/v1/applications").await?.as_array()?.len())
    }

    /// The name, the state and the executors of the application that a request names.
    pub(in crate::gateway) async fn application_info(&self, request: &LogRequest) -> ApplicationInfo {
        let (application, log) = match request {
            LogRequest::Log(LogDirectory::Container(container), file) => {
                (&container.application, Some((container, file.as_str())))
            }
            LogRequest::Files(LogDirectory::Container(container)) => (&container.application, None),
            LogRequest::Containers(application, _) => (application, None),
            _ => return ApplicationInfo::default(),
        };
        let path = format!("/api/v1/applications/{application}");
        let Some(answer) = self.json(&path).await else { return ApplicationInfo::default() };
        let attempts = array(&answer["attempts"]);
        let incomplete = attempts.iter().any(|attempt| attempt["completed"] == false);
        let end = attempts.iter().filter_map(|attempt| attempt["endTimeEpoch"].as_u64()).max();
        let mut info = ApplicationInfo {
            name: answer["name"].as_str().map(str::to_string),
            incomplete,
            ended: end.filter(|_| !incomplete).map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
            ..ApplicationInfo::default()
        };
        for attempt in attempts {
            let attempt = attempt["attemptId"].as_str().map(|id| format!("/{id}")).unwrap_or_default();
            let executors = self.json(&format!("{path}{attempt}/allexecutors")).await.unwrap_or_default();
            for executor in array(&executors) {
                info.add_executor(executor, log);
            }
        }
        info
    }

    /// What the history server shows of an application.
    pub(in crate::gateway) async fn listed(&self, id: &str) -> Listed {
        let path = format!("/api/v1/applications/{}", encode_value(id));
        let (status, answer) = match self.answer(&path).await {
            Ok(answer) => answer,
            Err(NoAnswer::Late) => return Listed::Late,
            Err(NoAnswer::Unreachable) => return Listed::Down,
        };
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Listed::No,
            _ => return Listed::Unknown,
        }
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let attempt = |attempt: &Value| attempt["attemptId"].as_str().map(str::to_string);
        Listed::Attempts(array(&answer["attempts"]).iter().map(attempt).collect())
    }

    /// Makes the history server take up what it has on its disk of an attempt. It deletes that of a log that goes only if it has it open.
    pub(in crate::gateway) async fn take_up(&self, id: &str, attempt: Option<&str>) {
        let attempt = attempt.map(|attempt| format!("/{}", encode_value(attempt))).unwrap_or_default();
        let path = format!("/api/v1/applications/{}{attempt}/jobs?status=failed", encode_value(id));
        let Ok(request) = Request::get(path).header(header::HOST, "localhost").body(()) else { return };
        let _ = tokio::time::timeout(TAKE_UP, self.send(request)).await;
    }

    /// The version of the history server's Spark.
    pub(in crate::gateway) async fn spark_version(&self) -> Option<String> {
        Some(self.json("/api/v1/version").await?["spark"].as_str()?.to_string())
    }

    /// An answer of the REST API; `None` if the history server does not give it in time.
    async fn json(&self, path: &str) -> Option<Value> {
        let (status, bytes) = self.answer(path).await.ok()?;
        (status == StatusCode::OK).then(|| serde_json::from_slice(&bytes).ok())?
    }

    /// The status and the body of an answer.
    async fn answer(&self, path: &str) -> Result<(StatusCode, Bytes), NoAnswer> {
        let request = Request::get(path).header(header::HOST, "localhost").body(());
        let request = request.map_err(|_| NoAnswer::Unreachable)?;
        let answer = tokio::time::timeout(TIMEOUT, self.send(request)).await.map_err(|_| NoAnswer::Late)?;
        let answer = answer.map_err(|_| NoAnswer::Unreachable)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER);
        let bytes = tokio::time::timeout(TIMEOUT, body.collect()).await.map_err(|_| NoAnswer::Late)?;
        Ok((status, bytes.map_err(|_| NoAnswer::Late)?.to_bytes()))
    }
}

impl ApplicationInfo {
    fn add_executor(&mut self, executor: &Value, log: Option<(&Container, &str)>) {
        let attribute = |name: &str| executor["attributes"][name].as_str();
        let (Some(id), Some(container_id)) = (executor["id"].as_str(), attribute("CONTAINER_ID")) else { return };
        let role = if id == "driver" { id.into() } else { format!("executor {id}") };
        self.roles.insert(container_id.into(), role);
        if let Some((container, file)) = log.filter(|(container, _)| container.id == container_id)
            && let (Some(node), Some(user)) = (attribute("NM_HTTP_ADDRESS"), attribute("USER"))
        {
            let (user, file) = (encode_value(user), encode_value(file.trim_end_matches(".gz")));
            // NodeManagers can have TLS.
            let scheme = attribute("HTTP_SCHEME").filter(|scheme| *scheme == "https://").unwrap_or("http://");
            self.live_url =
                Some(format!("{scheme}{node}/node/containerlogs/{}/{user}/{file}/?start=-4096", container.id));
        }
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_live_page_has_the_scheme_of_the_node_manager() {
        let container = Container::parse("container_1795352263709_0001_01_000002").unwrap();
        let live_url = |scheme: Option<&str>, id: &str| {
            let mut info = ApplicationInfo::default();
            let mut executor = json!({"id": "1", "attributes": {
                "CONTAINER_ID": id, "NM_HTTP_ADDRESS": "ip-10-0-0-7.ec2.internal:8044", "USER": "ha doop",
            }});
            if let Some(scheme) = scheme {
                executor["attributes"]["HTTP_SCHEME"] = scheme.into();
            }
            info.add_executor(&executor, Some((&container, "stderr.gz")));
            assert_eq!(info.roles[id], "executor 1");
            info.live_url
        };
        let rest =
            format!("ip-10-0-0-7.ec2.internal:8044/node/containerlogs/{}/ha%20doop/stderr/?start=-4096", container.id);
        for (scheme, wanted) in [
            (Some("https://"), "https://"),
            (Some("http://"), "http://"),
            (None, "http://"),
            // Whoever writes event logs must not choose what a click does.
            (Some("javascript:"), "http://"),
            (Some(""), "http://"),
        ] {
            assert_eq!(live_url(scheme, &container.id), Some(format!("{wanted}{rest}")), "{scheme:?}");
        }
        assert_eq!(live_url(Some("https://"), "container_1795352263709_0001_01_000003"), None, "of another container");
    }
}
