//! The checks of the node itself: which it is, its files, its jars, its disks.

use crate::aws::uri::EventLogs;
use crate::change::resource::Resource;
use crate::desired::local_store;
use crate::doctor::{Facts, Found, Stop, skip};
use crate::error::Fault;
use crate::host::Host;
use crate::installed::drift::{self as installed, behind_drift};
use crate::node::Node;
use crate::node::hadoop::EMRFS;
use crate::node::history_server::same_directory;
use crate::node::identity::{Identity, Role};
use crate::node::jars::Scheme;
use crate::node::provisioning::Provisioning;
use crate::node::{jars, spark};
use crate::paths::{DEFERRED_INSTALL_UNIT, HISTORY_SERVER_UNIT, SPARK_HOME};
use crate::settings::LinkInto;
use crate::systemd as units;
use nix::sys::statvfs::statvfs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "spark.history.fs.logDirectory";
/// Free bytes that every other place needs.
const ROOM: u64 = 100 << 20;

/// Whether this is a primary node.
pub fn primary(f: &Facts<'_>) -> Found {
    let Identity { role, role_from, cluster_id, .. } = &f.node.identity;
    if *role == Role::Worker {
        return Err(Fault::preflight(
            "this node is not the cluster's primary node, and only that runs the history server",
        )
        .detail(format!("{} says so", role_from.as_deref().unwrap_or("its metadata")))
        .hint(match f.seen {
            None => "run it on the primary node; scripts that run on every node pass --if-primary",
            Some(_) => "run it on the primary node",
        })
        .into());
    }
    if !f.node.identity.is_emr() && !f.force && spark::is_installed(f.host) {
        return Err(Fault::preflight("this does not look like an EMR node")
            .detail("found none of /mnt/var/lib/info/instance.json, extraInstanceData.json, job-flow.json")
            .hint(match f.seen {
                None => "run it on the primary node of an EMR cluster, or add --force if this is one",
                Some(_) => "run it on the primary node of an EMR cluster",
            })
            .into());
    }
    let cluster = cluster_id.as_deref().unwrap_or("an unknown cluster");
    match role {
        Role::Primary => Ok(format!("of {cluster}")),
        _ => skip("nothing on the node tells"),
    }
}

/// Whether EMR is done with the node, and what became of an installation that waits for that.
pub fn provisioning(f: &Facts<'_>) -> Found {
    let Some(seen) = f.seen else { return skip("not looked at") };
    if let Some(waiting) = &seen.waiting {
        let Some(failure) = &waiting.failure else {
            return skip(format!("{DEFERRED_INSTALL_UNIT} is {}", waiting.doing()));
        };
        let fault = Fault::preflight(format!("the installation that waited for it failed: {}", failure.message));
        let fault = failure.details.iter().fold(fault, |fault, line| fault.detail(line.as_str()));
        return Err(fault.detail("its unit tries again at the next boot").hint(failure.hint.as_str()).into());
    }
    match Provisioning::observe(f.host) {
        Provisioning::Over => Ok("over".into()),
        _ if seen.is_pending => skip("EMR is not done with this node: Spark is not there yet"),
        _ => skip("job-flow-state.txt does not say that it is over"),
    }
}

/// Which release, and whether Spark is there.
pub fn release(f: &Facts<'_>) -> Found {
    if !spark::is_installed(f.host) {
        let fault = Fault::preflight(format!("there is no Spark at {}", SPARK_HOME));
        if f.node.identity.is_emr() && Provisioning::observe(f.host) != Provisioning::Over {
            return Err(fault
                .detail("EMR is not done with this node: it installs Spark after bootstrap actions")
                .hint("`emr-shs install` waits for that in the background")
                .into());
        }
        return Err(if f.node.identity.is_emr() {
            fault
                .detail("this is an EMR node, so Spark is not among its applications, or not installed yet")
                .hint("create the cluster with the application Spark, and run this as a step")
        } else {
            fault
                .detail("and nothing says that this is an EMR node")
                .hint("run it on the primary node of an EMR cluster")
        }
        .into());
    }
    let spark = f.node.spark.version.as_ref().map_or("Spark of an unknown version".into(), |v| format!("Spark {v}"));
    match f.release() {
        Some(release) => Ok(format!("{release}, {spark}")),
        None => skip(format!("{spark}; neither the node's files nor EMR name the release")),
    }
}

impl Facts<'_> {
    /// The release label, by the node's files or by EMR.
    pub fn release(&self) -> Option<String> {
        let described = || self.seen?.emr.as_ref()?.as_ref().ok()?.cluster.release.clone();
        self.node.identity.release.clone().or_else(described)
    }
}

/// Whether there is a unit to restart.
pub fn systemd(f: &Facts<'_>) -> Found {
    if f.node.server.is_none() {
        return skip("below another root there are no services");
    }
    has_service(f.node)?;
    Ok(format!("{HISTORY_SERVER_UNIT} is there"))
}

/// Refuses a machine without systemd.
pub fn has_systemd() -> Result<(), Fault> {
    if units::is_running() {
        return Ok(());
    }
    Err(Fault::preflight("this machine does not run systemd")
        .detail("/run/systemd/system is not there")
        .unchanged()
        .hint("emr-shs needs systemd: EMR 5.30, 6.0 or newer. For an image build use --root DIR"))
}

/// Refuses a node whose history server cannot be restarted.
pub fn has_service(node: &Node) -> Result<(), Fault> {
    let Some(server) = &node.server else { return Ok(()) };
    has_systemd()?;
    if !server.unit.exists {
        return Err(Fault::preflight(format!("this node has no {HISTORY_SERVER_UNIT}"))
            .detail("EMR installs it on the primary node with the application Spark")
            .unchanged()
            .hint("systemctl list-unit-files 'spark*' shows what there is"));
    }
    Ok(())
}

/// Whether the configuration can be read, and is what the server runs with.
pub fn defaults(f: &Facts<'_>) -> Found {
    let path = &f.node.spark.defaults_path;
    if !f.host.exists(path) {
        return Err(Fault::preflight(format!("there is no {}", path.display()))
            .detail("EMR writes it when it installs Spark")
            .unchanged()
            .hint("if this node is still being provisioned, run this as a step: steps begin when that is done")
            .into());
    }
    if let Some(fault) = f.seen.and_then(|seen| seen.unreadable.clone()) {
        return Err(fault.into());
    }
    no_override(f)?;
    if f.seen.is_none() {
        return Ok("can be read".into());
    }
    let defaults = &f.node.spark.defaults;
    if let (Some(written), Some(read), false) =
        (defaults.get("spark.eventLog.dir"), defaults.get(DIRECTORY), f.settings.history_only)
        && !same_directory(written, read)
    {
        let fault = Fault::preflight(format!("jobs log to {written}, and the history server reads {read}"))
            .detail(format!("{}: spark.eventLog.dir and {DIRECTORY}", path.display()))
            .hint(match (f.event_logs, written.parse::<EventLogs>()) {
                (None, Ok(uri)) => format!("sudo emr-shs install --event-logs {uri}"),
                (None, Err(_)) => "let both name one place, then: sudo emr-shs restart".into(),
                (Some(_), _) => f.install_again(),
            });
        return Err(behind_drift(fault, installed::lacks_keys(f)));
    }
    let Some(server) = &f.node.server else { return Ok("can be read".into()) };
    let heap = server.process.as_ref().and_then(|p| p.heap_mib());
    let wanted = f.node.spark.daemon_heap_mib();
    if heap.is_some_and(|heap| heap != wanted) && f.node.spark.env.contains_key("SPARK_DAEMON_MEMORY") {
        return Err(Fault::preflight(format!(
            "the history server runs with a heap of {} MiB, and spark-env.sh gives it {wanted} MiB",
            heap.unwrap_or_default()
        ))
        .detail("it reads its settings only when it starts")
        .hint("sudo emr-shs restart")
        .into());
    }
    let reads = server.answer.as_ref().and_then(|answer| answer.reads.as_deref());
    match (reads, defaults.get(DIRECTORY)) {
        (Some(reads), Some(written)) if !same_directory(reads, written) => {
            let fault = Fault::preflight(format!("the history server reads {reads}, and the file says {written}"))
                .detail("it reads its settings only when it starts")
                .hint("sudo emr-shs restart");
            Err(behind_drift(fault, installed::lacks_keys(f)))
        }
        (Some(reads), _) => Ok(format!("the server reads {reads}, as it says")),
        (None, _) => Ok("can be read".into()),
    }
}

/// A system property wins over spark-defaults.conf, so changing the file would do nothing.
fn no_override(f: &Facts<'_>) -> Result<(), Stop> {
    let wanted = match f.seen {
        None => f.event_logs.map(ToString::to_string),
        Some(_) => f.node.spark.defaults.get(DIRECTORY).map(str::to_string),
    };
    match (f.override_of(DIRECTORY), wanted) {
        (Some(dir), Some(wanted)) if !same_directory(&dir, &wanted) => {
            Err(Fault::preflight("the history server is told its directory on its command line, and that wins over spark-defaults.conf")
                .detail(format!("found -D{DIRECTORY}={dir}, wanted none"))
                .unchanged()
                .hint("take it out of SPARK_HISTORY_OPTS (/etc/spark/conf/spark-env.sh, or the spark-env classification), then: sudo emr-shs restart")
                .into())
        }
        _ => Ok(()),
    }
}

impl Facts<'_> {
    /// What the history server is, or will be, told for a key: a system property wins over the
    /// file.
    pub fn effective(&self, key: &str) -> Option<String> {
        let set = || self.settings.set.get(key).filter(|_| self.seen.is_none()).cloned();
        let written = || self.node.spark.defaults.get(key).map(str::to_string);
        self.override_of(key).or_else(set).or_else(written)
    }

    /// The value of a key on the server's command line, now or after its next start.
    fn override_of(&self, key: &str) -> Option<String> {
        let running = self.node.server.as_ref().and_then(|s| s.process.as_ref()).and_then(|p| p.property(key));
        let options = self.node.spark.env.get("SPARK_HISTORY_OPTS").into_iter().flat_map(|o| o.split_whitespace());
        let written = options.filter_map(|o| o.strip_prefix("-D")?.strip_prefix(key)?.strip_prefix('=')).next_back();
        running.or(written).map(str::to_string)
    }
}

/// Whether the scheme's class and its SDK are on the class path, or can be put there.
pub fn class_path(f: &Facts<'_>) -> Found {
    let Some(uri) = f.event_logs else { return skip("event logs are not in S3") };
    let Some(scheme) = f.scheme else { return skip("not looked at") };
    let scheme = scheme.as_ref().map_err(Clone::clone)?;
    scheme.links(f.host, &f.settings.jars, f.force).map_err(|fault| match f.seen {
        None => fault,
        Some(_) => twice(f, scheme).unwrap_or(fault),
    })?;
    let short = jars::short(&scheme.file_system);
    if f.seen.is_none() {
        return Ok(format!("{short} can be had"));
    }
    if let Some(need) = scheme.needs.iter().find(|need| need.on_path.is_empty()) {
        let what = need.sdk.map_or(short.to_string(), |sdk| sdk.name().into());
        let fault = Fault::preflight(format!("the history server's class path lacks {what}"))
            .detail(format!("{}:// is served by {}", uri.scheme, scheme.file_system));
        let fault = match need.elsewhere.first() {
            Some(jar) => fault.detail(format!("the class is in {}", jar.display())),
            None => fault,
        };
        return Err(behind_drift(fault.hint(f.install_again()), installed::lacks_links(f)));
    }
    let sdk = scheme.sdk().map_or("its own SDK".into(), |sdk| format!("{}, once each", sdk.name()));
    Ok(format!("{short} and {sdk}"))
}

/// Two jars of one SDK, with what mends it on a node that has them already.
fn twice(f: &Facts<'_>, scheme: &Scheme) -> Option<Fault> {
    let ours = |jar: &Path| f.receipt.entry(&Resource::Link { path: jar.into() }).is_some();
    let need = scheme.needs.iter().find(|need| need.sdk.is_some() && need.on_path.len() > 1)?;
    let foreign: Vec<String> =
        need.on_path.iter().filter(|jar| !ours(jar)).map(|jar| jar.display().to_string()).collect();
    let all = foreign.len() == need.on_path.len();
    let sdk = need.sdk.map_or("an SDK", |sdk| sdk.name());
    let fault =
        Fault::preflight(format!("the history server has {} jars of {sdk} on its class path", need.on_path.len()));
    let fault = need.on_path.iter().fold(fault, |fault, jar| fault.detail(format!("found {}", jar.display())));
    Some(
        fault.detail("wanted one; two versions end in NoSuchMethodError or NoSuchFieldError").hint(match all {
            true => "take all but one of them away, then: sudo emr-shs restart".into(),
            // Others live on what lies elsewhere.
            false if foreign.iter().all(|jar| Path::new(jar).starts_with(f.node.spark.home.join("jars"))) => {
                format!("sudo rm {}; then: sudo emr-shs install; sudo emr-shs restart", foreign.join(" "))
            }
            false => {
                "take the ones that are not linked by emr-shs out of SPARK_DAEMON_CLASSPATH, then: sudo emr-shs restart"
                    .into()
            }
        }),
    )
}

/// What every job uploads, because neither `spark.yarn.jars` nor `spark.yarn.archive` is set
/// (facts §11).
pub fn job_uploads(f: &Facts<'_>) -> Found {
    let defaults = &f.node.spark.defaults;
    if let Some(key) = ["spark.yarn.jars", "spark.yarn.archive"].into_iter().find(|key| defaults.get(key).is_some()) {
        return Ok(format!("{key} says what jobs use"));
    }
    let dir = f.node.spark.home.join("jars");
    let foreign: Vec<(PathBuf, u64)> = jars::jars_in(f.host, &dir)
        .into_iter()
        .filter(|jar| jars::is_of_aws(jar))
        .filter_map(|jar| Some((jar.clone(), f.host.target(&jar).ok()?.metadata().ok()?.len())))
        .collect();
    let size = foreign.iter().map(|(_, size)| size).sum::<u64>() >> 20;
    if foreign.is_empty() {
        return Ok(format!("no AWS SDK in {}", dir.display()));
    }
    if f.settings.link_into == LinkInto::SparkJars && !f.receipt.is_empty() {
        return Ok(format!("{size} MB of AWS jars, by --link-into spark-jars"));
    }
    let of_emr = |jar: &Path| {
        let target = f.host.target(jar).map(|real| f.host.inside(&real)).unwrap_or_default();
        target.starts_with("/usr/share/aws") || target.starts_with("/usr/lib/hadoop")
    };
    if foreign.iter().all(|(jar, _)| of_emr(jar)) {
        return skip(format!("{size} MB of links to EMR's AWS jars, by EMR itself or by somebody; jobs upload them"));
    }
    let names: Vec<String> = foreign.iter().map(|(jar, _)| jar.display().to_string()).collect();
    let fault = Fault::preflight(format!("every job uploads {size} MB of AWS jars with Spark's own"));
    Err(names
        .iter()
        .fold(fault, |fault, name| fault.detail(format!("found {name}")))
        .detail("neither spark.yarn.jars nor spark.yarn.archive is set, so jobs upload that directory")
        .hint(format!("take them out of {}, then: {}", dir.display(), f.install_again()))
        .into())
}

/// Whether there is room.
pub fn disk(f: &Facts<'_>) -> Found {
    if !f.host.is_live() {
        return skip("below another root disks say nothing");
    }
    let store = f.effective("spark.history.store.path").map(PathBuf::from);
    let log = f.node.spark.log_dir();
    let places = store
        .iter()
        .map(|path| (path.as_path(), local_store::ROOM))
        .chain([(log.as_path(), ROOM), (Path::new("/"), ROOM)]);
    let mut least: Option<(u64, &Path)> = None;
    for (path, wanted) in places {
        // A directory that is made at the next start.
        let Some(there) = path.ancestors().find(|p| p.exists()) else { continue };
        let Ok(fs) = statvfs(there) else { continue };
        let free = fs.blocks_available() * fs.fragment_size();
        let no_inodes = fs.files() > 0 && fs.files_available() == 0;
        if free < wanted || no_inodes {
            let found = if no_inodes { "no inode".into() } else { format!("{} MB", free >> 20) };
            return Err(Fault::preflight(format!("{} has {found} left", path.display()))
                .detail(format!("wanted {} MB", wanted >> 20))
                .hint(format!("see what fills it: df -h {0}; du -xh {0} | sort -h | tail", path.display()))
                .into());
        }
        if least.is_none_or(|(least, _)| free < least) {
            least = Some((free, path));
        }
    }
    match least {
        Some((free, path)) => Ok(format!("{} GB left at {}", free >> 30, path.display())),
        None => skip("no file system tells"),
    }
}

/// Whether EMRFS can buffer (facts §6.3: “Cannot create temp dirs”).
pub fn buffer(f: &Facts<'_>) -> Found {
    let Some(uri) = f.event_logs else { return skip("event logs are not in S3") };
    if f.node.hadoop.file_system(&uri.scheme) != Some(EMRFS) {
        return Ok(format!("{}:// is not served by EMRFS", uri.scheme));
    }
    let Some(dirs) = f.node.hadoop.get("fs.s3.buffer.dir") else { return skip("fs.s3.buffer.dir is not set") };
    let Some(user) = f.host.account("spark") else { return skip("there is no user spark") };
    let all = dirs.split(',').map(str::trim).filter(|dir| !dir.is_empty() && !dir.contains("${"));
    let all: Vec<&str> = all.collect();
    // EMRFS warns of one that it cannot use, and takes the next.
    if let Some(dir) = all.iter().find(|dir| may_write(f.host, Path::new(dir), "spark", user)) {
        return Ok(format!("{dir} is writable"));
    }
    match all.first() {
        Some(dir) => Err(Fault::preflight(format!("the user spark may not write to {dir}, where EMRFS buffers"))
            .detail("fs.s3.buffer.dir in core-site.xml names it")
            .hint(format!("sudo mkdir -p {dir}; sudo chown spark:spark {dir}"))
            .into()),
        None => skip(format!("fs.s3.buffer.dir is {dirs}")),
    }
}

/// Whether an account may write to a directory, or make it.
fn may_write(host: &Host, dir: &Path, name: &str, (uid, gid): (u32, u32)) -> bool {
    let Some(real) = dir.ancestors().filter_map(|d| host.target(d).ok()).find(|d| d.exists()) else { return false };
    let Ok(meta) = real.metadata() else { return false };
    let groups = host.read(Path::new("/etc/group")).ok().flatten().unwrap_or_default();
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        fields.get(2) == Some(&meta.gid().to_string().as_str())
            && fields.get(3).is_some_and(|members| members.split(',').any(|m| m == name))
    };
    let bits = if meta.uid() == uid {
        meta.mode() >> 6
    } else if meta.gid() == gid || groups.lines().any(member) {
        meta.mode() >> 3
    } else {
        meta.mode()
    };
    bits & 0o3 == 0o3
}

/// Whether other primary nodes need the same.
pub fn primaries(f: &Facts<'_>) -> Found {
    if f.node.identity.multi_primary {
        return skip("one of three primary nodes; see that the others have it: a step reaches one of them");
    }
    Ok("this is the only one".into())
}
