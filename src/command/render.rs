//! `render`: prints documents on stdout, and notes about them on stderr.

use super::host;
use super::own_directory::own_directory;
use crate::aws::config;
use crate::aws::identity::{instance_role, partition_of_node};
use crate::aws::partition::{self, Partition};
use crate::aws::uri::{LogUri, named_log_uri};
use crate::change::component::Component;
use crate::change::receipt::Receipt;
use crate::cli::options::given;
use crate::cli::render::{ClusterConfigArgs, IamPolicyArgs, Render, ServerlessArgs, StepArgs};
use crate::cli::{Cli, Command, ComponentArgs, GatewayArgs};
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::install::prepare::{Installation, Request};
use crate::node::describe_cluster;
use crate::node::identity::Identity;
use crate::node::spark::{self, Spark};
use crate::render::Rendered;
use crate::render::cluster_config::{self, NodeConfigRequest, ReleaseConfigRequest};
use crate::render::iam::{self, IamPolicyRequest, Side};
use crate::render::serverless::{Part, ServerlessRequest, ServerlessSetup};
use crate::render::serverless_in_place::{InPlaceRequest, InPlaceSetup};
use crate::render::step::{self, Checksums, StepRequest};
use crate::settings::Settings;
use crate::ui::{self, Console};
use anyhow::{Context, Result};
use clap::Parser;
use fs_err as fs;
use std::path::Path;

pub(crate) fn run(root: &Path, what: &Render, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let identity = Identity::observe(&host);
    let (command, rendered) = match what {
        Render::ClusterConfig(args) => ("render cluster-config", cluster_config(host, args)?),
        Render::Step(args) => ("render step", step::step(&step_request(args, &identity)?)?),
        Render::BootstrapAction(args) => {
            ("render bootstrap-action", step::bootstrap_action(&step_request(args, &identity)?)?)
        }
        Render::IamPolicy(args) => ("render iam-policy", iam_policy(&host, &identity, args)?),
        Render::Serverless(args) => ("render serverless", serverless(&host, &identity, args)?),
    };
    show(command, &rendered, console)
}

fn show(command: &str, rendered: &Rendered, console: &Console) -> Result<Exit> {
    if console.is_json() {
        let document = match rendered.is_json {
            true => serde_json::from_str(&rendered.text).context("reading the rendered JSON")?,
            false => serde_json::Value::from(rendered.text.as_str()),
        };
        console.data(command, serde_json::json!({ "document": document, "notes": rendered.notes }));
        return Ok(Exit::Done);
    }
    ui::data(&rendered.text);
    console.notes(&rendered.notes);
    Ok(Exit::Done)
}

fn cluster_config(host: Host, args: &ClusterConfigArgs) -> Result<Rendered> {
    let (release, spark_version) = (given(&args.release), given(&args.spark_version));
    let daemon_memory = given(&args.daemon_memory);
    let component_args = ComponentArgs {
        spark: args.spark.clone(),
        gateway: GatewayArgs {
            public_url: args.public_url.clone(),
            log_uris: args.log_uris.clone(),
            ..GatewayArgs::default()
        },
        ..ComponentArgs::default()
    };
    let names_release = release.is_some() || spark_version.is_some();
    if names_release || !spark::is_installed(&host) || Spark::observe(&host).is_err() {
        let settings = &component_args.resolve(&Settings::default())?;
        let request = ReleaseConfigRequest { settings, release, spark_version, daemon_memory };
        return cluster_config::for_release(&request);
    }
    let receipt = Receipt::load(&host)?;
    let settings = component_args.resolve(&receipt.settings)?;
    let command = "render cluster-config";
    let request = Request { command, components: Component::ALL, host, receipt, settings, force: false };
    let installation = &Installation::prepare(request)?;
    cluster_config::for_node(&NodeConfigRequest { installation, new_cluster: args.new_cluster, daemon_memory })
}

fn step_request<'a>(args: &'a StepArgs, identity: &'a Identity) -> Result<StepRequest<'a>> {
    check_install_arguments(&args.install)?;
    Ok(StepRequest {
        script: &args.script,
        binaries: given(&args.binaries),
        checksums: match &args.sha256sums {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|e| Fault::usage(e.to_string()))?;
                Checksums::read(path, &text)?
            }
            None => Checksums::of_binaries(given(&args.sha256_x86_64), given(&args.sha256_aarch64))?,
        },
        continue_on_failure: args.continue_on_failure,
        region: args.region.given().or(identity.region.as_deref()),
        format: args.format,
        install: &args.install,
    })
}

/// Refuses arguments that `install` would refuse on the cluster minutes later.
fn check_install_arguments(arguments: &[String]) -> Result<(), Fault> {
    if arguments.iter().any(|word| word == "--login" || word.starts_with("--login=")) {
        return Err(Fault::usage("a step must not contain a password")
            .detail("everybody who may describe the cluster reads the arguments of its steps")
            .hint("leave --login out: as root, install --verify proves itself to the log gateway"));
    }
    let words = ["emr-shs", "install"].into_iter().chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(words) {
        Ok(Cli { command: Command::Install(args), .. }) => args.install.resolve(&Settings::default()).map(|_| ()),
        Ok(_) => Ok(()),
        Err(e) => {
            let text = e.render().to_string();
            let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Err(Fault::usage("install does not understand the arguments after --")
                .detail(reason)
                .hint("emr-shs install --help"))
        }
    }
}

fn iam_policy(host: &Host, identity: &Identity, args: &IamPolicyArgs) -> Result<Rendered> {
    let receipt = Receipt::load(host).map_err(Fault::of);
    let mut event_logs = args.event_logs.parse()?;
    if event_logs.is_empty() {
        event_logs.extend(receipt.as_ref().map_err(Clone::clone)?.settings.sources().cloned());
    }
    if event_logs.is_empty() && args.log_uris.log_uri.is_empty() {
        return Err(Fault::usage("--event-logs and --log-uri are missing")
            .detail("the policy names the prefixes that it opens; emr-shs is not installed on this machine, so it does not know yours")
            .hint("emr-shs render iam-policy --event-logs s3://my-bucket/spark-events/ --log-uri s3://my-bucket/elasticmapreduce/")
            .into());
    }
    // Without root, the receipt is unreadable and the arguments have to name everything.
    let settings = receipt.map(|receipt| receipt.settings).unwrap_or_default();
    let region = args.region.given().or(settings.region.as_deref()).or(identity.region.as_deref());
    let is_on_node = host.is_live() && identity.is_emr();
    let log_uris = log_uris(args, &settings, identity.cluster_id.as_deref().filter(|_| is_on_node), region)?;
    let binaries = given(&args.binaries).map(step::check_prefix).transpose()?;
    let only_jobs = args.sides == [Side::Jobs];
    let role = if is_on_node && !only_jobs { instance_role(&config::runtime()?) } else { None };
    iam::render(&IamPolicyRequest {
        sides: &args.sides,
        event_logs: &event_logs,
        log_uris: &log_uris,
        kms_keys: &args.kms_keys.kms_key,
        binaries: binaries.as_deref(),
        region,
        partition: partition_of(region, host),
        account: given(&args.account),
        serverless: false,
        role: role.as_deref(),
    })
}

/// The log URIs that the arguments name, or else the installed ones, or else the one that EMR names for the cluster
/// of this node.
fn log_uris(
    args: &IamPolicyArgs,
    settings: &Settings,
    cluster_id: Option<&str>,
    region: Option<&str>,
) -> Result<Vec<LogUri>, Fault> {
    let given = args.log_uris.log_uri.iter().filter(|uri| !uri.is_empty());
    let given = given.map(|uri| named_log_uri(uri)).collect::<Result<Vec<_>, _>>()?;
    if !given.is_empty() {
        return Ok(given);
    }
    if !settings.gateway.log_uris.is_empty() {
        return Ok(settings.gateway.log_uris.clone());
    }
    let described = || {
        let cluster = describe_cluster(Some(cluster_id?), region.map(Into::into)).ok()?;
        cluster.log_uri?.parse().ok()
    };
    Ok(settings.log_uri().or_else(described).into_iter().collect())
}

/// The partition of a region: the one that emr-shs knows, else the one that the metadata service of this node names.
fn partition_of(region: Option<&str>, host: &Host) -> Partition {
    let known = partition::of(region);
    let of_node = || partition_of_node(region?);
    if known.is_guess && host.is_live() { of_node().unwrap_or(known) } else { known }
}

fn serverless(host: &Host, identity: &Identity, args: &ServerlessArgs) -> Result<Rendered> {
    let region = args.region.given().or(identity.region.as_deref());
    let (partition, kms_keys) = (partition_of(region, host), &args.kms_keys.kms_key);
    let (log_uri, account) = (args.log_uri.as_str(), given(&args.account));
    let Some(event_logs) = given(&args.event_logs) else {
        if given(&args.application).or(given(&args.job_role)).is_some() {
            return Err(Fault::usage("--event-logs is missing")
                .detail("--application and --job-role are about an image that sends event logs there")
                .hint("add --event-logs s3://my-bucket/serverless-events/; or leave them out: install --index lists the jobs of all applications below --log-uri, without an image")
                .into());
        }
        let setup = InPlaceSetup::check(InPlaceRequest { log_uri, region, partition, account, kms_keys })?;
        return match &args.into {
            Some(dir) => write_files(dir, &InPlaceSetup::FILES, |part| setup.part(part), setup.guide()?, setup.notes()),
            None => setup.render(args.part),
        };
    };
    let missing = |option: &str, hint: &'static str| {
        Fault::usage(format!("{option} is missing")).detail("--event-logs asks for the way with an image").hint(hint)
    };
    let setup = ServerlessSetup::check(ServerlessRequest {
        application: given(&args.application)
            .ok_or_else(|| missing("--application", "--application 00f1r2fo0l4l4l09"))?,
        account: account.ok_or_else(|| missing("--account", "--account 123456789012"))?,
        region,
        partition,
        release: &args.release,
        repository: &args.repository,
        event_logs,
        log_uri,
        job_role: given(&args.job_role),
        kms_keys,
    })?;
    match &args.into {
        Some(dir) => write_files(dir, &Part::FILES, |part| setup.part(part), setup.guide()?, setup.notes()),
        None => setup.render(args.part),
    }
}

/// Writes the parts with these names, and the guide.
fn write_files(
    dir: &Path,
    files: &[(Part, &str)],
    part: impl Fn(Part) -> Result<String>,
    guide: String,
    notes: Vec<String>,
) -> Result<Rendered> {
    let (host, own) = own_directory(dir, "emr-shs render serverless … --into ./serverless")?;
    for (which, name) in files {
        host.write_atomic(&own.join(name), (part(*which)? + "\n").as_bytes(), 0o644, None)?;
    }
    host.write_atomic(&own.join("README.txt"), (guide + "\n").as_bytes(), 0o644, None)?;
    let names = files.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
    let text = format!("{}: {names}, and README.txt, which explains how to use them", dir.display());
    Ok(Rendered { text, is_json: false, notes })
}
