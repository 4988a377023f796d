//! Cases for `doctor`: break something on a node, let `doctor` name the cause, mend it.

use crate::helpers::node::{LOG_URI, LOGS, Node, Profile};
use crate::helpers::snapshots::assert_snapshot;
use crate::helpers::wait::wait;
use serde_json::Value;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// A node, and the text of all cases so far, for a snapshot.
pub struct DoctorCases {
    pub node: Node,
    pub said: String,
    /// Words before the command, such as `env NAME=VALUE`.
    pub env: &'static [&'static str],
}

/// The result of `doctor --json`.
pub struct Report {
    pub code: i32,
    pub json: Value,
    pub took: Duration,
}

impl Report {
    pub fn of(node: &Node) -> Self {
        Self::with(node, &[])
    }

    pub fn with(node: &Node, env: &[&str]) -> Self {
        let (ran, took) = node.timed(&[env, &["emr-shs", "doctor", "--json"]].concat());
        assert!(ran.out().starts_with('{'), "{}{}", ran.out(), ran.err());
        Self { code: ran.code(), json: ran.json(), took }
    }

    pub fn checks(&self) -> &Vec<Value> {
        self.json["checks"].as_array().unwrap()
    }

    pub fn names(&self, result: &str) -> Vec<&str> {
        self.checks().iter().filter(|c| c["result"] == result).map(|c| c["name"].as_str().unwrap()).collect()
    }

    /// All checks that did not pass, with details and fixes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in self.checks().iter().filter(|c| c["result"] != "pass") {
            let word = check["result"].as_str().unwrap().to_uppercase();
            let found = check["found"].as_str().unwrap();
            writeln!(text, "{word}  {}: {found}", check["name"].as_str().unwrap()).unwrap();
            for detail in check["details"].as_array().unwrap() {
                writeln!(text, "      {}", detail.as_str().unwrap()).unwrap();
            }
            if let Some(fix) = check["fix"].as_str() {
                writeln!(text, "      fix: {fix}").unwrap();
            }
        }
        text
    }
}

impl DoctorCases {
    /// A node with an installation, event logs and container logs, on which every check passes.
    pub fn installed(profile: Profile) -> Self {
        let node = Node::fresh(profile);
        node.upload_event_logs(LOGS);
        node.upload_container_logs(LOG_URI, false);
        node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
        let this = Self { node, said: String::new(), env: &[] };
        this.recovered();
        this
    }

    /// Waits until every check passes.
    pub fn recovered(&self) {
        wait("the history server to answer", || self.node.answers().then_some(()));
        let mut last = String::new();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(120) {
            let report = Report::of(&self.node);
            if report.code == 0 && report.names("skip").is_empty() {
                return;
            }
            last = report.text();
            std::thread::sleep(Duration::from_millis(500));
        }
        panic!("doctor is not content again:\n{last}");
    }

    /// Breaks something. Exactly these checks must fail, the cause first, and the report must contain these words.
    pub fn suffers(&mut self, name: &str, given: impl FnOnce(&Node), fails: &[&str], says: &[&str]) -> Report {
        given(&self.node);
        let report = Report::with(&self.node, self.env);
        let text = report.text();
        eprintln!("== {name} ({:.1} s)\n{text}", report.took.as_secs_f64());
        assert_eq!(report.names("fail"), fails, "{name}:\n{text}");
        assert_eq!(report.code, if fails.is_empty() { 0 } else { 3 }, "{name}");
        for said in says {
            assert!(text.contains(said), "{name}: wanted “{said}” in:\n{text}");
        }
        for check in report.checks().iter().filter(|c| c["result"] == "fail") {
            assert!(check["fix"].is_string(), "{name}: {check}");
        }
        assert!(report.took < Duration::from_secs(20), "{name}: it took {:?}", report.took);
        writeln!(self.said, "== {name}\n{text}").unwrap();
        report
    }

    /// Breaks something by a line of shell, checks the report, and mends it by another line.
    pub fn case(&mut self, name: &str, given: &str, fails: &[&str], says: &[&str], mend: &str) {
        self.suffers(name, |node| drop(node.sh(given)), fails, says);
        self.node.sh(mend);
        self.recovered();
    }

    /// Lets S3 give other answers while `doctor` runs.
    pub fn s3(&mut self, name: &str, fault: &Value, fails: &[&str], says: &[&str]) -> Report {
        let path = self.node.path("/etc/lab/s3-fault.json");
        std::fs::write(&path, fault.to_string()).unwrap();
        let report = self.suffers(name, |_| {}, fails, says);
        std::fs::remove_file(&path).unwrap();
        self.recovered();
        report
    }

    /// Lets the metadata service or the EMR API give another answer while `doctor` runs.
    pub fn stand_in(&mut self, name: &str, member: &str, value: Value, fails: &[&str], says: &[&str]) -> Report {
        let path = self.node.path("/etc/lab/standin.json");
        let before = std::fs::read(&path).unwrap();
        self.node.stand_in(member, value);
        let report = self.suffers(name, |_| {}, fails, says);
        std::fs::write(&path, before).unwrap();
        report
    }
}

/// A line of shell that waits until a condition is true, and fails if it is not within three minutes.
pub fn until(condition: &str) -> String {
    format!("for i in $(seq 900); do {{ {condition}; }} && break; sleep 0.2; done; {condition}")
}

/// A condition for a shell: the history server lists so many attempts of applications.
pub fn lists(attempts: usize) -> String {
    format!("[ $(curl -s localhost:18080/api/v1/applications | grep -c startTimeEpoch) = {attempts} ]")
}

/// On a healthy node the report has a line for each check, none wider than a terminal.
#[track_caller]
pub fn healthy(node: &Node, name: &str) {
    let text = node.emr_shs(&["doctor"]).expect(0).out();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text.lines().count(), Report::of(node).checks().len() + 2, "{text}");
    assert_snapshot(name, &text);
}
