//! Where EMR archives container logs: one or more log URIs, the clusters below them, and what is
//! known of their objects. Asks S3 as seldom as it can and remembers what cannot change.

use super::credentials::{Keeper, Kept};
use super::presign::Address;
use super::route::{Application, Place, container_directory, is_cluster, stored_name};
use crate::s3::{LogUri, root_causes};
use anyhow::Result;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use quick_cache::sync::Cache;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;

/// How many objects are remembered to be there.
const OBJECTS: usize = 1 << 16;
/// How many runs of a ResourceManager are remembered.
const CLUSTERS: usize = 1 << 14;
/// How long an object that was there is taken to be there.
const THERE: Duration = Duration::from_secs(3600);
/// How long a cluster that was not found is not looked for again.
const NOT_FOUND: Duration = Duration::from_secs(30);
/// How long a cluster without applications is not asked again.
const EMPTY: Duration = Duration::from_secs(300);
/// How many pages of a thousand directories a page shows at most.
const LISTED: usize = 50;
/// How long a click waits for S3 to say that a log is there, once its place is known.
const CLICK: Duration = Duration::from_millis(300);
/// How long a page waits for S3.
pub const PAGE: Duration = Duration::from_secs(8);
/// How many clusters are asked about at a time.
const AT_ONCE: usize = 16;
/// How many clusters that began before an application are looked through for it.
const EARLIER: usize = 64;

/// A log URI and the way to it.
pub struct Store {
    /// The log URI.
    pub uri: LogUri,
    config: SdkConfig,
    endpoint: Option<String>,
    way: OnceCell<Way>,
    /// Each cluster below it, with the cluster timestamp of its first application.
    index: Mutex<Index>,
}

/// How a bucket is reached: looked up once.
pub struct Way {
    /// To ask S3 with, in the bucket's region.
    pub client: Client,
    /// Where a browser finds the bucket.
    pub address: Address,
    /// What to sign for.
    pub region: String,
}

#[derive(Default)]
struct Index {
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
pub enum Trouble {
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
    pub stores: Vec<Store>,
    /// This node's own cluster.
    pub own_cluster: Option<String>,
    keeper: Arc<Keeper>,
    hasher: RandomState,
    there: Cache<u64, Instant>,
    clusters: Cache<u64, (usize, String)>,
    not_found: Cache<u64, Instant>,
}

impl Archive {
    /// Nothing is asked yet.
    pub fn new(
        uris: Vec<LogUri>,
        own_cluster: Option<String>,
        config: &SdkConfig,
        endpoint: Option<String>,
        keeper: Arc<Keeper>,
    ) -> Self {
        let config = config
            .to_builder()
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(Kept(keeper.clone())))
            .identity_cache(aws_config::identity::IdentityCache::no_cache())
            .build();
        let store = |uri| Store {
            uri,
            config: config.clone(),
            endpoint: endpoint.clone(),
            way: OnceCell::new(),
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
        }
    }

    /// Where a log is, if that is known without asking anybody.
    pub fn known(&self, place: &Place, file: &str, under: Option<usize>) -> Option<Location> {
        let at = match place {
            Place::Container(container) => {
                let (store, cluster) = self.clusters.get(&container.application.timestamp)?;
                self.at(store, &container_directory(&cluster, container), file)
            }
            Place::Directory(directory) => self.at(under.or((self.stores.len() == 1).then_some(0))?, directory, file),
        };
        self.is_there(&at).then_some(at)
    }

    fn at(&self, store: usize, directory: &str, file: &str) -> Location {
        Location { store, key: format!("{}{directory}{}", self.stores[store].uri.prefix, stored_name(file)) }
    }

    fn is_there(&self, at: &Location) -> bool {
        self.there.get(&self.mark(at)).is_some_and(|when| when.elapsed() < THERE)
    }

    fn mark(&self, at: &Location) -> u64 {
        self.hasher.hash_one((at.store, &at.key))
    }

    /// Finds a log that can be read.
    pub async fn find(self: &Arc<Self>, place: &Place, file: &str, under: Option<usize>) -> Result<Location, Trouble> {
        let mut directories = match place {
            Place::Directory(directory) => {
                let stores = under.map_or(0..self.stores.len(), |one| one..one + 1);
                stores.map(|store| (store, directory.clone())).collect()
            }
            Place::Container(container) => match self.cluster_known(&container.application) {
                Some((store, cluster)) => vec![(store, container_directory(&cluster, container))],
                None => Vec::new(),
            },
        };
        // One whose place is known opens even if S3 is slow to say that it is there.
        let sure = directories.len() == 1;
        let mut looked = None;
        if let (Place::Container(container), true) = (place, directories.is_empty()) {
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
            if let Some(other) = others.iter().flatten().find(|o| o.name == file) {
                let key = format!("{}{directory}{}", self.stores[store].uri.prefix, other.name);
                let at = Location { store, key };
                self.there.insert(self.mark(&at), Instant::now());
                return Ok(at);
            }
            let missing = Trouble::Missing { at, others: others.ok() };
            first.get_or_insert(missing);
        }
        Err(first.unwrap_or(Trouble::Searching))
    }

    /// Where an application is looked for that is nowhere.
    pub fn own(&self) -> (usize, String) {
        (0, self.own_cluster.clone().unwrap_or_else(|| "j-UNKNOWN".into()))
    }

    fn cluster_known(&self, application: &Application) -> Option<(usize, String)> {
        self.clusters.get(&application.timestamp)
    }

    /// Asks S3 for an object, and remembers it if it is there and can be read.
    async fn look(&self, at: &Location) -> Result<bool, Trouble> {
        if self.is_there(at) {
            return Ok(true);
        }
        self.keeper.session().await.map_err(Trouble::NoCredentials)?;
        let store = &self.stores[at.store];
        let client = &store.way().await?.client;
        let asked = client.head_object().bucket(&store.uri.bucket).key(&at.key).send();
        match patiently(asked).await? {
            Ok(head) => {
                if let Some(class) = archived(&head) {
                    return Err(Trouble::Archived { at: at.clone(), class });
                }
                self.there.insert(self.mark(at), Instant::now());
                Ok(true)
            }
            Err(e) => match status(&e) {
                Some(404) => Ok(false),
                Some(403) => self.refused(at).await,
                _ => Err(Trouble::Unreachable(root_causes(&e))),
            },
        }
    }

    /// A 403 has no words to a HEAD. And without the right to list, S3 says 403 for an object that
    /// is not there (second facts §6).
    async fn refused(&self, at: &Location) -> Result<bool, Trouble> {
        let store = &self.stores[at.store];
        let listed = self.list(at.store, &at.key).await;
        if listed.as_ref().is_ok_and(|objects| !objects.iter().any(|o| o.name.is_empty())) {
            return Ok(false);
        }
        let asked =
            store.way().await?.client.get_object().bucket(&store.uri.bucket).key(&at.key).range("bytes=0-0").send();
        let (code, said) = match patiently(asked).await? {
            Ok(_) => return Ok(true),
            Err(e) if status(&e) == Some(404) => return Ok(false),
            Err(e) if status(&e).is_some() => {
                (e.code().unwrap_or("AccessDenied").to_string(), e.message().unwrap_or_default().to_string())
            }
            Err(e) => return Err(Trouble::Unreachable(root_causes(&e))),
        };
        if code == "InvalidObjectState" {
            return Err(Trouble::Archived { at: at.clone(), class: "archived".into() });
        }
        let permission = if code.starts_with("KMS") || said.contains("kms:") {
            "kms:Decrypt"
        } else if listed.is_err() {
            "s3:GetObject and s3:ListBucket"
        } else {
            "s3:GetObject"
        };
        Err(Trouble::Denied { at: at.clone(), permission, said: format!("{code} {said}").trim_end().to_string() })
    }

    /// The objects directly below a prefix, at most a thousand.
    pub async fn list(&self, store: usize, prefix: &str) -> Result<Vec<Object>, Trouble> {
        let (uri, client) = self.ask(store).await?;
        let asked = client.list_objects_v2().bucket(&uri.bucket).prefix(prefix).delimiter("/").send();
        let page = patiently(asked).await?.map_err(|e| self.list_refused(store, prefix, &e))?;
        Ok(page.contents().iter().filter_map(|o| object(o, prefix)).collect())
    }

    /// The objects below a prefix, at any depth; and whether these are all.
    pub async fn list_all(&self, store: usize, prefix: &str) -> Result<(Vec<Object>, bool), Trouble> {
        const PAGES: usize = 10;
        let (uri, client) = self.ask(store).await?;
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let asked =
                client.list_objects_v2().bucket(&uri.bucket).prefix(prefix).set_continuation_token(token.take());
            let page = patiently(asked.send()).await?.map_err(|e| self.list_refused(store, prefix, &e))?;
            found.extend(page.contents().iter().filter_map(|o| object(o, prefix)));
            match page.next_continuation_token() {
                Some(next) => token = Some(next.to_string()),
                None => return Ok((found, true)),
            }
        }
        Ok((found, false))
    }

    /// The names of the directories directly below a prefix, at most fifty thousand.
    pub async fn directories(&self, store: usize, prefix: &str) -> Result<Vec<String>, Trouble> {
        self.pages(store, prefix, LISTED, |name| Some(name.to_string())).await
    }

    async fn pages<T>(
        &self,
        store: usize,
        prefix: &str,
        most: usize,
        keep: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Trouble> {
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
            let page = patiently(asked).await?.map_err(|e| self.list_refused(store, prefix, &e))?;
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

    async fn ask(&self, store: usize) -> Result<(&LogUri, &Client), Trouble> {
        self.keeper.session().await.map_err(Trouble::NoCredentials)?;
        let store = &self.stores[store];
        Ok((&store.uri, &store.way().await?.client))
    }

    fn list_refused<E>(&self, store: usize, prefix: &str, e: &SdkError<E>) -> Trouble
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match status(e) {
            Some(403) => Trouble::Denied {
                at: Location { store, key: prefix.into() },
                permission: "s3:ListBucket",
                said: format!("{} {}", e.code().unwrap_or("AccessDenied"), e.message().unwrap_or_default()),
            },
            _ => Trouble::Unreachable(root_causes(e)),
        }
    }

    /// The cluster an application ran on: remembered, or found below the log URIs. `None` if it is
    /// nowhere there.
    pub async fn cluster(self: &Arc<Self>, application: &Application) -> Result<Option<(usize, String)>, Trouble> {
        let timestamp = application.timestamp;
        if let Some(known) = self.cluster_known(application) {
            return Ok(Some(known));
        }
        if self.not_found.get(&timestamp).is_some_and(|when| when.elapsed() < NOT_FOUND) {
            return Ok(None);
        }
        // It goes on when this request has stopped waiting: the next one finds what it found.
        let this = self.clone();
        let search = tokio::spawn(async move { this.search(timestamp).await });
        match tokio::time::timeout(PAGE, search).await {
            Err(_) => Err(Trouble::Searching),
            Ok(Err(e)) => Err(Trouble::Unreachable(e.to_string())),
            Ok(Ok(found)) => found,
        }
    }

    async fn search(self: Arc<Self>, timestamp: u64) -> Result<Option<(usize, String)>, Trouble> {
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
    async fn search_in(self: Arc<Self>, store: usize, timestamp: u64) -> Result<Option<String>, Trouble> {
        let Store { uri, index, .. } = &self.stores[store];
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
            let (cluster, first) = answer.map_err(|e| Trouble::Unreachable(e.to_string()))?;
            let first = first?;
            let known = first.map_or_else(|| First::None(Instant::now()), First::Known);
            index.clusters.insert(cluster.clone(), known);
            if first == Some(timestamp) {
                return Ok(Some(cluster));
            }
            if let Some(next) = unknown.next() {
                ask(&mut asked, next);
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
        for (_, cluster) in earlier.into_iter().take(EARLIER) {
            if self.first_timestamp(store, cluster, Some(timestamp)).await?.is_some() {
                return Ok(Some(cluster.clone()));
            }
        }
        Ok(None)
    }

    /// The timestamp of a cluster's first application, of all or of those with one timestamp.
    async fn first_timestamp(&self, store: usize, cluster: &str, of: Option<u64>) -> Result<Option<u64>, Trouble> {
        let (uri, client) = self.ask(store).await?;
        let of = of.map(|timestamp| format!("{timestamp}_")).unwrap_or_default();
        let prefix = format!("{}{cluster}/containers/application_{of}", uri.prefix);
        let asked = client.list_objects_v2().bucket(&uri.bucket).prefix(&prefix).delimiter("/").max_keys(1).send();
        let page = patiently(asked).await?.map_err(|e| self.list_refused(store, &prefix, &e))?;
        let first = page.common_prefixes().first().and_then(|p| p.prefix()).unwrap_or_default();
        let name = first.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        Ok(Application::parse(name).map(|application| application.timestamp))
    }
}

impl Store {
    /// The way to the bucket.
    pub async fn way(&self) -> Result<&Way, Trouble> {
        self.way.get_or_try_init(|| self.find_way()).await
    }

    /// The way to the bucket, if it was looked up.
    pub fn known_way(&self) -> Option<&Way> {
        self.way.get()
    }

    async fn find_way(&self) -> Result<Way, Trouble> {
        let endpoint = self.endpoint.as_deref();
        let client = crate::s3::client(&self.config, endpoint, None);
        let told = match patiently(client.head_bucket().bucket(&self.uri.bucket).send()).await? {
            Ok(found) => found.bucket_region().map(str::to_string),
            Err(e) => match e.raw_response() {
                Some(answer) => answer.headers().get("x-amz-bucket-region").map(str::to_string),
                None => return Err(Trouble::Unreachable(root_causes(&e))),
            },
        };
        let configured = self.config.region().map(ToString::to_string);
        let region = told.or(configured).unwrap_or_else(|| "us-east-1".into());
        let client = crate::s3::client(&self.config, endpoint, Some(region.clone()));
        let address = Address::of(&self.uri.bucket, &region, endpoint).await;
        let address = address.map_err(|e| Trouble::Unreachable(format!("{e:#}")))?;
        Ok(Way { client, address, region })
    }
}

fn object(found: &aws_sdk_s3::types::Object, prefix: &str) -> Option<Object> {
    let name = found.key()?.strip_prefix(prefix)?.to_string();
    let size = u64::try_from(found.size().unwrap_or(0)).ok()?;
    Some(Object { name, size, modified: found.last_modified().copied() })
}

/// An answer of S3, or that there is none in the time a person waits.
async fn patiently<T>(asked: impl Future<Output = T>) -> Result<T, Trouble> {
    let late = |_| Trouble::Unreachable(format!("S3 did not answer within {} s", PAGE.as_secs()));
    tokio::time::timeout(PAGE, asked).await.map_err(late)
}

/// The storage class of an object that cannot be read before it is restored.
fn archived(head: &aws_sdk_s3::operation::head_object::HeadObjectOutput) -> Option<String> {
    let class = head.storage_class().map(|class| class.as_str().to_string()).unwrap_or_default();
    let restored = head.restore().is_some_and(|r| r.contains("ongoing-request=\"false\""));
    match (class.as_str(), head.archive_status()) {
        (_, Some(status)) if !restored => Some(format!("{class}, {}", status.as_str())),
        ("GLACIER" | "DEEP_ARCHIVE", _) if !restored => Some(class),
        _ => None,
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|r| r.status().as_u16())
}
