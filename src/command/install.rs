//! `install`, its pieces `prefix`, `configure` and `link`, and `plan`, which stops before the
//! first change.

use super::{host, must_be_root, node_name};
use crate::apply::Transaction;
use crate::cli::{InstallArgs, PlanArgs};
use crate::config::LinkInto;
use crate::fault::{Exit, Fault};
use crate::installation::Installation;
use crate::node::history_server::{HistoryServer, Target, UNIT};
use crate::plan::{Change, LINK_DIR};
use crate::receipt::Lock;
use crate::report::{Console, Outcome};
use crate::systemd;
use crate::wanted::Piece;
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// Everything at once.
pub fn install(root: &Path, args: &InstallArgs, console: &Console) -> Result<Exit> {
    run("install", Piece::ALL, root, args, console)
}

/// Only the class path.
pub fn link(root: &Path, args: &InstallArgs, console: &Console) -> Result<Exit> {
    run("link", &[Piece::Link], root, args, console)
}

/// Only the S3 prefix.
pub fn prefix(root: &Path, args: &InstallArgs, console: &Console) -> Result<Exit> {
    run("prefix", &[Piece::Prefix], root, args, console)
}

/// Only spark-defaults.conf.
pub fn configure(root: &Path, args: &InstallArgs, console: &Console) -> Result<Exit> {
    run("configure", &[Piece::Configure], root, args, console)
}

/// What `install` would do.
pub fn plan(root: &Path, args: &PlanArgs, console: &Console) -> Result<Exit> {
    let Some(job) = Installation::prepare("install", Piece::ALL, host(root)?, &args.install)? else {
        return Ok(console.not_primary("plan"));
    };
    console.plan("plan", &job.plan);
    Ok(if args.check && !job.plan.is_done() { Exit::Pending } else { Exit::Done })
}

fn run(command: &str, pieces: &[Piece], root: &Path, args: &InstallArgs, console: &Console) -> Result<Exit> {
    let begun = Instant::now();
    let host = host(root)?;
    let mut lock = None;
    if !args.dry_run {
        must_be_root(&host)?;
        lock = Some(Lock::take(&host, command)?);
    }
    let Some(mut job) = Installation::prepare(command, pieces, host, args)? else {
        return Ok(console.not_primary(command));
    };
    if args.dry_run {
        console.plan(command, &job.plan);
        return Ok(Exit::Done);
    }
    console.say(&format!("emr-shs {} {command} on {}", env!("CARGO_PKG_VERSION"), node_name(&job.node)));
    let outcome = if job.plan.is_done() {
        job.remember_settings()?;
        Outcome::of(command, &job, None, begun.elapsed())
    } else {
        prove_rights(&job, console)?;
        let ready = carry_out(&mut job, args.timeout, console)?;
        Outcome::of(command, &job, ready, begun.elapsed())
    };
    console.outcome(&outcome);
    drop(lock);
    Ok(Exit::Done)
}

/// Before anything is written: event logs that jobs cannot write make every job fail.
fn prove_rights(job: &Installation, console: &Console) -> Result<()> {
    if let Some(s3) = job.host.s3.as_ref().filter(|_| job.concerns_s3()) {
        s3.probe(&job.event_logs)?;
        console.ok(&job.event_logs.to_string(), "put, list, read, delete");
    }
    Ok(())
}

/// Makes the changes, restarts, waits; or puts everything back. Gives how long the server took.
fn carry_out(job: &mut Installation, timeout: Duration, console: &Console) -> Result<Option<Duration>> {
    let alive = job.node.server.as_ref().is_some_and(|s| s.answer.is_some());
    let owes =
        job.node.server.is_some() && (job.plan.restart.is_some() || job.plan.changes.iter().any(Change::needs_restart));
    let mut transaction = Transaction::begin(&job.host, job.receipt.clone());
    transaction.remember(&job.settings, alive);
    match change_and_restart(job, &mut transaction, owes, timeout, console) {
        Ok((changes, ready)) => {
            job.plan.changes = changes;
            Ok(ready)
        }
        Err(error) => Err(put_back(job, transaction, Fault::of(error), timeout, console).into()),
    }
}

fn change_and_restart(
    job: &Installation,
    transaction: &mut Transaction<'_>,
    owes: bool,
    timeout: Duration,
    console: &Console,
) -> Result<(Vec<Change>, Option<Duration>)> {
    transaction.apply(&job.plan.changes, owes)?;
    console.rows(&job.plan.changes);
    let mut changes = job.plan.changes.clone();
    let Some(server) = job.node.server.clone().filter(|_| job.plan.restart.is_some()) else {
        return Ok((changes, None));
    };
    let mut target = job.target();
    let mut answer = console.restart(&job.host, &job.node.spark, server.clone(), &target, timeout)?;
    if answer.as_ref().is_err_and(|e| e.class_path_dropped) {
        let jars = job.node.spark.home.join("jars");
        console.warn(&format!(
            "this node's start script drops SPARK_DAEMON_CLASSPATH; linking into {} instead",
            jars.display()
        ));
        let mut settings = job.settings.clone();
        settings.link_into = LinkInto::SparkJars;
        let moved = job.changes(transaction.receipt(), &settings)?;
        transaction.remember(&settings, false);
        transaction.apply(&moved, true)?;
        console.rows(&moved);
        changes.retain(|c| !c.resource.file().is_some_and(|p| p.starts_with(LINK_DIR)));
        changes.extend(moved.into_iter().filter(Change::is_real));
        target.class_path = None;
        answer = console.restart(&job.host, &job.node.spark, server, &target, timeout)?;
    }
    let took = answer.map_err(|e| e.fault(&job.host, Some(&job.event_logs)))?;
    transaction.restarted()?;
    Ok((changes, Some(took)))
}

/// Undoes this run and brings the server back to how it was; the fault then tells both.
fn put_back(
    job: &Installation,
    mut transaction: Transaction<'_>,
    mut fault: Fault,
    timeout: Duration,
    console: &Console,
) -> Fault {
    fault.exit = Exit::Failed;
    let undone = transaction.done().iter().filter(|c| c.is_real()).count();
    let touched = job.plan.restart.is_some() && transaction.done().iter().any(Change::needs_restart)
        || job.plan.restart.is_some() && undone == 0;
    let mut trouble = transaction.roll_back();
    let mut state = "the history server was not touched".to_string();
    if let Some(was) = job.node.server.as_ref().filter(|_| touched) {
        match as_it_was(job, was, timeout, console) {
            Ok(text) => state = text,
            Err(text) => trouble.push(text),
        }
    }
    transaction.rolled_back(&mut trouble);
    if trouble.is_empty() {
        let put_back = if undone == 0 { "nothing was changed".into() } else { format!("put back: {undone} changes") };
        fault.detail(format!("{put_back}; {state}"))
    } else {
        trouble.into_iter().fold(fault, Fault::detail)
    }
}

/// Restarts the server with the old settings and waits until it is as well as it was.
fn as_it_was(job: &Installation, was: &HistoryServer, timeout: Duration, console: &Console) -> Result<String, String> {
    let Some(answer) = &was.answer else {
        return match systemd::stop(UNIT) {
            Ok(()) => Ok("the history server was down before, and is again".into()),
            Err(e) => Err(format!("{e:#}")),
        };
    };
    let target = Target { directory: answer.reads.clone(), class_path: None };
    let lost = |why: String| format!("the history server does not come back with its old settings: {why}");
    match console.restart(&job.host, &job.node.spark, was.clone(), &target, timeout) {
        Ok(Ok(_)) => Ok(match &answer.reads {
            Some(dir) => format!("the history server answers again from {dir}"),
            None => "the history server answers again".into(),
        }),
        Ok(Err(not_ready)) => Err(lost(not_ready.what)),
        Err(e) => Err(lost(format!("{e:#}"))),
    }
}
