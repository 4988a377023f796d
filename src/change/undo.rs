//! Restores the first `before` of every resource whose current state emr-shs wrote. `uninstall` does that, and
//! `install` and `restart` do it when the history server does not start with settings that it has never run with.

use super::component::Component;
use super::plan::{Change, left_alone};
use super::receipt::{Receipt, ReceiptEntry};
use super::resource::{Resource, State};
use super::transaction;
use crate::host::{Host, Owner};
use crate::paths::{HISTORY_PORT_KEY, LOG_DIRECTORY_KEY, SETTINGS_DIR, TAKEN_PORT_SOCKET};
use crate::settings::Settings;
use crate::systemd;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// What an undo does with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UndoOutcome {
    /// It restores the first state.
    Back,
    /// The resource is in its first state already.
    AsBefore,
    /// Somebody has changed the resource since; it stays as it is.
    Changed,
    /// The history server still needs the resource; it stays, and still belongs to emr-shs.
    Needed,
    /// Other clusters may use the resource; it stays.
    Shared,
}

/// One row of an undo.
pub(crate) struct UndoRow {
    /// The change; it changes nothing unless the outcome is [`UndoOutcome::Back`].
    pub change: Change,
    pub outcome: UndoOutcome,
}

/// What an undo will do with every resource in the receipt, newest first. A spark-defaults.conf that cannot be read
/// is an error: nobody could tell whose keys the file contains.
pub(crate) fn plan(host: &Host, receipt: &Receipt) -> Result<Vec<UndoRow>> {
    let mut rows = receipt.entries.iter().rev().map(|e| row(host, e)).collect::<Result<Vec<_>>>()?;
    if stays_on_s3(&rows).is_some() {
        let is_link = |row: &UndoRow| Component::of(&row.change.resource) == Component::Link;
        for row in rows.iter_mut().filter(|r| r.outcome == UndoOutcome::Back && is_link(r)) {
            row.change.after = row.change.before.clone();
            row.change.why = "left: the history server needs it".into();
            row.outcome = UndoOutcome::Needed;
        }
    }
    Ok(rows)
}

/// The same for the resources that the history server needs when it starts: those that it reads, and its port. The log
/// gateway works without them. While the gateway has the history server's port, spark.history.ui.port stays as it is: the gateway's
/// settings name that port, and this undo does not change those settings.
pub(crate) fn plan_of_server(host: &Host, receipt: &Receipt) -> Result<Vec<UndoRow>> {
    let mut rows = plan(host, receipt)?;
    let is_taken = rows.iter().any(|row| {
        row.change.resource.is_unit(TAKEN_PORT_SOCKET) && matches!(row.change.before, State::Unit { runs: Some(_), .. })
    });
    let port_stays = is_taken && receipt.entries.iter().any(|entry| entry.resource.is_key(HISTORY_PORT_KEY));
    rows.retain(|row| {
        let resource = &row.change.resource;
        match Component::of(resource) {
            _ if port_stays && resource.is_key(HISTORY_PORT_KEY) => false,
            Component::Gateway => match resource {
                Resource::Unit { name } => name == TAKEN_PORT_SOCKET && !port_stays,
                resource => matches!(resource, Resource::Key { .. }),
            },
            component => component != Component::DeferredInstall,
        }
    });
    Ok(rows)
}

/// The directory on S3 that the server will still read, because somebody has changed the key since the install.
pub(crate) fn stays_on_s3(rows: &[UndoRow]) -> Option<String> {
    let is_changed_key =
        |row: &&UndoRow| row.outcome == UndoOutcome::Changed && row.change.resource.name() == LOG_DIRECTORY_KEY;
    rows.iter().find(is_changed_key)?.change.after.value().filter(|value| value.starts_with("s3"))
}

/// What an undo does with one resource: it puts back what still is as emr-shs wrote it, and leaves alone what somebody
/// else has changed since.
fn row(host: &Host, entry: &ReceiptEntry) -> Result<UndoRow> {
    let row = |before: State, after: State, outcome: UndoOutcome, why: &str| {
        let change = Change { resource: entry.resource.clone(), before, after, why: why.into(), yields: false };
        Ok(UndoRow { change, outcome })
    };
    if matches!(entry.resource, Resource::Prefix { .. }) {
        return row(State::Exists, State::Exists, UndoOutcome::Shared, "stays: other clusters may use it");
    }
    let now = match entry.resource.observe(host) {
        Ok(now) => now,
        Err(e) if matches!(entry.resource, Resource::Key { .. }) => return Err(e),
        // Something of another kind stands there, or nobody can look at it.
        Err(e) => return row(State::Exists, State::Exists, UndoOutcome::Changed, &format!("left alone: {e}")),
    };
    // Somebody removed the link. What --force put aside for the link comes back all the same.
    let was_put_aside = now == State::Absent && matches!(entry.before, State::Occupied { .. });
    if now.is_equivalent_to(&entry.before) {
        row(now.clone(), now, UndoOutcome::AsBefore, "is as it was")
    } else if entry.wrote(&now) || was_put_aside || matches!(entry.resource, Resource::Unit { .. }) {
        row(now, entry.before.clone(), UndoOutcome::Back, "as it was before")
    } else {
        let why = left_alone(entry, &now);
        row(now.clone(), now, UndoOutcome::Changed, &why)
    }
}

/// When an undo carries out a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum UndoPhase {
    /// Before the history server restarts: nearly every row.
    BeforeRestart,
    /// After the restart: directories that the running server has open, and units whose files must be back first.
    AfterRestart,
}

/// Carries out the rows of one phase. Returns a line for each row that could not be carried out; such a resource
/// stays in the receipt.
pub(crate) fn carry_out(
    host: &Host,
    receipt: &mut Receipt,
    rows: &[UndoRow],
    phase: UndoPhase,
    tell: &mut dyn FnMut(&UndoRow),
) -> Result<Vec<String>> {
    let mut errors = Vec::new();
    let is_late = |change: &Change| {
        transaction::waits_for_restart(host, change) || matches!(change.after, State::Unit { runs: Some(_), .. })
    };
    for row in rows.iter().filter(|row| is_late(&row.change) == (phase == UndoPhase::AfterRestart)) {
        undo(host, receipt, row, &mut errors, tell)?;
    }
    if let Err(e) = systemd::read_unit_files() {
        errors.push(format!("{e:#}"));
    }
    Ok(errors)
}

/// Gives root what an account that is about to go could read. The kernel knows numbers only: the next account could
/// get the same ones, and read the key and the password file that people have put beside the settings.
fn keep_from_successors(
    host: &Host,
    account: Owner,
    settings: &Settings,
    errors: &mut Vec<String>,
    tell: &mut dyn FnMut(&UndoRow),
) {
    let of_settings = [&settings.gateway.tls_cert, &settings.gateway.tls_key, &settings.gateway.htpasswd];
    let named = of_settings.into_iter().flatten().cloned();
    let beside = host.path(Path::new(SETTINGS_DIR)).into_iter().flat_map(|dir| {
        let entries = WalkDir::new(dir).min_depth(1).into_iter().flatten();
        entries.filter(|e| e.file_type().is_file()).map(|e| host.inside(e.path())).collect::<Vec<_>>()
    });
    let paths: BTreeSet<PathBuf> = named.chain(beside).collect();
    for path in paths {
        match host.take_from(&path, account) {
            Ok(false) => {}
            Ok(true) => {
                let change = Change {
                    resource: Resource::File { path },
                    before: State::Exists,
                    after: State::Exists,
                    why: "left: only root may read it now, because the account that could is gone".into(),
                    yields: false,
                };
                tell(&UndoRow { change, outcome: UndoOutcome::Changed });
            }
            Err(e) => errors.push(format!("{} could be read by the next account: {e:#}", path.display())),
        }
    }
}

fn undo(
    host: &Host,
    receipt: &mut Receipt,
    row: &UndoRow,
    errors: &mut Vec<String>,
    tell: &mut dyn FnMut(&UndoRow),
) -> Result<()> {
    let resource = &row.change.resource;
    if row.outcome == UndoOutcome::Back {
        if let (Resource::Account { name }, State::Absent) = (resource, &row.change.after)
            && let Some(owner) = host.account(name)
        {
            keep_from_successors(host, owner, &receipt.settings, errors, tell);
        }
        if let Err(e) = transaction::put_back(host, &row.change) {
            errors.push(e);
            return Ok(());
        }
    } else if let Err(e) = resource.sweep(host) {
        errors.push(format!("{}: {e:#}", resource.name()));
    }
    // A directory in which somebody has put something stays.
    let stays = row.change.after == State::Absent && resource.observe(host)? != State::Absent;
    if stays {
        let change = Change { after: row.change.before.clone(), why: "left: not empty".into(), ..row.change.clone() };
        tell(&UndoRow { change, outcome: UndoOutcome::Changed });
    } else {
        tell(row);
    }
    if row.outcome != UndoOutcome::Needed {
        receipt.forget(resource);
        receipt.save(host)?;
    }
    Ok(())
}
