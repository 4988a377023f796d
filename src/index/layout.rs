//! Which objects below a source are event logs, in whatever layout: flat, in directories, or where EMR Serverless writes them.
//!
//! Whatever the history server would list if its directory were the one that contains the log is a log here. The names of the
//! directories above a log mean nothing.

use crate::ids::JobRun;
use crate::node::event_logs::{EventLogName, ROLLING, RollingFile};

/// How many directories may lie between a source and a log.
const MAX_DEPTH: usize = 8;
/// How many parts of a rolling log are kept. The event-log cache opens no log of more objects, and whoever may write event logs must not
/// fill the memory of whoever lists them.
pub(super) const MOST_PARTS: usize = 20_000;
/// What Spark puts behind the name of an object that is not finished.
const IN_PROGRESS: &str = ".inprogress";
/// What Spark puts behind the name of a part that replaces earlier parts.
const COMPACT: &str = ".compact";
/// What some file systems on S3 put behind the name of a directory.
const FOLDER: &str = "_$folder$";

/// An object of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Object {
    /// Below the source's prefix.
    pub(crate) key: String,
    /// In bytes.
    pub(crate) size: u64,
    /// In seconds since 1970.
    pub(crate) modified: i64,
    pub(crate) etag: String,
}

/// An event log that a listing shows. The columns of the table `log` say what the fields mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) modified: i64,
    pub(crate) etag: String,
    /// The objects with events, in the order in which Spark reads them: names below the directory with their sizes. Empty for
    /// a log that is one object.
    pub(crate) parts: Vec<(String, u64)>,
    pub(crate) is_closed: bool,
    pub(crate) codec: String,
    /// Why the history server reads no application from it, as far as the names tell.
    pub(crate) problem: Option<String>,
}

/// What an object is.
enum Kind<'k> {
    /// A log by itself.
    Single,
    /// In the directory of a rolling log, whose key is `directory`.
    Rolling { directory: &'k str, file: &'k str },
    /// The marker of a directory, a hidden object, an empty one.
    Nothing,
    /// No part of an event log.
    Foreign,
}

fn kind(object: &Object) -> Kind<'_> {
    let key = object.key.as_str();
    let names: Vec<&str> = key.split('/').collect();
    let Some((file, directories)) = names.split_last() else { return Kind::Nothing };
    if file.is_empty() || file.ends_with(FOLDER) || names.iter().any(|name| name.starts_with('.')) {
        return Kind::Nothing;
    }
    let is_rolling = |name: &&str| name.strip_prefix(ROLLING).is_some_and(|stem| !stem.is_empty());
    if let Some(at) = directories.iter().position(is_rolling) {
        let length: usize = directories[..=at].iter().map(|name| name.len() + 1).sum();
        let is_directly_below = at + 1 == directories.len();
        return match is_directly_below && at <= MAX_DEPTH {
            true => Kind::Rolling { directory: &key[..length], file },
            false => Kind::Foreign,
        };
    }
    if directories.len() > MAX_DEPTH {
        return Kind::Foreign;
    }
    match EventLogName::of_entry(file, i64::try_from(object.size).unwrap_or(i64::MAX), None) {
        None => Kind::Nothing,
        Some(name) if name.is_of_spark || is_codec(codec(file)) => Kind::Single,
        // Spark takes what follows the dot for a codec, and reads no log whose codec it does not know.
        Some(_) => Kind::Foreign,
    }
}

/// The codec of a log or of a part, as Spark takes it from the name: `none` if there is no dot.
fn codec(name: &str) -> &str {
    let name = name.strip_suffix(COMPACT).unwrap_or(name);
    let name = name.strip_suffix(IN_PROGRESS).unwrap_or(name);
    name.split_once('.').map_or("none", |(_, rest)| rest.rsplit('.').next().unwrap_or(rest))
}

pub(super) fn is_codec(word: &str) -> bool {
    ["none", "zstd", "lz4", "snappy", "lzf"].contains(&word)
}

/// Makes logs of objects, which come in the order of their keys.
#[derive(Default)]
pub(crate) struct Logs {
    rolling: Option<Rolling>,
    /// How many objects belong to no event log, and the key of the first.
    pub(crate) foreign: (u64, Option<String>),
}

/// The directory of a rolling log, as far as its objects have come.
struct Rolling {
    directory: String,
    /// Each part with its number in the log.
    parts: Vec<(u64, Object)>,
    /// Whether there are more parts than are kept.
    has_more: bool,
    /// Whether the object that tells the state says that the application has ended; `None` before it has come.
    is_closed: Option<bool>,
}

impl Logs {
    /// Takes the next object. Returns the log that is complete now: an earlier one, this one, or both.
    pub(crate) fn push(&mut self, object: Object) -> impl Iterator<Item = Found> + use<> {
        let (before, now) = match kind(&object) {
            Kind::Rolling { directory, file } => {
                let is_same = self.rolling.as_ref().is_some_and(|rolling| rolling.directory == directory);
                let before = if is_same { None } else { self.finish() };
                let (directory, file) = (directory.to_string(), file.to_string());
                let begin = || Rolling { directory, parts: Vec::new(), has_more: false, is_closed: None };
                self.rolling.get_or_insert_with(begin).push(&file, object);
                (before, None)
            }
            Kind::Single => (self.finish(), Some(single(object))),
            Kind::Nothing => (None, None),
            Kind::Foreign => {
                self.foreign.0 += 1;
                self.foreign.1.get_or_insert(object.key);
                (None, None)
            }
        };
        before.into_iter().chain(now)
    }

    /// The last log, if it is a rolling one.
    pub(crate) fn finish(&mut self) -> Option<Found> {
        self.rolling.take()?.found()
    }

    /// The directory of the log whose objects have not all come.
    pub(crate) fn directory(&self) -> Option<&str> {
        self.rolling.as_ref().map(|rolling| rolling.directory.as_str())
    }

    /// How many of its parts are kept.
    pub(crate) fn parts(&self) -> usize {
        self.rolling.as_ref().map_or(0, |rolling| rolling.parts.len())
    }

    /// Forgets that log.
    pub(crate) fn abandon(&mut self) {
        self.rolling = None;
    }
}

fn single(object: Object) -> Found {
    let name = object.key.rsplit('/').next().unwrap_or_default();
    let codec = codec(name).to_string();
    Found {
        is_closed: !name.ends_with(IN_PROGRESS),
        problem: unknown_codec(&codec),
        codec,
        size: object.size,
        modified: object.modified,
        etag: object.etag,
        parts: Vec::new(),
        key: object.key,
    }
}

fn unknown_codec(codec: &str) -> Option<String> {
    (!is_codec(codec)).then(|| format!("its name says that it is compressed with “{codec}”, which Spark does not read"))
}

impl Rolling {
    fn push(&mut self, file: &str, object: Object) {
        match RollingFile::of_name(file) {
            RollingFile::Part { .. } if self.parts.len() == MOST_PARTS => self.has_more = true,
            RollingFile::Part { .. } => {
                let number = file.split('_').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
                self.parts.push((number, Object { key: file.into(), ..object }));
            }
            // The finished state sorts before the unfinished one.
            RollingFile::Status => {
                self.is_closed.get_or_insert(!file.ends_with(IN_PROGRESS));
            }
            RollingFile::Other => {}
        }
    }

    /// `None` if there is no part: the history server passes over such a directory.
    fn found(mut self) -> Option<Found> {
        self.parts.sort_by(|(a, left), (b, right)| (a, left.key.len()).cmp(&(b, right.key.len())));
        // A compacted part replaces all earlier ones, and the one with its own number.
        let first = self.parts.iter().rposition(|(_, part)| part.key.ends_with(COMPACT)).unwrap_or(0);
        let parts = self.parts.split_off(first);
        let (_, tail) = parts.last()?;
        let codec = codec(&tail.key).to_string();
        let excess = self.has_more.then(|| format!("its directory contains more than {MOST_PARTS} parts"));
        let status = self.is_closed.is_none().then(|| "its directory lacks the object appstatus_…".to_string());
        let gap = parts.windows(2).find(|pair| pair[1].0 > pair[0].0.saturating_add(1));
        let gap = gap.map(|pair| format!("its directory lacks the part events_{}_…", pair[0].0.saturating_add(1)));
        Some(Found {
            size: parts.iter().fold(0, |sum, (_, part)| sum.saturating_add(part.size)),
            modified: parts.iter().map(|(_, part)| part.modified).max()?,
            etag: tail.etag.clone(),
            is_closed: self.is_closed.unwrap_or(false),
            // emr-shs reads no log with a problem.
            parts: if self.has_more { Vec::new() } else { names(parts) },
            problem: excess.or(status).or(gap).or_else(|| unknown_codec(&codec)),
            codec,
            key: self.directory,
        })
    }
}

/// The names of parts with their sizes.
fn names(parts: Vec<(u64, Object)>) -> Vec<(String, u64)> {
    parts.into_iter().map(|(_, part)| (part.key, part.size)).collect()
}

/// Where a listing goes on after an object that no log can lie beside.
pub(crate) enum Jump {
    /// Behind everything in this directory, whose key ends in a slash.
    Over(String),
    /// Behind the directory `jobs` of an application of EMR Serverless, which is listed by job runs. `applications` is the
    /// directory that contains the directories of applications.
    Runs { applications: String, jobs: String },
}

/// Directories below a cluster's in EMR's log archive. They have an object for each container or step, and no event log.
const ARCHIVE: [&str; 6] = ["containers", "node", "steps", "daemons", "provision-node", "hadoop-mapreduce"];

/// What EMR Serverless puts into the directory of a job run, or of an attempt of it. Other directories can be called `applications`
/// and `jobs`, too: without one of these names in it, nothing is taken for a job run.
const OF_RUN: [&str; 5] = ["SPARK_DRIVER", "SPARK_EXECUTOR", "sparklogs", "HIVE_DRIVER", "TEZ_TASK"];

/// Whether an object lies in a directory that a listing must not read object by object.
pub(crate) fn jump(key: &str) -> Option<Jump> {
    let names: Vec<&str> = key.split('/').collect();
    let up_to = |count: usize| names[..count].iter().map(|name| format!("{name}/")).collect::<String>();
    let is_archive = |pair: &[&str]| matches!(pair, [cluster, archive] if crate::ids::is_cluster(cluster) && ARCHIVE.contains(archive));
    // An archive has two names more at least below it.
    let archive = names.windows(2).take(MAX_DEPTH.min(names.len().saturating_sub(3))).position(is_archive);
    if let Some(at) = archive {
        return Some(Jump::Over(up_to(at + 2)));
    }
    let run = JobRun::of_path(&names).filter(|run| run.before < MAX_DEPTH)?;
    let is_of_run = names.len() > run.length + 1 && OF_RUN.contains(&names[run.length]);
    is_of_run.then(|| Jump::Runs { applications: up_to(run.before + 1), jobs: up_to(run.before + 3) })
}

/// The directory of the job run of EMR Serverless that wrote an event log, or of the run's attempt. `None` for any other log.
/// The executors' logs lie in that directory, too.
pub(crate) fn run_directory(key: &str) -> Option<&str> {
    let names: Vec<&str> = key.split('/').collect();
    let run = JobRun::of_path(&names).filter(|run| run.before < MAX_DEPTH)?;
    let length: usize = names[..run.length].iter().map(|name| name.len() + 1).sum();
    (names.get(run.length) == Some(&"sparklogs")).then(|| &key[..length])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{Jump, Logs, MOST_PARTS, Object, jump, run_directory};

    /// The logs of some objects: key, names of head and tail, number of parts, whether it is closed, codec, problem.
    fn logs(keys: &[(&str, u64)]) -> (Vec<String>, u64) {
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        let mut logs = Logs::default();
        let mut found = Vec::new();
        for (n, (key, size)) in sorted.iter().enumerate() {
            let object = Object { key: (*key).into(), size: *size, modified: n as i64, etag: format!("e{n}") };
            found.extend(logs.push(object));
        }
        found.extend(logs.finish());
        let row = |f: &super::Found| {
            let state = if f.is_closed { "closed" } else { "open" };
            let problem = f.problem.as_deref().map(|_| " problem").unwrap_or_default();
            let part = |at: Option<&(String, u64)>| at.map(|(name, _)| name.clone()).unwrap_or_default();
            let (head, tail) = (part(f.parts.first()), part(f.parts.last()));
            format!("{} {head}..{tail} {} {state} {}{problem}", f.key, f.size, f.codec)
        };
        (found.iter().map(row).collect(), logs.foreign.0)
    }

    #[test]
    fn logs_lie_in_any_layout() {
        let (found, foreign) = logs(&[
            ("application_1_0001", 5),
            ("application_1_0002.zstd", 5),
            ("application_1_0003.lz4.inprogress", 5),
            ("application_1_0004", 0),
            ("application_1_0005.gz", 5),
            ("local-17.snappy", 5),
            ("2026-11/application_1_0006_1.lzf", 5),
            ("dt=1/h=2/j-ABCDEFGH/spark-0c5f", 5),
            ("eventlog_v2_application_1_0007_1/appstatus_application_1_0007_1", 0),
            ("eventlog_v2_application_1_0007_1/events_8_application_1_0007_1.zstd", 5),
            ("eventlog_v2_application_1_0007_1/events_10_application_1_0007_1.zstd", 3),
            ("eventlog_v2_application_1_0007_1/events_9_application_1_0007_1.zstd", 4),
            ("eventlog_v2_application_1_0008/appstatus_application_1_0008.inprogress", 0),
            ("eventlog_v2_application_1_0008/events_1_application_1_0008", 7),
            ("eventlog_v2_application_1_0008/events_2_application_1_0008", 7),
            ("eventlog_v2_application_1_0008/events_2_application_1_0008.compact", 2),
            ("eventlog_v2_application_1_0008/events_3_application_1_0008", 1),
            ("eventlog_v2_application_1_0009/events_1_application_1_0009", 1),
            ("eventlog_v2_empty/appstatus_empty", 0),
            ("eventlog_v2_gap/appstatus_gap", 0),
            ("eventlog_v2_gap/events_1_gap", 1),
            ("eventlog_v2_gap/events_3_gap", 1),
            (
                "x/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/sparklogs/eventlog_v2_00f5trm1fv0d3p0c/appstatus_00f5trm1fv0d3p0c",
                0,
            ),
            (
                "x/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/sparklogs/eventlog_v2_00f5trm1fv0d3p0c/events_1_00f5trm1fv0d3p0c",
                9,
            ),
            ("x/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/SPARK_EXECUTOR/1/stderr.gz", 9),
            (".emr-shs/index-v1.zst", 5),
            ("a/.hidden/application_1_0001", 5),
            ("2026-11/", 0),
            ("2026-11_$folder$", 0),
            ("README.md", 5),
            ("1/2/3/4/5/6/7/8/9/application_1_0001", 5),
            ("eventlog_v2_application_1_0007_1/deeper/events_1_x", 5),
        ]);
        assert_eq!(
            found,
            [
                "2026-11/application_1_0006_1.lzf .. 5 closed lzf",
                "application_1_0001 .. 5 closed none",
                "application_1_0002.zstd .. 5 closed zstd",
                "application_1_0003.lz4.inprogress .. 5 open lz4",
                "application_1_0005.gz .. 5 closed gz problem",
                "dt=1/h=2/j-ABCDEFGH/spark-0c5f .. 5 closed none",
                "eventlog_v2_application_1_0007_1/ events_8_application_1_0007_1.zstd..events_10_application_1_0007_1.zstd 12 closed zstd",
                "eventlog_v2_application_1_0008/ events_2_application_1_0008.compact..events_3_application_1_0008 3 open none",
                "eventlog_v2_application_1_0009/ events_1_application_1_0009..events_1_application_1_0009 1 open none problem",
                "eventlog_v2_gap/ events_1_gap..events_3_gap 2 closed none problem",
                "local-17.snappy .. 5 closed snappy",
                "x/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/sparklogs/eventlog_v2_00f5trm1fv0d3p0c/ events_1_00f5trm1fv0d3p0c..events_1_00f5trm1fv0d3p0c 9 closed none",
            ]
        );
        assert_eq!(foreign, 4);
    }

    #[test]
    fn a_rolling_log_of_too_many_parts_is_named_and_takes_little_memory() {
        let mut logs = Logs::default();
        let mut push = |name: &str| {
            let object = Object { key: format!("eventlog_v2_x/{name}_x"), size: 1, ..Object::default() };
            assert_eq!(logs.push(object).count(), 0);
            logs.parts()
        };
        push("appstatus");
        for n in 1..MOST_PARTS {
            push(&format!("events_{n}"));
        }
        assert_eq!(push("events_20000"), MOST_PARTS);
        assert_eq!(push("events_20001"), MOST_PARTS);
        let found = logs.finish().unwrap();
        assert!(found.parts.is_empty() && found.is_closed, "{found:?}");
        assert_eq!(found.problem.as_deref(), Some("its directory contains more than 20000 parts"));
    }

    #[test]
    fn an_event_log_of_serverless_tells_the_directory_of_its_run() {
        let run = "x/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/";
        for (key, directory) in [
            (format!("{run}sparklogs/eventlog_v2_00f5trm1fv0d3p0c/"), Some(run.to_string())),
            (format!("{run}sparklogs/00f5trm1fv0d3p0c.zstd"), Some(run.into())),
            (format!("{run}attempts/2/sparklogs/eventlog_v2_00f5trm1fv0d3p0c/"), Some(format!("{run}attempts/2/"))),
            (format!("{run}attempts/two/sparklogs/eventlog_v2_x/"), None),
            (format!("{run}eventlog_v2_x/"), None),
            ("applications/00F5TRM1/jobs/00f5trm1fv0d3p0c/sparklogs/eventlog_v2_x/".into(), None),
            ("applications/00f5trm1fv0d3p0b/jobs/../sparklogs/eventlog_v2_x/".into(), None),
            ("sparklogs/application_1_0001".into(), None),
        ] {
            assert_eq!(run_directory(&key).map(str::to_string), directory, "{key}");
        }
    }

    #[test]
    fn listings_pass_over_container_logs() {
        let over = |key: &str| match jump(key) {
            Some(Jump::Over(directory)) => format!("over {directory}"),
            Some(Jump::Runs { jobs, .. }) => format!("runs of {jobs}"),
            None => "read".into(),
        };
        assert_eq!(
            over("emr/j-3H6EATEWWRWS/containers/application_1_0001/container_1/stderr.gz"),
            "over emr/j-3H6EATEWWRWS/containers/"
        );
        assert_eq!(over("j-3H6EATEWWRWS/node/i-1/applications/spark/x"), "over j-3H6EATEWWRWS/node/");
        assert_eq!(
            over("logs/applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/SPARK_DRIVER/stderr.gz"),
            "runs of logs/applications/00f5trm1fv0d3p0b/jobs/"
        );
        assert_eq!(
            over("applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/attempts/2/sparklogs/eventlog_v2_x/"),
            "runs of applications/00f5trm1fv0d3p0b/jobs/"
        );
        for key in [
            "j-3H6EATEWWRWS/application_1_0001",
            "applications/x",
            "2026-11/containers/application_1_0001",
            "a/b/c/d/e",
            // These words are no names of EMR Serverless alone.
            "applications/reporting/jobs/nightly01/application_1_0001",
            "applications/reporting/jobs/nightly01/attempts/2/application_1_0001",
            "applications/reporting/jobs/nightly01/sparklogs",
            "applications/reporting/jobs/2026-11/sparklogs/application_1_0001",
        ] {
            assert_eq!(over(key), "read", "{key}");
        }
    }
}
