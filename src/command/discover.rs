//! `discover`: what this node is, and what its history server has and lacks, on one screen.

use super::host;
use crate::aws::Cluster;
use crate::change::receipt::Receipt;
use crate::cli::options::RegionArgs;
use crate::dataln;
use crate::error::Exit;
use crate::host::Host;
use crate::install::notes;
use crate::node::Node;
use crate::node::history_server::HistoryServer;
use crate::node::identity::{Identity, Role};
use crate::node::jars::{self, ClassPath, Scheme};
use crate::node::spark;
use crate::paths::HISTORY_SERVER_UNIT;
use crate::settings::Settings;
use crate::ui::{Console, data};
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Discovery {
    identity: Identity,
    cluster: Option<Cluster>,
    /// Why the cluster's own description could not be had.
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

/// Reads and prints; changes nothing, needs no root.
pub fn run(root: &Path, args: &RegionArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let receipt = Receipt::load(&host)?;
    // With nothing taken for ours the class path is shown as it is.
    let node = Node::observe(&host, &Receipt::default())?;
    let settings = Settings { region: args.region.clone(), ..receipt.settings.clone() };
    let described =
        if host.is_live() { node.describe_cluster(&settings) } else { Err("not asked below another root".into()) };
    let schemes = node.hadoop.schemes().iter().filter_map(|(s, _)| node.scheme(&host, s, &[]).ok()).collect();
    let defaults = host.target(&node.spark.defaults_path).map_or(node.spark.defaults_path.clone(), |p| host.inside(&p));
    let spark = spark::is_installed(&host).then(|| SparkFacts {
        version: node.spark.version.as_ref().map(ToString::to_string),
        home: node.spark.home.clone(),
        defaults,
        daemon_heap_mib: node.spark.daemon_heap_mib(),
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
        print(&discovery, &node, &host);
    }
    Ok(Exit::Done)
}

fn print(d: &Discovery, node: &Node, host: &Host) {
    let unknown = || "unknown".to_string();
    let role = match d.identity.role {
        Role::Primary => "primary",
        Role::Worker => "core or task node",
        Role::Unknown => "no EMR metadata found, a node",
    };
    let release = d
        .identity
        .release
        .clone()
        .or_else(|| d.cluster.as_ref()?.release.clone())
        .unwrap_or_else(|| "release unknown".into());
    let primaries = if d.identity.multi_primary { "three primaries" } else { "one primary" };
    dataln!(
        "node      {role} of {}, {release}, {}, {primaries}",
        d.identity.cluster_id.clone().unwrap_or_else(|| "an unknown cluster".into()),
        d.identity.region.clone().unwrap_or_else(|| "region unknown".into()),
    );
    match (&d.cluster, &d.cluster_error) {
        (Some(Cluster { log_uri: Some(uri), .. }), _) => dataln!("logs      {uri}  (DescribeCluster)"),
        (Some(_), _) => dataln!("logs      this cluster archives no logs  (DescribeCluster)"),
        (None, why) => dataln!("logs      unknown; DescribeCluster: {}", why.clone().unwrap_or_default()),
    }
    match &d.spark {
        Some(s) => dataln!(
            "spark     {} at {}, configuration {}",
            s.version.clone().unwrap_or_else(unknown),
            s.home.display(),
            s.defaults.display()
        ),
        None => data("spark     not installed"),
    }
    if let Some(server) = &d.server {
        let reads = server.directory(&node.spark).unwrap_or_else(unknown);
        let answers = match &server.answer {
            Some(_) => format!("answers on port {}, reads {reads}", server.port),
            None => format!("does not answer on port {}, configured for {reads}", server.port),
        };
        match server.unit.exists {
            true => dataln!("service   {HISTORY_SERVER_UNIT}, {}, {answers}", server.unit.active),
            false => dataln!("service   there is no {HISTORY_SERVER_UNIT}"),
        }
    }

    dataln!("\n{:<8}{:<48}{:<10}{:<12}has it", "scheme", "served by", "class", "needs");
    for s in &d.schemes {
        let class = if s.needs[0].on_path.is_empty() { "missing" } else { "present" };
        let sdk = s.needs.iter().find_map(|n| Some((n.sdk?, !n.on_path.is_empty())));
        let (needs, has) = match sdk {
            Some((sdk, has)) => (sdk.name(), if has { "yes" } else { "no" }),
            None if s.needs[0].on_path.is_empty() && s.needs[0].elsewhere.is_empty() => ("unknown", ""),
            None => ("nothing", ""),
        };
        dataln!(
            "{}",
            format!("{:<8}{:<48}{class:<10}{needs:<12}{has}", format!("{}://", s.scheme), s.file_system).trim_end()
        );
    }

    let used = |jar: &Path| {
        d.schemes
            .iter()
            .flat_map(|s| &s.needs)
            .any(|n| n.on_path.iter().chain(&n.elsewhere).any(|p| host.target(p).ok() == host.target(jar).ok()))
    };
    data("");
    for (i, Jar { jar, has }) in d.found.iter().enumerate() {
        let head = if i == 0 { "found" } else { "" };
        let not = if used(jar) { "" } else { "  not needed" };
        dataln!("{head:<10}{}  {has}{not}", jar.display());
    }
    if d.found.is_empty() {
        dataln!("found     no EMRFS, hadoop-aws or AWS SDK jar in EMR's own places");
    }
    for mistake in &d.mistakes {
        dataln!(
            "\n{}",
            textwrap::fill(&format!("note      {mistake}"), textwrap::Options::new(80).subsequent_indent("          "))
        );
    }
}
