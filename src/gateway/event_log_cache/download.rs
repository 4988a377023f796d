//! Fetches the objects of event logs from S3 to the disk: parts of an object at the same time, a little memory for each.

use super::directory::{Staging, time};
use super::failure::Failure;
use super::stored::Log;
use crate::gateway::archive::{EventLogObject, LogBucket, LogError, PartError, in_a_task};
use crate::gateway::limits::{EVENT_LOG_PART, EVENT_LOG_WRITE, MAX_EVENT_LOG_PARTS};
use bytes::BytesMut;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::{JoinSet, spawn_blocking};

/// How often a part whose bytes break off is taken up again.
const TRIES: u32 = 4;

/// Why a fetch has not come to its end.
pub(super) enum Broken {
    /// An object is another one than a moment ago.
    Changed,
    Failed(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A log of which some objects are fetched.
pub(super) struct ToFetch<'a> {
    pub(super) log: &'a Log,
    pub(super) bucket: Arc<LogBucket>,
    /// The names of the objects.
    pub(super) files: Vec<String>,
}

/// Fetches objects, and counts their bytes in `done`. The error of the first part that fails ends all others.
pub(super) async fn fetch(
    logs: &[ToFetch<'_>],
    staging: &Arc<Staging>,
    done: &Arc<AtomicU64>,
    has_room: impl Fn() -> Result<(), Failure>,
) -> Result<(), Broken> {
    let mut parts = JoinSet::new();
    for ToFetch { log, bucket, files } in logs {
        for name in files {
            let Some(meta) = log.files.get(name) else { continue };
            let (staging, log_name, in_log) = (staging.clone(), log.name.clone(), log.is_rolling.then(|| name.clone()));
            let made = blocking(move || staging.file(&log_name, in_log.as_deref()).map_err(|e| directory(&e))).await?;
            let file = Arc::new(Destination { file: made, modified: meta.modified });
            let object = Arc::new(EventLogObject {
                key: log.key_of(name),
                size: meta.size,
                modified: meta.modified,
                etag: meta.etag.clone(),
            });
            let mut start = 0;
            while start < object.size {
                let end = object.size.min(start + EVENT_LOG_PART);
                while parts.len() >= MAX_EVENT_LOG_PARTS {
                    next(&mut parts).await?;
                    has_room()?;
                }
                let part = part(bucket.clone(), object.clone(), start..end, file.clone(), done.clone());
                parts.spawn(in_a_task(part));
                start = end;
            }
        }
    }
    while !parts.is_empty() {
        next(&mut parts).await?;
    }
    Ok(())
}

/// A file whose time is set when its last part is written.
struct Destination {
    file: File,
    modified: i64,
}

impl Drop for Destination {
    fn drop(&mut self) {
        // The history server shows this time as that of the last update. Without it, the next start fetches the log again.
        let _ = self.file.set_modified(time(self.modified));
    }
}

async fn next(parts: &mut JoinSet<Result<(), Broken>>) -> Result<(), Broken> {
    match parts.join_next().await {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(broken))) => Err(broken),
        Some(Err(error)) => Err(Failure::Directory(format!("the gateway's own task ended: {error}")).into()),
    }
}

async fn part(
    bucket: Arc<LogBucket>,
    object: Arc<EventLogObject>,
    range: Range<u64>,
    file: Arc<Destination>,
    done: Arc<AtomicU64>,
) -> Result<(), Broken> {
    let mut at = range.start;
    let mut tries = 0;
    loop {
        let mut body = match bucket.event_log_part(&object, at..range.end).await {
            Ok(body) => body,
            Err(PartError::Changed) => return Err(Broken::Changed),
            Err(PartError::Failed(error)) => return Err(s3(&bucket, &object.key, error).into()),
        };
        let mut buffer = BytesMut::new();
        let broken = loop {
            let chunk = body.next().await;
            let (is_end, error) = match chunk {
                Some(Ok(bytes)) => {
                    buffer.extend_from_slice(&bytes);
                    (false, None)
                }
                Some(Err(error)) => (true, Some(crate::aws::error::root_causes(&error))),
                None => (true, None),
            };
            if buffer.len() >= EVENT_LOG_WRITE || is_end && !buffer.is_empty() {
                let bytes = buffer.split().freeze();
                let length = (bytes.len() as u64).min(range.end - at);
                let (file, from) = (file.clone(), at);
                let write = move || {
                    let bytes = &bytes[..usize::try_from(length).unwrap_or(bytes.len())];
                    file.file.write_all_at(bytes, from).map_err(|error| directory(&error.into()))
                };
                blocking(write).await?;
                at += length;
                done.fetch_add(length, Ordering::Relaxed);
            }
            if is_end {
                break error;
            }
        };
        if at == range.end {
            return Ok(());
        }
        tries += 1;
        if tries == TRIES {
            let why = broken.unwrap_or_else(|| "S3 sent fewer bytes than it had announced".into());
            return Err(s3(&bucket, &object.key, LogError::Unreachable(why)).into());
        }
    }
}

pub(super) fn s3(bucket: &LogBucket, key: &str, error: LogError) -> Failure {
    Failure::S3 { uri: format!("s3://{}/{key}", bucket.uri.bucket), error }
}

pub(super) fn directory(error: &anyhow::Error) -> Failure {
    Failure::Directory(format!("{error:#}"))
}

/// Does what waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::Directory(format!("the gateway's own task ended: {error}"))),
    }
}
