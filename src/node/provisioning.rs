//! Whether EMR is done with this node: bootstrap actions run before Spark is there (facts §4.1).

use super::identity::{INFO, Identity};
use super::process::Process;
use super::spark;
use crate::aws::config::TimeoutProfile;
use crate::aws::emr::{Described, EmrError};
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::host::Host;
use crate::paths::{DEFERRED_INSTALL_UNIT, HISTORY_SERVER_UNIT, SPARK_DEFAULTS};
use crate::systemd::{self, Unit};
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// How far EMR is with this node, by its `job-flow-state.txt` (facts §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// The node has checked in as provisioned.
    Over,
    /// It has not.
    GoesOn,
    /// The file is not there or does not tell; newer releases may have none (facts 2 §1.2).
    Unknown,
}

impl Provisioning {
    /// Reads the node's own file.
    pub fn observe(host: &Host) -> Self {
        let texts = INFO.iter().filter_map(|dir| host.read(&Path::new(dir).join("job-flow-state.txt")).ok().flatten());
        let told: Vec<Self> = texts.map(|text| Self::parse(&text)).collect();
        [Self::Over, Self::GoesOn].into_iter().find(|state| told.contains(state)).unwrap_or(Self::Unknown)
    }

    /// Looks for `localInstance { … nodeProvisionCheckinRecord { … status: SUCCESSFUL`.
    fn parse(text: &str) -> Self {
        let Some(instance) = block(text, "localInstance") else { return Self::Unknown };
        let record = block(instance, "nodeProvisionCheckinRecord").unwrap_or_default();
        let mut words = record.split_whitespace().skip_while(|word| *word != "status:");
        if words.nth(1) == Some("SUCCESSFUL") { Self::Over } else { Self::GoesOn }
    }
}

/// What stands between the braces after a name, blocks within it included. A block that is not
/// closed, because the file is being written, goes to the end.
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

/// Whether this is a node of EMR's whose history server may still come: what a bootstrap action
/// sees. The file that says how far EMR is counts only against waiting: once the server is there, no
/// bootstrap action runs any more. Whoever runs on every node, by `--if-primary`, is believed to be on
/// one of EMR's even where no file says so.
pub fn is_pending(host: &Host, if_primary: bool) -> Result<bool> {
    let of_emr = if_primary || Identity::observe(host).is_emr();
    let waits = of_emr && Provisioning::observe(host) != Provisioning::Over;
    Ok(waits && (!spark::is_installed(host) || !systemd::show(HISTORY_SERVER_UNIT)?.exists))
}

/// What a node still lacks before it can be installed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A part of the history server; without it nothing can be installed.
    Part(&'static str),
    /// The word of the node's own file that provisioning is over; all else is there.
    File,
    /// The same of EMR itself.
    Cluster,
}

impl Missing {
    /// What it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Part(name) => name,
            Self::File => "job-flow-state.txt to say that provisioning is over",
            Self::Cluster => "EMR to say that the cluster runs",
        }
    }

    /// Whether everything that an installation needs is there.
    pub fn is_a_word(self) -> bool {
        !matches!(self, Self::Part(_))
    }
}

/// What is still to be waited for, in the order in which EMR brings it; `None` when nothing is.
pub fn missing(host: &Host) -> Result<Option<Missing>> {
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
    // One that EMR's configuration kills at once was started all the same.
    if unit.is_starting || !unit.was_started && Process::all().is_empty() {
        return Ok(Some(Missing::Part("the history server's first start")));
    }
    let identity = Identity::observe(host);
    Ok(match Provisioning::observe(host) {
        Provisioning::Over => None,
        // The file's shape is known of few releases. A primary node that is replaced beside two others
        // is not done when the cluster runs.
        Provisioning::GoesOn if !identity.multi_primary && word(&identity) == ClusterState::Runs => None,
        Provisioning::GoesOn => Some(Missing::File),
        Provisioning::Unknown => (word(&identity) == ClusterState::NotYet).then_some(Missing::Cluster),
    })
}

/// What EMR says of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClusterState {
    /// It runs.
    Runs,
    /// It does not, or EMR did not answer this time.
    NotYet,
    /// This node may not ask: there is no other word to wait for than the server's start.
    NotForUs,
}

fn word(identity: &Identity) -> ClusterState {
    if identity.cluster_id.is_none() || identity.region.is_none() {
        return ClusterState::NotForUs;
    }
    match Described::fetch(identity.cluster_id.as_deref(), identity.region.clone(), TimeoutProfile::Usual) {
        Ok(cluster) if cluster.runs() => ClusterState::Runs,
        Err(EmrError::AccessDenied(_)) => ClusterState::NotForUs,
        _ => ClusterState::NotYet,
    }
}

/// An installation that was left to the unit, as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct DeferredInstall {
    /// The unit.
    pub unit: Unit,
    /// What it said when it failed.
    pub failure: Option<Failure>,
}

impl DeferredInstall {
    /// Whether an installation was left to the unit.
    pub fn is_wanted(receipt: &Receipt) -> bool {
        receipt.entry(&Resource::Unit { name: DEFERRED_INSTALL_UNIT.into() }).is_some()
    }

    /// Looks at the unit that the receipt knows of; `None` if there is none.
    pub fn observe(receipt: &Receipt) -> Result<Option<Self>> {
        if !Self::is_wanted(receipt) {
            return Ok(None);
        }
        let unit = systemd::show(DEFERRED_INSTALL_UNIT)?;
        // Between two runs, after a kill, it is activating.
        let failed = !matches!(unit.active.as_str(), "active" | "activating");
        let failure = failed.then(|| Failure::of(systemd::last_words(DEFERRED_INSTALL_UNIT), &unit));
        Ok(Some(Self { unit, failure }))
    }

    /// What it is doing, in a clause.
    pub fn doing(&self) -> String {
        let Unit { says, started, .. } = &self.unit;
        format!("{}, since {started}", if says.is_empty() { "waiting" } else { says })
    }
}

/// Why the unit does not wait any more.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The error.
    pub message: String,
    /// The facts behind it.
    pub details: Vec<String>,
    /// What to type.
    pub hint: String,
}

impl Failure {
    fn of(mut said: Vec<String>, unit: &Unit) -> Self {
        let is_error = said.first().is_some_and(|line| line.starts_with("error: "));
        let message =
            if is_error { said.remove(0).split_off(7) } else { format!("{DEFERRED_INSTALL_UNIT} is {}", unit.active) };
        let (hints, details) = said.into_iter().partition::<Vec<_>, _>(|line| line.starts_with("hint: "));
        let hint = hints.first().and_then(|hint| hint.get(6..)).unwrap_or("sudo emr-shs install").into();
        Self { message, details, hint }
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
        assert_eq!(instance(&record("status: SUCCESSFUL")), Provisioning::Over);
        assert_eq!(instance(&record("a { b: 1 } status: SUCCESSFUL")), Provisioning::Over);
        assert_eq!(instance(&record("status: FAILED")), Provisioning::GoesOn);
        assert_eq!(instance(&record("status: SUCCESSFUL_NOT")), Provisioning::GoesOn);
        assert_eq!(instance(&record("")), Provisioning::GoesOn);
        assert_eq!(instance(""), Provisioning::GoesOn);
        assert_eq!(Provisioning::parse(""), Provisioning::Unknown);
        let others = "instances { localInstanceId: 1 nodeProvisionCheckinRecord { status: SUCCESSFUL } }";
        assert_eq!(Provisioning::parse(others), Provisioning::Unknown);
        assert_eq!(Provisioning::parse(&format!("{others}\nlocalInstance {{ id: 1 }}")), Provisioning::GoesOn);
        let half = "localInstance { nodeProvisionCheckinRecord { status: SUCC";
        assert_eq!(Provisioning::parse(half), Provisioning::GoesOn);
    }
}
