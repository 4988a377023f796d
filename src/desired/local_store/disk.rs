//! The local disks of a node, and what a local store takes of them.

use crate::change::receipt::Receipt;
use crate::host::Host;
use crate::node::spark::Spark;
use crate::paths::{MAX_DISK_USAGE_KEY, RETAINED_APPLICATIONS_KEY};
use crate::settings::Settings;
use crate::values::SparkValue;
use fs_err as fs;
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What each open application takes of the disk in MiB, whatever its size: RocksDB reserves room for its write-ahead log,
/// and Spark does not count that room (`docs/emr.md §7.4`).
const OPEN_APPLICATION: u64 = 75;
/// Spark's own limits: open applications, and MiB of the store.
const SPARK_RETAINED: u64 = 50;
const SPARK_USAGE: u64 = 10 << 10;
/// MiB for the list of applications.
const LISTING: u64 = 256;
/// Fewer open applications, or a smaller store in MiB, are not worth a store.
const LEAST_RETAINED: u64 = 5;
const LEAST_USAGE: u64 = 256;
/// MiB that a store leaves free at most: a tenth of a small disk, but not 200 GB of a disk of 2 TB.
const MOST_SPARED: u64 = 5 << 10;

/// The limits that keep a store on a small disk from filling the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `spark.history.retainedApplications`
    pub retained: u64,
    /// `spark.history.store.maxDiskUsage` in MiB
    pub usage_mib: u64,
}

impl Limits {
    fn of_spark() -> Self {
        Self { retained: SPARK_RETAINED, usage_mib: SPARK_USAGE }
    }

    /// The most that the store takes of the disk, in MiB.
    fn most(self) -> u64 {
        self.retained * OPEN_APPLICATION + self.usage_mib + LISTING
    }

    /// The limits that an earlier install wrote.
    pub(super) fn written(receipt: &Receipt) -> Option<Self> {
        Some(Self {
            retained: receipt.value_of(RETAINED_APPLICATIONS_KEY)?.parse().ok()?,
            usage_mib: mebibytes(&SparkValue::new(receipt.value_of(MAX_DISK_USAGE_KEY)?))?,
        })
    }

    /// The largest limits that leave a tenth of the disk free. `retained` is the number of open applications that
    /// somebody chose.
    fn for_room(room: u64, retained: Option<u64>) -> Option<Self> {
        let room = room.checked_sub(LISTING)?;
        let retained = retained.unwrap_or_else(|| (room / 2 / OPEN_APPLICATION).clamp(LEAST_RETAINED, SPARK_RETAINED));
        let usage_mib = room.checked_sub(retained * OPEN_APPLICATION)?;
        (usage_mib >= LEAST_USAGE).then_some(Self { retained, usage_mib: usage_mib.min(SPARK_USAGE) })
    }
}

/// The limits that somebody chose.
pub(super) struct Chosen {
    retained: Option<u64>,
    usage_mib: Option<u64>,
}

impl Chosen {
    /// Those of `--set`, else those of spark-defaults.conf. What emr-shs wrote there for the store of earlier event logs is
    /// nobody's choice.
    pub(super) fn read(receipt: &Receipt, settings: &Settings, spark: &Spark) -> Self {
        let is_ours = |name: &str| {
            let now = spark.defaults.written(name);
            receipt.key(name).is_some_and(|entry| entry.ours.iter().any(|state| state.value().as_deref() == now))
        };
        let value = |name: &str| match settings.set.get(name) {
            Some(text) => Some(spark.defaults.value(text)),
            None => spark.defaults.get(name).filter(|_| !is_ours(name)).cloned(),
        };
        Self {
            retained: value(RETAINED_APPLICATIONS_KEY).and_then(|n| n.number()),
            usage_mib: value(MAX_DISK_USAGE_KEY).as_ref().and_then(mebibytes),
        }
    }
}

/// The mount points that EMR gives local disks: /mnt, /mnt1, …
pub(super) fn disks() -> impl Iterator<Item = PathBuf> {
    (0..10).map(|n| PathBuf::from(if n == 0 { "/mnt".into() } else { format!("/mnt{n}") }))
}

/// The largest disk with room for a store, and the limits that the store needs there. `is_free` tells whether nothing on the disk
/// is in the way of a store.
pub(super) fn largest_disk(
    host: &Host,
    chosen: &Chosen,
    is_free: &dyn Fn(&Path) -> Result<(), String>,
) -> Result<(PathBuf, Option<Limits>), String> {
    largest(host, is_free, |fs, disk| limits(fs, disk, chosen))
}

/// The largest disk that has so many MiB beyond what is left to others.
pub(in crate::desired) fn largest_with_room(
    host: &Host,
    least: u64,
    is_free: &dyn Fn(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let has_room = |fs: &Statvfs, disk: &Path| match least + spared(fs) {
        wanted if free(fs) >= wanted => Ok(()),
        wanted => Err(format!("{} has {} MB free, wanted {wanted} MB", disk.display(), free(fs))),
    };
    largest(host, is_free, has_room).map(|(disk, ())| disk)
}

/// The largest disk that suits, and what `suits` says of it; of equal disks the first. The error is the first disk's.
fn largest<T>(
    host: &Host,
    is_free: &dyn Fn(&Path) -> Result<(), String>,
    suits: impl Fn(&Statvfs, &Path) -> Result<T, String>,
) -> Result<(PathBuf, T), String> {
    let mut largest: Option<(u64, PathBuf, T)> = None;
    let mut refused = None;
    for disk in disks() {
        let judged = file_system(host, &disk).and_then(|fs| {
            is_free(&disk)?;
            Ok((total(&fs), suits(&fs, &disk)?))
        });
        match judged {
            Ok((size, found)) if largest.as_ref().is_none_or(|(most, ..)| size > *most) => {
                largest = Some((size, disk, found));
            }
            Ok(_) => {}
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    largest.map(|(_, disk, found)| (disk, found)).ok_or_else(|| refused.unwrap_or_default())
}

/// The limits that a store on this disk needs, `None` if Spark's own fit, or why the disk cannot hold a store.
pub(super) fn usable(host: &Host, disk: &Path, chosen: &Chosen) -> Result<Option<Limits>, String> {
    limits(&file_system(host, disk)?, disk, chosen)
}

fn limits(fs: &Statvfs, disk: &Path, chosen: &Chosen) -> Result<Option<Limits>, String> {
    let Chosen { retained, usage_mib: usage } = *chosen;
    let spark = Limits::of_spark();
    let wanted = Limits { retained: retained.unwrap_or(spark.retained), usage_mib: usage.unwrap_or(spark.usage_mib) };
    let room = free(fs).saturating_sub(spared(fs));
    if wanted.most() <= room {
        return Ok(None);
    }
    let limits = Limits::for_room(room, retained).filter(|limits| usage.is_none_or(|usage| usage <= limits.usage_mib));
    limits.map(Some).ok_or_else(|| {
        let least = Limits { retained: retained.unwrap_or(LEAST_RETAINED), usage_mib: usage.unwrap_or(LEAST_USAGE) };
        format!("{} has {} MB free, and a local store needs {} MB", disk.display(), free(fs), least.most() + spared(fs))
    })
}

fn file_system(host: &Host, disk: &Path) -> Result<Statvfs, String> {
    let name = disk.display();
    let real = host.target(disk).ok().filter(|p| p.is_dir()).ok_or_else(|| format!("there is no {name}"))?;
    let fs = statvfs(&real).map_err(|e| format!("{name}: {e}"))?;
    if fs.flags().contains(FsFlags::ST_RDONLY) {
        return Err(format!("{name} is mounted read-only"));
    }
    Ok(fs)
}

/// Whether the file system of a directory refuses to run programs and to load libraries.
pub(super) fn has_noexec(host: &Host, dir: &Path) -> bool {
    let fs = host.target(dir).ok().and_then(|real| statvfs(&real).ok());
    fs.is_some_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC))
}

/// A size in MiB. A bare number counts bytes.
fn mebibytes(size: &SparkValue) -> Option<u64> {
    size.size(1).map(|bytes| bytes >> 20)
}

/// MiB.
fn total(fs: &Statvfs) -> u64 {
    (fs.blocks() * fs.fragment_size()) >> 20
}

/// MiB.
fn free(fs: &Statvfs) -> u64 {
    (fs.blocks_available() * fs.fragment_size()) >> 20
}

/// The MiB that a store leaves free for others, such as the NameNode.
fn spared(fs: &Statvfs) -> u64 {
    (total(fs) / 10).min(MOST_SPARED)
}

/// The MiB that a store in this directory, or in one that does not exist yet, leaves free for others.
pub(crate) fn spared_at(dir: &Path) -> u64 {
    let fs = dir.ancestors().find(|dir| dir.exists()).and_then(|dir| statvfs(dir).ok());
    fs.as_ref().map_or(0, spared)
}

/// How many MiB a store can still grow, with the limits that the history server has.
pub(crate) fn growth(retained: Option<&SparkValue>, usage: Option<&SparkValue>, size_mib: u64) -> u64 {
    let spark = Limits::of_spark();
    let limits = Limits {
        retained: retained.and_then(SparkValue::number).unwrap_or(spark.retained),
        usage_mib: usage.and_then(mebibytes).unwrap_or(spark.usage_mib),
    };
    limits.most().saturating_sub(size_mib)
}

/// The MiB of blocks that a directory takes. What cannot be read counts as nothing.
pub(crate) fn size_on_disk(dir: &Path) -> u64 {
    fn blocks(dir: &Path) -> u64 {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
            .map(|(meta, path)| meta.blocks() + if meta.is_dir() { blocks(&path) } else { 0 })
            .sum()
    }
    (blocks(dir) * 512) >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_into_the_room() {
        for room in (0..20_000).step_by(97) {
            let Some(limits) = Limits::for_room(room, None) else {
                assert!(room < LISTING + LEAST_RETAINED * OPEN_APPLICATION + LEAST_USAGE, "{room}");
                continue;
            };
            assert!(limits.most() <= room, "{room}: {limits:?}");
        }
        assert_eq!(Limits::for_room(14_000, None), Some(Limits { retained: 50, usage_mib: 9_994 }));
        assert_eq!(Limits::for_room(4_000, Some(50)), None);
    }

    #[test]
    fn a_store_grows_to_the_limits_that_the_server_has() {
        let value = |text: &str| SparkValue::new(text);
        let of_spark = Limits::of_spark().most();
        assert_eq!(growth(None, None, 0), of_spark);
        assert_eq!(growth(None, None, 1_000), of_spark - 1_000);
        assert_eq!(growth(Some(&value("500")), None, 0), of_spark + 450 * OPEN_APPLICATION);
        assert_eq!(growth(None, Some(&value("1g")), 0), of_spark - SPARK_USAGE + 1_024);
        assert_eq!(growth(Some(&value("many")), Some(&value("?")), of_spark + 1), 0);
    }
}
