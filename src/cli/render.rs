//! The options of `render`. Every doc comment on a command or an option is help text.

use super::options::{KmsKeyArgs, LogUriArgs, PublicUrlArgs, RegionArgs, SourcesArgs, SparkArgs};
use crate::render::iam::Side;
use crate::render::serverless::Part;
use crate::render::step::Format;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Subcommands of `render`.
#[derive(Subcommand)]
pub enum Render {
    /// EMR configuration that keeps install's keys through a reconfiguration
    ClusterConfig(ClusterConfigArgs),
    /// EMR step that runs install on a running cluster or at the start of a new one
    Step(StepArgs),
    /// Bootstrap action that runs install on every primary node of a cluster
    BootstrapAction(StepArgs),
    /// IAM policy for the history server, the jobs, and verify
    IamPolicy(IamPolicyArgs),
    /// Guide and files to show the jobs of EMR Serverless
    Serverless(ServerlessArgs),
}

/// Options of `render cluster-config`.
#[derive(Args)]
#[command(
    after_help = "On a primary node, cluster-config prints the keys that install would set or has set there. Elsewhere, \
it prints the keys that follow from --event-logs and --release alone.\n\nApply the configuration to a running cluster \
only after install has run on its primary node. After a reconfiguration, EMR checks that every application runs, and \
rolls back if the history server does not. With these keys the history server starts only if the links that install \
creates are there; a reconfiguration leaves the links in place. In the configuration of a new cluster, the keys are \
safe together with the step or the bootstrap action: the history server stays down until that has run.\n\nA \
reconfiguration replaces the whole configuration of the cluster: merge these keys into it."
)]
pub struct ClusterConfigArgs {
    #[command(flatten)]
    pub(crate) spark: SparkArgs,
    /// Leave out the keys that depend on this node, for a cluster that does not exist yet
    #[arg(long, env = "EMR_SHS_NEW_CLUSTER")]
    pub(crate) new_cluster: bool,
    /// EMR release of the cluster, such as emr-7.12.0, if this machine is not one of its nodes
    #[arg(long, value_name = "LABEL", env = "EMR_SHS_RELEASE")]
    pub(crate) release: Option<String>,
    /// Spark version of the cluster, such as 3.5, for a release that emr-shs does not know
    #[arg(long, value_name = "VERSION", env = "EMR_SHS_SPARK_VERSION")]
    pub(crate) spark_version: Option<String>,
    /// Heap size of the history server, such as 4g, exported in spark-env
    #[arg(long, value_name = "SIZE", env = "EMR_SHS_DAEMON_MEMORY")]
    pub(crate) daemon_memory: Option<String>,
    #[command(flatten)]
    pub(crate) public_url: PublicUrlArgs,
    #[command(flatten)]
    pub(crate) log_uris: LogUriArgs,
}

/// Options of `render step` and `render bootstrap-action`.
#[derive(Args)]
#[command(
    mut_arg("region", |arg| arg.help("Region of the cluster [default: this node's]")),
    after_help = "First upload the release's step or bootstrap script and its binaries to S3. The script downloads the \
binary for the node's CPU, compares it with the checksum given here, and runs install --if-primary with the arguments \
after --. It is safe to run again.\n\nFormats: json is the shape of `aws emr add-steps --steps file://…` and \
`create-cluster --steps` or `--bootstrap-actions`; api is the shape of RunJobFlow and AddJobFlowSteps, for SDKs and \
Airflow."
)]
pub struct StepArgs {
    /// The uploaded script, such as s3://my-bucket/emr-shs/step
    #[arg(long, value_name = "URI", env = "EMR_SHS_SCRIPT")]
    pub(crate) script: String,
    /// S3 prefix of the binaries [default: the script's own]
    #[arg(long, value_name = "URI", env = "EMR_SHS_BINARIES")]
    pub(crate) binaries: Option<String>,
    /// SHA256SUMS file of the release, with the checksums for both CPUs
    #[arg(long, value_name = "FILE", env = "EMR_SHS_SHA256SUMS", conflicts_with_all = ["sha256_x86_64", "sha256_aarch64"])]
    pub(crate) sha256sums: Option<PathBuf>,
    /// SHA-256 of emr-shs-x86_64
    #[arg(long = "sha256-x86_64", value_name = "HEX", env = "EMR_SHS_SHA256_X86_64")]
    pub(crate) sha256_x86_64: Option<String>,
    /// SHA-256 of emr-shs-aarch64 (Graviton)
    #[arg(long = "sha256-aarch64", value_name = "HEX", env = "EMR_SHS_SHA256_AARCH64")]
    pub(crate) sha256_aarch64: Option<String>,
    /// On failure, report the error and exit 0: a bootstrap action that fails terminates the
    /// cluster
    #[arg(long, env = "EMR_SHS_CONTINUE_ON_FAILURE")]
    pub(crate) continue_on_failure: bool,
    #[command(flatten)]
    pub(crate) region: RegionArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "json", env = "EMR_SHS_FORMAT")]
    pub(crate) format: Format,
    /// Arguments for install, such as --event-logs s3://my-bucket/spark-events/
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) install: Vec<String>,
}

/// Options of `render iam-policy`.
#[derive(Args)]
#[command(
    mut_arg("event_logs", |arg| arg.help("S3 prefix for event logs, such as s3://my-bucket/spark-events/; repeatable, that of the jobs first: install --index reads the others [default: the installed ones]")),
    mut_arg("log_uri", |arg| arg.help("S3 prefix where clusters archive their logs; repeatable [default: the installed one, or this cluster's]").help_heading(None::<&str>)),
    mut_arg("region", |arg| arg.help("Region of the clusters [default: this node's, or any]")),
    after_help = "By default, iam-policy prints one policy for the cluster's instance profile, which jobs and the \
history server share. If jobs have roles of their own (runtime roles, EMR Serverless), --for jobs prints the policy for \
those roles, and --for history-server,verify the policy for the primary node.\n\nOn a node, the event logs, the log \
URI and the region default to those of the installation."
)]
pub struct IamPolicyArgs {
    #[command(flatten)]
    pub(crate) event_logs: SourcesArgs,
    #[command(flatten)]
    pub(crate) log_uris: LogUriArgs,
    #[command(flatten)]
    pub(crate) kms_keys: KmsKeyArgs,
    /// S3 prefix that the step or the bootstrap action downloads from, such as
    /// s3://my-bucket/emr-shs/
    #[arg(long, value_name = "URI", env = "EMR_SHS_BINARIES")]
    pub(crate) binaries: Option<String>,
    /// Who gets the policy; repeatable [default: all of them]
    #[arg(long = "for", value_name = "SIDE", env = "EMR_SHS_FOR", value_delimiter = ',')]
    pub(crate) sides: Vec<Side>,
    #[command(flatten)]
    pub(crate) region: RegionArgs,
    /// AWS account of the clusters [default: any]
    #[arg(long, value_name = "ID", env = "EMR_SHS_ACCOUNT")]
    pub(crate) account: Option<String>,
}

/// Options of `render serverless`.
#[derive(Args)]
#[command(
    override_usage = "emr-shs render serverless [OPTIONS] --log-uri <URI>\n       emr-shs render serverless [OPTIONS] --log-uri <URI> --event-logs <URI>\n       --application <ID> --account <ID>",
    mut_arg("region", |arg| arg.help("Region of the application [default: this node's]")),
    after_help = "With --log-uri alone, serverless explains how install --index lists the jobs of all applications where \
EMR Serverless has logged them; the jobs stay as they are. With --event-logs, it explains how an image brings the event \
logs of one application together.\n\nBy default, serverless prints one text to read and to copy from; --into writes the \
files that the text names. It sends no request to AWS."
)]
pub struct ServerlessArgs {
    /// S3 prefix for the container logs of the jobs, such as s3://my-bucket/serverless-logs/
    #[arg(long, value_name = "URI", env = "EMR_SHS_LOG_URI")]
    pub(crate) log_uri: String,
    /// S3 prefix to which an image sends the event logs of all jobs, such as
    /// s3://my-bucket/serverless-events/
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS")]
    pub(crate) event_logs: Option<String>,
    /// With --event-logs: id of the EMR Serverless application
    #[arg(long, value_name = "ID", env = "EMR_SHS_APPLICATION")]
    pub(crate) application: Option<String>,
    /// AWS account of the application [default: any; with --event-logs required]
    #[arg(long, value_name = "ID", env = "EMR_SHS_ACCOUNT")]
    pub(crate) account: Option<String>,
    #[command(flatten)]
    pub(crate) region: RegionArgs,
    /// With --event-logs: EMR release of the application; an image fits only one release
    #[arg(long, value_name = "LABEL", default_value = "emr-7.12.0", env = "EMR_SHS_RELEASE")]
    pub(crate) release: String,
    /// With --event-logs: ECR repository for the image, in the same region
    #[arg(long, value_name = "NAME", default_value = "emr-serverless-spark", env = "EMR_SHS_REPOSITORY")]
    pub(crate) repository: String,
    /// With --event-logs: runtime role of the jobs [default: the role EMRServerlessJobRole]
    #[arg(long, value_name = "ARN", env = "EMR_SHS_JOB_ROLE")]
    pub(crate) job_role: Option<String>,
    #[command(flatten)]
    pub(crate) kms_keys: KmsKeyArgs,
    /// Print only this part
    #[arg(long, value_name = "PART", env = "EMR_SHS_PART", conflicts_with = "into")]
    pub(crate) part: Option<Part>,
    /// Write the files into this directory; created if it does not exist
    #[arg(long, value_name = "DIR", env = "EMR_SHS_INTO")]
    pub(crate) into: Option<PathBuf>,
}
