//! `index search`

use super::OpenIndex;
use super::format::{bytes, cut, padded, span};
use super::times::{self, Bound};
use crate::aws::uri::EventLogs;
use crate::cli::index::SearchArgs;
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::index::{Hit, Query, Summary, Total, Wanted, now, source_name};
use crate::shown::number;
use crate::shown::{visible_json, visible_line};
use crate::ui::{Console, try_data};
use anyhow::{Context, Result};
use jiff::ZonedDateTime;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::io::IsTerminal;
use std::time::Duration;

pub(super) fn run(host: &Host, args: &SearchArgs, console: &Console) -> Result<Exit> {
    let zoned = ZonedDateTime::now();
    let time = |text: &Option<String>, bound| text.as_deref().map(|text| times::read(text, bound, &zoned)).transpose();
    let (since, until) = (time(&args.since, Bound::Since)?, time(&args.until, Bound::Until)?);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        return Err(Fault::usage("--since is later than --until, so no application fits").into());
    }
    let mut index = OpenIndex::open(host, &args.index, console)?;
    let refreshed = refresh(&mut index, args, console)?;
    let (sources, below) = narrowed(&index, args.source.as_deref())?;
    let query = Query {
        text: Some(args.text.join(" ")).filter(|text| !text.trim().is_empty()),
        user: args.user.clone().filter(|user| !user.is_empty()),
        since,
        until,
        state: args.state,
        sources,
        below,
        order: args.sort,
        offset: args.offset,
        limit: if args.limit == 0 { u64::MAX } else { args.limit },
    };
    let (hits, total) = index.store.search(&query)?;
    if console.is_json() {
        let lines = hits.iter().map(|hit| Ok(visible_json(&serde_json::to_string(&Row::of(hit))?).into_owned()));
        lines_out(&lines.collect::<Result<Vec<_>>>()?)?;
    } else {
        lines_out(&table(&hits, zoned.time_zone()))?;
    }
    let exit = match &refreshed {
        Refreshed::Yes(summary) => index.exit(summary, console)?,
        Refreshed::Failed => Exit::CheckFailed,
        Refreshed::No => Exit::Done,
    };
    let is_complete = tell(&index, &hits, total, &query, &refreshed, console)?;
    Ok(match exit {
        Exit::Done if hits.is_empty() && !is_complete => Exit::Incomplete,
        exit => exit,
    })
}

/// Writes data. A reader that closes the pipe has read enough; a disk that is full is a failure.
fn lines_out(lines: &[String]) -> Result<()> {
    match try_data(lines) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the result to stdout"),
    }
}

/// Whether the index was brought up to date.
enum Refreshed {
    Yes(Box<Summary>),
    /// It was not wanted, or another process does it.
    No,
    /// S3 cannot be reached: the error is printed.
    Failed,
}

fn refresh(index: &mut OpenIndex, args: &SearchArgs, console: &Console) -> Result<Refreshed> {
    let is_empty = index.is_empty()?;
    if args.no_refresh && (args.index.no_snapshot || !is_empty) {
        return Ok(Refreshed::No);
    }
    if let Some(why) = index.store.writing_refused() {
        console.say(&format!("{why}: the list has what stands there now"));
        return Ok(Refreshed::No);
    }
    let wanted = Wanted {
        is_fresh: !args.no_refresh,
        listing_age: args.list_every,
        reads_snapshot: !args.index.no_snapshot,
        writes_snapshot: !args.no_refresh && !args.index.no_snapshot,
        reads_whole: None,
    };
    match index.update(wanted, console) {
        Ok(summary) => Ok(Refreshed::Yes(Box::new(summary))),
        // What the index knows is worth showing without S3, too.
        Err(error) if error.is::<Fault>() && !index.known()?.is_empty() => {
            console.fault_in_words(&Fault::of(error));
            Ok(Refreshed::Failed)
        }
        Err(error) => Err(error),
    }
}

/// The sources to search, and the beginning of keys, of `--source`.
fn narrowed(index: &OpenIndex, source: Option<&str>) -> Result<(Vec<i64>, Option<String>)> {
    let Some(text) = source.filter(|text| !text.is_empty()) else { return Ok((index.known()?, None)) };
    let wanted = source_name(&text.parse::<EventLogs>()?);
    let names: Vec<String> = index.uris.iter().map(source_name).collect();
    let id = |name: &String| Ok::<_, anyhow::Error>(index.store.known_source(name)?.unwrap_or(-1));
    let below: Vec<&String> = names.iter().filter(|name| name.starts_with(&wanted)).collect();
    if !below.is_empty() {
        return Ok((below.into_iter().map(id).collect::<Result<_>>()?, None));
    }
    match names.iter().find(|name| wanted.starts_with(*name)) {
        Some(name) => Ok((vec![id(name)?], Some(wanted[name.len()..].to_string()))),
        None => Err(Fault::usage(format!("--source {wanted} lies below none of the prefixes of this index"))
            .detail(format!("the index has {}", names.join(", ")))
            .hint("name it with --event-logs, too")
            .into()),
    }
}

/// A line for programs. Times are UTC.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    attempt: Option<&'a str>,
    name: &'a str,
    user: &'a str,
    queue: Option<&'a str>,
    spark: Option<&'a str>,
    completed: bool,
    started: Option<String>,
    ended: Option<String>,
    /// Whether `ended` is when the log was written, because the end is not read yet.
    ended_is_estimated: bool,
    duration_ms: Option<i64>,
    size: u64,
    codec: &'a str,
    updated: Option<String>,
    log: &'a str,
}

impl<'a> Row<'a> {
    fn of(hit: &'a Hit) -> Self {
        Self {
            id: &hit.app,
            attempt: hit.attempt.as_deref(),
            name: &hit.name,
            user: &hit.user,
            queue: hit.queue.as_deref(),
            spark: hit.spark.as_deref(),
            completed: hit.ended.is_some(),
            started: times::iso(hit.started),
            ended: hit.ended.and_then(times::iso),
            ended_is_estimated: hit.is_ended_guessed,
            duration_ms: duration(hit),
            size: hit.size,
            codec: &hit.codec,
            updated: times::iso(hit.modified.saturating_mul(1000)),
            log: &hit.log,
        }
    }
}

/// The lines of a table. On a terminal they fit its width; elsewhere nothing is cut, because programs look for names.
fn table(hits: &[Hit], zone: &TimeZone) -> Vec<String> {
    if hits.is_empty() {
        return Vec::new();
    }
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok()).filter(|width| *width > 0);
    let width = match (columns, terminal_size::terminal_size()) {
        (Some(width), _) => Some(width),
        (None, Some((width, _))) if std::io::stdout().is_terminal() => Some(usize::from(width.0)),
        _ => None,
    };
    let ids: Vec<String> = hits.iter().map(id).collect();
    let longest = |texts: &mut dyn Iterator<Item = &str>, least: usize| {
        texts.map(|text| textwrap::core::display_width(&visible_line(text))).max().unwrap_or(0).max(least)
    };
    let zone_name = times::zone_name(hits.iter().map(|hit| hit.started), zone);
    let (started, time_width) = match &zone_name {
        Some(name) => (format!("STARTED ({name})"), 16),
        None => ("STARTED".to_string(), 22),
    };
    let started_width = started.chars().count().max(time_width);
    let id_width = longest(&mut ids.iter().map(String::as_str), 2);
    let mut user_width = longest(&mut hits.iter().map(|hit| hit.user.as_str()), 4);
    let mut name_width = longest(&mut hits.iter().map(|hit| hit.name.as_str()), 4);
    let has_size = width.is_none_or(|width| width >= 120);
    if let Some(width) = width {
        user_width = user_width.min(if width >= 110 { 16 } else { 8 });
        let others = started_width + 9 + id_width + 4 + if has_size { 9 } else { 0 };
        // Ids stay whole, because people copy them.
        let room = width.saturating_sub(others);
        if room < user_width + 8 {
            user_width = user_width.min(6);
        }
        name_width = name_width.min(room.saturating_sub(user_width).max(7));
    }
    let line = |started: &str, took: &str, user: &str, name: &str, size: &str, id: &str| {
        let mut text = format!("{} {} ", padded(started, started_width), padded(took, 9));
        text +=
            &format!("{} {} ", padded(&cut(user, user_width), user_width), padded(&cut(name, name_width), name_width));
        if has_size {
            text += &format!("{size:>8} ");
        }
        text + id
    };
    let mut lines = vec![line(&started, "DURATION", "USER", "NAME", "SIZE", "ID")];
    for (hit, id) in hits.iter().zip(&ids) {
        let took = match duration(hit) {
            Some(took) => {
                let took = span(Duration::from_millis(took.unsigned_abs()));
                if hit.is_ended_guessed { format!("~{took}") } else { took }
            }
            None if hit.ended.is_some() => "?".into(),
            None => "no end".into(),
        };
        let (user, name) = (visible_line(&hit.user), visible_line(&hit.name));
        let started = match zone_name {
            Some(_) => times::short(hit.started, zone),
            None => times::short_with_offset(hit.started, zone),
        };
        lines.push(line(&started, &took, &user, &name, &bytes(hit.size), id));
    }
    lines
}

/// How long an attempt took, in milliseconds; `None` if it has no end, or ended before it started.
fn duration(hit: &Hit) -> Option<i64> {
    hit.ended?.checked_sub(hit.started).filter(|took| *took >= 0)
}

/// The id, with the number of the attempt if there are attempts.
fn id(hit: &Hit) -> String {
    match &hit.attempt {
        Some(attempt) => format!("{}/{}", visible_line(&hit.app), visible_line(attempt)),
        None => visible_line(&hit.app).into_owned(),
    }
}

/// Says on stderr how many fit, how fresh that is, and what is missing. Returns whether everything that S3 has is read.
fn tell(
    index: &OpenIndex,
    hits: &[Hit],
    total: Total,
    query: &Query,
    refreshed: &Refreshed,
    console: &Console,
) -> Result<bool> {
    let shown = hits.len() as u64;
    let (mut unread, mut again, mut guessed, mut failed, mut without) = (0, 0, 0, 0, 0);
    let mut oldest = i64::MAX;
    let mut is_unlisted = false;
    for id in index.known()? {
        let counts = index.store.counts(id)?;
        unread += counts.unread;
        again += counts.to_read_again;
        guessed += counts.end_unread;
        failed += counts.failed;
        without += counts.without_application;
        let (listed, looked) = index.store.listed(id)?;
        oldest = oldest.min(looked.max(listed).unwrap_or(0));
        is_unlisted |= listed.is_none();
    }
    let more = &format!("; for more: --offset {}", query.offset.saturating_add(shown));
    let (first, last) = (query.offset.saturating_add(1), query.offset.saturating_add(shown));
    let found = match total {
        Total::Exact(0) if index.is_empty()? => {
            let uris = index.uris.iter().map(source_name).collect::<Vec<_>>().join(", ");
            match refreshed {
                Refreshed::Yes(summary) if summary.faults.is_empty() && !summary.is_interrupted && oldest > 0 => {
                    format!("S3 has no event log below {uris}: check the prefix")
                }
                Refreshed::Yes(summary) if !summary.faults.is_empty() => {
                    format!("the index has no event log below {uris}, because S3 could not be read")
                }
                _ => format!("the index has no event log below {uris} yet; without --no-refresh emr-shs asks S3"),
            }
        }
        Total::Exact(0) => "no application fits".to_string(),
        Total::Exact(all) if all == shown => format!("{} found", number(shown)),
        Total::Exact(all) if query.offset >= all => {
            format!("only {} fit, so --offset leaves out all of them", number(all))
        }
        Total::Exact(all) if query.offset > 0 => {
            let more = if last < all { more } else { "" };
            format!("{} to {} of {} that fit{more}", number(first), number(last), number(all))
        }
        Total::Exact(all) => format!("the newest {} of {} that fit{more}", number(shown), number(all)),
        Total::AtLeast(all) if query.offset > 0 => {
            format!("{} to {} of at least {} that fit{more}", number(first), number(last), number(all))
        }
        Total::AtLeast(all) => format!("the newest {} of at least {} that fit{more}", number(shown), number(all)),
    };
    let ago = |then: i64| span(Duration::from_millis((now() - then).max(0).unsigned_abs()));
    let fresh = match refreshed {
        Refreshed::Yes(summary) if oldest == 0 => match summary.snapshot_from {
            Some(written) => format!("; known from the snapshot of {} ago", ago(written)),
            None => String::new(),
        },
        Refreshed::Yes(summary) if summary.faults.is_empty() && !summary.is_interrupted => String::new(),
        _ if oldest == i64::MAX || oldest == 0 => String::new(),
        _ => format!("; the state of S3 {} ago", ago(oldest)),
    };
    console.say(&format!("{found}{fresh}"));
    let mut missing = Vec::new();
    if is_unlisted && matches!(refreshed, Refreshed::Yes(_)) {
        missing.push("no listing of S3 has come to its end yet".to_string());
    }
    if unread > 0 {
        missing.push(format!("{} event logs are not read yet", number(unread)));
    }
    if failed > 0 {
        missing.push(format!("{} event logs could not be read", number(failed)));
    }
    if !missing.is_empty() {
        console.warn(&format!(
            "{}, so this list is incomplete. To see why: emr-shs index status, with the options of this command",
            missing.join(", and ")
        ));
    }
    if again > 0 {
        console
            .say(&format!("{} event logs are not read again yet: the list has what they told before", number(again)));
    }
    if guessed > 0 {
        console.say(&format!("~ marks estimates: {} ends are not read yet", number(guessed)));
    }
    if without > 0 && console.is_verbose() {
        console.say(&format!(
            "{} event logs contain no application that can be listed: emr-shs index status",
            number(without)
        ));
    }
    Ok(missing.is_empty())
}
