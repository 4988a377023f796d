//! Buckets of event logs, whose objects the gateway fetches whole. Each request passes the same budget as those for logs of
//! containers.

use super::Archive;
use super::bucket::{BucketStore, GET, LIST, LogBucket, Source, with_timeout, within_budget};
use super::error::LogError;
use crate::aws::listing::{self, Names};
use crate::aws::uri::LogUri;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long S3 can take until it begins an answer. Whoever waits sees a page, so that this may be longer than for a click on a log.
const ANSWER: Duration = Duration::from_secs(20);
/// How many pages of a thousand objects the directory of a rolling log can take.
const MAX_PAGES: usize = 20;
/// What Spark puts behind the name of a log that it has not finished.
const IN_PROGRESS: &str = ".inprogress";

/// An object of an event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventLogObject {
    /// The whole key.
    pub(crate) key: String,
    pub(crate) size: u64,
    /// In seconds since 1970.
    pub(crate) modified: i64,
    /// Empty if the store names none.
    pub(crate) etag: String,
}

/// Why a part of an object was not read.
pub(crate) enum PartError {
    /// The object is gone, or is another one by now.
    Changed,
    Failed(LogError),
}

impl Archive {
    /// A bucket of event logs.
    pub(crate) fn event_log_bucket(&self, bucket: &str, store: BucketStore) -> LogBucket {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(Duration::from_secs(3)).operation_attempt_timeout(ANSWER).build();
        let config = self.source.config.to_builder().timeout_config(timeouts);
        let config = config.retry_config(RetryConfig::standard().with_max_attempts(3)).build();
        let source =
            Source { config, credentials: self.source.credentials.clone(), budget: self.source.budget.clone() };
        let uri = LogUri { bucket: bucket.into(), prefix: String::new() };
        LogBucket::new(uri, 0, store, Arc::new(source))
    }
}

impl LogBucket {
    /// The objects directly in a directory, or the first ones whose keys begin with the key of a log. The log itself is among those, and
    /// the same before Spark has finished it.
    pub(crate) async fn event_log_objects(&self, prefix: &str) -> Result<Vec<EventLogObject>, LogError> {
        let client = self.s3().await?;
        let (mut objects, mut token) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let request = listing::request(client, &self.uri.bucket, prefix).delimiter("/");
            let request = match prefix.ends_with('/') {
                true => request,
                // The log itself comes first.
                false => request.max_keys(10),
            };
            let answer = with_timeout(request.set_continuation_token(token.take()).send()).await;
            let page = match answer.map_err(|error| self.note_silence(error))? {
                Ok(page) => page,
                Err(error) => return Err(self.list_refusal(prefix, within_budget(&error)?.meaning(LIST))),
            };
            objects.extend(page.objects().map(|(key, object)| EventLogObject {
                key,
                size: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
                modified: object.last_modified().map_or(0, DateTime::secs),
                etag: object.e_tag().unwrap_or_default().to_string(),
            }));
            match page.next_continuation_token().filter(|_| prefix.ends_with('/')) {
                Some(next) => token = Some(next.to_string()),
                None if page.is_truncated() == Some(true) && !has_log(&objects, prefix) => {
                    // The names of other logs can begin alike, and come before the one that is not finished.
                    let unfinished = format!("{prefix}{IN_PROGRESS}");
                    return Box::pin(self.event_log_objects(&unfinished)).await;
                }
                None => return Ok(objects),
            }
        }
        Err(LogError::Unreachable(format!("S3 lists more than {MAX_PAGES},000 objects in this directory")))
    }

    /// Begins to read some bytes of an object, as long as it is the same object.
    pub(crate) async fn event_log_part(
        &self,
        object: &EventLogObject,
        range: Range<u64>,
    ) -> Result<ByteStream, PartError> {
        let client = self.s3().await.map_err(PartError::Failed)?;
        let etag = Some(object.etag.clone()).filter(|etag| !etag.is_empty());
        let request = client.get_object().bucket(&self.uri.bucket).key(&object.key).set_if_match(etag);
        let answer = request.range(format!("bytes={}-{}", range.start, range.end - 1)).send().await;
        match answer {
            Ok(answer) if is_part(&answer, object.size, &range) => Ok(answer.body),
            Ok(_) => Err(PartError::Changed),
            Err(error) if error.raw_response().is_some_and(|a| [404, 412, 416].contains(&a.status().as_u16())) => {
                Err(PartError::Changed)
            }
            Err(error) => {
                let error = within_budget(&error).map_err(PartError::Failed)?.meaning(GET);
                Err(PartError::Failed(LogError::new(error, self.location(&object.key))))
            }
        }
    }
}

/// Whether the log with this key is among some objects, or need not be looked for elsewhere.
fn has_log(objects: &[EventLogObject], key: &str) -> bool {
    let is_log = |object: &EventLogObject| {
        object.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest == IN_PROGRESS)
    };
    key.ends_with('/') || key.ends_with(IN_PROGRESS) || objects.iter().any(is_log)
}

/// Whether an answer has the bytes that were asked for, of an object of this size.
fn is_part(answer: &GetObjectOutput, size: u64, range: &Range<u64>) -> bool {
    let all = answer.content_range().and_then(|range| range.rsplit_once('/')?.1.parse::<u64>().ok());
    let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
    // A store that does not know ranges sends the whole object.
    all.is_none_or(|all| all == size) && length == Some(range.end - range.start)
}
