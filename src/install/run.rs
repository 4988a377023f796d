//! Carries an installation out: makes the changes, restarts the history server, waits until it is ready; or puts
//! everything back.

use super::prepare::Installation;
use super::{Progress, Show, restart, undo as undo_earlier};
use crate::change::plan::{self, Change};
use crate::change::resource::State;
use crate::change::transaction::{Transaction, takes_port};
use crate::change::undo;
use crate::error::{Exit, Fault};
use crate::node::history_server::{HistoryServer, Readiness, RestartOutcome, same_directory};
use crate::node::process::Process;
use crate::node::spark::Spark;
use crate::paths::{HISTORY_SERVER_UNIT, LOG_DIRECTORY_KEY};
use crate::settings::LinkInto;
use crate::signals;
use crate::systemd::{self, Unit};
use anyhow::Result;
use std::time::{Duration, Instant};

/// A server that was alive gets at least this time to come back with its old settings.
const RECOVERY: Duration = Duration::from_secs(120);

/// Carries the plan out. Returns how long the history server took to become ready, if it was restarted. On an error
/// the node is as it was before, or the error lists what is not.
pub(crate) fn carry_out(job: &mut Installation, timeout: Duration, show: Show<'_>) -> Result<Option<Duration>> {
    let was_alive = job.node.server.as_ref().is_some_and(HistoryServer::is_alive);
    let mut run = InstallRun {
        job,
        running_before: job.node.server.as_ref().map(|s| Process::stages_in_group(&s.unit)).unwrap_or_default(),
        touched_server: false,
        timeout,
        show,
    };
    let mut transaction = Transaction::begin(&run.job.host, run.job.receipt.clone());
    transaction.remember(&run.job.settings, was_alive);
    transaction.leave_out(run.job.components(), &run.job.left_out);
    let made = run.change_and_restart(&mut transaction);
    let kept = made.and_then(|(changes, took)| transaction.keep(took.is_some()).map(|()| (changes, took)));
    match kept {
        Ok((changes, took)) => {
            job.plan.changes = changes;
            signals::end_with(1, "interrupted after everything was installed; to see the state: sudo emr-shs status");
            Ok(took)
        }
        Err(error) => Err(run.put_back(transaction, Fault::of(error)).into()),
    }
}

struct InstallRun<'a> {
    job: &'a Installation,
    /// The history servers that were in the unit's control group before this run.
    running_before: Vec<Process>,
    /// Whether this run has restarted the server.
    touched_server: bool,
    timeout: Duration,
    show: Show<'a>,
}

impl InstallRun<'_> {
    /// Returns the changes that were made, and how long the restart took.
    fn change_and_restart(&mut self, transaction: &mut Transaction<'_>) -> Result<(Vec<Change>, Option<Duration>)> {
        let Self { job, show, .. } = *self;
        let plan = &job.plan;
        let owes_restart =
            job.node.server.is_some() && (plan.restart.is_some() || plan.changes.iter().any(Change::needs_restart));
        transaction.apply(&plan.changes, owes_restart)?;
        let (later, now): (Vec<Change>, Vec<Change>) = plan.changes.iter().cloned().partition(takes_port);
        show(Progress::Changed(&now));
        let mut changes = now;
        let Some(mut server) = job.node.server.clone().filter(|_| plan.restart.is_some()) else {
            let taken = transaction.take_port()?;
            show(Progress::Changed(&taken));
            changes.extend(later);
            return Ok((changes, None));
        };
        let mut readiness = job.readiness();
        let mut outcome = self.restart(&mut server, &readiness)?;
        if outcome.dropped_class_path() {
            self.link_into_spark_jars(transaction, &mut changes)?;
            readiness.class_path = None;
            outcome = self.restart(&mut server, &readiness)?;
        }
        let took = outcome.ready_after(&job.host, job.event_logs.as_ref())?;
        let taken = transaction.take_port()?;
        show(Progress::Changed(&taken));
        changes.extend(later);
        Ok((changes, Some(took)))
    }

    /// Moves the links to where every start script looks. Something on this node replaces the class path that the drop-in sets.
    fn link_into_spark_jars(&self, transaction: &mut Transaction<'_>, changes: &mut Vec<Change>) -> Result<()> {
        let job = self.job;
        (self.show)(Progress::Warning(&format!(
            "the history server has another SPARK_DAEMON_CLASSPATH than emr-shs gives it: another drop-in or file of its unit \
             (systemctl cat {HISTORY_SERVER_UNIT}), the start script or spark-env.sh sets it; linking into {} instead, which every job uploads",
            job.node.spark.home.join("jars").display()
        )));
        let mut settings = job.settings.clone();
        settings.link_into = LinkInto::SparkJars;
        let moved = job.changes(transaction.receipt(), &settings)?;
        plan::refuse_foreign(transaction.receipt(), &moved)?;
        transaction.remember(&settings, false);
        transaction.apply(&moved, true)?;
        (self.show)(Progress::Changed(&moved));
        changes.retain(|c| !moved.iter().any(|m| m.resource == c.resource && m.has_effect()));
        changes.extend(moved.into_iter().filter(|c| c.has_effect() && c.before == State::Absent));
        Ok(())
    }

    /// Restarts the server. The settings are read again, because the port may be among the changes.
    fn restart(&mut self, server: &mut HistoryServer, readiness: &Readiness) -> Result<RestartOutcome> {
        self.touched_server = true;
        let spark = Spark::observe(&self.job.host)?;
        restart::restart(&spark, server, readiness, self.timeout, self.show)
    }

    /// Undoes this run and brings the server back to its earlier state. The fault then tells what happened to both.
    fn put_back(&self, mut transaction: Transaction<'_>, mut fault: Fault) -> Fault {
        fault.exit = Exit::Failed;
        fault.hint = fault.hint.or_else(|| Some("correct the cause, then run the command again".into()));
        fault.unchanged = false;
        let undone = transaction.undoable();
        let mut errors = transaction.roll_back();
        let mut server = "the history server was not touched".to_string();
        if let Some(was) = self.job.node.server.as_ref().filter(|_| self.touched_server) {
            // The server runs with settings from before an earlier run that never reached its restart. It has
            // never run with that run's settings, so those must go too.
            let back = if was.process.is_some() && self.job.receipt.owes_restart {
                self.restore_first_settings(&was.unit, &mut transaction)
            } else {
                self.restore_server(was)
            };
            match back {
                Ok(text) => server = text,
                Err(text) => errors.push(text),
            }
        }
        transaction.finish_rollback(&mut errors);
        if !errors.is_empty() {
            return errors
                .into_iter()
                .fold(fault, Fault::detail)
                .hint("to see the state of the node: sudo emr-shs status; to try again: sudo emr-shs uninstall");
        }
        let put_back = match undone {
            0 => "nothing on this node was changed".into(),
            1 => "put back: 1 change".into(),
            n => format!("put back: {n} changes"),
        };
        fault.detail(format!("{put_back}; {server}"))
    }

    /// Starts the server with its old settings and waits until it is as well as it was.
    fn restore_server(&self, was: &HistoryServer) -> Result<String, String> {
        let job = self.job;
        let stop = || systemd::stop(HISTORY_SERVER_UNIT).map_err(|e| format!("{e:#}"));
        let Some(old) = &was.process else {
            stop().and_then(|()| self.end_strays(&was.unit))?;
            return Ok("the history server was down before, and is down again".into());
        };
        if old.is_alive() {
            self.end_strays(&was.unit)?;
            return Ok("the history server was never stopped, and still runs".into());
        }
        // A start script that was cut short can leave a server behind, which would hold the port.
        stop().and_then(|()| self.end_strays(&was.unit))?;
        let said = was.answer.as_ref().and_then(|a| a.reads.clone());
        // If somebody changed the file without a restart, the server comes back with the file's directory.
        let written = job.node.spark.defaults.text(LOG_DIRECTORY_KEY);
        let directory = said.filter(|said| written.is_some_and(|written| same_directory(written, said)));
        let readiness = Readiness { directory: directory.clone(), class_path: None };
        let lost = |why: String| format!("the history server does not come back with its old settings: {why}");
        (self.show)(Progress::Note("putting everything back"));
        let timeout = self.timeout.max(RECOVERY);
        match restart::restart(&job.node.spark, &mut was.clone(), &readiness, timeout, self.show) {
            Ok(RestartOutcome::Ready { .. }) => Ok(match directory {
                Some(dir) => format!("the history server answers again from {dir}"),
                None => "the history server answers again".into(),
            }),
            Ok(RestartOutcome::NotReady(not_ready)) => Err(lost(not_ready.failure.to_string())),
            Err(e) => Err(lost(format!("{e:#}"))),
        }
    }

    /// Ends what this run's restarts have left in the unit's control group: history servers, and what is about to
    /// become one. A stopped unit starts no further ones. Processes outside the control group are not emr-shs's to end.
    fn end_strays(&self, unit: &Unit) -> Result<(), String> {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let mut strays = Process::stages_in_group(unit);
            strays.retain(|p| !self.running_before.iter().any(|known| known.is(p)));
            if strays.is_empty() {
                return Ok(());
            }
            strays.iter().try_for_each(|p| p.end().map_err(|e| format!("{e:#}")))?;
            if Instant::now() > deadline {
                return Err(format!(
                    "history servers appear again and again in the control group of {HISTORY_SERVER_UNIT}"
                ));
            }
        }
    }

    /// Undoes what earlier runs did, too, and starts the server.
    fn restore_first_settings(&self, unit: &Unit, transaction: &mut Transaction<'_>) -> Result<String, String> {
        let job = self.job;
        let mut receipt = job.receipt.clone();
        systemd::stop(HISTORY_SERVER_UNIT).map_err(|e| format!("{e:#}")).and_then(|()| self.end_strays(unit))?;
        let undone = undo::plan_of_server(&job.host, &receipt).and_then(|rows| {
            undo_earlier::carry_out(&job.host, &mut receipt, &rows, self.timeout.max(RECOVERY), self.show)
        });
        transaction.set_original(receipt);
        match undone {
            Ok(_) => {
                Ok("the changes of an earlier, interrupted run are put back too; the history server answers again"
                    .into())
            }
            Err(e) => Err(format!("the changes of an earlier, interrupted run are not all put back: {e:#}")),
        }
    }
}
