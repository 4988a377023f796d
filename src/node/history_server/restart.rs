//! Restarting the history server, and waiting until it is ready.

use super::log::LogPosition;
use super::readiness::Sight;
use super::{HistoryServer, NO_JAR, POLL, Readiness};
use crate::aws::uri::EventLogs;
use crate::error::Fault;
use crate::host::Host;
use crate::node::jars;
use crate::node::log_diagnosis::{self, Cause, Diagnosis};
use crate::node::process::Process;
use crate::node::spark::Spark;
use crate::paths::HISTORY_SERVER_UNIT;
use crate::shown::{Hint, hint};
use crate::signals;
use crate::systemd::{self, Unit};
use anyhow::Result;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server that answers but does not scan yet is ready after this time: the name of the scanning
/// thread may be another in other versions of Spark.
const SETTLE: Duration = Duration::from_secs(3);
/// A server that keeps answering with errors for this time does not recover from them.
const ERRORS: Duration = Duration::from_secs(20);

/// How a restart ended.
#[derive(Debug)]
pub enum RestartOutcome {
    /// The server became ready after this time, as far as it can be seen.
    Ready {
        after: Duration,
        sight: Sight,
    },
    NotReady(NotReady),
}

impl RestartOutcome {
    /// Whether the server runs without the class path that its unit sets.
    pub fn dropped_class_path(&self) -> bool {
        matches!(self, Self::NotReady(not_ready) if not_ready.class_path_dropped)
    }

    /// The time until the server was ready; the error is for a person. `event_logs` completes the
    /// command that the error proposes.
    pub fn ready_after(self, host: &Host, event_logs: Option<&EventLogs>) -> Result<Duration, Fault> {
        match self {
            Self::Ready { after, .. } => Ok(after),
            Self::NotReady(not_ready) => Err(not_ready.fault(host, event_logs)),
        }
    }
}

/// A server that did not become ready, and why.
#[derive(Debug)]
pub struct NotReady {
    pub failure: RestartFailure,
    /// The known error in its log, if there is one.
    diagnosis: Option<Diagnosis>,
    log: PathBuf,
    /// The last errors in its log, for a failure that is not known.
    last_errors: Vec<String>,
    class_path_dropped: bool,
}

/// How a restart failed. As text it continues the sentence "the history server …".
#[derive(Debug)]
pub enum RestartFailure {
    /// `systemctl restart` failed because the new process died.
    StoppedAtOnce,
    /// `systemctl restart` failed, and no new process appeared.
    Systemctl(String),
    Stopped {
        seconds: u64,
    },
    ClassPathDropped,
    TookOtherPort {
        port: u16,
        instead_of: u16,
    },
    NotReadyInTime {
        seconds: u64,
        obstacle: String,
    },
}

impl fmt::Display for RestartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoppedAtOnce => f.write_str("stopped right after its restart"),
            Self::Systemctl(error) => write!(f, "could not be restarted: {error}"),
            Self::Stopped { seconds } => write!(f, "stopped {seconds} s after its restart"),
            Self::ClassPathDropped => f.write_str("runs without the class path that its unit sets"),
            Self::TookOtherPort { port, instead_of } => {
                write!(f, "took port {port}, because another process uses {instead_of}")
            }
            Self::NotReadyInTime { seconds, obstacle } => write!(f, "is not ready after {seconds} s: {obstacle}"),
        }
    }
}

impl NotReady {
    fn fault(self, host: &Host, event_logs: Option<&EventLogs>) -> Fault {
        let Some(found) = self.diagnosis else {
            let fault = Fault::failed(format!("the history server {}", self.failure));
            let fault = self.last_errors.iter().fold(fault, |fault, line| fault.detail(format!("its log: {line}")));
            return fault.hint(hint!("tail -50 {}", self.log));
        };
        let fault = Fault::failed(format!("the history server {}: {}", self.failure, found.cause)).detail(format!(
            "{}: {}",
            self.log.display(),
            found.line
        ));
        let Cause::MissingClass(class) = &found.cause else { return fault.hint(found.cause.fix()) };
        match jars::find_anywhere(host, class) {
            Some(jar) => fault.hint(hint!(
                "the class is in {}; try\n  sudo emr-shs install{} --jar {}",
                jar,
                event_logs.map_or(Hint::from(""), |uri| hint!(" --event-logs {}", uri.to_string())),
                jar
            )),
            None => fault.hint(NO_JAR),
        }
    }
}

impl HistoryServer {
    /// Restarts the unit and waits until the server is ready, for at most `timeout`. Gives up early
    /// when the server dies, takes another port, or reads another directory. Calls `tick` while it
    /// waits.
    pub fn restart(
        &mut self,
        spark: &Spark,
        readiness: &Readiness,
        timeout: Duration,
        tick: impl Fn(),
    ) -> Result<RestartOutcome> {
        let mut restart = Restart {
            readiness,
            timeout,
            begun: Instant::now(),
            log: LogPosition::end(spark),
            old: self.processes(),
            was_seen: self.answer.is_some(),
            newest: None,
            class_path_dropped: false,
            answers_since: None,
            errs_since: None,
        };
        if let Some(failure) = restart.run_systemctl(&self.unit, &tick)? {
            return Ok(RestartOutcome::NotReady(restart.not_ready(failure)));
        }
        loop {
            signals::check()?;
            self.unit = systemd::show(HISTORY_SERVER_UNIT)?;
            self.refresh(spark);
            match restart.judge(self) {
                RestartState::Ready(sight) => {
                    return Ok(RestartOutcome::Ready { after: restart.begun.elapsed(), sight });
                }
                RestartState::Failed(failure) => return Ok(RestartOutcome::NotReady(restart.not_ready(failure))),
                RestartState::Starting => {}
            }
            tick();
            self.pause();
        }
    }
}

impl HistoryServer {
    /// Waits a moment. A server that answers begins to scan at once, so the wait ends when it does.
    fn pause(&self) {
        let begun = Instant::now();
        let answering = self.process.as_ref().filter(|process| self.is_alive() && !process.scans);
        while begun.elapsed() < POLL && !answering.is_some_and(Process::has_begun_to_scan) {
            std::thread::sleep(POLL / 10);
        }
    }

    /// Its process, and every other history server in its unit's control group.
    fn processes(&self) -> Vec<Process> {
        let mut processes = Process::servers_in_group(&self.unit);
        processes.extend(Process::of_unit(&self.unit).filter(|main| !processes.iter().any(|p| p.is(main))));
        processes
    }
}

/// A restart in progress.
struct Restart<'a> {
    readiness: &'a Readiness,
    timeout: Duration,
    begun: Instant,
    log: LogPosition,
    /// The unit's history servers before the restart.
    old: Vec<Process>,
    /// Whether the pages could be seen before the restart.
    was_seen: bool,
    /// The new process that appeared last.
    newest: Option<Process>,
    class_path_dropped: bool,
    answers_since: Option<Instant>,
    errs_since: Option<Instant>,
}

enum RestartState {
    Starting,
    Ready(Sight),
    Failed(RestartFailure),
}

impl Restart<'_> {
    /// Runs `systemctl restart`. Meanwhile watches for the new process: EMR's start script waits for
    /// some seconds, and only this notices a server that dies within them.
    fn run_systemctl(&mut self, unit: &Unit, tick: &impl Fn()) -> Result<Option<RestartFailure>> {
        let timeout = self.timeout;
        let mut last_observed = self.begun;
        let mut watch = || {
            if last_observed.elapsed() < POLL {
                return;
            }
            last_observed = Instant::now();
            tick();
            Process::servers_in_group(unit).iter().for_each(|process| self.notice(process));
        };
        let Err(error) = systemd::restart(HISTORY_SERVER_UNIT, timeout, &mut watch) else { return Ok(None) };
        signals::check()?;
        // The start script fails when the server is gone after a few seconds.
        let has_died = self.begun.elapsed() < timeout
            && (self.newest.is_some() || log_diagnosis::diagnose(&self.log.since()).is_some());
        Ok(Some(match has_died {
            true => RestartFailure::StoppedAtOnce,
            false => RestartFailure::Systemctl(format!("{error:#}")),
        }))
    }

    fn is_new(&self, process: &Process) -> bool {
        !self.old.iter().any(|old| old.is(process))
    }

    fn notice(&mut self, process: &Process) {
        if !self.is_new(process) {
            return;
        }
        self.newest = Some(process.clone());
        // A main process that does not name Spark's class may be a helper of the start script.
        if let Some(wanted) = self.readiness.class_path.as_ref().filter(|_| process.is_server())
            && let Some(class_path) = process.class_path()
        {
            let mut elements = class_path.split(':');
            self.class_path_dropped |= !elements.any(|element| element == wanted);
        }
    }

    fn judge(&mut self, server: &HistoryServer) -> RestartState {
        if let Some(process) = &server.process {
            self.notice(process);
        }
        if self.class_path_dropped {
            return RestartState::Failed(RestartFailure::ClassPathDropped);
        }
        // An error that a restart has brought about is a failure. One that was there before is none.
        let errs = self.was_seen && server.barrier.as_ref().is_some_and(|barrier| !barrier.is_login());
        self.errs_since = self.errs_since.filter(|_| errs).or_else(|| errs.then(Instant::now));
        let obstacle = match server.ready(self.readiness, Some(&self.old)) {
            Ok(Sight::Process(barrier)) if errs => format!("port {} {barrier}", server.port),
            Ok(sight) => {
                let since = self.answers_since.get_or_insert_with(Instant::now);
                if server.process.as_ref().is_some_and(|p| p.scans) || since.elapsed() > SETTLE {
                    return RestartState::Ready(sight);
                }
                "it answers, but does not scan its directory yet".into()
            }
            Err(obstacle) => obstacle,
        };
        let seconds = self.begun.elapsed().as_secs();
        let new = server.process.as_ref().filter(|process| self.is_new(process));
        let has_ended = self.newest.as_ref().is_some_and(|newest| !newest.is_alive());
        let is_dead = server.unit.active == "failed" || has_ended && new.is_none();
        if is_dead || log_diagnosis::main_thread_died(&self.log.since()) {
            return RestartState::Failed(RestartFailure::Stopped { seconds });
        }
        if let Some(port) = new.and_then(|_| server.moved_to()) {
            return RestartState::Failed(RestartFailure::TookOtherPort { port, instead_of: server.port });
        }
        // The new server names a directory, and it is not the wanted one: that does not change any more.
        let names_directory = server.answer.as_ref().is_some_and(|a| a.reads.is_some());
        let reads_another =
            self.answers_since.is_none() && names_directory && new.is_some() && server.unit.active == "active";
        let keeps_failing = self.errs_since.is_some_and(|since| since.elapsed() > ERRORS);
        if reads_another || keeps_failing || self.begun.elapsed() > self.timeout {
            return RestartState::Failed(RestartFailure::NotReadyInTime { seconds, obstacle });
        }
        RestartState::Starting
    }

    fn not_ready(&self, failure: RestartFailure) -> NotReady {
        let written = self.log.since();
        NotReady {
            failure,
            diagnosis: log_diagnosis::diagnose(&written),
            log: self.log.path(),
            last_errors: log_diagnosis::last_errors(&written),
            class_path_dropped: self.class_path_dropped,
        }
    }
}
