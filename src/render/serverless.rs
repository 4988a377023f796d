//! The guide that makes the jobs of an EMR Serverless application appear in a history server on a cluster that keeps no index, and
//! the files it names. Each job writes its event log to a directory of its own, and such a history server reads one directory
//! (`docs/emr.md §5.3`): so an image sends the event logs of all jobs to one prefix. serverless_in_place.rs needs none of that.

use super::iam::{IamPolicyRequest, Policy, Side, note_on_guess};
use super::release::Release;
use super::{Rendered, check_account, check_region, fill, shell_command, to_json};
use crate::aws::partition::{self, Partition};
use crate::aws::uri::{EventLogs, LogUri};
use crate::error::Fault;
use crate::ids::is_id;
use crate::shown::hint;
use anyhow::Result;
use askama::Template;
use serde::Serialize;

/// A part of the guide. The comments are help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Dockerfile of the image
    Dockerfile,
    /// Spark properties that the image adds to its own
    SparkDefaults,
    /// Repository policy that lets EMR Serverless pull the image
    EcrPolicy,
    /// IAM policy for the role of the jobs
    JobPolicy,
    /// Parameters of StartJobRun
    StartJobRun,
    /// The install command for the node that shows the jobs
    Install,
    /// IAM policy for the role of that node
    NodePolicy,
}

impl Part {
    pub(crate) const FILES: [(Self, &'static str); 5] = [
        (Self::Dockerfile, "Dockerfile"),
        (Self::SparkDefaults, "spark-defaults.conf"),
        (Self::EcrPolicy, "ecr-policy.json"),
        (Self::JobPolicy, "job-policy.json"),
        (Self::StartJobRun, "start-job-run.json"),
    ];

    pub(super) fn is_json(self) -> bool {
        matches!(self, Self::EcrPolicy | Self::JobPolicy | Self::StartJobRun | Self::NodePolicy)
    }
}

pub(crate) struct ServerlessRequest<'a> {
    pub(crate) application: &'a str,
    pub(crate) account: &'a str,
    pub(crate) region: Option<&'a str>,
    /// The partition of the region.
    pub(crate) partition: Partition,
    /// The label of the release, such as `emr-7.12.0`.
    pub(crate) release: &'a str,
    /// The ECR repository of the image.
    pub(crate) repository: &'a str,
    pub(crate) event_logs: &'a str,
    pub(crate) log_uri: &'a str,
    /// The ARN of the role of the jobs. `None`: a role with the name that AWS's documentation uses.
    pub(crate) job_role: Option<&'a str>,
    pub(crate) kms_keys: &'a [String],
}

/// A request whose values have the right form.
pub(crate) struct ServerlessSetup<'a> {
    application: &'a str,
    account: &'a str,
    region: &'a str,
    release: &'a str,
    repository: &'a str,
    event_logs: EventLogs,
    log_uri: LogUri,
    job_role: String,
    kms_keys: &'a [String],
    partition: Partition,
}

#[derive(Template)]
#[template(path = "serverless.Dockerfile", escape = "none", whitespace = "preserve")]
struct Dockerfile<'a> {
    release: &'a str,
}

#[derive(Template)]
#[template(path = "serverless.spark-defaults.conf", escape = "none", whitespace = "preserve")]
struct SparkDefaults<'a> {
    application: &'a str,
    event_logs: &'a EventLogs,
}

#[derive(Template)]
#[template(path = "serverless.README.txt", escape = "none", whitespace = "preserve")]
struct Guide<'a> {
    setup: &'a ServerlessSetup<'a>,
    install: String,
    role_name: &'a str,
    registry: String,
    image: String,
    dockerfile: String,
    spark_defaults: String,
    ecr_policy: String,
    job_policy: String,
    start_job_run: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartJobRun<'a> {
    application_id: &'a str,
    execution_role_arn: &'a str,
    name: &'a str,
    job_driver: JobDriver<'a>,
    configuration_overrides: ConfigurationOverrides,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobDriver<'a> {
    spark_submit: SparkSubmit<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SparkSubmit<'a> {
    entry_point: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigurationOverrides {
    monitoring_configuration: MonitoringConfiguration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MonitoringConfiguration {
    s3_monitoring_configuration: S3MonitoringConfiguration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct S3MonitoringConfiguration {
    log_uri: String,
}

impl<'a> ServerlessSetup<'a> {
    pub(crate) fn check(request: ServerlessRequest<'a>) -> Result<Self, Fault> {
        if !is_id(request.application) {
            return Err(Fault::usage(format!(
                "“{}” is not the id of an EMR Serverless application",
                request.application
            ))
            .detail("wanted lower-case letters and digits")
            .hint("--application 00f1r2fo0l4l4l09; `aws emr-serverless list-applications` prints yours"));
        }
        let Some(region) = request.region else {
            return Err(Fault::usage("--region is missing")
                .detail("this machine's files name no region; wanted the region of the application")
                .hint("add the region, such as --region eu-west-3"));
        };
        let region = check_region(region)?;
        let account = check_account(request.account)?;
        if !is_repository(request.repository) {
            return Err(Fault::usage(format!("“{}” is not the name of an ECR repository", request.repository))
                .detail("wanted lower-case letters and digits, joined by - _ . or /")
                .hint("--repository emr-serverless-spark"));
        }
        check_release(request.release)?;
        let roles = format!("arn:{}:iam::{account}:role/", request.partition.name);
        let job_role = match request.job_role {
            Some(arn) if is_role(arn) => arn.to_string(),
            Some(arn) => {
                return Err(Fault::usage(format!("“{arn}” is not the ARN of a role"))
                    .detail("wanted arn:PARTITION:iam::ACCOUNT:role/NAME")
                    .hint(hint!("--job-role {}NAME", roles)));
            }
            None => format!("{roles}EMRServerlessJobRole"),
        };
        Ok(Self {
            application: request.application,
            account,
            region,
            release: request.release,
            repository: request.repository,
            event_logs: request.event_logs.parse()?,
            log_uri: request.log_uri.parse()?,
            job_role,
            kms_keys: request.kms_keys,
            partition: request.partition,
        })
    }

    pub(crate) fn render(&self, part: Option<Part>) -> Result<Rendered> {
        Rendered::part_or_guide(part, |part| self.part(part), || self.guide())
            .map(|rendered| rendered.notes(self.notes()))
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        note_on_guess(Some(self.region), &self.partition).into_iter().collect()
    }

    pub(crate) fn part(&self, part: Part) -> Result<String> {
        match part {
            Part::Dockerfile => fill(&Dockerfile { release: self.release }),
            Part::SparkDefaults => fill(&SparkDefaults { application: self.application, event_logs: &self.event_logs }),
            Part::EcrPolicy => to_json(&self.ecr_policy()),
            Part::JobPolicy => to_json(&self.policy(Side::Jobs)?),
            Part::StartJobRun => to_json(&self.start_job_run()),
            Part::Install => self.install(),
            Part::NodePolicy => to_json(&self.policy(Side::HistoryServer)?),
        }
    }

    pub(crate) fn guide(&self) -> Result<String> {
        fill(&Guide {
            setup: self,
            install: self.install()?,
            role_name: self.job_role.rsplit('/').next().unwrap_or_default(),
            registry: self.registry(),
            image: self.image(),
            dockerfile: self.part(Part::Dockerfile)?,
            spark_defaults: self.part(Part::SparkDefaults)?,
            ecr_policy: self.part(Part::EcrPolicy)?,
            job_policy: self.part(Part::JobPolicy)?,
            start_job_run: self.part(Part::StartJobRun)?,
        })
    }

    fn registry(&self) -> String {
        format!("{}.dkr.ecr.{}.{}", self.account, self.region, self.partition.domain)
    }

    fn image(&self) -> String {
        format!("{}/{}:{}", self.registry(), self.repository, self.release)
    }

    fn ecr_policy(&self) -> Policy {
        let Self { region, account, application, partition, .. } = self;
        let partition = &partition.name;
        Policy::of_repository(format!("arn:{partition}:emr-serverless:{region}:{account}:/applications/{application}"))
    }

    fn policy(&self, side: Side) -> Result<Policy, Fault> {
        Policy::of(&IamPolicyRequest {
            serverless: side == Side::Jobs,
            sides: &[side],
            event_logs: std::slice::from_ref(&self.event_logs),
            log_uris: std::slice::from_ref(&self.log_uri),
            kms_keys: self.kms_keys,
            region: Some(self.region),
            partition: self.partition.clone(),
            account: Some(self.account),
            ..IamPolicyRequest::default()
        })
    }

    fn start_job_run(&self) -> StartJobRun<'_> {
        let log_uri = self.log_uri.to_string();
        StartJobRun {
            application_id: self.application,
            execution_role_arn: &self.job_role,
            name: "first-job",
            job_driver: JobDriver { spark_submit: SparkSubmit { entry_point: "s3://my-bucket/jobs/my-job.py" } },
            configuration_overrides: ConfigurationOverrides {
                monitoring_configuration: MonitoringConfiguration {
                    s3_monitoring_configuration: S3MonitoringConfiguration { log_uri },
                },
            },
        }
    }

    fn install(&self) -> Result<String> {
        let (event_logs, log_uri) = (self.event_logs.to_string(), self.log_uri.to_string());
        let layout = format!("serverless:{}", self.application);
        let install = ["sudo", "emr-shs", "install", "--event-logs", &event_logs, "--history-only"];
        shell_command(&[&install[..], &["--layout", &layout, "--log-uri", &log_uri]].concat())
    }
}

fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        is_end(part.chars().next()) && is_end(part.chars().last()) && part.chars().all(is_inner)
    };
    (2..=256).contains(&name.len()) && name.split('/').all(is_part)
}

/// EMR Serverless runs custom images since 6.9.
fn check_release(label: &str) -> Result<(), Fault> {
    let bad = |detail: &str| {
        Fault::usage(format!("“{label}” is not an EMR release with custom images"))
            .detail(detail)
            .hint("--release emr-7.12.0, with the release of the application")
    };
    if !label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c)) {
        return Err(bad("wanted a label such as emr-7.12.0"));
    }
    match Release::parse(label) {
        Some(release) if (release.major, release.minor) >= (6, 9) => Ok(()),
        Some(_) => Err(bad("EMR Serverless runs custom images from emr-6.9.0 on")),
        None => Err(bad("wanted a label such as emr-7.12.0")),
    }
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", name, "iam", "", account, role] = parts.as_slice() else { return false };
    if !partition::is_name(name) {
        return false;
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_+=,.@-".contains(c);
    check_account(account).is_ok()
        && role.strip_prefix("role/").is_some_and(|name| !name.is_empty() && name.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a shell as a person has it")]
    fn a_shell_reads_the_install_command_as_the_words_it_is_made_of() -> Result<()> {
        for log_uri in ["s3://acme-logs/emr/", "s3://acme-logs/it's/$HOME/`id`/\"x\"/{a}/*/!x/;&|/"] {
            let setup = ServerlessSetup::check(ServerlessRequest {
                application: "00f1r2fo0l4l4l09",
                account: "123456789012",
                region: Some("eu-west-3"),
                release: "emr-7.12.0",
                repository: "emr-serverless-spark",
                event_logs: "s3://acme-spark/a&b/",
                log_uri,
                job_role: None,
                kms_keys: &[],
                partition: Partition::default(),
            })?;
            let command = setup.install()?;
            for shell in ["sh", "bash"] {
                let script = format!("printf '%s\\n' {command}");
                let output = std::process::Command::new(shell).args(["-c", &script]).output()?;
                let words: Vec<String> = String::from_utf8(output.stdout)?.lines().map(Into::into).collect();
                assert_eq!((words[4].as_str(), words[9].as_str()), ("s3://acme-spark/a&b/", log_uri), "{command}");
                assert_eq!(words.len(), 10, "{command}");
            }
        }
        Ok(())
    }
}
