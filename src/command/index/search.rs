//! `index search`

use super::format::{bytes, cut, number, padded, span};
use super::times::{self, Bound};
use super::{OpenIndex, name_of};
use crate::aws::uri::EventLogs;
use crate::cli::index::SearchArgs;
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::index::{Hit, Query, Summary, Total, Wanted, now};
use crate::shown::visible_line;
use crate::ui::{Console, data};
use anyhow::Result;
use jiff::ZonedDateTime;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::io::IsTerminal;
use std::time::Duration;

/// How wide a table is where nobody looks at a terminal.
const USUAL_WIDTH: usize = 80;

pub(super) fn run(host: &Host, args: &SearchArgs, console: &Console) -> Result<Exit> {
    let zoned = ZonedDateTime::now();
    let time = |text: &Option<String>, bound| text.as_deref().map(|text| times::read(text, bound, &zoned)).transpose();
    let (since, until) = (time(&args.since, Bound::Since)?, time(&args.until, Bound::Until)?);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        return Err(Fault::usage("--since is later than --until, so no application fits").into());
    }
    let mut index = OpenIndex::open(host, &args.index)?;
    let summary = refresh(&mut index, args, console)?;
    let (sources, below) = narrowed(&index, args.source.as_deref())?;
    let query = Query {
        text: Some(args.text.join(" ")).filter(|text| !text.trim().is_empty()),
        user: args.user.clone().filter(|user| !user.is_empty()),
        since,
        until,
        state: args.state,
        sources,
        below,
        offset: args.offset,
        limit: if args.limit == 0 { u64::MAX } else { args.limit },
    };
    let (hits, total) = index.store.search(&query)?;
    if console.is_json() {
        for hit in &hits {
            data(&serde_json::to_string(&Row::of(hit))?);
        }
    } else {
        table(&hits, zoned.time_zone(), &times::zone_name(&zoned));
    }
    let exit = match &summary {
        Some(summary) => index.exit(summary, console),
        None => Exit::Done,
    };
    tell(&index, &hits, total, &query, summary.as_ref(), console)?;
    Ok(exit)
}

/// Looks for new logs; `None` if that was not wanted, or if another process does.
fn refresh(index: &mut OpenIndex, args: &SearchArgs, console: &Console) -> Result<Option<Summary>> {
    if args.no_refresh {
        return Ok(None);
    }
    if !index.store.is_writer() {
        console.say("another emr-shs is updating this index: what it has written so far follows");
        return Ok(None);
    }
    index.update(Wanted { is_full: false, has_snapshot: !args.index.no_snapshot }, true, console).map(Some)
}

/// The sources to search, and the beginning of keys, of `--source`.
fn narrowed(index: &OpenIndex, source: Option<&str>) -> Result<(Vec<i64>, Option<String>)> {
    let Some(text) = source.filter(|text| !text.is_empty()) else { return Ok((index.known()?, None)) };
    let wanted = name_of(&text.parse::<EventLogs>()?);
    let names: Vec<String> = index.uris.iter().map(name_of).collect();
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
            duration_ms: hit.ended.map(|ended| ended - hit.started),
            size: hit.size,
            codec: &hit.codec,
            updated: times::iso(hit.modified * 1000),
            log: &hit.log,
        }
    }
}

/// The columns of a table: name and id share what the others leave.
fn table(hits: &[Hit], zone: &TimeZone, zone_name: &str) {
    if hits.is_empty() {
        return;
    }
    let width = match terminal_size::terminal_size() {
        Some((width, _)) if std::io::stdout().is_terminal() => usize::from(width.0).max(60),
        _ => USUAL_WIDTH,
    };
    let ids: Vec<String> = hits.iter().map(id).collect();
    let column =
        |texts: &mut dyn Iterator<Item = usize>, least: usize, most: usize| texts.max().unwrap_or(0).clamp(least, most);
    let long = |text: &str| textwrap::core::display_width(&visible_line(text));
    let id_width = column(&mut ids.iter().map(|id| long(id)), 2, 44);
    let user_width = column(&mut hits.iter().map(|hit| long(&hit.user)), 4, if width >= 110 { 16 } else { 8 });
    let started = format!("STARTED ({zone_name})");
    let started_width = started.chars().count().max(16);
    let has_size = width >= 120;
    let others = started_width + 9 + user_width + id_width + 4 + if has_size { 9 } else { 0 };
    let longest = column(&mut hits.iter().map(|hit| long(&hit.name)), 4, 200);
    let name_width = width.saturating_sub(others).max(8).min(longest.max(4));
    let line = |started: &str, took: &str, user: &str, name: &str, size: &str, id: &str| {
        let mut text = format!("{} {} ", padded(started, started_width), padded(took, 9));
        text +=
            &format!("{} {} ", padded(&cut(user, user_width), user_width), padded(&cut(name, name_width), name_width));
        if has_size {
            text += &format!("{size:>8} ");
        }
        text + id
    };
    data(&line(&started, "DURATION", "USER", "NAME", "SIZE", "ID"));
    for (hit, id) in hits.iter().zip(&ids) {
        let took = match hit.ended {
            Some(ended) => {
                let took = span(Duration::from_millis((ended - hit.started).unsigned_abs()));
                if hit.is_ended_guessed { format!("~{took}") } else { took }
            }
            None => "no end".into(),
        };
        let (user, name) = (visible_line(&hit.user), visible_line(&hit.name));
        let started = times::short(hit.started, zone);
        data(&line(&started, &took, &user, &name, &bytes(hit.size), id));
    }
}

/// The id, with the number of the attempt if there are attempts.
fn id(hit: &Hit) -> String {
    match &hit.attempt {
        Some(attempt) => format!("{}/{}", visible_line(&hit.app), visible_line(attempt)),
        None => visible_line(&hit.app).into_owned(),
    }
}

/// Says on stderr how many fit, how fresh that is, and what is missing.
fn tell(
    index: &OpenIndex,
    hits: &[Hit],
    total: Total,
    query: &Query,
    summary: Option<&Summary>,
    console: &Console,
) -> Result<()> {
    let shown = number(hits.len() as u64);
    let first = query.offset + 1;
    let found = match total {
        Total::Exact(0) => "no application fits".to_string(),
        Total::Exact(all) if all == hits.len() as u64 => format!("{shown} found"),
        Total::Exact(all) if query.offset > 0 => {
            format!("{shown} from the {}th on of {} found", number(first), number(all))
        }
        Total::Exact(all) => format!("{shown} of {} found; more: --limit N", number(all)),
        Total::AtLeast(all) => format!("{shown} of more than {} found; more: --limit N", number(all.saturating_sub(1))),
    };
    let mut missing = Vec::new();
    let (mut unread, mut guessed, mut failed, mut without) = (0, 0, 0, 0);
    let mut oldest = i64::MAX;
    for id in index.known()? {
        let counts = index.store.counts(id)?;
        unread += counts.unread;
        guessed += counts.end_unread;
        failed += counts.failed;
        without += counts.without_application;
        let (listed, looked) = index.store.listed(id)?;
        oldest = oldest.min(looked.max(listed).unwrap_or(0));
    }
    if unread > failed {
        missing.push(format!("{} event logs are not read yet", number(unread - failed)));
    }
    if guessed > 0 {
        missing.push(format!("the end (~) of {} is estimated", number(guessed)));
    }
    if failed > 0 {
        missing.push(format!("{} could not be read now", number(failed)));
    }
    if without > 0 {
        missing.push(format!("{} show no application", number(without)));
    }
    let age = Duration::from_millis((now() - oldest).max(0).unsigned_abs());
    let fresh = match summary {
        Some(summary) if summary.faults.is_empty() && !summary.is_interrupted => String::new(),
        _ if oldest == i64::MAX || oldest == 0 => match summary.and_then(|summary| summary.snapshot_from) {
            Some(written) => {
                let age = Duration::from_millis((now() - written).max(0).unsigned_abs());
                format!("; known from the snapshot of {} ago", span(age))
            }
            None => String::new(),
        },
        _ => format!("; as S3 was {} ago", span(age)),
    };
    console.say(&format!("{found}{fresh}"));
    if !missing.is_empty() {
        console.say(&format!("{}: emr-shs index status", missing.join(", ")));
    }
    Ok(())
}
