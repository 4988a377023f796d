//! The bucket of one log URI: how the gateway reaches it, and the requests that the gateway sends to it.

use super::error::LogError;
use super::object::{Location, Object};
use crate::aws::endpoint;
use crate::aws::error::{S3Error, S3Failure};
use crate::aws::listing::{self, Names};
use crate::aws::uri::LogUri;
use crate::gateway::credentials::CredentialsCache;
use crate::gateway::presign::BucketAddress;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long a request of a browser waits for one answer of S3.
pub(crate) const S3_TIMEOUT: Duration = Duration::from_secs(8);
/// How many pages of a thousand objects `list_all` reads.
const MAX_PAGES: usize = 10;

const GET: &str = "s3:GetObject";
const LIST: &str = "s3:ListBucket";

pub(crate) struct LogBucket {
    pub(crate) uri: LogUri,
    /// The log URI's position on the command line.
    position: usize,
    config: SdkConfig,
    endpoint: Option<String>,
    credentials: Arc<CredentialsCache>,
    client: OnceCell<BucketClient>,
    unreachable_reason: Mutex<String>,
}

/// A client for a bucket whose region is known.
pub(crate) struct BucketClient {
    pub(crate) client: Client,
    /// The bucket's address for a browser.
    pub(crate) address: BucketAddress,
    /// The region that signatures must name.
    pub(crate) region: String,
}

impl LogBucket {
    /// Sends no request yet.
    pub(super) fn new(
        uri: LogUri,
        position: usize,
        config: SdkConfig,
        endpoint: Option<String>,
        credentials: Arc<CredentialsCache>,
    ) -> Self {
        let unreachable_reason = Mutex::new("S3 has not answered yet".into());
        Self { uri, position, config, endpoint, credentials, client: OnceCell::new(), unreachable_reason }
    }

    /// The client. The first successful call finds the bucket's region, and later calls return the same
    /// client.
    pub(crate) async fn client(&self) -> Result<&BucketClient, LogError> {
        let client = self.client.get_or_try_init(|| self.find_client()).await;
        if let Err(LogError::Unreachable(why) | LogError::NoCredentials(why)) = &client {
            self.unreachable_reason.lock().unwrap_or_else(PoisonError::into_inner).clone_from(why);
        }
        client
    }

    /// The client, if the bucket's region is known.
    pub(crate) fn known_client(&self) -> Option<&BucketClient> {
        self.client.get()
    }

    /// Why the bucket's region is not known. `None` if it is known.
    pub(super) fn unreachable_reason(&self) -> Option<String> {
        let why = self.unreachable_reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(why).filter(|_| self.client.get().is_none())
    }

    async fn find_client(&self) -> Result<BucketClient, LogError> {
        let store = self.endpoint.as_deref();
        let client = endpoint::client(&self.config, store, None);
        let found = with_timeout(client.head_bucket().bucket(&self.uri.bucket).send()).await?;
        let region = match found.map_err(|e| S3Error::new(&e, LIST)) {
            Ok(found) => found.bucket_region().map(str::to_string),
            Err(error) => self.region_from(error)?,
        };
        let configured = self.config.region().map(ToString::to_string);
        let region = region.or(configured).unwrap_or_else(|| "us-east-1".into());
        let client = endpoint::client(&self.config, store, Some(region.clone()));
        let address = BucketAddress::of(&self.uri.bucket, &region, store).await;
        let address = address.map_err(|e| LogError::Unreachable(format!("{e:#}")))?;
        Ok(BucketClient { client, address, region })
    }

    /// The bucket's region, from an answer that names it although HeadBucket failed.
    fn region_from(&self, error: S3Error) -> Result<Option<String>, LogError> {
        match error.failure {
            S3Failure::WrongRegion | S3Failure::Denied { .. } => Ok(error.region),
            S3Failure::NotFound | S3Failure::NoSuchBucket => {
                Err(LogError::Unreachable(format!("there is no bucket {}", self.uri.bucket)))
            }
            S3Failure::NoAnswer(why) => Err(LogError::Unreachable(why)),
            S3Failure::NoCredentials(why) => Err(LogError::NoCredentials(why)),
            _ => Err(LogError::Unreachable(format!("S3 answers {} to HeadBucket", error.answer()))),
        }
    }

    /// The SDK's client, once there are valid credentials.
    async fn s3(&self) -> Result<&Client, LogError> {
        self.credentials.session().await.map_err(LogError::NoCredentials)?;
        Ok(&self.client().await?.client)
    }

    /// Whether S3 contains an object that the gateway can read. It asks for the object's first byte: an
    /// answer to HEAD says nothing of the right to decrypt the object, and gives no reason for a refusal.
    pub(super) async fn contains(&self, key: &str) -> Result<bool, LogError> {
        let request = self.s3().await?.get_object().bucket(&self.uri.bucket).key(key).range("bytes=0-0");
        let Err(error) = with_timeout(request.send()).await? else { return Ok(true) };
        match S3Error::new(&error, GET).failure {
            // An empty object.
            S3Failure::InvalidRange => Ok(true),
            S3Failure::NotFound => Ok(false),
            S3Failure::Denied { .. } if self.listing_lacks(key).await => Ok(false),
            _ => Err(self.refusal(key, &error).await),
        }
    }

    /// Whether S3 lists no object with this key. To a role without `s3:ListBucket`, S3 answers 403 for an
    /// object that does not exist (`docs/emr.md` §8.2).
    async fn listing_lacks(&self, key: &str) -> bool {
        let listed = self.list(key).await;
        listed.is_ok_and(|objects| !objects.iter().any(|object| object.name.is_empty()))
    }

    /// Why S3 does not give an object.
    pub(super) async fn refusal(&self, key: &str, error: &SdkError<GetObjectError>) -> LogError {
        let mut error = LogError::new(S3Error::new(error, GET), self.location(key));
        if let LogError::Denied { permission, .. } = &mut error
            && *permission == GET
            && self.list(key).await.is_err()
        {
            *permission = "s3:GetObject and s3:ListBucket";
        }
        error
    }

    /// The objects directly below a prefix: at most a thousand.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Object>, LogError> {
        let request = listing::request(self.s3().await?, &self.uri.bucket, prefix).delimiter("/");
        let page = with_timeout(request.send()).await?.map_err(|e| self.list_refusal(prefix, &e))?;
        Ok(page.objects().filter_map(|(key, object)| Object::new(&key, object, prefix)).collect())
    }

    /// The objects below a prefix, at any depth, and whether the list is complete.
    pub(super) async fn list_all(&self, prefix: &str) -> Result<(Vec<Object>, bool), LogError> {
        let client = self.s3().await?;
        let mut objects = Vec::new();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let request = listing::request(client, &self.uri.bucket, prefix);
            let request = request.set_continuation_token(token.take());
            let page = with_timeout(request.send()).await?.map_err(|e| self.list_refusal(prefix, &e))?;
            objects.extend(page.objects().filter_map(|(key, object)| Object::new(&key, object, prefix)));
            match page.next_continuation_token() {
                Some(next) => token = Some(next.to_string()),
                None => return Ok((objects, true)),
            }
        }
        Ok((objects, false))
    }

    /// The names of the directories directly below a prefix: those that `keep` accepts, from at most
    /// `max_pages` pages of a thousand.
    pub(super) async fn directories(
        &self,
        prefix: &str,
        max_pages: usize,
        keep: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, LogError> {
        let client = self.s3().await?;
        let mut names = Vec::new();
        let mut token = None;
        for _ in 0..max_pages {
            let request = listing::request(client, &self.uri.bucket, prefix).delimiter("/");
            let request = request.set_continuation_token(token.take());
            let page = with_timeout(request.send()).await?.map_err(|e| self.list_refusal(prefix, &e))?;
            let found = page.directories().filter_map(|key| key.strip_prefix(prefix).map(str::to_string));
            let found = found.map(|name| name.trim_end_matches('/').to_string());
            names.extend(found.filter(|name| keep(name) && !listing::is_odd(name)));
            match page.next_continuation_token() {
                Some(next) => token = Some(next.to_string()),
                None => break,
            }
        }
        Ok(names)
    }

    /// The name of the first directory whose key begins with `prefix`.
    pub(super) async fn first_directory(&self, prefix: &str) -> Result<Option<String>, LogError> {
        let request = listing::request(self.s3().await?, &self.uri.bucket, prefix).delimiter("/");
        let page = with_timeout(request.max_keys(1).send()).await?.map_err(|e| self.list_refusal(prefix, &e))?;
        let first = page.directories().next();
        Ok(first.and_then(|key| key.trim_end_matches('/').rsplit('/').next().map(str::to_string)))
    }

    fn list_refusal(&self, prefix: &str, error: &SdkError<ListObjectsV2Error>) -> LogError {
        let error = S3Error::new(error, LIST);
        match error.failure {
            // Only an object can be missing: a prefix without objects has an empty listing.
            S3Failure::NotFound | S3Failure::NoSuchBucket => {
                LogError::Unreachable(format!("S3 answers {}", error.answer()))
            }
            _ => LogError::new(error, self.location(prefix)),
        }
    }

    fn location(&self, key: &str) -> Location {
        Location { bucket: self.position, key: key.into() }
    }
}

/// Fails if S3 does not answer in time.
async fn with_timeout<T>(request: impl Future<Output = T>) -> Result<T, LogError> {
    let late = |_| LogError::Unreachable(format!("S3 did not answer within {} s", S3_TIMEOUT.as_secs()));
    tokio::time::timeout(S3_TIMEOUT, request).await.map_err(late)
}
