//! What the history server's log says: known errors with their causes (`docs/emr.md §6.4`), errors that nobody has
//! listed, and event logs that the server could not read.
//!
//! To support a new error: add its text to `KNOWN` in `causes.rs`. If its cause is new, add the cause to [`Cause`] with its
//! text and its fix, and name the doctor checks that explain the cause in `doctor/causes.rs`.

mod causes;
mod entry;

pub use causes::Cause;

use causes::cause_of;
use entry::{Entry, Level, entries};
use std::time::Duration;

/// Spark logs these for an event log that it cannot read, and continues with the next one (`docs/emr.md §3.2`).
const UNREADABLE_EVENT_LOG: [&str; 2] =
    ["Exception while merging application listings", "Exception encountered when attempting to load application log"];

/// What a server logs as an error although nothing is wrong: somebody stops the server.
const HARMLESS: [&str; 3] = ["RECEIVED SIGNAL ", "ClosedByInterruptException", "InterruptedException"];

/// At most this much of a line is kept: its end repeats its causes.
const LONGEST: usize = 2000;

/// A line of a log whose cause is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub line: String,
    pub cause: Cause,
}

/// The known cause in a log that says most about its end: that of the thread or JVM that died, else the first.
pub fn diagnose(log: &str) -> Option<Diagnosis> {
    let entries = entries(log);
    let of_death = entries.iter().filter(|entry| entry.is_death()).find_map(diagnose_entry);
    of_death.or_else(|| entries.iter().find_map(diagnose_entry))
}

/// Whether the logger of a server wrote anything into a log.
pub(crate) fn is_of_logger(log: &str) -> bool {
    entries(log).iter().any(|entry| entry.is_logged)
}

fn diagnose_entry(entry: &Entry) -> Option<Diagnosis> {
    let (line, cause) = cause_of(entry.telling())?;
    Some(Diagnosis { line: shortened(line), cause })
}

/// The known cause of an entry, or what an error that nobody has listed says.
fn error(entry: &Entry) -> Option<Diagnosis> {
    let is_harmless = || entry.lines.iter().any(|line| HARMLESS.iter().any(|text| line.contains(text)));
    let unknown = || {
        let line = entry.gist().filter(|_| entry.is_error() && !is_harmless())?;
        Some(Diagnosis { line: shortened(line), cause: Cause::Unknown })
    };
    diagnose_entry(entry).or_else(unknown)
}

fn shortened(line: &str) -> String {
    line.trim().chars().take(LONGEST).collect()
}

/// All entries of a log with one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownError {
    /// The first line; of errors that nobody has listed the last one, because an old one says nothing about now.
    pub diagnosis: Diagnosis,
    pub count: usize,
    /// How long ago the last line was written; `None` if the log does not tell.
    pub ago: Option<Duration>,
}

impl KnownError {
    /// Whether it was written within this time. An unknown time counts as long ago.
    pub(crate) fn is_within(&self, time: Duration) -> bool {
        self.ago.is_some_and(|ago| ago <= time)
    }
}

/// Every error in a log. All errors that nobody has listed are one. `age` is the time since the log was last written.
/// Ages of single lines are differences between the log's own times, because the log's time zone is not known.
pub fn known_errors(log: &str, age: Duration) -> Vec<KnownError> {
    let entries = entries(log);
    let end = entries.iter().rev().find_map(|entry| entry.time);
    let mut found: Vec<KnownError> = Vec::new();
    for entry in &entries {
        let Some(diagnosis) = error(entry) else { continue };
        let ago = ago(entry, end, age);
        match found.iter_mut().find(|known| known.diagnosis.cause == diagnosis.cause) {
            Some(known) => {
                (known.count, known.ago) = (known.count + 1, ago);
                if diagnosis.cause == Cause::Unknown {
                    known.diagnosis = diagnosis;
                }
            }
            None => found.push(KnownError { diagnosis, count: 1, ago }),
        }
    }
    // The server still logs nothing, so the time of the line does not matter.
    let silenced = silenced(&entries).map(|diagnosis| KnownError { diagnosis, count: 1, ago: Some(Duration::ZERO) });
    silenced.into_iter().chain(found).collect()
}

/// How long ago an entry was written, by the log's last time.
fn ago(entry: &Entry, end: Option<u64>, age: Duration) -> Option<Duration> {
    Some(age + Duration::from_secs(end?.saturating_sub(entry.time?)))
}

/// The bundle of the AWS SDK v2 contains an SLF4J that does not know Spark's Log4j. If the bundle precedes
/// Spark's SLF4J on the class path, the SLF4J of the bundle writes this line, and the server logs nothing
/// more. If the server's logger writes anything, the server is not silenced: the shaded copy of SLF4J in
/// the bundle wrote the line.
fn silenced(entries: &[Entry]) -> Option<Diagnosis> {
    if entries.iter().any(|entry| entry.is_logged) {
        return None;
    }
    let mut lines = entries.iter().flat_map(|entry| &entry.lines);
    let line = lines.find(|line| line.contains("Defaulting to no-operation (NOP) logger implementation"))?;
    Some(Diagnosis { line: shortened(line), cause: Cause::Silenced })
}

/// Event logs that the server could not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadableEventLogs {
    /// How many times the server failed to read one.
    pub count: usize,
    /// What the server wrote of the first failure.
    pub says: Option<String>,
    /// The exception of the first failure.
    pub reason: Option<String>,
    /// How long ago the last failure was; `None` if there was none, or if the log does not tell.
    pub ago: Option<Duration>,
}

/// The event logs that the server could not read, according to its log. `age` is the time since the log
/// was last written.
pub fn unreadable_event_logs(log: &str, age: Duration) -> UnreadableEventLogs {
    let entries = entries(log);
    let end = entries.iter().rev().find_map(|entry| entry.time);
    let mut found = UnreadableEventLogs::default();
    for entry in &entries {
        let head = entry.lines.first().map_or("", String::as_str);
        let Some(says) = UNREADABLE_EVENT_LOG.iter().find(|text| head.contains(**text)) else { continue };
        found.count += 1;
        found.ago = ago(entry, end, age);
        found.says.get_or_insert_with(|| (*says).to_string());
        if found.reason.is_none() {
            // The exception is on the next line.
            found.reason = entry.lines.get(1).map(|why| why.trim().chars().take(200).collect());
        }
    }
    found
}

/// Whether the log says that the server's main thread died, which ends the server.
pub(crate) fn main_thread_died(log: &str) -> bool {
    log.contains("Exception in thread \"main\"")
}

/// The last three lines that mention an error, without stack traces.
pub(crate) fn last_errors(log: &str) -> Vec<String> {
    let entries = entries(log);
    let is_error = |line: &&String| {
        !line.starts_with(['\t', ' ']) && ["Exception", "Error", "ERROR"].iter().any(|w| line.contains(w))
    };
    let lines = entries.iter().filter(|entry| entry.level != Some(Level::Info)).flat_map(|entry| &entry.lines);
    let mut lines: Vec<String> = lines.rev().filter(is_error).take(3).map(|l| l.chars().take(200).collect()).collect();
    lines.reverse();
    lines
}
