//! Undoes what earlier runs did, with the restart of the history server in the middle.

use super::restart::restart;
use super::{Progress, Show};
use crate::change::receipt::Receipt;
use crate::change::undo::{self, UndoOutcome, UndoPhase, UndoRow};
use crate::error::Fault;
use crate::host::Host;
use crate::node::history_server::{HistoryServer, Readiness};
use crate::node::spark::Spark;
use crate::paths::{HISTORY_SERVER_UNIT, LOG_DIRECTORY_KEY};
use crate::systemd;
use anyhow::Result;
use std::time::Duration;

/// Undoes the rows, restarts the server where the receipt owes a restart, and removes the directories that the
/// old server had open. The caller decides whether a signal may stop this: see [`signals::ignore`](crate::signals::ignore). Returns how long the restart took, and the directory that the
/// server reads since then, if it was waited for.
pub(crate) fn carry_out(
    host: &Host,
    receipt: &mut Receipt,
    rows: &[UndoRow],
    timeout: Duration,
    show: Show<'_>,
) -> Result<Option<(Duration, String)>> {
    let mut tell = |row: &UndoRow| match row.outcome {
        UndoOutcome::Back => show(Progress::PutBack(&row.change)),
        UndoOutcome::Changed | UndoOutcome::Needed => show(Progress::Left(&row.change)),
        UndoOutcome::AsBefore | UndoOutcome::Shared => {}
    };
    let mut errors = undo::carry_out(host, receipt, rows, UndoPhase::BeforeRestart, &mut tell)?;
    let mut restarted = None;
    if receipt.owes_restart {
        restarted = restart_as_before(host, receipt, timeout, show).map_err(|e| {
            let fault = errors.iter().cloned().fold(Fault::of(e), Fault::detail);
            fault.detail("to undo the rest: sudo emr-shs uninstall")
        })?;
        receipt.owes_restart = false;
    }
    errors.extend(undo::carry_out(host, receipt, rows, UndoPhase::AfterRestart, &mut tell)?);
    receipt.save(host)?;
    if errors.is_empty() {
        return Ok(restarted);
    }
    let fault = Fault::failed(format!("{} of {} could not be put back", errors.len(), rows.len()));
    Err(errors
        .into_iter()
        .fold(fault, Fault::detail)
        .hint("correct the cause, then type: sudo emr-shs uninstall")
        .into())
}

/// Restarts the server with its earlier settings. A server that was down before the first install is started, but
/// nobody waits for it: it may die of its own configuration, as it did before.
fn restart_as_before(
    host: &Host,
    receipt: &Receipt,
    timeout: Duration,
    show: Show<'_>,
) -> Result<Option<(Duration, String)>> {
    let spark = Spark::observe(host)?;
    let mut server = HistoryServer::observe(&spark)?;
    if !server.unit.exists {
        return Ok(None);
    }
    if !receipt.was_alive {
        show(Progress::Note("the history server was down before the install; it is started, but not waited for"));
        if let Err(e) = systemd::restart(HISTORY_SERVER_UNIT, timeout, &mut || ()) {
            show(Progress::Note(&format!("{e:#}")));
        }
        return Ok(None);
    }
    let directory = spark.defaults.known_text(LOG_DIRECTORY_KEY).map(str::to_string);
    let readiness = Readiness { directory: directory.clone(), class_path: None };
    let took = restart(&spark, &mut server, &readiness, timeout, show)?
        .ready_after(host, None)
        .map_err(|fault| fault.detail("everything else is put back"))?;
    Ok(Some((took, directory.unwrap_or_else(|| "its default directory".into()))))
}
