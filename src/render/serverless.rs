//! What makes the jobs of an EMR Serverless application appear in a history server of one's own:
//! an image whose settings send event logs to one prefix, the rights for it, and the node that
//! shows them (facts §5.2).

use super::iam::{Needs, Policy, Side};
use super::{Rendered, account, dns_suffix, partition, quoted, region, shell};
use crate::aws::uri::{EventLogs, LogUri};
use crate::cli::render::ServerlessArgs;
use crate::error::Fault;
use crate::ids::is_id;
use anyhow::{Context, Result};
use serde::Serialize;

const GUIDE: &str = include_str!("../../assets/serverless.txt");
const DOCKERFILE: &str = include_str!("../../assets/serverless.Dockerfile");
const START_JOB_RUN: &str = include_str!("../../assets/serverless.start-job-run.json");
const SPARK_DEFAULTS: &str = include_str!("../../assets/serverless.spark-defaults.conf");

/// A part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The image
    Dockerfile,
    /// What the image adds to Spark's settings
    SparkDefaults,
    /// Who may take the image from ECR
    EcrPolicy,
    /// What the jobs' role needs
    JobPolicy,
    /// Parameters of StartJobRun
    StartJobRun,
    /// The command for the node that shows the jobs
    Install,
}

impl Part {
    const FILES: [(Self, &'static str); 5] = [
        (Self::Dockerfile, "Dockerfile"),
        (Self::SparkDefaults, "spark-defaults.conf"),
        (Self::EcrPolicy, "ecr-policy.json"),
        (Self::JobPolicy, "job-policy.json"),
        (Self::StartJobRun, "start-job-run.json"),
    ];

    fn is_json(self) -> bool {
        matches!(self, Self::EcrPolicy | Self::JobPolicy | Self::StartJobRun)
    }
}

/// Everything that was asked for, checked.
struct Flow<'a> {
    application: &'a str,
    account: &'a str,
    region: &'a str,
    release: &'a str,
    repository: &'a str,
    event_logs: EventLogs,
    log_uri: LogUri,
    job_role: String,
    kms_keys: &'a [String],
}

/// Renders all of it, or a part; or writes the files.
pub fn render(args: &ServerlessArgs, here: Option<&str>) -> Result<Rendered> {
    let flow = Flow::read(args, here)?;
    if let Some(part) = args.part {
        let text = flow.part(part)?;
        return Ok(Rendered { is_json: part.is_json(), ..Rendered::text(text) });
    }
    let guide = flow.guide()?;
    if let Some(dir) = &args.into {
        fs_err::create_dir_all(dir)?;
        for (part, name) in Part::FILES {
            fs_err::write(dir.join(name), flow.part(part)? + "\n")?;
        }
        fs_err::write(dir.join("README.txt"), guide.clone() + "\n")?;
        let names: Vec<&str> = Part::FILES.iter().map(|(_, name)| *name).collect();
        let text = format!("{}: {}; README.txt says what to do with them", dir.display(), names.join(", "));
        return Ok(Rendered::text(text));
    }
    Ok(Rendered::text(guide))
}

impl<'a> Flow<'a> {
    fn read(args: &'a ServerlessArgs, here: Option<&'a str>) -> Result<Self> {
        if !is_id(&args.application) {
            return Err(Fault::usage(format!("“{}” is no application of EMR Serverless", args.application))
                .detail("wanted its id: lower-case letters and digits")
                .hint("--application 00f1r2fo0l4l4l09; `aws emr-serverless list-applications` tells yours")
                .into());
        }
        let Some(name) = args.region.given().or(here) else {
            return Err(Fault::usage("which region is the application in?").hint("--region eu-west-3").into());
        };
        let place = region(name)?;
        let owner = account(&args.account)?;
        if !repository_is_sound(&args.repository) {
            return Err(Fault::usage(format!("“{}” is no repository", args.repository))
                .detail("wanted lower-case letters and digits, joined by - _ . or /")
                .hint("--repository emr-serverless-spark")
                .into());
        }
        check_release(&args.release)?;
        let job_role = match args.job_role.as_deref().filter(|arn| !arn.is_empty()) {
            Some(arn) if is_role(arn) => arn.to_string(),
            Some(arn) => {
                return Err(Fault::usage(format!("“{arn}” is no role"))
                    .detail("wanted the role's ARN")
                    .hint(format!("--job-role arn:{}:iam::{owner}:role/NAME", partition(Some(place))))
                    .into());
            }
            None => format!("arn:{}:iam::{owner}:role/EMRServerlessJobRole", partition(Some(place))),
        };
        Ok(Self {
            application: &args.application,
            account: owner,
            region: place,
            release: &args.release,
            repository: &args.repository,
            event_logs: args.event_logs.parse()?,
            log_uri: args.log_uri.parse()?,
            job_role,
            kms_keys: &args.kms_keys.kms_key,
        })
    }

    fn registry(&self) -> String {
        format!("{}.dkr.ecr.{}.{}", self.account, self.region, dns_suffix(self.region))
    }

    fn image(&self) -> String {
        format!("{}/{}:{}", self.registry(), self.repository, self.release)
    }

    fn part(&self, part: Part) -> Result<String> {
        Ok(match part {
            Part::Dockerfile => DOCKERFILE.replace("@RELEASE@", self.release).trim_end().into(),
            Part::SparkDefaults => SPARK_DEFAULTS
                .replace("@APPLICATION@", self.application)
                .replace("@EVENT_LOGS@", &self.event_logs.to_string())
                .trim_end()
                .into(),
            Part::EcrPolicy => pretty(&self.ecr_policy())?,
            Part::JobPolicy => pretty(&self.job_policy()?)?,
            Part::StartJobRun => self.start_job_run(),
            Part::Install => self.install(),
        })
    }

    /// The ARN of the application names its account, too.
    fn ecr_policy(&self) -> Policy {
        Policy::of_repository(format!(
            "arn:{}:emr-serverless:{}:{}:/applications/{}",
            partition(Some(self.region)),
            self.region,
            self.account,
            self.application
        ))
    }

    fn job_policy(&self) -> Result<Policy, Fault> {
        Policy::of(&Needs {
            sides: vec![Side::Jobs],
            event_logs: Some(&self.event_logs),
            log_uris: std::slice::from_ref(&self.log_uri),
            kms_keys: self.kms_keys,
            region: Some(self.region),
            account: Some(self.account),
            serverless: true,
            ..Needs::default()
        })
    }

    fn start_job_run(&self) -> String {
        START_JOB_RUN
            .replace("@APPLICATION@", self.application)
            .replace("@JOB_ROLE@", &self.job_role)
            .replace("\"@LOG_URI@\"", &quoted(&self.log_uri.to_string()))
            .trim_end()
            .into()
    }

    fn install(&self) -> String {
        let words = [
            "sudo".into(),
            "emr-shs".into(),
            "install".into(),
            "--event-logs".into(),
            self.event_logs.to_string(),
            "--history-only".into(),
            "--layout".into(),
            format!("serverless:{}", self.application),
            "--log-uri".into(),
            self.log_uri.to_string(),
        ];
        words.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ")
    }

    fn guide(&self) -> Result<String> {
        let mut text = GUIDE.to_string();
        let role_name = self.job_role.rsplit('/').next().unwrap_or_default();
        for (mark, value) in [
            ("@JOB_POLICY@", indented(&self.part(Part::JobPolicy)?)),
            ("@DOCKERFILE@", indented(&self.part(Part::Dockerfile)?)),
            ("@SPARK_DEFAULTS@", indented(&self.part(Part::SparkDefaults)?)),
            ("@ECR_POLICY@", indented(&self.part(Part::EcrPolicy)?)),
            ("@START_JOB_RUN@", indented(&self.part(Part::StartJobRun)?)),
            ("@INSTALL@", self.install()),
            ("@APPLICATION@", self.application.into()),
            ("@EVENT_LOGS@", self.event_logs.to_string()),
            ("@LOG_URI@", self.log_uri.to_string()),
            ("@REGION@", self.region.into()),
            ("@REPOSITORY@", self.repository.into()),
            ("@REGISTRY@", self.registry()),
            ("@IMAGE@", self.image()),
            ("@ROLE_NAME@", role_name.into()),
        ] {
            text = text.replace(mark, &value);
        }
        Ok(text.trim_end().into())
    }
}

fn pretty(document: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(document).context("writing JSON")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("       {line}").trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

fn repository_is_sound(name: &str) -> bool {
    let part = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        ends(part.chars().next()) && ends(part.chars().last()) && part.chars().all(inner)
    };
    (2..=256).contains(&name.len()) && name.split('/').all(part)
}

/// Custom images are there from 6.9 on.
fn check_release(label: &str) -> Result<(), Fault> {
    let bad = |detail: &str| {
        Fault::usage(format!("“{label}” is no release with custom images"))
            .detail(detail)
            .hint("--release emr-7.12.0, as the application has it")
    };
    if !label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c)) {
        return Err(bad("wanted a label such as emr-7.12.0"));
    }
    let numbers = label.strip_prefix("emr-").map(|rest| rest.trim_start_matches("spark-").split(['.', '-']));
    let mut numbers = numbers.into_iter().flatten().map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 9) => Ok(()),
        (Some(Ok(_)), Some(Ok(_))) => Err(bad("EMR Serverless has them from emr-6.9.0 on")),
        _ => Err(bad("wanted a label such as emr-7.12.0")),
    }
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", "aws" | "aws-cn" | "aws-us-gov", "iam", "", owner, role] = parts.as_slice() else { return false };
    let sound = |c: char| c.is_ascii_alphanumeric() || "/_+=,.@-".contains(c);
    account(owner).is_ok() && role.strip_prefix("role/").is_some_and(|name| !name.is_empty() && name.chars().all(sound))
}
