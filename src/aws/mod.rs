//! This node's way to AWS: credentials and region by the SDK's default chain, and the cluster's
//! own description.

pub mod s3;
mod uri;

use anyhow::{Context, Result};
use aws_config::imds;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_emr::error::ProvideErrorMetadata;
use aws_sdk_emr::types::{ClusterState, LogType, LogUploadPolicyValue};
use s3::root_causes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
pub use uri::{EventLogs, LogUri};

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

/// How long AWS is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutProfile {
    /// As a person who waits for an installation bears it.
    Usual,
    /// What does not answer at once is what somebody is looking for.
    Short,
}

/// The SDK's default chain.
pub fn config(runtime: &tokio::runtime::Runtime, region: Option<String>, patience: TimeoutProfile) -> SdkConfig {
    let (attempt, all, attempts) = match patience {
        TimeoutProfile::Usual => (8, 20, 2),
        TimeoutProfile::Short => (4, 6, 1),
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(attempt))
        .operation_timeout(Duration::from_secs(all))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(attempts));
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    runtime.block_on(loader.load())
}

/// Where credentials come from, if not from the instance profile: what the SDK's chain asks first.
pub fn own_credentials() -> Option<&'static str> {
    let names =
        ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    if names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return Some("the environment's credentials");
    }
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from)?;
    let file = |name: &str| std::fs::read_to_string(home.join(".aws").join(name)).unwrap_or_default();
    let files = file("credentials") + &file("config");
    let keys = ["aws_access_key_id", "credential_process", "role_arn"];
    keys.iter().any(|key| files.contains(key)).then_some("the credentials in ~/.aws")
}

/// The role of the node's instance profile, for messages; `None` where the credentials come from
/// elsewhere or nobody tells.
pub fn instance_role(runtime: &tokio::runtime::Runtime) -> Option<String> {
    if own_credentials().is_some() || std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|v| v == "true") {
        return None;
    }
    let client = imds::Client::builder().max_attempts(1).connect_timeout(Duration::from_secs(1)).build();
    let role = runtime.block_on(client.get("/latest/meta-data/iam/security-credentials/")).ok()?;
    role.as_ref().lines().next().map(str::to_string)
}

/// What EMR answers about a cluster; the error is one line that says why it could not be asked.
pub struct Described {
    runtime: tokio::runtime::Runtime,
    client: aws_sdk_emr::Client,
    cluster: aws_sdk_emr::types::Cluster,
}

impl Described {
    /// Asks EMR.
    pub fn ask(id: Option<&str>, region: Option<String>, patience: TimeoutProfile) -> Result<Self, String> {
        let id = id.ok_or("this node's files name no cluster id")?;
        let runtime = runtime().map_err(|e| e.to_string())?;
        let config = config(&runtime, region, patience);
        if config.region().is_none() {
            return Err("no region: pass --region".into());
        }
        let client = aws_sdk_emr::Client::new(&config);
        let answer = runtime.block_on(client.describe_cluster().cluster_id(id).send()).map_err(why)?;
        let cluster = answer.cluster.ok_or("the answer names no cluster")?;
        Ok(Self { runtime, client, cluster })
    }

    /// What does not change while the cluster lives.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            log_uri: self.cluster.log_uri().and_then(normalise_log_uri),
            release: self.cluster.release_label().map(str::to_string),
            public_dns: self.cluster.master_public_dns_name().map(str::to_string),
        }
    }

    /// Whether the cluster is through with being set up.
    pub fn runs(&self) -> bool {
        let state = self.cluster.status().and_then(|status| status.state());
        matches!(state, Some(ClusterState::Running | ClusterState::Waiting))
    }

    /// Whether the upload of application logs is switched off (facts §5.1).
    pub fn uploads_no_application_logs(&self) -> bool {
        let logging = self.cluster.monitoring_configuration().and_then(|m| m.s3_logging_configuration());
        let policy = logging.and_then(|l| l.log_type_upload_policy()?.get(&LogType::ApplicationLogs));
        policy == Some(&LogUploadPolicyValue::Disabled)
    }

    /// Whether jobs may run under roles of their own: what the cluster's security configuration
    /// says. The error is why it could not be asked.
    pub fn has_runtime_roles(&self) -> Result<bool, String> {
        let Some(name) = self.cluster.security_configuration() else { return Ok(false) };
        let asked = self.client.describe_security_configuration().name(name).send();
        let answer = self.runtime.block_on(asked).map_err(why)?;
        let text = answer.security_configuration().unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let switch = "/AuthorizationConfiguration/IAMConfiguration/EnableApplicationScopedIAMRole";
        Ok(json.pointer(switch).is_some_and(|on| on == true))
    }
}

/// Why EMR could not be asked, in one line.
fn why<E: ProvideErrorMetadata + std::error::Error + 'static>(error: aws_sdk_emr::error::SdkError<E>) -> String {
    match error.code() {
        Some(code) => format!("{code} {}", error.message().unwrap_or_default()).trim_end().to_string(),
        None => {
            let text = root_causes(&error);
            no_credentials(&text).unwrap_or(text)
        }
    }
}

/// What the SDK says where its default chain finds no credentials, in one line. On a node only the
/// end of that chain counts: the metadata service.
pub fn no_credentials(text: &str) -> Option<String> {
    let (_, of_node) = text.split_once("Ec2InstanceMetadata: ")?;
    let said = of_node.lines().next()?.trim();
    let said = said.strip_prefix("the credential provider was not enabled: ").unwrap_or(said);
    Some(match said.strip_prefix("could not communicate with IMDS: ") {
        _ if said.contains("received 404") => {
            "the metadata service knows no role: this node has no instance profile".into()
        }
        Some(why) => format!("the metadata service does not answer: {}", why.rsplit(": ").next().unwrap_or(why)),
        None => format!("the metadata service gives none: {said}"),
    })
}

/// EMR often spells it `s3n://bucket/prefix`, with or without a slash at the end.
fn normalise_log_uri(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    (!rest.is_empty()).then(|| format!("s3://{rest}/"))
}
