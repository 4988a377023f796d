//! The page of all applications, a hundred rows at a time.

use super::query::Parameters;
use super::reader::Readers;
use super::status::State;
use super::{Applications, Status};
use crate::gateway::http::Body;
use crate::gateway::pages::{Layout, form_page, size, span};
use crate::gateway::presign::encode_value;
use crate::ids::Application;
use crate::index::{Hit, Order, Query, RunState, Total};
use crate::shown::{number, visible_line};
use anyhow::Result;
use askama::Template;
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use std::time::Duration;

/// Rows of a page.
const ROWS: u64 = 100;
/// The last page: whoever wants later rows sets a time or another order.
const LAST_PAGE: u64 = 10_000;
/// The orders of the list: their names in the address, and what the page calls them.
const ORDERS: [(Order, &str, &str); 5] = [
    (Order::Newest, "newest", "the newest first"),
    (Order::Oldest, "oldest", "the oldest first"),
    (Order::Ended, "ended", "by end, the last first"),
    (Order::Longest, "longest", "the longest first"),
    (Order::Largest, "largest", "those with the largest event log first"),
];
/// The longest value of a filter, in bytes, and the most words of a search.
const LONGEST: usize = 200;
const MOST_WORDS: usize = 8;

#[derive(Template)]
#[template(path = "history.html")]
struct ListPage {
    layout: Layout,
    asked: Asked,
    /// The URIs of the sources.
    sources: Vec<String>,
    /// How new the list is, and what it lacks.
    freshness: String,
    /// Which rows of how many the page shows.
    shown: String,
    /// Why there are no rows.
    nothing: &'static str,
    rows: Vec<Row>,
    previous: Option<String>,
    next: Option<String>,
}

struct Row {
    /// `None` if no address leads to it.
    href: Option<String>,
    id: String,
    attempt: String,
    name: String,
    user: String,
    started: String,
    ended: String,
    duration: String,
    size: String,
    spark: String,
    /// The page of the executor logs, if YARN ran the application.
    logs: Option<String>,
}

/// What a URL asks for, as its form shows it again.
#[derive(Clone, Debug, Default)]
struct Asked {
    text: String,
    user: String,
    state: String,
    since: String,
    until: String,
    source: String,
    sort: String,
    page: u64,
    /// What no filter can be made of.
    wrong: Vec<String>,
}

impl Asked {
    fn of(query: Option<&str>) -> Self {
        let Some(parameters) = Parameters::of(query) else {
            return Self {
                page: 1,
                wrong: vec!["The address is too long, so all applications are shown.".into()],
                ..Self::default()
            };
        };
        let mut wrong = Vec::new();
        let mut value = |name: &str| {
            let value = parameters.first(name).unwrap_or_default();
            if value.len() > LONGEST {
                wrong.push(format!("The filter “{name}” is longer than {LONGEST} bytes, so it is left out."));
                return String::new();
            }
            value.to_string()
        };
        let mut asked = Self {
            text: value("q"),
            user: value("user"),
            state: value("state"),
            since: value("since"),
            until: value("until"),
            source: value("source"),
            sort: value("sort"),
            page: 1,
            wrong: Vec::new(),
        };
        if asked.text.split_whitespace().count() > MOST_WORDS {
            wrong.push(format!("A search has {MOST_WORDS} words at most, so the others are left out."));
            asked.text = asked.text.split_whitespace().take(MOST_WORDS).collect::<Vec<_>>().join(" ");
        }
        // Links of the history server's own pages.
        if asked.state.is_empty() && parameters.first("showIncomplete") == Some("true") {
            asked.state = "incomplete".into();
        }
        if let Some(page) = parameters.first("page") {
            match page.parse() {
                Ok(page @ 1..=LAST_PAGE) => asked.page = page,
                _ => wrong.push(format!("“page” is no number from 1 to {LAST_PAGE}, so the first page is shown.")),
            }
        }
        asked.wrong = wrong;
        asked
    }

    fn is_filtered(&self) -> bool {
        [&self.text, &self.user, &self.state, &self.since, &self.until, &self.source]
            .iter()
            .any(|text| !text.is_empty())
    }

    /// The query of the index. Filters that cannot be read are told, and left out.
    fn query(&mut self) -> Query {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let state = match self.state.as_str() {
            "completed" => Some(RunState::Completed),
            "incomplete" => Some(RunState::Incomplete),
            "" => None,
            _ => {
                self.wrong.push("“state” is neither completed nor incomplete, so it is left out.".into());
                self.state.clear();
                None
            }
        };
        if !self.sort.is_empty() && self.order().1 != self.sort {
            self.wrong.push("“sort” is no order of the list, so the newest come first.".into());
            self.sort.clear();
        }
        let mut time = |name: &str, text: &mut String, is_end: bool| {
            let time = moment(text, is_end);
            if time.is_none() && !text.is_empty() {
                self.wrong.push(format!(
                    "“{name}” is no time, so it is left out. Wanted a day such as 2026-11-01, or a time such as 2026-11-01T10:00."
                ));
                text.clear();
            }
            time
        };
        Query {
            since: time("since", &mut self.since, false),
            until: time("until", &mut self.until, true),
            text: given(&self.text),
            user: given(&self.user),
            state,
            sources: Vec::new(),
            below: None,
            order: self.order().0,
            offset: (self.page - 1) * ROWS,
            limit: ROWS,
        }
    }

    fn order(&self) -> (Order, &'static str, &'static str) {
        ORDERS.into_iter().find(|(_, name, _)| *name == self.sort).unwrap_or(ORDERS[0])
    }

    /// The address of another page of the same search.
    fn link(&self, page: u64) -> String {
        let fields = [
            ("q", &self.text),
            ("user", &self.user),
            ("state", &self.state),
            ("since", &self.since),
            ("until", &self.until),
            ("source", &self.source),
            ("sort", &self.sort),
        ];
        let given = fields.iter().filter(|(_, value)| !value.is_empty());
        let mut parts: Vec<String> = given.map(|(name, value)| format!("{name}={}", encode_value(value))).collect();
        parts.push(format!("page={page}"));
        format!("/?{}", parts.join("&"))
    }
}

/// A day or a time in UTC, in milliseconds since 1970. A day as an end is the whole day.
fn moment(text: &str, is_end: bool) -> Option<i64> {
    let at = |time: DateTime| Some(TimeZone::UTC.to_timestamp(time).ok()?.as_millisecond());
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    if !text.contains(['T', ' ', ':'])
        && let Ok(day) = text.parse::<Date>()
    {
        return match is_end {
            true => Some(at(day.tomorrow().ok()?.at(0, 0, 0, 0))? - 1),
            false => at(day.at(0, 0, 0, 0)),
        };
    }
    at(text.parse().ok()?)
}

impl Applications {
    pub(super) async fn page(&self, readers: Readers, query: Option<&str>) -> Result<Response<Body>> {
        let mut asked = Asked::of(query);
        let mut wanted = asked.query();
        let source = asked.source.clone();
        let (hits, total, sources, is_known) = readers
            .read(move |store| {
                let sources = store.sources()?;
                let is_known = source.is_empty() || sources.iter().any(|(_, uri)| *uri == source);
                let of_source = sources.iter().filter(|(_, uri)| source.is_empty() || !is_known || *uri == source);
                wanted.sources = of_source.map(|(id, _)| *id).collect();
                let (hits, total) = store.search(&wanted)?;
                Ok((hits, total, sources, is_known))
            })
            .await?;
        if !is_known {
            asked.wrong.push("“source” is none of the sources, so it is left out.".into());
            asked.source.clear();
        }
        let state = self.status.state();
        let (all, is_exact) = match total {
            Total::Exact(all) => (all, true),
            Total::AtLeast(all) => (all, false),
        };
        let first = (asked.page - 1) * ROWS;
        let last = first + hits.len() as u64;
        let mut layout = Layout::new("Applications");
        for (uri, why) in &state.failing {
            layout.lack(uri, why);
        }
        let page = ListPage {
            layout,
            sources: sources.into_iter().map(|(_, uri)| uri).collect(),
            freshness: freshness(&state, self.status()),
            shown: format!(
                "{} to {} of {}{} that fit, {}",
                number(first + 1),
                number(last),
                if is_exact { "" } else { "more than " },
                number(all),
                asked.order().2
            ),
            nothing: match (asked.is_filtered() || first > 0, state.looked.is_some()) {
                (true, _) => "No application fits.",
                (false, true) => "There is no event log below the sources.",
                (false, false) => "The gateway has not listed the event logs yet.",
            },
            rows: hits.into_iter().map(Row::of).collect(),
            previous: (asked.page > 1).then(|| asked.link(asked.page - 1)),
            next: (last < all && asked.page < LAST_PAGE).then(|| asked.link(asked.page + 1)),
            asked,
        };
        Ok(form_page(StatusCode::OK, &page))
    }
}

fn freshness(state: &State, status: &Status) -> String {
    let time = |millis: i64| Timestamp::from_millisecond(millis).ok();
    let snapshot = state.snapshot.and_then(|(logs, written)| Some((logs, time(written)?)));
    let attempts = format!(", {} attempts of applications", number(state.attempts));
    let mut told = match (state.looked.and_then(time), snapshot) {
        (Some(looked), _) => {
            let age = status.ages()[0].unwrap_or(0);
            let day = if age > 43_200 { "%Y-%m-%d %H:%M:%S UTC" } else { "%H:%M:%S UTC" };
            format!("As of {}{attempts}", looked.strftime(day))
        }
        (None, Some((logs, written))) => format!(
            "Not all sources are listed yet. {} event logs are known from the snapshot of {}",
            number(logs),
            written.strftime("%Y-%m-%d %H:%M:%S UTC")
        ),
        (None, None) => format!("Not all sources are listed yet{attempts}"),
    };
    if state.unread > 0 {
        told += &format!(", {} event logs are not completely read yet", number(state.unread));
    }
    if state.unreadable > 0 {
        told += &format!(", {} event logs show no application", number(state.unreadable));
    }
    told + "."
}

impl Row {
    fn of(hit: Hit) -> Self {
        let attempt = hit.attempt.unwrap_or_default();
        let id = encode_value(&hit.app);
        // Browsers read such a name as a step in the path, and not as a name.
        let has_address = ![&hit.app, &attempt].into_iter().any(|name| matches!(name.as_str(), "." | ".."));
        let below = if attempt.is_empty() { String::new() } else { format!("{}/", encode_value(&attempt)) };
        let about = if hit.is_ended_guessed { "about " } else { "" };
        let lasted =
            hit.ended.map(|ended| Duration::from_millis(u64::try_from(ended.saturating_sub(hit.started)).unwrap_or(0)));
        Self {
            href: has_address.then(|| format!("/history/{id}/{below}jobs/")),
            logs: Application::parse(&hit.app).map(|application| format!("/logs/{application}/")),
            id: visible_line(&hit.app).into_owned(),
            attempt: visible_line(&attempt).into_owned(),
            name: visible_line(&hit.name).into_owned(),
            user: visible_line(&hit.user).into_owned(),
            started: time(hit.started),
            ended: hit.ended.map_or_else(|| "incomplete".into(), |ended| format!("{about}{}", time(ended))),
            duration: lasted.map_or_else(String::new, |lasted| format!("{about}{}", span(lasted))),
            size: size(hit.size),
            spark: visible_line(hit.spark.as_deref().unwrap_or_default()).into_owned(),
        }
    }
}

/// `2026-11-22 18:00:03`
fn time(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map(|at| at.strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}
