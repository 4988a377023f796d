//! The IAM policy: what the history server, the jobs and the proof each need, and nothing else
//! (facts §8). It says what this program's own requests ask for, and what Hadoop's file systems do.

use super::{Rendered, account, partition, region};
use crate::aws::uri::{EventLogs, LogUri};
use crate::error::Fault;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// The policy language's.
const VERSION: &str = "2012-10-17";

/// Who needs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// The primary node: it reads event logs and container logs, and install probes
    HistoryServer,
    /// Jobs: they write event logs
    Jobs,
    /// The command verify: it writes what it deletes again
    Verify,
}

/// The object names that `verify` makes, below the event logs and below a log URI: a made-up
/// application's number has ten digits, and begins with a nine.
const MADE_UP: [&str; 2] = ["application_?????????????_9?????????", "00verify?????????????x9?????????"];

/// What a policy is for.
#[derive(Debug, Default)]
pub struct Needs<'a> {
    /// Who; everybody if nobody is named.
    pub sides: Vec<Side>,
    /// Where event logs are.
    pub event_logs: Option<&'a EventLogs>,
    /// Where container logs are.
    pub log_uris: &'a [LogUri],
    /// What either is encrypted with.
    pub kms_keys: &'a [String],
    /// Where the program is downloaded from.
    pub binaries: Option<&'a str>,
    /// The clusters' region.
    pub region: Option<&'a str>,
    /// The clusters' account.
    pub account: Option<&'a str>,
    /// Jobs of EMR Serverless, which write their container logs themselves.
    pub serverless: bool,
}

/// A policy document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

/// One thing that is allowed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: String,
    effect: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    principal: BTreeMap<&'static str, &'static str>,
    action: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<&'static str, Vec<String>>>,
}

impl Statement {
    fn new(sid: &str, action: &[&'static str], resource: Vec<String>) -> Self {
        Self {
            sid: sid.into(),
            effect: "Allow",
            principal: BTreeMap::new(),
            action: action.to_vec(),
            resource,
            condition: BTreeMap::new(),
        }
    }

    fn only(mut self, operator: &'static str, key: &'static str, values: Vec<String>) -> Self {
        self.condition.insert(operator, [(key, values)].into());
        self
    }
}

impl Policy {
    /// What the policy of an ECR repository says that EMR Serverless takes images from, for one
    /// application. It names no resource: it is the repository's own.
    pub fn of_repository(application: String) -> Self {
        let actions = ["ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"];
        let mut statement = Statement::new("EmrServerlessTakesTheImage", &actions, Vec::new());
        statement.principal.insert("Service", "emr-serverless.amazonaws.com");
        let statement = statement.only("ArnEquals", "aws:SourceArn", vec![application]);
        Self { version: VERSION, statement: vec![statement] }
    }

    /// What is needed.
    pub fn of(needs: &Needs<'_>) -> Result<Self, Fault> {
        let is_for = |side| needs.sides.is_empty() || needs.sides.contains(&side);
        let (serves, works, proves) = (is_for(Side::HistoryServer), is_for(Side::Jobs), is_for(Side::Verify));
        let partition = partition(needs.region);
        let s3 = |place: String| format!("arn:{partition}:s3:::{place}");
        let mut all = Vec::new();
        if let Some(uri) = needs.event_logs {
            let at = |name: &str| s3(format!("{}/{}{name}", uri.bucket, uri.prefix));
            // Without a condition on the prefix: Spark asks for objects that are not there yet, and
            // S3 answers 404 only to those who may list (facts 2 §6); a 403 ends the job.
            all.push(Statement::new("FindEventLogs", &["s3:ListBucket"], vec![s3(uri.bucket.clone())]));
            let mut read = vec![at("*")];
            if !uri.prefix.is_empty() {
                // S3A looks for an object of the directory's own name first.
                read.insert(0, s3(format!("{}/{}", uri.bucket, uri.prefix.trim_end_matches('/'))));
            }
            all.push(Statement::new("ReadEventLogs", &["s3:GetObject"], read));
            if works {
                let write =
                    ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];
                all.push(Statement::new("WriteEventLogs", &write, vec![at("*")]));
            } else {
                if serves {
                    // The marker that makes the prefix a directory; and what install tries its rights with.
                    let put = vec![at(""), at(".emr-shs-probe-*")];
                    all.push(Statement::new("MakePrefix", &["s3:PutObject"], put));
                    all.push(Statement::new("DeleteProbe", &["s3:DeleteObject"], vec![at(".emr-shs-probe-*")]));
                }
                if proves {
                    let synthetic = MADE_UP.map(|name| at(&format!("*{name}*"))).to_vec();
                    all.push(Statement::new("ProveEventLogs", &["s3:PutObject", "s3:DeleteObject"], synthetic));
                }
            }
        }
        all.extend(container_logs(needs, serves, proves, &s3));
        if serves && !needs.serverless {
            let (region, account) = (needs.region.unwrap_or("*"), needs.account.unwrap_or("*"));
            let clusters = format!("arn:{partition}:elasticmapreduce:{region}:{account}:cluster/*");
            all.push(Statement::new("DescribeCluster", &["elasticmapreduce:DescribeCluster"], vec![clusters]));
            // It knows no resources. doctor asks it whether jobs run under roles of their own.
            let action = ["elasticmapreduce:DescribeSecurityConfiguration"];
            all.push(Statement::new("DescribeSecurityConfiguration", &action, vec!["*".into()]));
        }
        if !needs.kms_keys.is_empty() {
            let through = needs.kms_keys.iter().map(|arn| kms_endpoint(arn)).collect::<Result<Vec<_>, _>>()?;
            let mut through: Vec<String> = through;
            through.sort();
            through.dedup();
            let actions = ["kms:Decrypt", "kms:GenerateDataKey"];
            let statement = Statement::new("UseKeysThroughS3", &actions, needs.kms_keys.to_vec());
            all.push(statement.only("StringEquals", "kms:ViaService", through));
        }
        if let Some(uri) = needs.binaries.filter(|_| serves) {
            let place = uri.strip_prefix("s3://").unwrap_or(uri);
            let runner = format!("{}.elasticmapreduce/libs/script-runner/*", needs.region.unwrap_or("*"));
            let resources = vec![s3(format!("{place}*")), s3(runner)];
            all.push(Statement::new("FetchProgram", &["s3:GetObject"], resources));
        }
        Ok(Self { version: VERSION, statement: all })
    }
}

/// The logs of containers: only what the log gateway gives has to be read (facts §5).
fn container_logs(needs: &Needs<'_>, serves: bool, proves: bool, s3: &dyn Fn(String) -> String) -> Vec<Statement> {
    if needs.log_uris.is_empty() {
        return Vec::new();
    }
    let below = |names: &[String]| -> Vec<String> {
        let all = needs
            .log_uris
            .iter()
            .flat_map(|uri| names.iter().map(move |name| format!("{}/{}{name}", uri.bucket, uri.prefix)));
        all.map(s3).collect()
    };
    let mut all = Vec::new();
    if serves {
        // By bucket, for the condition's prefixes are of one.
        let mut buckets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for uri in needs.log_uris {
            buckets.entry(&uri.bucket).or_default().push(format!("{}*", uri.prefix));
        }
        // What is in FindEventLogs already needs no second statement.
        buckets.retain(|bucket, _| needs.event_logs.is_none_or(|uri| uri.bucket != *bucket));
        for (i, (bucket, prefixes)) in buckets.into_iter().enumerate() {
            let sid = if i == 0 { "FindContainerLogs".into() } else { format!("FindContainerLogs{}", i + 1) };
            let statement = Statement::new(&sid, &["s3:ListBucket"], vec![s3(bucket.into())]);
            all.push(match prefixes.iter().any(|prefix| prefix == "*") {
                true => statement,
                false => statement.only("StringLike", "s3:prefix", prefixes),
            });
        }
        let logs = below(&["*/containers/*".into(), "applications/*/jobs/*".into()]);
        all.push(Statement::new("ReadContainerLogs", &["s3:GetObject"], logs));
    }
    if proves {
        let [on_yarn, serverless] = MADE_UP;
        let synthetic = below(&[format!("*/containers/{on_yarn}/*"), format!("applications/*/jobs/{serverless}/*")]);
        all.push(Statement::new("ProveContainerLogs", &["s3:PutObject", "s3:DeleteObject"], synthetic));
    }
    if needs.serverless {
        let logs = below(&["applications/*".into()]);
        all.push(Statement::new("WriteContainerLogs", &["s3:PutObject"], logs));
    }
    all
}

/// S3 of the key's region, in whose name alone the key is used. The error says what is no key.
fn kms_endpoint(arn: &str) -> Result<String, Fault> {
    let bad = |wanted: &str| {
        Fault::usage(format!("“{arn}” is no KMS key"))
            .detail(wanted)
            .hint("--kms-key arn:aws:kms:eu-west-3:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    };
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", "aws" | "aws-cn" | "aws-us-gov", "kms", place, owner, key] = parts.as_slice() else {
        return Err(bad("wanted the key's ARN"));
    };
    if key.starts_with("alias/") {
        return Err(bad("wanted the key's own ARN: a policy does not follow an alias"));
    }
    let id = key.strip_prefix("key/").unwrap_or_default();
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(bad("wanted the key's ARN"));
    }
    account(owner).and_then(|_| region(place)).map_err(|fault| bad(&fault.message))?;
    Ok(format!("s3.{place}.{}", super::dns_suffix(place)))
}

/// Renders the policy.
pub fn render(needs: &Needs<'_>, role: Option<&str>) -> Result<Rendered> {
    let mut rendered = Rendered::json(&Policy::of(needs)?)?;
    let mut say = |note: String| rendered.notes.push(note);
    let role = role.unwrap_or("EMR_EC2_DefaultRole");
    say(format!(
        "Give it to the role:\n  aws iam put-role-policy --role-name {role} --policy-name emr-shs --policy-document file://policy.json"
    ));
    let is_for = |side| needs.sides.is_empty() || needs.sides.contains(&side);
    if needs.log_uris.is_empty() && is_for(Side::HistoryServer) {
        say("Container logs are not in it, so the log gateway opens none: name where clusters archive them with --log-uri.".into());
    }
    if needs.kms_keys.is_empty() {
        say("No KMS key is in it: a bucket encrypted with one needs --kms-key, and the key's own policy must allow the role, too.".into());
    }
    if needs.region.is_none() {
        say("It is written for the usual partition, aws: --region tells China and GovCloud.".into());
    }
    if let Some(uri) = needs.event_logs {
        say(format!(
            "s3:ListBucket is for the names in all of {}: Spark takes “refused” where it expects “not there” for an error, and S3 says “not there” only to those who may list.",
            uri.bucket
        ));
    }
    Ok(rendered)
}
