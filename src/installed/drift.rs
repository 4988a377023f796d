//! Whether the resources of an installation are still as emr-shs wrote them.

use super::log_gateway::LogGateway;
use crate::change::receipt::{Receipt, ReceiptEntry};
use crate::change::resource::{Resource, State};
use crate::host::Host;
use crate::paths::{GATEWAY_SOCKET, LOG_DIRECTORY_KEY, TAKEN_PORT_SOCKET};
use crate::shown::{Hint, hint};
use serde::Serialize;

/// The condition of a resource that emr-shs wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Condition {
    /// As emr-shs wrote it last, or as good.
    Ours,
    /// Gone, or as it was before emr-shs. EMR does this to spark-defaults.conf when it reconfigures a
    /// cluster.
    Lost,
    /// Somebody else changed it, or brought back what an earlier run wrote.
    Changed,
}

/// A resource of the receipt, compared with the node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ResourceStatus {
    pub name: String,
    pub resource: Resource,
    pub condition: Condition,
    pub found: String,
    /// As emr-shs wrote it last.
    pub wanted: String,
    /// What differs, for people; empty if nothing does that matters.
    pub differs: String,
    /// Whether this is a unit that is as emr-shs wrote it, but does not run.
    #[serde(skip)]
    pub is_stopped_unit: bool,
}

/// Compares every resource of the receipt with the node, except the S3 prefix: what the history server
/// reads says more than a request to S3, and takes less time.
pub(crate) fn compare(host: &Host, receipt: &Receipt) -> Vec<ResourceStatus> {
    let on_node = receipt.entries.iter().filter(|e| !matches!(e.resource, Resource::Prefix { .. }));
    on_node.map(|entry| ResourceStatus::observe(host, entry)).collect()
}

impl ResourceStatus {
    fn observe(host: &Host, entry: &ReceiptEntry) -> Self {
        let found = entry.resource.observe(host);
        let is_stopped_unit = matches!(found, Ok(State::Unit { enabled: true, runs: None }));
        let differs = match &found {
            Ok(state) if entry.stands(state) => String::new(),
            Ok(state) => entry.difference(state),
            Err(e) => e.to_string(),
        };
        let (condition, found) = match &found {
            Ok(state) if entry.stands(state) => (Condition::Ours, state.to_string()),
            Ok(state) if state.is_equivalent_to(&entry.before) || *state == State::Absent => {
                (Condition::Lost, state.to_string())
            }
            Ok(state) => (Condition::Changed, state.to_string()),
            Err(e) => (Condition::Changed, e.to_string()),
        };
        let wanted = entry.ours.last().map(ToString::to_string).unwrap_or_default();
        let (name, resource) = (entry.resource.name(), entry.resource.clone());
        Self { name, resource, condition, found, wanted, differs, is_stopped_unit }
    }

    /// Whether what is known of the log gateway tells of this: one of its units is stopped. Of a stopped service there is
    /// nothing to tell while the gateway answers, because systemd starts the service for a connection.
    /// A stopped socket on the history server's port has a row of its own: the gateway answers without it.
    pub(crate) fn is_told_by(&self, gateway: Option<&LogGateway>) -> bool {
        if self.resource.is_unit(TAKEN_PORT_SOCKET) {
            return false;
        }
        let is_socket = self.resource.is_unit(GATEWAY_SOCKET);
        self.is_stopped_unit && gateway.is_some_and(|gateway| !is_socket || gateway.trouble().is_some())
    }

    /// What to type, so that the resource is as wanted again.
    pub(crate) fn hint(&self) -> Hint {
        match (&self.resource, self.condition) {
            (Resource::Key { key, .. }, Condition::Changed)
                if key.starts_with("spark.history.") && key != LOG_DIRECTORY_KEY =>
            {
                hint!(
                    "to see what an installation would change: sudo emr-shs plan; to keep the value that somebody else set: sudo emr-shs install --set {}=VALUE",
                    key
                )
            }
            (Resource::Key { .. }, Condition::Changed) => {
                "sudo emr-shs install; to see first what it changes: sudo emr-shs plan".into()
            }
            (Resource::Unit { .. }, Condition::Changed) => {
                "sudo emr-shs install; to see what it would change: sudo emr-shs plan".into()
            }
            (_, Condition::Changed) => {
                "to see what an installation would change: sudo emr-shs plan; to replace what somebody else made, add --force".into()
            }
            _ => "sudo emr-shs install; to see what it would change: sudo emr-shs plan".into(),
        }
    }

    pub(crate) fn is_key(&self) -> bool {
        matches!(self.resource, Resource::Key { .. })
    }
}
