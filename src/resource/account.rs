//! System accounts, through the node's own tools: they know its databases and their locks.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Creates a system account with a group of its own, without home and shell.
pub fn create(name: &str) -> Result<()> {
    let shells = ["/sbin/nologin", "/usr/sbin/nologin"];
    let shell = shells.iter().find(|shell| Path::new(shell).exists()).unwrap_or(&"/bin/false");
    run("useradd", &["--system", "--user-group", "--no-create-home", "--home-dir", "/", "--shell", shell, name])
}

/// Removes an account, and its group with it.
pub fn remove(name: &str) -> Result<()> {
    run("userdel", &[name])
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output();
    let out = out.with_context(|| format!("{program} cannot be run"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    bail!("{program} {}: {}", args.last().unwrap_or(&""), said.lines().next().unwrap_or("failed without a word"))
}
