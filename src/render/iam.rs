//! IAM policies with exactly the rights that the history server, the jobs and `verify` need: for the requests of emr-shs
//! itself, and for those of Hadoop's file systems (`docs/emr.md §8.1`).

use super::{Rendered, check_account, check_region};
use crate::aws::partition::{self, Partition};
use crate::aws::uri::{EventLogs, LogUri};
use crate::error::Fault;
use crate::index::SNAPSHOT;
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The version of IAM's policy language.
const LANGUAGE: &str = "2012-10-17";
/// The role that EMR gives its nodes by default.
const DEFAULT_ROLE: &str = "EMR_EC2_DefaultRole";

/// Whose requests a policy allows. The comments are help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// The primary node: reads event logs and container logs; install probes its own rights
    HistoryServer,
    /// The jobs: write event logs
    Jobs,
    /// The command verify: writes and deletes the logs of a synthetic application
    Verify,
}

/// The names of the synthetic applications of `verify`, on YARN and on EMR Serverless: the number of
/// the application has ten digits and begins with a nine.
const SYNTHETIC: [&str; 2] = ["application_?????????????_9?????????", "00verify?????????????x9?????????"];

#[derive(Debug, Default)]
pub(crate) struct IamPolicyRequest<'a> {
    /// Empty for all sides.
    pub(crate) sides: &'a [Side],
    /// The sources of event logs. Jobs write to the first one.
    pub(crate) event_logs: &'a [EventLogs],
    pub(crate) log_uris: &'a [LogUri],
    /// The keys that encrypt event logs or container logs, by ARN.
    pub(crate) kms_keys: &'a [String],
    /// The prefix from which the wrapper script downloads the program: `s3://bucket/prefix/`.
    pub(crate) binaries: Option<&'a str>,
    pub(crate) region: Option<&'a str>,
    /// The partition of the region.
    pub(crate) partition: Partition,
    pub(crate) account: Option<&'a str>,
    /// The jobs run on EMR Serverless, where they write their container logs themselves.
    pub(crate) serverless: bool,
    /// The role that the note beside the policy names.
    pub(crate) role: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

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
    fn allow(sid: impl Into<String>, action: &[&'static str], resource: Vec<String>) -> Self {
        Self {
            sid: sid.into(),
            effect: "Allow",
            principal: BTreeMap::new(),
            action: action.to_vec(),
            resource,
            condition: BTreeMap::new(),
        }
    }

    fn only_if(mut self, operator: &'static str, key: &'static str, values: Vec<String>) -> Self {
        self.condition.insert(operator, [(key, values)].into());
        self
    }
}

impl Policy {
    pub(super) fn of(request: &IamPolicyRequest<'_>) -> Result<Self, Fault> {
        let mut statement = request.event_log_statements();
        statement.extend(request.container_log_statements());
        statement.extend(request.cluster_statements());
        statement.extend(request.kms_statement()?);
        statement.extend(request.program_statement());
        Ok(Self { version: LANGUAGE, statement })
    }

    /// The policy of an ECR repository that lets one application of EMR Serverless pull images. The
    /// policy names no resource, because it belongs to the repository.
    pub(super) fn of_repository(application_arn: String) -> Self {
        let actions = ["ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"];
        let mut statement = Statement::allow("EmrServerlessTakesTheImage", &actions, Vec::new());
        statement.principal.insert("Service", "emr-serverless.amazonaws.com");
        let statement = statement.only_if("ArnEquals", "aws:SourceArn", vec![application_arn]);
        Self { version: LANGUAGE, statement: vec![statement] }
    }
}

impl IamPolicyRequest<'_> {
    fn is_for(&self, side: Side) -> bool {
        self.sides.is_empty() || self.sides.contains(&side)
    }

    /// The ARN of `bucket/key`, or of a bucket.
    fn s3_arn(&self, place: &str) -> String {
        format!("arn:{}:s3:::{place}", self.partition.name)
    }

    /// The sources that are read: the history server's index has all of them.
    fn read_sources(&self) -> &[EventLogs] {
        let count = if self.is_for(Side::HistoryServer) { self.event_logs.len() } else { 1 };
        &self.event_logs[..count.min(self.event_logs.len())]
    }

    fn event_log_statements(&self) -> Vec<Statement> {
        let Some(first) = self.event_logs.first() else { return Vec::new() };
        let below = |name: &str| self.s3_arn(&format!("{}/{}{name}", first.bucket, first.prefix));
        let (mut buckets, mut readable) = (Vec::new(), Vec::new());
        for EventLogs { bucket, prefix, .. } in self.read_sources() {
            buckets.push(self.s3_arn(bucket));
            if !prefix.is_empty() {
                // S3A first looks for an object with the name of the directory.
                readable.push(self.s3_arn(&format!("{bucket}/{}", prefix.trim_end_matches('/'))));
            }
            readable.push(self.s3_arn(&format!("{bucket}/{prefix}*")));
        }
        let buckets = each_once(buckets);
        let mut statements = vec![
            // The statement has no condition on the prefix. Spark asks for objects that do not exist yet, and
            // S3 answers 404 only if the caller may list the bucket (`docs/emr.md §8.2`). A 403 fails the job.
            Statement::allow("FindEventLogs", &["s3:ListBucket"], buckets),
            Statement::allow("ReadEventLogs", &["s3:GetObject"], each_once(readable)),
        ];
        if self.is_for(Side::Jobs) {
            let write = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];
            statements.push(Statement::allow("WriteEventLogs", &write, vec![below("*")]));
            return statements;
        }
        if self.is_for(Side::HistoryServer) {
            // The marker makes the prefix a directory. install writes and deletes the probe to test its rights.
            let (marker, probe) = (below(""), below(".emr-shs-probe-*"));
            statements.push(Statement::allow("MakePrefix", &["s3:PutObject"], vec![marker, probe.clone()]));
            // With it, the index of one machine spares the others the reading.
            statements.push(Statement::allow("ShareIndex", &["s3:PutObject"], vec![below(SNAPSHOT)]));
            statements.push(Statement::allow("DeleteProbe", &["s3:DeleteObject"], vec![probe]));
        }
        if self.is_for(Side::Verify) {
            let synthetic = SYNTHETIC.map(|name| below(&format!("*{name}*"))).to_vec();
            statements.push(Statement::allow("ProveEventLogs", &["s3:PutObject", "s3:DeleteObject"], synthetic));
        }
        statements
    }

    /// The log gateway serves only the logs of containers, so the policy allows to read nothing else below a log URI
    /// (`docs/emr.md §8.1`).
    fn container_log_statements(&self) -> Vec<Statement> {
        if self.log_uris.is_empty() {
            return Vec::new();
        }
        let mut statements = Vec::new();
        if self.is_for(Side::HistoryServer) {
            statements.extend(self.list_statements());
            let logs = self.below_log_uris(&["*/containers/*", "applications/*/jobs/*"]);
            statements.push(Statement::allow("ReadContainerLogs", &["s3:GetObject"], logs));
        }
        if self.is_for(Side::Verify) {
            let [on_yarn, serverless] = SYNTHETIC;
            let names = [format!("*/containers/{on_yarn}/*"), format!("applications/*/jobs/{serverless}/*")];
            let logs = self.below_log_uris(&names.each_ref().map(String::as_str));
            statements.push(Statement::allow("ProveContainerLogs", &["s3:PutObject", "s3:DeleteObject"], logs));
        }
        if self.serverless {
            let logs = self.below_log_uris(&["applications/*"]);
            statements.push(Statement::allow("WriteContainerLogs", &["s3:PutObject"], logs));
        }
        statements
    }

    /// The ARN of each name below each log URI.
    fn below_log_uris(&self, names: &[&str]) -> Vec<String> {
        let of_uri = |uri: &LogUri| -> Vec<String> {
            names.iter().map(|name| self.s3_arn(&format!("{}/{}{name}", uri.bucket, uri.prefix))).collect()
        };
        self.log_uris.iter().flat_map(LogUri::spellings).flat_map(|uri| of_uri(&uri)).collect()
    }

    /// One statement for each bucket of container logs, because a condition lists the prefixes of one bucket.
    fn list_statements(&self) -> Vec<Statement> {
        let mut buckets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for uri in self.log_uris {
            let prefixes = uri.spellings().into_iter().map(|uri| format!("{}*", uri.prefix));
            buckets.entry(&uri.bucket).or_default().extend(prefixes);
        }
        // FindEventLogs already allows to list the bucket of the event logs.
        buckets.retain(|bucket, _| self.read_sources().iter().all(|uri| uri.bucket != *bucket));
        let statement = |(i, (bucket, prefixes)): (usize, (&str, Vec<String>))| {
            let sid = if i == 0 { "FindContainerLogs".into() } else { format!("FindContainerLogs{}", i + 1) };
            let statement = Statement::allow(sid, &["s3:ListBucket"], vec![self.s3_arn(bucket)]);
            match prefixes.iter().any(|prefix| prefix == "*") {
                true => statement,
                false => statement.only_if("StringLike", "s3:prefix", prefixes),
            }
        };
        buckets.into_iter().enumerate().map(statement).collect()
    }

    fn cluster_statements(&self) -> Vec<Statement> {
        if !self.is_for(Side::HistoryServer) || self.serverless {
            return Vec::new();
        }
        let (region, account) = (self.region.unwrap_or("*"), self.account.unwrap_or("*"));
        let clusters = format!("arn:{}:elasticmapreduce:{region}:{account}:cluster/*", self.partition.name);
        vec![
            Statement::allow("DescribeCluster", &["elasticmapreduce:DescribeCluster"], vec![clusters]),
            // install and doctor ask whether jobs run under roles of their own. The action does not support resources.
            Statement::allow(
                "DescribeSecurityConfiguration",
                &["elasticmapreduce:DescribeSecurityConfiguration"],
                vec!["*".into()],
            ),
        ]
    }

    fn kms_statement(&self) -> Result<Option<Statement>, Fault> {
        if self.kms_keys.is_empty() {
            return Ok(None);
        }
        let mut services =
            self.kms_keys.iter().map(|arn| s3_of_key(arn, &self.partition)).collect::<Result<Vec<_>, _>>()?;
        services.sort();
        services.dedup();
        let actions = ["kms:Decrypt", "kms:GenerateDataKey"];
        let statement = Statement::allow("UseKeysThroughS3", &actions, self.kms_keys.to_vec());
        Ok(Some(statement.only_if("StringEquals", "kms:ViaService", services)))
    }

    fn program_statement(&self) -> Option<Statement> {
        let uri = self.binaries.filter(|_| self.is_for(Side::HistoryServer))?;
        let place = uri.strip_prefix("s3://").unwrap_or(uri);
        let script_runner = format!("{}.elasticmapreduce/libs/script-runner/*", self.region.unwrap_or("*"));
        let resources = vec![self.s3_arn(&format!("{place}*")), self.s3_arn(&script_runner)];
        Some(Statement::allow("FetchProgram", &["s3:GetObject"], resources))
    }
}

/// The same texts in the same order, each once.
fn each_once(texts: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts.into_iter().filter(|text| seen.insert(text.clone())).collect()
}

/// The name of S3 in the region of a KMS key, as the condition `kms:ViaService` spells it. `own` is the partition of the
/// policy.
fn s3_of_key(arn: &str, own: &Partition) -> Result<String, Fault> {
    let bad = |wanted: &str| {
        Fault::usage(format!("“{arn}” is not the ARN of a KMS key"))
            .detail(wanted)
            .hint("--kms-key arn:aws:kms:eu-west-3:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    };
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let &["arn", name, "kms", region, account, key] = parts.as_slice() else {
        return Err(bad("wanted arn:PARTITION:kms:REGION:ACCOUNT:key/ID"));
    };
    if !partition::is_name(name) {
        return Err(bad("wanted the name of a partition, such as aws or aws-cn"));
    }
    if key.starts_with("alias/") {
        return Err(bad("wanted the ARN of the key itself: a policy does not follow an alias"));
    }
    let id = key.strip_prefix("key/").unwrap_or_default();
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(bad("wanted arn:PARTITION:kms:REGION:ACCOUNT:key/ID"));
    }
    check_account(account).and_then(|_| check_region(region)).map_err(|fault| bad(&fault.message))?;
    let found = partition::of(Some(region));
    let domain = if found.is_guess && name == own.name { &own.domain } else { &found.domain };
    Ok(format!("s3.{region}.{domain}"))
}

/// Says that nothing tells the partition of a region.
pub(super) fn note_on_guess(region: Option<&str>, partition: &Partition) -> Option<String> {
    let region = region.filter(|_| partition.is_guess)?;
    Some(format!(
        "emr-shs does not know the region {region}, so the ARNs are in the partition {}, and names of hosts end in {}. If the \
         region has others, correct both. On a node in that region emr-shs asks the metadata service for them.",
        partition.name, partition.domain
    ))
}

pub(crate) fn render(request: &IamPolicyRequest<'_>) -> Result<Rendered> {
    request.region.map(check_region).transpose()?;
    request.account.map(check_account).transpose()?;
    let role = request.role.unwrap_or(DEFAULT_ROLE);
    let mut rendered = Rendered::json(&Policy::of(request)?)?.note(format!(
        "Give the policy to the role:\n  aws iam put-role-policy --role-name {role} --policy-name emr-shs \
         --policy-document file://policy.json"
    ));
    if request.log_uris.is_empty() && request.is_for(Side::HistoryServer) {
        rendered = rendered.note(
            "The policy grants no access to container logs, so the log gateway cannot open them. Name the prefix where \
             clusters archive their logs with --log-uri.",
        );
    }
    if request.kms_keys.is_empty() {
        rendered = rendered.note(
            "The policy contains no KMS key. If one encrypts a bucket, name it with --kms-key; the key's own policy must \
             allow the role, too.",
        );
    }
    if request.region.is_none() {
        rendered = rendered.note(
            "The ARNs are in the partition aws. For China, GovCloud, and the European Sovereign Cloud, name the region with \
             --region.",
        );
    }
    if let Some(note) = note_on_guess(request.region, &request.partition) {
        rendered = rendered.note(note);
    }
    if !request.event_logs.is_empty() {
        let buckets = each_once(request.read_sources().iter().map(|uri| uri.bucket.clone()).collect());
        rendered = rendered.note(format!(
            "s3:ListBucket covers the names of all objects in {}. Spark looks for objects that do not exist yet: to a caller \
             who may list the bucket, S3 answers “not found”; to any other, “access denied”, which fails the job.",
            buckets.join(" and ")
        ));
    }
    if request.read_sources().len() > 1 {
        rendered = rendered.note(format!(
            "Only {} may be written: jobs write their event logs there, and the gateway writes the snapshot of the index. \
             The other prefixes are only listed and read.",
            request.event_logs[0]
        ));
    }
    Ok(rendered)
}
