//! System accounts, through the node's own tools, which know its databases and their locks.

use crate::host::Host;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

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
    let out = Command::new(program).args(args).stdin(Stdio::null()).output();
    let out = out.with_context(|| format!("running {program}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    bail!("{program} {}: {}", args.last().unwrap_or(&""), said.lines().next().unwrap_or("failed and gave no reason"))
}
