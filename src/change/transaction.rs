//! Makes the changes of a plan, and takes them back.
//!
//! A run journals all its changes, and syncs the journal, before it makes the first one. So a crash at any moment
//! leaves a node that a later run can finish or undo. A failure puts this run's changes back, newest first.
//!
//! The socket on the history server's port comes after the restart, because the history server has the port until then. A
//! removal of that socket is one of the first changes, so the port is free when the history server restarts.
//!
//! Three kinds of removal come last, because the node still needs what they remove: directories that a running
//! history server has open, the program of an earlier version, and the unit that tries again after a crash.

use super::component::Component;
use super::plan::{Action, Change, is_read_by_server};
use super::receipt::{LeftOut, Receipt};
use super::resource::{Resource, State};
use crate::error::ForbiddenToRoot;
use crate::host::Host;
use crate::paths::TAKEN_PORT_SOCKET;
use crate::settings::Settings;
use crate::signals::{self, Changing};
use crate::systemd;
use anyhow::{Context, Result};

/// The changes of one run, until the run keeps them or puts them back.
pub(crate) struct Transaction<'a> {
    host: &'a Host,
    /// The journal: what emr-shs did to the node, this run included.
    receipt: Receipt,
    /// What a rollback leaves as the receipt.
    original: Receipt,
    /// Every row of the plan, also those that change nothing.
    rows: Vec<Change>,
    /// What this run has changed, oldest first.
    done: Vec<Change>,
    /// What this run changes last.
    postponed: Vec<Change>,
    /// What this run changes once the history server has left its port.
    takes_port: Vec<Change>,
    /// Since the first change.
    changing: Option<Changing>,
}

impl<'a> Transaction<'a> {
    /// Begins with the receipt that is on the node.
    pub(crate) fn begin(host: &'a Host, receipt: Receipt) -> Self {
        let original = receipt.clone();
        Self {
            host,
            receipt,
            original,
            rows: Vec::new(),
            done: Vec::new(),
            postponed: Vec::new(),
            takes_port: Vec::new(),
            changing: None,
        }
    }

    pub(crate) fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// How many changes a rollback has to put back.
    pub(crate) fn undoable(&self) -> usize {
        self.done.iter().filter(|c| !matches!(c.resource, Resource::Prefix { .. })).count()
    }

    /// Replaces the receipt that a rollback leaves, because earlier runs are undone, too. If this run has given the history server's
    /// port back, the history server has that port now, and the rollback does not take it again.
    pub(crate) fn set_original(&mut self, receipt: Receipt) {
        self.postponed.retain(|change| !takes_port(change));
        self.original = receipt;
    }

    /// Records the settings and, before the first change that the history server reads, whether the server was
    /// alive.
    pub(crate) fn remember(&mut self, settings: &Settings, was_alive: bool) {
        if !self.receipt.entries.iter().any(|e| is_read_by_server(&e.resource)) {
            self.receipt.was_alive = was_alive;
        }
        self.receipt.settings = settings.clone();
    }

    /// Records which parts this run of some components wants and cannot make.
    pub(crate) fn leave_out(&mut self, components: &[Component], left_out: &[LeftOut]) {
        self.receipt.leave_out(components, left_out);
    }

    /// Makes the changes. On an error the caller rolls back.
    pub(crate) fn apply(&mut self, changes: &[Change], owes_restart: bool) -> Result<()> {
        self.changing.get_or_insert_with(Changing::begin);
        self.receipt.owes_restart |= owes_restart;
        self.rows.extend_from_slice(changes);
        let real = || changes.iter().filter(|c| c.has_effect());
        for change in real() {
            self.receipt.record(&change.resource, &change.before, &change.after);
        }
        adopt(&mut self.receipt, changes);
        self.receipt.save(self.host).context("writing the receipt")?;
        for change in real() {
            signals::check()?;
            if waits_for_restart(self.host, change) || goes_last(change) {
                self.postponed.push(change.clone());
                continue;
            }
            if takes_port(change) {
                // Jars that must lie elsewhere make a second plan of one run.
                if !self.takes_port.contains(change) {
                    self.takes_port.push(change.clone());
                }
                continue;
            }
            if change.starts_at_boot().is_none() {
                self.done.push(change.clone());
            } else if !self.done.contains(change) {
                // The files of all units are there by now. So systemd reads them once, and not once for each unit.
                let units = real().filter(|c| c.starts_at_boot().is_some() && !takes_port(c));
                self.done.extend(units.clone().cloned());
                Resource::enable(&units.filter_map(Change::starts_at_boot).collect::<Vec<_>>())?;
            }
            change.resource.set(self.host, &change.before, &change.after)?;
        }
        systemd::read_unit_files()
    }

    /// Lets the log gateway have the port that the history server has left. On an error the caller rolls back.
    pub(crate) fn take_port(&mut self) -> Result<Vec<Change>> {
        let changes = std::mem::take(&mut self.takes_port);
        for change in &changes {
            signals::check()?;
            self.done.push(change.clone());
            change.resource.set(self.host, &change.before, &change.after)?;
        }
        systemd::read_unit_files()?;
        Ok(changes)
    }

    /// Keeps the changes. `restarted` says that the history server has restarted since. On an error the caller
    /// rolls back.
    pub(crate) fn keep(&mut self, restarted: bool) -> Result<()> {
        // A resource that is back in its first state no longer belongs to emr-shs. The entry of a resource that
        // somebody else has changed stays, so that `uninstall` can report it.
        for change in self.rows.iter().filter(|row| !self.postponed.contains(row)) {
            if self.receipt.entry(&change.resource).is_some_and(|e| e.before == change.after) {
                self.receipt.forget(&change.resource);
            }
        }
        self.receipt.owes_restart &= !restarted;
        self.receipt.save(self.host).context("writing the receipt")?;
        // The installation works by now: a failure here keeps the entry and undoes nothing.
        for change in &self.postponed {
            if change.resource.set(self.host, &change.before, &change.after).is_ok() {
                self.receipt.forget(&change.resource);
            }
        }
        if !self.postponed.is_empty() {
            let _ = systemd::read_unit_files();
            let _ = self.receipt.save(self.host);
        }
        // These directories contained what went last.
        for change in self.rows.iter().filter(|c| matches!(c.resource, Resource::Dir { .. }) && c.has_effect()) {
            if change.after == State::Absent {
                let _ = change.resource.set(self.host, &change.before, &change.after);
            }
        }
        Ok(())
    }

    /// Puts this run's changes back, newest first. Returns a line for each change that cannot be put back. What the
    /// history server has open is left to [`Transaction::finish_rollback`].
    pub(crate) fn roll_back(&mut self) -> Vec<String> {
        signals::ignore();
        self.postponed.clear();
        self.takes_port.clear();
        let mut errors = Vec::new();
        for change in self.done.iter().rev() {
            let back = Change { before: change.after.clone(), after: change.before.clone(), ..change.clone() };
            // A unit that ran before starts again when its files are back.
            let runs_again = matches!(back.after, State::Unit { runs: Some(_), .. });
            if waits_for_restart(self.host, &back) || runs_again {
                self.postponed.push(back);
            } else if let Err(e) = put_back(self.host, &back) {
                errors.push(e);
            }
        }
        if let Err(e) = systemd::read_unit_files() {
            errors.push(format!("{e:#}"));
        }
        errors
    }

    /// Ends a rollback, after the restart of the history server if there was one. If an error is left, the journal
    /// stays, so that `uninstall` can try again.
    pub(crate) fn finish_rollback(self, errors: &mut Vec<String>) {
        for change in &self.postponed {
            if let Err(e) = put_back(self.host, change) {
                errors.push(e);
            }
        }
        let mut receipt = if errors.is_empty() { self.original } else { self.receipt };
        if let Err(e) = receipt.save(self.host) {
            errors.push(format!("the receipt is not put back: {e:#}"));
        }
    }
}

/// Records for resources that emr-shs owns and that need no change that their present state is the wanted one: an
/// earlier run may have wanted another.
pub(crate) fn adopt(receipt: &mut Receipt, changes: &[Change]) {
    for change in changes.iter().filter(|change| !change.has_effect() && !change.yields) {
        if let Some(entry) = receipt.entries.iter_mut().find(|entry| entry.resource == change.resource) {
            entry.wants(&change.after);
        }
    }
}

/// Puts one change back. The error is a line for people.
pub(crate) fn put_back(host: &Host, change: &Change) -> Result<(), String> {
    let set = change.resource.sweep(host).and_then(|()| {
        if matches!(change.resource, Resource::Prefix { .. }) {
            return Ok(());
        }
        // A failure may have prevented the change. Then undoing it is needless, and may fail for the same reason.
        let now = change.resource.observe(host)?;
        if now == change.after { Ok(()) } else { change.resource.set(host, &now, &change.after) }
    });
    set.map_err(|e| {
        let help = ForbiddenToRoot::among(&e).map(|forbidden| format!("; {}", forbidden.hint())).unwrap_or_default();
        format!("{} is not put back: {e:#}{help}", change.resource.name())
    })
}

/// Whether a change must wait for the restart of the history server, because the server has the directory open, or the
/// directory contains one that the server has open.
pub(crate) fn waits_for_restart(host: &Host, change: &Change) -> bool {
    let is_open = match change.resource {
        Resource::Cache { .. } => true,
        Resource::Dir { .. } => Component::of(&change.resource) == Component::Configure,
        _ => false,
    };
    host.is_live() && is_open && change.after == State::Absent
}

/// Whether a change makes systemd listen on the history server's port.
pub(crate) fn takes_port(change: &Change) -> bool {
    change.resource.is_unit(TAKEN_PORT_SOCKET) && matches!(change.after, State::Unit { runs: Some(_), .. })
}

/// Whether a change must wait until nothing can fail any more. Nothing can bring back the program of an earlier
/// version. The deferred unit tries again if this run is cut short.
fn goes_last(change: &Change) -> bool {
    let is_of_unit = Component::of(&change.resource) == Component::DeferredInstall;
    change.action() == Action::Remove && (is_of_unit || matches!(change.resource, Resource::Program { .. }))
}
