//! Every file of a bundle: its name, what it is for, and how it is read. The checks and the answers are not here, because
//! they come from other places.

use super::answers::{JAR_DIRECTORIES, unit_text};
use super::read;
use crate::change::receipt::Receipt;
use crate::host::Host;
use crate::node::Node;
use crate::node::history_server::log_file;
use crate::node::identity::{INFO, Role};
use crate::node::process::Process;
use crate::paths::{
    DEFERRED_INSTALL_UNIT, GATEWAY_ENVIRONMENT, GATEWAY_SOCKET, GATEWAY_UNIT, HISTORY_SERVER_UNIT, RECEIPT,
    SETTINGS_DIR, SPARK_CONF, TAKEN_PORT_SOCKET,
};
use crate::redact::{protobuf_shape, shape};
use crate::systemd;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much of the end of a log a bundle contains.
const LOG: u64 = 384 << 10;
const JOURNAL: usize = 256 << 10;
const ASK: Duration = Duration::from_secs(8);
const UNITS: [&str; 5] = [HISTORY_SERVER_UNIT, GATEWAY_UNIT, GATEWAY_SOCKET, TAKEN_PORT_SOCKET, DEFERRED_INSTALL_UNIT];

/// A part of a file, by how it loses its secrets and names.
pub(super) enum Part {
    /// Free text.
    Text(String),
    /// A unit, or what `systemctl show` prints: text, with the variables of the environment as settings.
    Unit(String),
    /// Keys and values.
    Settings(Vec<(String, String)>),
    /// The receipt.
    Receipt(serde_json::Value),
    /// Options of a JVM.
    JavaOptions(Vec<String>),
}

/// A file of a bundle.
pub(super) struct Source {
    pub name: &'static str,
    pub purpose: &'static str,
    pub read: fn(&Host) -> Result<Vec<Part>>,
}

pub(super) const SOURCES: &[Source] = &[
    Source {
        name: "versions.txt",
        purpose: "the versions of emr-shs, EMR, Spark, Hadoop, Java, Linux and systemd",
        read: versions,
    },
    Source { name: "settings/spark-defaults.txt", purpose: "the keys of spark-defaults.conf", read: spark_defaults },
    Source {
        name: "settings/core-site.txt",
        purpose: "the keys of core-site.xml and emrfs-site.xml that concern file systems",
        read: core_site,
    },
    Source { name: "settings/spark-env.txt", purpose: "the variables of spark-env.sh", read: spark_env },
    Source { name: "settings/receipt.json", purpose: "what emr-shs installed, and with which settings", read: receipt },
    Source { name: "settings/gateway-env.txt", purpose: "the log gateway's settings", read: gateway_env },
    Source {
        name: "unit.txt",
        purpose: "the units of the history server and of emr-shs, with their drop-ins",
        read: units,
    },
    Source { name: "start-script.txt", purpose: "the script that the history server's unit runs", read: start_script },
    Source { name: "unit-state.txt", purpose: "what systemd says of these units", read: unit_states },
    Source {
        name: "process.txt",
        purpose: "the class path and the options of the running history server",
        read: process,
    },
    Source { name: "jars.txt", purpose: "the jars in the directories of Spark, Hadoop and AWS", read: jars },
    Source { name: "shapes.txt", purpose: "the shape of EMR's own files: names and types, no values", read: shapes },
    Source { name: "logs/history-server.txt", purpose: "the end of the history server's log", read: server_log },
    Source { name: "logs/journal.txt", purpose: "the end of the journal of these units", read: journal },
];

fn versions(host: &Host) -> Result<Vec<Part>> {
    let (node, _) = Node::read_leniently(host);
    let text = |path: &str| read::whole(host, Path::new(path)).ok().flatten().unwrap_or_default();
    let first = |text: String| text.lines().next().unwrap_or("unknown").to_string();
    let os = text("/etc/os-release");
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown").trim_matches('"');
    let systemd = host.is_live().then(systemd::version_line).flatten().unwrap_or_else(|| "unknown".into());
    let hadoop = read::names(host, Path::new("/usr/lib/hadoop")).unwrap_or_default();
    let hadoop = hadoop.iter().find_map(|name| {
        let version = name.strip_prefix("hadoop-common-").or(name.strip_prefix("hadoop-aws-"))?.strip_suffix(".jar")?;
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
    });
    let identity = &node.identity;
    let role = match identity.role {
        Role::Primary => "primary",
        Role::Worker => "core or task node",
        Role::Unknown => "unknown",
    };
    let memory = text("/proc/meminfo");
    let lines = [
        ("emr-shs", env!("CARGO_PKG_VERSION").to_string()),
        ("EMR release", identity.release.clone().unwrap_or_else(|| "unknown".into())),
        ("region", identity.region.clone().unwrap_or_else(|| "unknown".into())),
        ("role of this node", role.into()),
        ("three primary nodes", identity.multi_primary.to_string()),
        ("Spark", node.spark.version.as_ref().map_or("unknown".into(), ToString::to_string)),
        ("Hadoop", hadoop.unwrap_or("unknown").to_string()),
        ("Java", java(host, &node)),
        ("kernel", first(text("/proc/sys/kernel/osrelease"))),
        ("systemd", systemd),
        ("operating system", os.to_string()),
        (
            "processor",
            format!(
                "{}, {} cores",
                std::env::consts::ARCH,
                std::thread::available_parallelism().map_or(0, usize::from)
            ),
        ),
        ("memory", first(memory)),
        ("user of this command", if nix::unistd::geteuid().is_root() { "root" } else { "not root" }.into()),
    ];
    Ok(vec![Part::Text(lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect())])
}

/// The version in the file `release` of the Java that runs the history server.
fn java(host: &Host, node: &Node) -> String {
    let of_process = || {
        let process = Process::of_unit(&systemd::show(HISTORY_SERVER_UNIT).ok()?)?;
        let program = fs_err::read_link(format!("/proc/{}/exe", process.pid)).ok()?;
        Some(program.parent()?.parent()?.to_path_buf())
    };
    let home = if host.is_live() { of_process() } else { None };
    let Some(home) = home.or_else(|| node.spark.env.get("JAVA_HOME").map(PathBuf::from)) else {
        return "unknown".into();
    };
    // Java 8 runs from the directory `jre` of its home.
    let release =
        [home.join("release"), home.join("../release")].into_iter().find_map(|file| read::whole(host, &file).ok()?);
    let lines: Vec<String> = release
        .unwrap_or_default()
        .lines()
        .filter(|line| line.starts_with("JAVA_VERSION=") || line.starts_with("IMPLEMENTOR="))
        .map(|line| line.replace('"', ""))
        .collect();
    format!("{} {}", lines.join(" "), home.display())
}

fn spark_defaults(host: &Host) -> Result<Vec<Part>> {
    let (node, fault) = Node::read_leniently(host);
    let defaults = &node.spark.defaults;
    let pairs: Vec<(String, String)> =
        defaults.keys().map(|key| (key.into(), defaults.written(key).unwrap_or_default().into())).collect();
    match fault {
        Some(fault) if pairs.is_empty() => bail!("{fault}: {}", fault.details.join("; ")),
        _ => Ok(vec![Part::Settings(pairs)]),
    }
}

fn core_site(host: &Host) -> Result<Vec<Part>> {
    let (node, _) = Node::read_leniently(host);
    let heads =
        ["fs.", "hadoop.security.", "hadoop.http.", "hadoop.proxyuser.", "hadoop.tmp.dir", "hadoop.rpc.", "io."];
    let wanted = node.hadoop.names().filter(|name| heads.iter().any(|head| name.starts_with(head)));
    let pairs: Vec<(String, String)> =
        wanted.map(|name| (name.into(), node.hadoop.text(name).unwrap_or_default())).collect();
    let missing = node.hadoop.not_included.iter().map(|(file, reference)| {
        Part::Text(format!("# {} includes {reference}, which cannot be read\n", file.display()))
    });
    Ok(missing.chain([Part::Settings(pairs)]).collect())
}

fn spark_env(host: &Host) -> Result<Vec<Part>> {
    let path = Path::new(SPARK_CONF).join("spark-env.sh");
    read::whole(host, &path)?.with_context(|| format!("{} does not exist", path.display()))?;
    let (node, _) = Node::read_leniently(host);
    Ok(vec![Part::Settings(node.spark.env.into_iter().collect())])
}

fn receipt(host: &Host) -> Result<Vec<Part>> {
    let receipt = Receipt::load(host)?;
    if receipt.is_empty() && read::whole(host, Path::new(RECEIPT))?.is_none() {
        bail!("there is no receipt: emr-shs is not installed on this node");
    }
    Ok(vec![Part::Receipt(serde_json::to_value(&receipt)?)])
}

fn gateway_env(host: &Host) -> Result<Vec<Part>> {
    let path = Path::new(SETTINGS_DIR).join(GATEWAY_ENVIRONMENT);
    let Some(text) = read::whole(host, &path)? else {
        bail!("{} does not exist: no log gateway is installed", path.display())
    };
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.trim().to_string(), value.trim().trim_matches('"').to_string()));
    Ok(vec![Part::Settings(pairs.filter(|(name, _)| !name.starts_with('#')).collect())])
}

fn units(host: &Host) -> Result<Vec<Part>> {
    let texts: Vec<(&str, Result<String>)> = UNITS.iter().map(|unit| (*unit, unit_text(host, unit))).collect();
    if let [(_, Err(why)), ..] = texts.as_slice()
        && texts.iter().all(|(_, text)| text.is_err())
    {
        bail!("{why:#}");
    }
    let parts = texts.into_iter().flat_map(|(unit, text)| {
        let text = text.unwrap_or_else(|why| format!("not read: {why:#}\n"));
        [Part::Text(format!("==== {unit}\n")), Part::Unit(text), Part::Text("\n".into())]
    });
    Ok(parts.collect())
}

fn start_script(host: &Host) -> Result<Vec<Part>> {
    let text = unit_text(host, HISTORY_SERVER_UNIT).unwrap_or_default();
    let named = text.lines().filter_map(|line| {
        let command = line.trim().strip_prefix("ExecStart=").or(line.trim().strip_prefix("SourcePath="))?;
        command
            .split_whitespace()
            .find(|word| word.contains('/'))
            .map(|word| PathBuf::from(word.trim_start_matches(['-', '@', '+', '!'])))
    });
    let mut files: Vec<PathBuf> = named.chain([PathBuf::from("/etc/init.d/spark-history-server")]).collect();
    files.sort();
    files.dedup();
    let mut parts = Vec::new();
    for file in files {
        match read::whole(host, &file) {
            // A program is no script.
            Ok(Some(text)) if text.starts_with("#!") => {
                parts.push(Part::Text(format!("==== {}\n", file.display())));
                parts.push(Part::Text(text));
            }
            Ok(_) => {}
            Err(why) => parts.push(Part::Text(format!("==== {}\nnot read: {why:#}\n", file.display()))),
        }
    }
    if parts.is_empty() {
        bail!("the unit names no script, and /etc/init.d/spark-history-server does not exist");
    }
    Ok(parts)
}

fn unit_states(host: &Host) -> Result<Vec<Part>> {
    if !host.is_live() {
        bail!("a directory given with --root has no services");
    }
    let properties = "Id,LoadState,ActiveState,SubState,UnitFileState,FragmentPath,SourcePath,DropInPaths,Type,PIDFile,KillMode,\
        ExecStart,ExecStop,Environment,EnvironmentFiles,User,Group,Restart,RestartUSec,TimeoutStartUSec,TimeoutStopUSec,Result,\
        ExecMainStatus,ExecMainCode,MainPID,NRestarts,StatusText,ActiveEnterTimestamp,InactiveEnterTimestamp,InactiveExitTimestamp,\
        NeedDaemonReload,ControlGroup,Slice,LimitNOFILE,MemoryMax,MemoryLimit,PrivateTmp,ProtectSystem,ProtectHome,ReadWritePaths";
    let mut parts = Vec::new();
    for unit in UNITS {
        let args = ["--no-pager", "show", "-p", properties, unit];
        let text = read::output("systemctl", &args, ASK)?;
        parts.extend([Part::Text(format!("==== {unit}\n")), Part::Unit(text), Part::Text("\n".into())]);
    }
    Ok(parts)
}

fn process(host: &Host) -> Result<Vec<Part>> {
    if !host.is_live() {
        bail!("a directory given with --root has no processes");
    }
    let process = Process::of_unit(&systemd::show(HISTORY_SERVER_UNIT)?).context("the history server does not run")?;
    if process.args.is_empty() {
        bail!("only root can read the arguments of the history server's process");
    }
    let ports: Vec<String> = process.listens.iter().map(|at| at.port().to_string()).collect();
    let up = process.up().map_or("unknown".into(), |up| format!("{} s", up.as_secs()));
    let head = format!("running for {up}; listens on the ports {ports:?}; scans: {}\n\nclass path\n", process.scans);
    let class_path = process.class_path().unwrap_or("not in the arguments").split(':');
    let class_path: String = class_path.map(|element| format!("  {element}\n")).collect();
    let options = process.args.iter().skip(1).filter(|arg| arg.starts_with('-')).cloned().collect();
    Ok(vec![Part::Text(head + &class_path + "\noptions\n"), Part::JavaOptions(options)])
}

fn jars(host: &Host) -> Result<Vec<Part>> {
    let is_jar = |name: &str| name.ends_with(".jar");
    Ok(vec![Part::Text(JAR_DIRECTORIES.map(|dir| read::listing(host, Path::new(dir), is_jar) + "\n").concat())])
}

fn shapes(host: &Host) -> Result<Vec<Part>> {
    let mut text = String::new();
    for dir in INFO.map(Path::new) {
        _ = writeln!(text, "{}", read::listing(host, dir, |_| true));
        for name in ["instance.json", "extraInstanceData.json", "job-flow.json", "job-flow-state.txt"] {
            let file = dir.join(name);
            let content = match read::whole(host, &file) {
                Ok(None) => continue,
                Ok(Some(content)) => content,
                Err(why) => {
                    _ = writeln!(text, "==== {}\nnot read: {why:#}\n", file.display());
                    continue;
                }
            };
            let shape = match name.ends_with(".json") {
                true => serde_json::from_str(&content).map_or_else(
                    |why| format!("this is no JSON: line {}, column {}", why.line(), why.column()),
                    |json| serde_json::to_string_pretty(&shape(&json)).unwrap_or_default(),
                ),
                false => protobuf_shape(&content),
            };
            _ = writeln!(text, "==== {}\n{shape}\n", file.display());
        }
    }
    Ok(vec![Part::Text(text)])
}

fn server_log(host: &Host) -> Result<Vec<Part>> {
    let (node, _) = Node::read_leniently(host);
    // Its name contains the name of this machine where Spark's own script writes it.
    let log = log_file(&node.spark);
    let text = read::tail(host, &log, LOG)?;
    Ok(vec![Part::Text(format!("==== the end of {}\n", log.display())), Part::Text(text)])
}

fn journal(host: &Host) -> Result<Vec<Part>> {
    if !host.is_live() {
        bail!("a directory given with --root has no journal");
    }
    let units = UNITS.iter().flat_map(|unit| ["-u", unit]);
    let args: Vec<&str> = ["-q", "--no-pager", "-o", "short-iso", "-n", "1500"].into_iter().chain(units).collect();
    let text = read::output("journalctl", &args, ASK)?;
    Ok(vec![Part::Text(read::last_lines(&format!("\n{text}"), JOURNAL))])
}
