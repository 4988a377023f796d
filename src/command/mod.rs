//! One module a command. Each reads top to bottom like what the command does.

pub mod deferred_install;
pub mod discover;
pub mod doctor;
pub mod install;
pub mod manual;
pub mod proxy;
pub mod render;
pub mod restart;
pub mod status;
pub mod uninstall;
pub mod verify;

use crate::error::{Fault, sudo_hint};
use crate::host::Host;
use crate::node::Node;
use crate::node::identity::Role;
use crate::ui::Console;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// The host below `--root`.
fn host(root: &Path) -> Result<Host> {
    let root = root.canonicalize().with_context(|| format!("--root {}", root.display()))?;
    Ok(Host::new(&root))
}

/// Refuses to change a node as anybody but root.
fn must_be_root(host: &Host) -> Result<(), Fault> {
    if host.is_live() && !nix::unistd::geteuid().is_root() {
        return Err(Fault::preflight("this command changes the node, and only root may do that").hint(sudo_hint()));
    }
    Ok(())
}

/// `j-3H6EATEWWRWS (emr-7.12.0, primary)`
fn node_name(node: &Node) -> String {
    let id = &node.identity;
    let cluster = id.cluster_id.as_deref().unwrap_or("this node");
    let release = id.release.as_deref().unwrap_or("unknown release");
    let role = match id.role {
        Role::Primary => ", primary",
        Role::Worker => ", core or task node",
        Role::Unknown => "",
    };
    format!("{cluster} ({release}{role})")
}

/// Says what a restarted history server reads.
fn server_reads(restarted: Option<(Duration, String)>, console: &Console) {
    if let Some((took, directory)) = restarted {
        console.ok("history server", &format!("reads {directory} after {:.1} s", took.as_secs_f64()));
    }
}
