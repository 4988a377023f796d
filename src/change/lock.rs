//! The lock that a process holds while it changes this node.

use crate::error::Fault;
use crate::host::Host;
use crate::paths::LOCK;
use anyhow::{Context, Result};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use nix::fcntl::{Flock, FlockArg};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(200);

/// The right to change this node. Dropping it gives the right back.
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its Drop")] Flock<std::fs::File>);

impl Lock {
    /// Takes the lock. The error names the holder.
    pub(crate) fn take(host: &Host, command: &str) -> Result<Self> {
        Self::wait(host, command, || Ok(false))
    }

    /// Takes the lock, and tries again while another process holds it and `go_on` agrees.
    pub(crate) fn wait(host: &Host, command: &str, mut go_on: impl FnMut() -> Result<bool>) -> Result<Self> {
        loop {
            match Self::attempt(host, command)? {
                Attempt::Taken(lock) => return Ok(lock),
                Attempt::HeldBy(_) if go_on()? => std::thread::sleep(POLL),
                Attempt::HeldBy(holder) => {
                    return Err(Fault::preflight("another emr-shs is changing this node")
                        .detail(format!("{LOCK} is held by: {holder}"))
                        .hint("wait for it to end, then try again")
                        .into());
                }
            }
        }
    }

    fn attempt(host: &Host, command: &str) -> Result<Attempt> {
        let path = host.path(Path::new(LOCK))?;
        if !host.is_live() {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
        }
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(&path)?;
        match Flock::lock(file.into_parts().0, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.rewind()?;
                let holder = format!("{command}, process {}", std::process::id());
                held.write_all(holder.as_bytes())?;
                held.set_len(holder.len() as u64)?;
                Ok(Attempt::Taken(Self(held)))
            }
            Err((mut file, _)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).with_context(|| format!("reading {LOCK}"))?;
                Ok(Attempt::HeldBy(holder))
            }
        }
    }
}

enum Attempt {
    Taken(Lock),
    /// The holder's command and process id, as the lock file names them.
    HeldBy(String),
}
