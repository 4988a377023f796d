//! The step and the bootstrap action that run our wrapper scripts.

use super::{Rendered, quoted, quoted_for_terraform, region};
use crate::aws::uri::EventLogs;
use crate::cli::render::StepArgs;
use crate::cli::{Cli, Command};
use crate::error::Fault;
use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use std::fmt::Write;

/// For what it is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The AWS CLI: a file for --steps or --bootstrap-actions
    Json,
    /// The API's own shape: Steps or BootstrapActions of RunJobFlow
    Api,
    /// CloudFormation, YAML: a step for a cluster that is there; bootstrap actions of a cluster
    Cloudformation,
    /// CloudFormation, YAML: the property of AWS::EMR::Cluster
    CloudformationCluster,
    /// Terraform: a block of aws_emr_cluster
    Terraform,
}

/// Its name in EMR's lists.
const NAME: &str = "emr-shs";
/// A cluster whose history server does not come up shall work all the same.
const ON_FAILURE: &str = "CONTINUE";

/// A step as the AWS CLI wants it, which is not as the API does.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CliStep<'a> {
    r#type: &'a str,
    name: &'a str,
    action_on_failure: &'a str,
    jar: &'a str,
    args: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ApiStep<'a> {
    name: &'a str,
    action_on_failure: &'a str,
    hadoop_jar_step: HadoopJarStep<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HadoopJarStep<'a> {
    jar: &'a str,
    args: &'a [String],
}

/// A bootstrap action as the AWS CLI wants it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CliAction<'a> {
    name: &'a str,
    path: &'a str,
    args: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ApiAction<'a> {
    name: &'a str,
    script_bootstrap_action: Script<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Script<'a> {
    path: &'a str,
    args: &'a [String],
}

/// Renders the step. script-runner is fetched from the cluster's own region (facts §4.2).
pub fn step(args: &StepArgs, here: Option<&str>) -> Result<Rendered> {
    let Some(name) = args.region.given().or(here) else {
        return Err(Fault::usage("which region is the cluster in?")
            .detail("script-runner is fetched from a bucket of that region")
            .hint("--region eu-west-3")
            .into());
    };
    let jar = &format!("s3://{}.elasticmapreduce/libs/script-runner/script-runner.jar", region(name)?);
    let call = Call::read(args, "step")?;
    let mut all = vec![call.script.clone()];
    all.extend(call.args);
    let hadoop_jar_step = HadoopJarStep { jar, args: &all };
    let mut rendered = match args.format {
        Format::Json => Rendered::json(&[CliStep {
            r#type: "CUSTOM_JAR",
            name: NAME,
            action_on_failure: ON_FAILURE,
            jar,
            args: &all,
        }])?,
        Format::Api => Rendered::json(&[ApiStep { name: NAME, action_on_failure: ON_FAILURE, hadoop_jar_step }])?,
        Format::Cloudformation => Rendered::text(format!(
            "# ClusterId: a parameter or, with !Ref, the cluster of the same template.\n\
             Resources:\n  EmrShs:\n    Type: AWS::EMR::Step\n    Properties:\n      Name: {NAME}\n      \
             ActionOnFailure: {ON_FAILURE}\n      JobFlowId: !Ref ClusterId\n      HadoopJarStep:\n        \
             Jar: {}\n        Args:\n{}",
            quoted(jar),
            yaml_list(&all, 10)
        )),
        Format::CloudformationCluster => Rendered::text(format!(
            "Steps:\n  - Name: {NAME}\n    ActionOnFailure: {ON_FAILURE}\n    HadoopJarStep:\n      Jar: {}\n      \
             Args:\n{}",
            quoted(jar),
            yaml_list(&all, 8)
        )),
        Format::Terraform => Rendered::text(format!(
            "step {{\n  name              = {NAME:?}\n  action_on_failure = {ON_FAILURE:?}\n\n  hadoop_jar_step {{\n    \
             jar  = {}\n    args = [\n{}    ]\n  }}\n}}",
            quoted_for_terraform(jar),
            terraform_list(&all, 6)
        )),
    };
    rendered.notes.push(match args.format {
        Format::Json => {
            "Add it to a cluster:\n  aws emr add-steps --cluster-id j-… --steps file://step.json".to_string()
        }
        Format::Terraform => {
            "Inside resource \"aws_emr_cluster\". Terraform makes a cluster anew when its steps change; \
             against that: lifecycle { ignore_changes = [step] }"
                .into()
        }
        _ => String::new(),
    });
    rendered.notes.push(format!(
        "{ON_FAILURE}: a history server that does not come up is no reason to stop the cluster or its other steps. The \
         step then counts as FAILED, and its stderr.gz says why."
    ));
    rendered.notes.extend(call.notes);
    Ok(rendered)
}

/// Renders the bootstrap action.
pub fn bootstrap_action(args: &StepArgs) -> Result<Rendered> {
    let call = Call::read(args, "bootstrap")?;
    let (path, all) = (call.script.as_str(), call.args.as_slice());
    let mut rendered = match args.format {
        Format::Json => Rendered::json(&[CliAction { name: NAME, path, args: all }])?,
        Format::Api => {
            Rendered::json(&[ApiAction { name: NAME, script_bootstrap_action: Script { path, args: all } }])?
        }
        Format::Cloudformation | Format::CloudformationCluster => Rendered::text(format!(
            "BootstrapActions:\n  - Name: {NAME}\n    ScriptBootstrapAction:\n      Path: {}\n      Args:\n{}",
            quoted(path),
            yaml_list(all, 8)
        )),
        Format::Terraform => Rendered::text(format!(
            "bootstrap_action {{\n  name = {NAME:?}\n  path = {}\n  args = [\n{}  ]\n}}",
            quoted_for_terraform(path),
            terraform_list(all, 4)
        )),
    };
    rendered.notes.push(match args.format {
        Format::Json => {
            "Give it to a new cluster:\n  aws emr create-cluster … --bootstrap-actions file://bootstrap.json".into()
        }
        Format::Terraform => "Inside resource \"aws_emr_cluster\".".to_string(),
        _ => String::new(),
    });
    rendered.notes.push(
        "It runs on every node and passes by on those that are not a primary. Spark is not there yet when it runs: it \
         leaves a service that installs when EMR has set the node up, and ends at once. Unlike a step it runs again on a \
         primary node that EMR replaces."
            .into(),
    );
    rendered.notes.extend(call.notes);
    Ok(rendered)
}

/// A call of a wrapper script.
struct Call {
    script: String,
    args: Vec<String>,
    notes: Vec<String>,
}

impl Call {
    fn read(args: &StepArgs, example: &str) -> Result<Self> {
        let script = object(&args.script, example)?;
        let binaries = match args.binaries.as_deref().filter(|uri| !uri.is_empty()) {
            Some(uri) => directory(uri)?,
            None => script.rsplit_once('/').map(|(dir, _)| format!("{dir}/")).unwrap_or_default(),
        };
        let mut notes = Vec::new();
        let mut call = Vec::new();
        if args.continue_on_failure {
            call.push("--continue-on-failure".to_string());
        }
        call.extend(["--binaries".to_string(), binaries]);
        let sums = sums(args)?;
        for (cpu, sum) in CPUS.iter().zip(&sums) {
            match sum {
                Some(sum) => call.extend([format!("--sha256-{cpu}"), sum.clone()]),
                None => notes.push(format!("On a node with {cpu} it fails: there is no --sha256-{cpu}.")),
            }
        }
        check_install(&args.install)?;
        if !args.install.iter().any(|arg| arg == "--event-logs" || arg.starts_with("--event-logs=")) {
            notes.push(
                "No --event-logs among install's arguments: a node that has no installation yet refuses that.".into(),
            );
        }
        call.push("--".into());
        call.extend(args.install.iter().cloned());
        Ok(Self { script, args: call, notes })
    }
}

const CPUS: [&str; 2] = ["x86_64", "aarch64"];

/// The sums for both CPUs, one at least.
fn sums(args: &StepArgs) -> Result<[Option<String>; 2]> {
    let mut found = [args.sha256_x86_64.clone(), args.sha256_aarch64.clone()].map(|sum| sum.filter(|s| !s.is_empty()));
    if let Some(path) = &args.sha256sums {
        let text = fs_err::read_to_string(path).map_err(|e| Fault::usage(e.to_string()))?;
        for (sum, cpu) in found.iter_mut().zip(CPUS) {
            let name = format!("emr-shs-{cpu}");
            let lines = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
            // sha256sum marks a file that it read as binary with an asterisk.
            let is_it = |of: &str| of.trim_start_matches([' ', '*']).trim_start_matches("./").trim_end() == name;
            *sum = lines.into_iter().find(|(_, of)| is_it(of)).map(|(sum, _)| sum.to_string());
        }
        if found.iter().all(Option::is_none) {
            return Err(Fault::usage(format!("{} has no sum of a binary", path.display()))
                .detail("found no line that ends in emr-shs-x86_64 or emr-shs-aarch64")
                .hint("--sha256sums SHA256SUMS takes the file of that name in a release")
                .into());
        }
    }
    for (sum, cpu) in found.iter().zip(CPUS) {
        let bad = sum.as_ref().filter(|sum| sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()));
        if let Some(sum) = bad {
            return Err(Fault::usage(format!("“{sum}” is no SHA-256 of emr-shs-{cpu}"))
                .detail("wanted 64 hexadecimal digits")
                .hint(format!("sha256sum emr-shs-{cpu}"))
                .into());
        }
    }
    if found.iter().all(Option::is_none) {
        return Err(Fault::usage("what are the binaries' sums?")
            .detail("the script runs no binary that it cannot check")
            .hint("--sha256sums SHA256SUMS, or --sha256-x86_64 and --sha256-aarch64 with what sha256sum says of them")
            .into());
    }
    Ok(found.map(|sum| sum.map(|s| s.to_ascii_lowercase())))
}

/// Refuses arguments that `install` would refuse on the cluster, minutes later.
fn check_install(args: &[String]) -> Result<()> {
    let words = ["emr-shs", "install"].into_iter().map(str::to_string).chain(args.iter().cloned());
    match Cli::try_parse_from(words) {
        Ok(Cli { command: Command::Install(given), .. }) => {
            if let Some(uri) = given.install.spark.event_logs.event_logs.as_deref().filter(|uri| !uri.is_empty()) {
                uri.parse::<EventLogs>()?;
            }
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(e) => {
            let text = e.render().to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
            Err(Fault::usage("install does not understand the arguments after --")
                .detail(line)
                .hint("emr-shs install --help")
                .into())
        }
    }
}

/// `s3://bucket/key`
fn object(uri: &str, example: &str) -> Result<String, Fault> {
    let place = uri.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
    let sound = |(bucket, key): (&str, &str)| {
        !bucket.is_empty() && !key.is_empty() && !key.ends_with('/') && !uri.contains(char::is_control)
    };
    if place.is_some_and(sound) {
        return Ok(uri.into());
    }
    Err(Fault::usage(format!("“{uri}” is no object in S3"))
        .detail("wanted s3://BUCKET/KEY")
        .hint(format!("--script s3://my-bucket/emr-shs/{example}")))
}

/// `s3://bucket/prefix/`
pub(crate) fn directory(uri: &str) -> Result<String, Fault> {
    let place = uri.strip_prefix("s3://").map(|rest| rest.trim_end_matches('/'));
    match place {
        Some(place) if !place.is_empty() && !place.starts_with('/') && !place.contains(char::is_control) => {
            Ok(format!("s3://{place}/"))
        }
        _ => Err(Fault::usage(format!("“{uri}” is no place in S3"))
            .detail("wanted s3://BUCKET/PREFIX/")
            .hint("--binaries s3://my-bucket/emr-shs/")),
    }
}

fn yaml_list(items: &[String], indent: usize) -> String {
    items.iter().fold(String::new(), |mut text, item| {
        _ = writeln!(text, "{:indent$}- {}", "", quoted(item));
        text
    })
}

fn terraform_list(items: &[String], indent: usize) -> String {
    items.iter().fold(String::new(), |mut text, item| {
        _ = writeln!(text, "{:indent$}{},", "", quoted_for_terraform(item));
        text
    })
}
