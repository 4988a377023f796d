//! `uninstall`: back to the first `before`, wherever what is there now is something we wrote.

use super::{host, must_be_root};
use crate::cli::UninstallArgs;
use crate::fault::{Exit, Fault};
use crate::host::Host;
use crate::interrupt;
use crate::node::history_server::{HistoryServer, Target, UNIT};
use crate::node::spark::Spark;
use crate::plan::{Change, Plan};
use crate::receipt::{Entry, Lock, Receipt};
use crate::report::Console;
use crate::resource::{Resource, State};
use crate::systemd;
use crate::wanted::Piece;
use anyhow::Result;
use std::path::Path;

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
    let plan = plan(&host, &receipt)?;
    if args.dry_run {
        console.undo_plan("uninstall", &plan);
        return Ok(Exit::Done);
    }

    receipt.owes_restart |= host.is_live() && plan.restart.is_some();
    receipt.save(&host)?;
    let (later, now): (Vec<&Change>, Vec<&Change>) =
        plan.changes.iter().partition(|c| matches!(c.resource, Resource::Cache { .. }));
    for change in now {
        undo(&host, &mut receipt, change, console)?;
    }
    if host.is_live() && plan.changes.iter().any(Change::needs_reload) {
        systemd::daemon_reload()?;
    }
    let mut restarted = Ok(());
    if host.is_live() && receipt.owes_restart {
        restarted = restart(&host, &receipt, args, console);
    }
    for change in later {
        undo(&host, &mut receipt, change, console)?;
    }
    restarted?;
    receipt.owes_restart = false;
    receipt.save(&host)?;
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

/// What will be put back, newest first.
fn plan(host: &Host, receipt: &Receipt) -> Result<Plan> {
    let mut changes = Vec::new();
    for entry in receipt.entries.iter().rev() {
        changes.push(change(host, entry)?);
    }
    let mut notes = Vec::new();
    // A server that still reads S3, because somebody changed the key since, needs its jars.
    if let Some(directory) = stays_on_s3(&changes) {
        for change in changes.iter_mut().filter(|c| Piece::of(&c.resource) == Piece::Link && c.is_real()) {
            change.after = change.before.clone();
            change.why = "left: the history server needs it".into();
        }
        notes.push(format!(
            "spark.history.fs.logDirectory was changed to {directory} since the install, and is left alone. The links it \
             needs are left too; once it names another file system, `emr-shs uninstall` removes them."
        ));
    }
    if changes.iter().any(|c| matches!(c.resource, Resource::Prefix { .. })) {
        notes.push("The S3 prefix and the event logs in it stay: other clusters may use them.".into());
    }
    let restart = changes.iter().any(Change::needs_restart) || receipt.owes_restart;
    Ok(Plan { changes, restart: restart.then(|| "it reads its settings only when it starts".into()), notes })
}

fn change(host: &Host, entry: &Entry) -> Result<Change> {
    let row = |before: State, after: State, why: &str| Change {
        resource: entry.resource.clone(),
        before,
        after,
        why: why.into(),
    };
    if matches!(entry.resource, Resource::Prefix { .. }) {
        return Ok(row(State::Exists, State::Exists, "stays: other clusters may use it"));
    }
    let now = match entry.resource.observe(host) {
        Ok(now) => now,
        // Something that is not even of the same kind stands there.
        Err(e) if e.is::<Fault>() => State::Occupied { by: "something else".into() },
        Err(e) => return Err(e),
    };
    Ok(if now.same(&entry.before) {
        row(now.clone(), now, "is as it was")
    } else if entry.wrote(&now) {
        row(now, entry.before.clone(), "as it was before")
    } else {
        row(now.clone(), now, "left alone: changed since")
    })
}

/// The directory on S3 that the server would read after these changes, if that is so only because
/// the key is left alone.
fn stays_on_s3(changes: &[Change]) -> Option<String> {
    let key = changes.iter().find(|c| c.resource.name() == "spark.history.fs.logDirectory" && !c.is_real())?;
    key.after.value().filter(|value| value.starts_with("s3"))
}

fn undo(host: &Host, receipt: &mut Receipt, change: &Change, console: &Console) -> Result<()> {
    interrupt::check()?;
    change.resource.sweep(host)?;
    let mut row = change.clone();
    if change.is_real() {
        change.resource.set(host, &change.after)?;
        // A directory of ours in which somebody has put something stays.
        if change.after == State::Absent && change.resource.observe(host)? != State::Absent {
            row.after = row.before.clone();
            row.why = "left: not empty".into();
        }
    }
    if change.why != "left: the history server needs it" {
        receipt.forget(&change.resource);
        receipt.save(host)?;
    }
    if row.is_real() || row.why.starts_with("left") {
        console.row(&row);
    }
    Ok(())
}

fn restart(host: &Host, receipt: &Receipt, args: &UninstallArgs, console: &Console) -> Result<()> {
    let spark = Spark::observe(host)?;
    let server = HistoryServer::observe(&spark)?;
    if !server.unit.exists {
        return Ok(());
    }
    if !receipt.was_alive {
        console.say("the history server was down before the install; it is started, but not waited for");
        // What it dies of then is no fault of this run's; `status` shows it.
        if let Err(e) = systemd::restart(UNIT, args.timeout) {
            console.say(&format!("{e:#}"));
        }
        return Ok(());
    }
    let directory = spark.defaults.get("spark.history.fs.logDirectory").map(str::to_string);
    let target = Target { directory: directory.clone(), class_path: None };
    let answer = console.restart(host, &spark, server, &target, args.timeout)?;
    let took = answer.map_err(|e| {
        e.fault(host, None).detail("its old settings are back; emr-shs uninstall tries the restart again")
    })?;
    let directory = directory.unwrap_or_else(|| "its default directory".into());
    console.ok("history server", &format!("reads {directory} after {:.1} s", took.as_secs_f64()));
    Ok(())
}
