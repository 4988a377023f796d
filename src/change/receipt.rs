//! The receipt: what emr-shs did to this node.
//!
//! A receipt contains facts, not code: any later version can undo what it lists. `schema` is an integer, a reader
//! ignores fields that it does not know, and nobody asks which version installed.

use super::component::Component;
use super::resource::{Resource, State};
use crate::aws::proxies;
use crate::error::{Fault, sudo_hint};
use crate::host::Host;
use crate::paths::{LOG_DIRECTORY_KEY, RECEIPT, STATE_DIR, TAKEN_PORT_SOCKET};
use crate::settings::Settings;
use crate::shown::hint;
use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

const SCHEMA: u32 = 1;

/// What emr-shs did to this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredReceipt", into = "StoredReceipt")]
pub(crate) struct Receipt {
    /// The version of this format.
    pub schema: u32,
    /// The version of emr-shs that wrote the receipt last, for people only.
    pub written_by: String,
    /// The settings of the last run, so that a later run needs no arguments.
    pub settings: Settings,
    /// Whether the history server must restart before the node is in the state that the receipt describes. Set
    /// before the first change, cleared when the server is ready.
    pub owes_restart: bool,
    /// Whether the history server answered before emr-shs first changed what the server reads.
    pub was_alive: bool,
    /// Whether `uninstall` has begun and could not finish. What is left is then no installation.
    pub uninstalling: bool,
    /// What the last run of a component wanted and could not make.
    pub left_out: Vec<LeftOut>,
    /// Every resource that emr-shs owns, in the order in which it was made.
    pub entries: Vec<ReceiptEntry>,
    /// Entries of a version that knows more kinds of resources or states. They stay as they are.
    pub unknown: Vec<serde_json::Value>,
}

/// The receipt as the file has it.
#[derive(Serialize, Deserialize)]
struct StoredReceipt {
    schema: u32,
    #[serde(default)]
    written_by: String,
    #[serde(default)]
    settings: Settings,
    #[serde(default)]
    owes_restart: bool,
    #[serde(default)]
    was_alive: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    uninstalling: bool,
    #[serde(default)]
    left_out: Vec<LeftOut>,
    entries: Vec<StoredEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredEntry {
    Known(ReceiptEntry),
    Unknown(serde_json::Value),
}

impl From<StoredReceipt> for Receipt {
    fn from(stored: StoredReceipt) -> Self {
        let StoredReceipt {
            schema,
            written_by,
            settings,
            owes_restart,
            was_alive,
            uninstalling,
            left_out,
            entries: stored,
        } = stored;
        let (mut entries, mut unknown) = (Vec::new(), Vec::new());
        for entry in stored {
            match entry {
                StoredEntry::Known(entry) => entries.push(entry),
                StoredEntry::Unknown(entry) => unknown.push(entry),
            }
        }
        Self { schema, written_by, settings, owes_restart, was_alive, uninstalling, left_out, entries, unknown }
    }
}

impl From<Receipt> for StoredReceipt {
    fn from(receipt: Receipt) -> Self {
        let Receipt { schema, written_by, settings, owes_restart, was_alive, uninstalling, left_out, entries, unknown } =
            receipt;
        let unknown = unknown.into_iter().map(StoredEntry::Unknown);
        let entries = entries.into_iter().map(StoredEntry::Known).chain(unknown).collect();
        Self { schema, written_by, settings, owes_restart, was_alive, uninstalling, left_out, entries }
    }
}

/// A part of an installation that a run wanted and could not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    pub part: Part,
    pub why: String,
    /// What to type, so that a later run makes it.
    pub hint: String,
}

/// A part of an installation that a run can leave out. The receipt keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    LogGateway,
    LocalStore,
    /// A part that a newer version knows.
    #[serde(other)]
    Other,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LogGateway => "log gateway",
            Self::LocalStore => "local store",
            Self::Other => "a part that a newer emr-shs knows",
        }
    }

    /// The component that makes the part; `None` if this version does not know the part.
    pub(crate) fn component(self) -> Option<Component> {
        match self {
            Self::LogGateway => Some(Component::Gateway),
            Self::LocalStore => Some(Component::Configure),
            Self::Other => None,
        }
    }
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
    ///
    /// A file with the content that emr-shs wrote is its own work, whoever owns the file since. So is a directory
    /// that emr-shs made: with something in it, it stays anyway.
    pub(crate) fn wrote(&self, state: &State) -> bool {
        let is_dir = matches!(self.resource, Resource::Dir { .. }) && matches!(state, State::Dir { .. });
        is_dir && self.before == State::Absent
            || self.ours.iter().any(|s| s.is_equivalent_to(state) || s.has_content_of(state))
    }

    /// Whether the resource is as emr-shs wrote it last.
    pub(crate) fn stands(&self, state: &State) -> bool {
        self.ours.last().is_some_and(|wanted| state.serves_as(wanted))
    }

    /// Records that this state is the wanted one. The wanted state is the last of the list.
    pub(crate) fn wants(&mut self, state: &State) {
        self.ours.retain(|s| s != state);
        self.ours.push(state.clone());
    }

    /// What differs from the state that emr-shs wrote last.
    pub(crate) fn difference(&self, state: &State) -> String {
        self.ours.last().map_or_else(|| state.to_string(), |wanted| state.difference(wanted))
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
            uninstalling: false,
            left_out: Vec::new(),
            entries: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

impl Receipt {
    /// Whether nothing on the node belongs to emr-shs.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unknown.is_empty()
    }

    /// What the history server reads as installed: the event logs, or with the index the event-log cache.
    pub(crate) fn history_directory(&self) -> Option<String> {
        match self.settings.index {
            true => self.value_of(LOG_DIRECTORY_KEY),
            false => self.settings.event_logs.as_ref().map(ToString::to_string),
        }
    }

    /// The entry of a key of spark-defaults.conf.
    pub(crate) fn key(&self, name: &str) -> Option<&ReceiptEntry> {
        let is_key = |resource: &Resource| matches!(resource, Resource::Key { key, .. } if key == name);
        self.entries.iter().find(|entry| is_key(&entry.resource))
    }

    /// The value that emr-shs wrote last for a key of spark-defaults.conf.
    pub(crate) fn value_of(&self, name: &str) -> Option<String> {
        self.key(name)?.ours.last()?.value()
    }

    /// The address on which systemd listens for the log gateway in the history server's place, as installed.
    pub(crate) fn taken_port(&self) -> Option<SocketAddr> {
        match self.entries.iter().find(|entry| entry.resource.is_unit(TAKEN_PORT_SOCKET))?.ours.last()? {
            State::Unit { runs: Some(address), .. } => address.parse().ok(),
            _ => None,
        }
    }

    /// The kind and the name of each entry that this version does not know.
    pub(crate) fn unknown_entries(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.unknown.iter().map(|entry| {
            let resource = &entry["resource"];
            let name = ["path", "name", "uri", "key"].iter().find_map(|field| resource[field].as_str());
            (resource["kind"].as_str().unwrap_or("no kind"), name)
        })
    }

    /// What the entries are called that this version does not know, and which version does.
    pub(crate) fn unknown_to_this_version(&self) -> Option<String> {
        let kinds: Vec<&str> = self.unknown_entries().map(|(kind, _)| kind).collect();
        (!kinds.is_empty()).then(|| {
            format!(
                "the receipt {RECEIPT} lists what this version does not know ({}), and that stays as it is; {} wrote it",
                kinds.join(", "),
                self.written_by
            )
        })
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
        require_own_directory(host)?;
        let receipt: Self = serde_json::from_slice(&bytes).map_err(|e| {
            Fault::preflight(format!("the receipt {RECEIPT} is damaged"))
                .detail(e.to_string())
                .hint(hint!(
                    "only this file says how the node was before emr-shs, so keep a copy: sudo cp -p {} {}.broken; then repair the file, or put back a copy of it",
                    RECEIPT,
                    RECEIPT
                ))
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
        let dir = Path::new(STATE_DIR);
        if self.is_empty() && !self.owes_restart {
            return remove(host);
        }
        if host.metadata(dir)?.is_none() {
            if let Some(parent) = dir.parent().filter(|_| !host.is_live()) {
                fs::create_dir_all(host.path(parent)?)?;
            }
            let place = host.place(dir)?;
            let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            place.create_dir(0o700, owner).with_context(|| format!("creating {STATE_DIR}"))?;
        }
        // The version that knows every entry is the one that people have to look for.
        if self.unknown.is_empty() {
            self.written_by = format!("emr-shs {}", env!("CARGO_PKG_VERSION"));
        }
        let text = serde_json::to_string_pretty(self)?;
        host.write_atomic(Path::new(RECEIPT), text.as_bytes(), 0o600, None)
    }

    pub(crate) fn entry(&self, resource: &Resource) -> Option<&ReceiptEntry> {
        self.entries.iter().find(|e| e.resource == *resource)
    }

    /// Remembers what a run of some components leaves out, and forgets what earlier runs of them left out. A run of all
    /// components makes an installation again of what an `uninstall` has left.
    pub(crate) fn leave_out(&mut self, components: &[Component], left_out: &[LeftOut]) {
        self.uninstalling &= components.len() < Component::ALL.len();
        let concerns = |part: Part| part.component().is_none_or(|component| components.contains(&component));
        self.left_out.retain(|earlier| !concerns(earlier.part));
        self.left_out.extend_from_slice(left_out);
    }

    /// Records that emr-shs is about to replace `before` with `after`. The first `before` wins.
    pub(crate) fn record(&mut self, resource: &Resource, before: &State, after: &State) {
        match self.entries.iter_mut().find(|e| e.resource == *resource) {
            Some(entry) => entry.wants(after),
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

/// Refuses a receipt that others than root can write: `uninstall` does as root what the receipt says.
fn require_own_directory(host: &Host) -> Result<()> {
    for path in [STATE_DIR, RECEIPT] {
        if host.metadata(Path::new(path))?.is_some_and(|meta| host.others_may_change(&meta)) {
            return Err(Fault::preflight(format!("others than root can change {path}, so emr-shs does not do what it says"))
                .hint(hint!(
                    "look whether the receipt is as emr-shs wrote it: sudo cat {}; then: sudo chown -R root:root {} && sudo chmod -R go= {}",
                    RECEIPT, STATE_DIR, STATE_DIR
                ))
                .into());
        }
    }
    Ok(())
}

/// Removes the receipt, and its directory unless somebody put something there.
fn remove(host: &Host) -> Result<()> {
    if host.metadata(Path::new(STATE_DIR))?.is_none() {
        return Ok(());
    }
    host.place(Path::new(RECEIPT))?.remove_file()?;
    host.place(Path::new(STATE_DIR))?.remove_empty_dir()?;
    Ok(())
}
