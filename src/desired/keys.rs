//! The keys of spark-defaults.conf, except the pattern of log links, which belongs to the log gateway.

use super::Context;
use super::local_store::LocalStore;
use crate::aws::endpoint::by_path;
use crate::aws::uri::EventLogs;
use crate::change::desired::{Desired, DesiredState};
use crate::change::resource::Resource;
use crate::node::hadoop::S3A;
use crate::paths::{EVENT_LOG_DIR_KEY, LOG_DIRECTORY_KEY};
use anyhow::{Context as _, Result};

/// One key: name, value, whether a value that somebody else set wins, and the reason.
pub(super) type KeyRow = (String, String, bool, String);

fn must(key: &str, value: impl Into<String>, why: &str) -> KeyRow {
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
        let set = &self.settings.set;
        // A tuning key that --set names appears once, with the value of --set, at the end.
        rows.retain(|(key, _, yields, _)| !(*yields && set.contains_key(key)));
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
        rows.push(must(LOG_DIRECTORY_KEY, uri, "the history server reads event logs there"));
        rows
    }

    /// What S3A needs to reach the bucket, where the cluster's own configuration does not reach it.
    fn s3a_keys(&self, event_logs: &EventLogs) -> Vec<KeyRow> {
        if self.node.hadoop.file_system(&event_logs.scheme) != Some(S3A) {
            return Vec::new();
        }
        let mut rows = Vec::new();
        if let Some(endpoint) = &self.settings.endpoint_url {
            rows.push(must("spark.hadoop.fs.s3a.endpoint", endpoint, "named with --endpoint-url"));
            if by_path(endpoint) {
                let why = "that store has no host name for each bucket";
                rows.push(must("spark.hadoop.fs.s3a.path.style.access", "true", why));
            }
        }
        let own = self.node.identity.region.as_ref();
        if let Some(region) = self.bucket.and_then(|bucket| bucket.region.clone()).filter(|r| own != Some(r)) {
            let key = format!("spark.hadoop.fs.s3a.bucket.{}.endpoint.region", event_logs.bucket);
            let why = match own {
                Some(_) => "the bucket lies in another region than the cluster",
                None => "the bucket's region; nothing on the node names the cluster's region",
            };
            rows.push(must(&key, region, why));
        }
        rows
    }
}
