//! The command line. Every doc comment here is help text.

pub mod render;
pub mod resolve;

use crate::paths::IN_UNIT_VARIABLE;
use crate::settings::{LinkInto, Mode};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Turns the Spark History Server of an Amazon EMR primary node into a self-managed one on your
/// own S3 bucket.
#[derive(Parser)]
#[command(name = "emr-shs", version, max_term_width = 80, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "The usual way, as root on the primary node:\n  emr-shs plan --event-logs s3://my-bucket/spark-events/\n  emr-shs install --event-logs s3://my-bucket/spark-events/\n  emr-shs uninstall\n\nExit codes: 0 done or nothing to do, 1 failed and put back, 2 usage, 3 a check found an error, 4 plan --check: changes pending"
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Args)]
pub struct Global {
    /// Print one JSON object to stdout
    #[arg(long, global = true, env = "EMR_SHS_JSON")]
    pub json: bool,
    /// Change or look at the files below DIR only: no service, no S3 (tests, image builds)
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true,
        env = "EMR_SHS_ROOT"
    )]
    pub root: PathBuf,
    /// Say more: rows that stay as they are, too
    #[arg(short, long, global = true, env = "EMR_SHS_VERBOSE")]
    pub verbose: bool,
    /// No talk: only data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", env = "EMR_SHS_QUIET")]
    pub quiet: bool,
    /// When to colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        env = "EMR_SHS_COLOR"
    )]
    pub color: Color,
}

/// When output is coloured.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Show what this node is, and what its history server has and lacks
    Discover(NodeArgs),
    /// Show what `install` would change, and what that means
    Plan(PlanArgs),
    /// Bring the history server up on S3, or leave the node as it was
    Install(InstallArgs),
    /// Only put the missing jars on the history server's class path
    Link(ComponentArgs),
    /// Only make the S3 prefix exist
    Prefix(ComponentArgs),
    /// Only change spark-defaults.conf
    Configure(ComponentArgs),
    /// The log gateway: executor logs from S3 in the browser
    #[command(subcommand)]
    Proxy(Proxy),
    /// Restart the history server and wait until it is ready
    Restart(RestartArgs),
    /// Show what is installed, what drifted, and whether the history server answers
    Status,
    /// Check every known cause of trouble, and say what mends it
    Doctor(DoctorArgs),
    /// Prove from end to end that an executor's log opens, and remove what that took
    Verify(VerifyArgs),
    /// Put everything back as the first install found it
    Uninstall(UninstallArgs),
    /// Print what is pasted elsewhere: configuration, step, policy; changes nothing
    #[command(subcommand)]
    Render(render::Render),
    /// Print what makes a shell complete these commands
    Completions(CompletionsArgs),
    /// Write the man pages
    Man(ManArgs),
}

/// Which node, and how AWS is reached from it.
#[derive(Args, Default)]
pub struct NodeArgs {
    /// AWS region [default: the cluster's]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub region: Option<String>,
}

/// What an installation shall be. What is left out is reused from the last run.
#[derive(Args, Default)]
pub struct ComponentArgs {
    /// Where event logs go, such as s3://my-bucket/spark-events/; needed the first time
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS")]
    pub event_logs: Option<String>,
    /// Set a further spark.history.* or spark.eventLog.* key; KEY= takes an earlier
    /// one back; may be repeated (in the variable: one a line)
    #[arg(long, value_name = "KEY=VALUE", env = "EMR_SHS_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
    /// Leave spark.eventLog.* to the jobs: a node that only shows history
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_HISTORY_ONLY")]
    pub history_only: Option<bool>,
    /// Put this jar on the class path, whatever is found; may be repeated
    #[arg(long, value_name = "PATH", env = "EMR_SHS_JAR", value_delimiter = ':')]
    pub jar: Vec<PathBuf>,
    /// Where links to jars go
    #[arg(long, value_name = "WHERE", env = "EMR_SHS_LINK_INTO")]
    pub link_into: Option<LinkInto>,
    /// AWS region [default: the cluster's]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub region: Option<String>,
    /// S3 endpoint: a VPC endpoint, or a store other than AWS's
    #[arg(long, value_name = "URL", env = "EMR_SHS_ENDPOINT_URL")]
    pub endpoint_url: Option<String>,
    /// No log gateway: log links keep leading to NodeManagers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_NO_PROXY")]
    pub no_proxy: Option<bool>,
    /// Whose logs the history server's links lead to: emr, or serverless:APPLICATION-ID
    /// for applications of EMR Serverless [default: emr]
    #[arg(long, value_name = "LAYOUT", env = "EMR_SHS_LAYOUT", help_heading = "Log gateway")]
    pub layout: Option<String>,
    /// How the log gateway shall be
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// On a node that is not the primary: say so and exit 0
    #[arg(long, env = "EMR_SHS_IF_PRIMARY")]
    pub if_primary: bool,
    /// How many seconds the history server has to become ready
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds, env = "EMR_SHS_TIMEOUT")]
    pub timeout: Duration,
    /// Go on where something is not ours; uninstall brings it back
    #[arg(long, env = "EMR_SHS_FORCE")]
    pub force: bool,
    /// Show the plan and change nothing
    #[arg(short = 'n', long, env = "EMR_SHS_DRY_RUN")]
    pub dry_run: bool,
}

/// Options of `install`.
#[derive(Args)]
pub struct InstallArgs {
    /// What is installed
    #[command(flatten)]
    pub install: ComponentArgs,
    /// At the end prove that an executor's log opens, as the command verify does
    #[arg(long, env = "EMR_SHS_VERIFY")]
    pub verify: bool,
    /// How many seconds a node that is still being provisioned, as in a bootstrap action, has to become
    /// complete; a unit waits for that in the background
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds, env = "EMR_SHS_PROVISIONING_TIMEOUT")]
    pub provisioning_timeout: Duration,
    /// This run is that unit's
    #[arg(long, hide = true, env = IN_UNIT_VARIABLE)]
    pub in_unit: bool,
    /// For that
    #[command(flatten)]
    pub login: LoginArgs,
}

/// What `proxy` can do.
#[derive(Subcommand)]
pub enum Proxy {
    /// Set the log gateway up as a service, and the links that lead to it
    Install(ComponentArgs),
    /// Run the log gateway in the foreground, as its service does
    Serve(ServeArgs),
}

/// How the log gateway shall be. What is left out is reused from the last run.
#[derive(Args, Default)]
pub struct GatewayArgs {
    /// Where clusters archive their logs, such as s3://my-bucket/elasticmapreduce/; may be
    /// repeated, this cluster's own first [default: this cluster's alone]
    #[arg(long, value_name = "URI", env = "EMR_SHS_LOG_URI", value_delimiter = ',', help_heading = "Log gateway")]
    pub log_uri: Vec<String>,
    /// Where it listens [default: [::]:9977, all addresses]
    #[arg(long, value_name = "ADDRESS:PORT", env = "EMR_SHS_LISTEN", help_heading = "Log gateway")]
    pub listen: Option<SocketAddr>,
    /// Its address in log links; / makes them relative, for use through the gateway alone
    /// [default: http://, the node's private name, and the port]
    #[arg(long, value_name = "URL", env = "EMR_SHS_PUBLIC_URL", help_heading = "Log gateway")]
    pub public_url: Option<String>,
    /// A further name it goes by; may be repeated, and replaces those of earlier runs
    #[arg(long, value_name = "NAME", env = "EMR_SHS_HOST_NAME", value_delimiter = ',', help_heading = "Log gateway")]
    pub host_name: Vec<String>,
    /// How it gives a log [default: redirect]
    #[arg(long, value_name = "MODE", env = "EMR_SHS_MODE", help_heading = "Log gateway")]
    pub mode: Option<Mode>,
    /// Serve TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", env = "EMR_SHS_TLS_CERT", help_heading = "Log gateway")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", env = "EMR_SHS_TLS_KEY", help_heading = "Log gateway")]
    pub tls_key: Option<PathBuf>,
    /// Serve TLS with a certificate made at each start
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_TLS_SELF_SIGNED", help_heading = "Log gateway")]
    pub tls_self_signed: Option<bool>,
    /// Desired a login from this file of NAME:HASH lines, as `htpasswd -B` writes them
    #[arg(long, value_name = "FILE", env = "EMR_SHS_HTPASSWD", help_heading = "Log gateway")]
    pub htpasswd: Option<PathBuf>,
    /// Serve others than this node's own addresses without TLS and a login
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_INSECURE", help_heading = "Log gateway")]
    pub insecure: Option<bool>,
}

/// Options of `proxy serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// How it shall be
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// This node's own cluster; its logs are looked for first
    #[arg(long, value_name = "ID", env = "EMR_SHS_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// Where the history server answers
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:18080", env = "EMR_SHS_HISTORY_SERVER")]
    pub history_server: String,
    /// AWS region [default: the SDK's own chain]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub region: Option<String>,
    /// S3 endpoint: a VPC endpoint, or a store other than AWS's
    #[arg(long, value_name = "URL", env = "EMR_SHS_ENDPOINT_URL")]
    pub endpoint_url: Option<String>,
}

/// Options of `plan`.
#[derive(Args)]
pub struct PlanArgs {
    /// Exit 4 if there are changes to make
    #[arg(long, env = "EMR_SHS_CHECK")]
    pub check: bool,
    /// What is planned
    #[command(flatten)]
    pub install: ComponentArgs,
}

/// Options of `doctor`. What is left out is as it was installed, or else as it is configured.
#[derive(Args)]
#[command(
    after_help = "It changes nothing on the node, and ends within 20 seconds. In S3 it writes one small object under the prefix and deletes it again, as install does. -v says of each check what it is about.\n\nExit codes: 0 nothing failed, 3 a check failed"
)]
pub struct DoctorArgs {
    /// Event logs to check for, such as s3://my-bucket/spark-events/
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS")]
    pub event_logs: Option<String>,
    /// AWS region [default: the cluster's]
    #[arg(long, value_name = "REGION", env = "EMR_SHS_REGION")]
    pub region: Option<String>,
    /// S3 endpoint: a VPC endpoint, or a store other than AWS's
    #[arg(long, value_name = "URL", env = "EMR_SHS_ENDPOINT_URL")]
    pub endpoint_url: Option<String>,
}

/// Options of `verify`.
#[derive(Args)]
#[command(
    after_help = "It writes the event log of an application that never ran and one container log to S3, waits until the history server lists the one, follows its link to the other, compares the bytes, and deletes both, also on Ctrl-C.\n\nExit codes: 0 proved, 1 interrupted, 3 a stage failed"
)]
pub struct VerifyArgs {
    /// How many seconds the history server has to list it [default: two of its scans and a minute]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, env = "EMR_SHS_TIMEOUT")]
    pub timeout: Option<Duration>,
    /// Who asks
    #[command(flatten)]
    pub login: LoginArgs,
}

/// Who asks the log gateway.
#[derive(Args)]
pub struct LoginArgs {
    /// A login for the log gateway, if it wants one, to prove that logs open; better given in the
    /// variable
    #[arg(long, value_name = "NAME:PASSWORD", env = "EMR_SHS_LOGIN", hide_env_values = true)]
    pub login: Option<String>,
}

/// Options of `restart`.
#[derive(Args)]
pub struct RestartArgs {
    /// How many seconds the history server has to become ready
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds, env = "EMR_SHS_TIMEOUT")]
    pub timeout: Duration,
}

/// Options of `uninstall`.
#[derive(Args)]
pub struct UninstallArgs {
    /// How many seconds the history server has to become ready
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds, env = "EMR_SHS_TIMEOUT")]
    pub timeout: Duration,
    /// Show what would be put back and change nothing
    #[arg(short = 'n', long, env = "EMR_SHS_DRY_RUN")]
    pub dry_run: bool,
}

/// Options of `completions`.
#[derive(Args)]
#[command(
    after_help = "For bash, in every shell that starts from then on:\n  emr-shs completions bash | sudo tee /etc/bash_completion.d/emr-shs > /dev/null"
)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Args)]
#[command(
    after_help = "To read a page without installing it:\n  emr-shs man /tmp/emr-shs && man /tmp/emr-shs/emr-shs-install.1"
)]
pub struct ManArgs {
    /// Where they go; made if it is not there
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse() {
        Ok(n @ 10..=86_400) => Ok(Duration::from_secs(n)),
        _ => Err("wanted a number of seconds from 10 to 86400".into()),
    }
}
