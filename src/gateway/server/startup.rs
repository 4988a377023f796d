//! Builds the gateway from its settings.

use super::access_log::LeftOut;
use super::connections::Connections;
use crate::aws::endpoint::StoreAddress;
use crate::aws::uri::{EventLogs, LogUri};
use crate::aws::{http_client, proxies};
use crate::error::Fault;
use crate::gateway::access::{HostNames, NodeAddresses, RootToken};
use crate::gateway::applications::{Applications, IndexSettings, Place};
use crate::gateway::archive::{Archive, BucketStore};
use crate::gateway::base;
use crate::gateway::callers::Callers;
use crate::gateway::credentials::CredentialsCache;
use crate::gateway::event_log_cache::{CacheConfig, EventLogCache};
use crate::gateway::handler::Gateway;
use crate::gateway::history_server::listener::ListenerAccount;
use crate::gateway::history_server::opening::Openings;
use crate::gateway::history_server::proxy::HistoryServerProxy;
use crate::gateway::limits::{
    MAX_HISTORY_REQUESTS, MAX_HISTORY_REQUESTS_OF_CLIENT, MAX_STREAMS, MAX_STREAMS_OF_CLIENT, MAX_WAITING_REQUESTS,
    MAX_WAITING_REQUESTS_OF_CLIENT,
};
use crate::gateway::logins::Logins;
use crate::gateway::metrics::Metrics;
use crate::gateway::page_memory::PageMemory;
use crate::gateway::presign::LatestSigner;
use crate::gateway::served::Served;
use crate::gateway::shares::Shares;
use crate::gateway::tls::Tls;
use crate::host::Host;
use crate::index::without_covered;
use crate::settings::{GatewaySettings, Mode};
use anyhow::{Context, Result};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The options of `proxy serve`.
pub(crate) struct GatewayConfig {
    pub(crate) settings: GatewaySettings,
    /// This node's own cluster: the gateway searches it first.
    pub(crate) cluster_id: Option<String>,
    /// AWS region; `None` means that the SDK finds it.
    pub(crate) region: Option<String>,
    /// S3 endpoint; `None` means AWS's own.
    pub(crate) endpoint_url: Option<String>,
    /// The endpoints of buckets that lie elsewhere.
    pub(crate) bucket_endpoints: BTreeMap<String, String>,
    /// The regions of buckets whose store does not tell them.
    pub(crate) bucket_regions: BTreeMap<String, String>,
    /// Whether a bucket's name is in the path or in the host's name, for buckets whose endpoint does not decide it.
    pub(crate) bucket_path_styles: BTreeMap<String, bool>,
    pub(crate) history_server: String,
    /// The account that the history server runs as; `None` if it is not known.
    pub(crate) history_server_user: Option<String>,
    /// `spark.ui.proxyBase` of the history server.
    pub(crate) proxy_base: Option<String>,
    /// `None` if the history server reads S3 itself.
    pub(crate) event_log_cache: Option<CacheConfig>,
    /// Prefixes with event logs, of which the gateway keeps an index; without any it keeps none.
    pub(crate) event_logs: Vec<EventLogs>,
    /// The file of the index; `None` for the one in the state directory of the gateway's unit.
    pub(crate) index_db: Option<PathBuf>,
    pub(crate) look_interval: Duration,
    pub(crate) listing_interval: Duration,
    /// Writes no access log.
    pub(crate) quiet: bool,
}

/// Where each bucket is.
#[derive(Clone)]
struct Stores {
    endpoint_url: Option<String>,
    endpoints: BTreeMap<String, String>,
    regions: BTreeMap<String, String>,
    path_styles: BTreeMap<String, bool>,
}

impl Stores {
    fn of(config: &GatewayConfig) -> Self {
        Self {
            endpoint_url: config.endpoint_url.clone(),
            endpoints: config.bucket_endpoints.clone(),
            regions: config.bucket_regions.clone(),
            path_styles: config.bucket_path_styles.clone(),
        }
    }

    fn of_bucket(&self, bucket: &str) -> BucketStore {
        BucketStore {
            address: StoreAddress {
                endpoint: self.endpoints.get(bucket).or(self.endpoint_url.as_ref()).cloned(),
                path_style: self.path_styles.get(bucket).copied(),
            },
            region: self.regions.get(bucket).cloned(),
        }
    }
}

impl GatewayConfig {
    /// `None` if the gateway keeps no index.
    fn index_settings(&self) -> Option<IndexSettings> {
        let place = |uri: &EventLogs| {
            let BucketStore { address: store, region } = Stores::of(self).of_bucket(&uri.bucket);
            Place { uri: uri.clone(), store, region: region.or_else(|| self.region.clone()) }
        };
        let sources: Vec<Place> = self.event_logs.iter().map(place).collect();
        (!sources.is_empty()).then(|| IndexSettings {
            sources,
            file: self.index_db.clone(),
            look_interval: self.look_interval,
            listing_interval: self.listing_interval,
        })
    }
}

pub(super) async fn gateway(config: &GatewayConfig, tls: Option<Arc<Tls>>) -> Result<Gateway> {
    let (settings, has_tls) = (&config.settings, tls.is_some());
    let logins = settings.htpasswd.as_deref().map(Logins::start).transpose()?;
    let credentials = CredentialsCache::new().await;
    let sdk_config = sdk_config(config.region.as_ref()).await;
    let log_uris: Vec<LogUri> = settings.log_uris.iter().flat_map(LogUri::spellings).collect();
    if log_uris.is_empty() {
        return Err(Fault::usage("--log-uri is missing")
            .detail("the gateway serves the logs that EMR archives below a log URI, so it needs at least one log URI")
            .hint("emr-shs proxy serve --log-uri s3://my-bucket/elasticmapreduce/")
            .into());
    }
    let link_prefix = settings.link_prefix();
    base::set(settings.base_path());
    let applications = match config.index_settings() {
        Some(settings) => Some(Applications::start(settings, credentials.clone())?),
        None => None,
    };
    let serves_any_peer = settings.insecure || (has_tls && logins.is_some());
    let looks_at_accounts = !serves_any_peer && logins.is_none();
    let stores = Stores::of(config);
    let sources = without_covered(config.event_logs.clone(), |uri| uri);
    let archive = Arc::new(Archive::new(
        log_uris,
        sources.into_iter().map(|EventLogs { bucket, prefix, .. }| LogUri { bucket, prefix }).collect(),
        config.cluster_id.clone(),
        &sdk_config,
        |uri| stores.of_bucket(&uri.bucket),
        credentials.clone(),
        Arc::new(Served::new(settings, config.cluster_id.as_deref())),
    ));
    let history_server = Arc::new(
        HistoryServerProxy::new(
            &config.history_server,
            config.history_server_user.as_deref().map(listener_account).transpose()?,
            config.proxy_base.as_deref(),
            link_prefix.as_deref(),
        )
        .context("--history-server")?,
    );
    let cache = |cache| {
        let stores = stores.clone();
        let store = move |bucket: &str| stores.of_bucket(bucket);
        EventLogCache::start(cache, config.event_logs.clone(), archive.clone(), history_server.clone(), store)
    };
    Ok(Gateway {
        event_log_cache: config.event_log_cache.as_ref().map(cache).transpose()?,
        applications,
        credentials,
        history_server,
        openings: Openings::default(),
        mode: settings.mode.unwrap_or_default(),
        host_names: HostNames::new(host_names(settings)),
        node_addresses: NodeAddresses::default(),
        serves_any_peer,
        callers: looks_at_accounts.then(|| Arc::new(Callers::new(&settings.allow_accounts))),
        tls,
        logins,
        root_token: RootToken::make().unwrap_or_else(|error| {
            eprintln!("warning: `verify` will need a login, because the gateway cannot write its token: {error:#}");
            None
        }),
        tunnel_command: settings.tunnel_command(settings.host_names.last().map(String::as_str)),
        metrics: Metrics::default(),
        connections: Connections::default(),
        is_stopping: AtomicBool::new(false),
        page_memory: PageMemory::default(),
        left_out: LeftOut::default(),
        history_requests: Shares::new(MAX_HISTORY_REQUESTS, MAX_HISTORY_REQUESTS_OF_CLIENT),
        signers: archive.buckets.iter().map(|_| LatestSigner::default()).collect(),
        archive,
        waiting: Shares::new(MAX_WAITING_REQUESTS, MAX_WAITING_REQUESTS_OF_CLIENT),
        streams: Shares::new(MAX_STREAMS, MAX_STREAMS_OF_CLIENT),
    })
}

/// The SDK's configuration, without credentials: the archive adds the gateway's own. A browser waits
/// for each request to S3, so the timeouts are short.
async fn sdk_config(region: Option<&String>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(6))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client::client(&proxies::in_force()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        .no_credentials();
    if let Some(region) = region {
        loader = loader.region(Region::new(region.clone()));
    }
    loader.load().await
}

pub(super) fn tls(settings: &GatewaySettings) -> Result<Option<Arc<Tls>>> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(chain), Some(key)) => Ok(Some(Arc::new(Tls::from_files(chain.clone(), key.clone())?))),
        _ if settings.tls_self_signed => {
            let tls = Tls::self_signed(host_names(settings))?;
            eprintln!("self-signed certificate, SHA-256 {}", tls.own_fingerprint().unwrap_or_default());
            Ok(Some(Arc::new(tls)))
        }
        _ => Ok(None),
    }
}

/// The account that must listen behind the gateway.
fn listener_account(name: &str) -> Result<ListenerAccount> {
    let (uid, _) = Host::this().account(name).ok_or_else(|| {
        Fault::usage(format!("--history-server-user: this node has no account {name}"))
            .hint("name the account that the history server runs as: ps -C java -o user,args")
    })?;
    Ok(ListenerAccount::new(name, uid))
}

fn host_names(settings: &GatewaySettings) -> Vec<String> {
    let mut names = settings.host_names.clone();
    names.extend(Host::this().name());
    names.extend(settings.public_url.as_deref().and_then(url_host));
    names.push("localhost".into());
    names
}

/// The host of `https://host:port`.
fn url_host(url: &str) -> Option<String> {
    let uri: hyper::Uri = url.parse().ok()?;
    Some(uri.host()?.trim_matches(['[', ']']).to_string())
}

/// Describes the gateway for its first line in the journal.
pub(super) fn describe(config: &GatewayConfig, gateway: &Gateway) -> String {
    let uris: Vec<String> = config.settings.log_uris.iter().map(ToString::to_string).collect();
    let mode = match gateway.mode {
        Mode::Redirect => "redirects to presigned URLs",
        Mode::Stream => "streams",
    };
    let peers = if gateway.serves_any_peer { "any peer" } else { "this node's own addresses" };
    let login = if gateway.logins.is_some() { ", with a login" } else { "" };
    format!("logs under {}, {mode}, serves {peers}{login}", uris.join(" and "))
}
