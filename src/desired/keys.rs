//! The keys of spark-defaults.conf, except the pattern of log links, which belongs to the log gateway.

use super::Context;
use super::local_store::LocalStore;
use crate::aws::endpoint::{by_path, is_dotted_with_tls};
use crate::aws::uri::EventLogs;
use crate::change::desired::{Desired, DesiredState};
use crate::change::receipt::ReceiptEntry;
use crate::change::resource::Resource;
use crate::node::s3a::BucketSettings;
use crate::paths::{CLEANER_KEY, EVENT_LOG_DIR_KEY, HISTORY_PORT_KEY, LOG_DIRECTORY_KEY};
use anyhow::{Context as _, Result};

/// One key: name, value, whether a value that somebody else set wins, and the reason.
pub(super) type KeyRow = (String, String, bool, String);

pub(super) fn must(key: &str, value: impl Into<String>, why: &str) -> KeyRow {
    (key.into(), value.into(), false, why.into())
}

pub(super) fn tuning(key: &str, value: impl Into<String>, why: &str) -> KeyRow {
    (key.into(), value.into(), true, why.into())
}

impl Context<'_> {
    /// All keys.
    pub(super) fn keys(&self, store: Option<&LocalStore>) -> Result<Vec<Desired>> {
        let event_logs = self.event_logs.context("the place of the event logs is not known")?;
        let mut rows = self.place_keys(event_logs);
        rows.extend(self.s3a_keys(event_logs));
        rows.extend(store.map(|store| self.store_keys(store)).unwrap_or_default());
        rows.extend(self.scan_keys());
        rows.extend(self.taken.map(|taken| {
            let why = format!("the log gateway takes port {}", taken.of_gateway);
            must(HISTORY_PORT_KEY, taken.of_server.to_string(), &why)
        }));
        let set = &self.settings.set;
        // A key that --set names appears once, with the value of --set, at the end.
        rows.retain(|(key, ..)| !set.contains_key(key));
        rows.extend(set.iter().map(|(key, value)| must(key, value, "named with --set")));
        let path = &self.node.spark.defaults_path;
        let desired = |(key, value, yields, why)| Desired {
            resource: Resource::Key { path: path.clone(), key },
            state: DesiredState::Value { value, yields },
            why,
        };
        Ok(rows.into_iter().map(desired).collect())
    }

    /// Where jobs write event logs and where the history server reads them.
    fn place_keys(&self, event_logs: &EventLogs) -> Vec<KeyRow> {
        let uri = event_logs.to_string();
        let mut rows = Vec::new();
        if !self.settings.history_only {
            rows.push(must("spark.eventLog.enabled", "true", "jobs write event logs"));
            rows.push(must(EVENT_LOG_DIR_KEY, &uri, "jobs write event logs there"));
        }
        match self.cache {
            None => rows.push(must(LOG_DIRECTORY_KEY, uri, "the history server reads event logs there")),
            Some(cache) => {
                let why = "the history server reads the event logs that the log gateway fetches there";
                rows.push(must(LOG_DIRECTORY_KEY, cache.uri(), why));
                rows.push(must(
                    CLEANER_KEY,
                    "false",
                    "Spark's cleaner would delete event logs from the cache while somebody opens them",
                ));
            }
        }
        rows
    }

    /// What S3A needs to reach the bucket, where the cluster's own configuration does not say it. The keys are those
    /// of this bucket alone: other buckets of jobs must not go to its endpoint.
    fn s3a_keys(&self, event_logs: &EventLogs) -> Vec<KeyRow> {
        if !self.node.hadoop.is_s3a(&event_logs.scheme) {
            return Vec::new();
        }
        let key = |name: &str| format!("spark.hadoop.fs.s3a.bucket.{}.{name}", event_logs.bucket);
        let hadoop = self.node.hadoop.with_spark_keys(self.hadoop_keys_before());
        let found = BucketSettings::read(&hadoop, &event_logs.scheme, &event_logs.bucket);
        let mut rows = Vec::new();
        let endpoint = self.settings.endpoint_url.as_ref();
        if let Some(endpoint) = endpoint {
            rows.push(must(&key("endpoint"), endpoint, "named with --endpoint-url"));
        }
        let path_style = if endpoint.is_some_and(|url| by_path(url)) {
            Some("that store has no host name for each bucket")
        } else if is_dotted_with_tls(&event_logs.bucket, endpoint.or(found.endpoint.as_ref()).map(String::as_str)) {
            Some("S3's certificates do not cover bucket names with dots")
        } else {
            None
        };
        if let Some(why) = path_style.filter(|_| endpoint.is_some() || found.path_style != Some(true)) {
            rows.push(must(&key("path.style.access"), "true", why));
        }
        // Without a region S3A asks us-east-2 where the bucket is, which a node without a way to the internet cannot.
        let region = self.bucket.and_then(|bucket| bucket.region.clone());
        if let Some(region) = region.filter(|region| found.region.as_ref() != Some(region)) {
            let why = match found.region {
                Some(_) => "the configuration names another region than the bucket's",
                None => "the bucket's region, which S3A would ask us-east-2 for",
            };
            rows.push(must(&key("endpoint.region"), region, why));
        }
        rows
    }

    /// The keys of Hadoop that emr-shs has set, with the values that they had before.
    fn hadoop_keys_before(&self) -> Vec<(String, Option<String>)> {
        let is_ours = |entry: &ReceiptEntry, key: &str| {
            let now = self.node.spark.defaults.written(key);
            entry.ours.iter().any(|state| state.value().as_deref() == now)
        };
        let key = |entry: &ReceiptEntry| match &entry.resource {
            Resource::Key { key, .. } if is_ours(entry, key) => Some((key.clone(), entry.before.value())),
            _ => None,
        };
        self.receipt.entries.iter().filter_map(key).collect()
    }
}
