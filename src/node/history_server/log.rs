//! The history server's log file.

use crate::files;
use crate::node::log_diagnosis::{self, Diagnosis};
use crate::node::spark::Spark;
use fs_err as fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// At most this much of the end of a log is read.
pub(crate) const LOG_TAIL: u64 = 4 << 20;
/// How many bytes at the beginning of a log tell one log from its successor.
const HEAD: u64 = 512;

/// A position in the log. Later, [`since`](Self::since) returns what was written after it.
pub(super) struct LogPosition {
    pub(super) path: PathBuf,
    length: u64,
    head: Vec<u8>,
}

impl LogPosition {
    /// The present end of the log.
    pub(super) fn end(spark: &Spark) -> Self {
        let path = log_file(spark);
        let length = fs::metadata(&path).map_or(0, |m| m.len());
        Self { head: head(&path), path, length }
    }

    /// What was written after the position. EMR's start script truncates the log (`docs/emr.md §3.1`), so a log
    /// with another head is new and counts as a whole.
    pub(super) fn since(&self) -> String {
        let is_same_log = !self.head.is_empty() && head(&self.path).starts_with(&self.head);
        let from = |length: u64| if is_same_log && length >= self.length { self.length } else { 0 };
        read_from(&self.path, from).unwrap_or_default()
    }
}

/// An unreadable log has an empty head, so it counts as new.
fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = files::open(path) {
        let _ = file.take(HEAD).read_to_end(&mut head);
    }
    head
}

fn read_from(path: &Path, from: impl Fn(u64) -> u64) -> io::Result<String> {
    let mut file = files::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from(length).max(length.saturating_sub(LOG_TAIL))))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The log that EMR's unit writes; without one, the newest log of Spark's own start scripts.
pub(crate) fn log_file(spark: &Spark) -> PathBuf {
    let dir = spark.log_dir();
    let of_emr = dir.join("spark-history-server.out");
    if of_emr.exists() {
        return of_emr;
    }
    let logs = fs::read_dir(&dir).into_iter().flatten().flatten().filter(|e| {
        let name = e.file_name();
        let name = name.to_string_lossy();
        name.contains("HistoryServer") && name.ends_with(".out")
    });
    logs.max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok()).map_or(of_emr, |e| e.path())
}

/// Why nothing of the log could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoLog {
    Missing,
    /// This user must not read it.
    Denied,
    /// Something else has its place, such as a pipe, or it cannot be read for another reason.
    Unreadable(String),
}

/// The end of the log, and how long ago the server last wrote to it.
pub(crate) fn log_tail(spark: &Spark) -> Result<(String, Duration), NoLog> {
    let path = log_file(spark);
    let text = read_from(&path, |_| 0).map_err(|e| match e.kind() {
        ErrorKind::NotFound => NoLog::Missing,
        ErrorKind::PermissionDenied => NoLog::Denied,
        _ => NoLog::Unreadable(e.to_string()),
    })?;
    let age = fs::metadata(&path).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
    Ok((text, age.unwrap_or_default()))
}

/// The first known error in the present log, for a server that has died.
pub(crate) fn first_known_error(spark: &Spark) -> Option<Diagnosis> {
    log_diagnosis::diagnose(&log_tail(spark).ok()?.0)
}
