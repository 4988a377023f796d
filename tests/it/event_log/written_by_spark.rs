//! Logs that Spark 2.4, 3.5 and 4.1 wrote, with the libraries of Java, against what the history server of Spark 4.1 lists of
//! the same files. tests/fixtures/yarn/eventlogs-codecs/README.md says how both were made.

use super::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yarn")
}

/// Every log of the directory by its name.
fn logs(directory: &str) -> BTreeMap<String, Log> {
    let names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let directory = fixtures().join(directory);
    let file = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        (Codec::of_name(name).unwrap(), fs::read(path).unwrap())
    };
    let mut found = BTreeMap::new();
    for name in names(&directory) {
        let path = directory.join(&name);
        let log = if path.is_dir() {
            let mut parts: Vec<String> = names(&path);
            let is_complete = parts.iter().any(|part| part.starts_with("appstatus_") && !part.ends_with(".inprogress"));
            parts.retain(|part| part.starts_with("events_"));
            parts.sort();
            Log { files: parts.iter().map(|part| file(&path.join(part))).collect(), is_complete }
        } else if name.ends_with(".md") || name.ends_with(".json") {
            continue;
        } else {
            Log { files: vec![file(&path)], is_complete: !name.ends_with(".inprogress") }
        };
        found.insert(name, log);
    }
    found
}

fn all_logs() -> BTreeMap<String, Log> {
    let mut all = logs("eventlogs");
    all.extend(logs("eventlogs-codecs"));
    all
}

/// One attempt as the history server lists it.
fn listed(facts: &Facts) -> Value {
    let start = facts.start.as_ref().unwrap();
    let end = facts.end.unwrap_or(-1);
    json!({
        "id": start.id, "name": start.name, "attemptId": start.attempt, "sparkUser": start.user,
        "startTimeEpoch": start.time, "endTimeEpoch": end, "completed": facts.end.is_some(),
        "duration": if facts.end.is_some() { end - start.time } else { 0 },
        "appSparkVersion": facts.spark.clone().unwrap_or_default(),
    })
}

#[test]
fn every_log_tells_what_the_history_server_lists_and_takes_two_requests_at_most() {
    let text = fs::read_to_string(fixtures().join("eventlogs-codecs/listed.json")).unwrap();
    let applications: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut wanted: Vec<Value> = applications;
    let mut found = Vec::new();
    for (name, log) in all_logs() {
        let (facts, ranges) = log.read();
        assert!(ranges.len() <= 2, "{name}: {ranges:?}");
        assert_eq!(
            (facts.whole, &facts.broken, &facts.damage, facts.is_foreign),
            (None, &None, &None, false),
            "{name}"
        );
        assert_eq!((facts.starts, facts.head), (1, None), "{name}");
        found.push(listed(&facts));
        // Read as a whole it tells the same, in whatever pieces.
        for lengths in [&[1][..], &[7, 4096, 1, 65536], &[usize::MAX]] {
            let whole = log.read_whole(Facts::default(), lengths);
            assert_eq!(whole, facts, "{name} in pieces of {lengths:?}");
        }
    }
    let order = |attempt: &Value| attempt.to_string();
    wanted.sort_by_key(order);
    found.sort_by_key(order);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted);
    }
}

#[test]
fn the_queue_of_the_job_is_told() {
    for (name, log) in logs("eventlogs-codecs") {
        assert_eq!(log.facts().queue.as_deref(), Some("etl"), "{name}");
    }
}

#[test]
fn a_log_that_is_cut_off_anywhere_tells_what_is_left() {
    for (name, log) in all_logs() {
        let whole = log.facts();
        let (last, rest) =
            log.files.split_last().map(|((codec, bytes), rest)| ((*codec, bytes.clone()), rest)).unwrap();
        let step = last.1.len() / 9 + 1;
        for length in (0..last.1.len()).step_by(step).chain(last.1.len().saturating_sub(3)..last.1.len()) {
            let mut files = rest.to_vec();
            files.push((last.0, last.1[..length].to_vec()));
            for is_complete in [COMPLETE, IN_PROGRESS] {
                let facts = Log { files: files.clone(), is_complete }.facts();
                let known = facts.start.is_none() || facts.start == whole.start;
                assert!(known && (facts.end.is_none() || facts.end == whole.end), "{name} cut at {length}: {facts:?}");
                let cut = Log { files: files.clone(), is_complete };
                let again = cut.read_whole(Facts::default(), &[1000]);
                assert_eq!((&again.start, again.end), (&facts.start, facts.end), "{name} cut at {length}");
            }
        }
    }
}

#[test]
fn logs_that_were_put_one_after_the_other_are_told_as_the_last_of_them() {
    let logs = all_logs();
    for codec in [".zstd", ".lz4", ".snappy", ".lzf"] {
        let mut of_codec = logs.iter().filter(|(name, log)| name.ends_with(codec) && log.files.len() == 1);
        let (first, second) = (of_codec.next().unwrap().1, of_codec.next().unwrap().1);
        let bytes = [first.files[0].1.clone(), second.files[0].1.clone()].concat();
        let both = Log::single(first.files[0].0, bytes).read_whole(Facts::default(), &[4096]);
        assert_eq!((both.starts, &both.start, both.end), (2, &second.facts().start, second.facts().end), "{codec}");
    }
}
