//! Which cluster an application ran on. Its id tells when its cluster's ResourceManager started, and
//! each cluster below a log URI tells the same of its first application: asked once, for that never
//! changes.

use super::{Archive, LogBucket, LogError, PAGE, with_timeout};
use crate::ids::{Application, is_cluster};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long a cluster that was not found is not looked for again.
const NOT_FOUND: Duration = Duration::from_secs(30);
/// How many searches may be under way or waiting.
pub const SEARCHES: usize = 16;
/// How many clusters are asked about at a time.
const AT_ONCE: usize = 16;
/// How many clusters that began before an application are looked through for it.
const EARLIER: usize = 64;
/// How long a cluster without applications is not asked again.
const EMPTY: Duration = Duration::from_secs(300);

/// The clusters below a log URI.
#[derive(Default)]
pub struct Index {
    listed: Option<Instant>,
    clusters: BTreeMap<String, First>,
}

/// The cluster timestamp of a cluster's first application.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// It has not been asked for.
    Unasked,
    /// There was none at that time.
    None(Instant),
    /// This, for ever.
    Known(u64),
}

impl First {
    fn is_worth_asking(self) -> bool {
        match self {
            First::Unasked => true,
            First::None(when) => when.elapsed() > EMPTY,
            First::Known(_) => false,
        }
    }
}

impl Archive {
    /// The cluster an application ran on: remembered, or found below the log URIs. `None` if it is
    /// nowhere there.
    pub async fn cluster(self: &Arc<Self>, application: &Application) -> Result<Option<(usize, String)>, LogError> {
        let timestamp = application.timestamp;
        if let Some(known) = self.cluster_known(application) {
            return Ok(Some(known));
        }
        if self.not_found.get(&timestamp).is_some_and(|when| when.elapsed() < NOT_FOUND) {
            return Ok(None);
        }
        let Ok(permit) = self.searches.clone().try_acquire_owned() else { return Err(LogError::Searching) };
        // It goes on when this request has stopped waiting: the next one finds what it found.
        let this = self.clone();
        let search = tokio::spawn(async move {
            let _permit = permit;
            this.search(timestamp).await
        });
        match tokio::time::timeout(PAGE, search).await {
            Err(_) => Err(LogError::Searching),
            Ok(Err(e)) => Err(LogError::Unreachable(e.to_string())),
            Ok(Ok(found)) => found,
        }
    }

    async fn search(self: Arc<Self>, timestamp: u64) -> Result<Option<(usize, String)>, LogError> {
        let mut refused = None;
        for store in 0..self.stores.len() {
            match self.clone().search_in(store, timestamp).await {
                Ok(Some(cluster)) => {
                    self.clusters.insert(timestamp, (store, cluster.clone()));
                    return Ok(Some((store, cluster)));
                }
                Ok(None) => {}
                Err(e) => refused = Some(e),
            }
        }
        if let Some(e) = refused {
            return Err(e);
        }
        self.not_found.insert(timestamp, Instant::now());
        Ok(None)
    }

    /// The cluster with this timestamp below one log URI. Each cluster is asked once for its first
    /// application, which never changes; where a ResourceManager was restarted, the cluster that
    /// began last before the timestamp is the likeliest.
    async fn search_in(self: Arc<Self>, store: usize, timestamp: u64) -> Result<Option<String>, LogError> {
        let LogBucket { uri, index, .. } = &self.stores[store];
        let mut index = index.lock().await;
        if let Some(found) = self.clusters.get(&timestamp).filter(|(at, _)| *at == store) {
            return Ok(Some(found.1));
        }
        if let Some((cluster, _)) = index.clusters.iter().find(|(_, first)| **first == First::Known(timestamp)) {
            return Ok(Some(cluster.clone()));
        }
        if index.listed.is_none_or(|when| when.elapsed() > NOT_FOUND) {
            let names =
                self.pages(store, &uri.prefix, usize::MAX, |name| is_cluster(name).then(|| name.to_string())).await?;
            let names: BTreeSet<String> = names.into_iter().collect();
            index.clusters.retain(|cluster, _| names.contains(cluster));
            for name in names {
                index.clusters.entry(name).or_insert(First::Unasked);
            }
            index.listed = Some(Instant::now());
        }
        let mut unknown: Vec<String> = index
            .clusters
            .iter()
            .filter(|(_, first)| first.is_worth_asking())
            .map(|(cluster, _)| cluster.clone())
            .collect();
        // The newest clusters are asked for most, and nothing else tells which they are.
        if let Some(own) = unknown.iter().position(|c| Some(c) == self.own_cluster.as_ref()) {
            unknown.swap(0, own);
        }
        let mut failed = None;
        let mut asked = JoinSet::new();
        let mut unknown = unknown.into_iter();
        let ask = |asked: &mut JoinSet<_>, cluster: String| {
            let this = self.clone();
            asked.spawn(async move {
                let first = this.first_timestamp(store, &cluster, None).await;
                (cluster, first)
            });
        };
        for cluster in unknown.by_ref().take(AT_ONCE) {
            ask(&mut asked, cluster);
        }
        while let Some(answer) = asked.join_next().await {
            let (cluster, first) = answer.map_err(|e| LogError::Unreachable(e.to_string()))?;
            if let Some(next) = unknown.next() {
                ask(&mut asked, next);
            }
            let first = match first {
                Ok(first) => first,
                Err(e) => {
                    // It may be any of the others.
                    failed = Some(e);
                    continue;
                }
            };
            let known = first.map_or_else(|| First::None(Instant::now()), First::Known);
            index.clusters.insert(cluster.clone(), known);
            if first == Some(timestamp) {
                return Ok(Some(cluster));
            }
        }
        let mut earlier: Vec<(u64, &String)> = index
            .clusters
            .iter()
            .filter_map(|(cluster, first)| match first {
                First::Known(first) if *first < timestamp => Some((*first, cluster)),
                _ => None,
            })
            .collect();
        earlier.sort_unstable_by(|a, b| b.cmp(a));
        // This node's own may have had no application yet.
        let own = self.own_cluster.iter().filter(|own| index.clusters.contains_key(*own));
        let earlier = own.chain(earlier.into_iter().take(EARLIER).map(|(_, cluster)| cluster));
        for cluster in earlier {
            if self.first_timestamp(store, cluster, Some(timestamp)).await?.is_some() {
                return Ok(Some(cluster.clone()));
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The timestamp of a cluster's first application, of all or of those with one timestamp.
    async fn first_timestamp(&self, store: usize, cluster: &str, of: Option<u64>) -> Result<Option<u64>, LogError> {
        let (uri, client) = self.ask(store).await?;
        let one = of.map(|timestamp| format!("{timestamp}_")).unwrap_or_default();
        let prefix = format!("{}{cluster}/containers/application_{one}", uri.prefix);
        let asked = client.list_objects_v2().bucket(&uri.bucket).prefix(&prefix).delimiter("/").max_keys(1).send();
        let page = with_timeout(asked).await?.map_err(|e| self.list_refused(store, &prefix, &e))?;
        let first = page.common_prefixes().first().and_then(|p| p.prefix()).unwrap_or_default();
        let name = first.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let known = Application::parse(name).filter(|application| of.is_some() || !application.is_synthetic());
        Ok(known.map(|application| application.timestamp))
    }
}
