//! The receipt: what emr-shs did to this node.
//!
//! A receipt contains facts, not code: any later version can undo what it lists. `schema` is an integer, a reader
//! ignores fields that it does not know, and nobody asks which version installed.

use super::resource::{Resource, State};
use crate::aws::proxies;
use crate::error::{Fault, sudo_hint};
use crate::host::{Host, remove_if_there, sync_dir};
use crate::paths::{RECEIPT, STATE_DIR};
use crate::settings::Settings;
use crate::shown::hint;
use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

const SCHEMA: u32 = 1;

/// What emr-shs did to this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The version of this format.
    pub schema: u32,
    /// The version of emr-shs that wrote the receipt last, for people only.
    #[serde(default)]
    pub written_by: String,
    /// The settings of the last run, so that a later run needs no arguments.
    #[serde(default)]
    pub settings: Settings,
    /// Whether the history server must restart before the node is in the state that the receipt describes. Set
    /// before the first change, cleared when the server is ready.
    #[serde(default)]
    pub owes_restart: bool,
    /// Whether the history server answered before emr-shs first changed what the server reads.
    #[serde(default)]
    pub was_alive: bool,
    /// Every resource that emr-shs owns, in the order in which it was made.
    pub entries: Vec<ReceiptEntry>,
}

/// A resource that emr-shs owns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReceiptEntry {
    pub resource: Resource,
    /// The state that the first install found. A later install does not overwrite it.
    pub before: State,
    /// Every state that emr-shs ever wrote. Any other state is somebody else's work.
    pub ours: Vec<State>,
}

impl ReceiptEntry {
    /// Whether emr-shs wrote this state.
    pub(crate) fn wrote(&self, state: &State) -> bool {
        self.ours.iter().any(|s| s.is_equivalent_to(state))
    }
}

impl Default for Receipt {
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
    /// Whether nothing on the node belongs to emr-shs.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads the node's receipt. A node without a receipt gives an empty one.
    pub(crate) fn load(host: &Host) -> Result<Self> {
        let denied = |e: &anyhow::Error| {
            e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::PermissionDenied)
        };
        let bytes = match host.read_bytes(Path::new(RECEIPT)) {
            Ok(None) => return Ok(Self::default()),
            Ok(Some(bytes)) => bytes,
            Err(e) if denied(&e) => {
                return Err(Fault::preflight(format!("only root may read {RECEIPT}")).hint(sudo_hint()).into());
            }
            Err(e) => return Err(e),
        };
        let receipt: Self = serde_json::from_slice(&bytes).map_err(|e| {
            Fault::preflight(format!("the receipt {RECEIPT} is damaged"))
                .detail(e.to_string())
                .hint(hint!("the receipt says how to undo the installation: repair it, or move it away and install again: sudo mv {} {}.broken", RECEIPT, RECEIPT))
        })?;
        if receipt.schema > SCHEMA {
            return Err(Fault::preflight(format!("a newer emr-shs wrote the receipt {RECEIPT}"))
                .detail(format!("found schema {}; this version knows {SCHEMA}", receipt.schema))
                .hint("use the version that wrote it, or a newer one")
                .into());
        }
        // Every command that reads the receipt asks AWS as the installation did.
        proxies::remember(&receipt.settings.proxies);
        Ok(receipt)
    }

    /// Writes the receipt so that it survives a crash. Removes it when nothing is left to undo.
    pub(crate) fn save(&mut self, host: &Host) -> Result<()> {
        let dir = host.path(Path::new(STATE_DIR))?;
        if self.is_empty() && !self.owes_restart {
            return remove(host, &dir);
        }
        if !dir.is_dir() {
            let recursive = !host.is_live();
            DirBuilder::new()
                .recursive(recursive)
                .mode(0o700)
                .create(&dir)
                .with_context(|| format!("creating {STATE_DIR}"))?;
            sync_dir(dir.parent().unwrap_or(&dir))?;
        }
        self.written_by = format!("emr-shs {}", env!("CARGO_PKG_VERSION"));
        let text = serde_json::to_string_pretty(self)?;
        host.write_atomic(Path::new(RECEIPT), text.as_bytes(), 0o600, None)
    }

    pub(crate) fn entry(&self, resource: &Resource) -> Option<&ReceiptEntry> {
        self.entries.iter().find(|e| e.resource == *resource)
    }

    /// Records that emr-shs is about to replace `before` with `after`. The first `before` wins.
    pub(crate) fn record(&mut self, resource: &Resource, before: &State, after: &State) {
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

    /// Whether emr-shs created a link where nothing was before.
    pub(crate) fn created_link(&self, path: &Path) -> bool {
        self.entry(&Resource::Link { path: path.into() }).is_some_and(|entry| matches!(entry.before, State::Absent))
    }

    /// Gives up a resource.
    pub(crate) fn forget(&mut self, resource: &Resource) {
        self.entries.retain(|e| e.resource != *resource);
    }
}

/// Removes the receipt, and its directory unless somebody put something there.
fn remove(host: &Host, dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    remove_if_there(&host.path(Path::new(RECEIPT))?)?;
    fs::remove_dir(dir).or_else(|e| match e.kind() {
        ErrorKind::DirectoryNotEmpty => Ok(()),
        _ => Err(e),
    })?;
    Ok(())
}
