//! The unit that installs once EMR has provisioned the node, as it stands now.

use crate::change::component::Component;
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::host::Host;
use crate::paths::DEFERRED_INSTALL_UNIT;
use crate::shown::Hint;
use crate::systemd::{self, Unit};
use anyhow::Result;
use serde::Serialize;

/// An installation that `install` left to a unit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeferredInstall {
    pub unit: Unit,
    /// Why the installation failed, if it did.
    pub failure: Option<Failure>,
}

impl DeferredInstall {
    /// Whether `install` left an installation to the unit.
    pub(crate) fn is_wanted(receipt: &Receipt) -> bool {
        receipt.entry(&Resource::Unit { name: DEFERRED_INSTALL_UNIT.into() }).is_some()
    }

    /// `None` if `install` left nothing to the unit, or the unit has installed since `receipt` was read.
    pub(crate) fn observe(host: &Host, receipt: &Receipt) -> Result<Option<Self>> {
        if !Self::is_wanted(receipt) {
            return Ok(None);
        }
        let unit = systemd::show(DEFERRED_INSTALL_UNIT)?;
        // systemd calls the unit "activating" while it waits to start it again after a kill, and "deactivating" while a stopped run puts
        // its changes back. After a boot, the unit is "inactive" and queued until its turn to start has come.
        let is_under_way = matches!(unit.active.as_str(), "active" | "activating" | "deactivating");
        let failed = !is_under_way && !unit.is_queued;
        // The unit's process writes the receipt before it ends. So the receipt as it is now tells whether it has failed.
        if failed && !Self::is_wanted(&Receipt::load(host)?) {
            return Ok(None);
        }
        let failure = failed.then(|| Failure::new(systemd::last_words(DEFERRED_INSTALL_UNIT), &unit));
        Ok(Some(Self { unit, failure }))
    }

    /// Whether the installation is under way and removes the resource at its end.
    pub(crate) fn removes(&self, resource: &Resource) -> bool {
        self.failure.is_none() && Component::of(resource) == Component::DeferredInstall
    }

    /// The unit's own status text, and since when it runs.
    pub(crate) fn status(&self) -> String {
        let Unit { status_text, started, .. } = &self.unit;
        match self.unit.active.as_str() {
            _ if self.unit.is_restarting => {
                "waiting for systemd to start it again, because its process was killed".into()
            }
            "deactivating" => "ending, and putting back what it has changed, if anything".into(),
            "inactive" | "failed" => "waiting for systemd to start it".into(),
            _ => format!("{}, since {started}", if status_text.is_empty() { "waiting" } else { status_text }),
        }
    }
}

/// The error with which the unit ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    pub message: String,
    pub details: Vec<String>,
    pub hint: Hint,
}

impl Failure {
    /// `journal` is the last error that the unit wrote: a line `error: …`, its details, and a line
    /// `hint: …`.
    fn new(mut journal: Vec<String>, unit: &Unit) -> Self {
        let error = journal.first().and_then(|line| line.strip_prefix("error: ")).map(str::to_string);
        let message = match error {
            Some(message) => {
                journal.remove(0);
                message
            }
            None => format!("{DEFERRED_INSTALL_UNIT} is {}", unit.active),
        };
        let (hints, details) = journal.into_iter().partition::<Vec<_>, _>(|line| line.starts_with("hint: "));
        let hint = hints.first().and_then(|hint| hint.strip_prefix("hint: "));
        let hint = hint.map_or(Hint::from("sudo emr-shs install"), Hint::printed_before);
        Self { message, details, hint }
    }
}
