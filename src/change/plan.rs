//! A plan: for every desired resource, the state before and the state after. The same list is printed, applied,
//! journaled and reported.

use super::component::Component;
use super::desired::{Desired, DesiredState};
use super::receipt::{Receipt, ReceiptEntry};
use super::resource::{Resource, State};
use crate::error::Fault;
use crate::host::Host;
use crate::properties;
use crate::shown::{Hint, hint};
use anyhow::{Result, bail};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Create,
    Change,
    Remove,
    Keep,
}

/// One row of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub resource: Resource,
    pub before: State,
    pub after: State,
    /// The reason, for the person who reads the row.
    pub why: String,
    /// Whether the resource stays only because somebody else chose its state.
    pub yields: bool,
}

impl Change {
    pub(crate) fn action(&self) -> Action {
        match (&self.before, &self.after) {
            (before, after) if before == after => Action::Keep,
            (_, State::Absent | State::Unit { enabled: false, runs: None }) => Action::Remove,
            (State::Absent | State::Unit { runs: None, .. }, _) => Action::Create,
            (_, State::Unit { runs: None, .. }) => Action::Remove,
            _ => Action::Change,
        }
    }

    /// Whether anything happens.
    pub(crate) fn has_effect(&self) -> bool {
        self.action() != Action::Keep
    }

    /// Whether the history server notices the change only when it restarts.
    pub(crate) fn needs_restart(&self) -> bool {
        self.has_effect() && is_read_by_server(&self.resource)
    }

    /// The unit that shall start at boot, if the change is about one.
    pub(crate) fn starts_at_boot(&self) -> Option<&str> {
        match (&self.resource, &self.after) {
            (Resource::Unit { name }, State::Unit { enabled: true, .. }) => Some(name),
            _ => None,
        }
    }
}

/// Whether the history server reads the resource when it starts. A new prefix needs no
/// restart: without the prefix the server was not running.
pub(crate) fn is_read_by_server(resource: &Resource) -> bool {
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
        row.serialize_field("before", &self.before.without_secrets())?;
        row.serialize_field("after", &self.after.without_secrets())?;
        row.serialize_field("why", &self.why)?;
        row.end()
    }
}

/// The changes that bring a node into the desired state.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// One row for each resource.
    pub changes: Vec<Change>,
    /// Why the history server restarts, if it does.
    pub restart: Option<String>,
    /// What is wrong on the node.
    #[serde(rename = "found")]
    pub problems: Vec<String>,
    /// What the changes mean for people.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub(crate) fn is_done(&self) -> bool {
        self.effective().next().is_none() && self.restart.is_none()
    }

    /// The changes that are not Keep.
    pub(crate) fn effective(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| c.has_effect())
    }
}

/// Compares the desired state with the node. Reads everything before anything is written.
pub(crate) fn changes(host: &Host, receipt: &Receipt, desired: &[Desired]) -> Result<Vec<Change>> {
    desired.iter().map(|desired| change(host, receipt, desired)).collect()
}

fn change(host: &Host, receipt: &Receipt, desired: &Desired) -> Result<Change> {
    let before = desired.resource.observe(host)?;
    let entry = receipt.entry(&desired.resource);
    let mut why = desired.why.clone();
    let mut yielded = false;
    let after = match &desired.state {
        DesiredState::Is(state) => wanted(&before, state.clone()),
        DesiredState::Directory { mode, owner } => match &before {
            State::Dir { .. } if entry.is_none() => {
                refuse_shared_directory(host, &desired.resource)?;
                before.clone()
            }
            _ => wanted(&before, State::Dir { mode: *mode, owner: *owner }),
        },
        DesiredState::Value { value, yields } => {
            let Resource::Key { key, .. } = &desired.resource else {
                bail!("{} has no value", desired.resource.name())
            };
            match before.value() {
                Some(found) if found == *value => before.clone(),
                Some(_) if *yields && !entry.is_some_and(|e| e.wrote(&before)) => {
                    yielded = true;
                    why = format!("set already; emr-shs would set {value}");
                    before.clone()
                }
                _ => State::Line { raw: properties::line_with(raw_line(&before), key, value) },
            }
        }
    };
    Ok(Change { resource: desired.resource.clone(), before, after, why, yields: yielded })
}

/// Refuses a directory of programs and settings of emr-shs that others than root can change: what root's units run
/// and read would be theirs.
fn refuse_shared_directory(host: &Host, resource: &Resource) -> Result<(), Fault> {
    let Resource::Dir { path } = resource else { return Ok(()) };
    let meta = host.metadata(path).map_err(Fault::of)?;
    if !meta.is_some_and(|meta| host.others_may_change(&meta)) {
        return Ok(());
    }
    Err(Fault::preflight(format!("others than root can change {}, where emr-shs puts what root uses", path.display()))
        .unchanged()
        .hint(hint!(
            "look at what is in it: ls -la {}; then: sudo chown root:root {} && sudo chmod go-w {}",
            path,
            path,
            path
        )))
}

/// The wanted state, or the present one if it serves as well.
fn wanted(before: &State, state: State) -> State {
    if before.serves_as(&state) { before.clone() } else { state }
}

fn raw_line(state: &State) -> Option<&str> {
    match state {
        State::Line { raw } => Some(raw),
        _ => None,
    }
}

/// The changes that give up what an earlier run made and this run does not want, newest first. `concerns` tells
/// which resources the command is about.
pub(crate) fn releases(
    host: &Host,
    receipt: &Receipt,
    desired: &[Desired],
    concerns: impl Fn(&Resource) -> bool,
) -> Result<Vec<Change>> {
    let dropped = receipt.entries.iter().rev().filter(|e| {
        let is_desired = desired.iter().any(|d| d.resource == e.resource);
        !is_desired && concerns(&e.resource) && !matches!(e.resource, Resource::Prefix { .. })
    });
    dropped
        .map(|entry| {
            let now = match entry.resource.observe(host) {
                Ok(now) => now,
                Err(e) if matches!(entry.resource, Resource::Key { .. }) => return Err(e),
                // Something of another kind stands there, or nobody can look at it.
                Err(e) => {
                    return Ok(Change {
                        resource: entry.resource.clone(),
                        before: State::Exists,
                        after: State::Exists,
                        why: format!("left alone: {e}"),
                        yields: true,
                    });
                }
            };
            // A unit that somebody stopped still belongs to emr-shs, and its file goes.
            let is_ours = entry.wrote(&now) || matches!(entry.resource, Resource::Unit { .. });
            Ok(Change {
                resource: entry.resource.clone(),
                after: if is_ours { entry.before.clone() } else { now.clone() },
                before: now.clone(),
                why: if is_ours { "no longer wanted".into() } else { left_alone(entry, &now) },
                yields: !is_ours,
            })
        })
        .collect()
}

/// Why an undo does not touch a resource.
pub(crate) fn left_alone(entry: &ReceiptEntry, now: &State) -> String {
    format!("left alone, because somebody has changed it: {}", entry.difference(now))
}

/// Refuses to replace links and files that somebody else made.
pub(crate) fn refuse_foreign(receipt: &Receipt, changes: &[Change]) -> Result<(), Fault> {
    changes.iter().filter(|change| change.has_effect()).try_for_each(|change| {
        let (Resource::Link { path } | Resource::File { path }) = &change.resource else { return Ok(()) };
        let entry = receipt.entry(&change.resource);
        if change.before == State::Absent || entry.is_some_and(|entry| entry.wrote(&change.before)) {
            return Ok(());
        }
        let shown = path.display();
        let (message, force) = match entry {
            None => {
                (format!("emr-shs did not make {shown}, and does not replace it"), "and uninstall will bring it back")
            }
            Some(_) => (
                format!("{shown} has changed since emr-shs wrote it, and emr-shs does not replace it"),
                "which replaces it",
            ),
        };
        Err(Fault::preflight(message).detail(change.before.difference(&change.after)).unchanged().hint(hint!(
            "move it away: sudo mv {} {}.old; or add --force, {}",
            path,
            path,
            Hint::from(force)
        )))
    })
}
