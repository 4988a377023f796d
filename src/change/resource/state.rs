//! The state of a resource, observed or desired.

use crate::host::Owner;
use crate::properties;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// The state of a resource. The receipt keeps states, so a variant must stay readable for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum State {
    Absent,
    /// The resource exists, and nothing else about it matters: a prefix, an account, a program.
    Exists,
    Dir {
        /// Permission bits.
        mode: u32,
        owner: Owner,
    },
    Link {
        /// The target as the link spells it.
        target: PathBuf,
    },
    File {
        content: String,
        /// Permission bits.
        mode: u32,
        owner: Owner,
    },
    /// The line of a properties file that sets a key: its bytes with continuation lines, without the line end.
    Line {
        raw: String,
    },
    Unit {
        /// Whether the unit starts at boot.
        enabled: bool,
        /// With what the unit started, if it runs: the value of
        /// [`STARTED_AS_VARIABLE`](crate::paths::STARTED_AS_VARIABLE) in its environment.
        runs: Option<String>,
    },
    /// Something other than a link stands where a link belongs: `a regular file`, `a directory`, …
    Occupied {
        by: String,
    },
}

impl State {
    /// The value that a [`State::Line`] sets.
    pub(crate) fn value(&self) -> Option<String> {
        match self {
            State::Line { raw } => properties::value_of(raw),
            _ => None,
        }
    }

    /// The state as others may read it: without the content of a file that only its owner may read.
    pub(crate) fn without_secrets(&self) -> Cow<'_, State> {
        match self {
            State::File { content, mode, owner } if mode & 0o077 == 0 => {
                let content = format!("{} bytes, not shown: only the owner may read them", content.len());
                Cow::Owned(State::File { content, mode: *mode, owner: *owner })
            }
            state => Cow::Borrowed(state),
        }
    }

    /// Whether two states mean the same. Of a key only the value counts, so a line that somebody realigned is still
    /// what emr-shs wrote.
    pub(crate) fn is_equivalent_to(&self, other: &State) -> bool {
        self == other || matches!((self.value(), other.value()), (Some(a), Some(b)) if a == b)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Absent => f.write_str("absent"),
            State::Exists => f.write_str("exists"),
            State::Dir { mode, owner } => write!(f, "directory {mode:04o} {}:{}", owner.0, owner.1),
            State::Link { target } => write!(f, "→ {}", target.display()),
            State::File { content, mode, .. } => write!(f, "file {mode:04o}, {} bytes", content.len()),
            State::Line { .. } => f.write_str(&self.value().unwrap_or_default()),
            State::Unit { enabled, runs } => {
                f.write_str(if runs.is_some() { "running" } else { "not running" })?;
                f.write_str(if *enabled { ", starts at boot" } else { "" })
            }
            State::Occupied { by } => f.write_str(by),
        }
    }
}
