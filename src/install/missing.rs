//! What the user wants and a run does not bring about: parts that the run leaves out, and faults of the node that no
//! change of the run mends.

use super::prepare::Installation;
use crate::change::receipt::{LeftOut, Part};
use crate::change::resource::Resource;
use crate::change::transaction;
use crate::desired::local_store::{self, NoStore};
use crate::desired::log_gateway::NoGateway;
use crate::installed::shortfall::{self, Shortfall, Subject};
use crate::paths::GATEWAY_UNIT;
use crate::settings::GatewaySettings;
use anyhow::Result;

impl Installation {
    /// The parts that the user wants and this run cannot make.
    pub(super) fn what_is_left_out(&self) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        if let Some(NoStore::NoPlace(why)) = self.no_store().filter(|_| self.host.is_live()) {
            left_out.push(LeftOut { part: Part::LocalStore, why, hint: local_store::NO_PLACE_HINT.into() });
        }
        if let Some(Err(no_gateway)) = &self.gateway {
            // A cluster that archives no logs needs no gateway, unless the user asks for one.
            let is_asked_for = self.settings.gateway != GatewaySettings::default();
            if *no_gateway != NoGateway::NothingArchived || is_asked_for {
                let (why, hint) = (no_gateway.to_string(), no_gateway.hint(self.command).to_string());
                left_out.push(LeftOut { part: Part::LogGateway, why, hint });
            }
        }
        left_out
    }

    /// What will be missing after this run: what the run leaves out, and what is wrong on the node and no change of
    /// this run mends.
    pub(super) fn what_stays_missing(&self) -> Result<Vec<Shortfall>> {
        let mut receipt = self.receipt.clone();
        receipt.leave_out(&self.components, &self.left_out);
        transaction::adopt(&mut receipt, &self.plan.changes);
        if receipt.is_empty() {
            return Ok(self.left_out.iter().map(Shortfall::of_part).collect());
        }
        let mut missing = shortfall::observe(&self.host, &receipt, self.node.server.as_ref(), None)?;
        let changes = |resource: &Resource| self.plan.effective().any(|change| change.resource == *resource);
        let changes_gateway = self.plan.effective().any(|c| c.resource.is_unit(GATEWAY_UNIT));
        missing.retain(|shortfall| match &shortfall.subject {
            Subject::Part(_) => true,
            Subject::Resource(resource) => !changes(resource),
            Subject::Overridden => self.plan.restart.is_none(),
            Subject::Gateway | Subject::Elsewhere => !changes_gateway,
            Subject::DeferredInstall => !self.is_whole(),
            // This command makes its own part again, and `status` tells what is left of the others.
            Subject::Uninstall => false,
        });
        missing.retain(|shortfall| self.concerns(shortfall));
        Ok(missing)
    }

    /// Whether a shortfall is about what this command makes.
    pub(crate) fn concerns(&self, shortfall: &Shortfall) -> bool {
        shortfall.subject != Subject::Uninstall
            && shortfall.component().is_none_or(|component| self.components.contains(&component))
    }

    /// Whether nothing is to do, and nothing is missing.
    pub(crate) fn is_fulfilled(&self) -> bool {
        self.plan.is_done() && self.missing.is_empty()
    }

    pub(super) fn no_store(&self) -> Option<NoStore> {
        self.store.as_ref()?.as_ref().err().cloned()
    }

    pub(super) fn why_roles_are_unknown(&self) -> Option<String> {
        let why = self.roles_unknown.as_ref()?;
        Some(format!(
            "EMR did not tell whether jobs of this cluster run under roles of their own ({why}). If they do, each of \
             these roles must be allowed to write event logs, and the log gateway needs a login: without one, every \
             job can read every executor log."
        ))
    }
}
