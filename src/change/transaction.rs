//! Carries a plan out, and takes it back.
//!
//! All changes are journaled (and the journal synced) before the first is made, so that a crash at any
//! moment leaves a node that a later run can finish or undo. A failure puts this run's changes
//! back, newest first. What is still needed until then goes last: directories that a running history
//! server has open, an old program, the unit that would try again after a crash.

use super::component::Component;
use crate::change::plan::{Action, Change, is_read_by_server};
use crate::change::receipt::Receipt;
use crate::change::resource::{Resource, State};
use crate::host::Host;
use crate::settings::Settings;
use crate::signals;
use crate::systemd;
use anyhow::{Context, Result};

/// A run's changes, until they are kept or put back.
pub struct Transaction<'a> {
    host: &'a Host,
    receipt: Receipt,
    original: Receipt,
    rows: Vec<Change>,
    done: Vec<Change>,
    last: Vec<Change>,
}

impl<'a> Transaction<'a> {
    /// Begins with the receipt as it was found.
    pub fn begin(host: &'a Host, receipt: Receipt) -> Self {
        let original = receipt.clone();
        Self { host, receipt, original, rows: Vec::new(), done: Vec::new(), last: Vec::new() }
    }

    /// What was done to the node so far, this run's work included.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// How many things on the node a roll-back has to put back.
    pub fn undoable(&self) -> usize {
        self.done.iter().filter(|c| !matches!(c.resource, Resource::Prefix { .. })).count()
    }

    /// Puts another receipt in place of the one it began with: that is what a roll-back leaves.
    pub fn began_with(&mut self, receipt: Receipt) {
        self.original = receipt;
    }

    /// Notes what was asked for, and whether the server lived when we first came to it.
    pub fn remember(&mut self, settings: &Settings, alive: bool) {
        if !self.receipt.entries.iter().any(|e| is_read_by_server(&e.resource)) {
            self.receipt.was_alive = alive;
        }
        self.receipt.settings = settings.clone();
    }

    /// Makes the changes that are real. On an error the caller rolls back.
    pub fn apply(&mut self, changes: &[Change], owes_restart: bool) -> Result<()> {
        self.receipt.owes_restart |= owes_restart;
        self.rows.extend_from_slice(changes);
        let real = || changes.iter().filter(|c| c.is_real());
        for change in real() {
            self.receipt.record(&change.resource, &change.before, &change.after);
        }
        self.receipt.save(self.host).context("writing the receipt")?;
        for change in real() {
            signals::check()?;
            if waits_for_restart(self.host, change) || goes_last(change) {
                self.last.push(change.clone());
                continue;
            }
            self.done.push(change.clone());
            change.resource.set(self.host, &change.after)?;
        }
        reload(&self.done)
    }

    /// Keeps the changes. `restarted` says that the restart that was owed is paid. On an error the
    /// caller rolls back.
    pub fn keep(&mut self, restarted: bool) -> Result<()> {
        // What is back at its first `before` is no longer ours. What is in other hands stays on
        // record, so that `uninstall` can say that it is left.
        for change in self.rows.iter().filter(|row| !self.last.contains(row)) {
            if self.receipt.entry(&change.resource).is_some_and(|e| e.before == change.after) {
                self.receipt.forget(&change.resource);
            }
        }
        self.receipt.owes_restart &= !restarted;
        self.receipt.save(self.host).context("writing the receipt")?;
        // That one of these stays is no reason to undo the rest: it stays on record.
        for change in &self.last {
            if change.resource.set(self.host, &change.after).is_ok() {
                self.receipt.forget(&change.resource);
            }
        }
        if !self.last.is_empty() {
            let _ = reload(&self.last);
            let _ = self.receipt.save(self.host);
        }
        // A directory that could not go because of them.
        for change in self.rows.iter().filter(|c| matches!(c.resource, Resource::Dir { .. }) && c.is_real()) {
            if change.after == State::Absent {
                let _ = change.resource.set(self.host, &change.after);
            }
        }
        Ok(())
    }

    /// Puts this run's changes back, newest first; gives what could not be put back, a line each.
    /// What the server has open is left for [`Transaction::end`].
    pub fn roll_back(&mut self) -> Vec<String> {
        signals::ignore();
        self.last.clear();
        let mut trouble = Vec::new();
        for change in self.done.iter().rev() {
            let back = Change { before: change.after.clone(), after: change.before.clone(), ..change.clone() };
            // A unit that ran before runs again once its files are what they were.
            let runs_again = matches!(back.after, State::Unit { runs: Some(_), .. });
            if waits_for_restart(self.host, &back) || runs_again {
                self.last.push(back);
            } else if let Err(e) = put_back(self.host, &back) {
                trouble.push(e);
            }
        }
        if let Err(e) = reload(&self.done) {
            trouble.push(format!("{e:#}"));
        }
        trouble
    }

    /// Ends a roll-back, after the server was restarted if it had to be. With trouble the journal
    /// stays, so that `uninstall` can try again.
    pub fn end(self, trouble: &mut Vec<String>) {
        for change in &self.last {
            if let Err(e) = put_back(self.host, change) {
                trouble.push(e);
            }
        }
        let mut receipt = if trouble.is_empty() { self.original } else { self.receipt };
        if let Err(e) = receipt.save(self.host) {
            trouble.push(format!("the receipt is not put back: {e:#}"));
        }
    }
}

/// Makes one change backwards; the error is a line for people.
pub fn put_back(host: &Host, change: &Change) -> Result<(), String> {
    let set = change.resource.sweep(host).and_then(|()| {
        // What a failure kept from being made needs no undoing, and may not allow it either.
        let there =
            matches!(change.resource, Resource::Prefix { .. }) || change.resource.observe(host)? == change.after;
        if there { Ok(()) } else { change.resource.set(host, &change.after) }
    });
    set.map_err(|e| format!("{} is not put back: {e:#}", change.resource.name()))
}

/// Whether a change must wait until the history server was restarted.
pub fn waits_for_restart(host: &Host, change: &Change) -> bool {
    host.is_live() && matches!(change.resource, Resource::Cache { .. }) && change.after == State::Absent
}

/// Whether a change waits until nothing can fail any more: an old program could not be brought back,
/// and the unit that installs tries again where a run of it was cut short.
fn goes_last(change: &Change) -> bool {
    let of_unit = Component::of(&change.resource) == Component::DeferredInstall;
    change.action() == Action::Remove && (of_unit || matches!(change.resource, Resource::Program { .. }))
}

/// Makes systemd read its unit files again, if any of them changed.
pub fn reload(changes: &[Change]) -> Result<()> {
    if changes.iter().any(Change::needs_reload) && systemd::is_running() { systemd::daemon_reload() } else { Ok(()) }
}
