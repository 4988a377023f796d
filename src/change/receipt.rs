//! The receipt: what we did to this node, kept flat and forgiving so that any later version can
//! undo it; and the lock that whoever changes the node holds.
//!
//! Facts, not code: `schema` is an integer, unknown fields are ignored, and the version that
//! installed is never asked for.

use crate::change::resource::{Resource, State};
use crate::error::Fault;
use crate::host::{Host, remove_if_there, sync_dir};
use crate::paths::{LOCK, RECEIPT, STATE_DIR};
use crate::settings::Settings;
use anyhow::{Context, Result};
use fs_err as fs;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

const SCHEMA: u32 = 1;

/// What we did to this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Version of this format.
    pub schema: u32,
    /// The version that wrote it last; for people only.
    #[serde(default)]
    pub written_by: String,
    /// What was asked for, so that a later run needs no arguments.
    #[serde(default)]
    pub settings: Settings,
    /// The history server must be restarted before the node is what this receipt says. Written
    /// before the first change, cleared when the server is ready.
    #[serde(default)]
    pub owes_restart: bool,
    /// Whether the history server answered when we first came.
    #[serde(default)]
    pub was_alive: bool,
    /// Everything we own, in the order in which it was made.
    pub entries: Vec<ReceiptEntry>,
}

/// One resource we own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiptEntry {
    /// What it is.
    pub resource: Resource,
    /// As the first install found it; never overwritten by a later one.
    pub before: State,
    /// Every state we ever wrote. Anything else found there is someone else's work.
    pub ours: Vec<State>,
}

impl ReceiptEntry {
    /// Whether a state is something we wrote.
    pub fn wrote(&self, state: &State) -> bool {
        self.ours.iter().any(|s| s.same(state))
    }
}

impl Default for Receipt {
    /// A node with nothing of ours.
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            written_by: String::new(),
            settings: Settings::default(),
            owes_restart: false,
            was_alive: false,
            entries: Vec::new(),
        }
    }
}

impl Receipt {
    /// Whether nothing of ours is on the node.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads the node's receipt; an empty one if there is none.
    pub fn load(host: &Host) -> Result<Self> {
        let denied = |e: &anyhow::Error| {
            e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
        };
        let text = match host.read(Path::new(RECEIPT)) {
            Ok(None) => return Ok(Self::default()),
            Ok(Some(text)) => text,
            Err(e) if denied(&e) => {
                return Err(Fault::preflight(format!("{RECEIPT} is readable by root only")).hint(sudo_hint()).into());
            }
            Err(e) => return Err(e),
        };
        let receipt: Self = serde_json::from_str(&text).map_err(|e| {
            Fault::preflight(format!("the receipt {RECEIPT} cannot be read"))
                .detail(e.to_string())
                .hint(format!("it says how to undo the installation; repair it, or move it away and install again: mv {RECEIPT} {RECEIPT}.broken"))
        })?;
        if receipt.schema > SCHEMA {
            return Err(Fault::preflight(format!("the receipt {RECEIPT} is of a newer emr-shs"))
                .detail(format!("found schema {}, this version knows {SCHEMA}", receipt.schema))
                .hint("use the version that wrote it, or a newer one")
                .into());
        }
        Ok(receipt)
    }

    /// Writes the receipt so that it survives a crash; removes it when nothing is left to undo.
    pub fn save(&mut self, host: &Host) -> Result<()> {
        let dir = host.path(Path::new(STATE_DIR))?;
        if self.is_empty() && !self.owes_restart {
            if dir.is_dir() {
                remove_if_there(&host.path(Path::new(RECEIPT))?)?;
                fs::remove_dir(&dir).or_else(|e| match e.kind() {
                    std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
                    _ => Err(e),
                })?;
            }
            return Ok(());
        }
        if !dir.is_dir() {
            std::fs::DirBuilder::new()
                .recursive(!host.is_live())
                .mode(0o700)
                .create(&dir)
                .with_context(|| format!("creating {STATE_DIR}"))?;
            sync_dir(dir.parent().unwrap_or(&dir))?;
        }
        self.written_by = format!("emr-shs {}", env!("CARGO_PKG_VERSION"));
        let text = serde_json::to_string_pretty(self)?;
        host.write_atomic(Path::new(RECEIPT), text.as_bytes(), 0o600, None)
    }

    /// The entry of a resource.
    pub fn entry(&self, resource: &Resource) -> Option<&ReceiptEntry> {
        self.entries.iter().find(|e| e.resource == *resource)
    }

    /// Notes that `after` is about to be written where `before` stands. The first `before` wins.
    pub fn record(&mut self, resource: &Resource, before: &State, after: &State) {
        match self.entries.iter_mut().find(|e| e.resource == *resource) {
            Some(entry) if entry.ours.contains(after) => {}
            Some(entry) => entry.ours.push(after.clone()),
            None => self.entries.push(ReceiptEntry {
                resource: resource.clone(),
                before: before.clone(),
                ours: vec![after.clone()],
            }),
        }
    }

    /// Forgets a resource that is no longer ours.
    pub fn forget(&mut self, resource: &Resource) {
        self.entries.retain(|e| e.resource != *resource);
    }
}

/// The right to change this node, held until dropped.
pub struct Lock(#[expect(dead_code, reason = "held for its Drop")] Flock<std::fs::File>);

impl Lock {
    /// Takes the node's lock, or says who holds it.
    pub fn take(host: &Host, command: &str) -> Result<Self> {
        Self::wait(host, command, || Ok(false))
    }

    /// The same; while somebody else holds it and `patient` says so, it is tried again.
    pub fn wait(host: &Host, command: &str, mut patient: impl FnMut() -> Result<bool>) -> Result<Self> {
        loop {
            match Self::attempt(host, command)? {
                Err(_) if patient()? => std::thread::sleep(Duration::from_millis(200)),
                result => return Ok(result?),
            }
        }
    }

    /// Tries once; the inner error says who holds it.
    fn attempt(host: &Host, command: &str) -> Result<Result<Self, Fault>> {
        let path = host.path(Path::new(LOCK))?;
        if !host.is_live() {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
        }
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.rewind()?;
                let holder = format!("{command}, process {}", std::process::id());
                held.write_all(holder.as_bytes())?;
                held.set_len(holder.len() as u64)?;
                Ok(Ok(Self(held)))
            }
            Err((mut file, _)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Ok(Err(Fault::preflight("another emr-shs is changing this node")
                    .detail(format!("{} is held by: {holder}", LOCK))
                    .hint("wait for it to end, then try again")))
            }
        }
    }
}

/// What to type when root is needed: this very command with sudo.
pub fn sudo_hint() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("sudo emr-shs {}", args.join(" "))
}
