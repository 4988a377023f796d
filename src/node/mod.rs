//! The node: its identity, its configuration, and its history server. This module writes no file; it can
//! restart the history server and end its processes.

mod control_group;
mod credentials;
pub(crate) mod event_logs;
pub(crate) mod hadoop;
pub(crate) mod hadoop_client;
pub(crate) mod history_server;
pub(crate) mod identity;
pub(crate) mod jar;
pub(crate) mod jars;
pub(crate) mod log_diagnosis;
mod logger;
pub(crate) mod process;
pub(crate) mod provisioning;
pub(crate) mod s3a;
pub(crate) mod spark;
pub(crate) mod spark_conf;
pub(crate) mod start_files;
pub(crate) mod unlike;

use crate::aws::config::{self, Keys, TimeoutProfile};
use crate::aws::emr::{Cluster, ClusterDescription, EmrError};
use crate::aws::endpoint::StoreAddress;
use crate::aws::proxies::{self, Proxies};
use crate::aws::s3::{RequestOptions, S3};
use crate::aws::uri::EventLogs;

use crate::error::Fault;
use crate::host::Host;
use anyhow::Result;
use hadoop::Hadoop;
use history_server::HistoryServer;
use identity::Identity;
use jars::{ClassPath, Scheme};
use s3a::BucketSettings;
use spark::Spark;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// Everything that is known of the node.
pub struct Node {
    pub identity: Identity,
    pub spark: Spark,
    pub hadoop: Hadoop,
    /// `None` for a directory that stands for a node (`--root`): it has no services.
    pub server: Option<HistoryServer>,
    /// The history server's class path, without the jars that `is_ours` named.
    pub class_path: ClassPath,
}

impl Node {
    /// Reads the node's files and observes its history server. `is_ours` says which jars emr-shs put on
    /// the class path.
    pub fn observe(host: &Host, is_ours: &dyn Fn(&Path) -> bool) -> Result<Self> {
        let mut node = Self::read(host)?;
        node.observe_server(host, is_ours)?;
        Ok(node)
    }

    /// Reads the node's files. This asks no service.
    pub fn read(host: &Host) -> Result<Self> {
        match Self::read_leniently(host) {
            (node, None) => Ok(node),
            (_, Some(fault)) => Err(fault.into()),
        }
    }

    /// Reads the node's files. A file that cannot be read counts as empty. The fault is about the first
    /// such file.
    pub fn read_leniently(host: &Host) -> (Self, Option<Fault>) {
        let mut faults = Vec::new();
        let spark = Spark::observe(host).unwrap_or_else(|e| {
            faults.push(Fault::of(e));
            Spark::without_configuration(host)
        });
        let hadoop = Hadoop::observe(host, &spark.hadoop_conf(), &spark.defaults, &spark.env).unwrap_or_else(|e| {
            faults.push(Fault::of(e));
            Hadoop::default()
        });
        let class_path = ClassPath { elements: Vec::new(), from_process: false };
        let node = Self { identity: Identity::observe(host), spark, hadoop, server: None, class_path };
        (node, faults.into_iter().next())
    }

    /// Observes the history server and its class path. This takes a moment: it asks the server.
    pub fn observe_server(&mut self, host: &Host, is_ours: &dyn Fn(&Path) -> bool) -> Result<()> {
        self.server = if host.is_live() { Some(HistoryServer::observe(&self.spark)?) } else { None };
        let process = self.server.as_ref().and_then(|server| server.process.as_ref());
        self.spark.open_logs = process.map(process::Process::open_logs).unwrap_or_default();
        self.class_path = class_path(host, &self.spark, self.server.as_ref(), is_ours);
        Ok(())
    }

    /// The heap in MiB of the history server after its next start. Only a shell knows what the start scripts do with
    /// `SPARK_DAEMON_MEMORY`, so the process that they started tells it, as long as they have not changed since.
    pub(crate) fn server_heap_mib(&self) -> u64 {
        let process = self.server.as_ref().and_then(|server| server.process.as_ref());
        let process = process.filter(|process| self.spark.start_files.were_read_by(process.up()));
        process.and_then(process::Process::heap_mib).unwrap_or_else(|| self.spark.daemon_heap_mib())
    }

    /// The jars that a scheme of event log URIs needs on this node.
    pub fn scheme(&self, host: &Host, scheme: &str, extra: &[PathBuf]) -> Result<Scheme, Fault> {
        Scheme::observe(host, &self.hadoop, &self.class_path, scheme, extra)
    }

    /// The AWS region to sign for: the wanted one, else the cluster's. `None` leaves the choice to the
    /// SDK's own chain.
    pub fn region(&self, wanted: Option<&str>) -> Option<String> {
        wanted.map(str::to_string).or_else(|| self.identity.region.clone())
    }

    /// How this node's file systems reach the bucket of a directory.
    pub fn bucket_settings(&self, uri: &EventLogs) -> BucketSettings {
        BucketSettings::read(&self.hadoop, &uri.scheme, &uri.bucket)
    }

    /// How to connect to S3 as the history server does. A region or an endpoint overrides the node's.
    pub fn s3_connection(&self, uri: &EventLogs, region: Option<&str>, endpoint: Option<&str>) -> S3Connection {
        let settings = self.bucket_settings(uri);
        S3Connection {
            region: self.region(region.or(settings.region.as_deref())),
            options: settings.request_options(),
            store: if endpoint.is_some() { StoreAddress::at(endpoint) } else { settings.store() },
            proxies: self.proxies(uri),
            keys: None,
        }
    }

    /// The proxies for requests to the bucket of a directory: S3A's, else those of this process.
    pub fn proxies(&self, uri: &EventLogs) -> Proxies {
        let hadoop = self.hadoop.for_bucket(&uri.bucket);
        let s3a = Proxies::of_s3a(&|key| hadoop.text(key));
        s3a.unwrap_or_else(proxies::in_force)
    }

    /// What EMR says of this cluster, or why EMR could not be asked.
    pub fn describe_cluster(&self, region: Option<&str>) -> Result<Cluster, EmrError> {
        describe_cluster(self.identity.cluster_id.as_deref(), self.region(region))
    }

    /// The KMS key with which EMR encrypts this cluster's archived logs; `None` if there is none, or EMR does not tell.
    pub(crate) fn describe_log_key(&self, region: Option<&str>) -> Option<String> {
        let id = self.identity.cluster_id.as_deref();
        let described = ClusterDescription::fetch(id, self.region(region), TimeoutProfile::Usual).ok()?;
        described.log_key().map(str::to_string)
    }
}

/// What a connection to S3 needs. Another thread can open the connection.
pub struct S3Connection {
    region: Option<String>,
    store: StoreAddress,
    options: RequestOptions,
    proxies: Proxies,
    /// Credentials other than those of this process.
    keys: Option<Keys>,
}

impl S3Connection {
    pub(crate) fn with_keys(self, keys: Keys) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// Prepares a client. This sends no request.
    pub fn open(self, timeouts: TimeoutProfile) -> Result<S3> {
        self.open_on(config::runtime()?, timeouts)
    }

    /// The same on another runtime.
    pub(crate) fn open_on(self, runtime: Runtime, timeouts: TimeoutProfile) -> Result<S3> {
        let config = config::load(&runtime, self.region, timeouts, &self.proxies);
        let config = self.keys.map_or(config.clone(), |keys| keys.instead_of_those_in(config));
        let mut s3 = S3::new(runtime, config, self.store, self.proxies);
        s3.options = self.options;
        Ok(s3)
    }
}

/// What EMR says of a cluster at the first request, or why EMR could not be asked.
pub(crate) fn describe_cluster(id: Option<&str>, region: Option<String>) -> Result<Cluster, EmrError> {
    Ok(ClusterDescription::fetch(id, region, TimeoutProfile::Usual)?.cluster())
}

/// The history server's class path: from the command line of the running process, else composed as
/// Spark's launcher composes it (`docs/emr.md §2.5`).
fn class_path(
    host: &Host,
    spark: &Spark,
    server: Option<&HistoryServer>,
    is_ours: &dyn Fn(&Path) -> bool,
) -> ClassPath {
    let running = server.and_then(|s| s.process.as_ref()).and_then(|p| p.class_path());
    if let Some(argument) = running {
        return ClassPath::resolve(host, argument, true, is_ours);
    }
    let from_env = spark.env.get("SPARK_DAEMON_CLASSPATH").map_or("", String::as_str);
    let from_unit = server.and_then(|s| s.unit.environment.get("SPARK_DAEMON_CLASSPATH")).map_or("", String::as_str);
    let home = spark.home.display();
    let argument = format!("{from_unit}:{from_env}:{home}/conf/:{home}/jars/*:{}/", spark.hadoop_conf().display());
    ClassPath::resolve(host, &argument, false, is_ours)
}
