//! System accounts, through the node's own tools, which know its databases and their locks.

use crate::host::Host;
use crate::programs;
use anyhow::{Result, anyhow, bail};
use std::path::Path;
use std::time::Duration;

/// How long a tool may wait for the locks of the node's databases, and for a directory service.
const LIMIT: Duration = Duration::from_secs(60);

/// Creates a system account with a group of the same name, without a home directory and a shell.
pub(super) fn create(host: &Host, name: &str) -> Result<()> {
    let groups = host.read(Path::new("/etc/group"))?.unwrap_or_default();
    let has_group = groups.lines().any(|line| line.split(':').next() == Some(name));
    let group: &[&str] = if has_group { &["--gid", name] } else { &["--user-group"] };
    let shells = ["/sbin/nologin", "/usr/sbin/nologin"];
    let shell = shells.iter().find(|shell| Path::new(shell).exists()).unwrap_or(&"/bin/false");
    let rest = ["--no-create-home", "--home-dir", "/", "--shell", shell, name];
    run("useradd", &[&["--system"], group, &rest].concat())
}

/// Removes an account and its group.
pub(super) fn remove(name: &str) -> Result<()> {
    run("userdel", &[name])
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let ended = programs::run(program, args, LIMIT, &mut || ()).map_err(|why| anyhow!("{program} {why}"))?;
    if ended.success {
        return Ok(());
    }
    let said = ended.err.lines().next().unwrap_or("failed and gave no reason");
    bail!("{program} {}: {said}", args.last().unwrap_or(&""))
}
