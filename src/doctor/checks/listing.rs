//! The checks of the history server's list: that it contains every event log, and what scanning costs.

use crate::aws::s3::Listing;
use crate::doctor::check::{CheckId, CheckResult, NotPassed, skip};
use crate::doctor::facts::Facts;
use crate::error::Fault;
use crate::ids::Attempt;
use crate::node::history_server::{self, same_directory};
use crate::node::log_diagnosis::UNREADABLE_EVENT_LOG;
use crate::node::spark;
use crate::paths::{HISTORY_SERVER_UNIT, LOCAL_STORE_KEY, SCAN_INTERVAL_KEY};
use crate::shown::hint;
use fs_err as fs;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a started server may take to list every event log.
const FIRST_SCAN: Duration = Duration::from_secs(600);
/// The price of a thousand LIST requests in USD, in most regions (`docs/emr.md §7.2`).
const PRICE: f64 = 0.005;
/// From this many USD a month, scanning counts as expensive.
const EXPENSIVE: f64 = 100.0;
/// The seconds that one LIST request takes over a network.
const SECONDS_PER_LIST: f64 = 0.03;

/// How often the server scans its directory.
pub(super) fn scan_interval(f: &Facts<'_>) -> Duration {
    spark::scan_interval(f.effective(SCAN_INTERVAL_KEY).as_ref())
}

/// How often something happened, in words.
pub(super) fn times(n: usize) -> String {
    if n == 1 { "once".into() } else { format!("{n} times") }
}

pub(crate) fn reads(f: &Facts<'_>) -> CheckResult {
    let server = f.server()?;
    let Some(uri) = f.event_logs else { return skip("the event logs are not in S3") };
    let Some(answer) = &server.answer else {
        return match &server.barrier {
            Some(_) => skip("the pages of the history server cannot be seen: see pages"),
            None => skip("the history server does not answer"),
        };
    };
    match &answer.reads {
        Some(reads) if !same_directory(reads, &uri.to_string()) => {
            return skip(format!("the history server reads {reads}"));
        }
        _ => {}
    }
    let observed = &f.observations()?.server;
    let Some(listed) = &observed.listed else { return skip("the history server did not answer what it lists in time") };
    let Some(listing) = f.listing() else { return skip("the prefix could not be listed") };
    let logs: BTreeMap<Attempt, Option<i64>> = event_logs(listing).collect();
    let listed: BTreeSet<&Attempt> = listed.iter().collect();
    let unlisted: Vec<(&Attempt, Option<i64>)> =
        logs.iter().filter(|(log, _)| !listed.contains(log)).map(|(log, written)| (log, *written)).collect();
    let at_least = if listing.complete { "" } else { "at least " };
    let found = format!("{at_least}{} of {} event logs listed", logs.len() - unlisted.len(), logs.len());
    if unlisted.is_empty() {
        return Ok(found);
    }
    let overdue = overdue(f, unlisted)?;
    let Some(first) = overdue.first() else {
        return skip(format!("{found}; the others are new, or rolling event logs, whose age S3 does not tell"));
    };
    let up = server.process.as_ref().and_then(|p| p.up()).unwrap_or_default();
    if up < FIRST_SCAN && overdue.len() > observed.unreadable.count {
        return skip(format!("{found}; the server has just started"));
    }
    Err(NotPassed::CausedBy(
        &[CheckId::List, CheckId::Kms, CheckId::Get, CheckId::ServerLog, CheckId::Disk],
        unlisted_fault(f, found, first)?,
    ))
}

/// The unlisted event logs that the server should have listed by now.
fn overdue<'a>(f: &Facts<'_>, unlisted: Vec<(&'a Attempt, Option<i64>)>) -> Result<Vec<&'a Attempt>, NotPassed> {
    let unreadable = &f.observations()?.server.unreadable;
    let grace = scan_interval(f).saturating_mul(2) + Duration::from_secs(30);
    let now = seconds_since_1970();
    let settled = now.saturating_sub_unsigned(grace.as_secs());
    let last_failure = now.saturating_sub_unsigned(unreadable.ago.as_secs());
    let is_overdue = |written: Option<i64>| match written {
        Some(written) => written < settled || unreadable.count > 0 && written <= last_failure,
        // S3 does not tell when a directory was written.
        None => unreadable.count > 0,
    };
    Ok(unlisted.into_iter().filter(|(_, written)| is_overdue(*written)).map(|(log, _)| log).collect())
}

fn unlisted_fault(f: &Facts<'_>, found: String, first: &Attempt) -> Result<Fault, NotPassed> {
    let unreadable = &f.observations()?.server.unreadable;
    let application = &first.application;
    let mut fault = Fault::preflight(found).detail(format!("the first event log that is not listed: {application}"));
    if let Some(reason) = &unreadable.reason {
        fault = fault
            .detail(format!("the server's log contains “{UNREADABLE_EVENT_LOG}”, {}", times(unreadable.count)))
            .detail(format!("the reason: {reason}"));
    }
    let search = hint!(
        "find the reason in the server's log: grep -A3 -e {} {}",
        application,
        history_server::log_file(&f.node.spark)
    );
    Ok(match f.effective(LOCAL_STORE_KEY) {
        Some(store) => fault
            .detail("the local store remembers an unreadable event log, and the server tries it again only when its size changes")
            .hint(hint!(
                "{}; once the event log is readable: sudo systemctl stop {}; sudo rm -rf -- {}; sudo systemctl start {}",
                search,
                HISTORY_SERVER_UNIT,
                made_by_spark(f, Path::new(store.text())).as_slice(),
                HISTORY_SERVER_UNIT
            )),
        None => fault.hint(search),
    })
}

/// What a history server makes in its local store, and makes again if it is gone. Somebody may have put the store into
/// a directory with other files: then only the list of applications, whose name no other program uses.
fn made_by_spark(f: &Facts<'_>, store: &Path) -> Vec<PathBuf> {
    const LISTINGS: [&str; 2] = ["listing.ldb", "listing.rdb"];
    const OTHERS: [&str; 2] = ["apps", "temp"];
    let entries = f.host.target(store).ok().and_then(|real| fs::read_dir(real).ok());
    let is_sparks = |name: &OsStr| LISTINGS.iter().chain(&OTHERS).any(|known| name == *known);
    let is_sparks_alone = entries.is_some_and(|entries| entries.flatten().all(|entry| is_sparks(&entry.file_name())));
    let others = OTHERS.iter().filter(|_| is_sparks_alone);
    LISTINGS.iter().chain(others).map(|name| store.join(name)).collect()
}

/// The event logs of a listing, and when they were written, where S3 tells.
fn event_logs(listing: &Listing) -> impl Iterator<Item = (Attempt, Option<i64>)> {
    let files = listing.objects.iter().filter(|o| o.size > 0).map(|o| (o.name.as_str(), Some(o.modified)));
    let directories = listing.directories.iter().map(|name| (name.as_str(), None));
    files.chain(directories).filter_map(|(name, written)| Some((Attempt::of_event_log(name)?, written)))
}

fn seconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

/// The LIST requests of one scan: one for each thousand names, and two for each rolling event log
/// (`docs/emr.md §7.2`).
pub fn requests(listing: &Listing) -> usize {
    (listing.objects.len() + listing.directories.len()).div_ceil(1000).max(1) + 2 * listing.directories.len()
}

/// The price of scanning in USD a month, and how many seconds one scan takes. The next scan begins after
/// the interval, or at once if the scan took longer.
pub fn scanning(requests: usize, interval: f64) -> (f64, f64) {
    let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
    let takes = requests * SECONDS_PER_LIST;
    (30.0 * 86_400.0 / interval.max(takes) * requests / 1000.0 * PRICE, takes)
}

pub(crate) fn cost(f: &Facts<'_>) -> CheckResult {
    let Some(listing) = f.listing() else { return skip("the prefix was not listed") };
    let interval = scan_interval(f).as_secs_f64().max(1.0);
    let requests = requests(listing);
    let (dollars, takes) = scanning(requests, interval);
    let at_least = if listing.complete { "" } else { "at least " };
    let found = format!("{at_least}{requests} LIST a scan, every {interval} s: about {} USD a month", price(dollars));
    if dollars < EXPENSIVE {
        return Ok(found);
    }
    let mut fault = Fault::preflight(found);
    if takes > interval {
        fault = fault.detail(format!("one scan takes about {takes:.0} s, and new applications appear only after it"));
    }
    if !listing.directories.is_empty() {
        fault = fault.detail(format!("each of {} rolling event logs takes two requests", listing.directories.len()));
    }
    let slower = format!("{:.0}s", (interval.max(takes) * dollars / EXPENSIVE * 2.0).ceil());
    Err(fault
        .hint(hint!(
            "{} --set {}={}; or keep fewer event logs under one prefix",
            f.install_again(),
            SCAN_INTERVAL_KEY,
            slower
        ))
        .into())
}

fn price(dollars: f64) -> String {
    if dollars < 10.0 { format!("{dollars:.1}") } else { format!("{dollars:.0}") }
}
