//! The gateway's own pages, from the templates in assets/pages/, which escape every value. The pages
//! work without scripts.

mod errors;
mod event_logs;
mod format;
mod listings;
mod parts;

pub(super) use errors::{log_error, not_served};
pub(super) use event_logs::{event_log_failure, event_log_on_its_way};
pub(super) use format::{size, span};
pub(super) use listings::{applications, containers, files};

use super::archive::Unanswered;
use super::history_server::opening::RELOAD;
use super::http::{Body, empty, full, set_own_headers};
use super::limits::RETRY_AFTER;
use super::served::Served;
use crate::shown::{visible, visible_line};
use askama::Template;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use std::sync::{Arc, OnceLock};

/// What the gateway's `/` is.
static HOME: OnceLock<&str> = OnceLock::new();

/// Decides, once for the process, that the gateway's `/` is the list of applications.
pub(super) fn begin_with_list() {
    let _ = HOME.set("Applications");
}

/// The name of the gateway's `/`.
pub(super) fn home() -> &'static str {
    HOME.get().copied().unwrap_or("History server")
}

pub(super) const STYLE: &str = include_str!("../../../assets/pages/style.css");

/// Allows the gateway's own style sheet, and no scripts, frames or forms.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The same, and forms that lead back to the gateway.
const FORM_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The values that layout.html shows around the content of every page.
pub(super) struct Layout {
    pub(super) title: String,
    /// The ID of the cluster or application one level up.
    pub(super) parent: Option<String>,
    /// Seconds until the browser reloads the page.
    pub(super) reload_after: Option<u32>,
    /// The log URIs whose part of the page is missing.
    pub(super) gaps: Vec<Unanswered>,
    /// What the page does not show.
    pub(super) notes: Vec<String>,
}

impl Layout {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), parent: None, reload_after: None, gaps: Vec::new(), notes: Vec::new() }
    }

    /// Adds a prefix of which the page shows nothing new.
    pub(super) fn lack(&mut self, uri: &str, why: &str) {
        let (uri, why) = (uri.into(), why.into());
        self.gaps.push(Unanswered { uri, why, is_denied: false, is_pending: false });
    }

    fn with_gaps(mut self, gaps: &[Unanswered]) -> Self {
        self.gaps = gaps.to_vec();
        self
    }

    /// Adds how many files the page does not show, because the gateway does not serve them.
    fn without_files(mut self, hidden: usize, served: &Served) -> Self {
        if hidden > 0 {
            let (files, are) = if hidden == 1 { ("file", "is") } else { ("files", "are") };
            self.notes.push(format!(
                "{hidden} {files} {are} not shown, because the gateway serves only {}. To allow others, type on the node: \
                 sudo emr-shs proxy install --allow-file PATTERN",
                served.files_in_words()
            ));
        }
        self
    }

    /// Adds of which clusters the gateway serves logs, if it does not serve those of all.
    fn within_clusters(mut self, served: &Served) -> Self {
        self.notes.extend(served.clusters_in_words().map(|clusters| {
            format!(
                "The gateway looks only at these clusters: {clusters}. To allow others, type on the node: \
                 sudo emr-shs proxy install --allow-cluster ID"
            )
        }));
        self
    }

    fn below(mut self, parent: Option<String>) -> Self {
        self.parent = parent;
        self
    }
}

/// A page that consists of a title and some paragraphs.
#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct Message {
    status: StatusCode,
    layout: Layout,
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    Code(String),
    Small(String),
}

impl Message {
    pub(super) fn new(status: StatusCode, title: impl Into<String>) -> Self {
        // Who asks, and who writes an event log, chooses some of the words.
        Self { status, layout: Layout::new(visible_line(&title.into())), parts: Vec::new() }
    }

    pub(super) fn text(self, text: impl Into<String>) -> Self {
        self.part(Part::Text(visible_line(&text.into()).into_owned()))
    }

    /// Adds a text that the reader types or copies.
    pub(super) fn code(self, text: impl Into<String>) -> Self {
        self.part(Part::Code(visible(&text.into()).into_owned()))
    }

    fn small(self, text: impl Into<String>) -> Self {
        self.part(Part::Small(visible_line(&text.into()).into_owned()))
    }

    fn part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    pub(super) fn response(self) -> Response<Body> {
        let mut response = respond(self.status, &self);
        response.extensions_mut().insert(ForPrograms(self.plain_text().into()));
        response
    }

    fn plain_text(&self) -> String {
        let mut text = format!("{}\n", self.layout.title);
        for part in &self.parts {
            let (Part::Text(words) | Part::Code(words) | Part::Small(words)) = part;
            text.push_str(words);
            text.push('\n');
        }
        text
    }
}

/// A message as plain text, for programs: they show their users the body as it is, and nobody wants to read HTML there.
#[derive(Clone)]
struct ForPrograms(Arc<str>);

/// The answer to a request for the REST API: a message of the gateway is plain text there, like the history server's own.
pub(super) fn for_programs(mut response: Response<Body>) -> Response<Body> {
    let Some(ForPrograms(text)) = response.extensions_mut().remove() else { return response };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.map(|_| full(text.to_string()))
}

/// The answer to a `Host` header that names none of the gateway's names.
pub(super) fn unknown_host() -> Message {
    Message::new(StatusCode::MISDIRECTED_REQUEST, "This gateway does not answer to that name")
}

/// The answer to a browser while the history server opens an application.
pub(super) fn opening() -> Message {
    let mut message = Message::new(StatusCode::SERVICE_UNAVAILABLE, "The history server is opening this application")
        .text("It reads the whole event log first. For a large event log this takes minutes. This page reloads by itself.");
    message.layout.reload_after = Some(RELOAD);
    message
}

/// The answer to a request for which there is no room now.
pub(super) fn busy() -> Message {
    Message::new(StatusCode::SERVICE_UNAVAILABLE, "The gateway is answering too many requests")
        .text("Reload this page in a few seconds.")
}

/// The answer to a login that cannot be checked now.
pub(super) fn busy_with_logins() -> Message {
    Message::new(StatusCode::SERVICE_UNAVAILABLE, "Too many passwords wait for their check")
        .text("Somebody at your address sends many passwords. Reload this page in a few seconds.")
}

/// A page with a form that leads back to the gateway.
pub(super) fn form_page(status: StatusCode, page: &impl Template) -> Response<Body> {
    let mut response = respond(status, page);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FORM_SECURITY_POLICY));
    response
}

fn respond(status: StatusCode, page: &impl Template) -> Response<Body> {
    let (status, body) = match page.render() {
        Ok(html) => (status, full(html)),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, empty()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    set_own_headers(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    }
    response
}
