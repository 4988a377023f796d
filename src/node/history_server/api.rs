//! Requests to the history server: its pages and its REST API.

use super::HistoryServer;
use crate::http::local_client;
use crate::ids::Attempt;
use serde::Serialize;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// A starting server may accept a connection and not answer. After this time the request fails, and emr-shs
/// sends another one.
const TIMEOUT: Duration = Duration::from_secs(2);
const API_TIMEOUT: Duration = Duration::from_secs(4);
/// The list of thousands of applications is megabytes long.
const LARGEST_ANSWER: u64 = 256 << 20;

/// What a history server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Spark's version.
    pub version: String,
    /// The event log directory that its front page names.
    pub reads: Option<String>,
}

pub(super) enum Reply {
    Answer(Answer),
    /// 401 or 403: a servlet filter asks for a login.
    LoginRequired,
    Nothing,
}

impl HistoryServer {
    /// The attempts that the server lists; `None` if it does not answer in time.
    pub fn list(&self) -> Option<Vec<Attempt>> {
        self.answer.as_ref()?;
        let list = self.api("applications", API_TIMEOUT)?;
        Some(list.as_array()?.iter().filter_map(attempts).flatten().collect())
    }

    /// The names of the attributes that an executor of the attempt has in the event log. The server
    /// opens the event log to answer. `None` if there is no executor, or no answer in time.
    pub fn attributes(&self, attempt: &Attempt) -> Option<Vec<String>> {
        let executors = self.api(&format!("applications/{}/allexecutors", attempt.api_path()), API_TIMEOUT)?;
        let executor = executors.as_array()?.iter().find(|e| e.get("id").is_some_and(|id| id != "driver"))?;
        Some(executor.get("attributes")?.as_object()?.keys().cloned().collect())
    }

    /// An answer of the REST API; `None` if it does not come in time or is not JSON.
    pub fn api(&self, path: &str, timeout: Duration) -> Option<Value> {
        let url = format!("{}/api/v1/{path}", base_url(self.address(self.port)?, self.https));
        let mut answer = local_client(timeout).get(&url).call().ok().filter(|answer| answer.status() == 200)?;
        let text = answer.body_mut().with_config().limit(LARGEST_ANSWER).read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }
}

fn attempts(application: &Value) -> Option<impl Iterator<Item = Attempt>> {
    let id = application.get("id")?.as_str()?.to_string();
    let attempts = application.get("attempts")?.as_array()?.clone();
    let number = |attempt: &Value| Some(attempt.get("attemptId")?.as_str()?.to_string());
    Some(attempts.into_iter().map(move |a| Attempt { application: id.clone(), attempt: number(&a) }))
}

pub(super) fn base_url(at: SocketAddr, https: bool) -> String {
    format!("{}://{at}", if https { "https" } else { "http" })
}

pub(super) fn ask(at: SocketAddr, https: bool) -> Reply {
    let base = base_url(at, https);
    let agent = local_client(TIMEOUT);
    let get = |path: &str| {
        let mut answer = agent.get(format!("{base}{path}")).call().ok()?;
        Some((answer.status().as_u16(), answer.body_mut().read_to_string().ok()?))
    };
    let version = match get("/api/v1/version") {
        Some((200, json)) => serde_json::from_str::<Value>(&json).ok(),
        Some((401 | 403, _)) => return Reply::LoginRequired,
        _ => None,
    };
    let Some(version) = version.as_ref().and_then(|v| v.get("spark")?.as_str()) else { return Reply::Nothing };
    let reads = get("/").and_then(|(_, page)| directory_on_page(&page));
    Reply::Answer(Answer { version: version.into(), reads })
}

/// `<strong>Event log directory:</strong> s3://…` on the front page.
fn directory_on_page(html: &str) -> Option<String> {
    let after = html.split_once("Event log directory:")?.1;
    let text = after.trim_start().strip_prefix("</strong>").unwrap_or(after);
    let text = text.split('<').next()?.trim();
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}
