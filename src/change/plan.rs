//! A plan: for everything we want, what is there and what will be. The same list is printed,
//! applied, journaled and reported.

use super::component::Component;
use super::desired::{Desired, DesiredState};
use crate::change::receipt::Receipt;
use crate::change::resource::{Resource, State};
use crate::error::Fault;
use crate::host::Host;
use crate::paths::OWN_UNITS;
use anyhow::{Result, bail};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use std::path::Path;

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It was not there.
    Create,
    /// It becomes something else.
    Change,
    /// It goes.
    Remove,
    /// It stays.
    Keep,
}

/// One row of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub resource: Resource,
    /// As it was found.
    pub before: State,
    /// As it will be.
    pub after: State,
    /// Why, for the person who reads the row.
    pub why: String,
    /// Whether it is kept only because somebody chose it.
    pub yields: bool,
}

impl Change {
    /// What happens.
    pub fn action(&self) -> Action {
        match (&self.before, &self.after) {
            (b, a) if b == a => Action::Keep,
            (_, State::Absent | State::Unit { enabled: false, runs: None }) => Action::Remove,
            (State::Absent | State::Unit { runs: None, .. }, _) => Action::Create,
            (_, State::Unit { runs: None, .. }) => Action::Remove,
            _ => Action::Change,
        }
    }

    /// Whether anything happens.
    pub fn is_real(&self) -> bool {
        self.action() != Action::Keep
    }

    /// Whether the history server notices this only when it is started anew.
    pub fn needs_restart(&self) -> bool {
        self.is_real() && is_read_by_server(&self.resource)
    }

    /// Whether systemd must read its unit files again.
    pub fn needs_reload(&self) -> bool {
        // A unit of ours that is switched on is read then.
        let ours = |path: &Path| OWN_UNITS.iter().any(|unit| path.ends_with(unit)) && self.after != State::Absent;
        self.is_real()
            && matches!(&self.resource, Resource::File { path } if path.starts_with("/etc/systemd") && !ours(path))
    }
}

/// Whether a starting history server reads it.
pub fn is_read_by_server(resource: &Resource) -> bool {
    // A prefix is looked at when the server starts, and a server that started has it.
    match Component::of(resource) {
        Component::Prefix | Component::DeferredInstall => false,
        Component::Gateway => matches!(resource, Resource::Key { .. }),
        Component::Link | Component::Configure => !matches!(resource, Resource::Dir { .. }),
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Change", 6)?;
        row.serialize_field("action", &self.action())?;
        row.serialize_field("name", &self.resource.name())?;
        row.serialize_field("resource", &self.resource)?;
        row.serialize_field("before", &self.before)?;
        row.serialize_field("after", &self.after)?;
        row.serialize_field("why", &self.why)?;
        row.end()
    }
}

/// The changes that make a node what is wanted.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// One row for each resource.
    pub changes: Vec<Change>,
    /// Why the history server will be restarted, if it will.
    pub restart: Option<String>,
    /// What was found wrong on the node.
    pub found: Vec<String>,
    /// What the changes mean for people.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.real().next().is_none() && self.restart.is_none()
    }

    /// The rows that are not Keep.
    pub fn real(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| c.is_real())
    }
}

/// Compares what is wanted with what is there. Reads everything before anything is written.
pub fn changes(host: &Host, receipt: &Receipt, wants: &[Desired]) -> Result<Vec<Change>> {
    wants.iter().map(|want| change(host, receipt, want)).collect()
}

fn change(host: &Host, receipt: &Receipt, want: &Desired) -> Result<Change> {
    let before = want.resource.observe(host)?;
    let entry = receipt.entry(&want.resource);
    let mut why = want.why.clone();
    let mut yielded = false;
    let after = match &want.state {
        DesiredState::Is(state) => state.clone(),
        DesiredState::Directory { mode, owner } => match &before {
            State::Dir { .. } if entry.is_none() => before.clone(),
            _ => State::Dir { mode: *mode, owner: *owner },
        },
        DesiredState::Value { value, yields } => {
            let Resource::Key { key, .. } = &want.resource else { bail!("{} has no value", want.resource.name()) };
            match before.value() {
                Some(found) if found == *value => before.clone(),
                Some(_) if *yields && !entry.is_some_and(|e| e.wrote(&before)) => {
                    yielded = true;
                    why = format!("set already; emr-shs would set {value}");
                    before.clone()
                }
                _ => {
                    let old = match &before {
                        State::Line { raw } => Some(raw.as_str()),
                        _ => None,
                    };
                    State::Line { raw: crate::properties::line_with(old, key, value) }
                }
            }
        }
    };
    Ok(Change { resource: want.resource.clone(), before, after, why, yields: yielded })
}

/// Rows that take back what an earlier run made and this one no longer wants, newest first.
/// `mine` says which resources this command is about.
pub fn releases(
    host: &Host,
    receipt: &Receipt,
    wants: &[Desired],
    mine: impl Fn(&Resource) -> bool,
) -> Result<Vec<Change>> {
    let dropped = receipt.entries.iter().rev().filter(|e| {
        let wanted = wants.iter().any(|w| w.resource == e.resource);
        !wanted && mine(&e.resource) && !matches!(e.resource, Resource::Prefix { .. })
    });
    dropped
        .map(|entry| {
            let now = entry.resource.observe(host)?;
            // A unit that was stopped is ours all the same: its file goes, too.
            let ours = entry.wrote(&now) || matches!(entry.resource, Resource::Unit { .. });
            Ok(Change {
                resource: entry.resource.clone(),
                after: if ours { entry.before.clone() } else { now.clone() },
                before: now,
                why: if ours { "no longer wanted" } else { "left alone: changed since" }.into(),
                yields: false,
            })
        })
        .collect()
}

/// Refuses to replace links and files that somebody else made.
pub fn refuse_foreign(receipt: &Receipt, changes: &[Change]) -> Result<(), Fault> {
    changes.iter().filter(|change| change.is_real()).try_for_each(|change| {
        let (Resource::Link { path } | Resource::File { path }) = &change.resource else { return Ok(()) };
        let is_ours = receipt.entry(&change.resource).is_some_and(|entry| entry.wrote(&change.before));
        if is_ours || change.before == State::Absent {
            return Ok(());
        }
        let path = path.display();
        Err(Fault::preflight(format!("emr-shs did not make {path}, and does not replace it"))
            .detail(format!("found {}, wanted {}", change.before, change.after))
            .unchanged()
            .hint(format!("move it away: mv {path} {path}.old; or add --force, and uninstall will bring it back")))
    })
}
