//! `/api/v1/applications`, and one application or attempt, as the history server's REST API gives them. All Sparks from 2.4 to
//! 4.1 give the same bytes.

use super::dates;
use super::query::Parameters;
use super::reader::Readers;
use crate::gateway::http::{Body, BoxError, full, hold, set_own_headers};
use crate::gateway::shares::Share;
use crate::index::{Application, LONGEST, Place, Run, Store, now};
use anyhow::Result;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

const APPLICATIONS: &str = "/api/v1/applications";
/// How many pieces of an answer wait for a reader. Each has some hundred applications.
const WAITING: usize = 1;
/// How many applications that run a list remembers while it is sent.
const RUNNING: usize = 10_000;
/// How many of them are read at once.
const STEP: usize = 200;

/// A request for what the index answers.
pub(in crate::gateway) enum ApiRequest {
    List(Filter),
    One(String),
    Attempt(String, String),
    /// The history server does not understand the parameters: the words of its answer.
    Bad(String),
}

/// Which applications are asked for. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Filter {
    completed: bool,
    running: bool,
    started: [i64; 2],
    ended: [i64; 2],
    limit: usize,
}

impl ApiRequest {
    /// `None` if the history server has to answer: paths below an application, and parameters for which each Spark has an
    /// error page of its own.
    pub(super) fn of(path: &str, query: Option<&str>) -> Option<Self> {
        let rest = path.strip_prefix(APPLICATIONS)?;
        if matches!(rest, "" | "/") {
            return list(&Parameters::of(query)?);
        }
        let rest = rest.strip_prefix('/')?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let decoded = |part: &str| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned());
        match rest.split('/').collect::<Vec<_>>().as_slice() {
            [id] if is_id(id) => Some(Self::One(decoded(id)?)),
            [id, attempt] if is_id(id) && is_attempt(attempt) => Some(Self::Attempt(decoded(id)?, decoded(attempt)?)),
            _ => None,
        }
    }
}

fn is_id(part: &str) -> bool {
    !part.is_empty() && part.len() <= LONGEST && !part.contains(';')
}

/// Whether a part below an application is the number of an attempt, and no resource of an application.
fn is_attempt(part: &str) -> bool {
    const RESOURCES: [&str; 12] = [
        "jobs",
        "executors",
        "allexecutors",
        "allmiscellaneousprocess",
        "stages",
        "storage",
        "environment",
        "logs",
        "sql",
        "streaming",
        "threads",
        "diagnostics",
    ];
    is_id(part) && !RESOURCES.contains(&part)
}

fn list(parameters: &Parameters) -> Option<ApiRequest> {
    let mut filter = Filter { completed: true, running: true, started: [0; 2], ended: [0; 2], limit: usize::MAX };
    let mut statuses = parameters.all("status").peekable();
    if statuses.peek().is_some() {
        (filter.completed, filter.running) = (false, false);
    }
    for status in statuses {
        match status.to_ascii_lowercase().as_str() {
            "completed" => filter.completed = true,
            "running" => filter.running = true,
            "" => {}
            _ => return None,
        }
    }
    if let Some(limit) = parameters.all("limit").next().filter(|limit| !limit.is_empty()) {
        let limit: i32 = limit.parse().ok()?;
        filter.limit = usize::try_from(limit).unwrap_or(0);
    }
    let [earliest_start, latest_start] = &mut filter.started;
    let [earliest_end, latest_end] = &mut filter.ended;
    for (name, default, into) in [
        ("minDate", "2010-01-01", earliest_start),
        ("maxDate", "3000-01-01", latest_start),
        ("minEndDate", "2010-01-01", earliest_end),
        ("maxEndDate", "3000-01-01", latest_end),
    ] {
        let text = parameters.all(name).next().filter(|text| !text.is_empty()).unwrap_or(default);
        match dates::read(text) {
            Some(time) => *into = time,
            None => return Some(ApiRequest::Bad(format!("Couldn't parse date: {text}"))),
        }
    }
    Some(ApiRequest::List(filter))
}

impl Filter {
    /// As the history server decides: an application runs if its newest attempt does, and it fits if one of its attempts does.
    fn has(&self, application: &Application, now: i64) -> bool {
        let runs = application.attempts.first().is_none_or(|newest| newest.ended.is_none());
        let is_wanted = if runs { self.running } else { self.completed };
        let fits = |attempt: &Run| {
            let ended = attempt.ended.unwrap_or(-1);
            let end_fits = if runs { self.ended[1] > now } else { (self.ended[0]..=self.ended[1]).contains(&ended) };
            (self.started[0]..=self.started[1]).contains(&attempt.started) && end_fits
        };
        is_wanted && application.attempts.iter().any(fits)
    }
}

/// The answer to a request; an error if the index cannot be read now. The shares are kept until the answer is sent.
pub(super) async fn respond(readers: Readers, request: ApiRequest, shares: (Share, Share)) -> Result<Response<Body>> {
    match request {
        ApiRequest::Bad(why) => Ok(answer(StatusCode::BAD_REQUEST, "application/json", full(why))),
        ApiRequest::One(id) => {
            let wanted = id.clone();
            Ok(match readers.read(move |store| store.application(&wanted)).await? {
                Some(application) => {
                    let mut text = String::new();
                    write_application(&mut text, &application, "");
                    json(full(text))
                }
                None => unknown(format!("unknown app: {id}")),
            })
        }
        ApiRequest::Attempt(id, attempt) => {
            let wanted = id.clone();
            let found = readers.read(move |store| store.application(&wanted)).await?;
            let attempts = found.map(|application| application.attempts).unwrap_or_default();
            Ok(match attempts.iter().find(|run| run.attempt.as_deref() == Some(attempt.as_str())) {
                Some(run) => {
                    let mut text = String::new();
                    write_attempt(&mut text, run, "");
                    json(full(text))
                }
                None => unknown(format!("unknown app {id}, attempt {attempt}")),
            })
        }
        ApiRequest::List(filter) => {
            let mut listing = Listing::new(readers, filter);
            // What fails here is an answer of its own.
            let first = listing.next().await?.unwrap_or_default();
            let (send, rows) = mpsc::channel(WAITING);
            tokio::spawn(async move {
                let mut piece = Ok(Some(first));
                while let Some(bytes) = piece.transpose() {
                    let has_failed = bytes.is_err();
                    let sent = send.send(bytes.map(Bytes::from).map_err(Into::into)).await;
                    if has_failed || sent.is_err() {
                        return;
                    }
                    piece = listing.next().await;
                }
            });
            Ok(json(hold(Rows(rows).boxed_unsync(), shares)))
        }
    }
}

/// A list while it is sent. It has the applications that have ended, and then those that run. The index changes meanwhile: an
/// application that ended since the list began must not be missing, and none may come twice.
struct Listing {
    readers: Readers,
    filter: Filter,
    place: Place,
    /// How many applications were given.
    given: usize,
    /// The applications that ran when the list began, and were not given yet.
    running: BTreeSet<String>,
    /// Whether these are not all that ran.
    is_cut: bool,
}

impl Listing {
    fn new(readers: Readers, filter: Filter) -> Self {
        Self { readers, filter, place: Place::Begin, given: 0, running: BTreeSet::new(), is_cut: false }
    }

    fn is_at_end(&self) -> bool {
        matches!(self.place, Place::End) && self.running.is_empty()
    }

    /// The next bytes; `None` behind the end.
    async fn next(&mut self) -> Result<Option<String>> {
        if self.is_at_end() {
            return Ok(None);
        }
        let mut text = String::new();
        let now = now();
        if self.given == 0 && matches!(self.place, Place::Begin) {
            text.push('[');
            if !self.filter.completed {
                self.place = Place::Running;
            } else if self.filter.running {
                self.running = self.readers.read(|store| store.running(RUNNING)).await?.into_iter().collect();
                self.is_cut = self.running.len() == RUNNING;
            }
        }
        while text.len() <= 1 && !self.is_at_end() {
            for application in self.step().await?.iter().filter(|application| self.filter.has(application, now)) {
                if self.given < self.filter.limit {
                    text.push_str(if self.given == 0 { " " } else { ", " });
                    write_application(&mut text, application, "");
                    self.given += 1;
                }
            }
            let is_behind = !self.filter.running && !matches!(self.place, Place::Begin | Place::Ended(..));
            if self.given >= self.filter.limit || is_behind {
                self.place = Place::End;
                self.running.clear();
            }
        }
        if self.is_at_end() {
            text.push_str(" ]");
        }
        Ok(Some(text))
    }

    /// The next applications, whether they fit the filter or not.
    async fn step(&mut self) -> Result<Vec<Application>> {
        if matches!(self.place, Place::End) {
            // They have ended since the list began.
            let ids: Vec<String> = std::iter::from_fn(|| self.running.pop_last()).take(STEP).collect();
            let read = move |store: &Store| ids.iter().filter_map(|id| store.application(id).transpose()).collect();
            return self.readers.read(read).await;
        }
        let place = std::mem::take(&mut self.place);
        let is_ended = matches!(place, Place::Begin | Place::Ended(..));
        let knows_running = self.filter.completed && !self.is_cut;
        let (mut found, next) = self.readers.read(move |store| store.applications(&place)).await?;
        self.place = next;
        found.retain(|application| {
            let ran = self.running.remove(&application.id);
            // If it did not run when the list began, and runs now, another attempt has begun. The list has it already, with its earlier
            // attempts.
            let has_begun_again = application.attempts.iter().any(|attempt| attempt.ended.is_some());
            is_ended || ran || !knows_running || !has_begun_again
        });
        Ok(found)
    }
}

/// Pieces of an answer as they come.
struct Rows(mpsc::Receiver<Result<Bytes, BoxError>>);

impl hyper::body::Body for Rows {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

fn write_application(text: &mut String, application: &Application, indent: &str) {
    let _ = write!(text, "{{\n{indent}  \"id\" : ");
    write_string(text, &application.id);
    let _ = write!(text, ",\n{indent}  \"name\" : ");
    write_string(text, &application.name);
    let _ = write!(text, ",\n{indent}  \"attempts\" : [ ");
    for (at, run) in application.attempts.iter().enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        write_attempt(text, run, &format!("{indent}  "));
    }
    let _ = write!(text, " ]\n{indent}}}");
}

fn write_attempt(text: &mut String, run: &Run, indent: &str) {
    let ended = run.ended.unwrap_or(-1);
    let duration = run.ended.map_or(0, |ended| ended.saturating_sub(run.started));
    text.push_str("{\n");
    let mut field = |name: &str, value: &dyn Fn(&mut String), is_last: bool| {
        let _ = write!(text, "{indent}  \"{name}\" : ");
        value(text);
        text.push_str(if is_last { "\n" } else { ",\n" });
    };
    if let Some(attempt) = &run.attempt {
        field("attemptId", &|text| write_string(text, attempt), false);
    }
    field("startTime", &|text| write_time(text, run.started), false);
    field("endTime", &|text| write_time(text, ended), false);
    field("lastUpdated", &|text| write_time(text, run.modified), false);
    field("duration", &|text| write_number(text, duration), false);
    field("sparkUser", &|text| write_string(text, &run.user), false);
    field("completed", &|text| text.push_str(if run.ended.is_some() { "true" } else { "false" }), false);
    field("appSparkVersion", &|text| write_string(text, run.spark.as_deref().unwrap_or_default()), false);
    field("startTimeEpoch", &|text| write_number(text, run.started), false);
    field("endTimeEpoch", &|text| write_number(text, ended), false);
    field("lastUpdatedEpoch", &|text| write_number(text, run.modified), true);
    let _ = write!(text, "{indent}}}");
}

fn write_number(text: &mut String, number: i64) {
    let _ = write!(text, "{number}");
}

/// `"2026-11-22T12:58:50.809GMT"`
fn write_time(text: &mut String, milliseconds: i64) {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX);
    let _ = write!(text, "\"{}\"", time.strftime("%Y-%m-%dT%H:%M:%S%.3fGMT"));
}

/// A string as Jackson writes it.
fn write_string(text: &mut String, value: &str) {
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\0'..='\u{1f}' => drop(write!(text, "\\u{:04X}", u32::from(letter))),
            _ => text.push(letter),
        }
    }
    text.push('"');
}

fn json(body: Body) -> Response<Body> {
    answer(StatusCode::OK, "application/json", body)
}

fn unknown(words: String) -> Response<Body> {
    answer(StatusCode::NOT_FOUND, "text/plain", full(words))
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set_own_headers(response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{Filter, Listing};
    use crate::gateway::applications::reader::AllReaders;
    use crate::gateway::applications::status::Status;
    use crate::gateway::shares::Client;
    use crate::index::{Requests, Store};
    use std::sync::Arc;

    #[tokio::test]
    async fn what_ends_or_begins_again_while_a_list_is_sent_is_in_it_once() {
        const TIME: i64 = 1_795_352_263_709;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("index.sqlite");
        let store = Store::open(&file).unwrap();
        store.prepare_list().unwrap();
        let source = store.source("s3://acme/flat/").unwrap();
        let db = rusqlite::Connection::open(&file).unwrap();
        let add = |n: i64, app: &str, ended: Option<i64>| {
            db.execute(
                "INSERT INTO log (source, key, size, modified, etag, is_closed, codec, state) VALUES (?1, ?2, 1, 1, '', 1, 'none', 2)",
                (source, n.to_string()),
            )
            .unwrap();
            db.execute(
                "INSERT INTO attempt VALUES (?1, ?2, ?3, 0, ?4, ?5, 'n', 'u', NULL, NULL, ?6, ?7, 0, 1, 1)",
                ((TIME + n) << 20, db.last_insert_rowid(), source, app, n.to_string(), TIME + n, ended),
            )
            .unwrap();
        };
        for n in 0..300 {
            add(n, &format!("application_1_{n:04}"), Some(TIME + n));
        }
        add(300, "application_1_0300", None);
        add(301, "application_1_0301", None);
        let readers = AllReaders::new(file, Arc::new(Status::new(Arc::new(Requests::default()))));
        let client = Client { address: [127, 0, 0, 1].into(), is_own: true, account: None };
        let any = [0, i64::MAX];
        let filter = Filter { completed: true, running: true, started: any, ended: any, limit: usize::MAX };
        let mut listing = Listing::new(readers.of(client.key()), filter);
        let mut text = listing.next().await.unwrap().unwrap();
        assert!(text.contains("application_1_0299") && !text.contains("application_1_0000"));
        // One that runs ends, and one that was given runs again.
        db.execute("UPDATE attempt SET ended = ?1 WHERE app = 'application_1_0301'", [TIME + 1000]).unwrap();
        add(302, "application_1_0299", None);
        while let Some(piece) = listing.next().await.unwrap() {
            text.push_str(&piece);
        }
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let ids = list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_string());
        let mut ids: Vec<String> = ids.collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..=301).map(|n| format!("application_1_{n:04}")).collect::<Vec<_>>());
    }
}
