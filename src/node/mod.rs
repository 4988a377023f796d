//! The node as it is: read, never changed.

pub mod gateway;
pub mod hadoop;
pub mod history_server;
pub mod identity;
pub mod jar;
pub mod jars;
pub mod process;
pub mod spark;
pub mod symptoms;

use crate::aws::{self, Cluster};
use crate::config::Settings;
use crate::fault::Fault;
use crate::host::Host;
use crate::receipt::Receipt;
use crate::resource::Resource;
use crate::s3::S3;
use anyhow::Result;
use hadoop::Hadoop;
use history_server::HistoryServer;
use identity::{Identity, Role};
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
        let spark = Spark::observe(host)?;
        let hadoop = Hadoop::observe(host, &spark.hadoop_conf(), &spark.defaults)?;
        let class_path = ClassPath { elements: Vec::new(), from_process: false };
        Ok(Self { identity: Identity::observe(host), spark, hadoop, server: None, class_path })
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

    /// Refuses a node that cannot be meant.
    pub fn must_be_primary(&self, host: &Host, force: bool) -> Result<(), Fault> {
        let Identity { role, role_from, .. } = &self.identity;
        if *role == Role::Worker {
            return Err(Fault::preflight(
                "this node is not the cluster's primary node, and only that runs the history server",
            )
            .detail(format!("{} says so", role_from.as_deref().unwrap_or("its metadata")))
            .hint("run it on the primary node; scripts that run on every node pass --if-primary"));
        }
        if !self.spark.is_installed(host) {
            let fault = Fault::preflight(format!("there is no Spark at {}", spark::HOME));
            return Err(if self.identity.is_emr() {
                fault
                    .detail("this is an EMR node, so Spark is not among its applications, or not installed yet")
                    .hint("create the cluster with the application Spark, and run this as a step")
            } else {
                fault
                    .detail("and nothing says that this is an EMR node")
                    .hint("run it on the primary node of an EMR cluster")
            });
        }
        if !self.identity.is_emr() && !force {
            return Err(Fault::preflight("this does not look like an EMR node")
                .detail("found none of /mnt/var/lib/info/instance.json, extraInstanceData.json, job-flow.json")
                .hint("run it on the primary node of an EMR cluster, or add --force if this is one"));
        }
        Ok(())
    }

    /// Refuses a node whose history server cannot be restarted.
    pub fn must_have_service(&self) -> Result<(), Fault> {
        let Some(server) = &self.server else { return Ok(()) };
        if !crate::systemd::is_running() {
            return Err(Fault::preflight("this machine does not run systemd")
                .detail("/run/systemd/system is not there; nothing was changed")
                .hint("emr-shs needs systemd: EMR 5.30, 6.0 or newer. For an image build use --root DIR"));
        }
        if !server.unit.exists {
            return Err(Fault::preflight(format!("this node has no {}", history_server::UNIT))
                .detail("EMR installs it on the primary node with the application Spark; nothing was changed")
                .hint("systemctl list-unit-files 'spark*' shows what there is"));
        }
        Ok(())
    }

    /// Refuses a history server that cannot be looked into.
    pub fn must_be_open(&self) -> Result<(), Fault> {
        if !self.server.as_ref().is_some_and(|s| s.wants_login) {
            return Ok(());
        }
        Err(Fault::preflight("the history server wants a login, so nobody could tell what it reads after a restart")
            .detail("it answers 401 or 403 to this node itself; nothing was changed")
            .hint("take the filter off its pages for the time of the installation: spark.ui.filters"))
    }

    /// The AWS region to sign for: asked for, then the cluster's, then the SDK's own chain.
    pub fn region(&self, settings: &Settings) -> Option<String> {
        settings.region.clone().or_else(|| self.identity.region.clone())
    }

    /// A connection to S3 as the history server is, or will be, configured for it.
    pub fn connect(&self, settings: &Settings) -> Result<S3> {
        let runtime = aws::runtime()?;
        let config = aws::config(&runtime, self.region(settings));
        let endpoint = settings.endpoint_url.clone().or_else(|| self.hadoop.endpoint());
        let mut s3 = S3::new(runtime, config, endpoint);
        s3.encryption = self.hadoop.encryption();
        Ok(s3)
    }

    /// What EMR says of this cluster, or why it could not be asked.
    pub fn describe_cluster(&self, settings: &Settings) -> Result<Cluster, String> {
        describe_cluster(self.identity.cluster_id.as_deref(), self.region(settings))
    }
}

/// What EMR says of a cluster, or why it could not be asked.
pub fn describe_cluster(id: Option<&str>, region: Option<String>) -> Result<Cluster, String> {
    let Some(id) = id else { return Err("this node's files name no cluster id".into()) };
    let runtime = aws::runtime().map_err(|e| e.to_string())?;
    let config = aws::config(&runtime, region);
    if config.region().is_none() {
        return Err("no region: pass --region".into());
    }
    aws::describe_cluster(&runtime, &config, id)
}

/// The daemon's class path: of the running process if there is one, else as Spark's launcher
/// would put it together (facts §1.6).
fn class_path(host: &Host, spark: &Spark, server: Option<&HistoryServer>, receipt: &Receipt) -> ClassPath {
    let ours = |path: &Path| {
        receipt
            .entry(&Resource::Link { path: path.into() })
            .is_some_and(|e| matches!(e.before, crate::resource::State::Absent))
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
