//! The resources that emr-shs may own, their states, and the one function that changes them.
//!
//! A **resource** is named by what identifies it. Its **state** is observed or desired. [`Resource::observe`] only
//! reads. [`Resource::set`] is the only function of the product that changes a node or a bucket for good; [`Resource::enable`]
//! does the first step for several units.

mod account;
mod files;
mod program;
mod socket;
mod state;

pub(crate) use program::{Program, short_digest};
pub(crate) use state::State;

use crate::aws::s3::S3;
use crate::aws::uri::EventLogs;
use crate::host::{Host, is_absence};
use crate::paths::{OWN_UNITS, STARTED_AS_VARIABLE, UNIT_DIR};
use crate::systemd;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A thing that emr-shs may own. Paths are the node's. The receipt keeps resources, so a variant must stay readable
/// for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Resource {
    /// Some object under an S3 prefix, so that Spark finds a directory there. emr-shs makes it and never deletes it:
    /// S3A may have replaced the object, and other clusters may use the prefix.
    Prefix { uri: EventLogs },
    /// A directory for files of emr-shs. emr-shs removes it only when it is empty.
    Dir { path: PathBuf },
    /// A directory that the history server fills with what it can make again. emr-shs removes it with its content.
    Cache { path: PathBuf },
    /// A directory in which an account of emr-shs keeps what it can make again. emr-shs removes it with its content. The
    /// account may be made by the same run, so the state names no owner.
    AccountDir {
        path: PathBuf,
        account: String,
        /// The account whose group may read what lies there; nobody else may look into it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reader: Option<String>,
    },
    /// A symbolic link.
    Link { path: PathBuf },
    /// A small text file.
    File { path: PathBuf },
    /// A system account.
    Account { name: String },
    /// A copy of this program, named after its content.
    Program { path: PathBuf },
    /// A systemd unit of emr-shs: whether it starts at boot, and whether it runs; a socket runs while systemd listens.
    Unit { name: String },
    /// One key of spark-defaults.conf. Not the file, because EMR rewrites the file and others edit it.
    Key { path: PathBuf, key: String },
}

impl Resource {
    /// Whether the resource is this unit.
    pub(crate) fn is_unit(&self, unit: &str) -> bool {
        matches!(self, Resource::Unit { name } if name == unit)
    }

    /// Whether the resource is this key of spark-defaults.conf.
    pub(crate) fn is_key(&self, wanted: &str) -> bool {
        matches!(self, Resource::Key { key, .. } if key == wanted)
    }

    /// The name by which people know the resource.
    pub(crate) fn name(&self) -> String {
        match self {
            Resource::Prefix { uri } => uri.to_string(),
            Resource::Dir { path } | Resource::Cache { path } | Resource::AccountDir { path, .. } => {
                format!("{}/", path.display())
            }
            Resource::Account { name } => format!("user {name}"),
            Resource::Unit { name } => name.clone(),
            Resource::Program { path } | Resource::Link { path } => path.display().to_string(),
            Resource::File { path } => {
                let is_own_unit = OWN_UNITS.iter().any(|unit| path.ends_with(unit));
                let short = path.strip_prefix(UNIT_DIR).ok().filter(|_| !is_own_unit);
                short.unwrap_or(path).display().to_string()
            }
            Resource::Key { key, .. } => key.clone(),
        }
    }

    /// Reads the state. Changes nothing.
    pub(crate) fn observe(&self, host: &Host) -> Result<State> {
        match self {
            Resource::Prefix { uri } => Ok(match &host.s3 {
                Some(s3) if prefix_exists(host, s3, uri)? => State::Exists,
                _ => State::Absent,
            }),
            Resource::Dir { path } | Resource::Cache { path } => files::observe_dir(host, path),
            Resource::AccountDir { path, account, reader } => {
                files::observe_account_dir(host, path, account, reader.as_deref())
            }
            Resource::Link { path } => files::observe_link(host, path),
            Resource::File { path } => files::observe_file(host, path),
            Resource::Account { name } => Ok(if host.account(name).is_some() { State::Exists } else { State::Absent }),
            Resource::Program { path } => files::observe_program(host, path),
            Resource::Unit { name } if is_socket(name) => socket::observe(name),
            Resource::Unit { name } => {
                let unit = systemd::show(name)?;
                let runs = unit.main_pid.filter(|_| unit.active == "active").map(started_as);
                Ok(State::Unit { enabled: unit.enabled, runs })
            }
            Resource::Key { path, key } => files::observe_key(host, path, key),
        }
    }

    /// Brings the resource from a state into another one. A resource that is in neither is somebody else's work, and
    /// an error.
    pub(crate) fn set(&self, host: &Host, before: &State, state: &State) -> Result<()> {
        if host.is_live() && matches!(self, Resource::File { path } if path.starts_with(UNIT_DIR)) {
            systemd::unit_files_changed();
        }
        match (self, state) {
            (Resource::Prefix { uri }, State::Exists) => make_prefix(host, uri),
            (Resource::Prefix { .. }, State::Absent) => Ok(()),
            (Resource::Dir { path }, State::Absent) => files::remove_empty_dir(host, path),
            (Resource::Cache { path } | Resource::AccountDir { path, .. }, State::Absent) => {
                files::remove_dir_with_content(host, path)
            }
            (
                Resource::Dir { path } | Resource::Cache { path } | Resource::AccountDir { path, .. },
                State::Dir { mode, owner },
            ) => files::make_dir(host, path, before, *mode, *owner),
            (Resource::AccountDir { path, account, reader }, State::Exists) => {
                files::make_account_dir(host, path, before, account, reader.as_deref())
            }
            (Resource::Link { path }, State::Absent) => files::remove(host, path),
            (Resource::File { path }, State::Absent) => files::remove_file(host, path, before),
            (Resource::Link { path }, State::Link { target }) => files::make_link(host, path, before, target),
            (Resource::Link { path }, State::Occupied { .. }) => files::bring_back(host, path),
            (Resource::File { path }, State::File { content, mode, owner }) => {
                files::write_file(host, path, before, content.as_bytes(), *mode, *owner)
            }
            (Resource::Account { name }, State::Exists) => account::create(host, name),
            (Resource::Account { name }, State::Absent) => account::remove(name),
            (Resource::Program { path }, State::Exists) => Program::this_at(path)?.install(host),
            (Resource::Program { path }, State::Absent) => files::remove(host, path),
            (Resource::Unit { name }, State::Unit { enabled, runs }) if is_socket(name) => {
                socket::switch(name, *enabled, runs.as_ref())
            }
            (Resource::Unit { name }, State::Unit { enabled, runs }) => systemd::switch(name, *enabled, runs.is_some()),
            (Resource::Key { path, key }, State::Absent) => files::write_line(host, path, key, before, None),
            (Resource::Key { path, key }, State::Line { raw }) => files::write_line(host, path, key, before, Some(raw)),
            (resource, state) => bail!("{} cannot become “{state}”", resource.name()),
        }
    }

    /// Makes units start at boot, before the first of them is set: systemd reads all unit files again afterwards, which takes
    /// as long as all else that is to be done for a unit.
    pub(crate) fn enable(units: &[&str]) -> Result<()> {
        systemd::enable(units, true)
    }

    /// Removes what a crash in the middle of [`Resource::set`] can leave beside the resource.
    pub(crate) fn sweep(&self, host: &Host) -> Result<()> {
        let place = match self {
            Resource::Link { path } | Resource::File { path } | Resource::Program { path } => host.place(path),
            Resource::Key { path, .. } => host.target_place(path),
            Resource::Prefix { .. }
            | Resource::Dir { .. }
            | Resource::Cache { .. }
            | Resource::AccountDir { .. }
            | Resource::Account { .. }
            | Resource::Unit { .. } => return Ok(()),
        };
        match place {
            Ok(place) => Ok(place.draft()?.remove_file()?),
            Err(e) if e.downcast_ref::<std::io::Error>().is_some_and(is_absence) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

fn is_socket(unit: &str) -> bool {
    unit.ends_with(".socket")
}

/// Whether the prefix exists: as S3 tells emr-shs, else as it tells Hadoop's own client.
fn prefix_exists(host: &Host, s3: &S3, uri: &EventLogs) -> Result<bool> {
    let refusal = match (s3.prefix_exists(uri), &host.hadoop) {
        (Err(refusal), Some(_)) => refusal,
        (answer, _) => return Ok(answer?),
    };
    let answer = host.hadoop.as_ref().map(|hadoop| (hadoop.exists)(uri));
    answer.unwrap_or(Ok(false)).map_err(|no| refusal.fault.detail(no.as_detail()).into())
}

/// Makes the prefix: as emr-shs, and with Hadoop's own client where S3 refuses that; in the other order where the client
/// knows better.
fn make_prefix(host: &Host, uri: &EventLogs) -> Result<()> {
    let by_hadoop = || host.hadoop.as_ref().map(|hadoop| (hadoop.make)(uri));
    let first = host.hadoop.as_ref().is_some_and(|hadoop| hadoop.comes_first).then(by_hadoop).flatten();
    if matches!(first, Some(Ok(()))) {
        return Ok(());
    }
    let refusal = match host.s3.as_ref().context("there is no connection to S3")?.create_prefix(uri) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    match first.or_else(by_hadoop) {
        Some(Ok(())) => Ok(()),
        Some(Err(no)) => Err(refusal.fault.detail(no.as_detail()).into()),
        None => Err(refusal.into()),
    }
}

/// The digest with which a running unit started.
fn started_as(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let value =
        bytes.split(|b| *b == 0).find_map(|pair| pair.strip_prefix(STARTED_AS_VARIABLE.as_bytes())?.strip_prefix(b"="));
    value.map_or("unknown".into(), |value| String::from_utf8_lossy(value).into_owned())
}
