//! What the history server's REST API knows of applications, for the pages: their names, whether they
//! still run, what runs in which container, and where its NodeManager is (facts §11).

use super::proxy::HistoryServerProxy;
use crate::gateway::presign::encode_value;
use crate::gateway::route::{LogDirectory, LogRequest};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// What the history server knows of an application.
#[derive(Default)]
pub struct ApplicationInfo {
    /// Its name.
    pub name: Option<String>,
    /// Whether it still runs, as far as its event log tells.
    pub incomplete: bool,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// What runs in which container: `driver`, `executor 3`, …
    pub roles: BTreeMap<String, String>,
    /// Where its NodeManager shows the log that is asked for, while the container lives.
    pub live: Option<String>,
}

impl HistoryServerProxy {
    /// The names of the applications that the history server lists.
    pub async fn names_of_applications(&self) -> BTreeMap<String, String> {
        let listed = self.json("/api/v1/applications?limit=1000").await;
        let listed = listed.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        listed.iter().filter_map(|a| Some((a["id"].as_str()?.into(), a["name"].as_str()?.into()))).collect()
    }

    /// What the history server knows of the application that is asked for.
    pub async fn info_of(&self, ask: &LogRequest) -> ApplicationInfo {
        let (application, log) = match ask {
            LogRequest::Log(LogDirectory::Container(container), file) => {
                (&container.application, Some((container, file)))
            }
            LogRequest::Files(LogDirectory::Container(container)) => (&container.application, None),
            LogRequest::Containers(application, _) => (application, None),
            _ => return ApplicationInfo::default(),
        };
        let path = format!("/api/v1/applications/{application}");
        let Some(found) = self.json(&path).await else { return ApplicationInfo::default() };
        let mut run =
            ApplicationInfo { name: found["name"].as_str().map(str::to_string), ..ApplicationInfo::default() };
        let attempts = found["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
        run.incomplete = attempts.iter().any(|a| a["completed"] == false);
        let end = attempts.iter().filter_map(|a| a["endTimeEpoch"].as_u64()).max().filter(|_| !run.incomplete);
        run.ended = end.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        for attempt in attempts {
            let of = attempt["attemptId"].as_str().map(|id| format!("/{id}")).unwrap_or_default();
            let listed = self.json(&format!("{path}{of}/allexecutors")).await;
            for executor in listed.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
                let attribute = |name: &str| executor["attributes"][name].as_str();
                let (Some(id), Some(container)) = (executor["id"].as_str(), attribute("CONTAINER_ID")) else {
                    continue;
                };
                let role = if id == "driver" { id.into() } else { format!("executor {id}") };
                run.roles.insert(container.into(), role);
                if let Some((asked, file)) = log.filter(|(asked, _)| asked.id == container)
                    && let (Some(node), Some(user)) = (attribute("NM_HTTP_ADDRESS"), attribute("USER"))
                {
                    let (user, file) = (encode_value(user), encode_value(file.trim_end_matches(".gz")));
                    run.live =
                        Some(format!("http://{node}/node/containerlogs/{}/{user}/{file}/?start=-4096", asked.id));
                }
            }
        }
        run
    }
}
