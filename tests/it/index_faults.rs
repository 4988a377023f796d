//! The index comes to the same rows whatever S3, a signal or a clock does to it, and says what could not be read.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::many_logs::ManyLogs;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SOURCES: [&str; 6] =
    ["--event-logs", "s3://acme/flat/", "--event-logs", "s3://acme/month/", "--event-logs", "s3://acme/serverless/"];

/// By id and attempt: name, user, version of Spark, start, and the end if the application has one.
type Rows = BTreeMap<(String, String), [String; 5]>;

/// The lines of `index search --json`, or those of the stand-in, which have the same names and other times.
fn rows(lines: &str) -> Rows {
    let mut rows = Rows::new();
    for line in lines.lines() {
        let row: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let text = |field: &str| match row[field].as_i64() {
            Some(time) => Timestamp::from_millisecond(time).unwrap().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            None => row[field].as_str().unwrap_or_default().to_string(),
        };
        assert_eq!(row["completed"], !text("ended").is_empty(), "{line}");
        assert_ne!(row["ended_is_estimated"], true, "{line}");
        let facts = ["name", "user", "spark", "started", "ended"].map(text);
        assert!(rows.insert((text("id"), text("attempt")), facts).is_none(), "listed twice: {line}");
    }
    rows
}

struct Index {
    s3: ManyLogs,
    directory: tempfile::TempDir,
}

impl Index {
    fn of(options: &[&str]) -> Self {
        Self { s3: ManyLogs::start(options), directory: tempfile::tempdir().unwrap() }
    }

    fn db(&self) -> PathBuf {
        self.directory.path().join("index.sqlite")
    }

    fn words<'a>(words: &[&'a str]) -> Vec<&'a str> {
        [words, &["--no-snapshot"], &SOURCES].concat()
    }

    fn truth(&self) -> Rows {
        rows(&self.s3.control("rows"))
    }

    /// What a search finds after it has looked into S3.
    #[track_caller]
    fn search(&self) -> Rows {
        rows(&self.s3.index(&self.db(), &Self::words(&["search", "--json", "--limit", "0"])).expect(0).out())
    }

    /// What is known without asking S3, all of which must be true.
    #[track_caller]
    fn known(&self, truth: &Rows) -> usize {
        let ran = self.s3.index(&self.db(), &Self::words(&["search", "--json", "--limit", "0", "--no-refresh"]));
        let known = rows(&ran.out());
        assert!(known.iter().all(|(key, facts)| truth.get(key) == Some(facts)), "{known:#?}");
        known.len()
    }

    /// The numbers of GETs of logs since the last reset, and how many logs took so many.
    fn gets(&self) -> Vec<(u64, u64)> {
        let counters: Value = serde_json::from_str(&self.s3.control("counters")).unwrap();
        let logs = counters["logs by GETs"].as_object().unwrap();
        logs.iter().map(|(gets, logs)| (gets.parse().unwrap(), logs.as_u64().unwrap())).collect()
    }

    fn all_gets(&self) -> u64 {
        self.gets().iter().map(|(gets, logs)| gets * logs).sum()
    }

    /// Lets the pauses after failures and the time between two complete listings be over.
    fn time_passes(&self) {
        let db = rusqlite::Connection::open(self.db()).unwrap();
        db.execute_batch("UPDATE log SET next_try = 0; UPDATE source SET listed = 0;").unwrap();
    }
}

#[test]
fn ninety_nine_of_a_hundred_logs_take_two_requests_and_unchanged_ones_none() {
    let index = Index::of(&["-flat", "300", "-month", "80", "-serverless", "20"]);
    let first = index.search();
    assert_eq!(first, index.truth());
    let dear: u64 = index.gets().iter().filter(|(gets, _)| *gets > 2).map(|(_, logs)| logs).sum();
    assert!(dear <= 4, "{:?}", index.gets());
    index.s3.control("reset");
    index.time_passes();
    assert_eq!(index.search(), first);
    assert_eq!(index.all_gets(), 0, "{:?}", index.gets());
}

#[test]
fn what_ends_after_verify_ran_is_seen_by_the_next_look_and_what_changed_by_the_next_listing() {
    let index = Index::of(&["-flat", "120", "-month", "40", "-serverless", "20", "-sizes", "fixture", "-days", "2"]);
    index.search();
    // `verify` writes a log with the present time and a number that YARN does not give.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let id = format!("application_{now}_9000000123");
    let log = format!(
        r#"{{"Event":"SparkListenerLogStart","Spark Version":"3.5.0"}}
{{"Event":"SparkListenerApplicationStart","App Name":"emr-shs verify","App ID":"{id}","Timestamp":{now},"User":"emr-shs"}}
{{"Event":"SparkListenerApplicationEnd","Timestamp":{now}}}
"#
    );
    index.s3.put(&format!("flat/{id}"), log.as_bytes());
    index.search();
    let added = rows(&index.s3.control("add?count=2"));
    index.s3.control("reset");
    let found = index.search();
    assert!(added.iter().all(|(key, facts)| found.get(key) == Some(facts)), "{added:#?}");
    assert!(index.all_gets() <= 4, "{:?}", index.gets());
    index.s3.delete(&format!("flat/{id}"));

    let gone = rows(&index.s3.control("remove?count=3"));
    let ended = rows(&index.s3.control("grow?count=20&end=1"));
    index.s3.control("reset");
    index.time_passes();
    let found = index.search();
    assert_eq!(found, index.truth());
    assert!(gone.keys().all(|key| !found.contains_key(key)) && ended.keys().all(|key| !found[key][4].is_empty()));
    assert!(index.all_gets() <= 2 * ended.len() as u64, "{:?} for {} logs that have ended", index.gets(), ended.len());
}

#[test]
fn an_index_that_is_killed_goes_on() {
    let index = Index::of(&["-flat", "300", "-sizes", "fixture", "-delay", "10ms"]);
    let (truth, words) = (index.truth(), Index::words(&["search"]));
    let mut known = Vec::new();
    for wait in [60, 200, 400, 700, 1100] {
        let mut running = index.s3.command(&index.db(), &words).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        running.kill().unwrap();
        running.wait().unwrap();
        if index.db().exists() {
            known.push(index.known(&truth));
        }
    }
    assert!(known.is_sorted(), "what was read is kept: {known:?}");
    assert_eq!(index.search(), truth);
}

#[test]
fn what_s3_does_not_give_comes_later() {
    let index = Index::of(&["-flat", "200", "-month", "60", "-serverless", "40", "-sizes", "fixture"]);
    let truth = index.truth();
    // A request that hangs is given up after a while, and sent again.
    index.s3.control("faults?errors=0.1&slow=0.1&short=0.05&hang=0.003");
    let ran = index.s3.index(&index.db(), &Index::words(&["search", "--json", "--limit", "0"]));
    assert!([0, 3].contains(&ran.0.status.code().unwrap()), "{}", ran.err());
    index.known(&truth);
    index.s3.control("faults");
    index.time_passes();
    assert_eq!(index.search(), truth);
}

#[test]
fn what_s3_refuses_is_named_and_tried_again() {
    let index = Index::of(&["-flat", "200", "-month", "60", "-serverless", "40", "-sizes", "fixture"]);
    let truth = index.truth();
    index.s3.control("faults?denied=0.05");
    let found = index.search();
    let missing = truth.len() - found.len();
    assert!(missing > 3 && index.known(&truth) == found.len(), "{missing} of {} are missing", truth.len());
    let status = index.s3.index(&index.db(), &Index::words(&["status", "--json"])).expect(0).json();
    let sources: &[Value] = status["sources"].as_array().unwrap();
    let failed: u64 = sources.iter().map(|source| source["failed"].as_u64().unwrap()).sum();
    assert_eq!(failed, missing as u64, "{status:#}");
    let problems: Vec<&Value> = sources.iter().flat_map(|source| source["problems"].as_array().unwrap()).collect();
    let names_it = |problem: &&Value| problem["why"].as_str().unwrap().contains("not allowed (s3:GetObject)");
    assert!(!problems.is_empty() && problems.iter().all(names_it), "{status:#}");
    index.s3.control("faults");
    index.time_passes();
    assert_eq!(index.search(), truth);
    // What was known stays, and nobody calls it missing.
    index.s3.control("faults?denied=1");
    index.s3.index(&index.db(), &Index::words(&["rebuild"])).expect(0);
    let words = Index::words(&["search", "--json", "--limit", "0", "--no-refresh"]);
    let ran = index.s3.index(&index.db(), &words).expect(0);
    assert_eq!(rows(&ran.out()), truth);
    assert!(ran.err().contains("not read again yet") && !ran.err().contains("incomplete"), "{}", ran.err());
}

#[test]
fn reading_stops_where_nothing_can_be_read() {
    let index = Index::of(&["-flat", "3000", "-sizes", "small"]);
    index.s3.control("faults?denied=1");
    let run = || index.s3.index(&index.db(), &Index::words(&["search"])).expect(3);
    let gets = || index.s3.requests("GET");
    let ran = run();
    let says = [
        "the last 1000 event logs of s3://acme/flat/ could not be read",
        "s3:GetObject",
        "event logs are not read yet",
    ];
    assert!(says.iter().all(|text| ran.err().contains(text)), "{}", ran.err());
    assert!((1000..2000).contains(&gets()), "{}", gets());
    // The next run does not begin with the same ones.
    let before = gets();
    run();
    assert!((500..2000).contains(&(gets() - before)), "{} {before}", gets());
    // What can be read again is read.
    index.s3.control("faults?denied=0");
    index.time_passes();
    assert_eq!(index.search().len(), index.truth().len());
}

/// A prefix that can be listed and not read is common: another account owns the objects, or the key of KMS.
#[test]
fn a_prefix_that_cannot_be_read_hides_no_other_and_keeps_no_snapshot_from_being_written() {
    let index = Index::of(&["-flat", "20", "-month", "1600", "-sizes", "small"]);
    index.s3.control("faults?denied=1&below=month/");
    let mut truth = rows(&index.s3.control("rows"));
    let readable: BTreeSet<String> =
        index.s3.rows("flat/").iter().map(|row| row["id"].as_str().unwrap().to_string()).collect();
    truth.retain(|(id, _), _| readable.contains(id));
    // The logs of the second prefix have the greater ids, and come first.
    let sources = ["--event-logs", "s3://acme/flat/", "--event-logs", "s3://acme/month/"];
    let words = [&["search", "--json", "--limit", "0"], &sources[..]].concat();
    let ran = index.s3.index(&index.db(), &words).expect(3);
    assert!(ran.err().contains("event logs of s3://acme/month/ could not be read"), "{}", ran.err());
    assert_eq!(rows(&ran.out()), truth);
    assert_eq!(index.s3.requests("PUT"), 1);
}

#[test]
fn a_disk_that_fills_up_is_said_and_loses_nothing() {
    let index = Index::of(&["-flat", "2000", "-sizes", "small"]);
    let truth = index.truth();
    let whole = || std::fs::metadata(index.db()).map_or(0, |file| file.len());
    let limited = |kib: u64| {
        // A file that may not grow is the same to a program as a disk that is full.
        let limit = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
        let words = Index::words(&["search"]);
        let mut limited = index.s3.command_through(&["bash", "-c", &limit], &index.db(), &words);
        CommandOutput(limited.output().unwrap())
    };
    let mut failed = 0;
    for kib in [8, 64, 200, 400, 700, 1000, 1400] {
        let ran = limited(kib);
        if ran.0.status.success() {
            continue;
        }
        failed += 1;
        let error = ran.err();
        assert!(ran.0.status.code() == Some(1), "{kib}: {:?} {error}", ran.0.status);
        assert!(error.contains("cannot write") || error.contains("cannot be opened"), "{kib}: {error}");
        assert!(
            error.contains("full") || error.contains("disk I/O error") || error.contains("too large"),
            "{kib}: {error}"
        );
        if whole() > 0 {
            index.known(&truth);
        }
    }
    assert!(failed >= 4, "{failed}");
    assert_eq!(index.search(), truth);
}
