//! The command line. Every doc comment on a command or an option is help text.

mod cache;
pub mod index;
pub mod options;
pub mod render;
pub mod resolve;

use crate::paths::IN_UNIT_VARIABLE;
use crate::settings::{LinkInto, Mode};
use cache::EVENT_LOG_CACHE;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use options::{
    EventLogsArgs, LOG_GATEWAY, LogUriArgs, LoginArgs, PublicUrlArgs, RegionArgs, RestartArgs, S3Args, SparkArgs,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Turns the Spark History Server of an Amazon EMR primary node into a self-managed one on your
/// own S3 bucket.
#[derive(Parser)]
#[command(name = "emr-shs", version, max_term_width = 80, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Typical use, on the primary node:\n  sudo emr-shs plan --event-logs s3://my-bucket/spark-events/\n  \
sudo emr-shs install --event-logs s3://my-bucket/spark-events/\n  sudo emr-shs uninstall\n\nExit codes: 0 done or nothing to do, 1 failed and rolled back, \
2 usage error, 3 a check failed, 4 plan --check: changes are pending or something that was wanted is missing, 5 done, but something that was wanted is missing"
)]
pub struct Cli {
    /// The command, followed by its own options.
    #[command(subcommand)]
    pub command: Command,
    /// Options that can stand before and after the command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON object to stdout
    #[arg(long, global = true, env = "EMR_SHS_JSON")]
    pub json: bool,
    /// Work on the files below DIR instead of /, without services and S3 (for tests and image
    /// builds)
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true,
        env = "EMR_SHS_ROOT"
    )]
    pub root: PathBuf,
    /// Print more detail
    #[arg(short, long, global = true, env = "EMR_SHS_VERBOSE")]
    pub verbose: bool,
    /// Print only data, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", env = "EMR_SHS_QUIET")]
    pub quiet: bool,
    /// When to use colors
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

/// The values of `--color`.
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
    /// Show what this node runs and what its history server lacks
    Discover(RegionArgs),
    /// Show what install would change, and why
    Plan(PlanArgs),
    /// Move the history server to S3; if that fails, restore the node
    Install(InstallArgs),
    /// Only put missing jars on the history server's class path
    Link(ComponentArgs),
    /// Only create the S3 prefix
    Prefix(ComponentArgs),
    /// Only edit spark-defaults.conf and create the local store
    Configure(ComponentArgs),
    /// Install or run the log gateway, which opens executor logs from S3 in the browser
    #[command(subcommand)]
    Proxy(Proxy),
    /// Restart the history server and wait until it is ready
    Restart(RestartArgs),
    /// Show what is installed, what has drifted, and whether the history server answers
    Status,
    /// Check for every known problem and print how to fix it
    Doctor(DoctorArgs),
    /// Prove end to end that an executor's log opens, then clean up
    Verify(VerifyArgs),
    /// List every application in S3, in any layout, within seconds
    #[command(subcommand)]
    Index(index::Index),
    /// Restore what install changed; leave alone what somebody else has changed since
    Uninstall(UninstallArgs),
    /// Print configurations, steps and policies to use elsewhere; changes nothing
    #[command(subcommand)]
    Render(render::Render),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the man pages
    Man(ManArgs),
}

/// What to install. An option that is left out keeps its value from the last run.
#[derive(Args, Default)]
pub struct ComponentArgs {
    #[command(flatten)]
    pub(crate) spark: SparkArgs,
    /// Link this jar, and prefer it to jars that install finds; repeatable
    #[arg(long, value_name = "PATH", env = "EMR_SHS_JAR", value_delimiter = ':')]
    pub(crate) jar: Vec<PathBuf>,
    /// Where the links to jars go [default: daemon]
    #[arg(long, value_name = "WHERE", env = "EMR_SHS_LINK_INTO")]
    pub(crate) link_into: Option<LinkInto>,
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
    /// On a node that is not a primary node, change nothing and exit 0
    #[arg(long, env = "EMR_SHS_IF_PRIMARY")]
    pub(crate) if_primary: bool,
    #[command(flatten)]
    pub(crate) restart: RestartArgs,
    /// Proceed where a check would refuse, and replace files that emr-shs did not create;
    /// uninstall restores them
    #[arg(long, env = "EMR_SHS_FORCE")]
    pub(crate) force: bool,
    /// Print the plan and change nothing
    #[arg(short = 'n', long, env = "EMR_SHS_DRY_RUN")]
    pub(crate) dry_run: bool,
}

/// Options of `install`.
#[derive(Args)]
#[command(
    after_help = "An option that is left out keeps its value from the last run; --htpasswd and --tls-cert are removed by an empty \
value. To see the changes first: sudo emr-shs plan, with the same options.\n\nExit codes: 0 installed or nothing to do, 1 failed and rolled back, 2 usage error, 3 a check failed \
before the first change, or the proof of --verify failed afterwards, 5 installed, but something that was wanted is missing"
)]
pub struct InstallArgs {
    #[command(flatten)]
    pub(crate) install: ComponentArgs,
    /// At the end, prove that an executor's log opens, as the command verify does
    #[arg(long, env = "EMR_SHS_VERIFY")]
    pub(crate) verify: bool,
    /// Seconds that EMR may take to finish provisioning the node, when install runs in a
    /// bootstrap action; a systemd unit waits in the background
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds, env = "EMR_SHS_PROVISIONING_TIMEOUT")]
    pub(crate) provisioning_timeout: Duration,
    /// Set by that systemd unit, which runs install again
    #[arg(long, hide = true, env = IN_UNIT_VARIABLE)]
    pub(crate) in_unit: bool,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// Subcommands of `proxy`.
#[derive(Subcommand)]
pub enum Proxy {
    /// Install the log gateway as a service and point log links to it
    #[command(
        after_help = "An option that is left out keeps its value from the last run; --htpasswd and --tls-cert are removed by an \
empty value."
    )]
    Install(ComponentArgs),
    /// Run the log gateway in the foreground, as its service does
    Serve(ServeArgs),
    /// Add a user to the log gateway's password file, or change a password
    Passwd(PasswdArgs),
    /// Make the event-log cache, as the service does before it starts
    #[command(hide = true)]
    PrepareCache(PrepareCacheArgs),
}

/// Options of the log gateway. An option that is left out keeps its value from the last run.
#[derive(Args, Default)]
pub struct GatewayArgs {
    #[command(flatten)]
    pub(crate) log_uris: LogUriArgs,
    /// Address to listen on [default: [::]:9977, all addresses]
    #[arg(long, value_name = "ADDRESS:PORT", env = "EMR_SHS_LISTEN", help_heading = LOG_GATEWAY)]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) public_url: PublicUrlArgs,
    /// Another host name that clients use for the gateway; repeatable, replaces the names of
    /// earlier runs
    #[arg(long, value_name = "NAME", env = "EMR_SHS_HOST_NAME", value_delimiter = ',', help_heading = LOG_GATEWAY)]
    pub(crate) host_name: Vec<String>,
    /// Serve these files, too, such as '*.json'; repeatable, replaces the patterns of earlier
    /// runs. Always served: stdout*, stderr*, syslog*, container-localizer-syslog*, prelaunch.*,
    /// gc*, *.log
    #[arg(long, value_name = "PATTERN", env = "EMR_SHS_ALLOW_FILE", value_delimiter = ',', help_heading = LOG_GATEWAY)]
    pub(crate) allow_file: Vec<String>,
    /// Serve logs of this cluster and of the node's own alone, by the id of a cluster, an EMR
    /// Serverless application or a virtual cluster, or this for the node's own alone;
    /// repeatable, replaces the ids of earlier runs [default: all below the log URIs]
    #[arg(long, value_name = "ID", env = "EMR_SHS_ALLOW_CLUSTER", value_delimiter = ',', help_heading = LOG_GATEWAY)]
    pub(crate) allow_cluster: Vec<String>,
    /// Without TLS and a login, also serve programs of this account of the node, and what they
    /// pass on for others; '*' for all accounts; repeatable, replaces the accounts of earlier
    /// runs [default: root and the accounts that people log in with]
    #[arg(long, value_name = "NAME", env = "EMR_SHS_ALLOW_ACCOUNT", value_delimiter = ',', help_heading = LOG_GATEWAY)]
    pub(crate) allow_account: Vec<String>,
    /// How the gateway delivers a log [default: redirect]
    #[arg(long, value_name = "MODE", env = "EMR_SHS_MODE", help_heading = LOG_GATEWAY)]
    pub(crate) mode: Option<Mode>,
    /// Serve TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", value_parser = file_or_none(), value_hint = ValueHint::AnyPath, env = "EMR_SHS_TLS_CERT", help_heading = LOG_GATEWAY)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", value_parser = file_or_none(), value_hint = ValueHint::AnyPath, env = "EMR_SHS_TLS_KEY", help_heading = LOG_GATEWAY)]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve TLS with a self-signed certificate; status shows its fingerprint
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_TLS_SELF_SIGNED", help_heading = LOG_GATEWAY)]
    pub(crate) tls_self_signed: Option<bool>,
    /// Require a login from this file of NAME:HASH lines, as `htpasswd -B` writes them
    #[arg(long, value_name = "FILE", value_parser = file_or_none(), value_hint = ValueHint::AnyPath, env = "EMR_SHS_HTPASSWD", help_heading = LOG_GATEWAY)]
    pub(crate) htpasswd: Option<PathBuf>,
    /// With --index: how much the event-log cache may take, such as 20g [default: a tenth of its
    /// disk, and at most 50 GB]
    #[arg(long, value_name = "SIZE", env = "EMR_SHS_CACHE_SIZE", help_heading = EVENT_LOG_CACHE)]
    pub(crate) cache_size: Option<String>,
    /// With --index: how many applications the event-log cache may have; the history server can
    /// keep 75 MB on its disk for each [default: 200]
    #[arg(long, value_name = "N", env = "EMR_SHS_CACHE_COUNT", help_heading = EVENT_LOG_CACHE)]
    pub(crate) cache_count: Option<String>,
    /// Serve clients on other machines even if TLS or the login is missing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "EMR_SHS_INSECURE", help_heading = LOG_GATEWAY)]
    pub(crate) insecure: Option<bool>,
}

/// Options of `proxy serve`.
#[derive(Args)]
#[command(mut_arg("region", |arg| arg.help("AWS region [default: from the provider chain of the AWS SDK]")))]
pub struct ServeArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
    /// Id of this node's cluster, whose logs the gateway searches first
    #[arg(long, value_name = "ID", env = "EMR_SHS_CLUSTER_ID")]
    pub(crate) cluster_id: Option<String>,
    /// URL of the history server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:18080", env = "EMR_SHS_HISTORY_SERVER")]
    pub(crate) history_server: String,
    /// Account of the history server; the gateway passes requests on only to a program of this
    /// account
    #[arg(long, value_name = "NAME", env = "EMR_SHS_HISTORY_SERVER_USER")]
    pub(crate) history_server_user: Option<String>,
    /// Path with which all links of the history server begin: its spark.ui.proxyBase
    #[arg(long, value_name = "PATH", env = "EMR_SHS_PROXY_BASE")]
    pub(crate) proxy_base: Option<String>,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    /// S3 endpoint of one bucket, where it is not that of --endpoint-url; repeatable
    #[arg(long, value_name = "BUCKET=URL", env = "EMR_SHS_BUCKET_ENDPOINT", value_delimiter = ',')]
    pub(crate) bucket_endpoint: Vec<String>,
    /// Region of one bucket whose store does not tell it; repeatable
    #[arg(long, value_name = "BUCKET=REGION", env = "EMR_SHS_BUCKET_REGION", value_delimiter = ',')]
    pub(crate) bucket_region: Vec<String>,
    /// Whether URLs name one bucket in the path, and not in the host's name, where its endpoint does not decide it; repeatable
    #[arg(long, value_name = "BUCKET=BOOL", env = "EMR_SHS_BUCKET_PATH_STYLE", value_delimiter = ',')]
    pub(crate) bucket_path_style: Vec<String>,
    #[command(flatten)]
    pub(crate) cache: cache::CacheArgs,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// Options of the gateway's list of applications.
#[derive(Args)]
#[command(next_help_heading = "List of applications")]
pub struct ListArgs {
    /// S3 prefix with event logs, in any layout: the gateway keeps an index of them and answers the
    /// list of applications from it; repeatable. Below the first prefix lies the snapshot, with
    /// which another node begins
    #[arg(long, value_name = "URI", env = "EMR_SHS_EVENT_LOGS", value_delimiter = ',')]
    pub(crate) event_logs: Vec<String>,
    /// File of the index [default: index.sqlite in the state directory of the gateway's unit]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath, env = "EMR_SHS_INDEX_DB")]
    pub(crate) index_db: Option<PathBuf>,
    /// How often the gateway looks for new event logs
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = interval, env = "EMR_SHS_LOOK_INTERVAL")]
    pub(crate) look_interval: Duration,
    /// How often the gateway lists all event logs, which also shows those that are deleted
    #[arg(long, value_name = "SECONDS", default_value = "900", value_parser = interval, env = "EMR_SHS_LISTING_INTERVAL")]
    pub(crate) listing_interval: Duration,
}

/// Options of `proxy passwd`.
#[derive(Args)]
#[command(
    after_help = "The password comes from the terminal, which does not show it, or else from the first line of stdin:\n  \
emr-shs proxy passwd /etc/emr-shs/users alice < FILE\n\nThe file gets a bcrypt hash. A new file belongs to root and the \
gateway's group; an old one keeps its owner and its mode. The gateway reads a changed file within ten seconds."
)]
pub struct PasswdArgs {
    /// Password file, as --htpasswd names it; created if it does not exist
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) file: PathBuf,
    /// Name of the user
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// Options of `proxy prepare-cache`.
#[derive(Args)]
pub struct PrepareCacheArgs {
    /// Directory of the cache
    pub(crate) directory: PathBuf,
    /// Account of the history server, whose group may read there
    #[arg(long, value_name = "NAME")]
    pub(crate) reader: String,
}

/// Options of `plan`.
#[derive(Args)]
#[command(
    after_help = "plan changes nothing. An option that is left out has its value from the last run.\n\nExit codes: 0 a plan was \
made, 2 usage error, 3 a check failed that would stop install, 4 --check: changes are pending, or something that was wanted is missing"
)]
pub struct PlanArgs {
    /// Exit 4 if changes are pending, or if something that was wanted is missing
    #[arg(long, env = "EMR_SHS_CHECK")]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) install: ComponentArgs,
}

/// Options of `doctor`. An option that is left out has the installed value, or else the configured one.
#[derive(Args, Clone)]
#[command(
    mut_arg("event_logs", |arg| arg.help("S3 prefix to check, such as s3://my-bucket/spark-events/ [default: the installed or configured one]")),
    after_help = "doctor changes nothing on the node and finishes within 20 seconds. In S3 it writes one small object \
below the prefix and deletes it, as install does. -v explains each check.\n\nA bundle contains the checks, versions, settings, \
units, ends of logs, and the shapes of EMR's own files. Secrets never get into it, and names of buckets, accounts, \
machines and people become placeholders. To look into it before you send it:\n  sudo tar -xzOf FILE | less\n\n\
Exit codes: 0 no check failed, 3 a check failed"
)]
pub struct DoctorArgs {
    /// Also write a bundle for somebody who helps you: a new file, such as
    /// /tmp/emr-shs-bundle.tar.gz
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath, env = "EMR_SHS_BUNDLE")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) event_logs: EventLogsArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// Options of `verify`.
#[derive(Args)]
#[command(
    after_help = "verify writes the event log of a synthetic application and one container log to S3, waits until the history \
server lists the application (with --index, until the log gateway does), follows its link to the log, compares the bytes, and \
deletes both objects, also after Ctrl-C.\n\nExit codes: 0 proved, 1 interrupted, 3 a stage failed"
)]
pub struct VerifyArgs {
    /// Seconds to wait for the history server, or with --index the log gateway, to list the
    /// application [default: two scan intervals of the history server plus one minute]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, env = "EMR_SHS_TIMEOUT")]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// Options of `uninstall`.
#[derive(Args)]
pub struct UninstallArgs {
    #[command(flatten)]
    pub(crate) restart: RestartArgs,
    /// Print what uninstall would restore and change nothing
    #[arg(short = 'n', long, env = "EMR_SHS_DRY_RUN")]
    pub(crate) dry_run: bool,
}

/// Options of `completions`.
#[derive(Args)]
#[command(
    after_help = "To enable completion in every new bash:\n  emr-shs completions bash | sudo tee /etc/bash_completion.d/emr-shs > /dev/null"
)]
pub struct CompletionsArgs {
    /// Shell to complete for
    pub(crate) shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Args)]
#[command(
    after_help = "To read a page without installing it:\n  emr-shs man /tmp/emr-shs && man /tmp/emr-shs/emr-shs-install.1"
)]
pub struct ManArgs {
    /// Directory for the pages; created if it does not exist
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Reads a path that may be empty: an empty one takes the remembered file back.
fn file_or_none() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn interval(text: &str) -> Result<Duration, String> {
    seconds_from(1, text)
}

fn seconds(text: &str) -> Result<Duration, String> {
    seconds_from(10, text)
}

fn seconds_from(least: u64, text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse() {
        Ok(n) if (least..=86_400).contains(&n) => Ok(Duration::from_secs(n)),
        _ => Err(format!("wanted a number of seconds from {least} to 86400")),
    }
}
