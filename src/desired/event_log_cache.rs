//! The event-log cache: the directory into which the log gateway fetches the event logs that somebody opens, and which the
//! history server reads in place of S3.
//!
//! A disk that EMR mounts at `/mnt` is empty after a stop of the machine. So the gateway's unit makes the directory before
//! each start, and a drop-in lets the history server start after the gateway.

use super::local_store::disk::largest_with_room;
use super::local_store::obstacle;
use super::{Context, directory, drop_in, exactly, file_owner};
use crate::change::desired::Desired;
use crate::change::receipt::Receipt;
use crate::change::resource::{Resource, State};
use crate::host::Host;
use crate::node::{Node, hadoop_client};
use crate::paths::{CACHE_DROP_IN, EVENT_LOG_CACHE_DIR, GATEWAY_ACCOUNT, GATEWAY_UNIT, LOCAL_DIR};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// MiB that the disk of a new cache must have beyond what is left to others.
const LEAST_ROOM: u64 = 1 << 10;

/// The event-log cache that an installation wants.
#[derive(Debug)]
pub(crate) struct EventLogCache {
    pub directory: PathBuf,
    /// The account of the history server.
    pub reader: String,
}

impl EventLogCache {
    /// Chooses the directory: that of an earlier installation, else one on the largest of EMR's local disks. The error says
    /// why the node has no place for it.
    pub(crate) fn choose(host: &Host, node: &Node, receipt: &Receipt) -> Result<Self, String> {
        let reader = hadoop_client::server_account(host, node);
        if host.account(&reader).is_none() {
            return Err(format!("this node has no user {reader}"));
        }
        let directory = match Self::installed(receipt) {
            Some(path) => path.to_path_buf(),
            None => {
                let is_free = |disk: &Path| obstacle(host, receipt, &disk.join(LOCAL_DIR)).map_or(Ok(()), Err);
                largest_with_room(host, LEAST_ROOM, &is_free)?.join(LOCAL_DIR).join(EVENT_LOG_CACHE_DIR)
            }
        };
        let parent = directory.parent().unwrap_or(Path::new("/"));
        match obstacle(host, receipt, parent).or_else(|| obstacle(host, receipt, &directory)) {
            Some(why) => Err(why),
            None => Ok(Self { directory, reader }),
        }
    }

    /// The directory that the receipt lists.
    pub(crate) fn installed(receipt: &Receipt) -> Option<&Path> {
        receipt.entries.iter().find_map(|entry| match &entry.resource {
            Resource::AccountDir { path, .. } if path.ends_with(EVENT_LOG_CACHE_DIR) => Some(path.as_path()),
            _ => None,
        })
    }

    /// Makes the directory anew, and the history server's local stores beside it, as an installation made them, if the disk has
    /// lost them.
    pub(crate) fn prepare(&self, host: &Host, receipt: &Receipt) -> Result<()> {
        let is_cache =
            |resource: &Resource| matches!(resource, Resource::AccountDir { path, .. } if *path == self.directory);
        let entry = receipt.entries.iter().find(|entry| is_cache(&entry.resource));
        if entry.is_some_and(|entry| entry.ours.last() == Some(&State::Absent)) {
            // An installation without the index is taking the cache away at this moment.
            return Ok(());
        }
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        if let Some(why) = obstacle(host, receipt, parent).or_else(|| obstacle(host, receipt, &self.directory)) {
            bail!("there is no place for the event-log cache: {why}");
        }
        let holder = Resource::Dir { path: parent.into() };
        if holder.observe(host)? == State::Absent {
            holder.set(host, &State::Absent, &State::Dir { mode: 0o755, owner: file_owner(host) })?;
        }
        for entry in &receipt.entries {
            let is_beside = matches!(&entry.resource, Resource::Cache { path } if path.parent() == Some(parent));
            if let Some(state @ State::Dir { .. }) = entry.ours.last().filter(|_| is_beside)
                && entry.resource.observe(host)? == State::Absent
            {
                entry.resource.set(host, &State::Absent, state)?;
            }
        }
        let cache = self.resource();
        match cache.observe(host)? {
            State::Exists => Ok(()),
            found => cache.set(host, &found, &State::Exists),
        }
    }

    fn resource(&self) -> Resource {
        Resource::AccountDir {
            path: self.directory.clone(),
            account: GATEWAY_ACCOUNT.into(),
            reader: Some(self.reader.clone()),
        }
    }

    /// The directory as the history server names it.
    pub(crate) fn uri(&self) -> String {
        format!("file://{}", self.directory.display())
    }

    /// The directory, after the accounts that it belongs to.
    pub(super) fn desired(&self, context: &Context<'_>) -> Vec<Desired> {
        let root = file_owner(context.host);
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        let mut desired = vec![
            directory(parent, root, "holds what emr-shs keeps on this disk"),
            exactly(
                self.resource(),
                State::Exists,
                "event logs that somebody opens; the history server reads them there",
            ),
        ];
        desired.extend(drop_in(
            context.host,
            CACHE_DROP_IN,
            "# The log gateway's unit makes the directory that the history server reads.\n",
            &format!("[Unit]\nWants={GATEWAY_UNIT}\nAfter={GATEWAY_UNIT}\n"),
            "the history server starts after the log gateway, whose unit makes the event-log cache",
        ));
        desired
    }
}
