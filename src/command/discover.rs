//! `discover`: on one screen, which node this is, and which classes its history server lacks.

use super::host;
use crate::aws::emr::Cluster;
use crate::change::receipt::Receipt;
use crate::cli::options::RegionArgs;
use crate::error::Exit;
use crate::host::Host;
use crate::install::notes;
use crate::node::Node;
use crate::node::history_server::HistoryServer;
use crate::node::identity::{Identity, Role};
use crate::node::jars::{self, ClassPath, Scheme};
use crate::node::spark;
use crate::paths::HISTORY_SERVER_UNIT;
use crate::ui::{Console, data, dataln, wrapped};
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Discovery {
    identity: Identity,
    cluster: Option<Cluster>,
    /// Why EMR did not describe the cluster.
    cluster_error: Option<String>,
    spark: Option<SparkFacts>,
    server: Option<HistoryServer>,
    class_path: ClassPath,
    schemes: Vec<Scheme>,
    found: Vec<Jar>,
    mistakes: Vec<String>,
}

#[derive(Serialize)]
struct SparkFacts {
    version: Option<String>,
    home: PathBuf,
    defaults: PathBuf,
    daemon_heap_mib: u64,
}

#[derive(Serialize)]
struct Jar {
    jar: PathBuf,
    has: String,
}

/// Needs root only once emr-shs is installed, because only root may read the receipt.
pub(crate) fn run(root: &Path, args: &RegionArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let receipt = Receipt::load(&host)?;
    // No jar counts as ours: the class path appears as it is, with the links of emr-shs.
    let node = Node::observe(&host, &|_| false)?;
    let described = if host.is_live() {
        node.describe_cluster(args.region.as_deref()).map_err(|e| e.to_string())
    } else {
        Err("not asked, because --root names a directory and not this machine".into())
    };
    let schemes = node.hadoop.s3_schemes().iter().filter_map(|(s, _)| node.scheme(&host, s, &[]).ok()).collect();
    let defaults = host.target(&node.spark.defaults_path).map_or(node.spark.defaults_path.clone(), |p| host.inside(&p));
    let spark = spark::is_installed(&host).then(|| SparkFacts {
        version: node.spark.version.as_ref().map(ToString::to_string),
        home: node.spark.home.clone(),
        defaults,
        daemon_heap_mib: node.server_heap_mib(),
    });
    let discovery = Discovery {
        identity: node.identity.clone(),
        cluster_error: described.as_ref().err().cloned(),
        cluster: described.ok(),
        spark,
        server: node.server.clone(),
        class_path: node.class_path.clone(),
        schemes,
        found: jars::inventory(&host).into_iter().map(|(jar, has)| Jar { jar, has }).collect(),
        mistakes: notes::mistakes(&host, &node, &receipt),
    };
    if console.is_json() {
        console.data("discover", &discovery);
    } else {
        discovery.print(&node, &host);
    }
    Ok(Exit::Done)
}

impl Discovery {
    fn print(&self, node: &Node, host: &Host) {
        self.print_node();
        if let Some(server) = &self.server {
            print_server(server, node);
        }
        self.print_schemes();
        self.print_jars(host);
        for mistake in &self.mistakes {
            dataln!("\n{}", wrapped("note      ", "          ", mistake));
        }
    }

    fn print_node(&self) {
        let role = match self.identity.role {
            Role::Primary => "primary",
            Role::Worker => "core or task node",
            Role::Unknown => "no EMR metadata found, a node",
        };
        let described = || self.cluster.as_ref()?.release.clone();
        let release = self.identity.release.clone().or_else(described).unwrap_or_else(|| "release unknown".into());
        let primaries = if self.identity.multi_primary { "three primaries" } else { "one primary" };
        dataln!(
            "node      {role} of {}, {release}, {}, {primaries}",
            self.identity.cluster_id.as_deref().unwrap_or("an unknown cluster"),
            self.identity.region.as_deref().unwrap_or("region unknown"),
        );
        match (&self.cluster, &self.cluster_error) {
            (Some(Cluster { log_uri: Some(uri), .. }), _) => dataln!("logs      {uri}  (DescribeCluster)"),
            (Some(_), _) => data("logs      this cluster archives no logs  (DescribeCluster)"),
            (None, why) => dataln!("logs      unknown; DescribeCluster: {}", why.as_deref().unwrap_or_default()),
        }
        match &self.spark {
            Some(spark) => dataln!(
                "spark     {} at {}, configuration {}",
                spark.version.as_deref().unwrap_or("unknown"),
                spark.home.display(),
                spark.defaults.display()
            ),
            None => data("spark     not installed"),
        }
    }

    fn print_schemes(&self) {
        dataln!("\n{:<8}{:<48}{:<10}{:<12}has it", "scheme", "served by", "class", "needs");
        for scheme in &self.schemes {
            let class = &scheme.needs[0];
            let sdk = scheme.needs.iter().find_map(|need| Some((need.sdk?, !need.on_path.is_empty())));
            let (needs, has) = match sdk {
                Some((sdk, has)) => (sdk.name(), if has { "yes" } else { "no" }),
                None if class.on_path.is_empty() && class.elsewhere.is_empty() => ("unknown", ""),
                None => ("nothing", ""),
            };
            let class = if class.on_path.is_empty() { "missing" } else { "present" };
            let name = format!("{}://", scheme.scheme);
            data(format!("{name:<8}{:<48}{class:<10}{needs:<12}{has}", scheme.file_system).trim_end());
        }
    }

    fn print_jars(&self, host: &Host) {
        let is_used = |jar: &Path| {
            self.schemes
                .iter()
                .flat_map(|scheme| &scheme.needs)
                .flat_map(|need| need.on_path.iter().chain(&need.elsewhere))
                .any(|path| host.target(path).ok() == host.target(jar).ok())
        };
        data("");
        for (i, Jar { jar, has }) in self.found.iter().enumerate() {
            let head = if i == 0 { "found" } else { "" };
            let not = if is_used(jar) { "" } else { "  not needed" };
            dataln!("{head:<10}{}  {has}{not}", jar.display());
        }
        if self.found.is_empty() {
            data("found     no EMRFS, hadoop-aws or AWS SDK jar where EMR keeps them");
        }
    }
}

fn print_server(server: &HistoryServer, node: &Node) {
    if !server.unit.exists {
        return dataln!("service   there is no {HISTORY_SERVER_UNIT}");
    }
    let reads = server.directory(&node.spark).unwrap_or_else(|| "unknown".into());
    let answers = match &server.answer {
        Some(_) => format!("answers on port {}, reads {reads}", server.port),
        None if server.barrier.is_some() => {
            let barrier = server.barrier.iter().map(ToString::to_string).collect::<String>();
            format!("port {} {barrier}, configured for {reads}", server.port)
        }
        None => format!("does not answer on port {}, configured for {reads}", server.port),
    };
    dataln!("service   {HISTORY_SERVER_UNIT}, {}, {answers}", server.unit.active);
}
