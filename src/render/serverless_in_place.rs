//! The guide that makes the job runs of EMR Serverless appear in a history server on a cluster whose log gateway keeps an index: the
//! index lists them where they lie, so nothing about the jobs changes.

use super::iam::{IamPolicyRequest, Policy, Side, note_on_guess};
use super::serverless::Part;
use super::{Rendered, check_account, check_region, fill, shell_command, to_json};
use crate::aws::partition::Partition;
use crate::aws::uri::EventLogs;
use crate::error::Fault;
use anyhow::Result;
use askama::Template;

pub(crate) struct InPlaceRequest<'a> {
    /// The log URI of the jobs.
    pub(crate) log_uri: &'a str,
    pub(crate) region: Option<&'a str>,
    /// The partition of the region.
    pub(crate) partition: Partition,
    pub(crate) account: Option<&'a str>,
    pub(crate) kms_keys: &'a [String],
}

/// A request whose values have the right form.
pub(crate) struct InPlaceSetup<'a> {
    /// The log URI of the jobs, as a source of the index.
    source: EventLogs,
    request: InPlaceRequest<'a>,
}

#[derive(Template)]
#[template(path = "serverless-in-place.README.txt", escape = "none", whitespace = "preserve")]
struct Guide<'a> {
    source: &'a EventLogs,
    install: String,
    install_beside: String,
    node_policy: String,
}

impl<'a> InPlaceSetup<'a> {
    /// The files beside the guide.
    pub(crate) const FILES: [(Part, &'static str); 1] = [(Part::NodePolicy, "node-policy.json")];

    pub(crate) fn check(request: InPlaceRequest<'a>) -> Result<Self, Fault> {
        request.region.map(check_region).transpose()?;
        request.account.map(check_account).transpose()?;
        let source = request.log_uri.parse().map_err(|fault: Fault| {
            Fault { message: format!("--log-uri: {}", fault.message), ..fault }
                .hint("--log-uri s3://my-bucket/serverless-logs/")
        })?;
        Ok(Self { source, request })
    }

    pub(crate) fn render(&self, part: Option<Part>) -> Result<Rendered> {
        Rendered::part_or_guide(part, |part| self.part(part), || self.guide())
            .map(|rendered| rendered.notes(self.notes()))
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        note_on_guess(self.request.region, &self.request.partition).into_iter().collect()
    }

    pub(crate) fn part(&self, part: Part) -> Result<String> {
        match part {
            Part::Install => self.install(&["--history-only"]),
            Part::NodePolicy => to_json(&self.node_policy()?),
            Part::Dockerfile | Part::SparkDefaults | Part::EcrPolicy | Part::JobPolicy | Part::StartJobRun => {
                Err(Fault::usage("only the way with an image has this part, and --event-logs is missing")
                    .detail("install --index lists the jobs where they lie: they need no image, no policy and no parameter")
                    .hint("--part install or --part node-policy; for the image add --event-logs s3://my-bucket/serverless-events/")
                    .into())
            }
        }
    }

    pub(crate) fn guide(&self) -> Result<String> {
        fill(&Guide {
            source: &self.source,
            install: self.part(Part::Install)?,
            install_beside: self.install(&["--event-logs", "s3://my-bucket/spark-events/"])?,
            node_policy: self.part(Part::NodePolicy)?,
        })
    }

    fn install(&self, more: &[&str]) -> Result<String> {
        let source = self.source.to_string();
        let install = ["sudo", "emr-shs", "install", "--index"];
        shell_command(&[&install[..], more, &["--event-logs", &source]].concat())
    }

    fn node_policy(&self) -> Result<Policy, Fault> {
        Policy::of(&IamPolicyRequest {
            sides: &[Side::HistoryServer],
            event_logs: std::slice::from_ref(&self.source),
            kms_keys: self.request.kms_keys,
            region: self.request.region,
            partition: self.request.partition.clone(),
            account: self.request.account,
            ..IamPolicyRequest::default()
        })
    }
}
