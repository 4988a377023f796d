//! Spark on the node: its version, its configuration, and the environment of its daemons.

use super::logger::{self, Lookups};
use super::spark_conf::{self, SparkConf};
use super::start_files::StartFiles;
use crate::error::Fault;
use crate::host::Host;
use crate::paths::{SCAN_INTERVAL_KEY, SPARK_DEFAULTS, SPARK_HOME};
use crate::properties::SparkDefaults;
use crate::shown::hint;
use crate::values::{SparkValue, TimeUnit};
use anyhow::Result;
use fs_err as fs;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A version of Spark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// `3.5.6-amzn-0`
    pub text: String,
    /// `(3, 5)`
    pub minor: (u32, u32),
}

impl Version {
    /// Reads `3.5.6-amzn-0`, or as little as `3.5`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-']).map(str::parse);
        let minor = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { text: text.into(), minor })
    }

    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.minor >= (major, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Spark on this node.
pub struct Spark {
    /// `/usr/lib/spark`
    pub home: PathBuf,
    /// From the name of the spark-core jar, else from the file RELEASE.
    pub version: Option<Version>,
    /// `/etc/spark/conf/spark-defaults.conf`: the first of a chain of links.
    pub defaults_path: PathBuf,
    pub defaults: SparkConf,
    /// The variables that spark-env.sh assigns, as far as emr-shs can tell without running the script.
    pub env: BTreeMap<String, String>,
    /// The scripts in which options of the history server's JVM can stand.
    pub(crate) start_files: StartFiles,
    /// The files into which the configuration makes the history server's logger write, beside the console.
    pub(super) configured_logs: Vec<PathBuf>,
    /// The logs that the running history server has open, beside the console.
    pub(super) open_logs: Vec<PathBuf>,
}

impl Spark {
    /// Fails only for a configuration that Spark cannot read either.
    pub fn observe(host: &Host) -> Result<Self> {
        let defaults_path = PathBuf::from(SPARK_DEFAULTS);
        let start_files = StartFiles::read(host)?;
        let env = assignments(start_files.spark_env());
        let mut this = Self {
            defaults: SparkConf::new(&read_defaults(host, &defaults_path)?, &env),
            env,
            defaults_path,
            start_files,
            ..Self::without_configuration(host)
        };
        let has_log4j2 = this.version.as_ref().is_none_or(|version| version.at_least(3, 3));
        let lookups = Lookups { env: &this.env, option: &|key| this.option(key) };
        this.configured_logs = logger::files(host, has_log4j2, &lookups);
        Ok(this)
    }

    /// Spark with an empty configuration, for one that cannot be read.
    pub fn without_configuration(host: &Host) -> Self {
        let home = PathBuf::from(SPARK_HOME);
        Self {
            version: version(host, &home),
            home,
            defaults_path: PathBuf::from(SPARK_DEFAULTS),
            defaults: SparkConf::default(),
            env: BTreeMap::new(),
            start_files: StartFiles::default(),
            configured_logs: Vec::new(),
            open_logs: Vec::new(),
        }
    }

    /// Hadoop's configuration directory for Spark's daemons.
    pub fn hadoop_conf(&self) -> PathBuf {
        PathBuf::from(self.env.get("HADOOP_CONF_DIR").map_or("/etc/hadoop/conf", String::as_str))
    }

    /// The log directory of Spark's daemons.
    pub fn log_dir(&self) -> PathBuf {
        PathBuf::from(self.env.get("SPARK_LOG_DIR").map_or("/var/log/spark", String::as_str))
    }

    /// A system property among the options of the history server's JVM, as far as emr-shs can read spark-env.sh.
    pub fn option(&self, key: &str) -> Option<&str> {
        spark_conf::options(&self.env).rfind(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Whether this Spark has `spark.eventLog.rolling.enabled`, with which jobs write event logs in parts. Spark
    /// 3.0 introduced the key (`docs/emr.md §7.1`).
    pub fn can_roll_event_logs(&self) -> bool {
        self.version.as_ref().is_none_or(|v| v.at_least(3, 0))
    }

    /// Whether jobs write event logs in parts, once these keys are set. Spark 4.0 made that the default
    /// (`docs/emr.md §7.1`).
    pub fn rolls_event_logs(&self, set: &BTreeMap<String, String>) -> bool {
        const KEY: &str = "spark.eventLog.rolling.enabled";
        let by_default = self.version.as_ref().is_some_and(|v| v.at_least(4, 0));
        let set = set.get(KEY).map(|text| self.defaults.value(text));
        let value = set.as_ref().or_else(|| self.defaults.get(KEY));
        self.can_roll_event_logs() && value.and_then(SparkValue::boolean).unwrap_or(by_default)
    }

    /// How often the history server scans its directory, according to spark-defaults.conf.
    pub fn scan_interval(&self) -> Duration {
        scan_interval(self.defaults.get(SCAN_INTERVAL_KEY))
    }

    /// The heap of the history server in MiB: `SPARK_DAEMON_MEMORY`, by default 1 GiB.
    pub fn daemon_heap_mib(&self) -> u64 {
        self.env.get("SPARK_DAEMON_MEMORY").and_then(|m| mebibytes(m)).unwrap_or(1024)
    }
}

/// Reads a properties file. The error for a file that Spark cannot read names the line.
pub(crate) fn read_defaults(host: &Host, path: &Path) -> Result<SparkDefaults> {
    parse_defaults(path, &host.read_bytes(path)?.unwrap_or_default())
}

/// Parses the bytes of a properties file. The error for bytes that Spark cannot read names the line.
pub(crate) fn parse_defaults(path: &Path, bytes: &[u8]) -> Result<SparkDefaults> {
    SparkDefaults::parse(bytes).map_err(|bad| {
        Fault::preflight(format!("{} cannot be read by Spark", path.display()))
            .detail(format!("line {}: {} is not a \\uXXXX escape", bad.line, bad.found))
            .hint(hint!("correct line {}; a backslash is written \\\\", bad.line))
            .into()
    })
}

fn version(host: &Host, home: &Path) -> Option<Version> {
    let jars = host.target(&home.join("jars")).ok()?;
    let from_jar = fs::read_dir(jars).ok().and_then(|dir| {
        dir.flatten().find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (_, version) = name.strip_prefix("spark-core_")?.strip_suffix(".jar")?.split_once('-')?;
            Version::parse(version)
        })
    });
    from_jar.or_else(|| {
        let release = host.read(&home.join("RELEASE")).ok()??;
        Version::parse(release.split_whitespace().nth(1)?)
    })
}

/// Reads a size such as `4g` or `4096m` as the JVM reads `-Xmx`.
pub(crate) fn mebibytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let n: u64 = digits.parse().ok()?;
    Some(match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b') {
        "" if text.len() == digits.len() => n >> 20,
        "k" => n >> 10,
        "m" => n,
        "g" => n << 10,
        "t" => n << 20,
        _ => return None,
    })
}

pub(crate) fn is_installed(host: &Host) -> bool {
    host.exists(&Path::new(SPARK_HOME).join("jars"))
}

/// How often a history server with this setting scans its directory.
pub(crate) fn scan_interval(setting: Option<&SparkValue>) -> Duration {
    setting.and_then(|interval| interval.time(TimeUnit::Seconds)).unwrap_or(Duration::from_secs(10))
}

/// The assignments in a shell script. This resolves quotes, continued lines, `+=`, `$NAME`, `${NAME}` and
/// `${NAME:-default}`, and copies everything else literally.
pub(super) fn assignments(script: &str) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for line in script.replace("\\\n", "").lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((name, value)) = line.split_once('=') else { continue };
        let (name, adds) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let value = expand(value, &env);
        let before = env.get(name).filter(|_| adds).cloned().unwrap_or_default();
        env.insert(name.into(), before + &value);
    }
    env
}

fn expand(value: &str, env: &BTreeMap<String, String>) -> String {
    let (value, literal) = match value.as_bytes() {
        [b'\'', ..] => (value[1..].split('\'').next().unwrap_or_default(), true),
        [b'"', ..] => (value[1..].split('"').next().unwrap_or_default(), false),
        _ => (value.split([' ', '\t', '#', ';']).next().unwrap_or_default(), false),
    };
    if literal {
        return value.into();
    }
    let mut out = String::new();
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, default, after) = if let Some(inner) = rest.strip_prefix('{') {
            let (inner, after) = inner.split_once('}').unwrap_or((inner, ""));
            let (name, default) = inner.split_once(":-").unwrap_or((inner, ""));
            (name, default, after)
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (&rest[..end], "", &rest[end..])
        };
        out.push_str(env.get(name).map_or(default, String::as_str));
        rest = after;
    }
    out.push_str(rest);
    out
}
