//! The EMR configuration with the keys of an installation. EMR writes spark-defaults.conf anew at a reconfiguration,
//! and keeps only the keys that its own configuration contains (`docs/emr.md §4.5`).

use super::release::{s3_file_system, spark_version};
use super::{Rendered, shell_command};
use crate::aws::s3::Bucket;
use crate::aws::uri::EventLogs;
use crate::change::component::Component;
use crate::change::desired::DesiredState;
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::desired::log_gateway::log_links;
use crate::desired::{Context, local_store};
use crate::error::Fault;
use crate::host::Host;
use crate::install::prepare::Installation;
use crate::node::Node;
use crate::node::hadoop::Hadoop;
use crate::node::identity::{Identity, Role};
use crate::node::jars::ClassPath;
use crate::node::spark::{Spark, Version, mebibytes};
use crate::paths::{HISTORY_PORT_KEY, LOG_DIRECTORY_KEY, LOG_LINK_KEY};
use crate::settings::Settings;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// The keys of the local store begin with this. The history server does not start without the store's directory,
/// which `install` creates.
const LOCAL_STORE_KEYS: &str = "spark.history.store.";

type Keys = BTreeMap<String, String>;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Classification {
    classification: &'static str,
    properties: Keys,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    configurations: Vec<Classification>,
}

/// The configuration for the node of an installation.
pub(crate) struct NodeConfigRequest<'a> {
    pub(crate) installation: &'a Installation,
    /// Leave out the keys that depend on this node.
    pub(crate) new_cluster: bool,
    /// The heap size of the history server.
    pub(crate) daemon_memory: Option<&'a str>,
}

/// The configuration for any cluster of a release.
pub(crate) struct ReleaseConfigRequest<'a> {
    pub(crate) settings: &'a Settings,
    /// The label of the release, such as `emr-7.12.0`.
    pub(crate) release: Option<&'a str>,
    /// Replaces the Spark version that the release contains.
    pub(crate) spark_version: Option<&'a str>,
    pub(crate) daemon_memory: Option<&'a str>,
}

/// Renders the keys that `install` would set on this node, or has set there.
pub(crate) fn for_node(request: &NodeConfigRequest<'_>) -> Result<Rendered> {
    let installation = request.installation;
    let keys = installation.keys()?;
    if request.new_cluster {
        let (left, keys): (Keys, Keys) =
            keys.into_iter().partition(|(key, _)| depends_on_node(key, &installation.settings));
        let names: Vec<&str> = left.keys().map(String::as_str).collect();
        let left = (!names.is_empty()).then(|| left_to_install(&names.join(", ")));
        let safe = safe_for_new_cluster(installation.event_logs.as_ref())?;
        return Ok(document(keys, request.daemon_memory)?.notes(left).note(safe));
    }
    let mut keys = keys;
    let mut notes = Vec::new();
    // On a new node, `install --take-port` takes the port that the key names there. With this key that would be 18081, and YARN's links
    // name 18080.
    if installation.settings.take_port && keys.remove(HISTORY_PORT_KEY).is_some() {
        notes.push(left_to_install(HISTORY_PORT_KEY));
        notes.push(
            "A reconfiguration removes that key, and the log gateway can then look for the history server on a port where the history server does not listen. After each \
             reconfiguration, type: sudo emr-shs install"
                .into(),
        );
    }
    if installation.receipt.is_empty() || !installation.plan.is_done() {
        let uri = installation.event_logs.as_ref().map(ToString::to_string).unwrap_or_default();
        let install = shell_command(&["sudo", "emr-shs", "install", "--event-logs", &uri])?;
        notes.push(format!(
            "Not for this cluster yet: with these keys the history server starts only if the links and directories of \
             install are there, and EMR rolls a reconfiguration back if an application does not run. First run:\n  \
             {install}"
        ));
    } else {
        notes.push(
            "Safe on this cluster now: the links and directories that the history server needs are there, and a \
             reconfiguration leaves them in place. Merge these keys into the cluster's configuration: a reconfiguration \
             replaces the whole configuration, and restarts Spark's services."
                .into(),
        );
        if keys.keys().any(|key| key.starts_with(LOCAL_STORE_KEYS)) {
            notes.push("For another cluster, --new-cluster leaves out the keys that fit only this node.".into());
        }
    }
    Ok(document(keys, request.daemon_memory)?.notes(notes))
}

/// Renders the keys that `install` would set on any node of a release.
pub(crate) fn for_release(request: &ReleaseConfigRequest<'_>) -> Result<Rendered> {
    let settings = request.settings;
    let Some(event_logs) = &settings.event_logs else {
        return Err(Fault::usage("cluster-config needs --event-logs")
            .detail("emr-shs is not installed on this machine, so it does not know where your event logs go")
            .hint("emr-shs render cluster-config --event-logs s3://my-bucket/spark-events/ --release emr-7.12.0")
            .into());
    };
    let node = node_of(request, spark_version(request.spark_version, request.release)?);
    let mut keys = keys_of(&node, settings, event_logs)?;
    let mut left = vec!["the local store of the history server, whose directory must exist first"];
    if settings.index {
        keys.remove(LOG_DIRECTORY_KEY);
        left.push("the event-log cache, which the history server reads with --index");
    }
    if settings.take_port {
        keys.remove(HISTORY_PORT_KEY);
        left.push("the history server's new port, because --take-port takes the one that was set before");
    }
    let knows_links = node.spark.version.as_ref().is_some_and(|v| v.at_least(3, 0)) && !settings.no_proxy;
    if knows_links && !keys.contains_key(LOG_LINK_KEY) {
        match settings.gateway.public_url.as_deref() {
            Some(url) => {
                keys.insert(LOG_LINK_KEY.into(), log_links(Some(url), settings.serverless.as_deref()));
            }
            None => left.push("the target of log links, which contains the node's name (or --public-url)"),
        }
    }
    if settings.region.is_none() && node.hadoop.is_s3a(&event_logs.scheme) {
        left.push("the region of the bucket, which S3A must know (or --region)");
    }
    Ok(document(keys, request.daemon_memory)?
        .note(left_to_install(&left.join("; ")))
        .note(safe_for_new_cluster(Some(event_logs))?))
}

fn document(keys: Keys, daemon_memory: Option<&str>) -> Result<Rendered> {
    let mut classifications =
        vec![Classification { classification: "spark-defaults", properties: keys, configurations: vec![] }];
    if let Some(size) = daemon_memory {
        let is_size = size.chars().all(|c| c.is_ascii_alphanumeric()) && mebibytes(size).is_some_and(|n| n > 0);
        if !is_size {
            return Err(Fault::usage(format!("“{size}” is not a heap size"))
                .detail("wanted a number and a unit: m or g")
                .hint("--daemon-memory 4g")
                .into());
        }
        let export = Classification {
            classification: "export",
            properties: [("SPARK_DAEMON_MEMORY".into(), size.into())].into(),
            configurations: vec![],
        };
        // EMR ignores the variable outside the inner export block (`docs/emr.md §2.4`).
        classifications.push(Classification {
            classification: "spark-env",
            properties: Keys::new(),
            configurations: vec![export],
        });
    }
    Rendered::json(&classifications)
}

/// A key that the user sets does not depend on the node.
fn depends_on_node(key: &str, settings: &Settings) -> bool {
    let names_node = key == LOG_LINK_KEY && settings.gateway.public_url.is_none();
    // `install` takes the port that the key names before.
    let is_taken = key == HISTORY_PORT_KEY && settings.take_port;
    is_taken || !settings.set.contains_key(key) && (key.starts_with(LOCAL_STORE_KEYS) || names_node)
}

fn left_to_install(keys: &str) -> String {
    format!("Left to install, because it depends on the node: {keys}.")
}

fn safe_for_new_cluster(event_logs: Option<&EventLogs>) -> Result<String> {
    // Every bucket contains the empty prefix.
    let prefix = event_logs.filter(|uri| !uri.prefix.is_empty()).map(|uri| {
        let command = ["aws", "s3api", "put-object", "--bucket", &uri.bucket, "--key", &uri.prefix];
        let command = shell_command(&command)?;
        anyhow::Ok(format!("\nCreate the prefix first, because a job fails if it does not exist:\n  {command}"))
    });
    Ok(format!(
        "Safe in a new cluster's configuration together with the step or the bootstrap action (emr-shs render step): until \
         that has run, the history server lacks jars and is down. On a running cluster, apply the configuration only after \
         install has run on the primary node: EMR rolls a reconfiguration back if an application does not run.{}",
        prefix.transpose()?.unwrap_or_default()
    ))
}

fn keys_of(node: &Node, settings: &Settings, event_logs: &EventLogs) -> Result<Keys> {
    // Without `--region` nothing tells where the bucket is.
    let bucket = Bucket { region: settings.region.clone() };
    let (nowhere, nothing) = (Host::nowhere(), Receipt::default());
    let store = local_store::choose(&nowhere, node, &nothing, settings, Some(&event_logs.to_string())).ok();
    let context = Context {
        host: &nowhere,
        node,
        receipt: &nothing,
        settings,
        event_logs: Some(event_logs),
        bucket: settings.region.as_ref().map(|_| &bucket),
        scheme: None,
        gateway: None,
        store: store.as_ref(),
        cache: None,
        taken: None,
        force: false,
    };
    let mut keys = Keys::new();
    for desired in context.desired(&[Component::Configure])? {
        if let (Resource::Key { key, .. }, DesiredState::Value { value, .. }) = (desired.resource, desired.state) {
            keys.insert(key, value);
        }
    }
    Ok(keys)
}

/// A node of which only the request is known.
fn node_of(request: &ReleaseConfigRequest<'_>, version: Version) -> Node {
    let identity = Identity {
        role: Role::Unknown,
        role_from: None,
        cluster_id: None,
        release: request.release.map(Into::into),
        region: request.settings.region.clone(),
        multi_primary: false,
    };
    let hadoop = Hadoop::serving("s3", s3_file_system(request.release, &version));
    let mut spark = Spark::without_configuration(&Host::nowhere());
    spark.version = Some(version);
    let class_path = ClassPath { elements: Vec::new(), from_process: false };
    Node { identity, spark, hadoop, server: None, class_path }
}
