//! What we may own on a node, how it looks, and the one function that changes it.
//!
//! A **resource** is named by what identifies it. Its **state** can be observed or wanted.
//! [`Resource::observe`] only reads; [`Resource::set`] is the only function of the product that
//! changes a node or a bucket for good.

mod account;
mod program;

pub use program::{Program, short_digest};

use crate::aws::s3::EventLogs;
use crate::error::Fault;
use crate::host::{Host, Owner, draft, remove_if_there, sync_dir};
use crate::node::spark::read_defaults;
use crate::paths::{OWN_UNITS, STARTED_AS_VARIABLE};
use crate::properties;
use crate::systemd;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A thing we may own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Resource {
    /// Something that exists under an S3 prefix, so that Spark finds a directory there.
    /// Create-only: other clusters may share it, so it is never deleted.
    Prefix {
        /// `s3://bucket/prefix/`
        uri: EventLogs,
    },
    /// A directory for our own files. Goes again only when it is empty.
    Dir {
        /// The node's path of it.
        path: PathBuf,
    },
    /// A directory the history server fills with what it can rebuild. Goes with its content.
    Cache {
        /// The node's path of it.
        path: PathBuf,
    },
    /// A symbolic link.
    Link {
        /// The node's path of it.
        path: PathBuf,
    },
    /// A small text file.
    File {
        /// The node's path of it.
        path: PathBuf,
    },
    /// A system account.
    Account {
        /// Its name.
        name: String,
    },
    /// A copy of this program, named after its content.
    Program {
        /// The node's path of it.
        path: PathBuf,
    },
    /// A systemd unit of ours: whether it starts at boot, and whether it runs.
    Unit {
        /// `….service`
        name: String,
    },
    /// One key of spark-defaults.conf. A key, not the file: EMR rewrites that file and others
    /// edit it.
    Key {
        /// The node's path of the file.
        path: PathBuf,
        /// The property's name.
        key: String,
    },
}

/// How a resource looks, observed or wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum State {
    /// It is not there.
    Absent,
    /// It is there, and nothing else about it matters (a prefix, an account, a program).
    Exists,
    /// A directory.
    Dir {
        /// Permission bits.
        mode: u32,
        /// Numeric user and group id.
        owner: Owner,
    },
    /// A symbolic link.
    Link {
        /// What it points to, as written.
        target: PathBuf,
    },
    /// A file.
    File {
        /// Its whole text.
        content: String,
        /// Permission bits.
        mode: u32,
        /// Numeric user and group id.
        owner: Owner,
    },
    /// The line of a properties file that sets a key, without its line end.
    Line {
        /// The line's bytes, continuation lines included.
        raw: String,
    },
    /// A unit's two switches.
    Unit {
        /// Whether it starts at boot.
        enabled: bool,
        /// With what it was started, if it runs: the value of [`STARTED_AS_VARIABLE`] in its environment.
        runs: Option<String>,
    },
    /// Something that is no link stands where a link should go.
    Occupied {
        /// What it is: `a regular file`, `a directory`, …
        by: String,
    },
}

impl State {
    /// The value a [`State::Line`] sets.
    pub fn value(&self) -> Option<String> {
        match self {
            State::Line { raw } => properties::value_of(raw),
            _ => None,
        }
    }

    /// Whether two states are the same for their owner: of a key only the value counts, so that
    /// a realigned line is still what we wrote.
    pub fn same(&self, other: &State) -> bool {
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

/// Largest file whose text is taken into the receipt as its `before`.
const MAX_TEXT: u64 = 1 << 20;

impl Resource {
    /// The name people know it by.
    pub fn name(&self) -> String {
        match self {
            Resource::Prefix { uri } => uri.to_string(),
            Resource::Dir { path } | Resource::Cache { path } => format!("{}/", path.display()),
            Resource::Account { name } => format!("user {name}"),
            Resource::Unit { name } => name.clone(),
            Resource::Program { path } => path.display().to_string(),
            Resource::Link { path } => path.display().to_string(),
            Resource::File { path } => {
                let of_unit = OWN_UNITS.iter().any(|unit| path.ends_with(unit));
                let short = path.strip_prefix("/etc/systemd/system").ok().filter(|_| !of_unit);
                short.unwrap_or(path).display().to_string()
            }
            Resource::Key { key, .. } => key.clone(),
        }
    }

    /// The path it lives at, unless it lives in S3.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Resource::Prefix { .. } | Resource::Account { .. } | Resource::Unit { .. } => None,
            Resource::Dir { path }
            | Resource::Cache { path }
            | Resource::Program { path }
            | Resource::Link { path }
            | Resource::File { path }
            | Resource::Key { path, .. } => Some(path),
        }
    }

    /// Reads how it looks now; never changes anything.
    pub fn observe(&self, host: &Host) -> Result<State> {
        match self {
            Resource::Prefix { uri } => Ok(match &host.s3 {
                Some(s3) if s3.prefix_exists(uri)? => State::Exists,
                _ => State::Absent,
            }),
            Resource::Dir { path } | Resource::Cache { path } => {
                let Some(meta) = metadata(&host.path(path)?)? else { return Ok(State::Absent) };
                if !meta.is_dir() {
                    return Err(in_the_way(path, kind(&meta), "a directory").into());
                }
                Ok(State::Dir { mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()) })
            }
            Resource::Link { path } => {
                let real = host.path(path)?;
                let Some(meta) = metadata(&real)? else { return Ok(State::Absent) };
                if !meta.is_symlink() {
                    return Ok(State::Occupied { by: kind(&meta).into() });
                }
                Ok(State::Link { target: fs::read_link(&real)? })
            }
            Resource::File { path } => {
                let real = host.path(path)?;
                let Some(meta) = metadata(&real)? else { return Ok(State::Absent) };
                if !meta.is_file() {
                    return Err(in_the_way(path, kind(&meta), "a regular file").into());
                }
                if meta.len() > MAX_TEXT {
                    let found = format!("a file of {} bytes", meta.len());
                    return Err(in_the_way(path, &found, "a small text file").into());
                }
                let Ok(content) = String::from_utf8(fs::read(&real)?) else {
                    return Err(in_the_way(path, "a file that is not text", "a text file").into());
                };
                Ok(State::File { content, mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()) })
            }
            Resource::Account { name } => Ok(if host.account(name).is_some() { State::Exists } else { State::Absent }),
            Resource::Program { path } => {
                let whole = metadata(&host.path(path)?)?.is_some_and(|m| m.is_file() && m.len() > 0);
                Ok(if whole { State::Exists } else { State::Absent })
            }
            Resource::Unit { name } => {
                let unit = systemd::show(name)?;
                let runs = unit.main_pid.filter(|_| unit.active == "active").map(started_as);
                Ok(State::Unit { enabled: unit.enabled, runs })
            }
            Resource::Key { path, key } => {
                let file = read_defaults(host, path)?;
                let line = file.line(key).with_context(|| format!("{}: {key} is not UTF-8", path.display()))?;
                Ok(line.map_or(State::Absent, |raw| State::Line { raw }))
            }
        }
    }

    /// Makes it look like `state`.
    pub fn set(&self, host: &Host, state: &State) -> Result<()> {
        match (self, state) {
            (Resource::Prefix { uri }, State::Exists) => {
                Ok(host.s3.as_ref().context("S3 is not reached from here")?.create_prefix(uri)?)
            }
            // Never deleted: S3A may have replaced the marker, other clusters may share it.
            (Resource::Prefix { .. }, State::Absent) => Ok(()),

            (Resource::Dir { path }, State::Absent) => match fs::remove_dir(host.path(path)?) {
                Err(e) if e.kind() != ErrorKind::NotFound && e.kind() != ErrorKind::DirectoryNotEmpty => Err(e.into()),
                _ => Ok(()),
            },
            (Resource::Cache { path }, State::Absent) => match fs::remove_dir_all(host.path(path)?) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
                _ => Ok(()),
            },
            (Resource::Dir { path } | Resource::Cache { path }, State::Dir { mode, owner }) => {
                let real = host.path(path)?;
                match fs::create_dir(&real) {
                    Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e.into()),
                    _ => {}
                }
                fs::set_permissions(&real, std::fs::Permissions::from_mode(*mode))?;
                let meta = fs::metadata(&real)?;
                if (meta.uid(), meta.gid()) != *owner {
                    std::os::unix::fs::chown(&real, Some(owner.0), Some(owner.1))
                        .with_context(|| format!("changing the owner of {}", path.display()))?;
                }
                sync_dir(real.parent().unwrap_or(&real))
            }

            (Resource::Link { path } | Resource::File { path }, State::Absent) => {
                let real = host.path(path)?;
                remove_if_there(&real)?;
                match real.parent() {
                    Some(dir) if dir.is_dir() => sync_dir(dir),
                    _ => Ok(()),
                }
            }
            (Resource::Link { path }, State::Link { target }) => {
                let real = host.path(path)?;
                if metadata(&real)?.is_some_and(|m| !m.is_symlink()) {
                    if fs::symlink_metadata(aside(&real)).is_ok() {
                        bail!("{} holds what was put aside earlier; move it away first", aside(path).display());
                    }
                    fs::rename(&real, aside(&real))?;
                }
                let new = draft(&real);
                remove_if_there(&new)?;
                symlink(target, &new).with_context(|| format!("linking {}", path.display()))?;
                fs::rename(&new, &real)?;
                sync_dir(real.parent().unwrap_or(&real))
            }
            (Resource::Link { path }, State::Occupied { .. }) => {
                let real = host.path(path)?;
                if fs::symlink_metadata(aside(&real)).is_ok() {
                    remove_if_there(&real)?;
                    fs::rename(aside(&real), &real)?;
                }
                Ok(())
            }
            (Resource::File { path }, State::File { content, mode, owner }) => {
                host.write_atomic(path, content.as_bytes(), *mode, Some(*owner))
            }
            (Resource::Account { name }, State::Exists) => account::create(host, name),
            (Resource::Account { name }, State::Absent) => account::remove(name),
            (Resource::Program { path }, State::Exists) => Program::this_at(path)?.install(host),
            (Resource::Program { path }, State::Absent) => remove_if_there(&host.path(path)?),
            (Resource::Unit { name }, State::Unit { enabled, runs }) => systemd::switch(name, *enabled, runs.is_some()),

            (Resource::Key { path, key }, State::Absent) => write_line(host, path, key, None),
            (Resource::Key { path, key }, State::Line { raw }) => write_line(host, path, key, Some(raw)),
            (resource, state) => bail!("{} cannot become “{state}”", resource.name()),
        }
    }

    /// Removes what a crash in the middle of [`Resource::set`] can leave beside the resource.
    pub fn sweep(&self, host: &Host) -> Result<()> {
        match self {
            Resource::Link { path } | Resource::File { path } | Resource::Program { path } => {
                remove_if_there(&draft(&host.path(path)?))
            }
            Resource::Key { path, .. } => remove_if_there(&draft(&host.target(path)?)),
            Resource::Prefix { .. }
            | Resource::Dir { .. }
            | Resource::Cache { .. }
            | Resource::Account { .. }
            | Resource::Unit { .. } => Ok(()),
        }
    }
}

/// What a running unit of ours was started with.
fn started_as(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let told =
        bytes.split(|b| *b == 0).find_map(|pair| pair.strip_prefix(STARTED_AS_VARIABLE.as_bytes())?.strip_prefix(b"="));
    told.map_or("unknown".into(), |value| String::from_utf8_lossy(value).into_owned())
}

/// Where something goes that `--force` put out of a link's way. Not `*.jar`, so that no Java
/// class path picks it up.
fn aside(real: &Path) -> PathBuf {
    let mut name = real.file_name().unwrap_or_default().to_os_string();
    name.push(".before-emr-shs");
    real.with_file_name(name)
}

fn write_line(host: &Host, path: &Path, key: &str, line: Option<&str>) -> Result<()> {
    let real = host.target(path)?;
    let (mode, owner) = match metadata(&real)? {
        Some(meta) => (meta.mode() & 0o7777, Some((meta.uid(), meta.gid()))),
        None if line.is_none() => return Ok(()),
        None => (0o644, None),
    };
    let mut file = read_defaults(host, path)?;
    let before = file.to_bytes();
    file.set_line(key, line);
    let after = file.to_bytes();
    if after == before { Ok(()) } else { host.write_atomic(path, &after, mode, owner) }
}

fn metadata(real: &Path) -> Result<Option<std::fs::Metadata>> {
    match fs::symlink_metadata(real) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn kind(meta: &std::fs::Metadata) -> &'static str {
    match meta {
        m if m.is_dir() => "a directory",
        m if m.is_symlink() => "a symbolic link",
        m if m.is_file() => "a regular file",
        _ => "a special file",
    }
}

fn in_the_way(path: &Path, found: &str, wanted: &str) -> Fault {
    Fault::preflight(format!("{} is not ours to change", path.display()))
        .detail(format!("found {found}, wanted {wanted}"))
        .hint(format!("move it away: mv {0} {0}.old", path.display()))
}
