//! The description of this cluster, as EMR gives it.

use super::config::{self, TimeoutProfile};
use super::error::{Obstacle, credentials_failure, root_causes};
use super::proxies;
use super::uri::LogUri;
use crate::signals;
use aws_sdk_emr::config::http::HttpResponse;
use aws_sdk_emr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_emr::types::{ClusterState, LogType, LogUploadPolicyValue};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long an installation goes on asking EMR. Clusters that start at the same moment ask at the same moment, and
/// EMR answers some of them only later.
const PATIENCE: Duration = Duration::from_secs(45);
/// The pause before the second request. Each further pause is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Why EMR did not describe the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmrError {
    /// The node's files contain no cluster id.
    NoClusterId,
    NoRegion,
    NoCredentials(String),
    /// The role lacks the permission: EMR's code and message.
    AccessDenied(String),
    /// EMR has too many requests, or fails by itself. A later request may succeed.
    Busy(String),
    /// No answer arrived.
    NoAnswer(String),
    Other(String),
}

impl EmrError {
    fn new<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E, HttpResponse>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let is_busy = |code: &str| {
            let code = code.to_ascii_lowercase();
            let names = ["throttl", "toomanyrequests", "requestlimitexceeded", "slowdown"];
            status.is_some_and(|status| status == 429 || status >= 500) || names.iter().any(|name| code.contains(name))
        };
        let Some(code) = error.code() else {
            return match credentials_failure(error) {
                Some(why) => Self::NoCredentials(why),
                None if is_busy("") => Self::Busy(format!("HTTP {}", status.unwrap_or_default())),
                None => {
                    let way = proxies::in_force().way_to("https://elasticmapreduce.amazonaws.com");
                    let way = way.map(|way| format!("; {way}")).unwrap_or_default();
                    let certificate = Obstacle::of(error).certificate("EMR's API (elasticmapreduce)");
                    let why = certificate.map_or_else(|| root_causes(error), |(says, fix)| format!("{says}; {fix}"));
                    let text = format!("EMR does not answer: {why}{way}");
                    match error {
                        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => Self::NoAnswer(text),
                        _ => Self::Other(text),
                    }
                }
            };
        };
        let text = format!("{code} {}", error.message().unwrap_or_default()).trim_end().to_string();
        match code {
            _ if code.starts_with("AccessDenied") => Self::AccessDenied(text),
            _ if is_busy(code) => Self::Busy(text),
            _ => Self::Other(text),
        }
    }
}

/// For which errors an installation asks EMR again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// While EMR is busy.
    Busy,
    /// Also while no answer arrives, because the command cannot do without the answer.
    BusyOrSilent,
}

impl Retry {
    fn covers(self, error: &EmrError) -> bool {
        match error {
            EmrError::Busy(_) => true,
            EmrError::NoAnswer(_) => self == Self::BusyOrSilent,
            _ => false,
        }
    }
}

/// Asks until an answer arrives that a further request would not change, or until [`PATIENCE`] after `begun` is over. The
/// pauses are random: nodes that were refused together must not come back together.
fn ask_again<T>(begun: Instant, retry: Retry, mut ask: impl FnMut() -> Result<T, EmrError>) -> Result<T, EmrError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match ask() {
            Err(error) if retry.covers(&error) => error,
            result => return result,
        };
        let until = Instant::now() + pause.mul_f64(0.5 + random() / 2.0);
        if until.duration_since(begun) > PATIENCE {
            return Err(error);
        }
        while Instant::now() < until {
            if signals::stop_requested() {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

impl fmt::Display for EmrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoClusterId => "this node's files name no cluster id",
            Self::NoRegion => "the AWS region is not known: add --region REGION",
            Self::NoCredentials(text)
            | Self::AccessDenied(text)
            | Self::Busy(text)
            | Self::NoAnswer(text)
            | Self::Other(text) => text,
        })
    }
}

impl std::error::Error for EmrError {}

/// The facts about a cluster that emr-shs learns from EMR.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Where EMR archives logs: `s3://bucket/prefix/`, or as EMR spells it if that is no log URI to emr-shs. `None` if it
    /// archives none.
    pub(crate) log_uri: Option<String>,
    /// `emr-7.12.0`, `emr-spark-8.1.0`, …
    pub(crate) release: Option<String>,
    /// The primary node's public name. In a private subnet, its private name.
    pub(crate) public_dns: Option<String>,
    /// Whether jobs can run under roles of their own; `None` if EMR did not say.
    pub(crate) runtime_roles: Option<bool>,
}

/// What an installation asks EMR.
pub(crate) struct Description {
    /// The cluster, with its runtime roles if EMR told them.
    pub cluster: Cluster,
    /// Why EMR did not tell whether jobs can run under roles of their own.
    pub roles_unknown: Option<EmrError>,
}

impl Description {
    pub(crate) fn fetch(id: Option<&str>, region: Option<String>, retry: Retry) -> Result<Self, EmrError> {
        let begun = Instant::now();
        let fetch = || ClusterDescription::fetch(id, region.clone(), TimeoutProfile::Usual);
        let described = ask_again(begun, retry, fetch)?;
        let roles = ask_again(begun, Retry::Busy, || described.has_runtime_roles());
        let cluster = Cluster { runtime_roles: roles.as_ref().ok().copied(), ..described.cluster() };
        Ok(Self { cluster, roles_unknown: roles.err() })
    }
}

/// EMR's answer to DescribeCluster, and the client that sends further requests.
pub(crate) struct ClusterDescription {
    runtime: Runtime,
    client: aws_sdk_emr::Client,
    cluster: aws_sdk_emr::types::Cluster,
}

impl ClusterDescription {
    pub(crate) fn fetch(id: Option<&str>, region: Option<String>, timeouts: TimeoutProfile) -> Result<Self, EmrError> {
        let id = id.ok_or(EmrError::NoClusterId)?;
        let runtime = config::runtime().map_err(|e| EmrError::Other(e.to_string()))?;
        let config = config::load(&runtime, region, timeouts, &proxies::in_force());
        if config.region().is_none() {
            return Err(EmrError::NoRegion);
        }
        let client = aws_sdk_emr::Client::new(&config);
        let answer = runtime.block_on(client.describe_cluster().cluster_id(id).send());
        let answer = answer.map_err(|e| EmrError::new(&e))?;
        let cluster = answer.cluster.ok_or_else(|| EmrError::Other("the answer names no cluster".into()))?;
        Ok(Self { runtime, client, cluster })
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster {
            log_uri: self.cluster.log_uri().and_then(normalise_log_uri),
            release: self.cluster.release_label().map(str::to_string),
            public_dns: self.cluster.master_public_dns_name().map(str::to_string),
            runtime_roles: None,
        }
    }

    /// The log URI as EMR spells it.
    pub(crate) fn spelled_log_uri(&self) -> Option<&str> {
        self.cluster.log_uri()
    }

    /// The KMS key with which EMR encrypts the logs that it archives, if the cluster has one for that.
    pub(crate) fn log_key(&self) -> Option<&str> {
        self.cluster.log_encryption_kms_key_id()
    }

    /// Whether EMR has finished setting up the cluster.
    pub(crate) fn runs(&self) -> bool {
        let state = self.cluster.status().and_then(|status| status.state());
        matches!(state, Some(ClusterState::Running | ClusterState::Waiting))
    }

    /// Whether the cluster's log upload policy switches off the upload of application logs (`docs/emr.md` §5.2).
    pub(crate) fn uploads_no_application_logs(&self) -> bool {
        let logging = self.cluster.monitoring_configuration().and_then(|m| m.s3_logging_configuration());
        let policy = logging.and_then(|l| l.log_type_upload_policy()?.get(&LogType::ApplicationLogs));
        policy == Some(&LogUploadPolicyValue::Disabled)
    }

    /// Whether the cluster's security configuration gives jobs roles of their own.
    pub(crate) fn has_runtime_roles(&self) -> Result<bool, EmrError> {
        let Some(name) = self.cluster.security_configuration() else { return Ok(false) };
        let answer = self.runtime.block_on(self.client.describe_security_configuration().name(name).send());
        let answer = answer.map_err(|e| EmrError::new(&e))?;
        let text = answer.security_configuration().unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| EmrError::Other(e.to_string()))?;
        Ok(gives_roles(&json))
    }
}

/// Whether a security configuration has runtime roles, or maps roles to those who use EMRFS (`docs/emr.md §8.2`).
fn gives_roles(security_configuration: &serde_json::Value) -> bool {
    let of = |path: &str| security_configuration.pointer("/AuthorizationConfiguration")?.pointer(path);
    let is_on = of("/IAMConfiguration/EnableApplicationScopedIAMRole").is_some_and(|on| *on == true);
    let mappings = of("/EmrFsConfiguration/RoleMappings").and_then(|mappings| mappings.as_array());
    is_on || mappings.is_some_and(|mappings| !mappings.is_empty())
}

/// `s3://bucket/prefix/`. EMR often spells it `s3n://bucket/prefix`, with or without a slash at the end.
fn normalise_log_uri(uri: &str) -> Option<String> {
    let uri = uri.trim();
    let known = uri.parse::<LogUri>().map(|uri| uri.to_string());
    (!uri.is_empty()).then(|| known.unwrap_or_else(|_| uri.into()))
}

#[cfg(test)]
mod tests {
    use super::gives_roles;
    use serde_json::json;

    #[test]
    fn runtime_roles_and_role_mappings_give_jobs_roles_of_their_own() {
        let mapping =
            json!({"Role": "arn:aws:iam::123456789012:role/a", "IdentifierType": "Group", "Identifiers": ["a"]});
        let table = [
            (json!({"IAMConfiguration": {"EnableApplicationScopedIAMRole": true}}), true),
            (json!({"IAMConfiguration": {"EnableApplicationScopedIAMRole": false}}), false),
            (json!({"EmrFsConfiguration": {"RoleMappings": [mapping]}}), true),
            (json!({"EmrFsConfiguration": {"RoleMappings": []}}), false),
            (json!({"LakeFormationConfiguration": {}}), false),
        ];
        for (authorization, wanted) in table {
            assert_eq!(gives_roles(&json!({ "AuthorizationConfiguration": authorization })), wanted, "{authorization}");
        }
        assert!(!gives_roles(&json!({"EncryptionConfiguration": {}})));
    }
}
