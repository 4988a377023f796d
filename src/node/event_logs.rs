//! Which entries of an event log directory the history server takes for event logs.
//!
//! The server decides by the kind of an entry, not by the form of its name: `EventLogFileReader` of Spark 3.0 to 4.1, and
//! `FsHistoryProvider` of Spark 2.4. The application's id comes from the content, so any name can be an event log.

use crate::node::spark::Version;

/// How Spark ends the names of compressed event logs.
const CODECS: [&str; 4] = [".zstd", ".lz4", ".lzf", ".snappy"];
/// The end of the name of a log that its application has not finished.
const IN_PROGRESS: &str = ".inprogress";
/// The beginning of the name of a directory that contains a rolling event log.
pub(crate) const ROLLING: &str = "eventlog_v2_";

/// An entry that the history server reads as an event log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventLogName {
    /// The name without what tells the codec and the state. If Spark gave the name, this is the attempt's [`Attempt::stem`].
    pub stem: String,
    /// Whether it is a directory of parts.
    pub is_rolling: bool,
    /// Whether the name says that the content is not compressed. The name of a rolling event log does not tell: only
    /// the names of its parts do.
    pub is_plain: bool,
    /// Whether Spark can have given the name. Spark writes lower-case letters, and no dot but that of a codec.
    pub is_of_spark: bool,
}

impl EventLogName {
    /// Reads an entry directly below the event log directory: the name of an object, or of a directory with a slash at
    /// its end. `None` for what the history server passes over.
    pub fn of_entry(name: &str, size: i64, spark: Option<&Version>) -> Option<Self> {
        if name.chars().any(char::is_control) {
            // Spark writes no such name.
            return None;
        }
        if let Some(directory) = name.strip_suffix('/') {
            let stem = directory.strip_prefix(ROLLING).filter(|stem| !stem.is_empty() && reads_rolling(spark))?;
            return Some(Self { stem: stem.into(), is_rolling: true, is_plain: false, is_of_spark: true });
        }
        if name.is_empty() || name.starts_with('.') || size <= 0 {
            return None;
        }
        let finished = name.strip_suffix(IN_PROGRESS).unwrap_or(name);
        let stem = without_codec(finished);
        // `application_1_0001.gz` is an event log that somebody has compressed, `README.md` is none.
        let named = stem.split_once('.').map_or(stem, |(named, _)| named);
        let has_id = named.contains(|c: char| c.is_ascii_digit());
        let is_of_spark = !named.starts_with('_') && sanitized(named) == named && (named == stem || has_id);
        Some(Self { stem: stem.into(), is_rolling: false, is_plain: !finished.contains('.'), is_of_spark })
    }
}

/// Whether this Spark reads rolling event logs. Spark 3.0 introduced them.
pub(crate) fn reads_rolling(spark: Option<&Version>) -> bool {
    spark.is_none_or(|version| version.at_least(3, 0))
}

/// One attempt of an application that the history server lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The application's id.
    pub application: String,
    /// Only YARN's cluster mode numbers attempts (`docs/emr.md §3.2`).
    pub attempt: Option<String>,
    /// When the event log was written, in seconds since 1970, as the server says.
    pub updated: Option<i64>,
    /// The version of Spark that wrote the event log.
    pub spark: Option<Version>,
}

impl Attempt {
    /// The name that Spark gives to the event log, without what tells the codec and the state.
    pub fn stem(&self) -> String {
        let application = sanitized(&self.application);
        match &self.attempt {
            Some(number) => format!("{application}_{}", sanitized(number)),
            None => application,
        }
    }
}

/// `Utils.sanitizeDirName`, with which Spark makes a file name of an id.
fn sanitized(id: &str) -> String {
    let safe = |c: char| match c {
        ' ' | ':' | '/' => '-',
        '.' | '$' | '{' | '}' | '\'' | '"' => '_',
        other => other,
    };
    id.chars().map(safe).collect::<String>().to_lowercase()
}

fn without_codec(name: &str) -> &str {
    CODECS.iter().find_map(|codec| name.strip_suffix(codec)).unwrap_or(name)
}

/// A file in the directory of a rolling event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RollingFile {
    /// It contains events.
    Part {
        is_plain: bool,
    },
    /// Its name tells whether the application has finished.
    Status,
    Other,
}

impl RollingFile {
    pub(crate) fn of_name(name: &str) -> Self {
        let is_plain = || !name.strip_suffix(".compact").unwrap_or(name).contains('.');
        match name {
            _ if name.starts_with("events_") => Self::Part { is_plain: is_plain() },
            _ if name.starts_with("appstatus_") => Self::Status,
            _ => Self::Other,
        }
    }
}
