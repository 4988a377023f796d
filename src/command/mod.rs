//! One module a command: each reads top to bottom like what it does.

pub mod discover;
pub mod doctor;
pub mod install;
pub mod manual;
pub mod provisioning;
pub mod proxy;
pub mod render;
pub mod restart;
pub mod status;
pub mod uninstall;
pub mod verify;

use crate::change::receipt::sudo_hint;
use crate::error::Fault;
use crate::host::Host;
use crate::node::Node;
use anyhow::{Context, Result};
use std::path::Path;

/// The host below `--root`.
fn host(root: &Path) -> Result<Host> {
    let root = root.canonicalize().with_context(|| format!("--root {}", root.display()))?;
    Ok(Host::new(&root))
}

/// Refuses to change a node as anybody but root.
fn must_be_root(host: &Host) -> Result<(), Fault> {
    if host.is_live() && !nix::unistd::geteuid().is_root() {
        return Err(Fault::preflight("this changes the node, and only root may").hint(sudo_hint()));
    }
    Ok(())
}

/// `j-3H6EATEWWRWS (emr-7.12.0, primary)`
fn node_name(node: &Node) -> String {
    let id = &node.identity;
    let cluster = id.cluster_id.as_deref().unwrap_or("this node");
    let release = id.release.as_deref().unwrap_or("unknown release");
    let role = match id.role {
        crate::node::identity::Role::Primary => ", primary",
        crate::node::identity::Role::Worker => ", core or task node",
        crate::node::identity::Role::Unknown => "",
    };
    format!("{cluster} ({release}{role})")
}
