//! `uninstall`: restores the first `before` of every resource and restarts the history server.

use super::{host, must_be_root, server_reads};
use crate::change::lock::Lock;
use crate::change::plan::{Change, Plan};
use crate::change::receipt::Receipt;
use crate::change::undo::{self as undo_plan, UndoOutcome, UndoRow};
use crate::cli::UninstallArgs;
use crate::doctor::checks::server::require_log;
use crate::error::{Exit, Fault};
use crate::install::undo;
use crate::node::spark::Spark;
use crate::signals;
use crate::ui::Console;
use anyhow::Result;
use std::path::Path;

pub(crate) fn run(root: &Path, args: &UninstallArgs, console: &Console) -> Result<Exit> {
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
    let rows = undo_plan::plan(&host, &receipt)?;
    let changes: Vec<Change> = rows.iter().map(|r| r.change.clone()).collect();
    let restart = host.is_live() && (receipt.owes_restart || changes.iter().any(Change::needs_restart));
    let plan = Plan {
        changes,
        restart: restart.then(|| "it reads its settings only when it starts".into()),
        problems: Vec::new(),
        notes: notes(&rows),
    };
    if args.dry_run {
        console.undo_plan("uninstall", &plan);
        return Ok(Exit::Done);
    }
    // Of a Spark whose configuration cannot be read, the log's place is not known either.
    if let Some(spark) = Spark::observe(&host).ok().filter(|_| restart) {
        require_log(&spark)?;
    }

    receipt.owes_restart = restart;
    receipt.uninstalling = true;
    receipt.left_out.clear();
    receipt.save(&host)?;
    // A node that is half put back helps nobody: Ctrl-C does not stop the rest.
    signals::ignore();
    let restarted =
        undo::carry_out(&host, &mut receipt, &rows, args.restart.timeout, &|progress| console.show(progress))?;
    server_reads(restarted, console);
    drop(lock);
    if let Some(rest) = receipt.unknown_to_this_version() {
        return Err(Fault::failed("not everything is uninstalled")
            .detail(rest)
            .hint("uninstall with the version of emr-shs that wrote the receipt, or a newer one")
            .into());
    }
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

fn notes(rows: &[UndoRow]) -> Vec<String> {
    let mut notes = Vec::new();
    // The history server still reads S3 because somebody changed the key, so it needs its jars.
    if let Some(directory) = undo_plan::stays_on_s3(rows) {
        notes.push(format!(
            "Somebody has changed spark.history.fs.logDirectory to {directory} since the install, so uninstall leaves \
             the key alone. The links it needs are left too. Once the key names another file system, `sudo emr-shs uninstall` \
             removes the links."
        ));
    }
    if rows.iter().any(|r| r.outcome == UndoOutcome::Shared) {
        notes.push("The S3 prefix and the event logs in it stay: other clusters may use them.".into());
    }
    notes
}
