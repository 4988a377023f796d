//! What a plan says besides its rows: what the changes mean for people, and what in the node's configuration cannot
//! work.

use crate::aws::s3::S3;
use crate::aws::uri::{EventLogs, LogUri};
use crate::change::plan::Change;
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::desired::taken_port::TakenPort;
use crate::host::Host;
use crate::node::Node;
use crate::node::event_logs::ROLLING;
use crate::node::hadoop::EMRFS;
use crate::node::history_server::{self, HistoryServer, same_directory};
use crate::node::process::LookAlike;
use crate::paths::{
    EVENT_LOG_CACHE_DIR, EVENT_LOG_DIR_KEY, HISTORY_PORT_KEY, HISTORY_SERVER_UNIT, LOG_DIRECTORY_KEY, LOG_LINK_KEY,
    TAKEN_PORT_SOCKET,
};
use crate::redact::is_secret_key;
use crate::settings::{LinkInto, Settings};
use crate::shown::hint;
use fs_err as fs;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

/// What the changes mean for people (`docs/emr.md §5.6`, `§8.2`, `§10`).
pub(crate) fn consequences(
    host: &Host,
    node: &Node,
    settings: &Settings,
    reads: Option<&str>,
    changes: &[Change],
) -> Vec<String> {
    let mut notes = Vec::new();
    let written = settings.event_logs.as_ref().map(ToString::to_string).unwrap_or_default();
    let replaced = |key: &str, new: &str| {
        let change = changes.iter().find(|c| c.has_effect() && c.resource.name() == key)?;
        let old = node.spark.defaults.value(&change.before.value()?).text().to_string();
        Some(old).filter(|old| !same_directory(old, new))
    };
    if replaced(EVENT_LOG_DIR_KEY, &written).is_some() {
        notes.push(jobs_log_elsewhere(node, &settings.set, settings.index));
    }
    let reads = reads.unwrap_or_default();
    if let Some(old) = replaced(LOG_DIRECTORY_KEY, reads) {
        match settings.index {
            true => notes.extend(lists_in_its_place(node, settings, &old)),
            false => notes.extend(list_changes(node, &old, reads)),
        }
    }
    if settings.link_into == LinkInto::SparkJars {
        notes.push("With --link-into spark-jars every job uploads the linked jars too, up to half a gigabyte.".into());
    }
    if node.identity.multi_primary {
        notes.push(
            "This cluster has three primary nodes, and this command changes one of them. Run it on each of them."
                .into(),
        );
    }
    if settings.endpoint_url.is_some() && node.hadoop.file_system("s3").as_deref() == Some(EMRFS) {
        notes.push(
            "AWS documents no endpoint setting for EMRFS, so the history server uses the endpoint that EMRFS is \
             configured with."
                .into(),
        );
    }
    notes.extend(readable_secrets(host, node, settings, changes));
    if !host.is_live() {
        notes.push(
            "With --root, emr-shs changes files only. For the S3 prefix and the restart, run on the node: sudo emr-shs \
             install"
                .into(),
        );
    }
    notes
}

/// Names the secrets that `--set` puts into a file which every account can read.
fn readable_secrets(host: &Host, node: &Node, settings: &Settings, changes: &[Change]) -> Option<String> {
    let file = &node.spark.defaults_path;
    let mode = host.target(file).ok().and_then(|real| Some(fs::metadata(real).ok()?.permissions().mode()))?;
    let key = |change: &Change| match &change.resource {
        Resource::Key { key, .. } if change.has_effect() && settings.set.contains_key(key) => Some(key.clone()),
        _ => None,
    };
    let keys: Vec<String> = changes.iter().filter_map(key).filter(|key| is_secret_key(key)).collect();
    (mode & 0o004 != 0 && !keys.is_empty()).then(|| {
        format!(
            "Every account of this node can read {} (mode {:04o}), and so the value of {}.",
            file.display(),
            mode & 0o7777,
            keys.join(", ")
        )
    })
}

/// Whether rolling event logs lie below the prefix. Nobody stops because S3 does not tell.
pub(super) fn has_rolling_event_logs(s3: &S3, uri: &EventLogs) -> bool {
    let rolling = EventLogs { prefix: format!("{}{ROLLING}", uri.prefix), ..uri.clone() };
    matches!(s3.first_object(&rolling), Ok(Some(_)))
}

/// What a local store means where others than this cluster's own jobs write rolling event logs (`docs/emr.md §7.4`).
pub(super) fn rolls_elsewhere(uri: &EventLogs) -> String {
    format!(
        "{uri} contains rolling event logs, which other clusters or single jobs write. The history server lists such \
         applications while they run, and from its local store Spark can show one as it was when somebody opened it, until \
         the server starts again: sudo emr-shs restart"
    )
}

/// Jobs write their event logs to another place.
fn jobs_log_elsewhere(node: &Node, set: &BTreeMap<String, String>, has_index: bool) -> String {
    let lister = if has_index { "log gateway" } else { "history server" };
    let earlier = match (node.spark.rolls_event_logs(set), node.spark.can_roll_event_logs()) {
        (true, _) => ", or a part of it",
        (false, true) => " (for a long application earlier, with spark.eventLog.rolling.enabled)",
        (false, false) => "",
    };
    format!(
        "Applications that start from now on write their event logs to S3; applications that run now keep writing to the old directory. The {lister} \
         lists an application on S3 once its event log is closed{earlier}. Jobs under runtime roles need their \
         own permission to write there."
    )
}

/// Applications in the old directory leave the list.
fn list_changes(node: &Node, old: &str, new: &str) -> Vec<String> {
    let count = node
        .server
        .as_ref()
        .and_then(HistoryServer::list)
        .map(|list| list.iter().map(|attempt| &attempt.application).collect::<BTreeSet<_>>().len());
    let of = count.map(|n| format!(" ({n} application{})", if n == 1 { "" } else { "s" })).unwrap_or_default();
    let in_hdfs = old.starts_with("hdfs:");
    let mut notes = Vec::new();
    if old.ends_with(EVENT_LOG_CACHE_DIR) {
        return vec![format!(
            "The history server lists the applications of {new} alone, once it has read their event logs. Other prefixes leave the \
             list; nothing deletes their event logs."
        )];
    }
    match count {
        Some(0) => {}
        _ if in_hdfs => notes.push(format!(
            "The history in HDFS{of} leaves the list; nothing deletes it. To bring it over:\n  {}",
            hint!("hadoop distcp -update {} {}", old, new)
        )),
        _ => notes.push(format!("The history in {old}{of} leaves the list; nothing deletes it.")),
    }
    if in_hdfs {
        notes.push(
            "The history server in the EMR console reads HDFS only, so it does not show what jobs log to S3.".into(),
        );
    }
    notes
}

/// What changes for people when the gateway lists in place of the history server.
fn lists_in_its_place(node: &Node, settings: &Settings, old: &str) -> Vec<String> {
    let port = node.server.as_ref().map(|server| format!(" on port {}", server.port)).unwrap_or_default();
    let port = if settings.take_port { String::new() } else { port };
    let sources: Vec<String> = settings.sources().map(ToString::to_string).collect();
    let mut notes = vec![format!(
        "The log gateway lists all applications of {}. The history server{port} shows those alone that somebody has \
         opened through the gateway.",
        sources.join(" and ")
    )];
    if !settings.sources().any(|uri| uri.to_string() == old) && !old.starts_with("file:") {
        notes.push(format!("The history in {old} leaves the list; nothing deletes it."));
    }
    notes
}

/// What it means for people that the log gateway takes the history server's port, or gives it back.
pub(super) fn taken_port(taken: Option<&TakenPort>, settings: &Settings, changes: &[Change]) -> Vec<String> {
    let is_socket = |change: &&Change| change.resource.is_unit(TAKEN_PORT_SOCKET);
    if !changes.iter().filter(is_socket).any(Change::has_effect) {
        return Vec::new();
    }
    let Some(TakenPort { of_gateway, of_server }) = taken else {
        return vec![match settings.set.get(HISTORY_PORT_KEY) {
            Some(port) => format!(
                "The log gateway leaves the history server's port. The history server goes to port {port}, which --set names."
            ),
            None => "The history server gets its port back, and the log gateway no longer listens on that port.".into(),
        }];
    };
    let mut notes = vec![format!(
        "The log gateway takes port {of_gateway}, so the links of YARN and of the EMR console open every application. The history server moves to port {of_server}."
    )];
    let gateway = &settings.gateway;
    let is_open = gateway.insecure || gateway.has_tls() && gateway.htpasswd.is_some();
    if !is_open {
        notes.push(format!(
            "On port {of_gateway}, too, the log gateway serves only this node, and browsers that use a tunnel or SSH's SOCKS proxy to this node. Without TLS and a login, and without --insecure, the log gateway refuses all other browsers on other machines. The history server served those browsers, too."
        ));
    } else if gateway.has_tls() {
        notes.push(format!(
            "On port {of_gateway}, the log gateway speaks TLS, and redirects http:// links to https://."
        ));
    }
    if gateway.htpasswd.is_some() {
        notes
            .push(format!("On port {of_gateway}, the log gateway asks for a login, which the history server did not."));
    }
    notes
}

/// Names the log URI of this cluster, if --log-uri names others alone.
pub(super) fn log_uri_of_others(settings: &Settings) -> Option<String> {
    let own: LogUri = settings.cluster.as_ref()?.log_uri.as_ref()?.parse().ok()?;
    let typed = settings.add_log_uri(&own)?;
    let given: Vec<String> = settings.gateway.log_uris.iter().map(ToString::to_string).collect();
    Some(format!(
        "EMR writes the logs of this cluster below {own}, but --log-uri names {} alone, so the log gateway does not \
         open executor logs of this cluster. To add {own}: {typed}",
        given.join(" and ")
    ))
}

/// Says that the history server is down, and why, if its log tells.
pub(crate) fn server_is_down(node: &Node) -> Option<String> {
    node.server.as_ref().filter(|s| s.process.is_none())?;
    let cause = history_server::first_known_error(&node.spark).map(|d| format!(": {}", d.cause)).unwrap_or_default();
    Some(format!("The history server is not running{cause}."))
}

/// Names what looks like a history server and is not the unit's.
pub(crate) fn look_alikes(node: &Node) -> Option<String> {
    let others: Vec<String> = node.server.iter().flat_map(|s| &s.others).map(LookAlike::description).collect();
    (!others.is_empty()).then(|| {
        format!(
            "These look like history servers and do not belong to {HISTORY_SERVER_UNIT}, so emr-shs leaves them alone: {}.",
            others.join("; ")
        )
    })
}

/// What in the node's configuration cannot work, whether or not this run changes it.
pub(crate) fn mistakes(host: &Host, node: &Node, receipt: &Receipt) -> Vec<String> {
    let mut found: Vec<String> = receipt.unknown_to_this_version().into_iter().collect();
    let defaults = &node.spark.defaults;
    for key in defaults.keys() {
        let value = defaults.text(key).unwrap_or_default();
        if key.ends_with("fs.s3a.customAWSCredentialsProvider") {
            found.push(format!(
                "{key} is not a key of Hadoop: S3A reads fs.s3a.aws.credentials.provider, EMRFS fs.s3.customAWSCredentialsProvider. \
                 The line has no effect, and the instance profile is used all the same. You can remove the line."
            ));
        }
        if key == LOG_LINK_KEY && value.contains("{{APP_ID}}") {
            found.push(format!(
                "{key} uses {{{{APP_ID}}}}, which executors on YARN do not have: Spark then keeps the links to \
                 NodeManagers. Executors have {{{{CONTAINER_ID}}}} and {{{{FILE_NAME}}}}."
            ));
        }
        if key == "spark.hadoop.fs.s3a.endpoint" && value.trim().ends_with("s3.amazonaws.com") {
            found.push(format!(
                "{key} {} works in us-east-1 only. Without the line S3A finds the endpoint of the region.",
                value.trim()
            ));
        }
    }
    for (file, reference) in &node.hadoop.not_included {
        found.push(format!(
            "{} includes {reference} with xi:include, which emr-shs cannot read. Hadoop may find settings there that \
             emr-shs does not know.",
            file.display()
        ));
    }
    let dirs = [defaults.known_text(EVENT_LOG_DIR_KEY), defaults.known_text(LOG_DIRECTORY_KEY)];
    if let [Some(written), Some(read)] = dirs
        && !same_directory(written, read)
        && !receipt.settings.index
    {
        found.push(format!("Jobs write event logs to {written}, but the history server reads {read}."));
    }
    // Once emr-shs has made links, the class path is complete.
    if !receipt.entries.iter().any(|e| matches!(e.resource, Resource::Link { .. })) {
        let used = |scheme: &str| dirs.iter().flatten().any(|d| d.split_once("://").is_some_and(|(s, _)| s == scheme));
        for (scheme, class) in node.hadoop.s3_schemes().into_iter().filter(|(scheme, _)| used(scheme)) {
            if node.scheme(host, scheme, &[]).is_ok_and(|s| !s.is_complete()) {
                found.push(format!(
                    "Event logs are on {scheme}://, which {class} serves. The history server's own class path lacks that \
                     class, or its AWS SDK."
                ));
            }
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::log_uri_of_others;
    use crate::aws::emr::Cluster;
    use crate::settings::{GatewaySettings, Settings};

    #[test]
    fn log_uris_without_that_of_the_cluster_get_a_note() {
        const OWN: &str = "s3://acme-logs/elasticmapreduce/";
        let settings = |own: &str, given: &[&str]| Settings {
            cluster: Some(Cluster { log_uri: Some(own.into()), ..Cluster::default() }),
            gateway: GatewaySettings {
                log_uris: given.iter().map(|uri| uri.parse().unwrap()).collect(),
                ..GatewaySettings::default()
            },
            ..Settings::default()
        };
        for given in [&[OWN][..], &[], &["s3n://acme-logs//elasticmapreduce"], &["s3://other/emr/", OWN]] {
            assert_eq!(log_uri_of_others(&settings(OWN, given)), None, "{given:?}");
        }
        let note = log_uri_of_others(&settings(OWN, &["s3://acme-logs/elasticmapreduc/"])).unwrap();
        let says = format!("below {OWN}, but --log-uri names s3://acme-logs/elasticmapreduc/ alone");
        assert!(note.contains(&says), "{note}");
        let typed = format!("sudo emr-shs proxy install --log-uri {OWN} --log-uri s3://acme-logs/elasticmapreduc/");
        assert!(note.ends_with(&typed), "{note}");
        let serverless = settings(OWN, &["s3://acme-logs/serverless/"]);
        assert_eq!(log_uri_of_others(&Settings { serverless: Some("00f1r2fo0l4l4l09".into()), ..serverless }), None);
        assert_eq!(log_uri_of_others(&Settings { cluster: None, ..settings(OWN, &["s3://other/emr/"]) }), None);
    }
}
