//! The checks of the node itself: its role, its files, its jars, its disks.

use super::drift::{caused_by_drift, lacks_keys, lacks_links};
use crate::aws::uri::EventLogs;
use crate::change::resource::Resource;
use crate::desired::local_store;
use crate::doctor::check::{CheckResult, NotPassed, skip};
use crate::doctor::facts::{Facts, Mode, Observations};
use crate::error::Fault;
use crate::host::Host;
use crate::node::hadoop::EMRFS;
use crate::node::hadoop_client::server_account;
use crate::node::history_server::{HistoryServer, same_directory};
use crate::node::identity::{Identity, Role};
use crate::node::jars::Scheme;
use crate::node::provisioning::Provisioning;
use crate::node::{Node, jars, spark};
use crate::paths::{
    DEFERRED_INSTALL_UNIT, EVENT_LOG_DIR_KEY, HISTORY_SERVER_UNIT, JOBS_ACCOUNT, LOCAL_STORE_KEY, LOG_DIRECTORY_KEY,
    MAX_DISK_USAGE_KEY, RETAINED_APPLICATIONS_KEY, SPARK_HOME,
};
use crate::settings::LinkInto;
use crate::shown::{Hint, hint};
use crate::systemd as units;
use nix::sys::statvfs::statvfs;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The free bytes that every directory other than the local store needs.
const ROOM: u64 = 100 << 20;

pub(crate) fn primary(f: &Facts<'_>) -> CheckResult {
    let Identity { role, role_from, cluster_id, .. } = &f.node.identity;
    if *role == Role::Worker {
        return Err(Fault::preflight(
            "this node is not the cluster's primary node, which alone runs the history server",
        )
        .detail(format!("found the node's role in {}", role_from.as_deref().unwrap_or("its metadata")))
        .hint(match f.mode {
            Mode::Preflight { .. } => {
                "run emr-shs on the primary node; in a script that runs on every node, add --if-primary"
            }
            Mode::Live(_) => "run emr-shs on the primary node",
        })
        .into());
    }
    if !f.node.identity.is_emr() && !f.force() && spark::is_installed(f.host) {
        return Err(Fault::preflight("this does not look like an EMR node")
            .detail("found none of /mnt/var/lib/info/instance.json, extraInstanceData.json, job-flow.json")
            .hint(match f.mode {
                Mode::Preflight { .. } => {
                    "run emr-shs on the primary node of an EMR cluster; if this is one, add --force"
                }
                Mode::Live(_) => "run emr-shs on the primary node of an EMR cluster",
            })
            .into());
    }
    match role {
        Role::Primary => Ok(format!("primary node of {}", cluster_id.as_deref().unwrap_or("an unknown cluster"))),
        _ => skip("no file on this node names its role"),
    }
}

pub(crate) fn provisioning(f: &Facts<'_>) -> CheckResult {
    let observations = f.observations()?;
    if let Some(deferred) = &observations.deferred_install {
        let Some(failure) = &deferred.failure else {
            return skip(format!("{DEFERRED_INSTALL_UNIT} is {}", deferred.status()));
        };
        let fault =
            Fault::preflight(format!("the installation that waited for provisioning failed: {}", failure.message));
        let fault = failure.details.iter().fold(fault, |fault, line| fault.detail(line.as_str()));
        return Err(fault.detail("its unit tries again at the next boot").hint(failure.hint.clone()).into());
    }
    match Provisioning::observe(f.host) {
        Provisioning::Finished => Ok("finished".into()),
        _ if observations.is_pending => skip("EMR is still provisioning this node and has not installed Spark yet"),
        _ => skip("job-flow-state.txt does not say that provisioning has finished"),
    }
}

pub(crate) fn release(f: &Facts<'_>) -> CheckResult {
    if !spark::is_installed(f.host) {
        return Err(no_spark(f).into());
    }
    let spark = f.node.spark.version.as_ref().map_or("Spark of an unknown version".into(), |v| format!("Spark {v}"));
    match f.release() {
        Some(release) => Ok(format!("{release}, {spark}")),
        None => skip(format!("{spark}; neither the node's files nor EMR name the release")),
    }
}

fn no_spark(f: &Facts<'_>) -> Fault {
    let fault = Fault::preflight(format!("there is no Spark at {SPARK_HOME}"));
    if !f.node.identity.is_emr() {
        return fault
            .detail("no file says that this is an EMR node")
            .hint("run emr-shs on the primary node of an EMR cluster");
    }
    if Provisioning::observe(f.host) != Provisioning::Finished {
        return fault.detail("EMR is still provisioning this node; it installs Spark after bootstrap actions").hint(
            "sudo emr-shs install --event-logs s3://BUCKET/PREFIX/; it installs in the background once Spark is there",
        );
    }
    fault
        .detail("this is an EMR node, so Spark is not among the cluster's applications, or not installed yet")
        .hint("create the cluster with the application Spark, and run emr-shs as a step")
}

pub(crate) fn systemd(f: &Facts<'_>) -> CheckResult {
    if f.node.server.is_none() {
        return skip("a directory given with --root has no services");
    }
    require_service(f.node)?;
    Ok(format!("{HISTORY_SERVER_UNIT} exists"))
}

/// Refuses a machine without systemd.
pub(crate) fn require_systemd() -> Result<(), Fault> {
    if units::is_running() {
        return Ok(());
    }
    Err(Fault::preflight("this machine does not run systemd")
        .detail("/run/systemd/system does not exist")
        .unchanged()
        .hint("emr-shs needs systemd: EMR 5.30, 6.0 or newer. For an image build use --root DIR"))
}

/// Refuses a node whose history server cannot be restarted.
pub(crate) fn require_service(node: &Node) -> Result<(), Fault> {
    let Some(server) = &node.server else { return Ok(()) };
    require_systemd()?;
    if !server.unit.exists {
        return Err(Fault::preflight(format!("this node has no {HISTORY_SERVER_UNIT}"))
            .detail("EMR installs that unit on the primary node, together with the application Spark")
            .unchanged()
            .hint("list Spark's units: systemctl list-unit-files 'spark*'"));
    }
    if server.unit.is_masked {
        return Err(Fault::preflight(format!("{HISTORY_SERVER_UNIT} is masked, so nothing can start it"))
            .detail("somebody masked the unit: a link in its place leads to /dev/null")
            .unchanged()
            .hint(hint!("sudo systemctl unmask {}", HISTORY_SERVER_UNIT)));
    }
    Ok(())
}

pub(crate) fn defaults(f: &Facts<'_>) -> CheckResult {
    let path = &f.node.spark.defaults_path;
    if !f.host.exists(path) {
        return Err(Fault::preflight(format!("there is no {}", path.display()))
            .detail("EMR writes that file when it installs Spark")
            .unchanged()
            .hint("if EMR is still provisioning this node, run emr-shs as a step: steps begin after provisioning")
            .into());
    }
    if let Mode::Live(Observations { unreadable: Some(fault), .. }) = f.mode {
        return Err(fault.clone().into());
    }
    if let Some(fault) = unreadable_for(f).or_else(|| reads_others(f)) {
        return Err(fault.into());
    }
    let Mode::Live(_) = f.mode else {
        let wanted = match f.settings.index {
            true => Some("the event-log cache".into()),
            false => f.event_logs.map(ToString::to_string),
        };
        refuse_override(f, wanted)?;
        return Ok("readable".into());
    };
    refuse_override(f, f.node.spark.defaults.known_text(LOG_DIRECTORY_KEY).map(str::to_string))?;
    same_directory_for_jobs(f)?;
    match &f.node.server {
        Some(server) => runs_with_defaults(f, server),
        None => Ok("readable".into()),
    }
}

/// A configuration file that the account of the history server, or that of jobs, cannot read. A server that has read it before
/// somebody changed its mode does not come back from a restart.
fn unreadable_for(f: &Facts<'_>) -> Option<Fault> {
    // Below another root, directories above it can have any mode.
    let spark = f.node.spark.defaults_path.parent().filter(|_| f.host.is_live())?;
    let files = [
        f.node.spark.defaults_path.clone(),
        spark.join("spark-env.sh"),
        "/etc/hadoop/conf/core-site.xml".into(),
        "/etc/hadoop/conf/hdfs-site.xml".into(),
    ];
    let accounts = BTreeSet::from([server_account(f.host, f.node), JOBS_ACCOUNT.to_string()]);
    for name in accounts.iter().filter(|name| *name != "root") {
        let Some(account) = Account::of(f.host, name) else { continue };
        if let Some(file) = files.iter().find(|file| account.can_read(f.host, file) == Some(false)) {
            let whose = if name == JOBS_ACCOUNT { "jobs" } else { "the history server" };
            return Some(
                Fault::preflight(format!("{name}, the account of {whose}, cannot read {}", file.display()))
                    .detail("found a file, or a directory above it, whose mode keeps that account out")
                    .detail("a program that has started before the mode changed does not notice it before its next start")
                    .unchanged()
                    .hint(hint!("namei -l {}; give everybody the right to read it: sudo chmod a+r {}; and sudo chmod a+x for each directory that others cannot enter; then: sudo emr-shs restart", file, file)),
            );
        }
    }
    None
}

/// A running server that reads its settings from another file than the one that emr-shs changes.
fn reads_others(f: &Facts<'_>) -> Option<Fault> {
    let process = f.node.server.as_ref()?.process.as_ref()?;
    let ours = f.node.spark.defaults_path.canonicalize().ok()?;
    let named = process.args.iter().position(|arg| arg == "--properties-file").and_then(|at| process.args.get(at + 1));
    let (what, file) = match named {
        Some(file) => (format!("the option --properties-file {file}"), PathBuf::from(file)),
        None => {
            let directory = process.variable("SPARK_CONF_DIR").filter(|directory| !directory.is_empty())?;
            (format!("the variable SPARK_CONF_DIR={directory}"), Path::new(&directory).join("spark-defaults.conf"))
        }
    };
    if file.canonicalize().is_ok_and(|file| file == ours) {
        return None;
    }
    Some(
        Fault::preflight(format!(
            "the history server reads {}, and emr-shs changes {}",
            file.display(),
            f.node.spark.defaults_path.display()
        ))
        .detail(format!("found {what} in the process of the history server"))
        .detail("a drop-in of its unit, a file that the unit names, its start script or spark-env.sh can set that")
        .unchanged()
        .hint(hint!(
            "to see the unit with its drop-ins: systemctl cat {}; take the setting away, then: sudo systemctl daemon-reload; sudo systemctl restart {}; then type this command again",
            HISTORY_SERVER_UNIT, HISTORY_SERVER_UNIT
        )),
    )
}

/// Fails if a system property overrides the directory in spark-defaults.conf: a change of that file would
/// have no effect.
fn refuse_override(f: &Facts<'_>, wanted: Option<String>) -> Result<(), NotPassed> {
    match (f.system_property(LOG_DIRECTORY_KEY), wanted) {
        (Some(dir), Some(wanted)) if !same_directory(dir.text(), &wanted) => {
            Err(Fault::preflight("the history server gets its directory on its command line, which overrides spark-defaults.conf")
                .detail(format!("found -D{LOG_DIRECTORY_KEY}={dir}, wanted no such option"))
                .unchanged()
                .hint("remove the option from SPARK_HISTORY_OPTS in /etc/spark/conf/spark-env.sh (or in the cluster's spark-env classification, or in a drop-in of the unit), then: sudo systemctl daemon-reload; sudo systemctl restart spark-history-server; then type this command again")
                .into())
        }
        _ => Ok(()),
    }
}

/// Fails if jobs write to another directory than the one that the server reads.
fn same_directory_for_jobs(f: &Facts<'_>) -> Result<(), NotPassed> {
    let defaults = &f.node.spark.defaults;
    let (Some(written), Some(read), false) =
        (defaults.known_text(EVENT_LOG_DIR_KEY), defaults.known_text(LOG_DIRECTORY_KEY), f.settings.history_only)
    else {
        return Ok(());
    };
    // With the index, jobs write to S3, and the history server reads the event-log cache.
    if same_directory(written, read) || f.settings.index {
        return Ok(());
    }
    let fault = Fault::preflight(format!("jobs log to {written}, but the history server reads {read}"))
        .detail(format!(
            "found both in {}: {EVENT_LOG_DIR_KEY} and {LOG_DIRECTORY_KEY}",
            f.node.spark.defaults_path.display()
        ))
        .hint(match (f.event_logs, written.parse::<EventLogs>()) {
            (None, Ok(uri)) => hint!("sudo emr-shs install --event-logs {}", uri.to_string()),
            (None, Err(_)) => "set both keys to one directory, then: sudo emr-shs restart".into(),
            (Some(_), _) => f.install_again(),
        });
    Err(caused_by_drift(fault, lacks_keys(f)))
}

/// Whether the running server uses the settings in the files.
fn runs_with_defaults(f: &Facts<'_>, server: &HistoryServer) -> CheckResult {
    let outdated = |message: String| {
        Fault::preflight(message)
            .detail("the server reads its settings only when it starts")
            .hint("sudo emr-shs restart")
    };
    let heap = server.process.as_ref().and_then(|p| p.heap_mib());
    let wanted = f.node.server_heap_mib();
    if let Some(heap) = heap
        && heap != wanted
        && f.node.spark.env.contains_key("SPARK_DAEMON_MEMORY")
    {
        return Err(outdated(format!(
            "the history server runs with a heap of {heap} MiB, but spark-env.sh sets {wanted} MiB"
        ))
        .into());
    }
    let reads = server.answer.as_ref().and_then(|answer| answer.reads.as_deref());
    match (reads, f.node.spark.defaults.known_text(LOG_DIRECTORY_KEY)) {
        (Some(reads), Some(written)) if !same_directory(reads, written) => {
            let fault = outdated(format!("the history server reads {reads}, but spark-defaults.conf says {written}"));
            Err(caused_by_drift(fault, lacks_keys(f)))
        }
        (Some(reads), _) => Ok(format!("the server reads {reads}, as configured")),
        (None, _) => Ok("readable".into()),
    }
}

/// Why some checks of S3 do not apply with the index.
pub(super) const READS_CACHE: &str = "the history server reads the event-log cache, and not S3";

pub(crate) fn class_path(f: &Facts<'_>) -> CheckResult {
    let Some(uri) = f.event_logs else { return skip("the event logs are not in S3") };
    if f.settings.index {
        return skip(READS_CACHE);
    }
    let Some(scheme) = f.scheme else { return skip("no jars are wanted") };
    let scheme = scheme.as_ref().map_err(Clone::clone)?;
    scheme.links(f.host, &f.settings.jars, f.force()).map_err(|fault| match f.mode {
        Mode::Preflight { .. } => fault,
        Mode::Live(_) => two_versions(f, scheme).unwrap_or(fault),
    })?;
    let short = jars::short(&scheme.file_system);
    if f.is_preflight() {
        return Ok(format!("this node has {short}"));
    }
    if let Some(need) = scheme.needs.iter().find(|need| need.on_path.is_empty()) {
        let what = need.sdk.map_or(short.to_string(), |sdk| sdk.name().into());
        let fault = Fault::preflight(format!("the history server's class path lacks {what}"))
            .detail(format!("{} serves {}:// on this node", scheme.file_system, uri.scheme));
        let fault = match need.elsewhere.first() {
            Some(jar) => fault.detail(format!("the class is in {}", jar.display())),
            None => fault,
        };
        return Err(caused_by_drift(fault.hint(f.install_again()), lacks_links(f)));
    }
    Ok(match scheme.sdk() {
        Some(sdk) => format!("{short} and one version of {}", sdk.name()),
        None => format!("{short}, which contains its SDK"),
    })
}

/// The failure of a class path with two jars of one SDK, and what to remove.
fn two_versions(f: &Facts<'_>, scheme: &Scheme) -> Option<Fault> {
    let is_ours = |jar: &Path| f.receipt.entry(&Resource::Link { path: jar.into() }).is_some();
    let need = scheme.needs.iter().find(|need| need.sdk.is_some() && need.on_path.len() > 1)?;
    let foreign: Vec<PathBuf> = need.on_path.iter().filter(|jar| !is_ours(jar)).cloned().collect();
    let all_are_foreign = foreign.len() == need.on_path.len();
    let are_in_spark_jars = foreign.iter().all(|jar| jar.starts_with(f.node.spark.home.join("jars")));
    Some(need.two_versions(need.on_path.len()).hint(match (all_are_foreign, are_in_spark_jars) {
        (true, _) => Hint::from("remove all but one, then: sudo emr-shs restart"),
        (false, true) => hint!("sudo rm {}; then: sudo emr-shs install; sudo emr-shs restart", foreign.as_slice()),
        // Other programs can need jars in other directories.
        (false, false) => {
            "remove the jars that emr-shs did not link from SPARK_DAEMON_CLASSPATH, then: sudo emr-shs restart".into()
        }
    }))
}

/// Every job uploads Spark's jars directory if neither `spark.yarn.jars` nor `spark.yarn.archive` is set
/// (`docs/emr.md §2.3`).
pub(crate) fn job_uploads(f: &Facts<'_>) -> CheckResult {
    let defaults = &f.node.spark.defaults;
    if let Some(key) = ["spark.yarn.jars", "spark.yarn.archive"].into_iter().find(|key| defaults.get(key).is_some()) {
        return Ok(format!("{key} names the jars of jobs"));
    }
    let dir = f.node.spark.home.join("jars");
    let aws_jars: Vec<(PathBuf, u64)> = jars::jars_in(f.host, &dir)
        .into_iter()
        .filter(|jar| jars::is_of_aws(jar))
        .filter_map(|jar| Some((jar.clone(), f.host.target(&jar).ok()?.metadata().ok()?.len())))
        .collect();
    let size = aws_jars.iter().map(|(_, size)| size).sum::<u64>() >> 20;
    if aws_jars.is_empty() {
        return Ok(format!("no AWS SDK in {}", dir.display()));
    }
    if f.settings.link_into == LinkInto::SparkJars && !f.receipt.is_empty() {
        return Ok(format!("{size} MB of AWS jars, because of --link-into spark-jars"));
    }
    let leads_to_emr = |jar: &Path| {
        let target = f.host.target(jar).map(|real| f.host.inside(&real)).unwrap_or_default();
        target.starts_with("/usr/share/aws") || target.starts_with("/usr/lib/hadoop")
    };
    if aws_jars.iter().all(|(jar, _)| leads_to_emr(jar)) {
        return skip(format!("jobs upload {size} MB of links to EMR's AWS jars, which emr-shs did not make"));
    }
    let fault = Fault::preflight(format!("every job uploads {size} MB of AWS jars with Spark's own"));
    Err(aws_jars
        .iter()
        .fold(fault, |fault, (jar, _)| fault.detail(format!("found {}", jar.display())))
        .detail("neither spark.yarn.jars nor spark.yarn.archive is set, so every job uploads that directory")
        .hint(hint!("move those jars out of {}, then: {}", dir, f.install_again()))
        .into())
}

pub(crate) fn disk(f: &Facts<'_>) -> CheckResult {
    if !f.host.is_live() {
        return skip("a directory given with --root has no disks of its own");
    }
    let store = f.effective(LOCAL_STORE_KEY).map(|path| PathBuf::from(path.text()));
    let log = f.node.spark.log_dir();
    let directories = store
        .iter()
        .map(|path| (path.as_path(), store_needs(f, path)))
        .chain([(log.as_path(), ROOM), (Path::new("/"), ROOM)]);
    let mut least: Option<(u64, &Path)> = None;
    for (path, wanted) in directories {
        // The server makes a missing directory when it starts.
        let Some(existing) = path.ancestors().find(|p| p.exists()) else { continue };
        let Ok(fs) = statvfs(existing) else { continue };
        let free = fs.blocks_available() * fs.fragment_size();
        let no_inodes = fs.files() > 0 && fs.files_available() == 0;
        if free < wanted || no_inodes {
            let found = if no_inodes { "no inode".into() } else { format!("{} MB", free >> 20) };
            return Err(Fault::preflight(format!("{} has {found} left", path.display()))
                .detail(if no_inodes {
                    "wanted one for each new file".into()
                } else {
                    format!("wanted {} MB", wanted >> 20)
                })
                .hint(match no_inodes {
                    true => hint!(
                        "find the directory with the most files: df -i {}; sudo du -x --inodes {} | sort -n | tail",
                        path,
                        path
                    ),
                    false => hint!("find what fills the disk: df -h {}; sudo du -xh {} | sort -h | tail", path, path),
                })
                .into());
        }
        if least.is_none_or(|(least, _)| free < least) {
            least = Some((free, path));
        }
    }
    let more = store.as_deref().and_then(|store| outgrows_disk(f, store)).unwrap_or_default();
    match least {
        Some((free, path)) => Ok(format!("{} GB left at {}{more}", free >> 30, mount_point(path).display())),
        None => skip("no file system tells how much space is free"),
    }
}

/// The topmost directory of the file system that a directory lies on.
fn mount_point(dir: &Path) -> &Path {
    let device = |dir: &Path| dir.metadata().ok().map(|meta| meta.dev());
    let mut ancestors = dir.ancestors().skip_while(|dir| !dir.exists());
    let Some(mut at) = ancestors.next() else { return dir };
    for above in ancestors {
        if device(above) != device(at) {
            break;
        }
        at = above;
    }
    at
}

/// The free bytes that the local store's disk needs: what the store can still take, but at most a tenth of the disk.
fn store_needs(f: &Facts<'_>, store: &Path) -> u64 {
    store_growth(f, store).min(local_store::spared_at(store)) << 20
}

/// The MiB that the local store can still take, with the limits that the history server has.
fn store_growth(f: &Facts<'_>, store: &Path) -> u64 {
    let (retained, usage) = (f.effective(RETAINED_APPLICATIONS_KEY), f.effective(MAX_DISK_USAGE_KEY));
    local_store::growth(retained.as_ref(), usage.as_ref(), local_store::size_on_disk(store))
}

/// Says that the limits of the local store allow it more than its disk has. Others can have filled the disk since `install`
/// chose the limits, or raised these.
fn outgrows_disk(f: &Facts<'_>, store: &Path) -> Option<String> {
    let fs = statvfs(store.ancestors().find(|p| p.exists())?).ok()?;
    let (growth, free) = (store_growth(f, store), (fs.blocks_available() * fs.fragment_size()) >> 20);
    (growth > free).then(|| {
        format!(
            "; the local store can still take {growth} MB, and its disk has {free} MB: {RETAINED_APPLICATIONS_KEY} and \
             {MAX_DISK_USAGE_KEY} limit it"
        )
    })
}

/// Without a writable directory EMRFS fails with “Cannot create temp dirs” (`docs/emr.md §6.4`).
pub(crate) fn buffer(f: &Facts<'_>) -> CheckResult {
    let Some(uri) = f.event_logs else { return skip("the event logs are not in S3") };
    if f.settings.index {
        return skip(READS_CACHE);
    }
    if f.node.hadoop.file_system(&uri.scheme).as_deref() != Some(EMRFS) {
        return Ok(format!("not needed: EMRFS does not serve {}://", uri.scheme));
    }
    let Some(dirs) = f.node.hadoop.text("fs.s3.buffer.dir") else { return skip("fs.s3.buffer.dir is not set") };
    let name = server_account(f.host, f.node);
    let Some(account) = Account::of(f.host, &name) else {
        return skip(format!("this node has no user {name}"));
    };
    let dirs: Vec<&str> = dirs.split(',').map(str::trim).filter(|dir| !dir.is_empty() && !dir.contains("${")).collect();
    // EMRFS warns of a directory that it cannot use, and takes the next one.
    if let Some(dir) = dirs.iter().find(|dir| account.can_write(f.host, Path::new(dir))) {
        return Ok(format!("{dir} is writable"));
    }
    match dirs.first() {
        Some(dir) => {
            Err(Fault::preflight(format!("the user {name} cannot write to {dir}, the buffer directory of EMRFS"))
                .detail("fs.s3.buffer.dir in core-site.xml names the directory")
                .hint(hint!("sudo mkdir -p {}; sudo chown {}: {}", dir, name, dir))
                .into())
        }
        None => skip("fs.s3.buffer.dir names no directory that doctor can resolve"),
    }
}

/// An account of the node, by the files of its accounts.
struct Account {
    uid: u32,
    groups: BTreeSet<u32>,
}

impl Account {
    fn of(host: &Host, name: &str) -> Option<Self> {
        let (uid, gid) = host.account(name)?;
        let groups = host.read(Path::new("/etc/group")).ok().flatten().unwrap_or_default();
        let of_member = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            fields.get(3)?.split(',').any(|member| member == name).then(|| fields[2].parse().ok())?
        };
        Some(Self { uid, groups: groups.lines().filter_map(of_member).chain([gid]).collect() })
    }

    /// Whether it can read a file, by the modes of the file and of the directories above it; `None` if the file is not there, or if
    /// access lists can say something else.
    fn can_read(&self, host: &Host, file: &Path) -> Option<bool> {
        let real = host.target(file).ok().filter(|real| real.is_file())?;
        let bits = |path: &Path| Some(self.bits(&path.metadata().ok()?));
        let has_list = |path: &Path| {
            let mut buffer = [0; 256];
            !matches!(
                rustix::fs::getxattr(path, "system.posix_acl_access", &mut buffer[..]),
                Err(Errno::NODATA | Errno::NOTSUP)
            )
        };
        if real.ancestors().any(has_list) {
            return None;
        }
        let may_pass = real.ancestors().skip(1).all(|dir| bits(dir).is_none_or(|bits| bits & 0o1 != 0));
        Some(may_pass && bits(&real)? & 0o4 != 0)
    }

    /// Whether it can write to a directory, or create it.
    fn can_write(&self, host: &Host, dir: &Path) -> bool {
        let Some(real) = dir.ancestors().filter_map(|d| host.target(d).ok()).find(|d| d.exists()) else { return false };
        real.metadata().is_ok_and(|meta| self.bits(&meta) & 0o3 == 0o3)
    }

    /// What it may do with a file or a directory, as the last three bits of a mode.
    fn bits(&self, meta: &Metadata) -> u32 {
        if meta.uid() == self.uid {
            meta.mode() >> 6
        } else if self.groups.contains(&meta.gid()) {
            meta.mode() >> 3
        } else {
            meta.mode()
        }
    }
}

pub(crate) fn primaries(f: &Facts<'_>) -> CheckResult {
    if f.node.identity.multi_primary {
        return skip("this cluster has three primary nodes: install on each of them; a step runs on one of them only");
    }
    Ok("this is the only primary node".into())
}
