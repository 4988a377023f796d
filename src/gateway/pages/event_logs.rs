//! The pages about event logs on their way into the cache.

use super::errors::{archived, no_credentials, over_budget};
use super::format::size;
use super::{Message, busy};
use crate::gateway::archive::LogError;
use crate::gateway::event_log_cache::failure::{Failure, Stage};
use crate::gateway::history_server::opening::RELOAD;
use crate::gateway::http::Body;
use crate::gateway::metrics::RequestOutcome;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

/// The answer while an application is on its way. A browser's page asks again by itself.
pub(in crate::gateway) fn event_log_on_its_way(id: &str, stage: Stage, reloads: bool) -> Response<Body> {
    let (title, text) = match stage {
        Stage::Looking => (format!("The gateway asks S3 for the event log of {id}"), String::new()),
        Stage::Waiting => (
            format!("{id} waits for room in the event-log cache"),
            "Either the cache is full of applications that people use, or the gateway is fetching as many event logs as it may at once. If the cache is full, the application that nobody has opened for the longest time makes room. More room: sudo emr-shs proxy install, with --cache-size or --cache-count."
                .into(),
        ),
        Stage::Fetching { done, all } => (
            format!("The gateway fetches the event log of {id} from S3"),
            format!("{} of {} are here.", size(done), size(all)),
        ),
        Stage::Listing => (
            format!("The history server takes {id} into its list"),
            "Its event log is here. The history server looks for new event logs every second.".into(),
        ),
    };
    let message = Message::new(StatusCode::SERVICE_UNAVAILABLE, title);
    let message = if text.is_empty() { message } else { message.text(text) };
    let mut message = match reloads {
        true => message.text("This page reloads by itself."),
        false => message.text("Ask again."),
    };
    message.layout.reload_after = reloads.then_some(RELOAD);
    message.response()
}

/// The answer where an application does not come into the cache.
pub(in crate::gateway) fn event_log_failure(id: &str, failure: &Failure) -> (Response<Body>, RequestOutcome) {
    let title = format!("The gateway cannot open {id}");
    let message = match failure {
        Failure::S3 { uri, error } => return s3(id, uri, error),
        Failure::Index(why) => Message::new(StatusCode::INTERNAL_SERVER_ERROR, title)
            .text("It cannot read its index, which tells where event logs lie.")
            .small(why),
        Failure::Name { name, why } => Message::new(StatusCode::UNPROCESSABLE_ENTITY, title)
            .text(format!("The event log has a name that no file in the event-log cache can have: {why}. The history server shows it under another name: copy the object in S3."))
            .code(format!("{name:?}")),
        Failure::Changing { uri } => Message::new(StatusCode::SERVICE_UNAVAILABLE, title)
            .text("Its event log in S3 changes faster than the gateway can fetch it. Try again.")
            .code(uri),
        Failure::TooLarge { bytes, limit } => Message::new(StatusCode::INSUFFICIENT_STORAGE, title)
            .text(format!(
                "Its event logs have {}, and the event-log cache may have {}. Give the cache more room: sudo emr-shs proxy install --cache-size, with a larger size.",
                size(*bytes),
                size(*limit)
            )),
        Failure::NoDisk { bytes, free, kept } => Message::new(StatusCode::INSUFFICIENT_STORAGE, title)
            .text(format!(
                "Its event logs have {}. The disk of the event-log cache has room for {}; {} more must stay free for HDFS and YARN. Delete other files on that disk.",
                size(*bytes),
                size(*free),
                size(*kept)
            ))
            .code("df -h"),
        Failure::Directory(why) => Message::new(StatusCode::INTERNAL_SERVER_ERROR, title)
            .text("It cannot write the event-log cache.")
            .small(why),
        Failure::Rolling { spark } => Message::new(StatusCode::NOT_IMPLEMENTED, title)
            .text(format!("Its event log is a rolling one, a directory. The history server of this node has Spark {spark}, and Spark reads such event logs from version 3.0 on. Open it on a cluster with a newer EMR release.")),
        Failure::NotListed { names } => Message::new(StatusCode::BAD_GATEWAY, format!("The history server does not show {id}"))
            .text("Its event log is in the history server's directory, and the history server has not taken it into its list within 20 s. Its log says why:")
            .code("sudo journalctl -u spark-history-server -n 100; sudo tail -n 100 /var/log/spark/spark-history-server.out")
            .small(names.join(", ")),
    };
    (message.response(), RequestOutcome::EventLog)
}

fn s3(id: &str, uri: &str, error: &LogError) -> (Response<Body>, RequestOutcome) {
    let subject = format!("the event log of {id}");
    let message = match error {
        LogError::Denied { permission, answer, .. } => {
            let message = Message::new(StatusCode::FORBIDDEN, format!("S3 denies access to {subject}"))
                .text(format!("The gateway's role needs {permission} here. Unless you configured other credentials, this role is the cluster's instance profile."))
                .code(uri)
                .small(format!("S3 answered {answer}"));
            return (message.response(), RequestOutcome::Refused);
        }
        LogError::Archived { class, location } => {
            let bucket = uri.strip_prefix("s3://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
            return (archived(&subject, class, bucket, &location.key).response(), RequestOutcome::Refused);
        }
        LogError::OverBudget { retry_after } => return (over_budget(*retry_after), RequestOutcome::Unavailable),
        LogError::Overloaded => return (busy().response(), RequestOutcome::Busy),
        LogError::NoCredentials(why) => no_credentials(why),
        other => Message::new(StatusCode::BAD_GATEWAY, format!("The gateway cannot get {subject} from S3"))
            .text(format!("{}. Try again. If the error stays, type on the node:", other.in_a_line()))
            .code("sudo emr-shs doctor")
            .small(uri),
    };
    let mut response = message.response();
    if response.status() == StatusCode::BAD_GATEWAY {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(10));
    }
    (response, RequestOutcome::Unavailable)
}
