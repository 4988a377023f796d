//! `uninstall`: back to the first `before`, the server restarted and as well as it was at first.

use super::{host, must_be_root};
use crate::change::plan::{Change, Plan};
use crate::change::receipt::{Lock, Receipt};
use crate::change::undo::{self, UndoOutcome, UndoPhase, UndoRow};
use crate::cli::UninstallArgs;
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::node::history_server::{HistoryServer, Readiness};
use crate::node::spark::Spark;
use crate::paths::HISTORY_SERVER_UNIT;
use crate::signals;
use crate::systemd;
use crate::ui::Console;
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// Undoes everything, restarts the server, and waits until it is as well as it was at first.
pub fn run(root: &Path, args: &UninstallArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let mut lock = None;
    if !args.dry_run {
        must_be_root(&host)?;
        lock = Some(Lock::take(&host, "uninstall")?);
    }
    let mut receipt = Receipt::load(&host)?;
    if receipt.is_empty() && !receipt.owes_restart {
        if console.is_json() {
            console.data("uninstall", serde_json::json!({ "result": "nothing-to-do" }));
        }
        console.say("nothing is installed here");
        return Ok(Exit::Done);
    }
    let rows = undo::plan(&host, &receipt)?;
    let changes: Vec<Change> = rows.iter().map(|r| r.change.clone()).collect();
    let restart = host.is_live() && (receipt.owes_restart || changes.iter().any(Change::needs_restart));
    let plan = Plan {
        changes,
        restart: restart.then(|| "it reads its settings only when it starts".into()),
        found: Vec::new(),
        notes: notes(&rows),
    };
    if args.dry_run {
        console.undo_plan("uninstall", &plan);
        return Ok(Exit::Done);
    }

    receipt.owes_restart = restart;
    receipt.save(&host)?;
    signals::ignore();
    carry_out(&host, &mut receipt, &rows, args.restart.timeout, console)?;
    drop(lock);
    if console.is_json() {
        console
            .data("uninstall", serde_json::json!({ "result": "done", "changes": plan.changes, "notes": plan.notes }));
    }
    for note in &plan.notes {
        console.say(note);
    }
    console.say("uninstalled");
    Ok(Exit::Done)
}

/// Carries an undo out, with the restart in its middle. Interrupted or not, it goes to its end.
pub fn carry_out(
    host: &Host,
    receipt: &mut Receipt,
    rows: &[UndoRow],
    timeout: Duration,
    console: &Console,
) -> Result<()> {
    let mut tell = |row: &UndoRow| match row.fate {
        UndoOutcome::Back => console.row(&row.change),
        UndoOutcome::Changed | UndoOutcome::Needed => console.row_left(&row.change),
        UndoOutcome::AsBefore | UndoOutcome::Shared => {}
    };
    let mut trouble = undo::carry_out(host, receipt, rows, UndoPhase::BeforeRestart, &mut tell)?;
    if receipt.owes_restart {
        restart(host, receipt, timeout, console).map_err(|e| {
            let fault = trouble.iter().cloned().fold(Fault::of(e), Fault::detail);
            fault.detail("`emr-shs uninstall` tries what is missing again")
        })?;
        receipt.owes_restart = false;
    }
    trouble.extend(undo::carry_out(host, receipt, rows, UndoPhase::AfterRestart, &mut tell)?);
    receipt.save(host)?;
    if trouble.is_empty() {
        return Ok(());
    }
    let fault = Fault::failed(format!("{} of {} could not be put back", trouble.len(), rows.len()));
    Err(trouble.into_iter().fold(fault, Fault::detail).hint("mend that, then again: emr-shs uninstall").into())
}

fn notes(rows: &[UndoRow]) -> Vec<String> {
    let mut notes = Vec::new();
    // A server that still reads S3, because somebody changed the key since, needs its jars.
    if let Some(directory) = undo::stays_on_s3(rows) {
        notes.push(format!(
            "spark.history.fs.logDirectory was changed to {directory} since the install, and is left alone. The links it \
             needs are left too; once it names another file system, `emr-shs uninstall` removes them."
        ));
    }
    if rows.iter().any(|r| r.fate == UndoOutcome::Shared) {
        notes.push("The S3 prefix and the event logs in it stay: other clusters may use them.".into());
    }
    notes
}

fn restart(host: &Host, receipt: &Receipt, timeout: Duration, console: &Console) -> Result<()> {
    let spark = Spark::observe(host)?;
    let mut server = HistoryServer::observe(&spark)?;
    if !server.unit.exists {
        return Ok(());
    }
    if !receipt.was_alive {
        console.say("the history server was down before the install; it is started, but not waited for");
        // What it dies of then is no fault of this run's; `status` shows it.
        if let Err(e) = systemd::restart(HISTORY_SERVER_UNIT, timeout, &mut || ()) {
            console.say(&format!("{e:#}"));
        }
        return Ok(());
    }
    let directory = spark.defaults.get("spark.history.fs.logDirectory").map(str::to_string);
    let readiness = Readiness { directory: directory.clone(), class_path: None };
    let answer = console.restart(&spark, &mut server, &readiness, timeout)?;
    let took = answer.map_err(|e| e.fault(host, None).detail("everything else is put back"))?;
    let directory = directory.unwrap_or_else(|| "its default directory".into());
    console.ok("history server", &format!("reads {directory} after {:.1} s", took.as_secs_f64()));
    Ok(())
}
