//! Programs that know the history server's REST API, and nothing of emr-shs, work through the gateway.

use crate::helpers::command_output::CommandOutput;
use crate::helpers::many_logs;
use crate::helpers::node::{Node, Profile};
use crate::helpers::python_packages::python_package;
use crate::helpers::wait::wait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/yarn/eventlogs");
const CACHE: &str = "/mnt/emr-shs/event-log-cache";
const S3: &str = "http://127.0.0.1:7080";
const GATEWAY: u16 = 9977;
const HISTORY_SERVER: u16 = 18080;
/// What the application with the name `ledger` runs: five jobs, three executions of SQL, and a table in memory.
const SQL: &str = "CACHE TABLE numbers AS SELECT id, id % 7 AS rest FROM range(0, 1000, 1, 4); \
    SELECT rest, count(*) FROM numbers GROUP BY rest";

/// Commands about an application, each with the words, and what its lines contain.
const COMMANDS: &[(&str, &[&str])] = &[
    (
        "summary",
        &[
            "App ID {id}",
            "Name ledger",
            "Status ✓ COMPLETED",
            "Master local[2]",
            "Jobs 5 (5 succeeded)",
            "Stages 7 (5 complete, 2 skipped)",
            "Tasks 14/22 completed",
            "SQL Executions 3 (3 completed)",
        ],
    ),
    ("attempts", &["COMPLETED", "│ 3.5.8 │ hadoop"]),
    (
        "jobs",
        &[
            "4 │ processLine at CliDriver.java:336 │ ✓ SUCCEEDED │ 1/2 │ 1/5",
            "3 │ processLine at CliDriver.java:336 │ ✓ SUCCEEDED │ 1/1 │ 4/4",
            "0 │ processLine at CliDriver.java:336 │ ✓ SUCCEEDED │ 1/1 │ 4/4",
        ],
    ),
    ("jobs --status failed", &["No results."]),
    (
        "job 1",
        &["Job ID 1", "Description CACHE TABLE numbers AS SELECT id,", "Tasks (active/done/failed/killed) 0/4/0/0"],
    ),
    ("job-stages 4", &["Stages for Job 4 (2/2 stages)", "6 │ 0 │", "5 │ 0 │"]),
    (
        "stages",
        &[
            "6 │ 0 │ processLine at CliDriver.java:336 │ ✓ COMPLETE │ 1/1 │",
            "5 │ 0 │ processLine at CliDriver.java:336 │ ⊘ SKIPPED │ 0/4 │",
            "0 │ 0 │ processLine at CliDriver.java:336 │ ✓ COMPLETE │ 4/4 │",
        ],
    ),
    ("stages --status failed", &["No results."]),
    ("stage 0", &["Stage ID 0", "Status ✓ COMPLETE", "Tasks (active/done/failed/killed) 0/4/0/0"]),
    ("stage 1 --attempt 0", &["Stage ID 1", "Attempt 0", "Tasks (active/done/failed/killed) 0/4/0/0"]),
    ("stage-summary 0", &["Metric │ p5 │ p25 │ p50 │ p75 │ p95", "Executor Run Time (ms) │"]),
    ("stage-tasks 0 --length 2 --sort-by ID", &["0 │ 0 │ 0 │ SUCCESS │ driver │", "1 │ 1 │ 0 │ SUCCESS │ driver │"]),
    ("executors", &["│ ✓ │ 2 │ 14/14 │"]),
    ("executors --all", &["│ ✓ │ 2 │ 14/14 │"]),
    ("processes", &["No results."]),
    (
        "sql",
        &[
            "1 │ COMPLETED │ CACHE TABLE numbers AS SELECT id, id % 7",
            "2 │ COMPLETED │ SELECT rest, count(*) FROM numbers",
        ],
    ),
    ("sql 1", &["Status COMPLETED", "Succeeded Jobs 2, 1, 0", "Failed Jobs None"]),
    // It asks for an answer without the plan's text, and prints an empty line.
    ("sql-plan 1", &[]),
    ("sql-plan 1 --dot", &["digraph \"SQL 1\" {", "[label=\"Scan In-memory table numbers (#6)\"];"]),
    ("sql-jobs 2", &["Jobs for SQL Execution 2 (2/2 jobs)", "4 │ processLine", "3 │ processLine"]),
    ("rdds", &["4 │ In-memory table numbers │ 4/4 │ Disk Memory Deserialized 1x Replicated │"]),
    ("rdd 4", &["RDD ID 4", "Name In-memory table numbers", "Partitions (cached/total) 4/4"]),
    ("env", &["Scala Version version 2.12.18", "spark.app.id │ {id}", "spark.app.name │ ledger"]),
    ("logs /srv/logs.zip", &["Event logs saved to /srv/logs.zip"]),
];

/// The application of the COMMANDS' nth.
fn application(nth: usize) -> String {
    format!("application_1795352263709_{:04}", 100 + nth)
}

/// A node whose gateway lists more than 10,000 applications, and their ids. Real ones are those of the fixtures, and one with SQL for
/// each of the COMMANDS.
fn node_with_10_000_applications() -> (Node, BTreeSet<String>) {
    let node = Node::fresh(Profile::Emr712);
    node.copy(&many_logs::program(), "/opt/lab/many-logs");
    for (from, to) in [(FIXTURES.into(), "/srv/fixtures"), (python_package("spark-history-cli"), "/srv/packages")] {
        assert!(Command::new("cp").arg("-rT").arg(from).arg(node.path(to)).status().unwrap().success());
    }
    node.sh(&format!(
        "systemd-run -q --unit lab-many /opt/lab/many-logs serve /srv/fixtures -listen {} -flat 10400 -sizes small",
        S3.trim_start_matches("http://")
    ));
    node.sh(&format!(
        "mkdir -p /srv/sql/events && chown -R hadoop /srv/sql && cd /srv/sql && sudo -u hadoop env HOME=/srv/sql \
         timeout 200 /usr/lib/spark/bin/spark-sql --name ledger --master 'local[2]' --conf spark.ui.enabled=false \
         --conf spark.sql.catalogImplementation=in-memory --conf spark.sql.warehouse.dir=file:///srv/sql/warehouse \
         --conf spark.eventLog.dir=file:///srv/sql/events --conf spark.eventLog.logBlockUpdates.enabled=true \
         -e '{SQL}' 2>&1"
    ));
    let ours: Vec<String> = (0..COMMANDS.len()).map(application).collect();
    node.sh(&format!(
        "set -e; put() {{ curl -sSf -X PUT --data-binary @$1 {S3}/many/flat/$2; }}; \
         cd /srv/fixtures; for file in $(find -type f -printf '%P\\n'); do put $file $file; done; \
         cd /srv/sql/events; for id in {}; do sed \"s/$(ls)/$id/g\" * >/srv/sql/$id; put /srv/sql/$id $id; done",
        ours.join(" ")
    ));
    let mut ids: BTreeSet<String> = ours.into_iter().collect();
    ids.extend([1, 2, 3, 5, 7, 9, 10, 11, 13].map(|number| format!("application_1795352263709_{number:04}")));
    ids.extend(rows(&node).map(|row| row["id"].as_str().unwrap().to_string()));
    assert!(ids.len() >= 10_000, "{}", ids.len());

    node.sh("sed -i 's/127.0.0.1:7070/127.0.0.1:7080/' /etc/hadoop/conf/core-site.xml");
    node.emr_shs(&["install", "--event-logs", "s3://many/flat/", "--index"]).expect(0);
    wait("the list of applications", || {
        let listed = format!("curl -sS http://localhost:{GATEWAY}/api/v1/applications | grep -c '\"id\"' || true");
        (node.sh(&listed).trim() == ids.len().to_string()).then_some(())
    });
    (node, ids)
}

/// What is true of each log that is made by a formula.
fn rows(node: &Node) -> impl Iterator<Item = Value> {
    let rows = node.sh(&format!("curl -sSf --retry 9 --retry-connrefused {S3}/_/rows"));
    rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>().into_iter()
}

/// Runs spark-history-cli against this port of the node.
fn client(node: &Node, port: u16, words: &str) -> CommandOutput {
    node.run(&[
        "bash",
        "-c",
        &format!("PYTHONPATH=/srv/packages timeout 60 python3 -m spark_history_cli -s http://localhost:{port} {words}"),
    ])
}

/// Fails unless some line of a text contains each of these, whatever the width of the columns.
#[track_caller]
fn assert_shows(text: &str, wanted: &[&str]) {
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for wanted in wanted {
        assert!(lines.iter().any(|line| line.contains(wanted)), "no line contains {wanted:?}:\n{text}");
    }
}

fn ids_of(applications: &Value) -> BTreeSet<String> {
    applications.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_string()).collect()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn spark_history_cli_works_over_10_000_applications_of_which_none_is_in_the_cache() {
    let (node, ids) = node_with_10_000_applications();
    let cached = |name: &str| node.sh(&format!("ls {CACHE} | grep -cF '{name}' || true")).trim() != "0";
    let through_gateway = |words: &str| client(&node, GATEWAY, words).expect(0);

    // Lists, which open nothing.
    assert_shows(&through_gateway("version").out(), &["Spark 3.5.8"]);
    let all = through_gateway("--json apps").json();
    assert_eq!((ids_of(&all), all.as_array().unwrap().len()), (ids.clone(), ids.len()));
    let newest = through_gateway("apps --limit 1").out();
    assert_shows(&newest, &["│ ledger │ ✓ COMPLETED │"]);
    assert_eq!(newest.matches("application_").count(), 1, "{newest}");
    let running = through_gateway("--json apps --status running").json();
    assert!(running.as_array().unwrap().iter().all(|one| one["attempts"][0]["completed"] == false), "{running}");
    assert!(ids_of(&running).contains("application_1795352263709_0010"), "{running}");
    assert!(!ids_of(&running).contains("application_1795352263709_0009"), "{running}");
    // From the start of the first fixture to that of the last.
    let (first, last) = (1_795_352_330_809_i64, 1_795_352_785_999_i64);
    let started = |row: &Value| (first..=last).contains(&row["started"].as_i64().unwrap());
    let mut expected: BTreeSet<String> =
        rows(&node).filter(started).map(|row| row["id"].as_str().unwrap().to_string()).collect();
    expected.extend(ids.iter().filter(|id| id.starts_with("application_1795352263709_00")).cloned());
    let dates = "--min-date 2026-11-22T12:58:50.809GMT --max-date 2026-11-22T13:06:25.999GMT";
    assert_eq!(ids_of(&through_gateway(&format!("--json apps {dates}")).json()), expected);

    let failed = "application_1795352263709_0009";
    assert_shows(
        &through_gateway(&format!("app {failed}")).out(),
        &["Name yarn-cluster-failed", "Started 2026-11-22 13:03:40 UTC", "Duration 16.6s", "Attempts 2"],
    );
    let attempts = ["2 │ ✓ COMPLETED │ 2026-11-22 13:03:40 │", "1 │ ✓ COMPLETED │ 2026-11-22 13:03:04 │"];
    assert_shows(&through_gateway(&format!("-a {failed} attempts")).out(), &attempts);
    let attempt = through_gateway(&format!("-a {failed} attempt 1")).out();
    assert_shows(&attempt, &["Attempt ID 1", "Ended 2026-11-22 13:03:32", "Duration 27.9s"]);
    assert_eq!(node.sh(&format!("ls {CACHE}")), "");

    // Each of these opens an application of its own, and prints what it prints of the history server that lists it.
    for (nth, (words, wanted)) in COMMANDS.iter().enumerate() {
        let id = application(nth);
        assert!(!cached(&id), "{id} before {words}");
        let words = format!("-a {id} {words}");
        let printed = through_gateway(&words).out();
        let wanted: Vec<String> = wanted.iter().map(|wanted| wanted.replace("{id}", &id)).collect();
        assert_shows(&printed, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
        if !words.ends_with(" attempts") {
            assert!(cached(&id), "{words} opens the application");
            assert_eq!(client(&node, HISTORY_SERVER, &words).expect(0).out(), printed, "{words}");
        }
    }
    let downloaded = application(COMMANDS.len() - 1);
    node.sh(&format!("cd /srv && python3 -m zipfile -e logs.zip . && cmp {downloaded} sql/{downloaded}"));
    // Of an application of YARN with two attempts, the client asks for the newest.
    assert_shows(&through_gateway(&format!("-a {failed} jobs")).out(), &["0 │ count at FixtureApp.java:"]);
    let master = through_gateway("-a application_1795352263709_0003 processes").out();
    assert_shows(&master, &["yarn-am │ localhost:35715 │ ✓ │ 1 │ ['stdout', 'stderr']"]);

    // An application that does not exist.
    for words in ["app nobody", "-a nobody attempt 1", "-a nobody jobs", "-a nobody logs /srv/nobody.zip"] {
        let said = |port| client(&node, port, words).expect(1).err().lines().next_back().unwrap().to_string();
        assert!(said(GATEWAY).contains("404"), "{words}: {}", said(GATEWAY));
        let of_history_server = said(HISTORY_SERVER).replace(&HISTORY_SERVER.to_string(), &GATEWAY.to_string());
        assert_eq!(said(GATEWAY), of_history_server, "{words}");
    }
}
