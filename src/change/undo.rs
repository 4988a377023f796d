//! Back to the first `before`, wherever what is there now is something we wrote: what `uninstall`
//! does, and what is left when an owed restart fails.

use super::component::Component;
use crate::change::plan::Change;
use crate::change::receipt::{Receipt, ReceiptEntry};
use crate::change::resource::{Resource, State};
use crate::change::transaction;
use crate::host::Host;
use anyhow::Result;

/// What becomes of a resource of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoOutcome {
    /// It goes back to how it was.
    Back,
    /// It is as it was already.
    AsBefore,
    /// Somebody changed it since; it is left alone.
    Changed,
    /// The history server needs it as it stands; it stays ours.
    Needed,
    /// Something on S3, which others may share; it stays.
    Shared,
}

/// One row of an undo.
pub struct UndoRow {
    /// What happens; nothing, unless the outcome is [`UndoOutcome::Back`].
    pub change: Change,
    /// Why.
    pub outcome: UndoOutcome,
}

/// What will become of everything in the receipt, newest first. A spark-defaults.conf that cannot
/// be read is an error: its keys could not be told from somebody else's.
pub fn plan(host: &Host, receipt: &Receipt) -> Result<Vec<UndoRow>> {
    let mut rows = receipt.entries.iter().rev().map(|e| row(host, e)).collect::<Result<Vec<_>>>()?;
    if stays_on_s3(&rows).is_some() {
        for row in rows
            .iter_mut()
            .filter(|r| r.outcome == UndoOutcome::Back && Component::of(&r.change.resource) == Component::Link)
        {
            row.change.after = row.change.before.clone();
            row.change.why = "left: the history server needs it".into();
            row.outcome = UndoOutcome::Needed;
        }
    }
    Ok(rows)
}

/// The same for what the history server reads when it starts, and nothing else: the log gateway
/// lives without it.
pub fn plan_of_server(host: &Host, receipt: &Receipt) -> Result<Vec<UndoRow>> {
    let mut rows = plan(host, receipt)?;
    rows.retain(|row| {
        let resource = &row.change.resource;
        match Component::of(resource) {
            Component::Gateway => matches!(resource, Resource::Key { .. }),
            piece => piece != Component::DeferredInstall,
        }
    });
    Ok(rows)
}

/// The directory on S3 that the server would still read, because somebody changed the key since.
pub fn stays_on_s3(rows: &[UndoRow]) -> Option<String> {
    const KEY: &str = "spark.history.fs.logDirectory";
    let key = rows.iter().find(|r| r.outcome == UndoOutcome::Changed && r.change.resource.name() == KEY)?;
    key.change.after.value().filter(|value| value.starts_with("s3"))
}

fn row(host: &Host, entry: &ReceiptEntry) -> Result<UndoRow> {
    let row = |before: State, after: State, outcome: UndoOutcome, why: &str| {
        Ok(UndoRow {
            change: Change { resource: entry.resource.clone(), before, after, why: why.into(), yields: false },
            outcome,
        })
    };
    if matches!(entry.resource, Resource::Prefix { .. }) {
        return row(State::Exists, State::Exists, UndoOutcome::Shared, "stays: other clusters may use it");
    }
    let now = match entry.resource.observe(host) {
        Ok(now) => now,
        Err(e) if matches!(entry.resource, Resource::Key { .. }) => return Err(e),
        // Something that is not even of the same kind stands there, or it cannot be looked at.
        Err(e) => return row(State::Exists, State::Exists, UndoOutcome::Changed, &format!("left alone: {e}")),
    };
    // A link that is gone does not keep from coming back what --force had put aside for it.
    let aside = now == State::Absent && matches!(entry.before, State::Occupied { .. });
    if now.same(&entry.before) {
        row(now.clone(), now, UndoOutcome::AsBefore, "is as it was")
    } else if entry.wrote(&now) || aside || matches!(entry.resource, Resource::Unit { .. }) {
        row(now, entry.before.clone(), UndoOutcome::Back, "as it was before")
    } else {
        row(now.clone(), now, UndoOutcome::Changed, "left alone: changed since")
    }
}

/// When a row is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum UndoPhase {
    /// Before the server is restarted: nearly everything.
    BeforeRestart,
    /// After it: directories that a running server has open.
    AfterRestart,
}

/// Carries out the rows of one phase; gives what could not be put back. What could not stays in
/// the receipt.
pub fn carry_out(
    host: &Host,
    receipt: &mut Receipt,
    rows: &[UndoRow],
    phase: UndoPhase,
    tell: &mut dyn FnMut(&UndoRow),
) -> Result<Vec<String>> {
    let mut trouble = Vec::new();
    let waits = phase == UndoPhase::AfterRestart;
    let mut changes = Vec::new();
    // A unit that ran before runs again once its files are what they were.
    let waiting =
        |c: &Change| transaction::waits_for_restart(host, c) || matches!(c.after, State::Unit { runs: Some(_), .. });
    for row in rows.iter().filter(|r| waiting(&r.change) == waits) {
        undo(host, receipt, row, &mut trouble, tell)?;
        changes.push(row.change.clone());
    }
    if let Err(e) = transaction::reload(&changes) {
        trouble.push(format!("{e:#}"));
    }
    Ok(trouble)
}

fn undo(
    host: &Host,
    receipt: &mut Receipt,
    row: &UndoRow,
    trouble: &mut Vec<String>,
    tell: &mut dyn FnMut(&UndoRow),
) -> Result<()> {
    let resource = &row.change.resource;
    if row.outcome == UndoOutcome::Back {
        if let Err(e) = transaction::put_back(host, &row.change) {
            trouble.push(e);
            return Ok(());
        }
    } else if let Err(e) = resource.sweep(host) {
        trouble.push(format!("{}: {e:#}", resource.name()));
    }
    // A directory of ours in which somebody has put something stays.
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
