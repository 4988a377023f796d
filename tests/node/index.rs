//! The index lists what the history server lists.

use crate::helpers::node::{Node, Profile};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/yarn");

/// By id and attempt: name, user, version of Spark, start, and the end if the application has one.
type Rows = BTreeMap<(String, String), [String; 5]>;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// What `index search` finds.
#[track_caller]
fn found(node: &Node, db: &str) -> Rows {
    let source = ["--event-logs", "s3://acme-spark/logs/", "--db", db];
    let printed = node.emr_shs(&[&["index", "search", "--json", "--limit", "0"], &source[..]].concat()).expect(0).out();
    let lines = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|row| {
            assert_eq!(
                (&row["completed"], &row["ended_is_estimated"]),
                (&row["ended"].is_string().into(), &false.into())
            );
            let facts = ["name", "user", "spark", "started", "ended"].map(|name| text(&row[name]));
            ((text(&row["id"]), text(&row["attempt"])), facts)
        })
        .collect()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_index_has_what_the_history_server_of_the_newest_spark_lists() {
    let node = Node::fresh(Profile::Emr81);
    // The event logs of all Sparks and codecs, with what lies beside them. The history server reads one directory, and the
    // index any tree.
    fs::create_dir(node.path("/srv/logs")).unwrap();
    for directory in fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap()) {
        if directory.file_name().to_string_lossy().starts_with("eventlogs") {
            let copied = Command::new("cp").arg("-r").arg(directory.path()).arg(node.path("/srv/logs")).status();
            assert!(copied.unwrap().success());
        }
    }
    node.sh("/opt/lab/s3 put-tree /srv/logs s3://acme-spark/logs/; cp -rn /srv/logs/*/* /srv/hdfs/var/log/spark/apps/");

    // A full disk ends it with a word about the disk, and harms nothing.
    node.sh("mkdir /srv/small; mount -t tmpfs -o size=64k none /srv/small");
    let search = ["index", "search", "--event-logs", "s3://acme-spark/logs/", "--db", "/srv/small/db"];
    let full = node.emr_shs(&search).expect(1);
    assert!(full.err().contains("/srv/small/db") && full.err().contains("full"), "{}", full.err());
    node.sh("mount -o remount,size=50m /srv/small");
    let found_here = found(&node, "/srv/small/db");
    node.sh("umount /srv/small");

    let found = found(&node, "/srv/db");
    assert_eq!(found_here, found);
    assert!(found.len() > 20, "{found:#?}");
    let mut listed = Rows::new();
    for application in node.wait_for_attempts(found.len()) {
        for attempt in application["attempts"].as_array().unwrap() {
            let time = |name: &str| text(&attempt[name]).replace("GMT", "Z");
            let ended = if attempt["completed"] == true { time("endTime") } else { String::new() };
            let (user, spark) = (text(&attempt["sparkUser"]), text(&attempt["appSparkVersion"]));
            let facts = [text(&application["name"]), user, spark, time("startTime"), ended];
            listed.insert((text(&application["id"]), text(&attempt["attemptId"])), facts);
        }
    }
    assert_eq!(found, listed);
}
