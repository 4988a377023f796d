//! Which cluster an application ran on. An application's id contains the time at which its cluster's
//! ResourceManager started, the cluster timestamp. The directories below a log URI name clusters by
//! another id. So this module asks S3 once which timestamps each cluster has, and remembers it, also over restarts.
//!
//! Whoever asks for timestamps that do not exist costs little: each cluster is asked once. After that a search asks a few
//! clusters again, and all searches together no more than [`AGAIN`] in a minute.

use super::ages;
use super::bucket::{LogBucket, S3_TIMEOUT};
use super::error::LogError;
use super::fresh::{Answer, Fresh, Known};
use super::index::Index;
use super::index_file::IndexFile;
use super::lists::{Lists, Question};
use super::payer::in_a_task;
use crate::gateway::served::Served;
use crate::gateway::token_bucket::TokenBucket;
use crate::ids::Application;
use quick_cache::sync::Cache;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

/// How many cluster timestamps each cache holds.
const MAX_TIMESTAMPS: usize = 1 << 14;
/// How many searches run at a time. Each can send many requests to S3.
const MAX_SEARCHES: usize = 16;
/// How many clusters a search asks about at a time.
const MAX_REQUESTS: usize = 16;
/// How many clusters one search asks again. A cluster whose ResourceManager restarted has applications of several
/// timestamps, and one that was empty can have got its first application; the likeliest come first.
const AGAIN_IN_A_SEARCH: usize = 12;
/// How many clusters all searches together ask again in a minute.
const AGAIN: u32 = 36;
/// How long a search can take for the request that began it. The bucket's own limit comes first.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(S3_TIMEOUT.as_secs() * 1000 + 500);
/// How long the file of the index waits for further changes.
const WRITE_PAUSE: Duration = Duration::from_secs(2);

/// A cluster below a log URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterLocation {
    /// Which log URI's bucket, by the order of the log URIs on the command line.
    pub(crate) bucket: usize,
    pub(crate) id: String,
}

/// What a search below all log URIs came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    pub(super) found: Option<ClusterLocation>,
    /// The buckets that could not be searched.
    pub(super) failures: Vec<(usize, LogError)>,
}

impl Answer for Search {
    fn confirms(&self, earlier: &Self) -> bool {
        self.found.is_none() && earlier.found.is_none()
    }
}

fn trust(known: &Known<Search>) -> Duration {
    match &known.value {
        Ok(Search { found: Some(_), .. }) => ages::EXISTENCE,
        Ok(Search { failures, .. }) if failures.is_empty() => ages::absence(known.unchanged()),
        // A log URI that fails makes the others no dearer.
        Ok(_) => ages::absence(known.unchanged()).min(ages::UNSEARCHED),
        Err(_) => Duration::ZERO,
    }
}

/// Finds clusters by cluster timestamp, and remembers them.
pub(super) struct Clusters {
    buckets: Arc<[LogBucket]>,
    lists: Arc<Lists>,
    /// The cluster of this node.
    own: Option<String>,
    /// Other clusters are not searched.
    served: Arc<Served>,
    found: Cache<u64, ClusterLocation>,
    searches: Fresh<u64, Search>,
    own_answers: Fresh<usize, bool>,
    permits: Arc<Semaphore>,
    again: Mutex<TokenBucket>,
    /// One for each bucket that is searched.
    indexes: Vec<Mutex<Index>>,
    /// One for each bucket that is searched. A search holds it, so that concurrent searches do not send the same requests.
    searching: Vec<tokio::sync::Mutex<()>>,
    file: Option<IndexFile>,
    changed: Notify,
}

impl Clusters {
    /// Clusters are searched in the first `count` buckets.
    pub(super) fn new(
        buckets: Arc<[LogBucket]>,
        count: usize,
        lists: Arc<Lists>,
        own: Option<String>,
        served: Arc<Served>,
    ) -> Self {
        let file = IndexFile::find();
        let mut stored = file.as_ref().map(IndexFile::read).unwrap_or_default();
        let mut index = |bucket: &LogBucket| {
            let mut index = stored.remove(&bucket.uri.to_string()).unwrap_or_default();
            index.retain(|cluster| served.has_cluster(cluster));
            Mutex::new(index)
        };
        Self {
            indexes: buckets.iter().take(count).map(&mut index).collect(),
            searching: buckets.iter().take(count).map(|_| tokio::sync::Mutex::default()).collect(),
            buckets,
            lists,
            own,
            served,
            found: Cache::new(MAX_TIMESTAMPS),
            searches: Fresh::new(MAX_TIMESTAMPS, MAX_TIMESTAMPS as u64),
            own_answers: Fresh::new(16, 16),
            permits: Arc::new(Semaphore::new(MAX_SEARCHES)),
            again: Mutex::new(TokenBucket::new(AGAIN, f64::from(AGAIN) / 60.0, Instant::now())),
            file,
            changed: Notify::new(),
        }
    }

    /// The cluster of an application, if this gateway has found it before.
    pub(super) fn known(&self, application: &Application) -> Option<ClusterLocation> {
        let timestamp = application.timestamp;
        if let Some(found) = self.found.get(&timestamp) {
            return Some(found);
        }
        let located = |bucket: usize| {
            let id = self.index(bucket).cluster_of(timestamp)?.to_string();
            Some(ClusterLocation { bucket, id })
        };
        // `verify` writes logs under timestamps of no cluster.
        let found = (0..self.indexes.len()).filter(|_| !application.is_synthetic()).find_map(located)?;
        self.found.insert(timestamp, found.clone());
        Some(found)
    }

    pub(super) fn remember(&self, application: &Application, cluster: ClusterLocation) {
        if !application.is_synthetic() {
            self.found.insert(application.timestamp, cluster);
        }
    }

    /// Whether an application, whose cluster is not known, can be on this node's own cluster. Without an answer of S3, it
    /// can.
    pub(super) async fn can_be_on_own(self: &Arc<Self>, bucket: usize, own: &str, application: &Application) -> bool {
        let asked = self.index(bucket).age_of(own, SystemTime::now());
        let Some(age) = asked.filter(|_| !application.is_synthetic()) else { return true };
        let missed = self.searches.known(&application.timestamp).map_or(Duration::ZERO, |search| search.unchanged());
        if age < ages::absence(missed).max(ages::OWN_CLUSTER) {
            return self.index(bucket).cluster_of(application.timestamp) == Some(own);
        }
        let request = || {
            let (this, own) = (self.clone(), own.to_string());
            async move { this.ask(bucket, &own, None).await }
        };
        let answered = self.own_answers.ask(bucket, |_| Duration::ZERO, request).answer().await;
        match answered {
            Ok(_) => self.index(bucket).cluster_of(application.timestamp) == Some(own),
            Err(_) => true,
        }
    }

    /// Searches the cluster of an application below all log URIs. The search continues after this request has stopped
    /// waiting, and the next request finds its result.
    pub(super) async fn find(self: &Arc<Self>, application: &Application) -> Result<Search, LogError> {
        if let Some(known) = self.known(application) {
            return Ok(Search { found: Some(known), failures: Vec::new() });
        }
        let timestamp = application.timestamp;
        let request = || {
            let this = self.clone();
            async move {
                let Ok(_permit) = this.permits.clone().try_acquire_owned() else { return Err(LogError::Searching) };
                Ok(this.search(timestamp).await)
            }
        };
        let search = self.searches.ask(timestamp, trust, request);
        tokio::time::timeout(SEARCH_TIMEOUT, search.answer()).await.unwrap_or(Err(LogError::Searching))
    }

    /// Searches all buckets at once, so that one that does not answer holds none up.
    async fn search(self: &Arc<Self>, timestamp: u64) -> Search {
        let mut searches = JoinSet::new();
        for bucket in 0..self.indexes.len() {
            let this = self.clone();
            searches.spawn(in_a_task(async move { (bucket, this.search_bucket(bucket, timestamp).await) }));
        }
        let mut failures = Vec::new();
        while let Some(ended) = searches.join_next().await {
            match ended {
                Ok((bucket, Ok(Some(id)))) => {
                    let found = ClusterLocation { bucket, id };
                    self.found.insert(timestamp, found.clone());
                    return Search { found: Some(found), failures: Vec::new() };
                }
                Ok((_, Ok(None))) => {}
                Ok((bucket, Err(error))) => failures.push((bucket, error)),
                Err(_) => failures.push((0, LogError::died())),
            }
        }
        failures.sort_by_key(|(bucket, _)| *bucket);
        Search { found: None, failures }
    }

    async fn search_bucket(self: &Arc<Self>, bucket: usize, timestamp: u64) -> Result<Option<String>, LogError> {
        let _one = self.searching[bucket].lock().await;
        // Another search may have found the cluster while this one waited.
        if let Some(cluster) = self.index(bucket).cluster_of(timestamp) {
            return Ok(Some(cluster.to_string()));
        }
        let question = Question { bucket, path: String::new() };
        let listed = self.lists.names(question, ages::CLUSTERS).answer().await?;
        self.take_over(bucket, &listed.names);
        let unasked = self.index(bucket).unasked(self.own.as_deref());
        let failure = match self.ask_each(bucket, unasked, timestamp).await? {
            Asked::Found(cluster) => return Ok(Some(cluster)),
            Asked::All { failure } => failure,
        };
        let mut again = self.index(bucket).worth_asking_again(timestamp, AGAIN_IN_A_SEARCH);
        let allowed = lock(&self.again).take_up_to(again.len(), Instant::now());
        again.truncate(allowed);
        let failed_again = match self.ask_each(bucket, again, timestamp).await? {
            Asked::Found(cluster) => return Ok(Some(cluster)),
            Asked::All { failure } => failure,
        };
        failure.or(failed_again).map_or(Ok(None), Err)
    }

    /// Takes over a listing of all clusters.
    fn take_over(&self, bucket: usize, names: &[String]) {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).filter(|id| self.served.has_cluster(id)).collect();
        let now = SystemTime::now();
        let mut index = self.index(bucket);
        index.list(&names, now);
        // A cluster that is not listed has no logs.
        if let Some(own) = self.own.as_deref().filter(|own| !names.contains(own)) {
            index.answer(own, &BTreeSet::new(), now);
        }
    }

    /// Asks S3 about clusters, until one has the timestamp.
    async fn ask_each(
        self: &Arc<Self>,
        bucket: usize,
        clusters: Vec<String>,
        timestamp: u64,
    ) -> Result<Asked, LogError> {
        let mut clusters = clusters.into_iter();
        let mut requests = JoinSet::new();
        let send = |requests: &mut JoinSet<_>, cluster: String| {
            let this = self.clone();
            requests.spawn(in_a_task(async move {
                let answer = this.ask(bucket, &cluster, Some(timestamp)).await;
                (cluster, answer)
            }));
        };
        for cluster in clusters.by_ref().take(MAX_REQUESTS) {
            send(&mut requests, cluster);
        }
        let mut failure = None;
        while let Some(ended) = requests.join_next().await {
            match ended.map_err(|_| LogError::died())? {
                (cluster, Ok(true)) => return Ok(Asked::Found(cluster)),
                (_, Ok(false)) => {}
                // Every further request would fail, too.
                (_, Err(e)) if e.concerns_all() => return Err(e),
                // Another cluster may have the timestamp.
                (_, Err(e)) => failure = Some(e),
            }
            if let Some(next) = clusters.next() {
                send(&mut requests, next);
            }
        }
        Ok(Asked::All { failure })
    }

    /// Asks S3 which timestamps a cluster has, and remembers the answer. Returns whether `wanted` is one of them.
    async fn ask(&self, bucket: usize, cluster: &str, wanted: Option<u64>) -> Result<bool, LogError> {
        let timestamps = self.buckets[bucket].timestamps(cluster).await?;
        self.index(bucket).answer(cluster, &timestamps, SystemTime::now());
        self.changed.notify_one();
        Ok(wanted.is_some_and(|wanted| timestamps.contains(&wanted)))
    }

    fn index(&self, bucket: usize) -> MutexGuard<'_, Index> {
        lock(&self.indexes[bucket])
    }

    /// Writes the file some seconds after each change.
    pub(super) async fn write_forever(self: Arc<Self>) {
        let mut has_warned = false;
        loop {
            self.changed.notified().await;
            tokio::time::sleep(WRITE_PAUSE).await;
            let this = self.clone();
            let written = tokio::task::spawn_blocking(move || this.write()).await;
            if let Ok(Err(error)) = written
                && !has_warned
            {
                eprintln!("warning: the gateway will search clusters again after a restart: {error:#}");
                has_warned = true;
            }
        }
    }

    /// Writes what the gateway knows of clusters to its file, if it has one.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let index = |(i, bucket): (usize, &LogBucket)| (bucket.uri.to_string(), self.index(i).clone());
        file.write(self.buckets.iter().take(self.indexes.len()).enumerate().map(index).collect())
    }
}

enum Asked {
    Found(String),
    /// None of them has the timestamp. The cluster of the failed request may have it.
    All {
        failure: Option<LogError>,
    },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
