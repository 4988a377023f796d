//! The checks of the history server: that it lives, and that it reads.

use super::listing::interval;
use crate::doctor::gather::STARTING;
use crate::doctor::{Facts, Found, Stop, skip};
use crate::error::Fault;
use crate::node::history_server::{self, Attempt, HistoryServer, NO_JAR};
use crate::node::log_diagnosis::{self, Sighting, Unreadable};
use crate::node::{Node, jars, process};
use crate::paths::HISTORY_SERVER_UNIT;
use std::time::Duration;

/// How much of a line of a log is shown.
const LINE: usize = 240;

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
    /// What its log says of event logs that it could not read.
    pub unreadable: Unreadable,
}

impl Server {
    /// What the log has.
    pub fn of_log(node: &Node) -> Self {
        let (text, written) = history_server::log(&node.spark);
        Self {
            sightings: log_diagnosis::sightings(&text, written),
            last_words: log_diagnosis::last_words(&text),
            unreadable: log_diagnosis::unreadable(&text, written),
            ..Self::default()
        }
    }
}

/// The history server, where there are services.
pub fn server<'a>(f: &Facts<'a>) -> Result<&'a HistoryServer, Stop> {
    match &f.node.server {
        Some(server) if server.unit.exists => Ok(server),
        Some(_) => skip(format!("there is no {HISTORY_SERVER_UNIT}")),
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
            .detail(format!("its log: {}", cut(&found.diagnosis.line)))
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
    Err(fault
        .hint(format!(
            "end that process, then: sudo emr-shs restart; or: {} --set spark.history.ui.port=18081",
            f.install_again()
        ))
        .into())
}

/// Whether the server would delete event logs.
pub fn cleaner(f: &Facts<'_>) -> Found {
    const KEY: &str = "spark.history.fs.cleaner.enabled";
    let Some(event_logs) = f.event_logs else { return skip("event logs are not in S3") };
    if f.force || !f.effective(KEY).is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return Ok("off".into());
    }
    let age = f.effective("spark.history.fs.cleaner.maxAge").unwrap_or("7d".into());
    if f.seen.is_some() && f.settings.set.get(KEY).is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return Ok(format!("on, as installed: it deletes what is older than {age}"));
    }
    let verb = if f.seen.is_some() { "deletes" } else { "would delete" };
    Err(Fault::preflight(format!("the history server {verb} event logs from {event_logs}"))
        .detail(format!("found {KEY} true, with a maximum age of {age}; wanted false"))
        .detail("it deletes everybody's logs under the prefix, not only this cluster's")
.unchanged()
        .hint(match f.seen {
            Some(_) => format!("{} --set {KEY}=false; an S3 lifecycle rule deletes more cheaply", f.install_again()),
            None => format!("set it to false (an S3 lifecycle rule deletes more cheaply): --set {KEY}=false; or add --force if that is what you want"),
        })
        .into())
}

/// Whether the server runs and answers.
pub fn service(f: &Facts<'_>) -> Found {
    let server = server(f)?;
    let up = server.process.as_ref().and_then(|p| p.up());
    let log = history_server::log_file(&f.node.spark);
    let later = f.seen.map(|seen| seen.server.pid_later);
    let another = later.is_some_and(|later| later != server.process.as_ref().map(|p| p.pid));
    let restarts = server.unit.restarts;
    if server.dies() || restarts > 1 && another {
        let fault = Fault::preflight(format!("the history server dies and is started again, {restarts} times so far"));
        return Err(why_dead(f, fault));
    }
    let Some(process) = &server.process else {
        let active = &server.unit.active;
        if server.unit.was_stopped() {
            return Err(Fault::preflight("the history server is stopped")
                .detail(format!("its unit {HISTORY_SERVER_UNIT} is {active}: it did not end by itself"))
                .hint(format!("sudo systemctl start {HISTORY_SERVER_UNIT}"))
                .into());
        }
        return Err(why_dead(f, Fault::preflight(format!("the history server does not run; its unit is {active}"))));
    };
    let ran = up.map_or("for a while".into(), span);
    if another {
        return Err(Fault::preflight("the history server was restarted while this looked at it")
            .detail("something starts it again and again, or somebody has just done so")
            .hint(format!("systemctl status {HISTORY_SERVER_UNIT}; tail -50 {}", log.display()))
            .into());
    }
    if process.is_suspended() {
        return Err(Fault::preflight(format!(
            "the history server is suspended, so port {} does not answer",
            server.port
        ))
        .detail(format!("process {} was sent SIGSTOP, or is being debugged", process.pid))
        .hint(format!("sudo kill -CONT {}", process.pid))
        .into());
    }
    let young = up.is_some_and(|up| up < STARTING);
    if young && server.answer.is_none() && !server.wants_login && server.moved_to().is_none() {
        return skip(format!("started {ran} ago and does not answer yet; look again in a minute"));
    }
    if server.unit.active != "active" {
        return Err(Fault::preflight(format!("process {} runs, and its unit is {}", process.pid, server.unit.active))
            .detail("a process that systemd does not know is in the way of the next start")
            .hint("sudo emr-shs restart")
            .into());
    }
    match &server.answer {
        Some(answer) => Ok(format!("up {ran}, Spark {} answers on port {}", answer.version, server.port)),
        None if server.wants_login => Ok(format!("up {ran}, port {} wants a login", server.port)),
        None if server.moved_to().is_some() => {
            skip(format!("up {ran}, on another port than {}: see port", server.port))
        }
        None => {
            let fault = Fault::preflight(format!("the history server is stuck: port {} does not answer", server.port))
                .detail(format!("process {} has been running for {ran}", process.pid))
                .hint(format!("sudo emr-shs restart; if that does not help: tail -50 {}", log.display()));
            Err(Stop::Behind(fault, &["credentials", "bucket"]))
        }
    }
}

/// With what stopped the server, where its log gives that away: the last of it.
fn why_dead(f: &Facts<'_>, fault: Fault) -> Stop {
    let words = f.seen.map_or(&[][..], |seen| &seen.server.last_words);
    let Some(found) = f.seen.and_then(|seen| seen.server.sightings.last()).map(|s| &s.diagnosis) else {
        let log = history_server::log_file(&f.node.spark);
        let hint = if words.is_empty() { "sudo emr-shs restart".into() } else { format!("tail -50 {}", log.display()) };
        return words.iter().fold(fault, |fault, line| fault.detail(format!("its log: {line}"))).hint(hint).into();
    };
    let fault = fault.detail(format!("its log says why: {}", found.cause)).detail(cut(&found.line));
    let jar = found.missing_class.as_ref().and_then(|class| jars::find_anywhere(f.host, class));
    let fault = match jar {
        Some(jar) => fault.hint(format!("{} --jar {}", f.install_again(), jar.display())),
        None if found.missing_class.is_some() => fault.hint(NO_JAR),
        None => fault.hint(format!("{}; then: sudo emr-shs restart", found.fix)),
    };
    Stop::Behind(fault, found.checks)
}

/// A line of a log without the tail of it that repeats its causes.
fn cut(line: &str) -> String {
    match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.into(),
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

/// How often something happened.
pub fn times(n: usize) -> String {
    if n == 1 { "once".into() } else { format!("{n} times") }
}

/// Whether the server's log shows known trouble.
pub fn log(f: &Facts<'_>) -> Found {
    let server = server(f)?;
    let Some(seen) = f.seen else { return skip("not read") };
    if server.process.is_none() {
        return skip("the server does not run: see service");
    }
    // What still goes wrong does so at each scan.
    let recent = interval(f) * 2 + Duration::from_secs(30);
    let (new, old): (Vec<&Sighting>, Vec<&Sighting>) = seen.server.sightings.iter().partition(|s| s.ago <= recent);
    let Some(first) = new.first() else {
        return Ok(match old.last() {
            Some(last) => format!("nothing now; {} ago: {}", span(last.ago), last.diagnosis.cause),
            None => "nothing known".into(),
        });
    };
    let mut fault = Fault::preflight(format!("{}, {}", first.diagnosis.cause, times(first.count)));
    fault = fault.detail(cut(&first.diagnosis.line));
    for other in &new[1..] {
        fault =
            fault.detail(format!("{}, {}: {}", other.diagnosis.cause, times(other.count), cut(&other.diagnosis.line)));
    }
    let fix = match f.node.spark.env.contains_key("SPARK_DAEMON_CLASSPATH") {
        // It has the last word, whatever install gives to the unit.
        true if first.diagnosis.cause == log_diagnosis::SILENCED => format!(
            "let SPARK_DAEMON_CLASSPATH begin with {}/jars/*: in /etc/spark/conf/spark-env.sh (and in the cluster's \
             configuration: spark-env, export), then: sudo emr-shs restart",
            f.node.spark.home.display()
        ),
        _ => first.diagnosis.fix.clone(),
    };
    Err(Stop::Behind(fault.hint(fix), first.diagnosis.checks))
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
        .detail("it answers 401 or 403 to this node itself")
        .unchanged()
        .hint("take the filter off its pages for the time of the installation: spark.ui.filters")
        .into())
}
