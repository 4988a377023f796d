//! The identity of the node: its role, its cluster, its release.
//!
//! EMR writes this identity into several files on a node (`docs/emr.md §4.1`). Newer releases may write fewer,
//! so each fact has more than one source, and no file is required.

use crate::host::Host;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The directories into which EMR writes files about the node.
pub(crate) const INFO: [&str; 2] = ["/mnt/var/lib/info", "/emr/instance-controller/lib/info"];

/// The role of a node in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// EMR called it the “master” node before.
    Primary,
    /// A core or task node.
    Worker,
    /// No file on the node names its role.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    pub role: Role,
    /// The file that names the role.
    pub role_from: Option<String>,
    /// `j-…`
    pub cluster_id: Option<String>,
    /// `emr-7.12.0`, `emr-spark-8.1.0`, …
    pub release: Option<String>,
    pub region: Option<String>,
    /// Whether the cluster has three primary nodes.
    pub multi_primary: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Info {
    is_master: Option<bool>,
    instance_role: Option<String>,
    job_flow_id: Option<String>,
    release_label: Option<String>,
    region: Option<String>,
    ha_enabled: Option<bool>,
}

impl Identity {
    pub fn observe(host: &Host) -> Self {
        let mut found = Self {
            role: Role::Unknown,
            role_from: None,
            cluster_id: None,
            release: None,
            region: None,
            multi_primary: false,
        };
        for dir in INFO.map(Path::new) {
            for name in ["instance.json", "extraInstanceData.json", "job-flow.json"] {
                let path = dir.join(name);
                let text = host.read(&path).ok().flatten().unwrap_or_default();
                if let Ok(info) = serde_json::from_str::<Info>(&text) {
                    found.add(info, &path);
                }
            }
            let path = dir.join("job-flow-state.txt");
            if let Some(text) = host.read(&path).ok().flatten() {
                found.add(protobuf_text(&text), &path);
            }
        }
        found
    }

    fn add(&mut self, info: Info, from: &Path) {
        if self.role == Role::Unknown {
            let primary = info.is_master.or(info.instance_role.map(|r| r.eq_ignore_ascii_case("master")));
            if let Some(primary) = primary {
                self.role = if primary { Role::Primary } else { Role::Worker };
                self.role_from = Some(from.display().to_string());
            }
        }
        self.cluster_id = self.cluster_id.take().or(info.job_flow_id);
        self.release = self.release.take().or(info.release_label);
        self.region = self.region.take().or(info.region);
        self.multi_primary |= info.ha_enabled == Some(true);
    }

    /// Whether any file says that this is an EMR node.
    pub fn is_emr(&self) -> bool {
        self.role != Role::Unknown || self.cluster_id.is_some() || self.release.is_some()
    }
}

/// The top-level `key: "value"` lines of a protobuf text file.
fn protobuf_text(text: &str) -> Info {
    let field = |key: &str| {
        text.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix(':')?.trim();
            Some(value.trim_matches('"').to_string())
        })
    };
    Info {
        instance_role: field("instanceRole"),
        job_flow_id: field("jobFlowId"),
        release_label: field("releaseLabel"),
        ..Info::default()
    }
}
