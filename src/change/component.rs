//! The components of an installation. Each but the deferred installation has a command of its own.

use super::resource::Resource;
use crate::paths::{
    CACHE_DROP_IN, DEFERRED_INSTALL_ENVIRONMENT, DEFERRED_INSTALL_UNIT, GATEWAY_SOCKET, GATEWAY_UNIT, LOCAL_DIR,
    LOG_LINK_KEY, PROGRAM_DIR, SETTINGS_DIR, STORE_DROP_IN, TAKEN_PORT_SOCKET,
};
use std::path::Path;

/// A component of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// The S3 prefix.
    Prefix,
    /// The class path of the history server.
    Link,
    /// The keys of spark-defaults.conf and the local store.
    Configure,
    /// The log gateway, and the key that makes log links lead to the gateway.
    Gateway,
    /// The unit that installs once the node is provisioned. A finished installation removes the unit.
    DeferredInstall,
}

impl Component {
    /// The components of `install`.
    pub(crate) const ALL: &[Component] =
        &[Component::Prefix, Component::Configure, Component::Link, Component::Gateway, Component::DeferredInstall];

    /// The component that owns a resource.
    pub(crate) fn of(resource: &Resource) -> Self {
        match resource {
            Resource::Unit { name } if name == DEFERRED_INSTALL_UNIT => Component::DeferredInstall,
            Resource::File { path } if is_of_deferred_install(path) => Component::DeferredInstall,
            Resource::Account { .. }
            | Resource::AccountDir { .. }
            | Resource::Program { .. }
            | Resource::Unit { .. } => Component::Gateway,
            Resource::Key { key, .. } if key == LOG_LINK_KEY => Component::Gateway,
            Resource::Dir { path } | Resource::Link { path } | Resource::File { path } if is_of_gateway(path) => {
                Component::Gateway
            }
            Resource::File { path } if path.ends_with(CACHE_DROP_IN) => Component::Gateway,
            Resource::Dir { path } | Resource::File { path } if is_of_local_store(path) => Component::Configure,
            Resource::Prefix { .. } => Component::Prefix,
            Resource::Dir { .. } | Resource::Link { .. } | Resource::File { .. } => Component::Link,
            Resource::Cache { .. } | Resource::Key { .. } => Component::Configure,
        }
    }
}

fn is_of_deferred_install(path: &Path) -> bool {
    path.ends_with(DEFERRED_INSTALL_ENVIRONMENT) && path.starts_with(SETTINGS_DIR)
        || path.ends_with(DEFERRED_INSTALL_UNIT)
}

fn is_of_gateway(path: &Path) -> bool {
    [PROGRAM_DIR, SETTINGS_DIR].iter().any(|dir| path.starts_with(dir))
        || [GATEWAY_UNIT, GATEWAY_SOCKET, TAKEN_PORT_SOCKET].iter().any(|unit| path.ends_with(unit))
}

fn is_of_local_store(path: &Path) -> bool {
    path.ends_with(STORE_DROP_IN) || path.ends_with(LOCAL_DIR) && path.to_string_lossy().starts_with("/mnt")
}
