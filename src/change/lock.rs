//! The lock that a process holds while it changes this node.

use crate::error::Fault;
use crate::files::Place;
use crate::host::Host;
use crate::node::process::account_of;
use crate::paths::LOCK;
use anyhow::{Context, Result};
use fs_err as fs;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{Metadata, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
                Attempt::Again => {}
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
        let path = Path::new(LOCK);
        if let Some(parent) = path.parent().filter(|_| !host.is_live()) {
            fs::create_dir_all(host.path(parent)?)?;
        }
        let place = host.place(path)?;
        let file = place.open_or_create(0o600)?;
        let meta = file.metadata()?;
        let others_could_open = meta.mode() & 0o077 != 0;
        if others_could_open {
            // Whoever can read the file can hold the lock.
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // Another process has replaced the file meanwhile, because a stranger held it.
            Ok(_) if !is_same(place.metadata()?.as_ref(), &meta) => Ok(Attempt::Again),
            Ok(mut held) => {
                held.rewind()?;
                let holder = format!("{command}, process {}", std::process::id());
                held.write_all(holder.as_bytes())?;
                held.set_len(holder.len() as u64)?;
                Ok(Attempt::Taken(Self(held)))
            }
            Err((file, _)) => {
                let mut holders = holders(&meta);
                if !holders.iter().any(|pid| is_alive(*pid)) {
                    // Whoever took the lock has ended and left the open file, and with it the lock, to others.
                    let openers = openers(&meta);
                    let is_seen = !openers.is_empty() || others_could_open || sees_all_processes();
                    holders = openers.into_iter().filter(|pid| !is_stranger(host, *pid)).collect();
                    if holders.is_empty() && is_seen {
                        put_aside(&place, &meta)?;
                        return Ok(Attempt::Again);
                    }
                }
                if holders.iter().any(|pid| is_stranger(host, *pid)) {
                    put_aside(&place, &meta)?;
                    return Ok(Attempt::Again);
                }
                let mut says = String::new();
                file.take(200).read_to_string(&mut says).with_context(|| format!("reading {LOCK}"))?;
                Ok(Attempt::HeldBy(describe(&holders, &says)))
            }
        }
    }
}

enum Attempt {
    Taken(Lock),
    /// The holder, as the kernel names it.
    HeldBy(String),
    /// The file is not the lock any more.
    Again,
}

fn is_same(a: Option<&Metadata>, b: &Metadata) -> bool {
    a.is_some_and(|a| (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// The processes that hold the lock, by the kernel's list.
fn holders(file: &Metadata) -> Vec<u32> {
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = file.ino().to_string();
    let of_file = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, at, ..] = fields.as_slice() else { return None };
        (at.rsplit(':').next() == Some(inode.as_str())).then(|| pid.parse().ok())?
    };
    text.lines().filter_map(of_file).collect()
}

fn is_alive(pid: u32) -> bool {
    pid != 0 && Path::new(&format!("/proc/{pid}")).exists()
}

/// The other processes that have the file open.
fn openers(file: &Metadata) -> Vec<u32> {
    let has_it = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        // The name first, because a look at the file itself can hang on a dead network file system.
        let named = descriptors
            .filter(|fd| fs::read_link(fd.path()).is_ok_and(|name| name.to_string_lossy().contains("/emr-shs.lock")));
        named.map(|fd| fs::metadata(fd.path())).any(|found| is_same(found.ok().as_ref(), file))
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id()).filter(has_it).collect()
}

/// Whether no process of this machine is hidden from this one, as in a container.
fn sees_all_processes() -> bool {
    /// The number that Linux gives the first namespace of processes.
    const FIRST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() == FIRST)
}

/// Whether the process belongs to a user who cannot change this node: it holds the lock only to keep others from it.
fn is_stranger(host: &Host, pid: u32) -> bool {
    account_of(pid).is_some_and(|user| host.is_others(user))
}

/// Takes the lock file out of a stranger's hands: the next attempt makes a new one.
fn put_aside(place: &Place, held: &Metadata) -> Result<()> {
    let aside = place.sibling(format!("emr-shs.lock.held-{}", std::process::id()))?;
    place.rename_to_free_name(&aside)?;
    if !is_same(aside.metadata()?.as_ref(), held) {
        // Another process was faster, and this is its new file.
        aside.rename_to_free_name(place)?;
        return Ok(());
    }
    Ok(aside.remove_file()?)
}

/// `says` is what the file contains: the command of the last holder.
fn describe(holders: &[u32], says: &str) -> String {
    let Some(pid) = holders.iter().find(|pid| **pid != 0) else {
        return "a process that this one cannot see".into();
    };
    if says.ends_with(&format!(", process {pid}")) {
        return says.into();
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", name.trim())
}
