//! The history server's local store: a directory on a local disk in which the server keeps what it has parsed.
//!
//! With a store, a restarted server reads only event logs that are new (`docs/emr.md §7.3`). The store must not bring a
//! fault that a server without a store does not have. So there is one store for each directory of event logs, and a bound on
//! its size. A drop-in deletes the parsed applications at each start. It deletes the list of applications, too, if the server may
//! not have read every event log in the list. There is no store where applications are listed while they run (`docs/emr.md §7.4`).

pub(super) mod disk;

pub(crate) use disk::{growth, size_on_disk, spared_at};

use super::{Context, directory, drop_in, environment, file_owner};
use crate::change::desired::{Desired, DesiredState};
use crate::change::receipt::Receipt;
use crate::change::resource::{Resource, short_digest};
use crate::files::kind;
use crate::host::{Host, Owner};
use crate::node::Node;
use crate::node::hadoop_client::{AS_ACCOUNT, server_account};
use crate::paths::{
    HISTORY_SERVER_UNIT, JAVA_TMP_DIR, LOCAL_DIR, LOCAL_STORE_KEY, MAX_DISK_USAGE_KEY, RETAINED_APPLICATIONS_KEY,
    STORE_DROP_IN,
};
use crate::settings::Settings;
use disk::{Chosen, Limits, disks, has_noexec, largest_disk, usable};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How many stores stay on the node: that of the event logs, and that of the event logs before them. Spark deletes a
/// store when it opens the store with other event logs.
const STORES: usize = 2;

/// Spark's lists of applications in a store: of LevelDB, and of RocksDB.
pub(crate) const LISTINGS: [&str; 2] = ["listing.ldb", "listing.rdb"];
/// A file in a store: it is as old as the server's last start.
pub(crate) const STARTED: &str = "emr-shs-started";
/// A file in a store: the server ran for an hour, and was then stopped. So it had the time to parse every event log of its list.
pub(crate) const LIST_IS_WHOLE: &str = "emr-shs-list-is-whole";

/// The exit status of a JVM that ended by SIGTERM.
const TERMINATED: u8 = 143;

/// The variable from which every JVM takes options, whatever starts the JVM.
const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";

/// The local store that an installation wants.
#[derive(Debug)]
pub(crate) struct LocalStore {
    /// The store of these event logs.
    pub directory: PathBuf,
    /// The stores of earlier event logs that stay, newest first.
    earlier: Vec<PathBuf>,
    /// Where Java loads native libraries from, if its own directory of temporary files does not allow that.
    java_tmp: Option<PathBuf>,
    /// `None` where Spark's own limits fit on the disk.
    limits: Option<Limits>,
    /// The account of the history server.
    account: String,
    /// That account, and its group.
    owner: Owner,
}

/// Why emr-shs manages no local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoStore {
    /// A store would be of no use, cannot work on this node, or is somebody else's.
    Inapplicable(String),
    /// The node has no place for one.
    NoPlace(String),
}

impl fmt::Display for NoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Inapplicable(why) | Self::NoPlace(why)) = self;
        f.write_str(why)
    }
}

/// What to type when the node has no place for a local store.
pub(crate) const NO_PLACE_HINT: &str = "once that is mended: sudo emr-shs install; to choose a directory to which user spark may write: sudo emr-shs install --set spark.history.store.path=/DIRECTORY";

/// Chooses the local store: the one that emr-shs made before for these event logs, else a new one on the largest of EMR's
/// local disks that has room. The error says why emr-shs manages no local store: for example, somebody chose another
/// directory. A history server without any store keeps its list in memory. `reads` is what the history server reads.
pub(crate) fn choose(
    host: &Host,
    node: &Node,
    receipt: &Receipt,
    settings: &Settings,
    reads: Option<&str>,
) -> Result<LocalStore, NoStore> {
    let spark = &node.spark;
    if !spark.version.as_ref().is_some_and(|v| v.at_least(2, 3)) {
        return Err(NoStore::Inapplicable("Spark before 2.3 has none".into()));
    }
    let reads = reads.ok_or_else(|| NoStore::Inapplicable("the place of the event logs is not known".into()))?;
    let ours: Vec<&Path> = stores(receipt).collect();
    let named = settings.set.get(LOCAL_STORE_KEY).map(String::as_str);
    let chosen = named.or_else(|| spark.defaults.text(LOCAL_STORE_KEY)).map(Path::new);
    // `render cluster-config` of another node can have named the directory, which does not exist here yet.
    let rendered = chosen.filter(|path| !host.exists(path) && disks().any(|disk| is_store_on(&disk, path)));
    if let Some(chosen) = chosen.filter(|chosen| !ours.contains(chosen) && rendered.is_none()) {
        return Err(NoStore::Inapplicable(format!("{LOCAL_STORE_KEY} is set to {} already", chosen.display())));
    }
    if spark.rolls_event_logs(&settings.set) && named.is_none() {
        return Err(NoStore::Inapplicable(
            "event logs roll, so the history server lists applications while they run, and from a local store \
                    Spark can show the state in which somebody first opened an application for ever"
                .into(),
        ));
    }
    let name = store_name(reads);
    let existing = ours.iter().find(|path| path.ends_with(&name) && host.exists(path));
    let account = server_account(host, node);
    let owner = host.account(&account);
    let owner = owner.ok_or_else(|| NoStore::NoPlace(format!("this node has no user {account}")))?;
    let place = |directory: &Path| directory.ancestors().nth(2).unwrap_or(Path::new("/")).to_path_buf();
    let limits_chosen = || Chosen::read(receipt, settings, spark);
    let (directory, limits) = match (existing, rendered.filter(|path| path.ends_with(&name))) {
        // The limits follow from the room that the first install found. Later the store itself uses the room.
        (Some(path), _) => (path.to_path_buf(), Limits::written(receipt)),
        (None, Some(path)) => {
            let limits = usable(host, &place(path), &limits_chosen()).map_err(NoStore::NoPlace)?;
            (path.to_path_buf(), limits)
        }
        (None, None) => {
            let is_free = |disk: &Path| obstacle(host, receipt, &disk.join(LOCAL_DIR)).map_or(Ok(()), Err);
            let (disk, limits) = largest_disk(host, &limits_chosen(), &is_free).map_err(NoStore::NoPlace)?;
            (disk.join(LOCAL_DIR).join(&name), limits)
        }
    };
    let disk = place(&directory);
    let blocks = |dir: &Path| obstacle(host, receipt, &disk.join(LOCAL_DIR)).or_else(|| obstacle(host, receipt, dir));
    if let Some(why) = blocks(&directory) {
        return Err(NoStore::NoPlace(why));
    }
    if existing.is_none() && host.exists(&directory) {
        return Err(NoStore::NoPlace(format!("{} exists, and emr-shs did not make it", directory.display())));
    }
    let java_tmp = java_tmp(host, node, &disk).map_err(NoStore::Inapplicable)?;
    if let Some(why) = java_tmp.as_deref().and_then(blocks) {
        return Err(NoStore::NoPlace(why));
    }
    let earlier = earlier(host, receipt, &ours, &directory);
    Ok(LocalStore { directory, earlier, java_tmp, limits, account, owner })
}

/// What stands where emr-shs would have a directory for a store, and keeps emr-shs from having one. Everybody may write to a
/// disk such as `/mnt`, so everybody can make something of that name there.
pub(super) fn obstacle(host: &Host, receipt: &Receipt, dir: &Path) -> Option<String> {
    let name = dir.display();
    let meta = match host.metadata(dir) {
        Ok(meta) => meta?,
        Err(e) => return Some(format!("{name} cannot be a directory of emr-shs: {e:#}")),
    };
    let user = || host.account_name(meta.uid()).unwrap_or_else(|| meta.uid().to_string());
    if !meta.is_dir() {
        return Some(format!("{name} is {} of user {}, and not a directory", kind(&meta), user()));
    }
    let is_ours = receipt.entries.iter().any(|entry| {
        let (Resource::Dir { path } | Resource::Cache { path }) = &entry.resource else { return false };
        path == dir && !entry.ours.is_empty()
    });
    let is_parent = dir.ends_with(LOCAL_DIR);
    if is_parent && !is_ours && host.others_may_change(&meta) {
        return Some(format!("others than root can change {name}, which emr-shs did not make"));
    }
    // An installation gives a directory of emr-shs its owner back, but only where nobody else can have put another there.
    let is_anothers = is_parent && meta.uid() != file_owner(host).0;
    if is_anothers && !dir.parent().is_some_and(|disk| host.is_roots_alone(disk)) {
        return Some(format!("{name} belongs to user {} now", user()));
    }
    None
}

/// The stores that emr-shs made.
fn stores(receipt: &Receipt) -> impl Iterator<Item = &Path> {
    receipt.entries.iter().filter_map(|entry| match &entry.resource {
        Resource::Cache { path } if !path.ends_with(JAVA_TMP_DIR) => Some(path.as_path()),
        _ => None,
    })
}

/// Whether the receipt lists a local store.
pub(crate) fn is_managed(receipt: &Receipt) -> bool {
    stores(receipt).next().is_some()
}

fn is_store_on(disk: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.parent() == Some(&disk.join(LOCAL_DIR)) && name.starts_with("store-")
}

/// The name of a store's directory: readable, and different for each directory of event logs. Spark compares the whole
/// text of spark.history.fs.logDirectory.
fn store_name(reads: &str) -> String {
    let place = reads.split_once("://").map_or(reads, |(_, place)| place).to_ascii_lowercase();
    let words: Vec<&str> = place.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let readable: String = words.join("-").chars().take(40).collect();
    format!("store-{readable}-{}", short_digest([reads]))
}

/// The stores of earlier event logs that stay: those used last. A store of an emr-shs that had one store for all event
/// logs does not stay, because Spark has deleted its content.
fn earlier(host: &Host, receipt: &Receipt, ours: &[&Path], current: &Path) -> Vec<PathBuf> {
    let used = |path: &Path| {
        let listing = LISTINGS
            .iter()
            .chain(&[""])
            .find_map(|name| host.target(&path.join(name)).ok()?.metadata().ok()?.modified().ok());
        listing.unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let mut stay: Vec<PathBuf> = ours
        .iter()
        .filter(|path| **path != current && disks().any(|disk| is_store_on(&disk, path)) && host.exists(path))
        .filter(|path| obstacle(host, receipt, path).is_none())
        .map(|path| path.to_path_buf())
        .collect();
    stay.sort_by_key(|path| std::cmp::Reverse(used(path)));
    stay.truncate(STORES - 1);
    stay
}

/// Where Java may load native libraries from; `None` if it may from its own directory of temporary files. RocksDB, LevelDB
/// and Zstandard unpack a library there and load it, which a file system mounted with noexec refuses.
fn java_tmp(host: &Host, node: &Node, disk: &Path) -> Result<Option<PathBuf>, String> {
    const OPTION: &str = "-Djava.io.tmpdir=";
    let option = ["SPARK_HISTORY_OPTS", "SPARK_DAEMON_JAVA_OPTS"].iter().find_map(|variable| {
        let options = node.spark.env.get(*variable)?;
        options.split_whitespace().rev().find_map(|option| option.strip_prefix(OPTION))
    });
    let tmp = Path::new(option.unwrap_or("/tmp"));
    if !has_noexec(host, tmp) {
        return Ok(None);
    }
    let explain = |why: &str| {
        format!(
            "{} is mounted noexec, so Java cannot load the store's native library from there, and {why}",
            tmp.display()
        )
    };
    if option.is_some() {
        return Err(explain(&format!("{OPTION} in spark-env.sh names that directory")));
    }
    if has_noexec(host, disk) {
        return Err(explain(&format!("{} is mounted noexec too", disk.display())));
    }
    Ok(Some(disk.join(LOCAL_DIR).join(JAVA_TMP_DIR)))
}

impl LocalStore {
    /// The directories, and the drop-in that the store needs.
    pub(super) fn desired(&self, context: &Context<'_>) -> Vec<Desired> {
        let root = file_owner(context.host);
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        let mut desired = vec![
            // It belongs to root, so that the server's account cannot put a link in the place of a store.
            directory(parent, root, "holds the history server's local store"),
            self.cache(&self.directory, "what the history server has parsed of these event logs"),
        ];
        desired.extend(self.earlier.iter().map(|path| self.cache(path, "the same of the event logs before them")));
        if let Some(tmp) = &self.java_tmp {
            desired.push(self.cache(tmp, "Java loads native libraries from there, because /tmp is mounted noexec"));
        }
        let keeps_list = context.cache.is_none();
        let list = match keeps_list {
            true => {
                "# If the history server is killed while it reads an event log, it never lists that application. So the list of\n\
                 # applications stays only if the server ran for an hour and was then stopped. Otherwise the server makes it anew.\n"
            }
            false => {
                "# If the history server is killed while it reads an event log, it never lists that application. So the list of\n\
                 # applications goes, too.\n"
            }
        };
        desired.extend(drop_in(
            context.host,
            STORE_DROP_IN,
            &format!(
                "# Spark would show a parsed application as it was, although its event log has grown since.\n{list}"
            ),
            &format!("[Service]\n{}", self.service(context.node, keeps_list)),
            "deletes parsed applications at each start, because Spark does not notice that their event logs have grown",
        ));
        desired
    }

    fn cache(&self, path: &Path, why: &str) -> Desired {
        Desired {
            resource: Resource::Cache { path: path.into() },
            state: DesiredState::Directory { mode: 0o750, owner: self.owner },
            why: why.into(),
        }
    }

    /// The keys that bound the store: name, value, reason.
    pub(super) fn limits(&self) -> Vec<(&'static str, String, &'static str)> {
        let Some(limits) = &self.limits else { return Vec::new() };
        vec![
            (
                RETAINED_APPLICATIONS_KEY,
                limits.retained.to_string(),
                "each application that is open takes 75 MB of this small disk",
            ),
            (MAX_DISK_USAGE_KEY, format!("{}m", limits.usage_mib), "leaves a tenth of this small disk to others"),
        ]
    }

    /// Spark opens a parsed application without a look at its event log, also if the log has grown since. And it never lists an
    /// application whose event log it was parsing when it was killed (`docs/emr.md §7.4`). To make the list of the event logs in S3
    /// again takes minutes, so that list stays where the server had an hour to parse everything, and its JVM ended by SIGTERM: Spark then
    /// has five more seconds to finish what it parses. The list of the few event logs in the cache goes.
    ///
    /// The server's own account deletes, because that account can put anything there.
    fn service(&self, node: &Node, keeps_list: bool) -> String {
        let as_server = |first: &str, command: &str| {
            format!(
                "-/bin/sh -c '{first}set -- sh -c \"cd {} || exit; {command}\"; \
                 [ \"$$(id -u)\" != 0 ] || set -- {AS_ACCOUNT}{} -- \"$$@\"; exec \"$$@\"'",
                self.directory.display(),
                self.account
            )
        };
        let [list, other_list] = LISTINGS;
        // It deletes the marks in the other stores, too. If the server used another store before, that store still has an old mark. When
        // `install` goes back to that store, ExecStop would take the old mark for the mark of the server that it stops.
        let start = match keeps_list {
            true => format!(
                "rm -rf apps ../store-*/{STARTED}; rm {LIST_IS_WHOLE} 2>/dev/null || rm -rf {list} {other_list}; touch {STARTED}"
            ),
            false => format!("rm -rf apps ../store-*/{STARTED} {list} {other_list}"),
        };
        let mut text = format!("ExecStartPre={}\n", as_server("", &start));
        if keeps_list {
            // It comes after the unit's own. Some versions of systemd run it also after a server that was killed.
            let ended = format!(
                "[ \"$$(systemctl show -p ExecMainStatus {HISTORY_SERVER_UNIT})\" = ExecMainStatus={TERMINATED} ] || exit 0; "
            );
            let stop = format!("find {STARTED} -mmin +60 | grep -q . && mv -f {STARTED} {LIST_IS_WHOLE}");
            text.push_str(&format!("ExecStop={}\n", as_server(&ended, &stop)));
        }
        if let Some(tmp) = &self.java_tmp {
            let option = format!("-Djava.io.tmpdir={}", tmp.display());
            let server = node.server.as_ref();
            let set = server.and_then(|s| s.unit.environment.get(JAVA_OPTIONS)).map_or("", String::as_str);
            let others: Vec<&str> = set.split_whitespace().filter(|word| *word != option).collect();
            let value = others.into_iter().chain([option.as_str()]).collect::<Vec<_>>().join(" ");
            text.push_str("# /tmp is mounted noexec.\n");
            text.push_str(&environment(JAVA_OPTIONS, &value));
        }
        text
    }
}
