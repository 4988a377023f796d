//! Checks of `doctor` that need nothing but the files of a node.

use crate::helpers::root_dir::{DEFAULTS, RootDir};
use serde_json::Value;

const LOGS: [&str; 2] = ["--event-logs", "s3://acme-spark/events/"];

/// What one check says of a node: its result, and all its words.
fn check(root: &RootDir, name: &str) -> (String, String) {
    let report = root.run(&["doctor", "--json", LOGS[0], LOGS[1]]).json();
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap();
    let words = |member: &str| match &check[member] {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "),
        _ => String::new(),
    };
    (words("result"), ["found", "details", "fix"].map(words).join("; "))
}

#[test]
fn a_limit_on_the_files_of_rolling_event_logs_fails_unless_the_user_wants_it() {
    const LIMIT: &str = "spark.history.fs.eventLog.rolling.maxFilesToRetain";
    const NONE: &str = "2147483647";
    let with_line = |value: &str| {
        let root = RootDir::new();
        root.write(DEFAULTS, format!("{}{LIMIT} {value}\n", root.read(DEFAULTS)));
        root
    };
    for value in ["3", " 1 ", "2147483646", "${spark.acme.files}"] {
        let root = with_line(value);
        root.write(DEFAULTS, format!("{}spark.acme.files 7\n", root.read(DEFAULTS)));
        let (result, says) = check(&root, "cleaner");
        assert_eq!(result, "fail", "{value}: {says}");
        for wanted in [
            "the history server rewrites the rolling event logs in s3://acme-spark/events/",
            "deletes the original files, also those of other clusters",
            &format!("sudo emr-shs install --event-logs s3://acme-spark/events/ --set {LIMIT}={NONE}"),
        ] {
            assert!(says.contains(wanted), "{value}: wanted “{wanted}” in {says}");
        }
        // As the fix says.
        root.run(&["install", LOGS[0], LOGS[1], "--set", &format!("{LIMIT}={NONE}")]).expect(0);
        assert_eq!(check(&root, "cleaner"), ("pass".into(), "off; ; ".into()), "{value}");
    }
    // Spark's own default, and no line.
    assert_eq!(check(&with_line(NONE), "cleaner").0, "pass");
    assert_eq!(check(&RootDir::new(), "cleaner").0, "pass");

    // An option of the JVM wins over the file, and no --set takes it away.
    let root = with_line(NONE);
    root.write("etc/spark/conf.dist/spark-env.sh", format!("export SPARK_HISTORY_OPTS=\"-Dx=y -D{LIMIT}=5\"\n"));
    let (result, says) = check(&root, "cleaner");
    assert_eq!(result, "fail", "{says}");
    assert!(says.contains(&format!("take -D{LIMIT} out of line 1 of /etc/spark/conf/spark-env.sh")), "{says}");

    // Somebody who has forced it has decided.
    let root = RootDir::new();
    root.run(&["install", LOGS[0], LOGS[1], "--set", &format!("{LIMIT}=3"), "--force"]).expect(0);
    assert_eq!(check(&root, "cleaner").0, "pass");
    // Another value than the chosen one is not that decision.
    root.write(DEFAULTS, root.read(DEFAULTS).replace(&format!("{LIMIT} 3"), &format!("{LIMIT} 2")));
    assert_eq!(check(&root, "cleaner").0, "fail");
}

#[test]
fn directories_that_differ_only_in_their_spelling_are_the_same() {
    let root = RootDir::new();
    root.write("etc/spark/conf.dist/spark-env.sh", "export SPARK_HISTORY_OPTS=\"-Dacme.bucket=acme-spark\"\n");
    let with = |read: &str| {
        let lines = format!(
            "spark.eventLog.dir s3://acme-spark/events/\nspark.history.fs.logDirectory {read}\nspark.acme.bucket acme-spark\n"
        );
        root.write(DEFAULTS, lines);
        check(&root, "defaults")
    };
    for same in ["s3://${spark.acme.bucket}/events/", "s3://${system:acme.bucket}/events/", "s3://acme-spark/events"] {
        assert_eq!(with(same).0, "pass", "{same}: {:?}", with(same));
        let planned = root.run(&["plan", LOGS[0], LOGS[1]]).expect(0).out();
        assert!(!planned.contains("leaves the list"), "{same}: {planned}");
    }
    // Only the server's own JVM knows these.
    for unknown in ["s3://${system:user.name}/events/", "s3://${env:ACME_BUCKET}/events/"] {
        assert_eq!(with(unknown).0, "pass", "{unknown}: {:?}", with(unknown));
    }
    for (other, says) in [("s3://${spark.acme.other}/events/", "${spark.acme.other}"), ("s3://b/events/", "s3://b/")] {
        let (result, words) = with(other);
        assert!(result == "fail" && words.contains(says), "{other}: {words}");
    }
}
