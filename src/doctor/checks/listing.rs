//! The checks of the history server's list: that it contains every event log, and what scanning costs.

use super::node::READS_CACHE;
use crate::aws::s3::Listing;
use crate::desired::local_store::{self, LISTINGS};
use crate::doctor::check::{CheckId, CheckResult, NotPassed, skip};
use crate::doctor::event_logs::{EventLog, event_logs, unlisted};
use crate::doctor::facts::{Facts, S3Observations};
use crate::error::Fault;
use crate::host::Host;
use crate::node::event_logs::{EventLogName, reads_rolling};
use crate::node::history_server::{self, same_directory};
use crate::node::log_diagnosis::KnownError;
use crate::node::spark::{self, Version};
use crate::paths::{HISTORY_SERVER_UNIT, LOCAL_STORE_KEY, SCAN_INTERVAL_KEY};
use crate::shown::hint;
use fs_err as fs;
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

/// Whether the server has logged an error in its last two scans: an error that persists appears at each scan.
pub(super) fn is_new(f: &Facts<'_>, error: &KnownError) -> bool {
    error.is_within(scan_interval(f) * 2 + Duration::from_secs(30))
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
    let Some(s3) = f.s3 else { return skip("S3 was not asked") };
    let spark = f.node.spark.version.as_ref();
    let logs = event_logs(listing, &s3.event_logs.rolling, spark);
    let (missing, foreign): (Vec<_>, Vec<_>) =
        unlisted(&logs, listed).into_iter().partition(|log| log.name.is_of_spark);
    let at_least = if listing.complete { "" } else { "at least " };
    let total = logs.len() - foreign.len();
    let found = format!("{at_least}{} of {total} event logs listed", total - missing.len());
    if missing.is_empty() {
        return Ok(with_notes(found, listing, &foreign, spark));
    }
    let overdue = overdue(f, missing)?;
    let Some(first) = overdue.first() else {
        return skip(format!("{found}; the others are new, or rolling event logs whose age is not known"));
    };
    let up = server.process.as_ref().and_then(|p| p.up()).unwrap_or_default();
    let may_still_read = up < FIRST_SCAN && overdue.len() > observed.unreadable.count;
    if may_still_read && observed.unreadable.count == 0 {
        return skip(format!("{found}; the server has just started"));
    }
    let fault = unlisted_fault(f, found, first)?;
    // A cause that lies in single event logs explains nothing about all of them.
    let mut new = f.known_errors().iter().filter(|error| is_new(f, error));
    let causes: &[CheckId] = match new.all(|error| error.diagnosis.cause.is_of_single_event_logs()) {
        true => &[CheckId::List, CheckId::Kms, CheckId::Get, CheckId::Disk],
        false => &[CheckId::List, CheckId::Kms, CheckId::Get, CheckId::ServerLog, CheckId::Disk],
    };
    Err(NotPassed::CausedBy(
        causes,
        match may_still_read {
            true => fault
                .detail(format!("the server has been running for {} s, and may still be reading others", up.as_secs())),
            false => fault,
        },
    ))
}

/// Adds what lies below the prefix and is no event log for this server.
fn with_notes(found: String, listing: &Listing, foreign: &[&EventLog<'_>], spark: Option<&Version>) -> String {
    if let [first, others @ ..] = foreign {
        let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
        return format!("{found}; no event log: {}{more}", first.entry);
    }
    let rolling = || listing.directories.iter().filter(|name| EventLogName::of_entry(name, 0, None).is_some()).count();
    match spark {
        Some(version) if !reads_rolling(spark) && rolling() > 0 => {
            format!("{found}; Spark {version} reads none of {} rolling event logs", rolling())
        }
        _ => found,
    }
}

/// The unlisted event logs that the server should have listed by now.
fn overdue<'l, 'a>(f: &Facts<'_>, unlisted: Vec<&'l EventLog<'a>>) -> Result<Vec<&'l EventLog<'a>>, NotPassed> {
    let unreadable = &f.observations()?.server.unreadable;
    let grace = scan_interval(f).saturating_mul(2) + Duration::from_secs(30);
    let now = seconds_since_1970();
    let settled = now.saturating_sub_unsigned(grace.as_secs());
    let last_failure = unreadable.ago.map(|ago| now.saturating_sub_unsigned(ago.as_secs()));
    let is_overdue = |log: &EventLog<'_>| match log.written {
        Some(written) => written < settled || last_failure.is_some_and(|failed| written <= failed),
        // S3 does not tell when a directory was written.
        None => unreadable.count > 0,
    };
    Ok(unlisted.into_iter().filter(|log| is_overdue(log)).collect())
}

fn unlisted_fault(f: &Facts<'_>, found: String, first: &EventLog<'_>) -> Result<Fault, NotPassed> {
    let unreadable = &f.observations()?.server.unreadable;
    let mut fault = Fault::preflight(found).detail(format!("the first event log that is not listed: {}", first.entry));
    let lacks_status =
        |s3: &S3Observations| s3.event_logs.rolling.get(first.entry).is_some_and(|rolling| !rolling.has_status);
    if f.s3.is_some_and(lacks_status) {
        fault = fault.detail(
            "that directory contains no appstatus_ object, without which Spark cannot read a rolling event log",
        );
    }
    if let Some(says) = &unreadable.says {
        fault = fault.detail(format!("the server's log contains “{says}”, {}", times(unreadable.count)));
    }
    if let Some(reason) = &unreadable.reason {
        fault = fault.detail(format!("the reason: {reason}"));
    }
    let search = hint!(
        "find the reason in the server's log: grep -FA3 -e {} {}",
        first.name.stem,
        history_server::log_file(&f.node.spark)
    );
    Ok(match f.effective(LOCAL_STORE_KEY) {
        Some(store) => fault
            .detail("the local store remembers an event log that the server could not read, or was reading when it was killed, and the server reads it again only when its size changes")
            .hint(hint!(
                "{}; where the server's log says nothing, or once the event log is readable: sudo systemctl stop {}; sudo rm -rf -- {}; sudo systemctl start {}",
                search,
                HISTORY_SERVER_UNIT,
                made_by_spark(f.host, Path::new(store.text())).as_slice(),
                HISTORY_SERVER_UNIT
            )),
        None => fault.hint(search),
    })
}

/// What a history server makes in its local store, and makes again if it is gone. Somebody may have put the store into
/// a directory with other files: then only the list of applications, whose name no other program uses.
fn made_by_spark(host: &Host, store: &Path) -> Vec<PathBuf> {
    const OTHERS: [&str; 2] = ["apps", "temp"];
    const MARKS: [&str; 2] = [local_store::STARTED, local_store::LIST_IS_WHOLE];
    let entries = host.target(store).ok().and_then(|real| fs::read_dir(real).ok());
    let is_sparks = |name: &OsStr| LISTINGS.iter().chain(&OTHERS).chain(&MARKS).any(|known| name == *known);
    let is_sparks_alone = entries.is_some_and(|entries| entries.flatten().all(|entry| is_sparks(&entry.file_name())));
    let others = OTHERS.iter().filter(|_| is_sparks_alone);
    LISTINGS.iter().chain(others).map(|name| store.join(name)).collect()
}

fn seconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

/// The LIST requests of one scan: one for each thousand names, and two for each rolling event log
/// (`docs/emr.md §7.2`).
pub fn requests(listing: &Listing) -> usize {
    let rolling = listing.directories.iter().filter(|name| EventLogName::of_entry(name, 0, None).is_some()).count();
    (listing.objects.len() + listing.directories.len()).div_ceil(1000).max(1) + 2 * rolling
}

/// The price of scanning in USD a month, and how many seconds one scan takes. The next scan begins after
/// the interval, or at once if the scan took longer.
pub fn scanning(requests: usize, interval: f64) -> (f64, f64) {
    let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
    let takes = requests * SECONDS_PER_LIST;
    (30.0 * 86_400.0 / interval.max(takes) * requests / 1000.0 * PRICE, takes)
}

pub(crate) fn cost(f: &Facts<'_>) -> CheckResult {
    if f.settings.index {
        return skip(READS_CACHE);
    }
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
            "{} --index lists them at a small part of the price; or: {} --set {}={}; or keep fewer event logs under one prefix",
            f.install_again(),
            f.install_again(),
            SCAN_INTERVAL_KEY,
            slower
        ))
        .into())
}

fn price(dollars: f64) -> String {
    if dollars < 10.0 { format!("{dollars:.1}") } else { format!("{dollars:.0}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what it expects by unwrapping it")]

    use super::*;

    #[test]
    fn what_somebody_deletes_with_the_store_is_sparks_alone() {
        let root = std::env::temp_dir().join(format!("emr-shs-store-{}", std::process::id()));
        let deleted = |entries: &[&str]| {
            for entry in entries {
                fs::create_dir_all(root.join("data").join(entry)).unwrap();
            }
            let found = made_by_spark(&Host::new(&root), Path::new("/data"));
            fs::remove_dir_all(&root).unwrap();
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        const ALL: &str = "/data/listing.ldb /data/listing.rdb /data/apps /data/temp";
        assert_eq!(deleted(&["listing.rdb", "apps"]), ALL);
        for others in ["customers", "apps.old", "Listing.rdb"] {
            assert_eq!(deleted(&["listing.rdb", "apps", others]), "/data/listing.ldb /data/listing.rdb", "{others}");
        }
    }
}
