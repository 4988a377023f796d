//! The history server's local store: a directory on a local disk in which the server keeps what it has parsed.
//!
//! With a store, a restarted server reads only event logs that are new (`docs/emr.md §7.3`).

use crate::change::desired::{Desired, DesiredState};
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::host::{Host, Owner};
use crate::node::Node;
use crate::paths::{HISTORY_SERVER_ACCOUNT, LOCAL_STORE_DIR, LOCAL_STORE_KEY};
use crate::settings::Settings;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};

/// The free bytes that a local store needs.
pub(crate) const ROOM: u64 = 1 << 30;

/// Chooses the directory of the local store: the one that emr-shs made before, else a new one on the largest
/// of EMR's local disks that has room. The error says why emr-shs manages no local store: for example,
/// somebody chose another directory. A history server without any store keeps its list in memory.
pub(crate) fn choose(
    host: &Host,
    node: &Node,
    receipt: &Receipt,
    settings: &Settings,
) -> Result<(PathBuf, Owner), String> {
    let spark = &node.spark;
    if !spark.version.as_ref().is_some_and(|v| v.at_least(2, 3)) {
        return Err("Spark before 2.3 has none".into());
    }
    let chosen = settings.set.get(LOCAL_STORE_KEY).map(String::as_str).or_else(|| spark.defaults.get(LOCAL_STORE_KEY));
    let ours =
        receipt.entries.iter().find(|e| matches!(e.resource, Resource::Cache { .. })).and_then(|e| e.resource.file());
    // `render cluster-config` of another node can have named the directory, which does not exist here yet.
    let rendered =
        chosen.map(Path::new).filter(|path| !host.exists(path) && disks().any(|d| d.join(LOCAL_STORE_DIR) == *path));
    let ours = ours.or(rendered);
    if let Some(chosen) = chosen.filter(|chosen| ours.is_none_or(|path| path != Path::new(chosen))) {
        return Err(format!("{LOCAL_STORE_KEY} is set to {chosen} already"));
    }
    let owner = host.account(HISTORY_SERVER_ACCOUNT).ok_or("there is no user spark")?;
    if let Some(path) = ours {
        usable_size(host, path.parent().unwrap_or(path))?;
        return Ok((path.into(), owner));
    }
    let path = largest_disk(host)?.join(LOCAL_STORE_DIR);
    if host.exists(&path) {
        return Err(format!("{} exists, and emr-shs did not make it", path.display()));
    }
    Ok((path, owner))
}

/// The directory of the store, for the history server's account.
pub(super) fn directory(path: &Path, owner: Owner) -> Desired {
    Desired {
        resource: Resource::Cache { path: path.into() },
        state: DesiredState::Directory { mode: 0o750, owner },
        why: "holds the history server's local store".into(),
    }
}

/// The mount points that EMR gives local disks: /mnt, /mnt1, …
fn disks() -> impl Iterator<Item = PathBuf> {
    (0..10).map(|n| PathBuf::from(if n == 0 { "/mnt".into() } else { format!("/mnt{n}") }))
}

/// The largest usable disk; of equal ones the first. The error is the first disk's.
fn largest_disk(host: &Host) -> Result<PathBuf, String> {
    let (usable, unusable): (Vec<_>, Vec<_>) =
        disks().map(|disk| usable_size(host, &disk).map(|size| (size, disk))).partition(Result::is_ok);
    let largest = usable.into_iter().flatten().reduce(|a, b| if b.0 > a.0 { b } else { a });
    let (_, disk) = largest.ok_or_else(|| unusable.into_iter().find_map(Result::err).unwrap_or_default())?;
    Ok(disk)
}

/// The size of a disk that can hold the local store, or the reason why it cannot.
fn usable_size(host: &Host, disk: &Path) -> Result<u64, String> {
    let name = disk.display();
    let real = host.target(disk).ok().filter(|p| p.is_dir()).ok_or_else(|| format!("there is no {name}"))?;
    let fs = statvfs(&real).map_err(|e| format!("{name}: {e}"))?;
    if fs.flags().contains(FsFlags::ST_RDONLY) {
        return Err(format!("{name} is mounted read-only"));
    }
    if fs.blocks_available() * fs.fragment_size() < ROOM {
        return Err(format!("{name} has less than 1 GiB free"));
    }
    Ok(fs.blocks() * fs.fragment_size())
}
