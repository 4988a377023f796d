//! When a history server is ready.
//!
//! That `systemctl restart` succeeds proves nothing (`docs/emr.md §3.1`). Neither does an answer: the server
//! answers 200 to any path (`docs/emr.md §3.2`), its list is also empty when it cannot read its directory, and
//! the process that answers may be the old one. So ready means: the new process itself answers on its
//! port, and its front page names our directory.

use super::{HistoryServer, same_directory};
use crate::node::process::Process;

/// What a server must do to count as ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// The directory that its front page must name; `None` accepts any.
    pub directory: Option<String>,
    /// An element that the class path of the restarted server must contain; `None` accepts any.
    pub class_path: Option<String>,
}

impl HistoryServer {
    /// Whether it is ready now.
    pub fn is_ready(&self, readiness: &Readiness) -> bool {
        self.obstacle(readiness, None).is_none()
    }

    /// Why it is not ready; `None` if it is. `old` is the process that must be gone.
    pub(super) fn obstacle(&self, readiness: &Readiness, old: Option<&Process>) -> Option<String> {
        let Some(process) = &self.process else { return Some("no process runs".into()) };
        if old.is_some_and(|old| old.is(process)) {
            return Some(format!("the old process {} still runs", process.pid));
        }
        if self.unit.active != "active" {
            return Some(format!("its unit is {}", self.unit.active));
        }
        let Some(answer) = &self.answer else {
            return Some(format!("it does not answer on port {}", self.port));
        };
        let wanted = readiness.directory.as_ref()?;
        match &answer.reads {
            Some(reads) if same_directory(reads, wanted) => None,
            Some(reads) => Some(format!("it reads {reads}, not {wanted}")),
            None => Some("its page names no event log directory".into()),
        }
    }
}
