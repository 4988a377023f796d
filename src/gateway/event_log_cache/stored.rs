//! An application as it lies in the cache, and how it lies in S3.

use super::failure::Failure;
use super::names::check_name;
use crate::aws::uri::EventLogs;
use crate::gateway::archive::EventLogObject;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An application in the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) logs: Vec<Log>,
    /// When it was last asked for, in seconds since 1970.
    pub(super) used: u64,
}

/// An event log: of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Log {
    pub(super) attempt: Option<String>,
    /// The bucket, and the key of the object or of the directory, as the index tells it.
    pub(super) place: (String, String),
    /// In the cache's directory.
    pub(super) name: String,
    pub(super) is_rolling: bool,
    /// The objects, by the last part of their keys.
    pub(super) files: BTreeMap<String, FileOfLog>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileOfLog {
    pub(super) size: u64,
    /// In seconds since 1970.
    pub(super) modified: i64,
    pub(super) etag: String,
}

impl Log {
    /// The log of a listing of its directory, or of its key without `.inprogress`; `None` if it is not there.
    pub(super) fn of_objects(
        attempt: Option<&str>,
        place: (String, String),
        objects: &[EventLogObject],
    ) -> Result<Option<Self>, Failure> {
        let key = place.1.as_str();
        let is_rolling = key.ends_with('/');
        let name = |key: &str| key.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string();
        let mut files = BTreeMap::new();
        if is_rolling {
            let is_part = |name: &str| name.starts_with("events_") || name.starts_with("appstatus_");
            for object in objects {
                let Some(file) = object.key.strip_prefix(key).filter(|file| is_part(file)) else { continue };
                check_name(file)?;
                files.insert(file.to_string(), FileOfLog::of(object));
            }
            // A rename in S3 is a copy and a deletion: for a moment both states are there.
            let is_finished = |name: &String| name.starts_with("appstatus_") && !name.ends_with(IN_PROGRESS);
            if files.keys().any(is_finished) {
                files.retain(|name, _| !name.starts_with("appstatus_") || is_finished(name));
            }
            if files.is_empty() {
                return Ok(None);
            }
        } else {
            let stem = without_progress(key);
            let of_key = |wanted: &str| objects.iter().find(|object| object.key == wanted);
            let Some(object) = of_key(stem).or_else(|| of_key(&format!("{stem}{IN_PROGRESS}"))) else {
                return Ok(None);
            };
            files.insert(name(&object.key), FileOfLog::of(object));
        }
        let name = if is_rolling { name(key) } else { files.keys().next().cloned().unwrap_or_default() };
        check_name(&name)?;
        Ok(Some(Self { attempt: attempt.map(str::to_string), place, name, is_rolling, files }))
    }

    /// Whether every name can be that of a file.
    pub(super) fn is_safe(&self) -> bool {
        self.files.keys().chain([&self.name]).all(|name| check_name(name).is_ok())
    }

    pub(super) fn size(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// When its newest object was written.
    pub(super) fn modified(&self) -> i64 {
        self.files.values().map(|file| file.modified).max().unwrap_or(0)
    }

    /// Whether Spark still writes it, as far as its names tell.
    pub(super) fn is_open(&self) -> bool {
        match self.is_rolling {
            true => !self.files.keys().any(|name| name.starts_with("appstatus_") && !name.ends_with(IN_PROGRESS)),
            false => self.name.ends_with(IN_PROGRESS),
        }
    }

    /// The bucket and the key of one of its objects.
    pub(super) fn key_of(&self, file: &str) -> String {
        let (_, key) = &self.place;
        let directory = key.rfind('/').map_or("", |at| &key[..=at]);
        format!("{directory}{file}")
    }

    pub(super) fn uri(&self) -> String {
        let (bucket, key) = &self.place;
        format!("s3://{bucket}/{key}")
    }

    /// Whether it is the same log as another, perhaps at another time.
    pub(super) fn is_same_log(&self, other: &Self) -> bool {
        let (bucket, key) = &self.place;
        let (others_bucket, others_key) = &other.place;
        bucket == others_bucket && without_progress(key) == without_progress(others_key)
    }

    /// What has to be fetched to come from `before` to this log.
    pub(super) fn new_files(&self, before: Option<&Self>) -> Vec<(&String, &FileOfLog)> {
        let is_new = |(name, file): &(&String, &FileOfLog)| {
            before.is_none_or(|before| before.files.get(*name).is_none_or(|old| old != *file))
        };
        self.files.iter().filter(is_new).collect()
    }
}

impl FileOfLog {
    fn of(object: &EventLogObject) -> Self {
        Self { size: object.size, modified: object.modified, etag: object.etag.clone() }
    }
}

/// Whether the place of a log, its bucket and its key, lies below one of the sources. Without sources, every place does.
pub(super) fn is_within(sources: &[EventLogs], (bucket, key): &(String, String)) -> bool {
    sources.is_empty() || sources.iter().any(|source| source.bucket == *bucket && key.starts_with(&source.prefix))
}

/// What Spark puts behind the name of a log that it has not finished.
const IN_PROGRESS: &str = ".inprogress";

/// The name of a log once it is finished.
pub(super) fn without_progress(key: &str) -> &str {
    key.strip_suffix(IN_PROGRESS).unwrap_or(key)
}
