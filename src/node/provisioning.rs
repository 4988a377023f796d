//! Whether EMR has finished provisioning this node. EMR runs bootstrap actions before it installs
//! Spark (`docs/emr.md §4.2`).

use super::identity::{INFO, Identity};
use super::process::{LookAlike, Process};
use super::spark;
use crate::aws::config::TimeoutProfile;
use crate::aws::emr::{ClusterDescription, EmrError};
use crate::host::Host;
use crate::paths::{HISTORY_SERVER_ACCOUNT, HISTORY_SERVER_UNIT, SPARK_DEFAULTS};
use crate::systemd::{self, Unit};
use anyhow::Result;
use std::path::Path;

/// How far EMR has come with this node, according to `job-flow-state.txt` (`docs/emr.md §4.3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provisioning {
    /// The node has reported itself as provisioned.
    Finished,
    Underway,
    /// The file is missing or does not say. Newer releases may have no such file (`docs/emr.md §4.3`).
    Unknown,
}

impl Provisioning {
    pub(crate) fn observe(host: &Host) -> Self {
        let texts = INFO.iter().filter_map(|dir| host.read(&Path::new(dir).join("job-flow-state.txt")).ok().flatten());
        let states: Vec<Self> = texts.map(|text| Self::parse(&text)).collect();
        [Self::Finished, Self::Underway].into_iter().find(|state| states.contains(state)).unwrap_or(Self::Unknown)
    }

    /// Looks for `localInstance { … nodeProvisionCheckinRecord { … status: SUCCESSFUL`.
    fn parse(text: &str) -> Self {
        let Some(instance) = block(text, "localInstance") else { return Self::Unknown };
        let record = block(instance, "nodeProvisionCheckinRecord").unwrap_or_default();
        let mut words = record.split_whitespace().skip_while(|word| *word != "status:");
        if words.nth(1) == Some("SUCCESSFUL") { Self::Finished } else { Self::Underway }
    }
}

/// The text between the braces that follow a name, with the blocks inside. A block without its closing
/// brace reaches to the end: EMR may be writing the file.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let inside = text.match_indices(name).find_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].trim_start().strip_prefix('{')?;
        before.is_none_or(|c| c.is_whitespace() || c == '{' || c == '}').then_some(after)
    })?;
    let mut depth = 1;
    let end = inside.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    Some(&inside[..end.unwrap_or(inside.len())])
}

/// Whether EMR has yet to install the history server on this node, as during a bootstrap action.
///
/// Once the server is there, no bootstrap action runs any more, whatever job-flow-state.txt says.
/// `--if-primary` is for scripts that run on every node of a cluster, so it counts as proof that this is
/// a node of EMR even where no file says so.
pub(crate) fn is_pending(host: &Host, if_primary: bool) -> Result<bool> {
    let is_emr = if_primary || Identity::observe(host).is_emr();
    let unfinished = is_emr && Provisioning::observe(host) != Provisioning::Finished;
    Ok(unfinished && (!spark::is_installed(host) || !systemd::show(HISTORY_SERVER_UNIT)?.exists))
}

/// What the node still lacks before emr-shs can install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A part of the history server. Nothing can be installed without it.
    Part(&'static str),
    /// job-flow-state.txt does not yet say that provisioning has finished. Everything else is in place.
    CheckIn,
    /// EMR does not yet say that the cluster runs. Everything else is in place.
    RunningCluster,
}

impl Missing {
    pub(crate) fn awaited(self) -> &'static str {
        match self {
            Self::Part(name) => name,
            Self::CheckIn => "job-flow-state.txt to say that provisioning has finished",
            Self::RunningCluster => "EMR to say that the cluster runs",
        }
    }

    /// Whether every part is in place, and only the confirmation is missing.
    pub(crate) fn is_confirmation(self) -> bool {
        !matches!(self, Self::Part(_))
    }
}

/// The next thing to wait for, in the order in which EMR provides them; `None` when nothing is missing.
pub(crate) fn missing(host: &Host) -> Result<Option<Missing>> {
    if !spark::is_installed(host) {
        return Ok(Some(Missing::Part("Spark")));
    }
    if !host.exists(Path::new(SPARK_DEFAULTS)) {
        return Ok(Some(Missing::Part("spark-defaults.conf")));
    }
    let unit = systemd::show(HISTORY_SERVER_UNIT)?;
    if !unit.exists {
        return Ok(Some(Missing::Part("the history server's unit")));
    }
    // With some configurations the first server dies at once. It counts as started all the same.
    if unit.is_starting || !unit.was_started && !runs(&unit) {
        return Ok(Some(Missing::Part("the history server's first start")));
    }
    let identity = Identity::observe(host);
    Ok(match Provisioning::observe(host) {
        Provisioning::Finished => None,
        // The format of job-flow-state.txt is known for few releases only, so a running cluster also proves
        // that EMR has provisioned this node. On a cluster with three primary nodes it proves nothing: EMR
        // replaces a primary node while the cluster runs.
        Provisioning::Underway if !identity.multi_primary && cluster_state(&identity) == ClusterState::Runs => None,
        Provisioning::Underway => Some(Missing::CheckIn),
        Provisioning::Unknown => (cluster_state(&identity) == ClusterState::NotYet).then_some(Missing::RunningCluster),
    })
}

/// Whether a history server runs that EMR may have started, with the unit or without it.
fn runs(unit: &Unit) -> bool {
    let is_emr_s = |process: &LookAlike| ["root", HISTORY_SERVER_ACCOUNT].contains(&process.user.as_str());
    Process::of_unit(unit).is_some() || LookAlike::beside(unit).iter().any(is_emr_s)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClusterState {
    Runs,
    /// The cluster does not run yet, or EMR did not answer this time.
    NotYet,
    /// This node cannot ask EMR. The history server's first start then must be proof enough.
    Unknowable,
}

fn cluster_state(identity: &Identity) -> ClusterState {
    if identity.cluster_id.is_none() || identity.region.is_none() {
        return ClusterState::Unknowable;
    }
    match ClusterDescription::fetch(identity.cluster_id.as_deref(), identity.region.clone(), TimeoutProfile::Usual) {
        Ok(cluster) if cluster.runs() => ClusterState::Runs,
        Err(EmrError::AccessDenied(_)) => ClusterState::Unknowable,
        _ => ClusterState::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use super::Provisioning;

    fn instance(inside: &str) -> Provisioning {
        Provisioning::parse(&format!("jobFlowId: \"j-1\"\nlocalInstance {{\n  id: \"i-1\"\n{inside}}}\nother {{ }}\n"))
    }

    #[test]
    fn only_this_instance_s_own_record_counts() {
        let record = |status| format!("  nodeProvisionCheckinRecord {{\n    checkinTimestamp: 1\n    {status}\n  }}\n");
        assert_eq!(instance(&record("status: SUCCESSFUL")), Provisioning::Finished);
        assert_eq!(instance(&record("a { b: 1 } status: SUCCESSFUL")), Provisioning::Finished);
        assert_eq!(instance(&record("status: FAILED")), Provisioning::Underway);
        assert_eq!(instance(&record("status: SUCCESSFUL_NOT")), Provisioning::Underway);
        assert_eq!(instance(&record("")), Provisioning::Underway);
        assert_eq!(instance(""), Provisioning::Underway);
        assert_eq!(Provisioning::parse(""), Provisioning::Unknown);
        let others = "instances { localInstanceId: 1 nodeProvisionCheckinRecord { status: SUCCESSFUL } }";
        assert_eq!(Provisioning::parse(others), Provisioning::Unknown);
        assert_eq!(Provisioning::parse(&format!("{others}\nlocalInstance {{ id: 1 }}")), Provisioning::Underway);
        let half = "localInstance { nodeProvisionCheckinRecord { status: SUCC";
        assert_eq!(Provisioning::parse(half), Provisioning::Underway);
    }
}
