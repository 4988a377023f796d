//! The state that an installation wants for each resource, component by component.

pub(crate) mod class_path;
pub(crate) mod deferred_install;
pub(crate) mod event_log_cache;
mod gateway_unit;
pub(crate) mod keys;
pub(crate) mod local_store;
pub(crate) mod log_gateway;
mod private_name;
pub(crate) mod taken_port;
mod tuning;

use crate::aws::s3::Bucket;
use crate::aws::uri::EventLogs;
use crate::change::component::Component;
use crate::change::desired::{Desired, DesiredState};
use crate::change::receipt::Receipt;
use crate::change::resource::{Resource, State};
use crate::host::{Host, Owner};
use crate::node::Node;
use crate::node::jars::Scheme;
use crate::paths::{HISTORY_SERVER_UNIT, UNIT_DIR};
use crate::settings::Settings;
use anyhow::Result;
use event_log_cache::EventLogCache;
use local_store::LocalStore;
use std::path::{Path, PathBuf};
use taken_port::TakenPort;

/// Everything that the desired state depends on.
pub(crate) struct Context<'a> {
    pub host: &'a Host,
    pub node: &'a Node,
    pub receipt: &'a Receipt,
    pub settings: &'a Settings,
    /// `None` for the log gateway alone, which does not need event logs.
    pub event_logs: Option<&'a EventLogs>,
    /// `None` where S3 was not asked.
    pub bucket: Option<&'a Bucket>,
    /// The classes that the event logs' scheme needs; `None` where the command makes no links.
    pub scheme: Option<&'a Scheme>,
    /// `None` where the installation has no log gateway.
    pub gateway: Option<&'a log_gateway::GatewaySetup>,
    /// `None` where the history server gets no local store.
    pub store: Option<&'a LocalStore>,
    /// `None` where the history server reads S3.
    pub cache: Option<&'a EventLogCache>,
    /// `None` where the history server keeps its port.
    pub taken: Option<&'a TakenPort>,
    /// Replace what somebody else made.
    pub force: bool,
}

impl Context<'_> {
    /// The desired resources of some components, in the order in which `install` makes them. The resource
    /// that is likeliest to fail comes first: the S3 prefix. It needs no undo.
    pub(crate) fn desired(&self, components: &[Component]) -> Result<Vec<Desired>> {
        let mut desired = Vec::new();
        if components.contains(&Component::Prefix) {
            desired.extend(self.prefix());
        }
        if components.contains(&Component::Configure) {
            desired.extend(self.store.iter().flat_map(|store| store.desired(self)));
        }
        if components.contains(&Component::Link) {
            desired.extend(self.class_path()?);
        }
        if components.contains(&Component::Configure) {
            desired.extend(self.keys(self.store)?);
        }
        if let Some(setup) = self.gateway.filter(|_| components.contains(&Component::Gateway)) {
            desired.extend(self.log_link_key(setup)?);
            desired.extend(self.gateway_service(setup));
        }
        // Two components want the directory of drop-ins.
        let mut seen = Vec::new();
        desired.retain(|desired| {
            let is_new = !seen.contains(&desired.resource);
            seen.push(desired.resource.clone());
            is_new
        });
        Ok(desired)
    }

    /// The S3 prefix. Below another root nothing reaches S3.
    fn prefix(&self) -> Option<Desired> {
        let uri = self.event_logs.filter(|_| self.host.is_live())?;
        let resource = Resource::Prefix { uri: uri.clone() };
        Some(exactly(resource, State::Exists, "Spark needs an object there to find a directory"))
    }
}

fn exactly(resource: Resource, state: State, why: &str) -> Desired {
    Desired { resource, state: DesiredState::Is(state), why: why.into() }
}

fn directory(path: &Path, owner: Owner, why: &str) -> Desired {
    Desired {
        resource: Resource::Dir { path: path.into() },
        state: DesiredState::Directory { mode: 0o755, owner },
        why: why.into(),
    }
}

/// A drop-in of the history server's unit, with the directory that holds it. `comment` says what the sections are for.
fn drop_in(host: &Host, name: &str, comment: &str, sections: &str, why: &str) -> [Desired; 2] {
    let owner = file_owner(host);
    let dir = PathBuf::from(format!("{UNIT_DIR}/{HISTORY_SERVER_UNIT}.d"));
    let content = format!("# Written by emr-shs; `emr-shs uninstall` removes it.\n{comment}{sections}");
    [
        directory(&dir, owner, "holds settings of the history server's unit"),
        exactly(Resource::File { path: dir.join(name) }, State::File { content, mode: 0o644, owner }, why),
    ]
}

/// A variable of a unit, as its line in the unit's file.
fn environment(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("Environment=\"{name}={value}\"\n")
}

/// The owner of the files that emr-shs makes: root on a node; below another root the account that runs emr-shs.
fn file_owner(host: &Host) -> Owner {
    if host.is_live() { (0, 0) } else { (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()) }
}
