//! The check of what an installation wrote, shared with `status`.

use crate::change::component::Component;
use crate::change::receipt::{Receipt, ReceiptEntry};
use crate::change::resource::{Resource, State};
use crate::doctor::gather::Observations;
use crate::doctor::{Facts, Found, Stop, skip};
use crate::error::Fault;
use crate::host::Host;
use serde::Serialize;

/// How a resource of ours is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// As we wrote it.
    Ours,
    /// As it was before us, or gone: what EMR's reconfiguration does to spark-defaults.conf.
    Lost,
    /// Somebody else's.
    Changed,
}

/// A resource of the receipt, compared with the node.
#[derive(Clone, Debug, Serialize)]
pub struct ResourceStatus {
    /// Its name.
    pub name: String,
    /// What it is.
    pub resource: Resource,
    /// How it is.
    pub condition: Condition,
    /// In words.
    pub found: String,
    /// As it was written last.
    pub wanted: String,
    /// A unit that is as we wrote it, but does not run.
    #[serde(skip)]
    only_stopped: bool,
}

/// Compares all of a receipt with the node. S3 is not asked: what the history server reads says
/// more, and sooner.
pub fn rows(host: &Host, receipt: &Receipt) -> Vec<ResourceStatus> {
    let on_node = receipt.entries.iter().filter(|e| !matches!(e.resource, Resource::Prefix { .. }));
    on_node.map(|entry| ResourceStatus::of(host, entry)).collect()
}

impl ResourceStatus {
    fn of(host: &Host, entry: &ReceiptEntry) -> Self {
        let found = entry.resource.observe(host);
        let only_stopped = matches!(found, Ok(State::Unit { enabled: true, runs: None }));
        let (condition, found) = match &found {
            Ok(state) if entry.wrote(state) => (Condition::Ours, state.to_string()),
            Ok(state) if state.same(&entry.before) || *state == State::Absent => (Condition::Lost, state.to_string()),
            Ok(state) => (Condition::Changed, state.to_string()),
            Err(e) => (Condition::Changed, e.to_string()),
        };
        let wanted = entry.ours.last().map(ToString::to_string).unwrap_or_default();
        Self { name: entry.resource.name(), resource: entry.resource.clone(), condition, found, wanted, only_stopped }
    }

    /// Whether a check says so; that the gateway does not run, and that a file of keys cannot be
    /// read, other checks say better.
    fn has_drifted(&self, unreadable: bool) -> bool {
        self.condition != Condition::Ours && !(self.is_key() && unreadable) && !self.only_stopped
    }

    fn is_key(&self) -> bool {
        matches!(self.resource, Resource::Key { .. })
    }
}

/// What has drifted and `drift` says, of these kinds.
fn drifted(f: &Facts<'_>, of: impl Fn(&Resource) -> bool) -> bool {
    let unreadable = f.seen.is_some_and(|seen| seen.unreadable.is_some());
    f.seen.is_some_and(|seen| seen.rows.iter().any(|row| row.has_drifted(unreadable) && of(&row.resource)))
}

/// Whether `drift` says that something is lost without which the log gateway cannot run.
pub fn lacks_gateway(f: &Facts<'_>) -> bool {
    drifted(f, |resource| Component::of(resource) == Component::Gateway && !matches!(resource, Resource::Key { .. }))
}

/// Whether `drift` says that the class path is not what it was.
pub fn lacks_links(f: &Facts<'_>) -> bool {
    drifted(f, |resource| Component::of(resource) == Component::Link)
}

/// Whether `drift` says that keys are not what they were.
pub fn lacks_keys(f: &Facts<'_>) -> bool {
    drifted(f, |resource| matches!(resource, Resource::Key { .. }))
}

/// A failure that what is lost of an installation explains, if that is so.
pub fn behind_drift(fault: Fault, explained: bool) -> Stop {
    if explained { Stop::Behind(fault, &["drift"]) } else { fault.into() }
}

/// Whether everything is as it was installed.
pub fn drift(f: &Facts<'_>) -> Found {
    if f.receipt.is_empty() {
        return skip("emr-shs is not installed here");
    }
    let Some(Observations { rows, unreadable, .. }) = f.seen else { return skip("not looked at") };
    let unreadable = unreadable.is_some();
    let drifted: Vec<&ResourceStatus> = rows.iter().filter(|row| row.has_drifted(unreadable)).collect();
    if drifted.is_empty() && unreadable {
        return skip("its keys cannot be compared: see defaults");
    }
    if drifted.is_empty() {
        if f.receipt.owes_restart {
            return Err(Fault::preflight("the history server has not been restarted since a change")
                .detail("a run of emr-shs was cut short")
                .hint("sudo emr-shs restart")
                .into());
        }
        return Ok(format!("all {} are as installed", rows.len()));
    }
    let (keys, lost): (Vec<&ResourceStatus>, Vec<&ResourceStatus>) = (
        rows.iter().filter(|row| row.is_key()).collect(),
        drifted.iter().copied().filter(|row| row.is_key()).collect(),
    );
    let of_keys = lost.len() == drifted.len();
    let rewritten = of_keys && lost.len() == keys.len() && lost.iter().all(|row| row.condition == Condition::Lost);
    let mut fault = Fault::preflight(match rewritten {
        true => format!("all {} keys are gone from spark-defaults.conf, and nothing else is", keys.len()),
        false if drifted.len() == 1 => format!("1 of {} is not as installed", rows.len()),
        false => format!("{} of {} are not as installed", drifted.len(), rows.len()),
    });
    if rewritten {
        fault = fault
            .detail(
                "that is what a reconfiguration of the cluster does: it writes the file anew and restarts the server",
            )
            .detail("sudo emr-shs render cluster-config prints what makes them last");
    }
    for row in drifted.iter().take(if rewritten { 0 } else { 5 }) {
        fault = fault.detail(format!("{}: found {}, wanted {}", row.name, row.found, row.wanted));
    }
    if drifted.len() > 5 && !rewritten {
        fault = fault.detail("emr-shs status shows the others");
    }
    let by_others = drifted.iter().any(|row| row.condition == Condition::Changed);
    Err(fault
        .hint(match by_others {
            true => "sudo emr-shs plan shows what an install would do about it; what others set may need --force",
            false => "sudo emr-shs install puts them back; sudo emr-shs plan shows how",
        })
        .into())
}
