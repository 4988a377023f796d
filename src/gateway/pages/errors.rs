//! The page for each reason why the gateway cannot deliver a log or a listing.

use super::parts::{Absence, FileRow};
use super::{Layout, Message, respond};
use crate::gateway::archive::{Archive, Location, LogError, Object, S3_TIMEOUT, Unanswered};
use crate::gateway::history_server::api::ApplicationInfo;
use crate::gateway::http::Body;
use crate::gateway::route::{LogDirectory, LogRequest};
use crate::gateway::served::{Refused, Served};
use askama::Template;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use std::time::Duration;

pub(in crate::gateway) fn log_error(
    error: &LogError,
    request: &LogRequest,
    archive: &Archive,
    application: &ApplicationInfo,
) -> Response<Body> {
    let subject = subject(request);
    let bucket = |location: &Location| archive.buckets[location.bucket].uri.bucket.as_str();
    let s3_url = |location: &Location| format!("s3://{}/{}", bucket(location), location.key);
    let mut message = match error {
        LogError::Missing { location, others } => {
            let place = s3_url(location);
            return missing(&subject, request, place, others.as_deref(), application, &archive.served);
        }
        LogError::Denied { location, permission, answer } => denied(&subject, permission, &s3_url(location), answer),
        LogError::Archived { location, class } => archived(&subject, class, bucket(location), &location.key),
        LogError::Incomplete(unanswered) => incomplete(&subject, unanswered),
        LogError::OverBudget { retry_after } => return over_budget(*retry_after),
        LogError::Searching => searching(&subject),
        LogError::Overloaded => super::busy(),
        LogError::NoCredentials(reason) => no_credentials(reason),
        LogError::Unasked => unreachable(&subject, &error.in_a_line()),
        LogError::Unreachable(reason) => unreachable(&subject, reason),
    };
    message.layout.parent = match error {
        LogError::NoCredentials(_) | LogError::Unreachable(_) | LogError::Incomplete(_) => None,
        _ => parent(request),
    };
    message.response()
}

/// Names the log or listing in titles.
fn subject(request: &LogRequest) -> String {
    match request {
        LogRequest::Log(LogDirectory::Container(container), file) => format!("{file} of {}", container.id),
        LogRequest::Log(LogDirectory::Directory(path), file) => format!("{file} in {path}"),
        LogRequest::Files(LogDirectory::Container(container)) => container.id.clone(),
        LogRequest::Files(LogDirectory::Directory(path)) => path.clone(),
        LogRequest::Containers(application, _) => application.to_string(),
        LogRequest::Applications(_) => "the list of applications".into(),
    }
}

fn parent(request: &LogRequest) -> Option<String> {
    match request {
        LogRequest::Log(LogDirectory::Container(container), _)
        | LogRequest::Files(LogDirectory::Container(container)) => Some(container.application.to_string()),
        _ => None,
    }
}

#[derive(Template)]
#[template(path = "missing.html")]
struct Missing<'a> {
    layout: Layout,
    absence: Absence<'a>,
    /// The other logs in the same directory.
    files: Vec<FileRow<'a>>,
    directory_is_empty: bool,
    location: String,
}

/// `others` are the objects in the log's directory; `None` if the gateway cannot list them.
fn missing(
    subject: &str,
    request: &LogRequest,
    location: String,
    others: Option<&[Object]>,
    application: &ApplicationInfo,
    served: &Served,
) -> Response<Body> {
    let absence = Absence::of(application);
    let title = match absence {
        Absence::EndedLongAgo { .. } => format!("{subject} is not in S3"),
        _ => format!("{subject} is not in S3 yet"),
    };
    let (files, hidden) = match (request, others) {
        (LogRequest::Log(directory, _), Some(others)) => FileRow::of_directory(directory, others, served),
        _ => (Vec::new(), 0),
    };
    let page = Missing {
        layout: Layout::new(title).below(parent(request)).without_files(hidden, served).within_clusters(served),
        absence,
        directory_is_empty: matches!(request, LogRequest::Log(..)) && others.is_some_and(<[_]>::is_empty),
        files,
        location,
    };
    respond(StatusCode::NOT_FOUND, &page)
}

/// The answer to a request for a file or a cluster that the owner of the gateway does not allow.
pub(in crate::gateway) fn not_served(refused: &Refused, served: &Served) -> Message {
    let (what, why) = match refused {
        Refused::File(name) => (
            format!("the file {name}"),
            format!(
                "The gateway serves only files that are logs by their names: {}. Other files of a container can contain secrets: launch_container.sh contains the environment of the container, with its tokens.",
                served.files_in_words()
            ),
        ),
        Refused::Cluster(id) => (
            format!("logs of {id}"),
            format!(
                "Its owner has limited the gateway to these clusters: {}.",
                served.clusters_in_words().unwrap_or_default()
            ),
        ),
    };
    Message::new(StatusCode::FORBIDDEN, format!("The gateway does not serve {what}"))
        .text(format!("{why} To allow {what}, type on the node:"))
        .code(served.how_to_allow(refused))
}

fn denied(subject: &str, permission: &str, s3_url: &str, answer: &str) -> Message {
    let message = Message::new(StatusCode::FORBIDDEN, format!("S3 denies access to {subject}")).text(format!(
        "The gateway's role needs {permission} here. Unless you configured other credentials, this role is the cluster's instance profile."
    ));
    let message = if permission.contains("ListBucket") {
        message.text(
            "If the role lacks s3:ListBucket, S3 denies access to a missing object, too: perhaps the log is not in S3 yet.",
        )
    } else {
        message
    };
    message.small(format!("{s3_url}: S3 answered {answer}"))
}

pub(super) fn archived(subject: &str, class: &str, bucket: &str, key: &str) -> Message {
    // S3 moves an object of Intelligent-Tiering back to its frequent tier, for good. It restores
    // an object of another class as a copy, for a number of days.
    let restore_request = if class.starts_with("INTELLIGENT") { "'{}'" } else { "Days=7" };
    let key = key.replace('\'', "'\\''");
    Message::new(StatusCode::CONFLICT, format!("S3 keeps {subject} in an archive class"))
        .text(format!(
            "Its storage class is {class}, so you must restore it before you can read it. A restore takes minutes to hours."
        ))
        .code(format!("aws s3api restore-object --bucket {bucket} --key '{key}' --restore-request {restore_request}"))
}

/// Not found below the log URIs that answer, and the others are named.
fn incomplete(subject: &str, unanswered: &[Unanswered]) -> Message {
    let status = match unanswered.iter().all(|uri| uri.is_denied) {
        true => StatusCode::FORBIDDEN,
        false => StatusCode::BAD_GATEWAY,
    };
    let message = Message::new(status, format!("The gateway cannot look for {subject} everywhere")).text(
        "No log URI that answers has it. The gateway gets nothing from these log URIs, and it can be below one of them:",
    );
    let message = unanswered.iter().fold(message, |message, uri| message.code(format!("{}: {}", uri.uri, uri.why)));
    message
        .text("To see which permission is missing, or why S3 does not answer, type on the node:")
        .code("sudo emr-shs doctor")
}

pub(super) fn over_budget(retry_after: Duration) -> Response<Body> {
    let seconds = retry_after.as_secs() + 1;
    let mut response = Message::new(StatusCode::SERVICE_UNAVAILABLE, "The gateway has sent too many requests to S3")
        .text(format!(
            "S3 bills each request. The gateway has spent its budget for requests to S3, or your address has spent its half of the budget. Try again in {seconds} s. Where the gateway redirects to S3, logs that it has found before still open. Something asks for many logs or lists: `/-/metrics` counts the requests, and the journal names who asks:"
        ))
        .code("sudo journalctl -u emr-shs-gateway -n 200")
        .response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn searching(subject: &str) -> Message {
    let mut message = Message::new(StatusCode::SERVICE_UNAVAILABLE, format!("Searching for {subject}"))
        .text("It may belong to another cluster, and the gateway is still searching the clusters under the gateway's log URIs. This page reloads by itself. The gateway remembers the clusters that it has searched.");
    message.layout.reload_after = Some(5);
    message
}

pub(super) fn no_credentials(reason: &str) -> Message {
    Message::new(StatusCode::SERVICE_UNAVAILABLE, "The gateway has no credentials")
        .text("The node's metadata service, or the source of credentials that you configured, gives no valid credentials. The gateway tries again every few seconds.")
        .small(reason)
}

fn unreachable(subject: &str, reason: &str) -> Message {
    Message::new(StatusCode::BAD_GATEWAY, format!("The gateway cannot get {subject} from S3"))
        .text(format!(
            "{reason}. The gateway waits {} s for an answer of S3. Try again. If the error stays, type on the node:",
            S3_TIMEOUT.as_secs()
        ))
        .code("sudo emr-shs doctor")
}
