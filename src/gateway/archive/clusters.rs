//! Which cluster an application ran on. An application's id contains the time at which its cluster's
//! ResourceManager started, the cluster timestamp. The directories below a log URI name clusters by
//! another id. So this module reads the id of each cluster's first application, once: it never changes.

use super::bucket::{LogBucket, S3_TIMEOUT};
use super::error::LogError;
use crate::ids::{Application, is_cluster};
use quick_cache::sync::Cache;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

/// How many cluster timestamps each cache holds.
const MAX_TIMESTAMPS: usize = 1 << 14;
/// How long the gateway trusts a search that found no cluster for a timestamp, and a listing of the clusters.
const NOT_FOUND_FRESH: Duration = Duration::from_secs(30);
/// How long the gateway trusts that a cluster has no application.
const EMPTY_FRESH: Duration = Duration::from_secs(300);
/// How many searches run at a time. Each sends many requests to S3.
const MAX_SEARCHES: usize = 16;
/// How many clusters a search asks about at a time.
const MAX_REQUESTS: usize = 16;
/// How many clusters that started before an application are searched for the application.
const MAX_EARLIER_CLUSTERS: usize = 64;

/// A cluster below a log URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterLocation {
    /// Which log URI's bucket, by the order of the log URIs on the command line.
    pub(crate) bucket: usize,
    pub(crate) id: String,
}

/// Finds clusters by cluster timestamp, and remembers them.
pub(super) struct Clusters {
    buckets: Arc<[LogBucket]>,
    /// The cluster of this node.
    own: Option<String>,
    found: Cache<u64, ClusterLocation>,
    /// When the last search for a timestamp ended without a result.
    not_found: Cache<u64, Instant>,
    searches: Arc<Semaphore>,
    /// One for each bucket. A search holds the lock of the index that it extends, so that concurrent
    /// searches do not send the same requests.
    indexes: Vec<Mutex<Index>>,
}

/// The clusters below a log URI.
#[derive(Default)]
struct Index {
    listed: Option<Instant>,
    clusters: BTreeMap<String, FirstApplication>,
}

/// The cluster timestamp of a cluster's first application.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstApplication {
    Unknown,
    /// The cluster had no application at that time.
    None(Instant),
    Timestamp(u64),
}

impl FirstApplication {
    fn is_worth_asking(self) -> bool {
        match self {
            Self::Unknown => true,
            Self::None(when) => when.elapsed() > EMPTY_FRESH,
            Self::Timestamp(_) => false,
        }
    }
}

impl Clusters {
    pub(super) fn new(buckets: Arc<[LogBucket]>, own: Option<String>) -> Self {
        Self {
            indexes: buckets.iter().map(|_| Mutex::default()).collect(),
            buckets,
            own,
            found: Cache::new(MAX_TIMESTAMPS),
            not_found: Cache::new(MAX_TIMESTAMPS),
            searches: Arc::new(Semaphore::new(MAX_SEARCHES)),
        }
    }

    /// The cluster of an application, if this gateway has found it before.
    pub(super) fn known(&self, application: &Application) -> Option<ClusterLocation> {
        self.found.get(&application.timestamp)
    }

    pub(super) fn remember(&self, application: &Application, cluster: ClusterLocation) {
        self.found.insert(application.timestamp, cluster);
    }

    /// The cluster of an application: known, or found below the log URIs.
    pub(super) async fn find(self: &Arc<Self>, application: &Application) -> Result<Option<ClusterLocation>, LogError> {
        let timestamp = application.timestamp;
        if let Some(known) = self.known(application) {
            return Ok(Some(known));
        }
        if self.not_found.get(&timestamp).is_some_and(|when| when.elapsed() < NOT_FOUND_FRESH) {
            return Ok(None);
        }
        let Ok(permit) = self.searches.clone().try_acquire_owned() else { return Err(LogError::Searching) };
        // The search continues after this request has stopped waiting. The next request finds its result.
        let this = self.clone();
        let search = tokio::spawn(async move {
            let _permit = permit;
            this.search(timestamp).await
        });
        match tokio::time::timeout(S3_TIMEOUT, search).await {
            Err(_) => Err(LogError::Searching),
            Ok(Err(e)) => Err(LogError::Unreachable(e.to_string())),
            Ok(Ok(found)) => found,
        }
    }

    async fn search(&self, timestamp: u64) -> Result<Option<ClusterLocation>, LogError> {
        let mut failure = None;
        for bucket in 0..self.buckets.len() {
            match self.search_bucket(bucket, timestamp).await {
                Ok(Some(id)) => {
                    let cluster = ClusterLocation { bucket, id };
                    self.found.insert(timestamp, cluster.clone());
                    return Ok(Some(cluster));
                }
                Ok(None) => {}
                Err(e) => failure = Some(e),
            }
        }
        if let Some(e) = failure {
            return Err(e);
        }
        self.not_found.insert(timestamp, Instant::now());
        Ok(None)
    }

    async fn search_bucket(&self, bucket: usize, timestamp: u64) -> Result<Option<String>, LogError> {
        let mut index = self.indexes[bucket].lock().await;
        // Another search may have found the cluster while this one waited for the index.
        if let Some(found) = self.found.get(&timestamp).filter(|found| found.bucket == bucket) {
            return Ok(Some(found.id));
        }
        if let Some(cluster) = index.cluster(timestamp) {
            return Ok(Some(cluster));
        }
        index.list(&self.buckets[bucket]).await?;
        let failure = match self.read_first_applications(bucket, &mut index, timestamp).await? {
            SearchStep::Found(cluster) => return Ok(Some(cluster)),
            SearchStep::Done { failure } => failure,
        };
        match self.search_earlier_clusters(bucket, &index, timestamp).await? {
            Some(cluster) => Ok(Some(cluster)),
            None => failure.map_or(Ok(None), Err),
        }
    }

    /// Reads the first application of each cluster that is not known, until one has the timestamp.
    async fn read_first_applications(
        &self,
        bucket: usize,
        index: &mut Index,
        timestamp: u64,
    ) -> Result<SearchStep, LogError> {
        let mut unknown = index.unknown(self.own.as_ref()).into_iter();
        let mut requests = JoinSet::new();
        let send = |requests: &mut JoinSet<_>, cluster: String| {
            let buckets = self.buckets.clone();
            requests.spawn(async move {
                let first = first_timestamp(&buckets[bucket], &cluster, None).await;
                (cluster, first)
            });
        };
        for cluster in unknown.by_ref().take(MAX_REQUESTS) {
            send(&mut requests, cluster);
        }
        let mut failure = None;
        while let Some(answer) = requests.join_next().await {
            let (cluster, first) = answer.map_err(|e| LogError::Unreachable(e.to_string()))?;
            if let Some(next) = unknown.next() {
                send(&mut requests, next);
            }
            match first {
                // Another cluster may have the timestamp.
                Err(e) => failure = Some(e),
                Ok(first) => {
                    index.insert(cluster.clone(), first);
                    if first == Some(timestamp) {
                        return Ok(SearchStep::Found(cluster));
                    }
                }
            }
        }
        Ok(SearchStep::Done { failure })
    }

    /// Searches clusters for an application that is not their first one. A cluster whose ResourceManager
    /// restarted has applications of several timestamps. The cluster that started last before the
    /// timestamp is the most likely one.
    async fn search_earlier_clusters(
        &self,
        bucket: usize,
        index: &Index,
        timestamp: u64,
    ) -> Result<Option<String>, LogError> {
        // This node's own cluster may have had no application yet.
        let own = self.own.iter().filter(|own| index.clusters.contains_key(*own));
        let earlier = index.clusters_before(timestamp).into_iter().take(MAX_EARLIER_CLUSTERS);
        for cluster in own.chain(earlier) {
            if first_timestamp(&self.buckets[bucket], cluster, Some(timestamp)).await?.is_some() {
                return Ok(Some(cluster.clone()));
            }
        }
        Ok(None)
    }
}

enum SearchStep {
    Found(String),
    /// No known cluster has the timestamp. The cluster of the failed request may have it.
    Done {
        failure: Option<LogError>,
    },
}

impl Index {
    /// The cluster whose first application has this timestamp.
    fn cluster(&self, timestamp: u64) -> Option<String> {
        let wanted = FirstApplication::Timestamp(timestamp);
        self.clusters.iter().find(|(_, first)| **first == wanted).map(|(cluster, _)| cluster.clone())
    }

    /// Lists the clusters below the log URI, unless the last listing is fresh.
    async fn list(&mut self, bucket: &LogBucket) -> Result<(), LogError> {
        if self.listed.is_some_and(|when| when.elapsed() <= NOT_FOUND_FRESH) {
            return Ok(());
        }
        let names: BTreeSet<String> =
            bucket.directories(&bucket.uri.prefix, usize::MAX, is_cluster).await?.into_iter().collect();
        self.clusters.retain(|cluster, _| names.contains(cluster));
        for name in names {
            self.clusters.entry(name).or_insert(FirstApplication::Unknown);
        }
        self.listed = Some(Instant::now());
        Ok(())
    }

    /// The clusters whose first application the gateway must look up in S3. `own` comes first: people mostly
    /// ask for logs of the newest clusters, and `own` is the only cluster that the gateway knows to be new.
    fn unknown(&self, own: Option<&String>) -> Vec<String> {
        let unknown = self.clusters.iter().filter(|(_, first)| first.is_worth_asking());
        let mut unknown: Vec<String> = unknown.map(|(cluster, _)| cluster.clone()).collect();
        if let Some(own) = unknown.iter().position(|cluster| Some(cluster) == own) {
            unknown.swap(0, own);
        }
        unknown
    }

    fn insert(&mut self, cluster: String, first: Option<u64>) {
        let first = first.map_or_else(|| FirstApplication::None(Instant::now()), FirstApplication::Timestamp);
        self.clusters.insert(cluster, first);
    }

    /// The clusters whose first application started before the timestamp, latest first.
    fn clusters_before(&self, timestamp: u64) -> Vec<&String> {
        let mut earlier: Vec<(u64, &String)> = self
            .clusters
            .iter()
            .filter_map(|(cluster, first)| match first {
                FirstApplication::Timestamp(first) if *first < timestamp => Some((*first, cluster)),
                _ => None,
            })
            .collect();
        earlier.sort_unstable_by(|a, b| b.cmp(a));
        earlier.into_iter().map(|(_, cluster)| cluster).collect()
    }
}

/// The cluster timestamp in the id of a cluster's first application. With `of`, only applications with that
/// timestamp count.
async fn first_timestamp(bucket: &LogBucket, cluster: &str, of: Option<u64>) -> Result<Option<u64>, LogError> {
    let number = of.map(|timestamp| format!("{timestamp}_")).unwrap_or_default();
    let prefix = format!("{}{cluster}/containers/application_{number}", bucket.uri.prefix);
    let name = bucket.first_directory(&prefix).await?.unwrap_or_default();
    let known = Application::parse(&name).filter(|application| of.is_some() || !application.is_synthetic());
    Ok(known.map(|application| application.timestamp))
}
