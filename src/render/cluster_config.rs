//! The EMR configuration that makes an installation's keys last (facts §4.5).

use super::Rendered;
use crate::aws::uri::EventLogs;
use crate::change::component::Component;
use crate::change::desired::DesiredState;
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::cli::render::ClusterConfigArgs;
use crate::cli::{ComponentArgs, GatewayArgs};
use crate::desired::Context;
use crate::desired::log_gateway::log_links;
use crate::error::Fault;
use crate::host::Host;
use crate::install::prepare::{Installation, Request};
use crate::node::Node;
use crate::node::hadoop::{EMRFS, Hadoop, S3A};
use crate::node::identity::{Identity, Role};
use crate::node::jars::ClassPath;
use crate::node::spark::{self, Spark, Version, mebibytes};
use crate::paths::LOG_LINK_KEY;
use crate::settings::Settings;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// Keys of the local store, whose directory `install` makes; without it the server cannot start.
const STORE: &str = "spark.history.store.";

type Keys = BTreeMap<String, String>;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Classification {
    classification: &'static str,
    properties: Keys,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    configurations: Vec<Classification>,
}

/// The same options as `install` has.
fn as_install(args: &ClusterConfigArgs) -> ComponentArgs {
    ComponentArgs {
        spark: args.spark.clone(),
        gateway: GatewayArgs {
            public_url: args.public_url.clone(),
            log_uris: args.log_uris.clone(),
            ..GatewayArgs::default()
        },
        ..ComponentArgs::default()
    }
}

/// Renders what `install` would set on this node; elsewhere, what it would set on any of that release.
pub fn render(host: Host, args: &ClusterConfigArgs) -> Result<Rendered> {
    let told = args.release.is_some() || args.spark_version.is_some();
    let here = !told && spark::is_installed(&host) && Spark::observe(&host).is_ok();
    let (keys, notes) = if here { of_this_node(host, args)? } else { of_any_node(args)? };
    let mut all = vec![Classification { classification: "spark-defaults", properties: keys, configurations: vec![] }];
    if let Some(size) = args.daemon_memory.as_deref().filter(|size| !size.is_empty()) {
        let sound = size.chars().all(|c| c.is_ascii_alphanumeric()) && mebibytes(size).is_some_and(|n| n > 0);
        if !sound {
            return Err(Fault::usage(format!("“{size}” is no heap size")).hint("--daemon-memory 4g").into());
        }
        let export = Classification {
            classification: "export",
            properties: [("SPARK_DAEMON_MEMORY".into(), size.into())].into(),
            configurations: vec![],
        };
        // Outside the inner block it has no effect (facts 2 §1.6).
        let spark_env =
            Classification { classification: "spark-env", properties: Keys::new(), configurations: vec![export] };
        all.push(spark_env);
    }
    let mut rendered = Rendered::json(&all)?;
    rendered.notes = notes;
    Ok(rendered)
}

/// From the plan that `install` would make, or has carried out.
fn of_this_node(host: Host, args: &ClusterConfigArgs) -> Result<(Keys, Vec<String>)> {
    let job = {
        let receipt = Receipt::load(&host)?;
        let settings = as_install(args).resolve(&receipt.settings)?;
        let request = Request {
            command: "render cluster-config",
            components: Component::ALL,
            host,
            receipt,
            settings,
            force: false,
        };
        Installation::prepare(request)?
    };
    let mut keys = job.keys()?;
    let mut notes = Vec::new();
    if args.new_cluster {
        let named = |key: &str| job.settings.set.contains_key(key);
        let of_node = |key: &str| {
            !named(key) && (key.starts_with(STORE) || key == LOG_LINK_KEY && job.settings.gateway.public_url.is_none())
        };
        let (left, kept): (Keys, Keys) = keys.into_iter().partition(|(key, _)| of_node(key));
        keys = kept;
        if !left.is_empty() {
            let names: Vec<&str> = left.keys().map(String::as_str).collect();
            notes.push(format!("Left to install, as it depends on the node: {}.", names.join(", ")));
        }
        notes.push(on_a_new_cluster(job.event_logs.as_ref()));
    } else if job.receipt.is_empty() || !job.plan.is_done() {
        let uri = job.event_logs.as_ref().map(ToString::to_string).unwrap_or_default();
        notes.push(format!(
            "Not for this cluster yet: the history server does not live with these settings before install has made its \
             links and directories, and EMR rolls a reconfiguration back when an application does not run. First:\n  \
             sudo emr-shs install --event-logs {uri}"
        ));
    } else {
        notes.push(
            "Safe on this cluster now: what the history server needs is here, and stays through a reconfiguration. Put \
             these keys into the configuration the cluster has; a reconfiguration replaces it as a whole, and restarts \
             Spark's services."
                .into(),
        );
        if keys.keys().any(|key| key.starts_with(STORE)) {
            notes.push("For another cluster: --new-cluster leaves out what is only on this node.".into());
        }
    }
    Ok((keys, notes))
}

fn on_a_new_cluster(event_logs: Option<&EventLogs>) -> String {
    let prefix = event_logs.map(|uri| {
        format!(
            "\nMake the prefix first, or jobs that start before that fail:\n  aws s3api put-object --bucket {} --key {}",
            uri.bucket, uri.prefix
        )
    });
    format!(
        "Safe in a new cluster's configuration beside the step or the bootstrap action (emr-shs render step): the history \
         server is down until that ran, as it lacks jars. For a cluster that runs, only after install on its primary node: \
         EMR rolls a reconfiguration back when an application does not run.{}",
        prefix.unwrap_or_default()
    )
}

/// From what is known of a release.
fn of_any_node(args: &ClusterConfigArgs) -> Result<(Keys, Vec<String>)> {
    let host = Host::nowhere();
    let settings = as_install(args).resolve(&Settings::default())?;
    let Some(event_logs) = &settings.event_logs else {
        return Err(Fault::usage("where shall the event logs go?")
            .detail("this is not an EMR node, so there is nothing to reuse")
            .hint("emr-shs render cluster-config --event-logs s3://my-bucket/spark-events/ --release emr-7.12.0")
            .into());
    };
    let version = version(args)?;
    let node = node_of(args, version);
    let receipt = Receipt::default();
    let context = Context {
        host: &host,
        node: &node,
        receipt: &receipt,
        settings: &settings,
        event_logs: Some(event_logs),
        bucket: None,
        scheme: None,
        gateway: None,
        force: false,
    };
    let mut keys = Keys::new();
    for want in context.desired(&[Component::Configure])? {
        if let (Resource::Key { key, .. }, DesiredState::Value { value, .. }) = (want.resource, want.state) {
            keys.insert(key, value);
        }
    }
    let mut left = vec!["the local store of the history server (its directory must be there first)"];
    let knows_links = node.spark.version.as_ref().is_some_and(|v| v.at_least(3, 0)) && !settings.no_proxy;
    if knows_links && !keys.contains_key(LOG_LINK_KEY) {
        match settings.gateway.public_url.as_deref() {
            Some(url) => {
                keys.insert(LOG_LINK_KEY.into(), log_links(Some(url), settings.serverless.as_deref()));
            }
            None => left.push("where log links lead (the node's name; or --public-url)"),
        }
    }
    left.push("the region of a bucket that lies in another one than the cluster");
    let notes = vec![
        format!("Left to install, as it depends on the node: {}.", left.join("; ")),
        on_a_new_cluster(Some(event_logs)),
    ];
    Ok((keys, notes))
}

/// Spark's version: named, or that of the release, as far as keys depend on it (facts §1.1,
/// facts 2 §1.1).
fn version(args: &ClusterConfigArgs) -> Result<Version, Fault> {
    if let Some(text) = args.spark_version.as_deref().filter(|text| !text.is_empty()) {
        return Version::parse(text)
            .ok_or_else(|| Fault::usage(format!("“{text}” is no version of Spark")).hint("--spark-version 3.5"));
    }
    let Some(label) = args.release.as_deref().filter(|label| !label.is_empty()) else {
        return Err(Fault::usage("which release is the cluster?")
            .detail("this is not an EMR node, and the keys depend on Spark's version")
            .hint("--release emr-7.12.0, or --spark-version 3.5"));
    };
    let spark = match release(label) {
        Some((Line::Emr, 5, _)) | Some((Line::Emr, 6, 0)) => "2.4",
        Some((Line::Emr, 6, 1 | 2)) => "3.0",
        Some((Line::Emr, 6, 3..=5)) => "3.1",
        // Between 3.1 and 3.4; none of the keys below depends on which.
        Some((Line::Emr, 6, 6..=15)) => "3.2",
        Some((Line::Emr, 7, 0..=14)) => "3.5",
        Some((Line::EmrSpark, 8, 0)) => "4.0",
        Some((Line::EmrSpark, 8, 1)) => "4.1",
        _ => {
            return Err(Fault::usage(format!("which Spark is in {label}?"))
                .detail("this release is not one that emr-shs knows")
                .hint("--spark-version 3.5, as the release's notes name it"));
        }
    };
    Version::parse(spark).ok_or_else(|| Fault::usage(format!("“{spark}” is no version of Spark")))
}

/// Which line of releases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// `emr-7.12.0`
    Emr,
    /// `emr-spark-8.1.0`, without EMRFS
    EmrSpark,
}

/// `emr-7.12.0` or `emr-spark-8.0-preview`, in numbers.
fn release(label: &str) -> Option<(Line, u32, u32)> {
    let (line, rest) = match label.strip_prefix("emr-spark-") {
        Some(rest) => (Line::EmrSpark, rest),
        None => (Line::Emr, label.strip_prefix("emr-")?),
    };
    let mut numbers = rest.split(['.', '-']).map(str::parse);
    Some((line, numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// A node of which only this is known.
fn node_of(args: &ClusterConfigArgs, version: Version) -> Node {
    let known = args.release.as_deref().and_then(release);
    // S3A serves s3:// from 7.10 on (facts 2 §1.1).
    let s3a = known.is_some_and(|(line, major, minor)| line == Line::EmrSpark || (major, minor) >= (7, 10))
        || version.at_least(4, 0);
    let identity = Identity {
        role: Role::Unknown,
        role_from: None,
        cluster_id: None,
        release: args.release.clone(),
        region: args.spark.s3.region.region.clone(),
        multi_primary: false,
    };
    let mut spark = Spark::without_configuration(&Host::nowhere());
    spark.version = Some(version);
    Node {
        identity,
        spark,
        hadoop: Hadoop::serving("s3", if s3a { S3A } else { EMRFS }),
        server: None,
        class_path: ClassPath { elements: Vec::new(), from_process: false },
    }
}
