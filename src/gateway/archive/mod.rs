//! Where EMR archives container logs: one or more log URIs, the clusters below them, and what is
//! known of their objects. Asks S3 as seldom as it can and remembers what cannot change.

pub mod clusters;

use super::credentials::{CachedProvider, CredentialsCache};
use super::presign::BucketAddress;
use super::route::{LogDirectory, container_directory, stored_name};
use crate::aws::endpoint;
use crate::aws::error::root_causes;
use crate::aws::uri::LogUri;
use crate::ids::Application;
use anyhow::Result;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::StorageClass;
use clusters::{Index, SEARCHES};
use quick_cache::sync::Cache;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OnceCell, Semaphore};

/// How many objects are remembered to be there.
const OBJECTS: usize = 1 << 16;
/// How many runs of a ResourceManager are remembered.
const CLUSTERS: usize = 1 << 14;
/// How long an object that was there is taken to be there.
const THERE: Duration = Duration::from_secs(3600);
/// How many pages of a thousand directories a page shows at most.
const LISTED: usize = 50;
/// How long a click waits for S3 to say that a log is there, once its place is known.
const CLICK: Duration = Duration::from_millis(300);
/// How long a page waits for S3.
pub const PAGE: Duration = Duration::from_secs(8);

/// A log URI and the way to it.
pub struct LogBucket {
    /// The log URI.
    pub uri: LogUri,
    config: SdkConfig,
    endpoint: Option<String>,
    way: OnceCell<BucketClient>,
    unreachable_reason: std::sync::Mutex<String>,
    /// Each cluster below it, with the cluster timestamp of its first application.
    pub(super) index: Mutex<Index>,
}

/// How a bucket is reached: looked up once.
pub struct BucketClient {
    /// To ask S3 with, in the bucket's region.
    pub client: Client,
    /// Where a browser finds the bucket.
    pub address: BucketAddress,
    /// What to sign for.
    pub region: String,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name below the directory that was listed.
    pub name: String,
    /// In bytes, as stored.
    pub size: u64,
    /// When it was written.
    pub modified: Option<DateTime>,
}

/// Where a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Which log URI, by its place on the command line.
    pub store: usize,
    /// The whole key.
    pub key: String,
}

/// Why a log cannot be given.
#[derive(Debug)]
pub enum LogError {
    /// It is not there: where it was looked for, and what is there.
    Missing {
        /// The key that was looked for first.
        at: Location,
        /// What its directory holds; `None` where it may not be listed.
        others: Option<Vec<Object>>,
    },
    /// S3 refuses.
    Denied {
        /// What was asked for.
        at: Location,
        /// `s3:GetObject`, `kms:Decrypt`, …
        permission: &'static str,
        /// What S3 said.
        said: String,
    },
    /// It is in a storage class that must be restored first.
    Archived {
        /// What was asked for.
        at: Location,
        /// `GLACIER`, `DEEP_ARCHIVE`, …
        class: String,
    },
    /// The clusters below the log URI are still being looked through.
    Searching,
    /// There are no credentials.
    NoCredentials(String),
    /// S3 could not be asked.
    Unreachable(String),
}

/// All log URIs.
pub struct Archive {
    /// In the order of the command line.
    pub stores: Vec<LogBucket>,
    /// This node's own cluster.
    pub own_cluster: Option<String>,
    keeper: Arc<CredentialsCache>,
    hasher: RandomState,
    there: Cache<u64, Instant>,
    pub(super) clusters: Cache<u64, (usize, String)>,
    pub(super) not_found: Cache<u64, Instant>,
    /// How many searches may still begin; each asks S3 many times.
    pub(super) searches: Arc<Semaphore>,
}

impl Archive {
    /// Nothing is asked yet.
    pub fn new(
        uris: Vec<LogUri>,
        own_cluster: Option<String>,
        config: &SdkConfig,
        endpoint: Option<String>,
        keeper: Arc<CredentialsCache>,
    ) -> Self {
        let config = config
            .to_builder()
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(CachedProvider(
                keeper.clone(),
            )))
            .identity_cache(aws_config::identity::IdentityCache::no_cache())
            .build();
        let store = |uri| LogBucket {
            uri,
            config: config.clone(),
            endpoint: endpoint.clone(),
            way: OnceCell::new(),
            unreachable_reason: std::sync::Mutex::new("S3 has not answered yet".into()),
            index: Mutex::default(),
        };
        Self {
            stores: uris.into_iter().map(store).collect(),
            own_cluster,
            keeper,
            hasher: RandomState::new(),
            there: Cache::new(OBJECTS),
            clusters: Cache::new(CLUSTERS),
            not_found: Cache::new(CLUSTERS),
            searches: Arc::new(Semaphore::new(SEARCHES)),
        }
    }

    /// Where a log is, if that is known without asking anybody.
    pub fn known(&self, place: &LogDirectory, file: &str, under: Option<usize>) -> Option<Location> {
        let there = |store: usize, directory: &str| {
            let stored = self.at(store, directory, file);
            let named = || self.uncompressed(store, directory, file);
            if self.is_there(&stored) { Some(stored) } else { Some(named()).filter(|at| self.is_there(at)) }
        };
        match place {
            LogDirectory::Container(container) => {
                let (store, cluster) = self.clusters.get(&container.application.timestamp)?;
                there(store, &container_directory(&cluster, container))
            }
            LogDirectory::Directory(directory) => self.stores_of(under).find_map(|store| there(store, directory)),
        }
    }

    /// Why a bucket is not reached, in a line.
    pub fn unreachable_reason(&self) -> String {
        self.stores.iter().find_map(LogBucket::unreachable_reason).unwrap_or_default()
    }

    /// The log URIs a path can mean.
    pub fn stores_of(&self, under: Option<usize>) -> std::ops::Range<usize> {
        under.map_or(0..self.stores.len(), |one| one..one + 1)
    }

    fn at(&self, store: usize, directory: &str, file: &str) -> Location {
        Location { store, key: [&self.stores[store].uri.prefix, directory, &stored_name(file)].concat() }
    }

    fn uncompressed(&self, store: usize, directory: &str, file: &str) -> Location {
        Location { store, key: [&self.stores[store].uri.prefix, directory, file].concat() }
    }

    fn is_there(&self, at: &Location) -> bool {
        self.there.get(&self.mark(at)).is_some_and(|when| when.elapsed() < THERE)
    }

    fn mark(&self, at: &Location) -> u64 {
        self.hasher.hash_one((at.store, &at.key))
    }

    /// Finds a log that can be read.
    pub async fn find(
        self: &Arc<Self>,
        place: &LogDirectory,
        file: &str,
        under: Option<usize>,
    ) -> Result<Location, LogError> {
        let mut directories = match place {
            LogDirectory::Directory(directory) => {
                self.stores_of(under).map(|store| (store, directory.clone())).collect()
            }
            LogDirectory::Container(container) => match self.cluster_known(&container.application) {
                Some((store, cluster)) => vec![(store, container_directory(&cluster, container))],
                None => Vec::new(),
            },
        };
        // One whose place is known opens even if S3 is slow to say that it is there.
        let sure = directories.len() == 1;
        let mut looked = None;
        if let (LogDirectory::Container(container), true) = (place, directories.is_empty()) {
            // Most are of this very cluster.
            if let Some(own) = &self.own_cluster {
                let at = self.at(0, &container_directory(own, container), file);
                if self.look(&at).await? {
                    self.clusters.insert(container.application.timestamp, (0, own.clone()));
                    return Ok(at);
                }
                looked = Some(at);
            }
            let (store, cluster) = self.cluster(&container.application).await?.unwrap_or_else(|| self.own());
            directories = vec![(store, container_directory(&cluster, container))];
        }
        let mut first = None;
        for (store, directory) in directories {
            let at = self.at(store, &directory, file);
            let answer = if looked.as_ref() == Some(&at) {
                false
            } else if sure {
                match tokio::time::timeout(CLICK, self.look(&at)).await {
                    Err(_) => return Ok(at),
                    Ok(answer) => answer?,
                }
            } else {
                self.look(&at).await?
            };
            if answer {
                return Ok(at);
            }
            let others = self.list(store, &format!("{}{directory}", self.stores[store].uri.prefix)).await;
            // Stored as it was named, uncompressed.
            if others.iter().flatten().any(|o| o.name == file) {
                let at = self.uncompressed(store, &directory, file);
                self.there.insert(self.mark(&at), Instant::now());
                return Ok(at);
            }
            let missing = LogError::Missing { at, others: others.ok() };
            first.get_or_insert(missing);
        }
        Err(first.unwrap_or(LogError::Searching))
    }

    /// Where an application is looked for that is nowhere.
    pub fn own(&self) -> (usize, String) {
        (0, self.own_cluster.clone().unwrap_or_else(|| "j-UNKNOWN".into()))
    }

    pub(super) fn cluster_known(&self, application: &Application) -> Option<(usize, String)> {
        self.clusters.get(&application.timestamp)
    }

    /// Asks S3 for an object's first byte, and remembers it if it is there and can be read. Not for
    /// its head: that says nothing of the right to decrypt it, and gives no reason.
    async fn look(&self, at: &Location) -> Result<bool, LogError> {
        if self.is_there(at) {
            return Ok(true);
        }
        let (uri, client) = self.ask(at.store).await?;
        let asked = client.get_object().bucket(&uri.bucket).key(&at.key).range("bytes=0-0").send();
        match with_timeout(asked).await? {
            Ok(_) => {}
            // It has no first byte.
            Err(e) if status(&e) == Some(416) => {}
            Err(e) if status(&e) == Some(404) && e.code() != Some("NoSuchBucket") => return Ok(false),
            Err(e) if e.code() == Some("AccessDenied") && self.is_missing(at).await => return Ok(false),
            Err(e) => return Err(self.refused(at, &e).await),
        }
        self.there.insert(self.mark(at), Instant::now());
        Ok(true)
    }

    /// Whether S3 lists no such object. Without the right to list, it says 403 for one that is not
    /// there (second facts §6).
    async fn is_missing(&self, at: &Location) -> bool {
        let listed = self.list(at.store, &at.key).await;
        listed.is_ok_and(|objects| !objects.iter().any(|o| o.name.is_empty()))
    }

    /// Why S3 does not give an object.
    pub async fn refused(&self, at: &Location, error: &SdkError<GetObjectError>) -> LogError {
        if let Some(GetObjectError::InvalidObjectState(state)) = error.as_service_error() {
            let class = state.storage_class().map_or("archived", StorageClass::as_str);
            let tier = state.access_tier().map(|tier| format!(", {}", tier.as_str())).unwrap_or_default();
            return LogError::Archived { at: at.clone(), class: format!("{class}{tier}") };
        }
        let (code, said) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
        let said = format!("{code} {said}").trim_end().to_string();
        match (status(error), code) {
            (Some(404), _) => LogError::Missing { at: at.clone(), others: None },
            (Some(403 | 400), code) if code.starts_with("KMS") || said.contains("kms:") => {
                LogError::Denied { at: at.clone(), permission: "kms:Decrypt", said }
            }
            (Some(403), "AccessDenied" | "") => {
                let may_list = self.list(at.store, &at.key).await.is_ok();
                let permission = if may_list { "s3:GetObject" } else { "s3:GetObject and s3:ListBucket" };
                LogError::Denied { at: at.clone(), permission, said }
            }
            (Some(status), _) => LogError::Unreachable(format!("S3 answers {status} {said}")),
            (None, _) => LogError::Unreachable(root_causes(error)),
        }
    }

    /// The objects directly below a prefix, at most a thousand.
    pub async fn list(&self, store: usize, prefix: &str) -> Result<Vec<Object>, LogError> {
        let (uri, client) = self.ask(store).await?;
        let asked = client.list_objects_v2().bucket(&uri.bucket).prefix(prefix).delimiter("/").send();
        let page = with_timeout(asked).await?.map_err(|e| self.list_refused(store, prefix, &e))?;
        Ok(page.contents().iter().filter_map(|o| object(o, prefix)).collect())
    }

    /// The objects below a prefix, at any depth; and whether these are all.
    pub async fn list_all(&self, store: usize, prefix: &str) -> Result<(Vec<Object>, bool), LogError> {
        const PAGES: usize = 10;
        let (uri, client) = self.ask(store).await?;
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let asked =
                client.list_objects_v2().bucket(&uri.bucket).prefix(prefix).set_continuation_token(token.take());
            let page = with_timeout(asked.send()).await?.map_err(|e| self.list_refused(store, prefix, &e))?;
            found.extend(page.contents().iter().filter_map(|o| object(o, prefix)));
            match page.next_continuation_token() {
                Some(next) => token = Some(next.to_string()),
                None => return Ok((found, true)),
            }
        }
        Ok((found, false))
    }

    /// The names of the directories directly below a prefix, at most fifty thousand.
    pub async fn directories(&self, store: usize, prefix: &str) -> Result<Vec<String>, LogError> {
        self.pages(store, prefix, LISTED, |name| Some(name.to_string())).await
    }

    pub(super) async fn pages<T>(
        &self,
        store: usize,
        prefix: &str,
        most: usize,
        keep: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, LogError> {
        let (uri, client) = self.ask(store).await?;
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..most {
            let asked = client
                .list_objects_v2()
                .bucket(&uri.bucket)
                .prefix(prefix)
                .delimiter("/")
                .set_continuation_token(token.take())
                .send();
            let page = with_timeout(asked).await?.map_err(|e| self.list_refused(store, prefix, &e))?;
            for directory in page.common_prefixes() {
                let name = directory.prefix().and_then(|p| p.strip_prefix(prefix));
                found.extend(name.and_then(|name| keep(name.trim_end_matches('/'))));
            }
            match page.next_continuation_token() {
                Some(next) => token = Some(next.to_string()),
                None => break,
            }
        }
        Ok(found)
    }

    pub(super) async fn ask(&self, store: usize) -> Result<(&LogUri, &Client), LogError> {
        self.keeper.session().await.map_err(LogError::NoCredentials)?;
        let store = &self.stores[store];
        Ok((&store.uri, &store.way().await?.client))
    }

    pub(super) fn list_refused<E>(&self, store: usize, prefix: &str, e: &SdkError<E>) -> LogError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match status(e) {
            Some(403) => LogError::Denied {
                at: Location { store, key: prefix.into() },
                permission: "s3:ListBucket",
                said: format!("{} {}", e.code().unwrap_or("AccessDenied"), e.message().unwrap_or_default()),
            },
            _ => LogError::Unreachable(root_causes(e)),
        }
    }
}

impl LogBucket {
    /// The way to the bucket.
    pub async fn way(&self) -> Result<&BucketClient, LogError> {
        let way = self.way.get_or_try_init(|| self.find_way()).await;
        if let Err(LogError::Unreachable(why) | LogError::NoCredentials(why)) = &way {
            self.unreachable_reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone_from(why);
        }
        way
    }

    /// Why there is no way to the bucket, as far as it was tried.
    fn unreachable_reason(&self) -> Option<String> {
        let why = self.unreachable_reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Some(why).filter(|_| self.way.get().is_none())
    }

    /// The way to the bucket, if it was looked up.
    pub fn known_client(&self) -> Option<&BucketClient> {
        self.way.get()
    }

    async fn find_way(&self) -> Result<BucketClient, LogError> {
        let at = self.endpoint.as_deref();
        let client = endpoint::client(&self.config, at, None);
        let told = match with_timeout(client.head_bucket().bucket(&self.uri.bucket).send()).await? {
            Ok(found) => found.bucket_region().map(str::to_string),
            Err(e) => match (status(&e), e.raw_response()) {
                // Of a bucket that may not be looked at, or is elsewhere, S3 tells the region.
                (Some(301 | 307 | 400 | 403), Some(answer)) => {
                    answer.headers().get("x-amz-bucket-region").map(str::to_string)
                }
                (Some(404), _) => return Err(LogError::Unreachable(format!("there is no bucket {}", self.uri.bucket))),
                (Some(code), _) => return Err(LogError::Unreachable(format!("S3 answers {code} to HeadBucket"))),
                (None, _) => return Err(LogError::Unreachable(root_causes(&e))),
            },
        };
        let configured = self.config.region().map(ToString::to_string);
        let region = told.or(configured).unwrap_or_else(|| "us-east-1".into());
        let client = endpoint::client(&self.config, at, Some(region.clone()));
        let address = BucketAddress::of(&self.uri.bucket, &region, at).await;
        let address = address.map_err(|e| LogError::Unreachable(format!("{e:#}")))?;
        Ok(BucketClient { client, address, region })
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

fn object(found: &aws_sdk_s3::types::Object, prefix: &str) -> Option<Object> {
    let name = found.key()?.strip_prefix(prefix)?.to_string();
    let size = u64::try_from(found.size().unwrap_or(0)).ok()?;
    Some(Object { name, size, modified: found.last_modified().copied() })
}

/// An answer of S3, or that there is none in the time a person waits.
pub(super) async fn with_timeout<T>(asked: impl Future<Output = T>) -> Result<T, LogError> {
    let late = |_| LogError::Unreachable(format!("S3 did not answer within {} s", PAGE.as_secs()));
    tokio::time::timeout(PAGE, asked).await.map_err(late)
}
