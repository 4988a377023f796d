//! When a history server is ready.
//!
//! That `systemctl restart` succeeds proves nothing (`docs/emr.md §3.1`). Neither does an answer: the server
//! answers 200 to any path (`docs/emr.md §3.2`), its list is also empty when it cannot read its directory, and
//! the process that answers may be the old one. So ready means: the new process itself answers on its
//! port, and its front page names our directory.
//!
//! A server whose pages require a login is judged by its process (see [`Sight`]): Spark starts the thread that scans
//! only after it has found the directory for which the process is configured.

use super::{Barrier, HistoryServer, same_directory};
use crate::node::process::Process;

/// What a server must do to count as ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// The directory that its front page must name; `None` accepts any.
    pub directory: Option<String>,
    /// An element that the class path of the restarted server must contain; `None` accepts any.
    pub class_path: Option<String>,
}

/// How much of a server can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Its pages.
    Pages,
    /// Its process alone, because of this barrier.
    Process(Barrier),
}

impl HistoryServer {
    /// Whether its pages show that it is ready now.
    pub fn is_ready(&self, readiness: &Readiness) -> bool {
        self.ready(readiness, None).is_ok_and(|sight| sight == Sight::Pages)
    }

    /// Whether it is ready, and how that was seen; the error is the obstacle. None of the `old` processes counts.
    pub(super) fn ready(&self, readiness: &Readiness, old: Option<&[Process]>) -> Result<Sight, String> {
        let Some(process) = &self.process else { return Err("no process runs".into()) };
        if old.is_some_and(|old| old.iter().any(|old| old.is(process))) {
            return Err(format!("the old process {} still runs", process.pid));
        }
        if self.unit.active != "active" {
            return Err(format!("its unit is {}", self.unit.active));
        }
        if let Some(barrier) = &self.barrier {
            return self.ready_behind(barrier, process, readiness);
        }
        let Some(answer) = &self.answer else {
            return Err(format!("it does not answer on port {}", self.port));
        };
        let Some(wanted) = &readiness.directory else { return Ok(Sight::Pages) };
        match &answer.reads {
            Some(reads) if same_directory(reads, wanted) => Ok(Sight::Pages),
            Some(reads) => Err(format!("it reads {reads}, not {wanted}")),
            None => Err("its page names no event log directory".into()),
        }
    }

    fn ready_behind(&self, barrier: &Barrier, process: &Process, readiness: &Readiness) -> Result<Sight, String> {
        let (port, wanted) = (self.port, readiness.directory.as_deref());
        match (&self.configured, wanted) {
            (Some(reads), Some(wanted)) if !same_directory(reads, wanted) => {
                Err(format!("it is configured for {reads}, not {wanted}"))
            }
            (None, Some(wanted)) => Err(format!("it is configured for no directory, not for {wanted}")),
            _ if process.scans => Ok(Sight::Process(barrier.clone())),
            _ => Err(format!("port {port} {barrier}, and its process does not scan its directory yet")),
        }
    }
}
