//! The file that keeps the indexes of clusters over restarts of the gateway, in the gateway's own state directory. It
//! contains names of clusters and times, and nothing secret. A file that is damaged, too large or of another version is
//! as good as none: the gateway makes it anew, at the price of some requests to S3.

use super::index::Index;
use crate::host::Host;
use crate::paths::{GATEWAY_INDEX, GATEWAY_STATE_DIR};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// A file of another version is not read.
const VERSION: u32 = 1;
/// The largest file that is read or written, in bytes: an index of 100,000 clusters has less.
const MAX_BYTES: usize = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// By log URI.
    clusters: BTreeMap<String, Index>,
}

/// Where the gateway keeps its indexes; `None` if it has no state directory: a `proxy serve` that is not the unit's.
pub(super) struct IndexFile {
    host: Host,
}

impl IndexFile {
    pub(super) fn find() -> Option<Self> {
        let host = Host::new(Path::new("/"));
        let own = nix::unistd::geteuid().as_raw();
        let meta = host.metadata(Path::new(GATEWAY_STATE_DIR)).ok().flatten()?;
        (meta.is_dir() && meta.uid() == own).then_some(Self { host })
    }

    /// The index of each log URI.
    pub(super) fn read(&self) -> BTreeMap<String, Index> {
        let path = Path::new(GATEWAY_INDEX);
        let size = self.host.metadata(path).ok().flatten().map_or(0, |meta| meta.len());
        let bytes = self.host.place(path).ok().filter(|_| size <= MAX_BYTES as u64).and_then(|file| file.read().ok());
        bytes.and_then(|bytes| parse(&bytes)).unwrap_or_default()
    }

    pub(super) fn write(&self, clusters: BTreeMap<String, Index>) -> Result<()> {
        let bytes = serde_json::to_vec(&Stored { version: VERSION, clusters })?;
        if bytes.len() > MAX_BYTES {
            return Ok(());
        }
        self.host.write_atomic(Path::new(GATEWAY_INDEX), &bytes, 0o600, None)
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<String, Index>> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    if stored.version != VERSION {
        return None;
    }
    Some(stored.clusters.into_iter().map(|(uri, index)| (uri, index.sanitised())).collect())
}

/// The clusters that a search for a timestamp names, from a file with the clusters of log URIs. `None` if the file is as good as
/// none. For tests and fuzz targets.
pub(in crate::gateway) fn search_stored(file: &[u8], timestamp: u64, now: SystemTime) -> Option<Vec<String>> {
    let mut named = Vec::new();
    for mut index in parse(file)?.into_values() {
        let found = index.cluster_of(timestamp).map(str::to_string);
        let again = index.worth_asking_again(timestamp, 12);
        for name in again.iter().chain(&found) {
            index.age_of(name, now);
            index.answer(name, &BTreeSet::from([timestamp]), now);
        }
        named.extend(index.unasked(found.as_deref()));
        named.extend(again.into_iter().chain(found));
    }
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_file_that_is_damaged_or_of_another_version_is_as_good_as_none() {
        let good = r#"{"version":1,"clusters":{"s3://a/b/":{"j-00000001":{"seen":1,"asked":2,"timestamps":[3]}}}}"#;
        assert_eq!(parse(good.as_bytes()).map(|indexes| indexes.len()), Some(1));
        for bad in [&good[..good.len() - 1], "", "null", "{}", &good.replace("\"version\":1", "\"version\":2")] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(parse(b"\xff\xfe\x00").is_none());
    }
}
