//! The history server's log file.

use crate::files;
use crate::node::log_diagnosis::{self, Diagnosis};
use crate::node::spark::Spark;
use fs_err as fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// At most this much of the end of a log is read.
pub(crate) const LOG_TAIL: u64 = 4 << 20;
/// The name of the log that EMR's start script writes.
const LOG_OF_EMR: &str = "spark-history-server.out";
/// How many bytes at the beginning of a log tell one log from its successor.
const HEAD: u64 = 512;

/// The positions in the console's log and in those of the logger. Later, [`since`](Self::since) returns what was written
/// after them.
pub(super) struct LogPosition(Vec<Position>);

struct Position {
    path: PathBuf,
    length: u64,
    head: Vec<u8>,
}

impl LogPosition {
    /// The present ends of the logs.
    pub(super) fn end(spark: &Spark) -> Self {
        let logs = [console_log(spark)].into_iter().chain(spark.configured_logs.iter().cloned());
        Self(logs.map(Position::end).collect())
    }

    /// What was written after the positions: to the console, then by the logger.
    pub(super) fn since(&self) -> String {
        let [console, others @ ..] = self.0.as_slice() else { return String::new() };
        let mut text = console.since();
        if !log_diagnosis::is_of_logger(&text) {
            text.extend(others.iter().map(|log| format!("\n{}", log.since())));
        }
        text
    }

    /// The log to which the logger writes: the console's, unless only another one has grown.
    pub(super) fn path(&self) -> PathBuf {
        let has_console = self.0.first().is_some_and(|console| log_diagnosis::is_of_logger(&console.since()));
        let other = self.0.iter().skip(1).find(|log| !has_console && !log.since().is_empty());
        other.or(self.0.first()).map(|log| log.path.clone()).unwrap_or_default()
    }
}

impl Position {
    fn end(path: PathBuf) -> Self {
        let length = files::open(&path).and_then(|file| file.metadata()).map_or(0, |meta| meta.len());
        Self { head: head(&path), path, length }
    }

    /// EMR's start script truncates the log (`docs/emr.md §3.1`), so a log with another head is new and counts as a
    /// whole.
    fn since(&self) -> String {
        let is_same_log = !self.head.is_empty() && head(&self.path).starts_with(&self.head);
        let from = |length: u64| if is_same_log && length >= self.length { self.length } else { 0 };
        read_from(&self.path, from).unwrap_or_default()
    }
}

/// An unreadable log has an empty head, so it counts as new.
fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = files::open(path) {
        let _ = file.take(HEAD).read_to_end(&mut head);
    }
    head
}

fn read_from(path: &Path, from: impl Fn(u64) -> u64) -> io::Result<String> {
    let mut file = files::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from(length).max(length.saturating_sub(LOG_TAIL))))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The log of the history server's logger: the console's, unless the logger writes to a file alone.
pub(crate) fn log_file(spark: &Spark) -> PathBuf {
    let console = console_log(spark);
    logger_log(spark, &console).unwrap_or(console)
}

/// The log that the logger writes, if it does not write to the console.
fn logger_log(spark: &Spark, console: &Path) -> Option<PathBuf> {
    // What the start script and the JVM write is short.
    const SHORT: u64 = 1 << 16;
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let is_mute = match fs::metadata(console) {
        Ok(meta) => meta.len() < SHORT && !log_diagnosis::is_of_logger(&read_from(console, |_| 0).ok()?),
        Err(e) => e.kind() == ErrorKind::NotFound,
    };
    let begun = modified(console);
    let configured = spark.configured_logs.iter().filter(|path| modified(path) >= begun);
    let logs = spark.open_logs.iter().chain(configured).filter(|path| *path != console && path.is_file());
    logs.filter(|_| is_mute).max_by_key(|path| modified(path)).cloned()
}

/// What stands in the place of the log that EMR's start script writes, if no script can write there: a shell waits for
/// ever until somebody reads a pipe, and cannot open a directory or a socket (`docs/emr.md §3.1`).
pub(crate) fn in_place_of_log(spark: &Spark) -> Option<(PathBuf, &'static str)> {
    let path = spark.log_dir().join(LOG_OF_EMR);
    let meta = fs::metadata(&path).ok()?;
    let kind = meta.file_type();
    (kind.is_fifo() || kind.is_dir() || kind.is_socket()).then(|| (path, files::kind(&meta)))
}

/// The log that EMR's unit writes; without one, the newest log of Spark's own start scripts.
fn console_log(spark: &Spark) -> PathBuf {
    let dir = spark.log_dir();
    let of_emr = dir.join(LOG_OF_EMR);
    if of_emr.exists() {
        return of_emr;
    }
    let logs = fs::read_dir(&dir).into_iter().flatten().flatten().filter(|e| {
        let name = e.file_name();
        let name = name.to_string_lossy();
        name.contains("HistoryServer") && name.ends_with(".out")
    });
    logs.max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok()).map_or(of_emr, |e| e.path())
}

/// Why nothing of the log could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoLog {
    Missing,
    /// This user must not read it.
    Denied,
    /// Something else has its place, such as a pipe, or it cannot be read for another reason.
    Unreadable(String),
}

/// The end of the log, and how long ago the server last wrote to it.
pub(crate) fn log_tail(spark: &Spark) -> Result<(String, Duration), NoLog> {
    let console = console_log(spark);
    let logger = logger_log(spark, &console);
    let path = logger.as_ref().unwrap_or(&console);
    let mut text = read_from(path, |_| 0).map_err(|e| match e.kind() {
        ErrorKind::NotFound => NoLog::Missing,
        ErrorKind::PermissionDenied => NoLog::Denied,
        _ => NoLog::Unreadable(e.to_string()),
    })?;
    if logger.is_some() {
        // What the JVM says of its death is there.
        text = read_from(&console, |_| 0).unwrap_or_default() + "\n" + &text;
    }
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
    Ok((text, age.unwrap_or_default()))
}

/// The first known error in the present log, for a server that has died.
pub(crate) fn first_known_error(spark: &Spark) -> Option<Diagnosis> {
    log_diagnosis::diagnose(&log_tail(spark).ok()?.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what it expects by unwrapping it")]

    use super::*;
    use crate::host::Host;
    use std::fs::{self, File};
    use std::time::SystemTime;

    const LOGGED: &str = "2026-01-01T00:00:00,000 ERROR [main] HistoryServer: ";

    #[test]
    fn a_log_of_the_logger_alone_is_read_where_the_console_has_none() {
        let root = std::env::temp_dir().join(format!("emr-shs-log-{}", std::process::id()));
        let (conf, logs) = (root.join("etc/spark/conf"), root.join("logs"));
        fs::create_dir_all(&conf).unwrap();
        fs::create_dir_all(&logs).unwrap();
        fs::write(conf.join("spark-env.sh"), format!("export SPARK_LOG_DIR={}\n", logs.display())).unwrap();
        let appender = "appender.file.fileName = ${env:SPARK_LOG_DIR}/own.log\n";
        fs::write(conf.join("log4j2.properties"), appender).unwrap();
        let spark = Spark::observe(&Host::new(&root)).unwrap();
        let (console, own) = (logs.join("spark-history-server.out"), logs.join("own.log"));
        let said = || log_tail(&spark).unwrap().0;
        fs::write(&console, "Spark Command: java\n").unwrap();
        assert_eq!((log_file(&spark), said()), (console.clone(), "Spark Command: java\n".into()));
        let position = LogPosition::end(&spark);
        fs::write(&own, format!("{LOGGED}boom\n")).unwrap();
        assert_eq!((log_file(&spark), position.path()), (own.clone(), own.clone()));
        assert!(said().contains("boom") && said().contains("Spark Command"), "{}", said());
        assert!(position.since().contains("boom"));

        // What an earlier configuration left says nothing of now.
        let long_ago = SystemTime::now() - Duration::from_secs(9000);
        File::options().write(true).open(&own).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(log_file(&spark), console);
        // The logger writes to the console, too.
        fs::write(&console, format!("{LOGGED}told\n")).unwrap();
        fs::write(&own, format!("{LOGGED}boom\n")).unwrap();
        assert_eq!(log_file(&spark), console);
        assert!(said().contains("told") && !said().contains("boom"), "{}", said());
        fs::remove_dir_all(root).unwrap();
    }
}
