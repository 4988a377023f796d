//! The node as it is: read, never changed.

pub mod hadoop;
pub mod history_server;
pub mod identity;
pub mod jar;
pub mod jars;
pub mod log_diagnosis;
pub mod process;
pub mod provisioning;
pub mod spark;

use crate::aws::config::{self, TimeoutProfile};
use crate::aws::emr::{Cluster, Described, EmrError};
use crate::aws::s3::{Encryption, S3};
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::error::Fault;
use crate::host::Host;
use crate::settings::Settings;
use anyhow::Result;
use hadoop::Hadoop;
use history_server::HistoryServer;
use identity::Identity;
use jars::{ClassPath, Scheme};
use spark::Spark;
use std::path::{Path, PathBuf};

/// Everything that is known of the node.
pub struct Node {
    /// Which node it is.
    pub identity: Identity,
    /// Spark's installation and configuration.
    pub spark: Spark,
    /// Hadoop's configuration.
    pub hadoop: Hadoop,
    /// The history server; `None` where only files below a root are looked at.
    pub server: Option<HistoryServer>,
    /// The history server's class path without what we added to it.
    pub class_path: ClassPath,
}

impl Node {
    /// Reads the node. `receipt` tells what of it is ours.
    pub fn observe(host: &Host, receipt: &Receipt) -> Result<Self> {
        let mut node = Self::read(host)?;
        node.look(host, receipt)?;
        Ok(node)
    }

    /// Reads the node's files, which takes no time.
    pub fn read(host: &Host) -> Result<Self> {
        match Self::read_what_can_be(host) {
            (node, None) => Ok(node),
            (_, Some(fault)) => Err(fault.into()),
        }
    }

    /// Reads the node's files; one that cannot be read counts as empty, and is what the fault is
    /// about.
    pub fn read_what_can_be(host: &Host) -> (Self, Option<Fault>) {
        let mut faults = Vec::new();
        let spark = Spark::observe(host).unwrap_or_else(|e| {
            faults.push(Fault::of(e));
            Spark::without_configuration(host)
        });
        let hadoop = Hadoop::observe(host, &spark.hadoop_conf(), &spark.defaults).unwrap_or_else(|e| {
            faults.push(Fault::of(e));
            Hadoop::default()
        });
        let class_path = ClassPath { elements: Vec::new(), from_process: false };
        let node = Self { identity: Identity::observe(host), spark, hadoop, server: None, class_path };
        (node, faults.into_iter().next())
    }

    /// Looks at the history server, which takes a moment.
    pub fn look(&mut self, host: &Host, receipt: &Receipt) -> Result<()> {
        self.server = if host.is_live() { Some(HistoryServer::observe(&self.spark)?) } else { None };
        self.class_path = class_path(host, &self.spark, self.server.as_ref(), receipt);
        Ok(())
    }

    /// What a scheme needs on this node.
    pub fn scheme(&self, host: &Host, scheme: &str, extra: &[PathBuf]) -> Result<Scheme, Fault> {
        Scheme::observe(host, &self.hadoop, &self.class_path, scheme, extra)
    }

    /// The AWS region to sign for: asked for, then the cluster's, then the SDK's own chain.
    pub fn region(&self, settings: &Settings) -> Option<String> {
        settings.region.clone().or_else(|| self.identity.region.clone())
    }

    /// The way to S3 that the history server is, or will be, configured for.
    pub fn way_to_s3(&self, settings: &Settings) -> WayToS3 {
        WayToS3 {
            region: self.region(settings),
            endpoint: settings.endpoint_url.clone().or_else(|| self.hadoop.endpoint()),
            encryption: self.hadoop.encryption(),
        }
    }

    /// What EMR says of this cluster, or why it could not be asked.
    pub fn describe_cluster(&self, settings: &Settings) -> Result<Cluster, EmrError> {
        describe_cluster(self.identity.cluster_id.as_deref(), self.region(settings))
    }
}

/// How this node reaches S3; can be gone in another thread.
pub struct WayToS3 {
    region: Option<String>,
    endpoint: Option<String>,
    encryption: Option<Encryption>,
}

impl WayToS3 {
    /// Connects; nothing is asked yet.
    pub fn open(self, patience: TimeoutProfile) -> Result<S3> {
        let runtime = config::runtime()?;
        let config = config::load(&runtime, self.region, patience);
        let mut s3 = S3::new(runtime, config, self.endpoint);
        s3.encryption = self.encryption;
        Ok(s3)
    }
}

/// What EMR says of a cluster, or why it could not be asked.
pub fn describe_cluster(id: Option<&str>, region: Option<String>) -> Result<Cluster, EmrError> {
    Ok(Described::fetch(id, region, TimeoutProfile::Usual)?.cluster())
}

/// The daemon's class path: of the running process if there is one, else as Spark's launcher
/// would put it together (facts §1.6).
fn class_path(host: &Host, spark: &Spark, server: Option<&HistoryServer>, receipt: &Receipt) -> ClassPath {
    let ours = |path: &Path| {
        receipt
            .entry(&Resource::Link { path: path.into() })
            .is_some_and(|e| matches!(e.before, crate::change::resource::State::Absent))
    };
    let running = server.and_then(|s| s.process.as_ref()).and_then(|p| p.class_path());
    if let Some(argument) = running {
        return ClassPath::resolve(host, argument, true, ours);
    }
    let from_env = spark.env.get("SPARK_DAEMON_CLASSPATH").map_or("", String::as_str);
    let from_unit = server.and_then(|s| s.unit.environment.get("SPARK_DAEMON_CLASSPATH")).map_or("", String::as_str);
    let home = spark.home.display();
    let argument = format!("{from_unit}:{from_env}:{home}/conf/:{home}/jars/*:{}/", spark.hadoop_conf().display());
    ClassPath::resolve(host, &argument, false, ours)
}
