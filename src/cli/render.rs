//! The options of `render`.

use crate::render::iam::Side;
use crate::render::serverless::Part;
use crate::render::step::Format;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What can be rendered.
#[derive(Subcommand)]
pub enum Render {
    /// The EMR configuration for what install would set, so that it lasts
    ClusterConfig(ClusterConfigArgs),
    /// The step that installs on a running cluster, or at the end of a new one's start
    Step(StepArgs),
    /// The bootstrap action that installs on every primary node a cluster gets
    BootstrapAction(StepArgs),
    /// The IAM policy that the history server, the jobs and verify need
    IamPolicy(IamPolicyArgs),
    /// All that shows the jobs of an EMR Serverless application in your history server
    Serverless(ServerlessArgs),
}

/// Options of `render cluster-config`.
#[derive(Args)]
#[command(
    after_help = "On a primary node it is what install would set there, or has set; elsewhere what can be known \
without the node, from --event-logs and --release.\n\nWhen it is safe: for a running cluster after install on \
its primary node, never before. EMR checks after a reconfiguration that every application runs and rolls back \
if the history server does not, and without the links that install makes it does not. What install puts on its \
class path stays through a reconfiguration. In a new cluster's configuration it is safe beside the step or the \
bootstrap action: the history server is down until that ran.\n\nA reconfiguration replaces what the cluster was \
configured with: paste this into that, not over it."
)]
pub struct ClusterConfigArgs {
    /// Where event logs go, such as s3://my-bucket/spark-events/ [default: as installed]
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS")]
    pub event_logs: Option<String>,
    /// Leave out what depends on this very node, for a cluster that is yet to be made
    #[arg(long, env = "EMR_SHS_NEW_CLUSTER")]
    pub new_cluster: bool,
    /// The cluster's release, such as emr-7.12.0, where this is not one of its nodes
    #[arg(long, value_name = "LABEL", env = "EMR_SHS_RELEASE")]
    pub release: Option<String>,
    /// Its Spark, such as 3.5, where the release does not tell
    #[arg(long, value_name = "VERSION", env = "EMR_SHS_SPARK_VERSION")]
    pub spark_version: Option<String>,
    /// Heap of the history server, such as 4g: an export of spark-env
    #[arg(long, value_name = "SIZE", env = "EMR_SHS_DAEMON_MEMORY")]
    pub daemon_memory: Option<String>,
    /// Set a further spark.history.* or spark.eventLog.* key; may be repeated (in the
    /// variable: one a line)
    #[arg(long, value_name = "KEY=VALUE", env = "EMR_SHS_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
    /// Leave spark.eventLog.* to the jobs: a node that only shows history
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_HISTORY_ONLY")]
    pub history_only: Option<bool>,
    /// AWS region [default: the cluster's]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub region: Option<String>,
    /// S3 endpoint: a VPC endpoint, or a store other than AWS's
    #[arg(long, value_name = "URL", env = "EMR_SHS_ENDPOINT_URL")]
    pub endpoint_url: Option<String>,
    /// No log gateway: log links keep leading to NodeManagers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_NO_PROXY")]
    pub no_proxy: Option<bool>,
    /// Whose logs links lead to: emr, or serverless:APPLICATION-ID
    #[arg(long, value_name = "LAYOUT", env = "EMR_SHS_LAYOUT")]
    pub layout: Option<String>,
    /// The log gateway's address in log links; / makes them relative
    #[arg(long, value_name = "URL", env = "EMR_SHS_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// Where clusters archive their logs; may be repeated
    #[arg(long, value_name = "URI", env = "EMR_SHS_LOG_URI", value_delimiter = ',')]
    pub log_uri: Vec<String>,
}

/// Options of `render step` and `render bootstrap-action`.
#[derive(Args)]
#[command(
    after_help = "Upload the release's step or bootstrap script and its binaries to S3 first; the script takes the \
binary of the node's CPU, checks it against the sum given here, and runs install --if-primary with what follows \
the --. It is safe to run again.\n\nFormats: json is the shape of `aws emr add-steps --steps file://…` and \
`create-cluster --steps` or `--bootstrap-actions`; api is RunJobFlow's and AddJobFlowSteps', for SDKs and Airflow."
)]
pub struct StepArgs {
    /// The uploaded script, such as s3://my-bucket/emr-shs/step
    #[arg(long, value_name = "URI", env = "EMR_SHS_SCRIPT")]
    pub script: String,
    /// Where the binaries lie [default: beside the script]
    #[arg(long, value_name = "URI", env = "EMR_SHS_BINARIES")]
    pub binaries: Option<String>,
    /// The release's SHA256SUMS file, for the sums of both CPUs
    #[arg(long, value_name = "FILE", env = "EMR_SHS_SHA256SUMS", conflicts_with_all = ["sha256_x86_64", "sha256_aarch64"])]
    pub sha256sums: Option<PathBuf>,
    /// SHA-256 of emr-shs-x86_64
    #[arg(long = "sha256-x86_64", value_name = "HEX", env = "EMR_SHS_SHA256_X86_64")]
    pub sha256_x86_64: Option<String>,
    /// SHA-256 of emr-shs-aarch64 (Graviton)
    #[arg(long = "sha256-aarch64", value_name = "HEX", env = "EMR_SHS_SHA256_AARCH64")]
    pub sha256_aarch64: Option<String>,
    /// Tell what failed and exit 0: a bootstrap action that fails ends the cluster
    #[arg(long, env = "EMR_SHS_CONTINUE_ON_FAILURE")]
    pub continue_on_failure: bool,
    /// The cluster's region [default: this node's]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub region: Option<String>,
    /// For what it is rendered
    #[arg(long, value_name = "FORMAT", default_value = "json", env = "EMR_SHS_FORMAT")]
    pub format: Format,
    /// Arguments of install, such as --event-logs s3://my-bucket/spark-events/
    #[arg(last = true, value_name = "ARGS")]
    pub install: Vec<String>,
}

/// Options of `render iam-policy`.
#[derive(Args)]
#[command(
    after_help = "By default one document for the cluster's instance profile, as jobs and the history server share \
it. Where jobs have roles of their own (runtime roles, EMR Serverless), theirs is --for jobs, and the primary \
node's --for history-server,verify.\n\nOn a node the event logs, the log URI and the region are known."
)]
pub struct IamPolicyArgs {
    /// Where event logs go, such as s3://my-bucket/spark-events/ [default: as installed]
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS")]
    pub event_logs: Option<String>,
    /// Where clusters archive their logs; may be repeated [default: as installed, or this cluster's]
    #[arg(long, value_name = "URI", env = "EMR_SHS_LOG_URI", value_delimiter = ',')]
    pub log_uri: Vec<String>,
    /// A KMS key that event logs or container logs are encrypted with; may be repeated
    #[arg(long, value_name = "ARN", env = "EMR_SHS_KMS_KEY", value_delimiter = ',')]
    pub kms_key: Vec<String>,
    /// Where the step or the bootstrap action downloads from, such as s3://my-bucket/emr-shs/
    #[arg(long, value_name = "URI", env = "EMR_SHS_BINARIES")]
    pub binaries: Option<String>,
    /// Who is to have it; may be repeated [default: all of them]
    #[arg(long = "for", value_name = "SIDE", env = "EMR_SHS_FOR", value_delimiter = ',')]
    pub sides: Vec<Side>,
    /// The clusters' region [default: this node's, else any]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub region: Option<String>,
    /// The clusters' account [default: any]
    #[arg(long, value_name = "ID", env = "EMR_SHS_ACCOUNT")]
    pub account: Option<String>,
}

/// Options of `render serverless`.
#[derive(Args)]
#[command(
    override_usage = "emr-shs render serverless [OPTIONS] --application <ID> --account <ID>\n       --event-logs <URI> --log-uri <URI>",
    after_help = "By default it prints the whole as a text to read and paste from; --into writes the files that the \
text names. It asks AWS nothing and changes nothing there."
)]
pub struct ServerlessArgs {
    /// The application's id
    #[arg(long, value_name = "ID", env = "EMR_SHS_APPLICATION")]
    pub application: String,
    /// The account it is in
    #[arg(long, value_name = "ID", env = "EMR_SHS_ACCOUNT")]
    pub account: String,
    /// The region it is in [default: this node's]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub region: Option<String>,
    /// Where the event logs of all its jobs shall go, such as s3://my-bucket/serverless-events/
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS")]
    pub event_logs: String,
    /// Where its jobs log, such as s3://my-bucket/serverless-logs/
    #[arg(long, value_name = "URI", env = "EMR_SHS_LOG_URI")]
    pub log_uri: String,
    /// Its release; images are made for one
    #[arg(long, value_name = "LABEL", default_value = "emr-7.12.0", env = "EMR_SHS_RELEASE")]
    pub release: String,
    /// The ECR repository for the image, in the same region
    #[arg(long, value_name = "NAME", default_value = "emr-serverless-spark", env = "EMR_SHS_REPOSITORY")]
    pub repository: String,
    /// The role its jobs run under [default: one named EMRServerlessJobRole]
    #[arg(long, value_name = "ARN", env = "EMR_SHS_JOB_ROLE")]
    pub job_role: Option<String>,
    /// A KMS key that the buckets are encrypted with; may be repeated
    #[arg(long, value_name = "ARN", env = "EMR_SHS_KMS_KEY", value_delimiter = ',')]
    pub kms_key: Vec<String>,
    /// Print this part alone
    #[arg(long, value_name = "PART", env = "EMR_SHS_PART", conflicts_with = "into")]
    pub part: Option<Part>,
    /// Write the files into this directory; made if it is not there
    #[arg(long, value_name = "DIR", env = "EMR_SHS_INTO")]
    pub into: Option<PathBuf>,
}
