//! The directory that the history server reads. Whatever is not complete has a hidden name, which the history server passes over.
//!
//! | name | is |
//! |---|---|
//! | `application_…`, `eventlog_v2_…/` | an event log, under its name in S3 |
//! | `.emr-shs-new-…/` | what is being fetched |
//! | `.emr-shs-old-…` | what is being deleted |
//! | `.emr-shs-cache.json` | which applications the directory has; without it the directory is not the cache's |
//! | `.emr-shs-cache.lock` | locked by the one process that writes |

use super::stored::{Log, Stored};
use crate::error::Fault;
use anyhow::{Context, Result};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use nix::sys::statvfs::statvfs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind::NotFound;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const NEW: &str = ".emr-shs-new-";
const OLD: &str = ".emr-shs-old-";
const STATE: &str = ".emr-shs-cache.json";
const LOCK: &str = ".emr-shs-cache.lock";
/// Readable by the group of the directory, which is the history server's.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// What stays free on the file system: this part of it, and so many bytes at least. YARN takes no work from 90 % on, and HDFS
/// needs room to write.
const FREE_PART: u64 = 20;
const FREE: u64 = 2_000_000_000;

pub(super) struct Directory {
    path: PathBuf,
    next: AtomicU64,
    #[expect(dead_code, reason = "it is locked as long as it is open")]
    lock: File,
}

/// The room of the file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) total: u64,
    pub(super) free: u64,
}

impl Disk {
    /// How many bytes of the file system stay free.
    pub(super) fn kept(self) -> u64 {
        (self.total / FREE_PART).max(FREE)
    }
}

impl Directory {
    /// Opens a directory, which must exist, and takes over what an earlier process has fetched. What it left unfinished is
    /// deleted.
    pub(super) fn open(path: &Path) -> Result<(Self, BTreeMap<String, Stored>)> {
        let option = "--event-log-cache";
        if !fs::metadata(path).is_ok_and(|meta| meta.is_dir()) {
            return Err(Fault::usage(format!("{option}: {} is no directory", path.display()))
                .detail(
                    "wanted a directory that this account can write, and that the history server's account can read",
                )
                .hint("on a node with the index: sudo emr-shs install; if that changes nothing: sudo systemctl restart emr-shs-gateway.service; else make the directory")
                .into());
        }
        let mut options = fs::OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK))?.into_parts().0;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Fault::failed(format!("another emr-shs is using {}", path.display()))
                    .detail("one process at a time may write an event-log cache")
                    .hint("name another directory: --event-log-cache DIR")
                    .into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let directory = Self { path: path.into(), next: AtomicU64::new(0), lock };
        let stored = directory.take_over()?;
        Ok((directory, stored))
    }

    fn take_over(&self) -> Result<BTreeMap<String, Stored>> {
        let state = match fs::read(self.path.join(STATE)) {
            Ok(state) => Some(serde_json::from_slice(&state).unwrap_or_default()),
            Err(error) if error.kind() == NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let is_new = state.is_none();
        let mut stored: BTreeMap<String, Stored> = state.unwrap_or_default();
        stored.retain(|_, stored| stored.logs.iter().all(|log| log.is_safe() && self.has(log)));
        let kept: BTreeSet<String> =
            stored.values().flat_map(|stored| &stored.logs).map(|log| log.name.clone()).collect();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(NEW) || name.starts_with(OLD) {
                remove(&entry.path())?;
            } else if !name.starts_with('.') && !kept.contains(&name) {
                if is_new {
                    return Err(Fault::usage(format!("{} is no event-log cache", self.path.display()))
                        .detail(format!("found {name:?} in it, wanted an empty directory: the cache deletes what it has not fetched itself"))
                        .hint("name another directory: --event-log-cache DIR")
                        .into());
                }
                let is_file = entry.file_type().is_ok_and(|kind| !kind.is_symlink() && !kind.is_fifo());
                match is_file && is_log_name(&name) {
                    true => self.hide(&name)?,
                    false => eprintln!(
                        "warning: {:?} in the event-log cache {} is no event log: emr-shs leaves it alone",
                        name,
                        self.path.display()
                    ),
                }
            }
        }
        Ok(stored)
    }

    /// Whether a log lies here as it was fetched.
    pub(super) fn has(&self, log: &Log) -> bool {
        let is = |path: PathBuf, size: u64, modified: i64| {
            let Ok(meta) = fs::symlink_metadata(path) else { return false };
            meta.is_file() && meta.len() == size && meta.modified().is_ok_and(|at| at == time(modified))
        };
        let base = self.path.join(&log.name);
        log.files.iter().all(|(name, file)| {
            is(if log.is_rolling { base.join(name) } else { base.clone() }, file.size, file.modified)
        })
    }

    pub(super) fn disk(&self) -> Option<Disk> {
        let fs = statvfs(&self.path).ok()?;
        let block = fs.fragment_size();
        Some(Disk { total: fs.blocks() * block, free: fs.blocks_available() * block })
    }

    /// Writes which applications the directory has.
    pub(super) fn save(&self, stored: &BTreeMap<String, Stored>) -> Result<()> {
        let new = self.path.join(format!("{NEW}state"));
        let text = serde_json::to_vec(stored)?;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        std::io::Write::write_all(&mut file, &text)?;
        Ok(fs::rename(&new, self.path.join(STATE))?)
    }

    /// A hidden directory for what is fetched. Dropped, it is deleted with what it still has.
    pub(super) fn staging(&self) -> Result<Staging> {
        let path = self.path.join(format!("{NEW}{}", self.next.fetch_add(1, Ordering::Relaxed)));
        make_directory(&path)?;
        Ok(Staging { path })
    }

    /// Takes a log away: under a hidden name at once, then for good.
    pub(super) fn hide(&self, name: &str) -> Result<()> {
        let old = self.path.join(format!("{OLD}{}", self.next.fetch_add(1, Ordering::Relaxed)));
        match fs::rename(self.path.join(name), &old) {
            Ok(()) => remove(&old),
            Err(error) if error.kind() == NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a log that has changed out of the history server's sight.
    pub(super) fn set_aside(&self, staging: &Staging, before: &Log) -> Result<()> {
        match fs::rename(self.path.join(&before.name), staging.before(before)) {
            Err(error) if error.kind() != NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Gives a log its name. `before` is what was set aside of it: what has not changed of a rolling log is there.
    pub(super) fn put(&self, staging: &Staging, log: &Log, before: Option<&Log>) -> Result<()> {
        let mut staged = staging.path.join(&log.name);
        if let Some(before) = before.filter(|_| log.is_rolling) {
            let whole = staging.before(before);
            for name in before.files.keys().filter(|name| !log.files.contains_key(*name)) {
                remove(&whole.join(name))?;
            }
            for name in log.files.keys().filter(|name| staged.join(name).exists()) {
                fs::rename(staged.join(name), whole.join(name))?;
            }
            staged = whole;
        } else if let Some(before) = before.filter(|_| !staged.exists()) {
            // Nothing was fetched, because only the facts about the log have changed: the file that was set aside gets its name back.
            staged = staging.before(before);
        }
        if log.is_rolling {
            finish_directory(&staged, log)?;
        }
        Ok(fs::rename(staged, self.path.join(&log.name))?)
    }
}

/// A hidden directory for what is fetched.
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    /// Where a log is set aside. No log that is fetched has such a name.
    fn before(&self, log: &Log) -> PathBuf {
        self.path.join(format!(".{}", log.name))
    }

    /// Makes the file for an object of a log: `name` is its name if the log is a directory.
    pub(super) fn file(&self, log: &str, name: Option<&str>) -> Result<File> {
        let mut path = self.path.join(log);
        if let Some(name) = name {
            if !path.exists() {
                make_directory(&path)?;
            }
            path.push(name);
        }
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(FILE_MODE).open(&path)?.into_parts().0;
        // Whatever the mask of the process is: the history server never asks again for a log that it could not read once.
        file.set_permissions(PermissionsExt::from_mode(FILE_MODE))?;
        Ok(file)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            eprintln!("warning: {error:#}; the next start of the gateway deletes it");
        }
    }
}

/// Its files inherit the group from the directory above, as long as nobody changes its mode before they are there.
fn make_directory(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.mode(DIRECTORY_MODE).create(path).with_context(|| format!("cannot make {}", path.display()))
}

/// Gives the directory of a rolling log its mode and its time.
fn finish_directory(path: &Path, log: &Log) -> Result<()> {
    let directory = fs::File::open(path)?.into_parts().0;
    let mode = directory.metadata()?.permissions().mode();
    if mode & DIRECTORY_MODE != DIRECTORY_MODE {
        directory.set_permissions(PermissionsExt::from_mode(mode & 0o7777 | DIRECTORY_MODE))?;
    }
    Ok(directory.set_modified(time(log.modified()))?)
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A time of S3, which has seconds.
pub(super) fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Whether a name can be that of an event log.
fn is_log_name(name: &str) -> bool {
    crate::node::event_logs::EventLogName::of_entry(name, 1, None).is_some_and(|name| name.is_of_spark)
}
