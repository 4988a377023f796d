//! The check that everything emr-shs installed is still there.

use crate::change::component::Component;
use crate::change::receipt::Part;
use crate::change::resource::Resource;
use crate::doctor::check::{CheckId, CheckResult, NotPassed, skip};
use crate::doctor::facts::{Facts, Mode, Observations};
use crate::error::Fault;
use crate::installed::drift::{Condition, ResourceStatus};
use crate::installed::shortfall::{Shortfall, Subject, shortfalls};

/// At most this many resources are described.
const DESCRIBED: usize = 5;

/// The resources that have drifted, except those of which another check tells more: a stopped unit, keys in a file that cannot be
/// read, and what a deferred installation removes when it ends.
fn drifted(observations: &Observations) -> impl Iterator<Item = &ResourceStatus> {
    let unreadable = observations.unreadable.is_some();
    let gateway = observations.gateway.as_ref().ok().and_then(Option::as_ref);
    let deferred_install = observations.deferred_install.as_ref();
    observations.resources.iter().filter(move |resource| {
        let is_removed_now = deferred_install.is_some_and(|deferred| deferred.removes(&resource.resource));
        let is_unknown = resource.is_key() && unreadable;
        resource.condition != Condition::Ours && !(is_unknown || is_removed_now || resource.is_told_by(gateway))
    })
}

fn has_drifted(f: &Facts<'_>, is_meant: impl Fn(&Resource) -> bool) -> bool {
    match f.mode {
        Mode::Live(observations) => drifted(observations).any(|status| is_meant(&status.resource)),
        Mode::Preflight { .. } => false,
    }
}

/// Whether the log gateway lacks a file, an account or a unit.
pub(crate) fn lacks_gateway(f: &Facts<'_>) -> bool {
    has_drifted(f, |resource| {
        Component::of(resource) == Component::Gateway && !matches!(resource, Resource::Key { .. })
    })
}

/// Whether the class path of the history server lacks a link.
pub(crate) fn lacks_links(f: &Facts<'_>) -> bool {
    has_drifted(f, |resource| Component::of(resource) == Component::Link)
}

/// Whether spark-defaults.conf lacks a key.
pub(crate) fn lacks_keys(f: &Facts<'_>) -> bool {
    has_drifted(f, |resource| matches!(resource, Resource::Key { .. }))
}

/// A failure that drift explains if `is_explained`.
pub(crate) fn caused_by_drift(fault: Fault, is_explained: bool) -> NotPassed {
    if is_explained { NotPassed::CausedBy(&[CheckId::Drift], fault) } else { fault.into() }
}

pub(crate) fn drift(f: &Facts<'_>) -> CheckResult {
    if f.receipt.is_empty() {
        return skip("emr-shs is not installed on this node");
    }
    let observations = f.observations()?;
    if let Some(unfinished) = Shortfall::of_uninstall(f.receipt) {
        let fault = Fault::preflight("emr-shs is uninstalled only in part");
        let detail = format!("{}: {}", unfinished.name, unfinished.found);
        return Err(fault.detail(detail).hint(unfinished.hint).into());
    }
    let drifted: Vec<&ResourceStatus> = drifted(observations).collect();
    if !drifted.is_empty() {
        return Err(describe(&drifted, &observations.resources).into());
    }
    if observations.unreadable.is_some() {
        return skip("the keys in spark-defaults.conf cannot be compared: see defaults");
    }
    let mut missing = shortfalls(f.receipt, &f.present(observations)).into_iter().filter(|s| match s.subject {
        Subject::Part(part) => part != Part::LogGateway,
        Subject::Overridden | Subject::Elsewhere => true,
        // Each of these has a check of its own, or is judged above.
        Subject::Resource(_) | Subject::Gateway | Subject::DeferredInstall | Subject::Uninstall => false,
    });
    if let Some(first) = missing.next() {
        let text = |s: &Shortfall| format!("{}: {}", s.name, s.found);
        let fault =
            Fault::preflight("something that was wanted is not there").detail(text(&first)).hint(first.hint.clone());
        return Err(missing.fold(fault, |fault, shortfall| fault.detail(text(&shortfall))).into());
    }
    if f.receipt.owes_restart {
        return Err(Fault::preflight("the history server has not been restarted since emr-shs changed its settings")
            .detail(
                "a command of emr-shs changed the settings without a restart, or was interrupted before the restart",
            )
            .hint("sudo emr-shs restart")
            .into());
    }
    Ok(format!("all {} resources are as installed", observations.resources.len()))
}

fn describe(drifted: &[&ResourceStatus], all: &[ResourceStatus]) -> Fault {
    let keys = all.iter().filter(|resource| resource.is_key()).count();
    let all_keys_are_lost = drifted.len() == keys
        && drifted.iter().all(|resource| resource.is_key() && resource.condition == Condition::Lost);
    let fault = if all_keys_are_lost {
        Fault::preflight(format!(
            "spark-defaults.conf has lost all {keys} keys of emr-shs; everything else is as installed"
        ))
        .detail("EMR rewrites that file and restarts the server when it reconfigures a cluster")
        .detail("to keep the keys, use the configuration that this prints: sudo emr-shs render cluster-config")
    } else {
        let verb = if drifted.len() == 1 { "is" } else { "are" };
        let fault = Fault::preflight(format!("{} of {} resources {verb} not as installed", drifted.len(), all.len()));
        let fault = drifted
            .iter()
            .take(DESCRIBED)
            .fold(fault, |fault, resource| fault.detail(format!("{}: {}", resource.name, resource.differs)));
        if drifted.len() > DESCRIBED { fault.detail("to list the others: sudo emr-shs status") } else { fault }
    };
    let someone_changed_it = drifted.iter().any(|resource| resource.condition == Condition::Changed);
    fault.hint(match someone_changed_it {
        true => {
            "see what an installation would change: sudo emr-shs plan; to replace what somebody else set: sudo emr-shs install --force"
        }
        false => "sudo emr-shs install; to see first what it changes: sudo emr-shs plan",
    })
}
