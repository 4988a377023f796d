//! Groups of options that several commands share. Every doc comment on an option is help text.

use super::resolve::is_base_url;
use super::seconds;
use crate::aws::uri::EventLogs;
use crate::error::Fault;
use crate::redact::is_secret_key;
use clap::Args;
use std::time::Duration;

/// The heading in `--help` above every option of the log gateway.
pub(super) const LOG_GATEWAY: &str = "Log gateway";

/// The value of an option. An empty value counts as none, so that `EMR_SHS_REGION= emr-shs …` and a variable
/// that a script leaves empty both mean that the option is not given.
pub(crate) fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

/// `--event-logs`
#[derive(Args, Clone, Default)]
pub struct EventLogsArgs {
    /// S3 prefix for event logs, such as s3://my-bucket/spark-events/ [default: the installed
    /// one; the first install needs it]
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS")]
    pub(crate) event_logs: Option<String>,
}

impl EventLogsArgs {
    pub(crate) fn parse(&self) -> Result<Option<EventLogs>, Fault> {
        given(&self.event_logs).map(str::parse).transpose()
    }
}

/// `--event-logs`, for commands that install the index
#[derive(Args, Clone, Default)]
pub struct SourcesArgs {
    /// S3 prefix for event logs, such as s3://my-bucket/spark-events/ [default: the installed
    /// one; the first install needs it]. With --index repeatable, that of this cluster's jobs
    /// first
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS", value_delimiter = ',')]
    pub(crate) event_logs: Vec<String>,
}

impl SourcesArgs {
    /// In the order of the command line, each once. None if the option is not given.
    pub(crate) fn parse(&self) -> Result<Vec<EventLogs>, Fault> {
        let mut sources: Vec<EventLogs> = Vec::new();
        for uri in self.event_logs.iter().filter(|uri| !uri.is_empty()) {
            let uri = uri.parse()?;
            if !sources.contains(&uri) {
                sources.push(uri);
            }
        }
        Ok(sources)
    }
}

/// `--region`
#[derive(Args, Clone, Default)]
pub struct RegionArgs {
    /// AWS region [default: the cluster's]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub(crate) region: Option<String>,
}

impl RegionArgs {
    pub(crate) fn given(&self) -> Option<&str> {
        given(&self.region)
    }
}

/// `--region` and `--endpoint-url`: how a command reaches S3.
#[derive(Args, Clone, Default)]
pub struct S3Args {
    #[command(flatten)]
    pub(crate) region: RegionArgs,
    /// S3 endpoint: a VPC endpoint or an S3-compatible store
    #[arg(long, value_name = "URL", env = "EMR_SHS_ENDPOINT_URL")]
    pub(crate) endpoint_url: Option<String>,
}

impl S3Args {
    /// The endpoint, `http(s)://host[:port]`.
    pub(crate) fn endpoint(&self) -> Result<Option<String>, Fault> {
        let Some(url) = given(&self.endpoint_url) else { return Ok(None) };
        if is_base_url(url) {
            return Ok(Some(url.trim_end_matches('/').into()));
        }
        // A URL with a user can contain a password.
        let has_user = url.contains('@');
        let found = match url.split_once("://") {
            _ if has_user => "a user before the host: credentials come from the AWS configuration",
            Some(("http" | "https", rest)) if rest.contains('?') || rest.contains('#') => "a query",
            Some(("http" | "https", rest)) if rest.trim_end_matches('/').contains('/') => "a path behind the host",
            Some(("http" | "https", _)) => "no host name, or no port, behind it",
            Some(_) => "another scheme",
            None => "no scheme",
        };
        let named = if has_user { String::new() } else { format!(" {url}") };
        Err(Fault::usage(format!("--endpoint-url{named} is not the URL of an S3 endpoint"))
            .detail(format!("found {found}"))
            .detail("wanted http:// or https:// and a host, and nothing after the host but a port")
            .hint("--endpoint-url https://bucket.vpce-0123.s3.eu-west-3.vpce.amazonaws.com"))
    }
}

/// The options that decide which keys `install` sets in spark-defaults.conf, and thus which keys
/// `render cluster-config` prints.
#[derive(Args, Clone, Default)]
pub struct SparkArgs {
    #[command(flatten)]
    pub(crate) event_logs: SourcesArgs,
    /// List all applications from an index of their event logs, and open each on demand: for
    /// thousands of applications, for several prefixes, and for any layout below them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_INDEX")]
    pub(crate) index: Option<bool>,
    /// With --index: also let the log gateway listen on the history server's port, so that the
    /// links of YARN and of the EMR console open every application; the history server moves to
    /// the next port, or to the one that --set spark.history.ui.port=PORT names
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_TAKE_PORT")]
    pub(crate) take_port: Option<bool>,
    /// Set another spark.history.* or spark.eventLog.* key; repeatable (in the variable: one per
    /// line). KEY= removes a key that an earlier run set
    #[arg(long, value_name = "KEY=VALUE", env = "EMR_SHS_SET", value_delimiter = '\n')]
    pub(crate) set: Vec<String>,
    /// Do not set spark.eventLog.*: the node only shows history, and jobs configure their own
    /// event logs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_HISTORY_ONLY")]
    pub(crate) history_only: Option<bool>,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    /// Do not set up the log gateway: log links keep pointing to NodeManagers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_NO_PROXY")]
    pub(crate) no_proxy: Option<bool>,
    /// Whose logs the links in the history server open: emr for jobs on clusters, or
    /// serverless:APPLICATION-ID for jobs of an EMR Serverless application [default: emr]
    #[arg(long, value_name = "LAYOUT", env = "EMR_SHS_LAYOUT", help_heading = LOG_GATEWAY)]
    pub(crate) layout: Option<String>,
}

impl SparkArgs {
    /// The keys with a secret that `--set` names in the arguments of this process.
    pub(crate) fn secrets_on_command_line(&self) -> Vec<String> {
        let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let is_argument = |pair: &&String| {
            words.iter().any(|word| word == *pair || word.strip_prefix("--set=") == Some(pair.as_str()))
        };
        let key = |pair: &String| Some(pair.split_once('=').filter(|(_, value)| !value.is_empty())?.0.to_string());
        self.set.iter().filter(is_argument).filter_map(key).filter(|key| is_secret_key(key)).collect()
    }
}

/// `--log-uri`
#[derive(Args, Clone, Default)]
pub struct LogUriArgs {
    /// S3 prefix where clusters archive their logs, such as s3://my-bucket/elasticmapreduce/;
    /// repeatable, this cluster's first [default: only this cluster's]
    #[arg(long, value_name = "URI", env = "EMR_SHS_LOG_URI", value_delimiter = ',', help_heading = LOG_GATEWAY)]
    pub(crate) log_uri: Vec<String>,
}

/// `--public-url`
#[derive(Args, Clone, Default)]
pub struct PublicUrlArgs {
    /// URL with which log links begin, with a path if a proxy before the gateway serves it below
    /// one. With / as value, links are relative: they then work only in pages that users open
    /// through the gateway [default: http://, or https:// with TLS, the node's private name, and
    /// the port]
    #[arg(long, value_name = "URL", env = "EMR_SHS_PUBLIC_URL", help_heading = LOG_GATEWAY)]
    pub(crate) public_url: Option<String>,
}

/// `--kms-key`
#[derive(Args, Clone, Default)]
pub struct KmsKeyArgs {
    /// ARN of a KMS key that encrypts event logs or container logs; repeatable
    #[arg(long, value_name = "ARN", env = "EMR_SHS_KMS_KEY", value_delimiter = ',')]
    pub(crate) kms_key: Vec<String>,
}

/// `--timeout`, for every command that restarts the history server.
#[derive(Args, Clone, Default)]
pub struct RestartArgs {
    /// Seconds to wait for the history server to become ready
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds, env = "EMR_SHS_TIMEOUT")]
    pub(crate) timeout: Duration,
}

/// `--login`, for every command that opens a log through the log gateway.
#[derive(Args)]
pub struct LoginArgs {
    /// Open the log with a user's login, to try that login. Without this option, root proves itself
    /// to the gateway in another way. Set the variable rather than the option, because other
    /// users of the node can read a command line
    #[arg(long, value_name = "NAME:PASSWORD", env = "EMR_SHS_LOGIN", hide_env_values = true)]
    pub(crate) login: Option<String>,
}

impl LoginArgs {
    /// Whether the password stands in the arguments of this process.
    pub(crate) fn is_on_command_line(&self) -> bool {
        self.login.is_some() && std::env::args_os().any(|word| word.as_encoded_bytes().starts_with(b"--login"))
    }
}
