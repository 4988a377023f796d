//! The step and the bootstrap action. Both run the wrapper script of a release, which the user has uploaded to S3.

use super::{Rendered, check_region, filters};
use crate::error::Fault;
use crate::shown::hint;
use anyhow::Result;
use askama::Template;
use serde::Serialize;
use std::path::Path;

/// The format of a step or a bootstrap action. The comments are help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A JSON file for the AWS CLI's --steps or --bootstrap-actions
    Json,
    /// JSON for the EMR API: Steps or BootstrapActions of RunJobFlow
    Api,
    /// CloudFormation YAML: a step for an existing cluster, or a cluster's bootstrap actions
    Cloudformation,
    /// CloudFormation YAML: the property of AWS::EMR::Cluster
    CloudformationCluster,
    /// Terraform: a block for aws_emr_cluster
    Terraform,
}

/// The name that EMR shows in its lists.
const NAME: &str = "emr-shs";
/// A cluster works without a history server, so a failed installation must not stop it.
const ON_FAILURE: &str = "CONTINUE";
/// In the order of [`Checksums`].
const CPUS: [&str; 2] = ["x86_64", "aarch64"];

pub(crate) struct StepRequest<'a> {
    /// The wrapper script: `s3://bucket/key`.
    pub(crate) script: &'a str,
    /// The prefix of the binaries. `None`: they lie beside the script.
    pub(crate) binaries: Option<&'a str>,
    pub(crate) checksums: Checksums,
    pub(crate) continue_on_failure: bool,
    /// The cluster's region. Only a step needs it.
    pub(crate) region: Option<&'a str>,
    pub(crate) format: Format,
    /// Arguments that `install` accepts.
    pub(crate) install: &'a [String],
}

/// The SHA-256 of the binary for each of [`CPUS`]; at least one is known.
pub(crate) struct Checksums([Option<String>; 2]);

impl Checksums {
    pub(crate) fn of_binaries(x86_64: Option<&str>, aarch64: Option<&str>) -> Result<Self, Fault> {
        if x86_64.or(aarch64).is_none() {
            return Err(Fault::usage("the checksums of the binaries are missing")
                .detail("the script runs no binary that it cannot check")
                .hint(
                    "--sha256sums SHA256SUMS, or --sha256-x86_64 and --sha256-aarch64 with the output of sha256sum",
                ));
        }
        Self::checked([x86_64, aarch64])
    }

    /// Reads the SHA256SUMS file of a release.
    pub(crate) fn read(file: &Path, text: &str) -> Result<Self, Fault> {
        let of_cpu = |cpu| {
            let lines = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
            // sha256sum puts an asterisk before the name of a file that it has read as binary.
            let is_binary = |name: &str| {
                let name = name.trim_start_matches([' ', '*']).trim_start_matches("./").trim_end();
                name.strip_prefix("emr-shs-") == Some(cpu)
            };
            lines.into_iter().find(|(_, name)| is_binary(name)).map(|(sum, _)| sum)
        };
        let sums = CPUS.map(of_cpu);
        if sums.iter().all(Option::is_none) {
            return Err(Fault::usage(format!("{} contains no checksum of a binary", file.display()))
                .detail("found no line that ends in emr-shs-x86_64 or emr-shs-aarch64")
                .hint("--sha256sums SHA256SUMS takes the file of that name in a release"));
        }
        Self::checked(sums)
    }

    fn checked(sums: [Option<&str>; 2]) -> Result<Self, Fault> {
        for (sum, cpu) in sums.iter().zip(CPUS) {
            if let Some(sum) = sum.filter(|sum| sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit())) {
                return Err(Fault::usage(format!("“{sum}” is not the SHA-256 of emr-shs-{cpu}"))
                    .detail("wanted 64 hexadecimal digits")
                    .hint(hint!("to print it: sha256sum emr-shs-{}", cpu)));
            }
        }
        Ok(Self(sums.map(|sum| sum.map(str::to_ascii_lowercase))))
    }
}

/// A step in the shape of the AWS CLI, which differs from the shape of the API.
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

#[derive(Template)]
#[template(path = "step.cloudformation.yaml", escape = "none", whitespace = "preserve")]
struct CloudFormationStep<'a> {
    jar: &'a str,
    arguments: &'a [String],
}

#[derive(Template)]
#[template(path = "step.cloudformation-cluster.yaml", escape = "none", whitespace = "preserve")]
struct CloudFormationClusterSteps<'a> {
    jar: &'a str,
    arguments: &'a [String],
}

#[derive(Template)]
#[template(path = "step.tf", escape = "none", whitespace = "preserve")]
struct TerraformStep<'a> {
    jar: &'a str,
    arguments: &'a [String],
}

pub(crate) fn step(request: &StepRequest<'_>) -> Result<Rendered> {
    let Some(region) = request.region else {
        return Err(Fault::usage("--region is missing")
            .detail("a step fetches script-runner from a bucket in the cluster's region, and this machine's files name no region")
            .hint("add the region, such as --region eu-west-3")
            .into());
    };
    // The bucket must be the one in the cluster's own region (`docs/emr.md §4.4`).
    let jar = &format!("s3://{}.elasticmapreduce/libs/script-runner/script-runner.jar", check_region(region)?);
    let mut call = Call::of(request, "step")?;
    call.arguments.insert(0, call.script);
    let arguments = &call.arguments;
    let (name, action_on_failure) = (NAME, ON_FAILURE);
    let rendered = match request.format {
        Format::Json => {
            Rendered::json(&[CliStep { r#type: "CUSTOM_JAR", name, action_on_failure, jar, args: arguments }])?
                .note("Add the step to a cluster:\n  aws emr add-steps --cluster-id j-… --steps file://step.json")
        }
        Format::Api => {
            let hadoop_jar_step = HadoopJarStep { jar, args: arguments };
            Rendered::json(&[ApiStep { name, action_on_failure, hadoop_jar_step }])?
        }
        Format::Cloudformation => Rendered::template(&CloudFormationStep { jar, arguments })?,
        Format::CloudformationCluster => Rendered::template(&CloudFormationClusterSteps { jar, arguments })?,
        Format::Terraform => Rendered::template(&TerraformStep { jar, arguments })?.note(
            "Put the block into resource \"aws_emr_cluster\". Terraform replaces a cluster whose steps change; to prevent \
             that: lifecycle { ignore_changes = [step] }",
        ),
    };
    let rendered = rendered.note(format!(
        "ActionOnFailure is {ON_FAILURE}: if the history server does not start, the cluster and its other steps still run. \
         EMR then marks the step as FAILED, and the step's stderr.gz contains the error."
    ));
    Ok(rendered.notes(call.notes))
}

/// A bootstrap action in the shape of the AWS CLI.
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

#[derive(Template)]
#[template(path = "bootstrap-action.cloudformation.yaml", escape = "none", whitespace = "preserve")]
struct CloudFormationActions<'a> {
    path: &'a str,
    arguments: &'a [String],
}

#[derive(Template)]
#[template(path = "bootstrap-action.tf", escape = "none", whitespace = "preserve")]
struct TerraformAction<'a> {
    path: &'a str,
    arguments: &'a [String],
}

pub(crate) fn bootstrap_action(request: &StepRequest<'_>) -> Result<Rendered> {
    let call = Call::of(request, "bootstrap")?;
    let (name, path, arguments) = (NAME, call.script.as_str(), call.arguments.as_slice());
    let rendered = match request.format {
        Format::Json => Rendered::json(&[CliAction { name, path, args: arguments }])?.note(
            "Give the bootstrap action to a new cluster:\n  aws emr create-cluster … --bootstrap-actions file://bootstrap.json",
        ),
        Format::Api => {
            Rendered::json(&[ApiAction { name, script_bootstrap_action: Script { path, args: arguments } }])?
        }
        Format::Cloudformation | Format::CloudformationCluster => {
            Rendered::template(&CloudFormationActions { path, arguments })?
        }
        Format::Terraform => Rendered::template(&TerraformAction { path, arguments })?
            .note("Put the block into resource \"aws_emr_cluster\"."),
    };
    let rendered = rendered.note(
        "EMR runs the action on every node; on a node that is not a primary node it does nothing. The action runs before \
         EMR installs Spark, so it leaves a service that installs once EMR has provisioned the node, and ends at once. \
         Unlike a step, it runs again on a primary node that EMR replaces.",
    );
    Ok(rendered.notes(call.notes))
}

/// A call of the wrapper script.
struct Call {
    script: String,
    arguments: Vec<String>,
    notes: Vec<String>,
}

impl Call {
    fn of(request: &StepRequest<'_>, script_name: &str) -> Result<Self, Fault> {
        let script = check_object(request.script, script_name)?;
        let binaries = match request.binaries {
            Some(uri) => check_prefix(uri)?,
            None => script.rsplit_once('/').map(|(prefix, _)| format!("{prefix}/")).unwrap_or_default(),
        };
        let mut notes = Vec::new();
        let mut arguments = Vec::new();
        if request.continue_on_failure {
            // The script reads this option before any other.
            arguments.push("--continue-on-failure".to_string());
        }
        arguments.extend(["--binaries".to_string(), binaries]);
        for (cpu, sum) in CPUS.iter().zip(&request.checksums.0) {
            match sum {
                Some(sum) => arguments.extend([format!("--sha256-{cpu}"), sum.clone()]),
                None => notes.push(format!("Without --sha256-{cpu}, the script fails on a node with {cpu}.")),
            }
        }
        if !request.install.iter().any(|arg| arg == "--event-logs" || arg.starts_with("--event-logs=")) {
            notes.push(
                "The arguments for install contain no --event-logs, which the first installation on a node needs."
                    .into(),
            );
        }
        arguments.push("--".into());
        arguments.extend(request.install.iter().cloned());
        Ok(Self { script, arguments, notes })
    }
}

/// Refuses a URI that is not `s3://bucket/key`.
fn check_object(uri: &str, script_name: &str) -> Result<String, Fault> {
    let is_object = |(bucket, key): (&str, &str)| {
        !bucket.is_empty() && !key.is_empty() && !key.ends_with('/') && !uri.contains(char::is_control)
    };
    if uri.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).is_some_and(is_object) {
        return Ok(uri.into());
    }
    Err(Fault::usage(format!("“{uri}” is not the URI of an object in S3"))
        .detail("wanted s3://BUCKET/KEY")
        .hint(hint!("--script s3://my-bucket/emr-shs/{}", script_name)))
}

/// Brings a URI into the form `s3://bucket/prefix/`.
pub(crate) fn check_prefix(uri: &str) -> Result<String, Fault> {
    match uri.strip_prefix("s3://").map(|rest| rest.trim_end_matches('/')) {
        Some(place) if !place.is_empty() && !place.starts_with('/') && !place.contains(char::is_control) => {
            Ok(format!("s3://{place}/"))
        }
        _ => Err(Fault::usage(format!("“{uri}” is not the URI of a prefix in S3"))
            .detail("wanted s3://BUCKET/PREFIX/")
            .hint("--binaries s3://my-bucket/emr-shs/")),
    }
}
