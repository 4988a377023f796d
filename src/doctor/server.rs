//! The checks of the history server: that it lives, and that it reads.

use super::store::install_again;
use super::{Facts, Found, Stop, skip};
use crate::fault::Fault;
use crate::node::Node;
use crate::node::history_server::{self, Attempt, HistoryServer, UNIT, same_directory};
use crate::node::process;
use crate::node::symptoms::{self, Sighting};
use crate::s3::Listing;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A server that starts has so long to list what it finds.
const FIRST_SCAN: Duration = Duration::from_secs(600);
/// Dollars for a thousand LIST requests (AWS's price in most regions; facts 2 §3.2).
const PRICE: f64 = 0.005;
/// Dollars a month from which a scan is dear.
const DEAR: f64 = 100.0;
/// Seconds one LIST takes, with a network between.
const LIST_TAKES: f64 = 0.03;

/// What the history server says, and writes into its log.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// The process, some time after the first look.
    pub pid_later: Option<u32>,
    /// What it lists.
    pub listed: Option<Vec<Attempt>>,
    /// An application of a moderate size, and what its executors have in the event log.
    pub attributes: Option<(String, Vec<String>)>,
    /// Known trouble in its log, the first of its kind each, with how often and how long ago.
    pub sightings: Vec<Sighting>,
    /// The last lines of the log that speak of errors.
    pub last_words: Vec<String>,
    /// Lines that say that an event log could not be read.
    pub unreadable: usize,
    /// The first of them, with its reason.
    pub unreadable_reason: Option<String>,
}

impl Server {
    /// What the log has.
    pub fn of_log(node: &Node) -> Self {
        let (text, written) = history_server::log(&node.spark);
        let (unreadable, unreadable_reason) = symptoms::unreadable(&text);
        Self {
            sightings: symptoms::sightings(&text, written),
            last_words: symptoms::last_words(&text),
            unreadable,
            unreadable_reason,
            ..Self::default()
        }
    }
}

fn server<'a>(f: &Facts<'a>) -> Result<&'a HistoryServer, Stop> {
    match &f.node.server {
        Some(server) if server.unit.exists => Ok(server),
        Some(_) => skip(format!("there is no {UNIT}")),
        None => skip("below another root there are no services"),
    }
}

/// Whether the server has memory enough to live.
pub fn heap(f: &Facts<'_>) -> Found {
    let server = server(f)?;
    let heap = f.node.spark.daemon_heap_mib();
    let room = memory_mib();
    let fix = "set SPARK_DAEMON_MEMORY=4g or more in the spark-env/export classification (now: /etc/spark/conf/spark-env.sh), then: sudo emr-shs restart";
    let sightings = f.seen.map_or(&[][..], |seen| &seen.server.sightings);
    if let Some(found) = sightings.iter().find(|s| s.diagnosis.line.contains("OutOfMemoryError")) {
        return Err(Fault::preflight(format!("a heap of {heap} MiB is too small: it ran out of memory"))
            .detail(format!("its log: {}", found.diagnosis.line))
            .hint(fix)
            .into());
    }
    if server.unit.was_killed() {
        return Err(Fault::preflight("its process was killed by SIGKILL, as the kernel does when memory runs out")
            .detail(format!("its heap is {heap} MiB, this machine has {} MiB", room.unwrap_or_default()))
            .hint("journalctl -k | grep -i 'out of memory'")
            .into());
    }
    if let Some(room) = room.filter(|room| *room < heap) {
        return Err(Fault::preflight(format!("a heap of {heap} MiB does not fit into this machine's {room} MiB"))
            .hint("lower SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh")
            .into());
    }
    let largest = f.store.and_then(|s| s.listing.as_ref()?.as_ref().ok()?.objects.iter().map(|o| o.size).max());
    Ok(match largest {
        Some(size) if size > 1 << 20 => format!("{heap} MiB; the largest event log has {} MiB", size >> 20),
        _ => format!("{heap} MiB"),
    })
}

fn memory_mib() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = info.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kib >> 10)
}

/// Whether the server has its port.
pub fn port(f: &Facts<'_>) -> Found {
    let server = server(f)?;
    let port = server.port;
    let Some(listener) = process::listener(port) else { return Ok(format!("{port} is free")) };
    let own = server.process.as_ref();
    if own.is_some_and(|p| p.listens.iter().any(|at| at.port() == port)) || listener.is_history_server() {
        return Ok(format!("{port} is the history server's"));
    }
    if listener.pid.is_none() {
        return skip(format!("{port} is taken; only root may see by whom"));
    }
    let mut fault = Fault::preflight(format!("port {port} is taken by another process"))
        .detail(format!("found {}", listener.who()));
    if let Some(moved) = server.moved_to() {
        fault = fault.detail(format!("the history server answers on {moved} instead"));
    }
    Err(fault.hint("end that process or give the server another port (--set spark.history.ui.port=18081), then: sudo emr-shs restart").into())
}

/// Whether the server would delete event logs.
pub fn cleaner(f: &Facts<'_>) -> Found {
    const KEY: &str = "spark.history.fs.cleaner.enabled";
    let Some(event_logs) = f.event_logs else { return skip("event logs are not in S3") };
    if f.force || !f.effective(KEY).is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return Ok("off".into());
    }
    let age = f.effective("spark.history.fs.cleaner.maxAge").unwrap_or("7d".into());
    let verb = if f.seen.is_some() { "deletes" } else { "would delete" };
    Err(Fault::preflight(format!("the history server {verb} event logs from {event_logs}"))
        .detail(format!("found {KEY} true, with a maximum age of {age}; wanted false"))
        .detail("it deletes everybody's logs under the prefix, not only this cluster's; nothing was changed")
        .hint(format!("set it to false (an S3 lifecycle rule deletes more cheaply): --set {KEY}=false; or add --force if that is what you want"))
        .into())
}

/// Whether the server runs and answers.
pub fn service(f: &Facts<'_>) -> Found {
    let server = server(f)?;
    let seen = f.seen;
    let log = f.node.spark.log_dir().join("spark-history-server.out");
    let Some(process) = &server.process else {
        let active = &server.unit.active;
        let fault = Fault::preflight(format!("the history server does not run; its unit is {active}"));
        // What stopped it, where its log gives that away: the last of it.
        let sighting = seen.and_then(|seen| seen.server.sightings.last());
        let words = seen.map_or(&[][..], |seen| &seen.server.last_words);
        let fault = match sighting {
            Some(Sighting { diagnosis, .. }) => fault
                .detail(format!("its log says why: {}", diagnosis.cause))
                .detail(diagnosis.line.clone())
                .hint(format!("{}; then: sudo emr-shs restart", diagnosis.fix)),
            None if words.is_empty() => fault.hint("sudo emr-shs restart"),
            None => words
                .iter()
                .fold(fault, |fault, line| fault.detail(format!("its log: {line}")))
                .hint(format!("tail -50 {}", log.display())),
        };
        return Err(fault.into());
    };
    if seen.is_some_and(|seen| seen.server.pid_later != Some(process.pid)) {
        return Err(Fault::preflight("the history server was restarted while this looked at it")
            .detail("something starts it again and again, or somebody has just done so")
            .hint(format!("systemctl status {UNIT}; tail -50 {}", log.display()))
            .into());
    }
    if server.unit.active != "active" {
        return Err(Fault::preflight(format!("process {} runs, and its unit is {}", process.pid, server.unit.active))
            .detail("a process that systemd does not know is in the way of the next start")
            .hint("sudo emr-shs restart")
            .into());
    }
    let up = process.up().map_or(String::new(), |up| format!("up {}, ", span(up)));
    match &server.answer {
        Some(answer) => Ok(format!("{up}Spark {} answers on port {}", answer.version, server.port)),
        None if server.wants_login => Ok(format!("{up}port {} wants a login", server.port)),
        None if server.moved_to().is_some() => skip(format!("{up}on another port than {}", server.port)),
        None => {
            Err(Fault::preflight(format!("process {} runs, and port {} does not answer", process.pid, server.port))
                .detail("it is starting, or stuck")
                .hint(format!("tail -50 {}", log.display()))
                .into())
        }
    }
}

fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Whether the server's log shows known trouble.
pub fn log(f: &Facts<'_>) -> Found {
    let server = server(f)?;
    let Some(seen) = f.seen else { return skip("not read") };
    if server.process.is_none() {
        return skip("what stopped the server is under service");
    }
    let recent = (interval(f) * 3).max(Duration::from_secs(300));
    let (new, old): (Vec<&Sighting>, Vec<&Sighting>) = seen.server.sightings.iter().partition(|s| s.ago <= recent);
    let Some(first) = new.first() else {
        return Ok(match old.last() {
            Some(last) => format!("nothing now; {} ago: {}", span(last.ago), last.diagnosis.cause),
            None => "nothing known".into(),
        });
    };
    let mut fault = Fault::preflight(format!("{}, {}", first.diagnosis.cause, times(first.count)));
    fault = fault.detail(first.diagnosis.line.clone());
    for other in &new[1..] {
        fault = fault.detail(format!("{}, {}: {}", other.diagnosis.cause, times(other.count), other.diagnosis.line));
    }
    Err(fault.hint(first.diagnosis.fix.clone()).into())
}

fn times(n: usize) -> String {
    if n == 1 { "once".into() } else { format!("{n} times") }
}

/// Whether the server tells what it reads.
pub fn pages(f: &Facts<'_>) -> Found {
    let server = server(f)?;
    if !server.wants_login {
        return Ok("no login before its pages".into());
    }
    if f.seen.is_some() {
        return skip("it wants a login (spark.ui.filters), so what it reads cannot be seen");
    }
    Err(Fault::preflight("the history server wants a login, so nobody could tell what it reads after a restart")
        .detail("it answers 401 or 403 to this node itself; nothing was changed")
        .hint("take the filter off its pages for the time of the installation: spark.ui.filters")
        .into())
}

/// How often the server scans its directory.
pub fn interval(f: &Facts<'_>) -> Duration {
    let key = f.effective("spark.history.fs.update.interval");
    key.and_then(|text| seconds(&text)).unwrap_or(Duration::from_secs(10))
}

/// `60s`, `5m`, `1h`, or a bare number of seconds, as Spark reads a time.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let n: u64 = digits.parse().ok()?;
    Some(match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "s" => Duration::from_secs(n),
        "ms" => Duration::from_millis(n),
        "m" | "min" => Duration::from_secs(n * 60),
        "h" => Duration::from_secs(n * 3600),
        "d" => Duration::from_secs(n * 86_400),
        _ => return None,
    })
}

/// An event log's application and attempt, as Spark names its files and directories.
fn log_name(name: &str) -> Option<Attempt> {
    let rolling = name.strip_suffix('/');
    let stem = match rolling {
        Some(directory) => directory.strip_prefix("eventlog_v2_")?,
        None if name.starts_with(['.', '_']) => return None,
        None => {
            let name = name.strip_suffix(".inprogress").unwrap_or(name);
            let codecs = [".zstd", ".lz4", ".lzf", ".snappy"];
            codecs.iter().find_map(|codec| name.strip_suffix(codec)).unwrap_or(name)
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
    let at_least = if listing.whole { "" } else { "at least " };
    let text = format!("{at_least}{} of {} event logs listed", logs.len() - missing.len(), logs.len());
    if missing.is_empty() {
        return Ok(text);
    }
    // S3 does not tell when a directory was written to.
    let patience = interval(f) * 2 + Duration::from_secs(30);
    let settled = seconds_since_1970() - patience.as_secs().cast_signed();
    let all_new = missing.iter().all(|(_, written)| written.is_none_or(|written| written > settled));
    let starting = server.process.as_ref().and_then(|p| p.up()).is_some_and(|up| up < FIRST_SCAN);
    if seen.server.unreadable == 0 && (starting || all_new) {
        return skip(format!("{text}; the others are new, or the server has just started"));
    }
    let missing: Vec<&Attempt> = missing.into_iter().map(|(log, _)| log).collect();
    let mut fault = Fault::preflight(text).detail(format!("the first that is not: {}", missing[0].application));
    if let Some(reason) = &seen.server.unreadable_reason {
        fault = fault.detail(format!("its log has “{}”, {}", symptoms::UNREADABLE, times(seen.server.unreadable)));
        fault = fault.detail(format!("and why: {reason}"));
    }
    let lacks_key = f.store.and_then(|s| s.sample.as_ref()).is_some_and(Result::is_err);
    Err(fault
        .hint(match lacks_key {
            true => "the checks get and kms tell which permission is missing".into(),
            false => format!(
                "see what is said of it: grep -A3 {} {}",
                missing[0].application,
                f.node.spark.log_dir().join("spark-history-server.out").display()
            ),
        })
        .into())
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
fn requests(listing: &Listing) -> usize {
    (listing.objects.len() + listing.directories.len()).div_ceil(1000).max(1) + 2 * listing.directories.len()
}

/// What scanning costs.
pub fn cost(f: &Facts<'_>) -> Found {
    let listing = f.store.and_then(|s| s.listing.as_ref()?.as_ref().ok());
    let Some(listing) = listing else { return skip("the prefix was not listed") };
    let every = interval(f).as_secs_f64().max(1.0);
    let requests = requests(listing);
    // A scan that takes longer than the interval is followed by the next at once.
    let takes = f64::from(u32::try_from(requests).unwrap_or(u32::MAX)) * LIST_TAKES;
    let scans = 30.0 * 86_400.0 / every.max(takes);
    let dollars = scans * f64::from(u32::try_from(requests).unwrap_or(u32::MAX)) / 1000.0 * PRICE;
    let at_least = if listing.whole { "" } else { "at least " };
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
    let slower = (every * dollars / DEAR * 2.0).ceil().max(every);
    Err(fault
        .hint(format!(
            "scan less often (--set spark.history.fs.update.interval={slower:.0}s), or keep fewer logs under one prefix: {}",
            install_again(f)
        ))
        .into())
}

fn price(dollars: f64) -> String {
    if dollars < 10.0 { format!("{dollars:.1}") } else { format!("{dollars:.0}") }
}
