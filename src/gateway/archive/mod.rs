//! The archive: container logs in S3, below one or more log URIs. It sends as few requests to S3 as it can,
//! and remembers what does not change.

mod bucket;
mod clusters;
mod error;
mod object;

pub(crate) use bucket::{BucketClient, S3_TIMEOUT};
pub(crate) use clusters::ClusterLocation;
pub(crate) use error::LogError;
pub(crate) use object::{Location, Object};

use super::credentials::{CachedProvider, CredentialsCache};
use super::route::{LogDirectory, container_directory, stored_name};
use crate::aws::uri::LogUri;
use crate::ids::{Application, Container};
use aws_config::SdkConfig;
use aws_config::identity::IdentityCache;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use bucket::LogBucket;
use clusters::Clusters;
use quick_cache::sync::Cache;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many objects the cache of existing objects holds.
const MAX_OBJECTS: usize = 1 << 16;
/// How long an object that exists is assumed to exist.
const EXISTENCE_FRESH: Duration = Duration::from_secs(3600);
/// How many pages of a thousand directories a listing reads.
const MAX_DIRECTORY_PAGES: usize = 50;
/// How long a click on a log with only one possible location waits for S3 to confirm that the log exists.
/// The gateway then answers with that location.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_millis(300);

/// The logs below all log URIs.
pub(crate) struct Archive {
    /// In the order of the log URIs on the command line.
    pub(crate) buckets: Arc<[LogBucket]>,
    /// This node's own cluster.
    pub(crate) own_cluster: Option<String>,
    clusters: Arc<Clusters>,
    hasher: RandomState,
    /// When an object, by the hash of its location, was last seen to exist.
    existing: Cache<u64, Instant>,
}

impl Archive {
    /// Sends no request yet.
    pub(crate) fn new(
        uris: Vec<LogUri>,
        own_cluster: Option<String>,
        config: &SdkConfig,
        endpoint: impl Fn(&LogUri) -> Option<String>,
        credentials: Arc<CredentialsCache>,
    ) -> Self {
        let config = config
            .to_builder()
            .credentials_provider(SharedCredentialsProvider::new(CachedProvider(credentials.clone())))
            .identity_cache(IdentityCache::no_cache())
            .build();
        let bucket = |(position, uri): (usize, LogUri)| {
            let endpoint = endpoint(&uri);
            LogBucket::new(uri, position, config.clone(), endpoint, credentials.clone())
        };
        let buckets: Arc<[LogBucket]> = uris.into_iter().enumerate().map(bucket).collect();
        Self {
            clusters: Arc::new(Clusters::new(buckets.clone(), own_cluster.clone())),
            buckets,
            own_cluster,
            hasher: RandomState::new(),
            existing: Cache::new(MAX_OBJECTS),
        }
    }

    /// Why the gateway does not reach one of the buckets, in a line.
    pub(crate) fn unreachable_reason(&self) -> String {
        self.buckets.iter().find_map(LogBucket::unreachable_reason).unwrap_or_default()
    }

    /// The buckets of one log URI with its other spelling, which follows it, or of all.
    pub(crate) fn buckets_of(&self, log_uri: Option<usize>) -> Range<usize> {
        let Some(one) = log_uri else { return 0..self.buckets.len() };
        let spellings = self.buckets[one].uri.spellings();
        let others = self.buckets[one..].iter().take_while(|bucket| spellings.contains(&bucket.uri));
        one..one + others.count()
    }

    /// The location of a log, if the archive knows without a request that the log exists.
    pub(crate) fn known(&self, directory: &LogDirectory, file: &str, log_uri: Option<usize>) -> Option<Location> {
        let known = |bucket: usize, directory: &str| {
            let stored = self.stored(bucket, directory, file);
            if self.is_known(&stored) {
                return Some(stored);
            }
            Some(self.uncompressed(bucket, directory, file)).filter(|location| self.is_known(location))
        };
        match directory {
            LogDirectory::Container(container) => {
                let cluster = self.clusters.known(&container.application)?;
                known(cluster.bucket, &container_directory(&cluster.id, container))
            }
            LogDirectory::Directory(path) => self.buckets_of(log_uri).find_map(|bucket| known(bucket, path)),
        }
    }

    /// Finds a log that the gateway can read. If S3 does not tell within `CONFIRMATION_TIMEOUT` whether the
    /// log exists at its only possible location, returns that location unconfirmed.
    pub(crate) async fn find(
        &self,
        directory: &LogDirectory,
        file: &str,
        log_uri: Option<usize>,
    ) -> Result<Location, LogError> {
        match directory {
            LogDirectory::Directory(path) => self.find_in(self.buckets_of(log_uri), path, file).await,
            LogDirectory::Container(container) => match self.clusters.known(&container.application) {
                Some(ClusterLocation { bucket, id }) => {
                    self.find_in(bucket..bucket + 1, &container_directory(&id, container), file).await
                }
                None => self.find_of_unknown_cluster(container, file).await,
            },
        }
    }

    async fn find_in(&self, buckets: Range<usize>, directory: &str, file: &str) -> Result<Location, LogError> {
        let is_only_place = buckets.len() == 1;
        let mut missing = None;
        for bucket in buckets {
            let location = self.stored(bucket, directory, file);
            let exists = if is_only_place {
                match tokio::time::timeout(CONFIRMATION_TIMEOUT, self.exists(&location)).await {
                    Err(_) => return Ok(location),
                    Ok(exists) => exists?,
                }
            } else {
                self.exists(&location).await?
            };
            if exists {
                return Ok(location);
            }
            match self.find_uncompressed(location, directory, file).await {
                Ok(location) => return Ok(location),
                Err(e) => drop(missing.get_or_insert(e)),
            }
        }
        Err(missing.unwrap_or(LogError::Searching))
    }

    async fn find_of_unknown_cluster(&self, container: &Container, file: &str) -> Result<Location, LogError> {
        // Most requests are for logs of this node's own cluster.
        let mut absent = None;
        if let Some(own) = &self.own_cluster {
            let location = self.stored(0, &container_directory(own, container), file);
            if self.exists(&location).await? {
                self.clusters.remember(&container.application, ClusterLocation { bucket: 0, id: own.clone() });
                return Ok(location);
            }
            absent = Some(location);
        }
        let ClusterLocation { bucket, id } = self.cluster(&container.application).await?;
        let directory = container_directory(&id, container);
        let location = self.stored(bucket, &directory, file);
        if absent.as_ref() != Some(&location) && self.exists(&location).await? {
            return Ok(location);
        }
        self.find_uncompressed(location, &directory, file).await
    }

    /// Finds a log that is stored under its own name, uncompressed. `location` is where the log would be
    /// if it were compressed.
    async fn find_uncompressed(&self, location: Location, directory: &str, file: &str) -> Result<Location, LogError> {
        let bucket = &self.buckets[location.bucket];
        let others = bucket.list(&format!("{}{directory}", bucket.uri.prefix)).await;
        if others.iter().flatten().any(|object| object.name == file) {
            let location = self.uncompressed(location.bucket, directory, file);
            self.remember(&location);
            return Ok(location);
        }
        Err(LogError::Missing { location, others: others.ok() })
    }

    /// Finds the cluster on which an application ran. If no log URI contains logs of the application, returns
    /// this node's own cluster, because EMR may not have uploaded the logs yet.
    pub(crate) async fn cluster(&self, application: &Application) -> Result<ClusterLocation, LogError> {
        let own = || ClusterLocation { bucket: 0, id: self.own_cluster.clone().unwrap_or_else(|| "j-UNKNOWN".into()) };
        Ok(self.clusters.find(application).await?.unwrap_or_else(own))
    }

    /// Why S3 does not give a log that the archive has found.
    pub(crate) async fn refusal(&self, location: &Location, error: &SdkError<GetObjectError>) -> LogError {
        self.buckets[location.bucket].refusal(&location.key, error).await
    }

    /// The objects directly below a prefix: at most a thousand.
    pub(crate) async fn list(&self, bucket: usize, prefix: &str) -> Result<Vec<Object>, LogError> {
        self.buckets[bucket].list(prefix).await
    }

    /// The objects below a prefix, at any depth, and whether the list is complete.
    pub(crate) async fn list_all(&self, bucket: usize, prefix: &str) -> Result<(Vec<Object>, bool), LogError> {
        self.buckets[bucket].list_all(prefix).await
    }

    /// The names of the directories directly below a prefix: at most fifty thousand.
    pub(crate) async fn directories(&self, bucket: usize, prefix: &str) -> Result<Vec<String>, LogError> {
        self.buckets[bucket].directories(prefix, MAX_DIRECTORY_PAGES, |_| true).await
    }

    fn stored(&self, bucket: usize, directory: &str, file: &str) -> Location {
        self.uncompressed(bucket, directory, &stored_name(file))
    }

    fn uncompressed(&self, bucket: usize, directory: &str, file: &str) -> Location {
        Location { bucket, key: [&self.buckets[bucket].uri.prefix, directory, file].concat() }
    }

    async fn exists(&self, location: &Location) -> Result<bool, LogError> {
        if self.is_known(location) {
            return Ok(true);
        }
        let exists = self.buckets[location.bucket].contains(&location.key).await?;
        if exists {
            self.remember(location);
        }
        Ok(exists)
    }

    fn is_known(&self, location: &Location) -> bool {
        self.existing.get(&self.hash(location)).is_some_and(|when| when.elapsed() < EXISTENCE_FRESH)
    }

    fn remember(&self, location: &Location) {
        self.existing.insert(self.hash(location), Instant::now());
    }

    fn hash(&self, location: &Location) -> u64 {
        self.hasher.hash_one((location.bucket, &location.key))
    }
}
