//! The checks of what the history server reads: that all of it is listed, and what looking costs.

use super::server::{server, times};
use crate::aws::s3::Listing;
use crate::doctor::{Facts, Found, Stop, skip};
use crate::error::Fault;
use crate::node::history_server::{self, Attempt, same_directory};
use crate::node::{log_diagnosis, spark};
use crate::paths::{HISTORY_SERVER_UNIT, SCAN_INTERVAL_KEY};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A server that starts has so long to list what it finds.
const FIRST_SCAN: Duration = Duration::from_secs(600);
/// How Spark ends the names of compressed event logs.
const CODECS: [&str; 4] = [".zstd", ".lz4", ".lzf", ".snappy"];
/// Dollars for a thousand LIST requests (AWS's price in most regions; facts 2 §3.2).
const PRICE: f64 = 0.005;
/// Dollars a month from which a scan is dear.
const DEAR: f64 = 100.0;
/// Seconds one LIST takes, with a network between.
const LIST_TAKES: f64 = 0.03;

/// How often the server scans its directory.
pub fn interval(f: &Facts<'_>) -> Duration {
    spark::scan_interval(f.effective(SCAN_INTERVAL_KEY).as_deref())
}

/// An event log's application and attempt, as Spark names its files and directories.
pub fn log_name(name: &str) -> Option<Attempt> {
    let rolling = name.strip_suffix('/');
    let stem = match rolling {
        Some(directory) => directory.strip_prefix("eventlog_v2_")?,
        None if name.starts_with(['.', '_']) => return None,
        None => {
            let name = name.strip_suffix(".inprogress").unwrap_or(name);
            CODECS.iter().find_map(|codec| name.strip_suffix(codec)).unwrap_or(name)
        }
    };
    let parts: Vec<&str> = stem.split('_').collect();
    match parts.as_slice() {
        ["application", timestamp, number] => {
            Some(Attempt { application: format!("application_{timestamp}_{number}"), attempt: None })
        }
        ["application", timestamp, number, attempt] => {
            Some(Attempt { application: format!("application_{timestamp}_{number}"), attempt: Some((*attempt).into()) })
        }
        _ if stem.starts_with("local-") || stem.starts_with("spark-") || stem.starts_with("app-") => {
            Some(Attempt { application: stem.into(), attempt: None })
        }
        _ => None,
    }
}

/// Whether an event log's name says that it is not compressed. The files of a rolling one say it,
/// its directory does not.
pub fn is_plain(name: &str) -> bool {
    let name = name.strip_suffix(".inprogress").unwrap_or(name);
    !name.ends_with('/') && !CODECS.iter().any(|codec| name.ends_with(codec))
}

/// Whether what lies in S3 is listed.
pub fn reads(f: &Facts<'_>) -> Found {
    let server = server(f)?;
    let Some(uri) = f.event_logs else { return skip("event logs are not in S3") };
    let Some(answer) = &server.answer else { return skip("the history server does not answer") };
    match &answer.reads {
        Some(reads) if !same_directory(reads, &uri.to_string()) => {
            return skip(format!("the history server reads {reads}"));
        }
        _ => {}
    }
    let Some(seen) = f.seen else { return skip("not looked at") };
    let Some(listed) = &seen.server.listed else { return skip("the history server does not say what it lists") };
    let listing = f.store.and_then(|s| s.listing.as_ref()?.as_ref().ok());
    let Some(listing) = listing else { return skip("the prefix could not be listed") };
    let logs: BTreeMap<Attempt, Option<i64>> = event_logs(listing).collect();
    let listed: BTreeSet<&Attempt> = listed.iter().collect();
    let missing: Vec<(&Attempt, Option<i64>)> =
        logs.iter().filter(|(log, _)| !listed.contains(log)).map(|(log, written)| (log, *written)).collect();
    let at_least = if listing.complete { "" } else { "at least " };
    let text = format!("{at_least}{} of {} event logs listed", logs.len() - missing.len(), logs.len());
    if missing.is_empty() {
        return Ok(text);
    }
    let patience = interval(f).saturating_mul(2) + Duration::from_secs(30);
    let settled = seconds_since_1970().saturating_sub_unsigned(patience.as_secs());
    let unreadable = &seen.server.unreadable;
    // The server has said since then of one that it cannot be read.
    let said = seconds_since_1970().saturating_sub_unsigned(unreadable.ago.as_secs());
    // S3 does not tell when a directory was written to.
    let old = |written: &Option<i64>| {
        let is_meant = |written| unreadable.count > 0 && written <= said;
        written.map_or(unreadable.count > 0, |written| written < settled || is_meant(written))
    };
    let missing: Vec<&Attempt> = missing.into_iter().filter(|(_, written)| old(written)).map(|(log, _)| log).collect();
    if missing.is_empty() {
        return skip(format!("{text}; the others are new, or in parts, whose age S3 does not tell"));
    }
    let up = server.process.as_ref().and_then(|p| p.up()).unwrap_or_default();
    if up < FIRST_SCAN && missing.len() > unreadable.count {
        return skip(format!("{text}; the server has just started"));
    }
    let mut fault = Fault::preflight(text).detail(format!("the first that is not: {}", missing[0].application));
    if let Some(reason) = &unreadable.reason {
        fault = fault.detail(format!("its log has “{}”, {}", log_diagnosis::UNREADABLE, times(unreadable.count)));
        fault = fault.detail(format!("and why: {reason}"));
    }
    let log = history_server::log_file(&f.node.spark);
    let look = format!("see what is said of it: grep -A3 {} {}", missing[0].application, log.display());
    let fault = match f.effective("spark.history.store.path") {
        Some(store) => fault
            .detail("a local store remembers a log that could not be read, and it is not tried again while it is as large")
            .hint(format!(
                "{look}; if it can be read by now: sudo systemctl stop {HISTORY_SERVER_UNIT}; sudo find {store} -mindepth 1 -delete; sudo systemctl start {HISTORY_SERVER_UNIT}"
            )),
        None => fault.hint(look),
    };
    Err(Stop::Behind(fault, &["list", "kms", "get", "server log", "disk"]))
}

/// The event logs of a listing, and when they were written, where S3 tells.
fn event_logs(listing: &Listing) -> impl Iterator<Item = (Attempt, Option<i64>)> {
    let files = listing.objects.iter().filter(|o| o.size > 0).map(|o| (o.name.as_str(), Some(o.modified)));
    let directories = listing.directories.iter().map(|name| (name.as_str(), None));
    files.chain(directories).filter_map(|(name, written)| Some((log_name(name)?, written)))
}

fn seconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

/// The LIST requests of one scan: one for a thousand names, and two for each directory of a
/// rolling log (facts 2 §3.2).
pub fn requests(listing: &Listing) -> usize {
    (listing.objects.len() + listing.directories.len()).div_ceil(1000).max(1) + 2 * listing.directories.len()
}

/// Dollars a month, and how long a scan takes, for so many requests at such an interval. A scan that
/// takes longer than the interval is followed by the next at once.
pub fn scanning(requests: usize, every: f64) -> (f64, f64) {
    let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
    let takes = requests * LIST_TAKES;
    (30.0 * 86_400.0 / every.max(takes) * requests / 1000.0 * PRICE, takes)
}

/// What scanning costs.
pub fn cost(f: &Facts<'_>) -> Found {
    let listing = f.store.and_then(|s| s.listing.as_ref()?.as_ref().ok());
    let Some(listing) = listing else { return skip("the prefix was not listed") };
    let every = interval(f).as_secs_f64().max(1.0);
    let requests = requests(listing);
    let (dollars, takes) = scanning(requests, every);
    let at_least = if listing.complete { "" } else { "at least " };
    let text = format!("{at_least}{requests} LIST a scan, every {every} s: about {} USD a month", price(dollars));
    if dollars < DEAR {
        return Ok(text);
    }
    let mut fault = Fault::preflight(text);
    if takes > every {
        fault = fault.detail(format!("one scan takes some {takes:.0} s, so new applications are listed that late"));
    }
    if !listing.directories.is_empty() {
        fault = fault.detail(format!("{} rolling event logs take two requests each", listing.directories.len()));
    }
    let slower = (every.max(takes) * dollars / DEAR * 2.0).ceil();
    Err(fault
        .hint(format!(
            "{} --set spark.history.fs.update.interval={slower:.0}s; or keep fewer logs under one prefix",
            f.install_again()
        ))
        .into())
}

fn price(dollars: f64) -> String {
    if dollars < 10.0 { format!("{dollars:.1}") } else { format!("{dollars:.0}") }
}
