//! The requests that the index sends to S3, and how many.

use super::layout::Object;
use crate::aws::error::{S3Error, S3Failure};
use crate::aws::listing::{self, Names};
use crate::aws::s3::{RequestOptions, S3};
use crate::aws::uri::EventLogs;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use bytes::Bytes;
use serde::Serialize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How many requests were sent, each attempt counted, because each is billed.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    list: AtomicU64,
    get: AtomicU64,
    put: AtomicU64,
}

/// [`Requests`] at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sent {
    pub(crate) list: u64,
    pub(crate) get: u64,
    pub(crate) put: u64,
}

impl Requests {
    pub(crate) fn sent(&self) -> Sent {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Sent { list: read(&self.list), get: read(&self.get), put: read(&self.put) }
    }
}

#[derive(Debug)]
struct Counting(Arc<Requests>);

impl Intercept for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let number = match config.load::<Metadata>().map_or("", Metadata::name) {
            "ListObjectsV2" => &self.0.list,
            "PutObject" => &self.0.put,
            _ => &self.0.get,
        };
        number.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) const LIST: &str = "s3:ListBucket";
pub(crate) const GET: &str = "s3:GetObject";
pub(crate) const PUT: &str = "s3:PutObject";
/// How the problem of a log begins that these credentials must not read; the action follows.
const NOT_ALLOWED: &str = "reading it is not allowed (";

/// Why a listing did not come to its end.
pub(crate) enum ListingError {
    S3(S3Error),
    /// The answer is none that S3 gives.
    Odd(&'static str),
    Store(anyhow::Error),
}

impl From<S3Error> for ListingError {
    fn from(error: S3Error) -> Self {
        Self::S3(error)
    }
}

impl From<anyhow::Error> for ListingError {
    fn from(error: anyhow::Error) -> Self {
        Self::Store(error)
    }
}

/// How long the bytes of an answer may take.
const BODY: Duration = Duration::from_secs(60);

/// A source in S3.
#[derive(Clone)]
pub(crate) struct Remote {
    client: Client,
    bucket: String,
    prefix: String,
    options: RequestOptions,
}

/// A page of a listing, with keys below the source's prefix.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    /// Each with a slash at its end.
    pub(crate) directories: Vec<String>,
    /// Where the next page begins; `None` behind the last page.
    pub(crate) next: Option<String>,
}

/// Why a range of an object was not read.
#[derive(Debug)]
pub(crate) enum NotRead {
    /// The object is gone, or is another one by now.
    Changed,
    /// S3 refuses this object: why.
    Refused(String),
    /// S3 does not answer as it should, whatever the object is: why.
    Silent(String),
}

/// An object, or that there is none, and its tag.
pub(crate) type Tagged = Option<(ByteStream, Option<u64>, String)>;

/// Why an object was not written.
#[derive(Debug)]
pub(crate) enum NotWritten {
    /// Somebody else has written it meanwhile.
    Outrun,
    /// The store does not know conditional writes.
    Unconditional,
    Failed(S3Error),
}

/// Under which condition an object is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition<'a> {
    Always,
    Absent,
    Is(&'a str),
}

impl Remote {
    pub(crate) fn new(s3: &S3, uri: &EventLogs, requests: &Arc<Requests>) -> Self {
        Self {
            client: s3.client_with(Counting(requests.clone())),
            bucket: uri.bucket.clone(),
            prefix: uri.prefix.clone(),
            options: s3.options.clone(),
        }
    }

    fn key(&self, below: &str) -> String {
        format!("{}{below}", self.prefix)
    }

    /// A page of what lies in a directory, at any depth or directly, behind a key. `next` is that of the page before.
    pub(crate) async fn page(
        &self,
        directory: &str,
        after: Option<&str>,
        is_deep: bool,
        next: Option<String>,
    ) -> Result<Page, ListingError> {
        let mut request = listing::request(&self.client, &self.bucket, &self.key(directory))
            .set_request_payer(self.options.payer())
            .set_delimiter((!is_deep).then(|| "/".to_string()));
        let asked = next.clone();
        request = match next {
            Some(token) => request.continuation_token(token),
            None => request.set_start_after(after.map(|key| self.key(key))),
        };
        let page = request.send().await.map_err(|error| S3Error::new(&error, LIST))?;
        let below = |key: String| key.strip_prefix(&self.prefix).map(str::to_string);
        let objects = page.objects().filter_map(|(key, object)| {
            Some(Object {
                key: below(key)?,
                size: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
                modified: object.last_modified().map_or(0, DateTime::secs),
                etag: object.e_tag().unwrap_or_default().trim_matches('"').to_string(),
            })
        });
        let objects = objects.collect();
        let directories = page.directories().filter_map(below).collect();
        let next = page.next_continuation_token().filter(|_| page.is_truncated() == Some(true)).map(str::to_string);
        if next.is_none() && page.is_truncated() == Some(true) {
            return Err(ListingError::Odd("a page of the listing says that more follow, and not where"));
        }
        if next.is_some() && next == asked {
            return Err(ListingError::Odd("a page of the listing names itself as the next one"));
        }
        Ok(Page { objects, directories, next })
    }

    /// Reads some bytes of an object of `size` bytes.
    pub(crate) async fn range(&self, key: &str, range: &Range<u64>, size: u64) -> Result<Bytes, NotRead> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(key));
        let request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
        let answer = request.set_request_payer(self.options.payer()).send().await.map_err(|e| not_read(&e))?;
        let all = answer.content_range().and_then(|range| range.rsplit_once('/')?.1.parse::<u64>().ok());
        if all.is_some_and(|all| all != size) {
            return Err(NotRead::Changed);
        }
        let wanted = range.end - range.start;
        if answer.content_length().is_some_and(|length| u64::try_from(length).is_ok_and(|length| length > wanted)) {
            return Err(NotRead::Silent("S3 sends more bytes than were asked for".into()));
        }
        let Ok(body) = timeout(BODY, answer.body.collect()).await else {
            return Err(NotRead::Silent(format!("S3 did not send all bytes within {} s", BODY.as_secs())));
        };
        let body =
            body.map_err(|e| NotRead::Silent(format!("S3 broke off: {}", crate::aws::error::root_causes(&e))))?;
        Ok(body.into_bytes())
    }

    /// Reads an object from its first byte on, piece by piece.
    pub(crate) async fn stream(&self, key: &str, size: u64) -> Result<ByteStream, NotRead> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(key));
        let answer = request.set_request_payer(self.options.payer()).send().await.map_err(|e| not_read(&e))?;
        if answer.content_length().is_some_and(|length| u64::try_from(length) != Ok(size)) {
            return Err(NotRead::Changed);
        }
        Ok(answer.body)
    }

    /// An object as it is now, with its size and its tag.
    pub(crate) async fn get(&self, key: &str) -> Result<Tagged, S3Error> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(key));
        match request.set_request_payer(self.options.payer()).send().await {
            Ok(answer) => {
                let tag = answer.e_tag().unwrap_or_default().to_string();
                let size = answer.content_length().and_then(|size| size.try_into().ok());
                Ok(Some((answer.body, size, tag)))
            }
            Err(error) => match S3Error::new(&error, GET) {
                S3Error { failure: S3Failure::NotFound, .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Writes an object, encrypted and shared as everything that this node writes.
    pub(crate) async fn put(&self, key: &str, body: Bytes, condition: Condition<'_>) -> Result<(), NotWritten> {
        let request = self.client.put_object().bucket(&self.bucket).key(self.key(key)).body(body.into());
        let request = self.options.of_new_object(request);
        let request = match condition {
            Condition::Always => request,
            Condition::Absent => request.if_none_match("*"),
            Condition::Is(tag) => request.if_match(tag),
        };
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let status = error.raw_response().map(|answer| answer.status().as_u16());
                Err(match status {
                    // 409: another conditional write is under way. 404: the object that was to be replaced is gone.
                    Some(412 | 409) => NotWritten::Outrun,
                    Some(404) if matches!(condition, Condition::Is(_)) => NotWritten::Outrun,
                    Some(501) => NotWritten::Unconditional,
                    _ => NotWritten::Failed(S3Error::new(&error, PUT)),
                })
            }
        }
    }
}

fn not_read(error: &SdkError<GetObjectError>) -> NotRead {
    let error = S3Error::new(error, GET);
    match &error.failure {
        S3Failure::NotFound | S3Failure::InvalidRange => NotRead::Changed,
        S3Failure::Denied { action, .. } => NotRead::Refused(format!("{NOT_ALLOWED}{action})")),
        S3Failure::Archived { class } => {
            NotRead::Refused(format!("it is archived ({class}) and must be restored first"))
        }
        S3Failure::NoAnswer(why) => NotRead::Silent(format!("S3 did not answer: {why}")),
        S3Failure::NoCredentials(why) => NotRead::Silent(format!("no credentials: {why}")),
        _ if error.lacks_customer_key() => NotRead::Refused(CUSTOMER_KEY.into()),
        // A clock or a bucket that is wrong is wrong for each object.
        S3Failure::Busy | S3Failure::ClockSkew | S3Failure::WrongRegion | S3Failure::NoSuchBucket => {
            NotRead::Silent(format!("S3 answered {}", error.answer()))
        }
        _ => NotRead::Refused(format!("S3 answered {}", error.answer())),
    }
}

const CUSTOMER_KEY: &str = "it is encrypted with a key that only its writer has (SSE-C), so neither emr-shs nor the history \
    server can show it with the keys that they know";

/// The permission whose lack the text of a problem names.
pub(crate) fn missing_permission(problem: &str) -> Option<&str> {
    problem.strip_prefix(NOT_ALLOWED)?.strip_suffix(')')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{NotRead, missing_permission, not_read};
    use aws_sdk_s3::error::{ErrorMetadata, SdkError};
    use aws_sdk_s3::operation::get_object::GetObjectError;
    use aws_sdk_s3::primitives::SdkBody;
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

    fn problem(status: u16, code: &str, message: &str) -> String {
        let answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        let meta = ErrorMetadata::builder().code(code).message(message).build();
        match not_read(&SdkError::service_error(GetObjectError::generic(meta), answer)) {
            NotRead::Refused(why) => why,
            _ => "something else".into(),
        }
    }

    #[test]
    fn what_s3_refuses_is_told_with_the_permission_or_the_key_that_is_missing() {
        let denied = problem(403, "AccessDenied", "Access Denied");
        assert_eq!(missing_permission(&denied), Some("s3:GetObject"), "{denied}");
        let kms = "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-3:1:key/k";
        let denied = problem(403, "AccessDenied", kms);
        assert_eq!(missing_permission(&denied), Some("kms:Decrypt"), "{denied}");
        let sse_c = "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.";
        let secret = problem(400, "InvalidRequest", sse_c);
        assert!(secret.contains("(SSE-C)") && missing_permission(&secret).is_none(), "{secret}");
        assert_eq!(problem(400, "InvalidRequest", "Other"), "S3 answered 400 InvalidRequest Other");
    }
}
