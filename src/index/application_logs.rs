//! The event logs of one application, and where they lie.

use super::store::connected;
use anyhow::Result;
use rusqlite::Row;
use std::path::Path;

/// The event log of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApplicationLog {
    pub(crate) attempt: Option<String>,
    /// The URI of the source.
    pub(crate) source: String,
    /// Below the source's prefix. That of a rolling log ends in a slash.
    pub(crate) key: String,
    /// In bytes.
    pub(crate) size: u64,
    /// In seconds since 1970.
    pub(crate) modified: i64,
    /// Whether the log's name says that Spark has finished writing it.
    pub(crate) is_closed: bool,
}

impl ApplicationLog {
    pub(crate) fn is_rolling(&self) -> bool {
        self.key.ends_with('/')
    }

    /// The last part of the key: the name under which the history server shows the log.
    pub(crate) fn name(&self) -> &str {
        self.key.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            attempt: row.get(0)?,
            source: row.get(1)?,
            key: row.get(2)?,
            size: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
            modified: row.get(4)?,
            is_closed: row.get(5)?,
        })
    }
}

/// The logs of an application, one for each attempt; none if the index at this path does not know the application, or if there is
/// no index yet. Where several logs tell the same attempt, the one that tells most counts, because the history server shows one.
pub(crate) fn application_logs(index: &Path, id: &str) -> Result<Vec<ApplicationLog>> {
    if !index.exists() {
        return Ok(Vec::new());
    }
    let db = connected(index)?;
    let mut query = db.prepare(
        "SELECT attempt.attempt, source.uri, log.key, log.size, log.modified, log.is_closed
         FROM attempt JOIN log ON log.id = attempt.log JOIN source ON source.id = log.source
         WHERE attempt.app = ?1 AND attempt.is_hidden = 0
         ORDER BY attempt.attempt, log.is_closed DESC, log.size DESC, log.modified DESC, log.source",
    )?;
    let mut logs = query.query_map([id], ApplicationLog::read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    logs.dedup_by(|later, earlier| later.attempt == earlier.attempt);
    Ok(logs)
}
