//! Carries a plan out, and takes it back.
//!
//! Each change is journaled (and the journal synced) before it is made, so that a crash at any
//! moment leaves a node that a later run can finish or undo. A failure puts this run's changes
//! back, newest first. Directories the history server works in go only after it was restarted:
//! a running one has its files open.

use crate::config::Settings;
use crate::host::Host;
use crate::interrupt;
use crate::plan::Change;
use crate::receipt::Receipt;
use crate::resource::Resource;
use crate::systemd;
use anyhow::{Context, Result};

/// A run's changes, until they are kept or put back.
pub struct Transaction<'a> {
    host: &'a Host,
    receipt: Receipt,
    original: Receipt,
    done: Vec<Change>,
    later: Vec<Change>,
}

impl<'a> Transaction<'a> {
    /// Begins with the receipt as it was found.
    pub fn begin(host: &'a Host, receipt: Receipt) -> Self {
        Self { host, original: receipt.clone(), receipt, done: Vec::new(), later: Vec::new() }
    }

    /// What was done to the node so far, this run's work included.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The changes made so far.
    pub fn done(&self) -> &[Change] {
        &self.done
    }

    /// Notes what was asked for, and whether the server lived when we first came.
    pub fn remember(&mut self, settings: &Settings, alive: bool) {
        if self.receipt.is_empty() {
            self.receipt.was_alive = alive;
        }
        self.receipt.settings = settings.clone();
    }

    /// Makes the changes that are real. On an error the caller rolls back.
    pub fn apply(&mut self, changes: &[Change], owes_restart: bool) -> Result<()> {
        self.receipt.owes_restart |= owes_restart;
        for change in changes {
            interrupt::check()?;
            if change.is_real() {
                self.receipt.record(&change.resource, &change.before, &change.after);
                self.receipt.save(self.host).context("writing the receipt")?;
                if is_later(change) {
                    self.later.push(change.clone());
                    continue;
                }
                self.done.push(change.clone());
                change.resource.set(self.host, &change.after)?;
            }
            self.forget_released(change);
        }
        reload(&self.done)?;
        self.receipt.save(self.host).context("writing the receipt")
    }

    /// A resource that is back at its first `before`, or in other hands, is no longer ours.
    fn forget_released(&mut self, change: &Change) {
        let entry = self.receipt.entry(&change.resource);
        if entry.is_some_and(|e| e.before == change.after || !e.wrote(&change.after)) {
            self.receipt.forget(&change.resource);
        }
    }

    /// The restart that was owed is paid: directories no longer wanted can go now.
    pub fn restarted(&mut self) -> Result<()> {
        for change in std::mem::take(&mut self.later) {
            change.resource.set(self.host, &change.after)?;
            self.forget_released(&change);
        }
        self.receipt.owes_restart = false;
        self.receipt.save(self.host).context("writing the receipt")
    }

    /// Puts this run's changes back, newest first; gives what could not be put back, a line each.
    /// What the server has open is left for [`Transaction::rolled_back`].
    pub fn roll_back(&mut self) -> Vec<String> {
        interrupt::forget();
        self.later.clear();
        let mut trouble = Vec::new();
        for change in self.done.iter().rev() {
            let back = Change { before: change.after.clone(), after: change.before.clone(), ..change.clone() };
            if is_later(&back) {
                self.later.push(back);
                continue;
            }
            if let Err(e) = back.resource.set(self.host, &back.after).and_then(|()| back.resource.sweep(self.host)) {
                trouble.push(format!("{} is not put back: {e:#}", back.resource.name()));
            }
        }
        if let Err(e) = reload(&self.done) {
            trouble.push(format!("{e:#}"));
        }
        trouble
    }

    /// Ends a roll-back, after the server was restarted if it had to be. With trouble the journal
    /// stays, so that `uninstall` can try again.
    pub fn rolled_back(mut self, trouble: &mut Vec<String>) {
        for change in std::mem::take(&mut self.later) {
            if let Err(e) = change.resource.set(self.host, &change.after) {
                trouble.push(format!("{} is not put back: {e:#}", change.resource.name()));
            }
        }
        let mut receipt = if trouble.is_empty() { self.original } else { self.receipt };
        if let Err(e) = receipt.save(self.host) {
            trouble.push(format!("the receipt is not put back: {e:#}"));
        }
    }
}

/// Whether a change must wait until the history server was restarted.
fn is_later(change: &Change) -> bool {
    matches!(change.resource, Resource::Cache { .. }) && change.after == crate::resource::State::Absent
}

fn reload(changes: &[Change]) -> Result<()> {
    if changes.iter().any(Change::needs_reload) && systemd::is_running() { systemd::daemon_reload() } else { Ok(()) }
}
