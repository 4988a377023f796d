//! What a person meets at the command line of `index`: files that are not there, numbers without bounds, times and tables.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::many_logs::ManyLogs;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FLAT: [&str; 3] = ["--event-logs", "s3://acme/flat/", "--no-snapshot"];

fn run(s3: &ManyLogs, db: &Path, words: &[&str]) -> CommandOutput {
    s3.index(db, &[words, &FLAT[..]].concat())
}

/// Runs the program without a store: what it refuses needs none.
fn bare(words: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
    CommandOutput(command.args(words).env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap())
}

fn at(db: &Path, words: &[&str]) -> CommandOutput {
    bare(&[&["index"], words, &["--event-logs", "s3://acme/flat/", "--db", db.to_str().unwrap()]].concat())
}

fn names(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_database_that_cannot_be_made_is_a_usage_error_that_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes");
    fs::write(&file, "mine").unwrap();
    for (db, says, hint) in [
        (directory.path().join("missing/index.sqlite"), "missing does not exist", "mkdir -p "),
        (file.join("index.sqlite"), "notes is no directory", "--db FILE"),
        (directory.path().to_path_buf(), "is a directory, wanted a file", "index.sqlite"),
    ] {
        for command in ["search", "rebuild"] {
            let ran = at(&db, &[command]).expect(2);
            assert!(ran.err().contains(says) && ran.err().contains(hint), "{command}: {}", ran.err());
            let json = at(&db, &[command, "--json"]).expect(2).json();
            assert_eq!((&json["error"]["exit"], json["error"]["hint"].is_string()), (&Value::from(2), true), "{json}");
        }
    }
    assert_eq!(names(directory.path()), [file]);
}

#[test]
fn status_makes_and_replaces_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("index.sqlite");
    let json = at(&db, &["status", "--json"]).expect(0).json();
    assert_eq!((&json["exists"], &json["sources"][0]["logs"]), (&Value::from(false), &Value::from(0)), "{json}");
    let text = at(&db, &["status"]).expect(0).out();
    assert!(text.contains("does not exist yet") && text.contains("emr-shs index search"), "{text}");
    assert!(names(directory.path()).is_empty(), "{:?}", names(directory.path()));

    let s3 = ManyLogs::start(&["-flat", "5", "-sizes", "small"]);
    run(&s3, &db, &["search"]).expect(0);
    assert_eq!(run(&s3, &db, &["status", "--json"]).expect(0).json()["exists"], true);
    rusqlite::Connection::open(&db).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let before = fs::read(&db).unwrap();
    let ran = run(&s3, &db, &["status"]).expect(1);
    assert!(ran.err().contains("version 999") && ran.err().contains("begin it anew"), "{}", ran.err());
    assert_eq!(fs::read(&db).unwrap(), before);
    let ran = run(&s3, &db, &["search"]).expect(0);
    assert_eq!(ran.out().lines().count(), 6, "{}", ran.out());
}

#[test]
fn times_of_summer_and_winter_name_their_offsets_and_ids_stay_whole() {
    let s3 = ManyLogs::start(&["-flat", "1", "-sizes", "small"]);
    for (number, time) in [(1, "2026-07-01T08:00:00Z"), (2, "2026-01-01T09:00:00Z"), (3, "2026-07-02T08:00:00Z")] {
        let time = time.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let id = format!("application_{time}_000{number}");
        let log = format!(
            r#"{{"Event":"SparkListenerLogStart","Spark Version":"3.5.0"}}
{{"Event":"SparkListenerApplicationStart","App Name":"a rather long name of a nightly pipeline {number}","App ID":"{id}","Timestamp":{time},"User":"Hadoop"}}
{{"Event":"SparkListenerApplicationEnd","Timestamp":{time}}}
"#
        );
        s3.put(&format!("seasons/{id}"), log.as_bytes());
    }
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("index.sqlite");
    let table = |words: &[&str]| {
        let words = [&["search", "--no-snapshot", "--event-logs", "s3://acme/seasons/"], words].concat();
        let mut command = s3.command(&db, &words);
        let ran = command.envs([("TZ", "Europe/Paris"), ("COLUMNS", "80")]).output().unwrap();
        CommandOutput(ran).expect(0).out()
    };
    let both = table(&[]);
    assert!(both.starts_with("STARTED  ") && !both.contains("CE"), "{both}");
    assert!(both.contains("2026-07-01 10:00+02:00") && both.contains("2026-01-01 10:00+01:00"), "{both}");
    assert!(both.lines().all(|line| line.chars().count() <= 80), "{both}");
    assert!(both.lines().skip(1).all(|line| line.rsplit(' ').next().unwrap().len() == 30), "{both}");
    let summer = table(&["--since", "2026-06-01"]);
    assert!(summer.starts_with("STARTED (CEST)") && summer.contains("2026-07-01 10:00 "), "{summer}");
    let winter = table(&["--until", "2026-06-01"]);
    assert!(winter.starts_with("STARTED (CET)"), "{winter}");
    // People do not know how a user is written.
    assert_eq!(table(&["--user", "hadoop"]).lines().count(), 4);
    assert_eq!(table(&["--user", "HADOOP", "pipeline"]).lines().count(), 4);
    assert_eq!(table(&["--user", "hadoo"]), "");
}

#[test]
fn numbers_of_a_page_have_no_bound_but_their_type() {
    let s3 = ManyLogs::start(&["-flat", "20", "-sizes", "small"]);
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("index.sqlite");
    run(&s3, &db, &["search"]).expect(0);
    let most = u64::MAX.to_string();
    for filter in [&[][..], &["--user", "hadoop"], &["0"], &["--until", "9000-01-01"], &["--state", "completed"]] {
        for page in [
            ["--limit", &most, "--offset", "0"],
            ["--limit", "0", "--offset", &most],
            ["--limit", &most, "--offset", &most],
        ] {
            let words = [&["search", "--json", "--no-refresh"], filter, &page[..]].concat();
            let rows = run(&s3, &db, &words).expect(0).out().lines().count();
            assert!(page[3] == "0" || rows == 0, "{filter:?} {page:?} {rows}");
        }
    }
    for wrong in [["--limit", "18446744073709551616"], ["--offset", "-1"], ["--limit", "many"]] {
        let ran = run(&s3, &db, &[&["search"], &wrong[..]].concat()).expect(2);
        assert!(ran.err().contains(wrong[0]), "{wrong:?}: {}", ran.err());
    }
}

#[test]
fn an_endpoint_that_is_none_is_refused_by_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("index.sqlite");
    for (url, found) in [
        ("minio:9000", "found no scheme"),
        ("ftp://minio", "found another scheme"),
        ("http://minio/bucket", "found a path"),
        ("http://minio?x=1", "found a query"),
        ("http://minio:99999", "no port"),
        ("http://me:secret@minio", "found a user"),
    ] {
        let ran = at(&db, &["search", "--endpoint-url", url]).expect(2);
        let error = ran.err();
        assert!(error.contains("--endpoint-url") && error.contains(found), "{url}: {error}");
        assert!(error.contains("wanted http:// or https://") && !error.contains("secret"), "{url}: {error}");
        assert!(bare(&["proxy", "serve", "--endpoint-url", url]).expect(2).err().contains(found), "{url}");
    }
    assert!(names(directory.path()).is_empty());
}

#[test]
fn status_says_which_permission_is_missing() {
    let s3 = ManyLogs::start(&["-flat", "10", "-sizes", "small"]);
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("index.sqlite");
    s3.control("faults?denied=1");
    run(&s3, &db, &["search"]);
    let json = run(&s3, &db, &["status", "--json"]).expect(0).json();
    let hint = json["sources"][0]["problems"][0]["hint"].as_str().unwrap();
    let wanted = "emr-shs render iam-policy --for history-server --event-logs s3://acme/flat/";
    assert!(hint.contains("s3:GetObject") && hint.contains(wanted), "{hint}");
    let text = run(&s3, &db, &["status"]).expect(0).out();
    assert!(text.contains("  hint    allow s3:GetObject") && text.contains(wanted), "{text}");
    assert!(!text.contains("looked for new logs"), "a listing is one look: {text}");
    let policy =
        bare(&["render", "iam-policy", "--for", "history-server", "--event-logs", "s3://acme/flat/"]).expect(0);
    assert!(policy.out().contains("s3:::acme/flat/.emr-shs/index-v1.zst"), "{}", policy.out());
}
