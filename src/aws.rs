//! This node's way to AWS: credentials and region by the SDK's default chain, and the cluster's
//! own description.

use crate::s3::root_causes;
use anyhow::{Context, Result};
use aws_config::imds;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_emr::error::ProvideErrorMetadata;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What DescribeCluster says of this cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Where EMR archives logs, normalised: `s3://bucket/prefix/`. `None` if it does not.
    pub log_uri: Option<String>,
    /// `emr-7.12.0`, `emr-spark-8.1.0`, …
    pub release: Option<String>,
    /// The primary node's public name, or its private one in a private subnet.
    pub public_dns: Option<String>,
}

/// The runtime all calls run on.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime for AWS calls")
}

/// The SDK's default chain, with bounds that fit a person who waits.
pub fn config(runtime: &tokio::runtime::Runtime, region: Option<String>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(8))
        .operation_timeout(Duration::from_secs(20))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(2));
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    runtime.block_on(loader.load())
}

/// The role of the node's instance profile, for messages; `None` where the credentials come from
/// elsewhere or nobody tells.
pub fn instance_role(runtime: &tokio::runtime::Runtime) -> Option<String> {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some()
        || std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|v| v == "true")
    {
        return None;
    }
    let client = imds::Client::builder().max_attempts(1).connect_timeout(Duration::from_secs(1)).build();
    let role = runtime.block_on(client.get("/latest/meta-data/iam/security-credentials/")).ok()?;
    role.as_ref().lines().next().map(str::to_string)
}

/// Asks EMR about a cluster; the error is one line that says why it could not.
pub fn describe_cluster(runtime: &tokio::runtime::Runtime, config: &SdkConfig, id: &str) -> Result<Cluster, String> {
    let client = aws_sdk_emr::Client::new(config);
    let answer = runtime.block_on(client.describe_cluster().cluster_id(id).send()).map_err(|e| match e.code() {
        Some(code) => format!("{code} {}", e.message().unwrap_or_default()).trim_end().to_string(),
        None => root_causes(&e),
    })?;
    let cluster = answer.cluster.ok_or("the answer names no cluster")?;
    Ok(Cluster {
        log_uri: cluster.log_uri().and_then(normalise_log_uri),
        release: cluster.release_label().map(str::to_string),
        public_dns: cluster.master_public_dns_name().map(str::to_string),
    })
}

/// EMR often spells it `s3n://bucket/prefix`, with or without a slash at the end.
fn normalise_log_uri(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    (!rest.is_empty()).then(|| format!("s3://{rest}/"))
}
