//! A gateway without a port: tests and fuzz targets give it the bytes of a connection and read those of its answers.

use super::access_log::AccessLog;
use super::connection::Connection;
use super::startup::{self, GatewayConfig};
use super::watched::Watched;
use crate::aws::config::runtime;
use crate::gateway::event_log_cache::CacheConfig;
use crate::gateway::handler::Gateway;
use crate::settings::GatewaySettings;
use anyhow::Result;
use hyper_util::server::graceful::GracefulShutdown;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// A gateway that serves every peer. The SDK's usual variables give it credentials.
pub struct InMemoryGateway {
    gateway: Arc<Gateway>,
    runtime: Runtime,
}

impl InMemoryGateway {
    /// A gateway for the logs below a log URI of an S3 server, in front of a history server. With a password file it requires a
    /// login.
    pub fn new(s3: &str, log_uri: &str, history_server: &str, htpasswd: Option<PathBuf>) -> Result<Self> {
        Self::start(s3, log_uri, history_server, htpasswd, None)
    }

    /// A gateway that also keeps an index of the event logs below a prefix, and opens them: its database and the directory that the
    /// history server reads lie in this directory.
    pub fn with_index(
        s3: &str,
        log_uri: &str,
        history_server: &str,
        event_logs: &str,
        directory: &Path,
    ) -> Result<Self> {
        Self::start(s3, log_uri, history_server, None, Some((event_logs, directory)))
    }

    fn start(
        s3: &str,
        log_uri: &str,
        history_server: &str,
        htpasswd: Option<PathBuf>,
        index: Option<(&str, &Path)>,
    ) -> Result<Self> {
        let database = index.map(|(_, directory)| directory.join("index.sqlite"));
        let cache = index.zip(database.clone()).map(|((_, directory), index)| CacheConfig {
            directory: directory.join("cache"),
            index,
            size: None,
            count: None,
        });
        let settings = GatewaySettings {
            log_uris: vec![log_uri.parse()?],
            insecure: true,
            htpasswd,
            ..GatewaySettings::default()
        };
        let config = GatewayConfig {
            settings,
            cluster_id: Some("j-3H6EATEWWRWS".into()),
            region: Some("eu-west-3".into()),
            endpoint_url: Some(s3.into()),
            bucket_endpoints: BTreeMap::new(),
            bucket_regions: BTreeMap::new(),
            bucket_path_styles: BTreeMap::new(),
            history_server: history_server.into(),
            history_server_user: None,
            proxy_base: None,
            event_log_cache: cache,
            event_logs: index.map(|(uri, _)| uri.parse()).transpose()?.into_iter().collect(),
            index_db: database,
            look_interval: Duration::from_secs(30),
            listing_interval: Duration::from_secs(900),
            quiet: true,
        };
        let runtime = runtime()?;
        let gateway = runtime.block_on(startup::gateway(&config, None))?;
        Ok(Self { gateway: Arc::new(gateway), runtime })
    }

    /// What a client reads who sends these bytes, then closes its half of the connection, and reads until the gateway closes the
    /// other half.
    pub fn answers(&self, client: IpAddr, sent: &[u8]) -> Vec<u8> {
        self.runtime.block_on(self.serve(client, sent))
    }

    async fn serve(&self, client: IpAddr, sent: &[u8]) -> Vec<u8> {
        let peer = SocketAddr::new(client, 40_000);
        let client = self.gateway.client_at(client);
        let Some(open) = self.gateway.connections.open(client) else { return Vec::new() };
        let access_log = AccessLog::start(true, self.gateway.left_out.clone());
        let (gateway, caller) = (self.gateway.clone(), OnceCell::new());
        let connection = Connection { gateway, client, access_log, peer, own: None, owner: None, caller };
        let (theirs, ours) = duplex(64 * 1024);
        let graceful = GracefulShutdown::new();
        let stream = Watched::new(ours, open.link.clone());
        let served = connection.serve_http(&open.link, stream, graceful.watcher());
        let (mut read, mut write) = tokio::io::split(theirs);
        let mut answers = Vec::new();
        let send = async move {
            // The gateway can have closed the connection before it has read all.
            let _ = write.write_all(sent).await;
            let _ = write.shutdown().await;
        };
        let _ = tokio::join!(served, send, read.read_to_end(&mut answers));
        answers
    }
}
