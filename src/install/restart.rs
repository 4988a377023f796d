//! Restarting the history server, with progress.

use super::{Progress, Show};
use crate::node::history_server::{HistoryServer, Readiness, RestartOutcome, Sight};
use crate::node::spark::Spark;
use anyhow::Result;
use std::time::Duration;

/// Restarts the history server and waits until it is ready.
pub(crate) fn restart(
    spark: &Spark,
    server: &mut HistoryServer,
    readiness: &Readiness,
    timeout: Duration,
    show: Show<'_>,
) -> Result<RestartOutcome> {
    show(Progress::Restarting);
    let result = server.restart(spark, readiness, timeout, || show(Progress::Waiting));
    show(Progress::RestartEnded);
    if let Ok(RestartOutcome::Ready { sight: Sight::Process(barrier), .. }) = &result {
        show(Progress::Warning(&format!(
            "port {} {barrier}; so emr-shs has not seen the history server's pages, and judges by its process: the process is new, has the \
             wanted directory, and scans that directory",
            server.port
        )));
    }
    result
}
