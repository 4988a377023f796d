//! The archive: container logs in S3, below one or more log URIs. It sends as few requests to S3 as it can,
//! and remembers what does not change.

mod ages;
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

pub(crate) use bucket::{BucketClient, S3_TIMEOUT};
pub(crate) use budget::Budget;
pub(crate) use clusters::ClusterLocation;
pub(crate) use error::{LogError, Unanswered};
pub(crate) use event_logs::{EventLogObject, PartError};
pub(super) use index_file::search_stored;
pub(crate) use lists::{Directories, Objects};
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
use lists::{Depth, Lists, Question, answer_of};
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
    hasher: RandomState,
    /// When an object, by the hash of its location, was last seen to exist.
    existing: Cache<u64, Instant>,
    answers: Fresh<Location, Result<bool, LogError>>,
}

impl Answer for Result<bool, LogError> {
    fn refused(why: LogError) -> Self {
        Err(why)
    }

    fn confirms(&self, earlier: &Self) -> bool {
        matches!((self, earlier), (Ok(false), Ok(false)))
    }
}

/// What those log URIs answer that answer, and why the others do not.
pub(crate) struct Answers<T> {
    /// With the bucket that answers.
    pub(crate) given: Vec<(usize, T)>,
    failures: Failures,
}

/// Why buckets do not answer: one reason for each.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<(usize, LogError)>);

impl<T> Answers<T> {
    /// Adds what did not answer before.
    pub(crate) fn and(mut self, failures: Failures) -> Self {
        for (bucket, error) in failures.0 {
            self.failures.add(bucket, error);
        }
        self
    }

    /// The answers alone.
    pub(crate) fn into_parts(self) -> (Vec<(usize, T)>, Failures) {
        (self.given, self.failures)
    }
}

impl Failures {
    fn add(&mut self, bucket: usize, error: LogError) {
        if !self.0.iter().any(|(failed, _)| *failed == bucket) {
            self.0.push((bucket, error));
        }
    }

    /// Those of the log URIs that answer "nothing is there" whose answer counts for their other spelling, too. It does not if
    /// S3 gave no answer: the other spelling can have what is looked for.
    fn of_those_that_have_nothing<'a>(&self, answered: &'a [usize]) -> &'a [usize] {
        let is_silent = self.0.iter().any(|(_, error)| matches!(error, LogError::Unreachable(_)));
        if is_silent { &[] } else { answered }
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
            hasher: RandomState::new(),
            existing: Cache::new(MAX_OBJECTS),
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

    /// The log URIs that failed, as people know them. The other spelling of one that answered does not count: it is not
    /// known whether it means anything.
    fn unanswered(&self, failures: &Failures, answered: &[usize]) -> Vec<Unanswered> {
        let mut unanswered: Vec<(usize, Unanswered)> = Vec::new();
        for (bucket, error) in &failures.0 {
            let is_known = answered.iter().chain(unanswered.iter().map(|(bucket, _)| bucket));
            if is_known.into_iter().any(|other| self.are_one_log_uri(*bucket, *other)) {
                continue;
            }
            let (uri, why) = (self.buckets[*bucket].uri.to_string(), error.in_a_line());
            let is_denied = matches!(error, LogError::Denied { .. });
            let is_pending = matches!(error, LogError::Unasked);
            unanswered.push((*bucket, Unanswered { uri, why, is_denied, is_pending }));
        }
        unanswered.into_iter().map(|(_, unanswered)| unanswered).collect()
    }

    /// Why something was not found: not there, or below a log URI that does not answer.
    fn conclude(&self, missing: Option<LogError>, failures: Failures, answered: &[usize]) -> LogError {
        let answered = failures.of_those_that_have_nothing(answered);
        let unanswered = self.unanswered(&failures, answered);
        if unanswered.is_empty() {
            return missing.unwrap_or(LogError::Searching);
        }
        let is_only = self.buckets_of(Some(0)).len() == self.log_uris;
        let errors = || failures.0.iter().map(|(_, error)| error);
        let plain = errors().find(|error| error.is_about_an_object() || error.concerns_all());
        match plain.or_else(|| errors().next().filter(|_| is_only)) {
            Some(error) => error.clone(),
            None => LogError::Incomplete(unanswered),
        }
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
            let found = match self.existence(&location, flight).await {
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
        let others = answer_of(self.lists.objects(question, Depth::Directory, trusted_for)).await;
        if others.iter().any(|list| list.objects.iter().any(|object| object.name == file)) {
            let location = self.uncompressed(location.bucket, directory, file);
            self.remember(&location);
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

    /// The objects directly below a path, below each of some log URIs: at most a thousand each.
    pub(crate) async fn list(&self, buckets: Range<usize>, path: &str) -> Answers<Objects> {
        self.lists_of(buckets, path, Depth::Directory).await
    }

    /// The objects below a path, at any depth, below each of some log URIs.
    pub(crate) async fn list_all(&self, buckets: Range<usize>, path: &str) -> Answers<Objects> {
        self.lists_of(buckets, path, Depth::All).await
    }

    async fn lists_of(&self, buckets: Range<usize>, path: &str, depth: Depth) -> Answers<Objects> {
        let list = |bucket| self.lists.objects(Question { bucket, path: path.into() }, depth, ages::LISTING);
        answers(buckets.map(|bucket| (bucket, list(bucket))).collect()).await
    }

    /// The names of the directories of clusters below each log URI: at most fifty thousand.
    pub(crate) async fn clusters(&self) -> Answers<Directories> {
        self.directories(0..self.log_uris, "", ages::CLUSTERS).await
    }

    /// The names of the directories of applications of a cluster, below each log URI. `clusters` are those that there are. A log URI whose
    /// complete list lacks the cluster is not asked: whoever asks for clusters that do not exist costs nothing.
    pub(crate) async fn applications(&self, cluster: &str, clusters: &Answers<Directories>) -> Answers<Directories> {
        // This node's own cluster gets its first logs while people wait for them.
        let is_own = self.own_cluster.as_deref() == Some(cluster);
        let lacks = |(_, list): &&(usize, Directories)| {
            !is_own && list.complete && !list.names.iter().any(|name| name == cluster)
        };
        let lacking: Vec<usize> = clusters.given.iter().filter(lacks).map(|(bucket, _)| *bucket).collect();
        let asked = (0..self.log_uris).filter(|bucket| !lacking.contains(bucket));
        let mut listed = self.directories(asked, &format!("{cluster}/containers/"), ages::LISTING).await;
        let nothing = |bucket| (bucket, Directories { names: Arc::new([]), complete: true });
        listed.given.extend(lacking.into_iter().map(nothing));
        listed
    }

    async fn directories(
        &self,
        buckets: impl Iterator<Item = usize>,
        path: &str,
        trusted_for: Duration,
    ) -> Answers<Directories> {
        let list = |bucket| self.lists.names(Question { bucket, path: path.into() }, trusted_for);
        answers(buckets.map(|bucket| (bucket, list(bucket))).collect()).await
    }

    /// The log URIs that a page must name, because they do not give what the page lists. An error, if the page would be
    /// empty for that.
    pub(crate) fn gaps<T>(&self, answers: &Answers<T>, is_empty: bool) -> Result<Vec<Unanswered>, LogError> {
        let answered: Vec<usize> = answers.given.iter().map(|(bucket, _)| *bucket).collect();
        let covers = if is_empty { answers.failures.of_those_that_have_nothing(&answered) } else { &answered };
        let gaps = self.unanswered(&answers.failures, covers);
        if is_empty && !gaps.is_empty() {
            return Err(self.conclude(None, Failures(answers.failures.0.clone()), &answered));
        }
        Ok(gaps)
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
        self.existence(location, self.ask(location)).await
    }

    /// Asks S3 whether an object exists, unless a trusted answer is there.
    fn ask(&self, location: &Location) -> Flight<Result<bool, LogError>> {
        self.answers.ask(location.clone(), trust_in_absence, || {
            let (buckets, location) = (self.buckets.clone(), location.clone());
            async move { buckets[location.bucket].contains(&location.key).await }
        })
    }

    async fn existence(&self, location: &Location, flight: Flight<Result<bool, LogError>>) -> Result<bool, LogError> {
        let exists = answer_of(flight).await?;
        if exists {
            self.remember(location);
        }
        Ok(exists)
    }

    fn is_known(&self, location: &Location) -> bool {
        self.existing.get(&self.hash(location)).is_some_and(|when| when.elapsed() < ages::EXISTENCE)
    }

    fn remember(&self, location: &Location) {
        self.existing.insert(self.hash(location), Instant::now());
    }

    fn hash(&self, location: &Location) -> u64 {
        self.hasher.hash_one((location.bucket, &location.key))
    }
}

/// The answers of all flights.
async fn answers<T>(flights: Vec<(usize, Flight<Result<T, LogError>>)>) -> Answers<T>
where
    Result<T, LogError>: Answer,
{
    let mut answers = Answers { given: Vec::new(), failures: Failures::default() };
    for (bucket, flight) in flights {
        match answer_of(flight).await {
            Ok(answer) => answers.given.push((bucket, answer)),
            Err(error) => answers.failures.add(bucket, error),
        }
    }
    answers
}

fn trust_in_absence(known: &Known<Result<bool, LogError>>) -> Duration {
    match known.value {
        // The cache of existing objects keeps it.
        Ok(true) => Duration::ZERO,
        Ok(false) => ages::absence(known.unchanged()),
        Err(_) => ages::FAILURE,
    }
}
