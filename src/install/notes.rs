//! What a plan says besides its rows: what the switch means for people, and what in the node's
//! configuration cannot work, whether or not we change it.

use crate::change::plan::Change;
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::host::Host;
use crate::node::Node;
use crate::node::hadoop::EMRFS;
use crate::node::history_server::{self, HistoryServer, same_directory};
use crate::settings::{LinkInto, Settings};
use std::collections::BTreeSet;

/// What changing these resources means (facts §0.9, §5.5, §8).
pub fn consequences(host: &Host, node: &Node, settings: &Settings, changes: &[Change]) -> Vec<String> {
    let mut notes = Vec::new();
    let new = settings.event_logs.as_ref().map(ToString::to_string).unwrap_or_default();
    let old = |key: &str| {
        let change = changes.iter().find(|c| c.is_real() && c.resource.name() == key)?;
        change.before.value().filter(|old| !same_directory(old, &new))
    };
    if old("spark.eventLog.dir").is_some() {
        let earlier = match (node.spark.rolls_event_logs(), node.spark.can_roll_event_logs()) {
            (true, _) => ", or a part of it",
            (false, true) => ", a long one earlier with spark.eventLog.rolling.enabled",
            (false, false) => "",
        };
        notes.push(format!(
            "Applications that start after it log to S3; those running now finish where they began. \
             On S3 an application is listed once its log is closed{earlier}. \
             Jobs under runtime roles need their own right to write there."
        ));
    }
    if let Some(old) = old("spark.history.fs.logDirectory") {
        let count = node
            .server
            .as_ref()
            .and_then(HistoryServer::list)
            .map(|list| list.iter().map(|attempt| &attempt.application).collect::<BTreeSet<_>>().len());
        let of = count.map(|n| format!(" ({n} application{})", if n == 1 { "" } else { "s" })).unwrap_or_default();
        let in_hdfs = old.starts_with("hdfs:");
        match count {
            Some(0) => {}
            _ if in_hdfs => notes.push(format!(
                "History in HDFS{of} leaves the list; it is not deleted. To bring it over:\n  hadoop distcp -update {old} {new}"
            )),
            _ => notes.push(format!("History in {old}{of} leaves the list; it is not deleted.")),
        }
        if in_hdfs {
            notes.push(
                "The history server in the EMR console reads HDFS only: what is logged to S3 is not in it.".into(),
            );
        }
    }
    if settings.link_into == LinkInto::SparkJars {
        notes.push("With --link-into spark-jars every job uploads the linked jars too, up to half a gigabyte.".into());
    }
    if node.identity.multi_primary {
        notes.push("This cluster has three primary nodes; this changes one. Run it on each of them.".into());
    }
    if settings.endpoint_url.is_some() && node.hadoop.file_system("s3") == Some(EMRFS) {
        notes.push(
            "EMRFS has no endpoint setting that AWS documents: the history server asks S3 as EMRFS is configured."
                .into(),
        );
    }
    if !host.is_live() {
        notes.push("Below another root only files are changed: run `emr-shs install` on the node for the S3 prefix and the restart.".into());
    }
    notes
}

/// That the server is down, and why, where its log tells.
pub fn server_is_down(node: &Node) -> Option<String> {
    node.server.as_ref().filter(|s| s.process.is_none())?;
    let cause = history_server::last_trouble(&node.spark).map(|d| format!(": {}", d.cause)).unwrap_or_default();
    Some(format!("The history server does not run now{cause}."))
}

/// What in this node's configuration cannot work, said whether or not we change it.
pub fn mistakes(host: &Host, node: &Node, receipt: &Receipt) -> Vec<String> {
    let mut found = Vec::new();
    let defaults = &node.spark.defaults;
    for (key, value) in defaults.iter() {
        if key.ends_with("fs.s3a.customAWSCredentialsProvider") {
            found.push(format!(
                "{key} is no key: S3A reads fs.s3a.aws.credentials.provider, EMRFS fs.s3.customAWSCredentialsProvider. \
                 It has no effect; the instance profile is used all the same. The line can go."
            ));
        }
        if key == "spark.history.custom.executor.log.url" && value.contains("{{APP_ID}}") {
            found.push(format!(
                "{key} uses {{{{APP_ID}}}}, which executors on YARN do not have: Spark then keeps the links to \
                 NodeManagers. {{{{CONTAINER_ID}}}} and {{{{FILE_NAME}}}} are there."
            ));
        }
        if key == "spark.hadoop.fs.s3a.endpoint" && value.trim().ends_with("s3.amazonaws.com") {
            found.push(format!(
                "{key} {} is right in us-east-1 only; the region's own is found without it.",
                value.trim()
            ));
        }
    }
    let dirs = [defaults.get("spark.eventLog.dir"), defaults.get("spark.history.fs.logDirectory")];
    if let [Some(written), Some(read)] = dirs
        && !same_directory(written, read)
    {
        found.push(format!("jobs write event logs to {written}, the history server reads {read}."));
    }
    let used = |scheme: &str| dirs.iter().flatten().any(|d| d.split_once("://").is_some_and(|(s, _)| s == scheme));
    // With links of ours the class path is complete, and what it was without them is history.
    let linked = receipt.entries.iter().any(|e| matches!(e.resource, Resource::Link { .. }));
    for (scheme, class) in node.hadoop.schemes().into_iter().filter(|(scheme, _)| !linked && used(scheme)) {
        if node.scheme(host, scheme, &[]).is_ok_and(|s| !s.is_complete()) {
            found.push(format!("event logs are on {scheme}://, which {class} serves; the history server's own class path lacks it, or its AWS SDK."));
        }
    }
    found
}
