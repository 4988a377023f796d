//! The archive: container logs in S3, below one or more log URIs. It sends as few requests to S3 as it can,
//! and remembers what does not change.

mod ages;
mod answers;
mod bucket;
mod budget;
mod clusters;
mod error;
mod event_logs;
mod fresh;
mod index;
mod index_file;
mod lists;
mod object;
mod payer;
mod spending;

pub(crate) use answers::Failures;
pub(crate) use bucket::{BucketClient, S3_TIMEOUT};
pub(crate) use budget::Budget;
pub(crate) use clusters::ClusterLocation;
pub(crate) use error::{LogError, Unanswered};
pub(crate) use event_logs::{EventLogObject, PartError};
pub(super) use index_file::search_stored;
pub(crate) use lists::Objects;
pub(crate) use object::{Location, Object};
pub(crate) use payer::{admit, in_a_task, paid_by};

use super::credentials::{CachedProvider, CredentialsCache};
use super::route::{LogDirectory, container_directory, stored_name};
use super::served::Served;
use crate::aws::uri::LogUri;
use crate::ids::{Application, Container};
use aws_config::SdkConfig;
use aws_config::identity::IdentityCache;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
pub(crate) use bucket::BucketStore;
pub(crate) use bucket::LogBucket;
use bucket::{Health, Source};
use clusters::{Clusters, Search};
use fresh::{Answer, Flight, Fresh, Known};
use lists::{Depth, Lists, Question};
use quick_cache::sync::Cache;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;

/// How many objects the cache of existing objects holds.
const MAX_OBJECTS: usize = 1 << 16;
/// How many answers about objects that do not exist are kept.
const MAX_ABSENT: usize = 1 << 14;
/// How long a click on a log with only one possible location waits for S3 to confirm that the log exists.
/// The gateway then answers with that location.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_millis(300);
/// How long `/-/log-uris` waits for S3. Who asks waits two seconds for the gateway.
const RECHECK_TIMEOUT: Duration = Duration::from_millis(1500);

/// The logs below all log URIs, and those of EMR Serverless below the sources of the index. What one log URI answers hides
/// nothing of the others: every method that asks several collects their answers and their failures.
pub(crate) struct Archive {
    /// First the log URIs, in their order on the command line, then the sources of the index.
    pub(crate) buckets: Arc<[LogBucket]>,
    /// How many of them are log URIs.
    log_uris: usize,
    /// This node's own cluster.
    pub(crate) own_cluster: Option<String>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) served: Arc<Served>,
    source: Arc<Source>,
    clusters: Arc<Clusters>,
    lists: Arc<Lists>,
    existing: Arc<Existing>,
    answers: Fresh<Location, bool>,
}

/// When objects were last seen to exist, by the hash of their location.
struct Existing {
    hasher: RandomState,
    seen: Cache<u64, Instant>,
}

impl Default for Existing {
    fn default() -> Self {
        Self { hasher: RandomState::new(), seen: Cache::new(MAX_OBJECTS) }
    }
}

impl Existing {
    fn has(&self, location: &Location) -> bool {
        self.seen.get(&self.hash(location)).is_some_and(|when| when.elapsed() < ages::EXISTENCE)
    }

    fn remember(&self, location: &Location) {
        self.seen.insert(self.hash(location), Instant::now());
    }

    fn hash(&self, location: &Location) -> u64 {
        self.hasher.hash_one((location.bucket, &location.key))
    }
}

/// Yes or no. Only a repeated no confirms an earlier one.
impl Answer for bool {
    fn confirms(&self, earlier: &Self) -> bool {
        !self && !earlier
    }
}

/// Where an application ran.
pub(crate) enum Whereabouts {
    On(ClusterLocation),
    /// On no cluster below the log URIs that answer. Its logs will come to this cluster, if anywhere.
    Nowhere {
        own: ClusterLocation,
        failures: Failures,
    },
}

/// What `/-/readyz` tells of the log URIs.
pub(crate) struct Readiness {
    /// Whether logs open below one of them.
    pub(crate) opens_logs: bool,
    /// Those that do not give all their logs, each with the reason.
    pub(crate) troubles: Vec<Unanswered>,
}

impl Archive {
    /// Sends no request yet.
    pub(crate) fn new(
        log_uris: Vec<LogUri>,
        sources: Vec<LogUri>,
        own_cluster: Option<String>,
        config: &SdkConfig,
        store: impl Fn(&LogUri) -> BucketStore,
        credentials: Arc<CredentialsCache>,
        served: Arc<Served>,
    ) -> Self {
        let config = config
            .to_builder()
            .credentials_provider(SharedCredentialsProvider::new(CachedProvider(credentials.clone())))
            .identity_cache(IdentityCache::no_cache())
            .build();
        let budget = Budget::new(Instant::now());
        let source = Arc::new(Source { config, credentials, budget: budget.clone() });
        let bucket = |(position, uri): (usize, LogUri)| {
            let store = store(&uri);
            LogBucket::new(uri, position, store, source.clone())
        };
        let count = log_uris.len();
        let buckets: Arc<[LogBucket]> = log_uris.into_iter().chain(sources).enumerate().map(bucket).collect();
        let lists = Arc::new(Lists::new(buckets.clone()));
        Self {
            clusters: Arc::new(Clusters::new(
                buckets.clone(),
                count,
                lists.clone(),
                own_cluster.clone(),
                served.clone(),
            )),
            buckets,
            log_uris: count,
            source,
            own_cluster,
            budget,
            served,
            lists,
            existing: Arc::default(),
            answers: Fresh::new(MAX_ABSENT, MAX_ABSENT as u64),
        }
    }

    /// Checks each log URI by itself, and keeps what the gateway knows of clusters. Runs in the background.
    pub(crate) fn watch(&self) {
        for bucket in 0..self.log_uris {
            let buckets = self.buckets.clone();
            tokio::spawn(async move { buckets[bucket].watch().await });
        }
        tokio::spawn(self.clusters.clone().write_forever());
    }

    /// Writes what the gateway knows of clusters, before it ends.
    pub(crate) fn save(&self) {
        if let Err(error) = self.clusters.write() {
            eprintln!("warning: the gateway will search clusters again after its start: {error:#}");
        }
    }

    /// Asks S3 how each log URI is now; for everybody but root, at most every three seconds. One that does not answer soon is
    /// as it was.
    pub(crate) async fn recheck(&self, is_root: bool) {
        let asked = if is_root { ages::ASKED_BY_ROOT } else { ages::ASKED };
        let mut checks = JoinSet::new();
        for bucket in 0..self.log_uris {
            let buckets = self.buckets.clone();
            checks.spawn(async move { buckets[bucket].recheck(asked).await });
        }
        let _ = tokio::time::timeout(RECHECK_TIMEOUT, async { while checks.join_next().await.is_some() {} }).await;
        checks.detach_all();
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let health: Vec<Health> = self.log_uris().iter().map(LogBucket::health).collect();
        let opens_logs = health.iter().any(|health| !matches!(health, Health::Bad(_)));
        let mut failures = Failures::default();
        let mut good = Vec::new();
        for (bucket, health) in health.into_iter().enumerate() {
            match health {
                Health::Good => good.push(bucket),
                Health::Partly(error) | Health::Bad(error) => failures.add(bucket, error),
            }
        }
        Readiness { opens_logs, troubles: self.unanswered(&failures, &good) }
    }

    /// How long ago S3 last gave a list or an object below any log URI; `None` if it never did.
    pub(crate) fn answer_age(&self, now: Instant) -> Option<Duration> {
        let answered = self.log_uris().iter().filter_map(LogBucket::answered).max()?;
        Some(now.saturating_duration_since(answered))
    }

    pub(crate) fn log_uris(&self) -> &[LogBucket] {
        &self.buckets[..self.log_uris]
    }

    /// The sources of the index. Only logs of EMR Serverless are served from them.
    pub(crate) fn sources(&self) -> &[LogBucket] {
        &self.buckets[self.log_uris..]
    }

    /// The position of a source among all buckets.
    pub(crate) fn bucket_of_source(&self, source: usize) -> usize {
        self.log_uris + source
    }

    /// The buckets of one log URI with its other spelling, which follows it, or of all log URIs; the bucket of a source.
    pub(crate) fn buckets_of(&self, log_uri: Option<usize>) -> Range<usize> {
        let Some(one) = log_uri else { return 0..self.log_uris };
        if one >= self.log_uris {
            return one..one + 1;
        }
        let spellings = self.buckets[one].uri.spellings();
        let others = self.log_uris()[one..].iter().take_while(|bucket| spellings.contains(&bucket.uri));
        one..one + others.count()
    }

    /// Whether two buckets are two spellings of one log URI.
    fn are_one_log_uri(&self, one: usize, other: usize) -> bool {
        self.buckets_of(Some(one.min(other))).contains(&one.max(other))
    }

    /// The location of a log, if the archive knows without a request that the log exists.
    pub(crate) fn known(&self, directory: &LogDirectory, file: &str, log_uri: Option<usize>) -> Option<Location> {
        let known = |bucket: usize, directory: &str| {
            let stored = self.stored(bucket, directory, file);
            if self.existing.has(&stored) {
                return Some(stored);
            }
            Some(self.uncompressed(bucket, directory, file)).filter(|location| self.existing.has(location))
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
        if directory.application().is_some_and(|application| !self.can_have_logs(&application)) {
            return Err(self.missing_without_a_look(directory, file, log_uri));
        }
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

    /// The log is missing: no cluster can have it.
    fn missing_without_a_look(&self, directory: &LogDirectory, file: &str, log_uri: Option<usize>) -> LogError {
        let location = match directory {
            LogDirectory::Directory(path) => self.stored(log_uri.unwrap_or_default(), path, file),
            LogDirectory::Container(container) => {
                let ClusterLocation { bucket, id } = self.own_location();
                self.stored(bucket, &container_directory(&id, container), file)
            }
        };
        LogError::Missing { location, others: Some(Arc::new([])) }
    }

    fn own_location(&self) -> ClusterLocation {
        ClusterLocation { bucket: 0, id: self.own_cluster.clone().unwrap_or_else(|| "j-UNKNOWN".into()) }
    }

    /// Looks for a log at the same place below several log URIs, in all at once.
    async fn find_in(&self, buckets: Range<usize>, directory: &str, file: &str) -> Result<Location, LogError> {
        if let [bucket] = buckets.clone().collect::<Vec<_>>()[..] {
            let location = self.stored(bucket, directory, file);
            let exists = self.exists(&location);
            return match tokio::time::timeout(CONFIRMATION_TIMEOUT, exists).await {
                Err(_) | Ok(Ok(true)) => Ok(location),
                Ok(Ok(false)) => self.find_uncompressed(location, directory, file).await,
                Ok(Err(error)) => Err(error),
            };
        }
        let asked: Vec<Location> = buckets.map(|bucket| self.stored(bucket, directory, file)).collect();
        let flights: Vec<_> = asked.iter().map(|location| self.ask(location)).collect();
        let (mut missing, mut answered, mut failures) = (None, Vec::new(), Failures::default());
        for (location, flight) in asked.into_iter().zip(flights) {
            let bucket = location.bucket;
            let found = match flight.answer().await {
                Ok(true) => Ok(location),
                Ok(false) => self.find_uncompressed(location, directory, file).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(location) => return Ok(location),
                Err(error @ LogError::Missing { .. }) => {
                    answered.push(bucket);
                    missing.get_or_insert(error);
                }
                Err(error) => failures.add(bucket, error),
            }
        }
        Err(self.conclude(missing, failures, &answered))
    }

    async fn find_of_unknown_cluster(&self, container: &Container, file: &str) -> Result<Location, LogError> {
        let (mut failures, mut asked_own) = (Failures::default(), Vec::new());
        // Most requests are for logs of this node's own cluster.
        if let Some(own) = &self.own_cluster {
            for bucket in self.buckets_of(Some(0)) {
                if !self.clusters.can_be_on_own(bucket, own, &container.application).await {
                    continue;
                }
                let location = self.stored(bucket, &container_directory(own, container), file);
                match self.exists(&location).await {
                    Ok(true) => {
                        self.clusters.remember(&container.application, ClusterLocation { bucket, id: own.clone() });
                        return Ok(location);
                    }
                    Ok(false) => asked_own.push(bucket),
                    Err(error) if error.is_about_an_object() => return Err(error),
                    Err(error) => failures.add(bucket, error),
                }
            }
        }
        let Search { found, failures: unsearched } = match container.application.is_synthetic() {
            // What `verify` writes is on this node's own cluster.
            true => Search::default(),
            false => self.clusters.find(&container.application).await?,
        };
        if let Some(ClusterLocation { bucket, id }) = found {
            return self.find_in(bucket..bucket + 1, &container_directory(&id, container), file).await;
        }
        for (bucket, error) in unsearched {
            failures.add(bucket, error);
        }
        let ClusterLocation { id, .. } = self.own_location();
        let directory = container_directory(&id, container);
        let missing = match asked_own.first() {
            Some(bucket) if container.application.is_synthetic() => {
                let location = self.stored(*bucket, &directory, file);
                match self.find_uncompressed(location, &directory, file).await {
                    Ok(location) => return Ok(location),
                    Err(error) => error,
                }
            }
            _ => self.missing_without_a_look(&LogDirectory::Container(container.clone()), file, None),
        };
        let failed = |bucket: &usize| failures.0.iter().any(|(failed, _)| failed == bucket);
        let answered: Vec<usize> = (0..self.log_uris).filter(|bucket| !failed(bucket)).collect();
        Err(self.conclude(Some(missing), failures, &answered))
    }

    /// Finds a log that is stored under its own name, uncompressed. `location` is where the log would be
    /// if it were compressed.
    async fn find_uncompressed(&self, location: Location, directory: &str, file: &str) -> Result<Location, LogError> {
        let question = Question { bucket: location.bucket, path: directory.into() };
        // The list can be as old as the answer about the object.
        let trust = self.answers.known(&location).map_or(Duration::ZERO, |known| trust_in_absence(&known));
        let trusted_for = trust.max(ages::LISTING);
        let others = self.lists.objects(question, Depth::Directory, trusted_for).answer().await;
        if others.iter().any(|list| list.objects.iter().any(|object| object.name == file)) {
            let location = self.uncompressed(location.bucket, directory, file);
            self.existing.remember(&location);
            return Ok(location);
        }
        Err(LogError::Missing { location, others: others.ok().map(|list| list.objects) })
    }

    /// Whether a cluster can have run the application, judged by the time in its id.
    pub(crate) fn can_have_logs(&self, application: &Application) -> bool {
        ages::is_possible_start(application.timestamp, SystemTime::now())
    }

    /// Finds the cluster on which an application ran.
    pub(crate) async fn cluster(&self, application: &Application) -> Result<Whereabouts, LogError> {
        if application.is_synthetic() {
            return Ok(Whereabouts::On(self.own_location()));
        }
        let nowhere = |failures: Failures| Whereabouts::Nowhere { own: self.own_location(), failures };
        if !self.can_have_logs(application) {
            return Ok(nowhere(Failures::default()));
        }
        let Search { found, failures } = self.clusters.find(application).await?;
        Ok(found.map_or_else(|| nowhere(Failures(failures)), Whereabouts::On))
    }

    /// Why S3 does not give a log that the archive has found.
    pub(crate) async fn refusal(&self, location: &Location, error: &SdkError<GetObjectError>) -> LogError {
        self.buckets[location.bucket].refusal(&location.key, error).await
    }

    fn stored(&self, bucket: usize, directory: &str, file: &str) -> Location {
        self.uncompressed(bucket, directory, &stored_name(file))
    }

    fn uncompressed(&self, bucket: usize, directory: &str, file: &str) -> Location {
        Location { bucket, key: [&self.buckets[bucket].uri.prefix, directory, file].concat() }
    }

    async fn exists(&self, location: &Location) -> Result<bool, LogError> {
        if self.existing.has(location) {
            return Ok(true);
        }
        self.ask(location).answer().await
    }

    /// Asks S3 whether an object exists, unless a trusted answer is there.
    fn ask(&self, location: &Location) -> Flight<bool> {
        self.answers.ask(location.clone(), trust_in_absence, || {
            let (buckets, existing, location) = (self.buckets.clone(), self.existing.clone(), location.clone());
            async move {
                let exists = buckets[location.bucket].contains(&location.key).await?;
                // It is remembered also if nobody waits for the answer any more.
                if exists {
                    existing.remember(&location);
                }
                Ok(exists)
            }
        })
    }
}

fn trust_in_absence(known: &Known<bool>) -> Duration {
    match known.value {
        // The cache of existing objects keeps it.
        Ok(true) => Duration::ZERO,
        Ok(false) => ages::absence(known.unchanged()),
        Err(_) => ages::FAILURE,
    }
}
