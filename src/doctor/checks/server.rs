//! The checks of the history server: its memory, its port, its process, and its log.

use super::listing::{is_new, times};
use crate::desired::taken_port::TakenPort;
use crate::doctor::causes::explained_by;
use crate::doctor::check::{CheckId, CheckResult, NotPassed, skip};
use crate::doctor::facts::{Facts, Mode};
use crate::error::Fault;
use crate::node::history_server::{self, HistoryServer, LOG_TAIL, NO_JAR, NoLog, STARTING};
use crate::node::log_diagnosis::{Cause, KnownError};
use crate::node::process::{self, LookAlike, PortOwner, Process};
use crate::node::spark::Spark;
use crate::node::start_files::{Mention, Place};
use crate::node::{Node, jars};
use crate::paths::{CLEANER_KEY, GATEWAY_UNIT, HISTORY_PORT_KEY, HISTORY_SERVER_UNIT, TAKEN_PORT_SOCKET};
use crate::shown::{Hint, hint};
use crate::systemd;
use crate::values::SparkValue;
use std::time::Duration;

/// The variables of spark-env.sh with options for the server's JVM.
const OPTIONS: &str = "SPARK_HISTORY_OPTS or SPARK_DAEMON_JAVA_OPTS";
/// At most this many characters of a log line are shown: its end repeats its causes.
const LINE: usize = 240;

pub(crate) fn heap(f: &Facts<'_>) -> CheckResult {
    let server = f.server()?;
    let heap = f.node.server_heap_mib();
    if let Some(error) = f.known_errors().iter().find(|error| error.diagnosis.cause == Cause::OutOfMemory) {
        return Err(Fault::preflight(format!("a heap of {heap} MiB is too small: the history server ran out of memory"))
            .detail(format!("its log: {}", shortened(&error.diagnosis.line)))
            .hint("set SPARK_DAEMON_MEMORY=4g or more in /etc/spark/conf/spark-env.sh, then: sudo emr-shs restart; for new clusters, set it in the spark-env/export classification")
            .into());
    }
    let memory = memory_mib();
    if server.unit.was_killed() {
        return Err(Fault::preflight("SIGKILL ended the history server, as the kernel does when memory runs out")
            .detail(format!(
                "the server's heap is {heap} MiB, this machine's memory is {} MiB",
                memory.unwrap_or_default()
            ))
            .hint("sudo journalctl -k | grep -i 'out of memory'")
            .into());
    }
    if let Some(memory) = memory.filter(|memory| *memory < heap) {
        return Err(Fault::preflight(format!("a heap of {heap} MiB does not fit into this machine's {memory} MiB"))
            .hint("lower SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh")
            .into());
    }
    Ok(match f.listing().and_then(|listing| listing.objects.iter().map(|o| o.size).max()) {
        Some(size) if size > 1 << 20 => {
            format!("{heap} MiB; the largest file among the event logs contains {} MiB", size >> 20)
        }
        _ => format!("{heap} MiB"),
    })
}

fn memory_mib() -> Option<u64> {
    use procfs::{Current, Meminfo};
    Some(Meminfo::current().ok()?.mem_total >> 20)
}

pub(crate) fn port(f: &Facts<'_>) -> CheckResult {
    let server = f.server()?;
    let (port, listener) = match f.mode {
        Mode::Live(observations) => (server.port, observations.server.listener.clone()),
        Mode::Preflight { .. } => {
            // The port that the server will have.
            let taken = TakenPort::of(f.node, f.receipt, f.settings)?;
            let set = TakenPort::keys_after(taken.as_ref(), f.node, f.receipt, f.settings);
            let port = server.port_after(&f.node.spark, &set);
            (port, if server.listens_on(port) { None } else { process::listener(port) })
        }
    };
    if server.listens_on(port) {
        return Ok(format!("{port} belongs to the history server"));
    }
    let Some(listener) = listener else { return Ok(format!("port {port} is free")) };
    if listener.pid.is_none() {
        return skip(format!("a process uses port {port}; only root can see which"));
    }
    // The gateway keeps the socket after systemd has closed its own.
    let is_taken = f.receipt.taken_port().is_some_and(|taken| taken.port() == port);
    let is_gateways = is_taken && listener.unit.as_deref() == Some(GATEWAY_UNIT);
    if f.is_preflight() && !f.settings.take_port && (gateway_has(port) || is_gateways) {
        return Ok(format!("the log gateway gives port {port} back"));
    }
    let mut fault = foreign_listener(port, &listener, server);
    if let Mode::Live(observations) = f.mode
        && let Some(moved) = observations.server.moved_to
    {
        fault = fault.detail(format!("the history server answers on port {moved} instead"));
    }
    if f.is_preflight() {
        fault = fault.unchanged();
    }
    let end = fault.hint.take().unwrap_or_else(|| "end that process".into());
    let other_port = port.saturating_add(1);
    if f.is_preflight() {
        // A whole command here would leave out the other options of this one.
        return Err(fault
            .hint(hint!("{}; or choose another port: add --set spark.history.ui.port={}", end, other_port))
            .into());
    }
    Err(fault
        .hint(hint!(
            "{}; or choose another port: {} --set spark.history.ui.port={}",
            end,
            f.install_again(),
            other_port
        ))
        .into())
}

/// Refuses a restart after which the server could not have its port.
pub(crate) fn require_port(node: &Node) -> Result<(), Fault> {
    let Some(server) = node.server.as_ref().filter(|server| !server.listens_on(server.port)) else { return Ok(()) };
    match process::listener(server.port) {
        Some(listener) => Err(foreign_listener(server.port, &listener, server).unchanged()),
        None => Ok(()),
    }
}

/// Refuses a restart after which the server could not write its log, and so would not start.
pub(crate) fn require_log(spark: &Spark) -> Result<(), Fault> {
    let Some((path, what)) = history_server::in_place_of_log(spark) else { return Ok(()) };
    Err(Fault::preflight("the history server would not start again, because it could not write its log")
        .detail(format!("{} is {what}; wanted a file, or nothing", path.display()))
        .unchanged()
        .hint(hint!(
            "look at it: sudo ls -la {}; move it away: sudo mv {} {}.old; then run this command again",
            path,
            path,
            path
        )))
}

/// Whether the log gateway has taken this port.
fn gateway_has(port: u16) -> bool {
    let socket = systemd::show(TAKEN_PORT_SOCKET).ok().and_then(|unit| unit.listens_on());
    socket.is_some_and(|address| address.port() == port)
}

/// A process that is not the unit's server has the server's port.
fn foreign_listener(port: u16, listener: &PortOwner, server: &HistoryServer) -> Fault {
    let found = format!("found {}", listener.description());
    if gateway_has(port) {
        return Fault::preflight(format!("the log gateway has port {port}, and the history server is set to it, too"))
            .detail(format!(
                "{TAKEN_PORT_SOCKET} has the port, and {HISTORY_PORT_KEY} does not name the port to which emr-shs moved the history server"
            ))
            .hint("sudo emr-shs install");
    }
    let end = match (&listener.unit, listener.pid) {
        // user@1000.service is all that a user runs.
        (Some(unit), _) if unit.ends_with(".service") && !unit.starts_with("user@") && unit != HISTORY_SERVER_UNIT => {
            hint!("sudo systemctl stop {}", unit)
        }
        (_, Some(pid)) => hint!("sudo kill {}", pid),
        (_, None) => "end that process".into(),
    };
    if !listener.looks_like_server {
        return Fault::preflight(format!("another process uses port {port}"))
            .detail(found)
            .hint(hint!("{}; then: sudo emr-shs restart", end));
    }
    let own = match &server.process {
        Some(process) => format!("the unit's server is process {}", process.pid),
        None => format!("the unit's own server does not run: the unit is {}", server.unit.active),
    };
    let is_left_behind = Process::servers_in_group(&server.unit).iter().any(|left| Some(left.pid) == listener.pid);
    if is_left_behind {
        return Fault::preflight(format!("an earlier server of {HISTORY_SERVER_UNIT} still has port {port}"))
            .detail(found)
            .detail(own)
            .hint(hint!("{}; sudo systemctl restart {}", end, HISTORY_SERVER_UNIT));
    }
    Fault::preflight(format!("the history server on port {port} does not belong to {HISTORY_SERVER_UNIT}"))
        .detail(found)
        .detail(own)
        .detail("somebody started that server without the unit, so a restart of the unit would not reach it")
        .hint(hint!("if nobody needs that server: {}; sudo systemctl restart {}", end, HISTORY_SERVER_UNIT))
}

/// Refuses what deletes or rewrites event logs that other clusters share: Spark's cleaner, and its compaction of rolling
/// event logs.
pub(crate) fn cleaner(f: &Facts<'_>) -> CheckResult {
    compaction(f)?;
    const ENABLED: &str = CLEANER_KEY;
    let Some(event_logs) = f.event_logs else { return skip("the event logs are not in S3") };
    let deletes = |value: &SparkValue| value.boolean() != Some(false);
    let option = f.feared_option(ENABLED, deletes).filter(|_| !f.force());
    // With the index, an installation switches it off.
    let stays = !(f.is_preflight() && f.settings.index);
    let is_on = stays && f.effective(ENABLED).and_then(|value| value.boolean()) == Some(true);
    if f.force() || option.is_none() && !is_on {
        return Ok("off".into());
    }
    let age = f.effective("spark.history.fs.cleaner.maxAge").unwrap_or(SparkValue::new("7d"));
    let (verb, hint) = match f.mode {
        Mode::Live(_) if f.settings.set.get(ENABLED).is_some_and(|on| SparkValue::new(on).boolean() == Some(true)) => {
            return Ok(format!("on, as installed: it deletes event logs older than {age}"));
        }
        Mode::Live(_) => (
            "deletes",
            hint!("{} --set {}=false; an S3 lifecycle rule deletes at a lower price", f.install_again(), ENABLED),
        ),
        Mode::Preflight { .. } => (
            "would delete",
            hint!(
                "switch it off: --set {}=false (an S3 lifecycle rule deletes at a lower price); or keep it on: --force",
                ENABLED
            ),
        ),
    };
    let hint = in_options(f, ENABLED, option.as_ref()).unwrap_or(hint);
    Err(Fault::preflight(format!("the history server {verb} event logs from {event_logs}"))
        .detail(match &option {
            Some(option) => found_option(option, ENABLED),
            None => format!("found {ENABLED} true, with a maximum age of {age}; wanted false"),
        })
        .detail("the cleaner deletes the event logs of all clusters under the prefix, not only this cluster's")
        .unchanged()
        .hint(hint)
        .into())
}

/// What to do about a key among the options of the server's JVM, which win over spark-defaults.conf. `place` mentions it.
fn in_options(f: &Facts<'_>, key: &str, place: Option<&Mention>) -> Option<Hint> {
    let force = if f.is_preflight() { "; or, if the option has no effect there: --force" } else { "" };
    let force = Hint::from(force);
    let restart = hint!("then: sudo systemctl restart {}{}", HISTORY_SERVER_UNIT, force);
    match place.map(|mention| &mention.place) {
        Some(Place::Line(file, line)) => {
            return Some(hint!("take -D{} out of line {} of {}, {}", key, line, file, restart));
        }
        Some(Place::Variable(name)) => {
            return Some(hint!(
                "take -D{} out of the variable {} in systemctl cat {}, {}",
                key,
                name,
                HISTORY_SERVER_UNIT,
                restart
            ));
        }
        None => {}
    }
    f.system_property(key)?;
    Some(hint!("take -D{} out of {} in /etc/spark/conf/spark-env.sh, {}", key, Hint::from(OPTIONS), restart))
}

fn found_option(Mention { place, value }: &Mention, key: &str) -> String {
    let value = value.as_deref().unwrap_or("with a value that only a shell can tell");
    format!("found the option -D{key} {value} in {place}; wanted no such option")
}

/// With a limit on the files of a rolling event log the history server rewrites finished event logs, and deletes the
/// files that it has rewritten (`docs/emr.md §7.4`).
fn compaction(f: &Facts<'_>) -> Result<(), NotPassed> {
    const LIMIT: &str = "spark.history.fs.eventLog.rolling.maxFilesToRetain";
    let Some(event_logs) = f.event_logs else { return Ok(()) };
    let limits = |value: &SparkValue| value.number::<i64>().is_some_and(|n| n < i64::from(i32::MAX));
    if f.force() {
        return Ok(());
    }
    let option = f.feared_option(LIMIT, |value| value.number::<i64>() != Some(i64::from(i32::MAX)));
    let found = f.effective(LIMIT).filter(limits);
    if option.is_none() && found.is_none() {
        return Ok(());
    }
    let (verb, hint) = match f.mode {
        Mode::Live(_)
            if found.as_ref().is_some_and(|found| f.settings.set.get(LIMIT).is_some_and(|set| set == found.text())) =>
        {
            return Ok(());
        }
        Mode::Live(_) => ("rewrites", hint!("{} --set {}={}", f.install_again(), LIMIT, i32::MAX)),
        Mode::Preflight { .. } => {
            ("would rewrite", hint!("switch it off: --set {}={}; or keep it on: --force", LIMIT, i32::MAX))
        }
    };
    let hint = in_options(f, LIMIT, option.as_ref()).unwrap_or(hint);
    Err(Fault::preflight(format!("the history server {verb} the rolling event logs in {event_logs}"))
        .detail(match (&option, &found) {
            (Some(option), _) => found_option(option, LIMIT),
            (None, found) => format!(
                "found {LIMIT} {}; wanted none, which means {}",
                found.as_ref().map_or("", SparkValue::text),
                i32::MAX
            ),
        })
        .detail("this compaction drops events, and deletes the original files, also those of other clusters")
        .unchanged()
        .hint(hint)
        .into())
}

pub(crate) fn service(f: &Facts<'_>) -> CheckResult {
    let server = f.server()?;
    let pid = server.process.as_ref().map(|p| p.pid);
    let has_been_replaced = match f.mode {
        Mode::Live(observations) => observations.server.pid_later != pid,
        Mode::Preflight { .. } => false,
    };
    let restarts = server.unit.restarts;
    if server.is_crash_looping() || restarts > 1 && has_been_replaced {
        let fault = Fault::preflight(format!("the history server dies again and again, {restarts} times so far"));
        return Err(explain_death(f, fault));
    }
    match &server.process {
        None => Err(dead_server(f, server)),
        Some(_) if has_been_replaced => {
            Err(Fault::preflight("the history server was restarted while doctor observed it")
                .detail("something restarts it again and again, or somebody has just restarted it")
                .hint(hint!(
                    "systemctl status {}; tail -50 {}",
                    HISTORY_SERVER_UNIT,
                    history_server::log_file(&f.node.spark)
                ))
                .into())
        }
        Some(process) => running_server(f, server, process),
    }
}

fn dead_server(f: &Facts<'_>, server: &HistoryServer) -> NotPassed {
    let active = &server.unit.active;
    let listener = f.observations().ok().and_then(|observed| observed.server.listener.as_ref());
    if listener.is_some_and(|listener| listener.looks_like_server) {
        let fault = Fault::preflight(format!("the history server of {HISTORY_SERVER_UNIT} does not run"))
            .detail(format!("the unit is {active}"))
            .hint(hint!("sudo systemctl start {}", HISTORY_SERVER_UNIT));
        return NotPassed::CausedBy(&[CheckId::Port], fault);
    }
    if server.unit.was_stopped() {
        return Fault::preflight("the history server is stopped")
            .detail(format!(
                "systemd shows its unit {HISTORY_SERVER_UNIT} as {active}, as it does after systemctl stop"
            ))
            .hint(hint!("sudo systemctl start {}", HISTORY_SERVER_UNIT))
            .into();
    }
    explain_death(f, Fault::preflight(format!("the history server does not run; its unit is {active}")))
}

fn running_server(f: &Facts<'_>, server: &HistoryServer, process: &Process) -> CheckResult {
    let port = server.port;
    let pid = process.pid;
    let up = process.up();
    let up_for = up.map_or("for an unknown time".into(), rounded);
    let moved_to = f.observations()?.server.moved_to;
    if process.is_suspended() {
        return Err(Fault::preflight(format!("the history server is suspended, so port {port} does not answer"))
            .detail(format!("process {pid} has received SIGSTOP, or a debugger holds it"))
            .hint(hint!("sudo kill -CONT {}", pid))
            .into());
    }
    let is_starting = up.is_some_and(|up| up < STARTING);
    let may_come = match &server.barrier {
        Some(barrier) => !barrier.is_login(),
        None => server.answer.is_none() && moved_to.is_none(),
    };
    if is_starting && may_come {
        return skip(format!("up {up_for}, and does not answer yet; run doctor again in a minute"));
    }
    if server.unit.active != "active" {
        return Err(Fault::preflight(format!("process {pid} runs, but its unit is {}", server.unit.active))
            .detail("a process that does not belong to the unit keeps the unit from starting")
            .hint("sudo emr-shs restart")
            .into());
    }
    match &server.answer {
        Some(answer) => {
            let others: Vec<String> = server.others.iter().map(LookAlike::description).collect();
            let beside = if others.is_empty() { String::new() } else { format!("; beside it {}", others.join("; ")) };
            Ok(format!("up {up_for}, Spark {} answers on port {port}{beside}", answer.version))
        }
        None if let Some(barrier) = &server.barrier => {
            if barrier.is_login() {
                return Ok(format!("up {up_for}, and answers on port {port}: see pages"));
            }
            Err(Fault::preflight(format!("the history server runs, but port {port} {barrier}"))
                .detail(format!("process {pid} has been running for {up_for}"))
                .hint(hint!(
                    "sudo tail -50 {}; a filter that cannot start (spark.ui.filters) answers so, too",
                    history_server::log_file(&f.node.spark)
                ))
                .into())
        }
        None if moved_to.is_some() => skip(format!("up {up_for}, on another port than {port}: see port")),
        None => {
            let fault = Fault::preflight(format!("the history server is stuck: port {port} does not answer"))
                .detail(format!("process {pid} has been running for {up_for}"))
                .hint(hint!(
                    "sudo emr-shs restart; if that does not help: tail -50 {}",
                    history_server::log_file(&f.node.spark)
                ));
            Err(NotPassed::CausedBy(&[CheckId::Credentials, CheckId::Bucket], fault))
        }
    }
}

/// Adds the cause of the server's death to a fault. `known_errors` keeps the order in which errors first
/// appear in the server's log, so its last element is the newest kind of error.
fn explain_death(f: &Facts<'_>, fault: Fault) -> NotPassed {
    let mut known = f.known_errors().iter().filter(|error| error.diagnosis.cause != Cause::Unknown);
    let Some(KnownError { diagnosis, .. }) = known.next_back() else {
        return quote_last_errors(f, fault).into();
    };
    let cause = &diagnosis.cause;
    let fault = fault.detail(format!("its log gives the cause: {cause}")).detail(shortened(&diagnosis.line));
    let fault = match cause {
        Cause::MissingClass(class) => match jars::find_anywhere(f.host, class) {
            Some(jar) => fault.hint(hint!("{} --jar {}", f.install_again(), jar)),
            None => fault.hint(NO_JAR),
        },
        other => fault.hint(hint!("{}; then: sudo emr-shs restart", Hint::from(other.fix()))),
    };
    NotPassed::CausedBy(explained_by(cause), fault)
}

fn quote_last_errors(f: &Facts<'_>, fault: Fault) -> Fault {
    let lines = match f.mode {
        Mode::Live(observations) => observations.server.last_errors.as_slice(),
        Mode::Preflight { .. } => &[],
    };
    let hint = match lines {
        [] => Hint::from("sudo emr-shs restart"),
        _ => hint!("tail -50 {}", history_server::log_file(&f.node.spark)),
    };
    lines.iter().fold(fault, |fault, line| fault.detail(format!("its log: {line}"))).hint(hint)
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.into(),
    }
}

fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// The server runs, and its log tells nothing. The start script makes the log anew (`docs/emr.md §3.1`).
fn no_log(f: &Facts<'_>, why: &NoLog) -> CheckResult {
    let path = history_server::log_file(&f.node.spark);
    match why {
        NoLog::Missing => skip(format!("there is no {}, so nothing tells the server's errors", path.display())),
        NoLog::Denied => skip(format!("only root may read {}", path.display())),
        NoLog::Unreadable(why) => Err(Fault::preflight("the history server's log cannot be read")
            .detail(why)
            .detail("so doctor cannot tell the server's errors, and emr-shs cannot tell why a restart fails")
            .hint(hint!("look at it: sudo ls -la {}; move it away, and let the server make it again: sudo mv {} {}.old && sudo emr-shs restart", path, path, path))
            .into()),
    }
}

pub(crate) fn log(f: &Facts<'_>) -> CheckResult {
    if f.is_preflight() {
        if f.host.is_live() && !f.force() {
            require_log(&f.node.spark)?;
        }
        return Ok("nothing is in the way of the server's log".into());
    }
    let server = f.server()?;
    if server.process.is_none() {
        return skip("the history server does not run: see service");
    }
    if let Some(why) = &f.observations()?.server.no_log {
        return no_log(f, why);
    }
    let log_is_cut = f.observations()?.server.log_is_cut;
    let (new, old): (Vec<&KnownError>, Vec<&KnownError>) = f.known_errors().iter().partition(|e| is_new(f, e));
    let Some(first) = new.first() else {
        // `known_errors` keeps the order of first appearance, so this is the newest kind of error.
        return Ok(match old.last() {
            Some(KnownError { diagnosis, ago: Some(ago), .. }) => {
                format!("no error now; {} ago: {}", rounded(*ago), diagnosis.cause)
            }
            Some(error) => format!("an error of unknown time: {}", error.diagnosis.cause),
            None if log_is_cut => {
                format!("no error in the last {} MiB; doctor does not read the older part of the log", LOG_TAIL >> 20)
            }
            None => "no error".into(),
        });
    };
    let count = |error: &KnownError| match log_is_cut {
        true => format!("{} in the last {} MiB", times(error.count), LOG_TAIL >> 20),
        false => times(error.count),
    };
    let cause = &first.diagnosis.cause;
    let fault = Fault::preflight(format!("{cause}, {}", count(first))).detail(shortened(&first.diagnosis.line));
    let fault = new[1..].iter().fold(fault, |fault, other| {
        let line = shortened(&other.diagnosis.line);
        fault.detail(format!("{}, {}: {line}", other.diagnosis.cause, count(other)))
    });
    let fix = match cause {
        // The variable overrides the class path that an installation gives the unit.
        Cause::Silenced if f.node.spark.env.contains_key("SPARK_DAEMON_CLASSPATH") => hint!(
            "let SPARK_DAEMON_CLASSPATH begin with {}/jars/*: in /etc/spark/conf/spark-env.sh (and in the cluster's \
             spark-env/export classification), then: sudo emr-shs restart",
            f.node.spark.home
        ),
        Cause::Unknown => hint!("read them in the server's log: tail -100 {}", history_server::log_file(&f.node.spark)),
        _ if cause.needs_restart() => hint!("{}; then: sudo emr-shs restart", Hint::from(cause.fix())),
        _ => cause.fix().into(),
    };
    Err(NotPassed::CausedBy(explained_by(cause), fault.hint(fix)))
}

pub(crate) fn pages(f: &Facts<'_>) -> CheckResult {
    let server = f.server()?;
    let Some(barrier) = &server.barrier else {
        return match &server.answer {
            Some(_) => Ok("the pages require no login".into()),
            None => Ok("nothing answers, so nothing requires a login".into()),
        };
    };
    let port = server.port;
    match f.mode {
        Mode::Live(_) if !barrier.is_login() => skip(format!("port {port} {barrier}: see service")),
        Mode::Live(_) => skip(format!("port {port} {barrier}, so doctor cannot see what the server reads and lists")),
        Mode::Preflight { force: true, .. } => Ok(format!("port {port} {barrier}; --force goes by the process")),
        Mode::Preflight { .. } => Err(Fault::preflight(
            "the history server's pages cannot be seen, so emr-shs could not see what it reads after a restart",
        )
        .detail(format!(
            "process {} runs, but port {port} {barrier}",
            server.process.as_ref().map(|p| p.pid).unwrap_or_default()
        ))
        .detail(match barrier.is_login() {
            true => {
                "a filter (spark.ui.filters) or a proxy before the server behaves so; this node itself gets no page"
            }
            false => "a server whose filter (spark.ui.filters) cannot start behaves so; its log tells more",
        })
        .unchanged()
        .hint(
            "take the filter out of spark.ui.filters while you install, and restart the server; or add --force: then \
             emr-shs judges the restarted server by its process alone, which must be new, be configured for the \
             prefix, and scan it",
        )
        .into()),
    }
}
