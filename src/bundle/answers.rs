//! What this node answers to the open questions. Each function only reads.

use super::{Checks, read};
use crate::change::receipt::Receipt;
use crate::host::Host;
use crate::node::Node;
use crate::node::hadoop::{EMRFS, S3A};
use crate::node::history_server::log_file;
use crate::node::identity::INFO;
use crate::node::jar;
use crate::node::jars::{ClassPath, Sdk, jars_in};
use crate::node::process::Process;
use crate::paths::{
    DROP_IN, HISTORY_SERVER_ACCOUNT, HISTORY_SERVER_UNIT, LINK_DIR, LOG_DIRECTORY_KEY, SPARK_DEFAULTS, UNIT_DIR,
};
use crate::redact::protobuf_shape;
use crate::systemd;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ASK_SYSTEMD: Duration = Duration::from_secs(5);
/// How much of a unit's text an answer shows. The file `unit.txt` has all of it.
const UNIT_LINES: usize = 40;
/// How much of the end of the history server's log is searched.
const LOG: u64 = 4 << 20;

/// What was found.
pub(crate) struct Answer {
    pub found: String,
    /// Whether a part of the answer needs a person.
    pub is_partial: bool,
}

impl Answer {
    pub(super) fn whole(found: impl Into<String>) -> Self {
        Self { found: found.into(), is_partial: false }
    }

    pub(super) fn partial(found: impl Into<String>) -> Self {
        Self { found: found.into(), is_partial: true }
    }
}

/// The text of a unit with its drop-ins, as systemd reads it.
pub(super) fn unit_text(host: &Host, unit: &str) -> Result<String> {
    if host.is_live() {
        return read::output("systemctl", &["--no-pager", "cat", unit], ASK_SYSTEMD);
    }
    let file = Path::new(UNIT_DIR).join(unit);
    let mut text = read::whole(host, &file)?.with_context(|| format!("{} does not exist", file.display()))?;
    let drop_ins = Path::new(UNIT_DIR).join(format!("{unit}.d"));
    for name in read::names(host, &drop_ins).unwrap_or_default() {
        let path = drop_ins.join(name);
        _ = write!(text, "\n# {}\n{}", path.display(), read::whole(host, &path)?.unwrap_or_default());
    }
    Ok(text)
}

fn must_be_live(host: &Host) -> Result<()> {
    if !host.is_live() {
        bail!("a directory given with --root has no services");
    }
    Ok(())
}

fn process(host: &Host) -> Result<Process> {
    must_be_live(host)?;
    Process::of_unit(&systemd::show(HISTORY_SERVER_UNIT)?).context("the history server does not run")
}

pub(super) fn unit(host: &Host) -> Result<Answer> {
    let text = unit_text(host, HISTORY_SERVER_UNIT)?;
    let mut found = String::new();
    if host.is_live() {
        let properties = "FragmentPath,SourcePath,DropInPaths,Type,PIDFile,KillMode,User,Restart";
        let args = ["--no-pager", "show", "-p", properties, HISTORY_SERVER_UNIT];
        found = read::output("systemctl", &args, ASK_SYSTEMD)?;
    }
    let lines: Vec<&str> = text.lines().take(UNIT_LINES).collect();
    Ok(Answer::whole(format!("{found}{}", lines.join("\n"))))
}

pub(super) fn environment(host: &Host) -> Result<Answer> {
    let drop_in = Path::new(UNIT_DIR).join(format!("{HISTORY_SERVER_UNIT}.d")).join(DROP_IN);
    if read::whole(host, &drop_in)?.is_none() {
        bail!("there is no drop-in of emr-shs on this node: emr-shs is not installed, or it links jars elsewhere");
    }
    let process = process(host)?;
    let path = process.class_path().context("the arguments of the process cannot be read; run this as root")?;
    let is_there = path.contains(LINK_DIR);
    let verdict = if is_there { "yes" } else { "no" };
    let has = if is_there { "contains" } else { "does not contain" };
    Ok(Answer::whole(format!(
        "{verdict}: {} exists, and the class path of the running process {has} {LINK_DIR}",
        drop_in.display()
    )))
}

pub(super) fn service_nanny(host: &Host) -> Result<Answer> {
    let dir = Path::new("/etc/service-nanny");
    if !host.exists(dir) {
        return Ok(Answer::partial(format!("{} does not exist", dir.display())));
    }
    let names = read::names(host, dir)?;
    let naming: Vec<&String> = names
        .iter()
        .filter(|name| {
            let text = read::whole(host, &dir.join(name)).ok().flatten().unwrap_or_default();
            text.contains("spark-history-server") || text.contains("HistoryServer")
        })
        .collect();
    Ok(Answer::partial(format!(
        "files in {}: {names:?}; those that name the history server: {naming:?}",
        dir.display()
    )))
}

pub(super) fn class_path(host: &Host) -> Result<Answer> {
    let process = process(host)?;
    let argument = process.class_path().context("the arguments of the process cannot be read; run this as root")?;
    let receipt = Receipt::load(host).unwrap_or_default();
    let is_ours = |path: &Path| path.starts_with(LINK_DIR) || receipt.created_link(path);
    let path = ClassPath::resolve(host, argument, true, &is_ours);
    let mut found = String::from("without the links of emr-shs, the running server takes\n");
    for class in [S3A, EMRFS, Sdk::V2.client(), Sdk::V1.client()] {
        let from = path.source_of(host, class).map_or("nowhere".into(), |jar| jar.display().to_string());
        _ = writeln!(found, "  {class} from {from}");
    }
    Ok(Answer::whole(found))
}

pub(super) fn bundles(host: &Host) -> Result<Answer> {
    let dir = Path::new("/usr/share/aws/aws-java-sdk-v2");
    let jars = jars_in(host, dir);
    if jars.is_empty() {
        return Ok(Answer::whole(format!("{} contains no jar", dir.display())));
    }
    let classes = ["org.slf4j.LoggerFactory", "org.slf4j.Logger", "io.netty.channel.Channel", "io.netty.util.Version"];
    let entries = classes.map(jar::entry_name);
    let mut found = String::new();
    for jar in jars {
        let contained = jar::find(&host.target(&jar)?, &entries.each_ref().map(String::as_str))?;
        let contained: Vec<&str> =
            classes.iter().zip(&contained).filter(|(_, entry)| entry.is_some()).map(|(class, _)| *class).collect();
        _ = writeln!(
            found,
            "{} contains {}",
            jar.display(),
            if contained.is_empty() { "none of them".into() } else { contained.join(", ") }
        );
    }
    Ok(Answer::whole(found))
}

/// The directories in which EMR keeps jars.
pub(super) const JAR_DIRECTORIES: [&str; 8] = [
    "/usr/share/aws/aws-java-sdk",
    "/usr/share/aws/aws-java-sdk-v2",
    "/usr/share/aws/emr/emrfs/lib",
    "/usr/share/aws/emr/emrfs/auxlib",
    "/usr/lib/hadoop",
    "/usr/lib/hadoop-mapreduce",
    "/usr/lib/emr-shs/jars",
    "/usr/lib/spark/jars",
];

pub(super) fn jars(host: &Host) -> Result<Answer> {
    let is_of_s3 = |name: &str| {
        let is_wanted = ["hadoop-aws", "aws-", "bundle", "emrfs", "spark-core"].iter().any(|part| name.contains(part));
        name.ends_with(".jar") && is_wanted
    };
    Ok(Answer::whole(JAR_DIRECTORIES.map(|dir| read::listing(host, Path::new(dir), is_of_s3)).concat()))
}

pub(super) fn metadata(host: &Host) -> Result<Answer> {
    Ok(Answer::whole(INFO.map(|dir| read::listing(host, Path::new(dir), |_| true)).concat()))
}

pub(super) fn job_flow_state(host: &Host) -> Result<Answer> {
    for dir in INFO {
        let file = Path::new(dir).join("job-flow-state.txt");
        if let Some(text) = read::whole(host, &file)? {
            let shape = protobuf_shape(&text);
            return Ok(Answer::partial(format!(
                "{}, as it is now, each value replaced by its type:\n{shape}",
                file.display()
            )));
        }
    }
    Ok(Answer::whole("there is no such file on this node"))
}

pub(super) fn drift(checks: &Checks) -> Option<Answer> {
    Some(Answer::partial(format!("at present: {}", checks.found("drift")?)))
}

pub(super) fn defaults_owner(host: &Host) -> Result<Answer> {
    let path = Path::new(SPARK_DEFAULTS);
    let target = host.target(path)?;
    let meta = fs_err::metadata(&target)?;
    Ok(Answer::whole(format!(
        "{} is {}: {}",
        path.display(),
        host.inside(&target).display(),
        read::rights(host, &meta)
    )))
}

pub(super) fn defaults(host: &Host) -> Result<Answer> {
    let (node, _) = Node::read_leniently(host);
    let defaults = &node.spark.defaults;
    let wanted = defaults
        .keys()
        .filter(|key| ["spark.history", "spark.eventLog", "spark.yarn"].iter().any(|head| key.starts_with(head)));
    let lines: Vec<String> = wanted.map(|key| format!("{key} {}", defaults.written(key).unwrap_or_default())).collect();
    let release = node.identity.release.as_deref().unwrap_or("unknown");
    Ok(Answer::whole(format!("release {release}; these keys are set:\n{}", lines.join("\n"))))
}

pub(super) fn keys(host: &Host) -> Result<Answer> {
    let jars = jars_in(host, Path::new("/usr/lib/spark/jars"));
    let is_core =
        |jar: &&PathBuf| jar.file_name().is_some_and(|name| name.to_string_lossy().starts_with("spark-core_"));
    let core = jars.iter().find(is_core).context("there is no spark-core_*.jar in /usr/lib/spark/jars")?;
    let real = host.target(core)?;
    let class = "org/apache/spark/internal/config/History$.class";
    let entry = jar::find(&real, &[class])?.into_iter().flatten().next();
    let Some(entry) = entry else { bail!("{} does not contain {class}", core.display()) };
    let bytes = jar::read(&real, entry)?;
    let has = |key: &str| {
        if memchr::memmem::find(&bytes, key.as_bytes()).is_some() { "contains" } else { "does not contain" }
    };
    let key = "logDirectory.names";
    Ok(Answer::partial(format!("{class} in {} {} {key}", core.display(), has(key))))
}

pub(super) fn described(checks: &Checks) -> Option<Answer> {
    Some(Answer::whole(match checks.described.as_ref()? {
        Ok(Some(uri)) => format!("yes; the log URI is {uri}"),
        Ok(None) => "yes; the answer has no log URI".into(),
        Err(why) => format!("no answer: {why}"),
    }))
}

pub(super) fn expired(host: &Host) -> Result<Answer> {
    let (node, _) = Node::read_leniently(host);
    let log = log_file(&node.spark);
    let text = read::tail(host, &log, LOG)?;
    let count = text.matches("ExpiredToken").count();
    let directory = node.spark.defaults.text(LOG_DIRECTORY_KEY).unwrap_or("no directory").to_string();
    let up = process(host)
        .ok()
        .and_then(|process| process.up())
        .map_or("unknown".into(), |up| format!("{} h", up.as_secs() / 3600));
    let found = format!(
        "{} contains ExpiredToken {count} times (in its last {} MB); the server has been running for {up}; it is configured for {directory}",
        log.display(),
        LOG >> 20
    );
    Ok(if directory.starts_with("s3a://") { Answer::whole(found) } else { Answer::partial(found) })
}

pub(super) fn runtime_roles(checks: &Checks) -> Option<Answer> {
    Some(Answer::partial(format!("doctor says: {}", checks.found("runtime roles")?)))
}

pub(super) fn buffers(host: &Host) -> Result<Answer> {
    let (node, _) = Node::read_leniently(host);
    let Some(dirs) = node.hadoop.text("fs.s3.buffer.dir") else { bail!("fs.s3.buffer.dir is not set") };
    let account = host.account(HISTORY_SERVER_ACCOUNT);
    let groups = host.read(Path::new("/etc/group"))?.unwrap_or_default();
    let members: BTreeMap<u32, bool> = groups
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let members = fields.get(3)?.split(',');
            Some((fields.get(2)?.parse().ok()?, members.into_iter().any(|name| name == HISTORY_SERVER_ACCOUNT)))
        })
        .collect();
    let mut found = String::new();
    for dir in dirs.split(',').map(str::trim) {
        let real = host.target(Path::new(dir))?;
        let Ok(meta) = fs_err::metadata(&real) else {
            _ = writeln!(found, "{dir} does not exist");
            continue;
        };
        let Some((user, group)) = account else { bail!("there is no user {HISTORY_SERVER_ACCOUNT}") };
        let mode = meta.permissions().mode();
        let is_member = meta.gid() == group || members.get(&meta.gid()).copied().unwrap_or_default();
        let may = match (meta.uid() == user, is_member) {
            (true, _) => mode & 0o200 != 0,
            (false, true) => mode & 0o020 != 0,
            (false, false) => mode & 0o002 != 0,
        };
        let verdict = if may { "yes" } else { "no" };
        _ = writeln!(found, "{dir}: {verdict}, by its mode {}", read::rights(host, &meta));
    }
    Ok(Answer::whole(found))
}
