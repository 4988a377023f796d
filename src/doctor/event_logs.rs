//! What doctor learns of single event logs: which the history server does not list, and which attributes executors
//! have in them.
//!
//! doctor reads the beginnings of event logs itself. If doctor asked the history server, the server would have to read a
//! whole event log, and a small compressed one can be larger than the server's heap.

use crate::aws::s3::{Listing, Object, S3};
use crate::aws::uri::EventLogs;
use crate::ids::Application;
use crate::node::event_logs::{Attempt, EventLogName, RollingFile};
use crate::node::spark::Version;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Executors appear after the settings of the application, which the first MiB of an event log contains.
const BEGINNING: u64 = 1 << 20;
/// How many event logs of each kind are read until one has executors.
const SAMPLES: usize = 3;
/// How many rolling event logs are measured, each by a LIST request.
const MEASURED: usize = 10;

/// An event log directly below the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventLog<'a> {
    /// The name of the object, or of the directory with a slash at its end.
    pub entry: &'a str,
    pub name: EventLogName,
    /// When it was written, in seconds since 1970. S3 does not tell that of a directory.
    pub written: Option<i64>,
}

/// What S3 answered about single event logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventLogAnswers {
    /// Some rolling event logs, by their names below the prefix.
    pub rolling: BTreeMap<String, RollingLog>,
    /// An event log, and the names of the attributes that its executors have.
    pub executors: Option<(String, Vec<String>)>,
    /// The version of Spark that wrote an event log whose executors can have no attributes.
    pub old: Option<Version>,
}

/// The directory of a rolling event log.
#[derive(Clone, Debug, Default)]
pub(crate) struct RollingLog {
    /// When the last part was written, in seconds since 1970; `None` if there is no part.
    pub written: Option<i64>,
    /// Whether the object that tells the application's state is there.
    pub has_status: bool,
    /// The name of the first part, if the parts are not compressed.
    first_plain_part: Option<String>,
}

impl RollingLog {
    fn of(files: &[Object]) -> Self {
        let mut this = Self::default();
        for file in files {
            match RollingFile::of_name(&file.name) {
                RollingFile::Part { is_plain } => {
                    this.written = this.written.max(Some(file.modified));
                    if is_plain && file.size > 0 {
                        this.first_plain_part.get_or_insert_with(|| file.name.clone());
                    }
                }
                RollingFile::Status => this.has_status = true,
                RollingFile::Other => {}
            }
        }
        this
    }
}

/// The event logs of a listing, each once, in the order of their names.
pub(crate) fn event_logs<'a>(
    listing: &'a Listing,
    rolling: &BTreeMap<String, RollingLog>,
    spark: Option<&Version>,
) -> Vec<EventLog<'a>> {
    let files = listing.objects.iter().map(|object| (object.name.as_str(), object.size, Some(object.modified)));
    let directories = listing.directories.iter().map(|name| (name.as_str(), 0, None));
    let mut found: BTreeMap<String, EventLog<'a>> = BTreeMap::new();
    for (entry, size, modified) in files.chain(directories) {
        let Some(name) = EventLogName::of_entry(entry, size, spark) else { continue };
        let written = match rolling.get(entry) {
            // The server passes over a directory without any part.
            Some(measured) if measured.written.is_none() => continue,
            Some(measured) => measured.written,
            None => modified,
        };
        // The log of an unfinished application can lie beside the finished one.
        let log = found.entry(name.stem.clone()).or_insert(EventLog { entry, name, written });
        log.written = log.written.max(written);
    }
    found.into_values().collect()
}

/// Those of the event logs that the history server does not list.
pub(crate) fn unlisted<'l, 'a>(logs: &'l [EventLog<'a>], listed: &[Attempt]) -> Vec<&'l EventLog<'a>> {
    let names: BTreeSet<String> = listed.iter().map(Attempt::stem).collect();
    let stems: BTreeSet<&str> = logs.iter().map(|log| log.name.stem.as_str()).collect();
    // An event log that somebody has renamed is listed under the id in its content, with the time of its object.
    let others = listed.iter().filter(|attempt| !stems.contains(attempt.stem().as_str()));
    let mut renamed: Vec<i64> = others.filter_map(|attempt| attempt.updated).collect();
    let mut is_renamed = |log: &EventLog<'_>| {
        let Some(at) = renamed.iter().position(|updated| Some(*updated) == log.written) else { return false };
        renamed.swap_remove(at);
        true
    };
    logs.iter().filter(|log| !names.contains(&log.name.stem) && !is_renamed(log)).collect()
}

/// What doctor asks S3 about single event logs, once it knows what the server lists.
pub(crate) struct Questions {
    /// The directories whose age matters.
    measure: Vec<String>,
    /// The event logs that show what executors have, the likeliest first.
    sample: Vec<String>,
}

impl Questions {
    /// `serverless` says whether links lead to the logs of EMR Serverless; otherwise they lead to those of YARN.
    pub(crate) fn new(listing: &Listing, listed: &[Attempt], spark: Option<&Version>, serverless: bool) -> Self {
        let logs = event_logs(listing, &BTreeMap::new(), spark);
        let overdue = unlisted(&logs, listed).into_iter().filter(|log| log.name.is_rolling).take(MEASURED);
        let measure = overdue.map(|log| log.entry.to_string()).collect();

        let old: BTreeSet<String> = listed.iter().filter(|attempt| attempt.is_old()).map(Attempt::stem).collect();
        let has_wanted_ids = |log: &&EventLog<'_>| {
            let id = log.name.stem.rsplitn(2, '_').last().unwrap_or_default();
            let yarn = [log.name.stem.as_str(), id].into_iter().find_map(Application::parse);
            match yarn {
                Some(application) => !serverless && !application.is_synthetic(),
                None => serverless && log.name.is_of_spark && !log.name.stem.starts_with("local-"),
            }
        };
        let (mut files, mut directories): (Vec<_>, Vec<_>) = logs
            .iter()
            .filter(|log| log.name.is_rolling || log.name.is_plain)
            .filter(|log| !old.contains(&log.name.stem))
            .filter(has_wanted_ids)
            .partition(|log| !log.name.is_rolling);
        // The ids of later applications are greater.
        files.reverse();
        directories.reverse();
        let sample = files.into_iter().take(SAMPLES).chain(directories.into_iter().take(SAMPLES));
        Self { measure, sample: sample.map(|log| log.entry.to_string()).collect() }
    }

    /// Asks S3. Each answer goes to `tell` at once.
    pub(crate) fn ask(&self, s3: &S3, uri: &EventLogs, tell: impl Fn(&dyn Fn(&mut EventLogAnswers))) {
        let measured = |entry: &str| {
            let directory = EventLogs { prefix: format!("{}{entry}", uri.prefix), ..uri.clone() };
            let rolling = RollingLog::of(&s3.list(&directory, 1).ok()?.objects);
            tell(&|answers| drop(answers.rolling.insert(entry.into(), rolling.clone())));
            Some(rolling)
        };
        for entry in &self.measure {
            measured(entry);
        }
        for entry in &self.sample {
            let file = match entry.ends_with('/') {
                true => {
                    measured(entry).and_then(|rolling| rolling.first_plain_part).map(|part| format!("{entry}{part}"))
                }
                false => Some(entry.clone()),
            };
            let key = file.map(|file| format!("{}{file}", uri.prefix));
            let Some(Ok(bytes)) = key.map(|key| s3.get(uri, &key, Some(BEGINNING))) else { continue };
            let beginning = Beginning::of(&bytes);
            match (beginning.spark, beginning.attributes) {
                (Some(spark), Some(_)) if !spark.at_least(3, 0) => tell(&|a| a.old = Some(spark.clone())),
                (_, Some(attributes)) => {
                    let sample = (entry.trim_end_matches('/').to_string(), attributes);
                    return tell(&|answers| answers.executors = Some(sample.clone()));
                }
                _ => {}
            }
        }
    }
}

impl Attempt {
    /// Whether a Spark older than 3.0 wrote the event log. Its executors have no attributes.
    pub(crate) fn is_old(&self) -> bool {
        self.spark.as_ref().is_some_and(|version| !version.at_least(3, 0))
    }
}

/// What the beginning of an event log says.
#[derive(Debug, Default)]
struct Beginning {
    spark: Option<Version>,
    /// The names of the attributes of the first executor.
    attributes: Option<Vec<String>>,
}

impl Beginning {
    fn of(bytes: &[u8]) -> Self {
        let mut this = Self::default();
        for line in bytes.split(|b| *b == b'\n') {
            let is = |event: &str| line.starts_with(format!("{{\"Event\":\"{event}\"").as_bytes());
            if is("SparkListenerLogStart") {
                let event = serde_json::from_slice::<Value>(line).ok();
                this.spark = event.and_then(|event| Version::parse(event.get("Spark Version")?.as_str()?));
            } else if is("SparkListenerExecutorAdded") {
                let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
                let attributes = event.get("Executor Info").and_then(|info| info.get("Attributes")?.as_object());
                this.attributes = Some(attributes.map(|names| names.keys().cloned().collect()).unwrap_or_default());
                break;
            }
        }
        this
    }
}
