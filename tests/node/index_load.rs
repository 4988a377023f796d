//! `install --index` under load: more people than the cache has places, programs that die, and what the history server asks S3.

use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::wait;
use std::time::{SystemTime, UNIX_EPOCH};

const EVENT_LOG: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/yarn/eventlogs/application_1795352263709_0003");
const LOAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/index_load.py");

/// A node whose gateway lists so many applications.
fn node_with(count: usize) -> Node {
    let node = Node::fresh(Profile::Emr712);
    node.copy(EVENT_LOG, "/srv/event-log");
    node.copy(LOAD, "/srv/index_load.py");
    node.sh(&format!(
        "python3 /srv/index_load.py make /srv/event-log {count} /srv/logs && /opt/lab/s3 put-tree /srv/logs {LOGS}"
    ));
    node.emr_shs(&["install", "--event-logs", LOGS, "--index"]).expect(0);
    wait("the list of applications", || {
        let ids = "curl -sS http://localhost:9977/api/v1/applications | grep -c '\"id\"' || true";
        (node.sh(ids).trim() == count.to_string()).then_some(())
    });
    node
}

/// Runs index_load.py, which must find nothing wrong.
#[track_caller]
fn load(node: &Node, words: &str) {
    let printed = node.sh(&format!("timeout 500 python3 /srv/index_load.py {words} 2>&1"));
    eprintln!("{printed}");
    assert!(!printed.contains("wrong:") && !printed.contains("Traceback"), "{printed}");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn fifty_people_open_fifty_applications_with_a_cache_for_twenty() {
    let node = node_with(50);
    node.sh("mkdir -p /etc/systemd/system/emr-shs-gateway.service.d && printf '[Service]\\nEnvironment=EMR_SHS_CACHE_COUNT=20\\n' \
        >/etc/systemd/system/emr-shs-gateway.service.d/count.conf && systemctl daemon-reload && systemctl restart emr-shs-gateway");
    let limit = "curl -sS http://localhost:9977/-/metrics | grep event_log_cache_limit_applications | tail -n 1";
    assert_eq!(node.sh(limit), "emr_shs_gateway_event_log_cache_limit_applications 20\n");
    load(&node, "many 50 20");
}

/// `EMR_SHS_KILL_SECONDS` says for how long, and `EMR_SHS_KILL_SEED` repeats the kills of another run.
#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn whatever_is_killed_every_request_is_answered_in_the_end() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seconds = number("EMR_SHS_KILL_SECONDS").unwrap_or(30);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = number("EMR_SHS_KILL_SEED").unwrap_or_else(now);
    eprintln!("EMR_SHS_KILL_SECONDS={seconds} EMR_SHS_KILL_SEED={seed}");
    let node = node_with(12);
    load(&node, &format!("kill /srv/event-log 12 {seconds} {seed} {LOGS}"));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn what_ends_while_the_history_server_is_down_is_shown_as_it_ended() {
    let node = node_with(1);
    // Its directory has the same name before and after.
    let id = "application_1795352263709_0900";
    let directory = format!("{LOGS}eventlog_v2_{id}");
    node.sh(&format!(
        "sed 's/application_1795352263709_0003/{id}/g' /srv/event-log >/srv/whole; head -n 10 /srv/whole >/srv/part; \
         /opt/lab/s3 put /srv/part {directory}/events_1_{id}; \
         /opt/lab/s3 put /dev/null {directory}/appstatus_{id}.inprogress"
    ));
    let jobs =
        format!("curl -sS -m 60 -o /srv/jobs -w '%{{http_code}}' http://localhost:9977/api/v1/applications/{id}/jobs");
    wait("the running application", || (node.sh(&jobs) == "200").then_some(()));
    assert_eq!(node.sh("grep -c jobId /srv/jobs || true"), "0\n");
    node.sh(&format!(
        "kill -9 {}; /opt/lab/s3 put /srv/whole {directory}/events_1_{id}; \
         /opt/lab/s3 put /dev/null {directory}/appstatus_{id}; /opt/lab/s3 rm {directory}/appstatus_{id}.inprogress; sleep 11",
        node.history_server_pid()
    ));
    assert_eq!(node.sh(&jobs), "502", "the history server is down");
    node.sh("systemctl reset-failed spark-history-server; systemctl start spark-history-server");
    wait("the application", || (node.sh(&jobs) == "200").then_some(()));
    assert_eq!(node.sh("grep -c jobId /srv/jobs || true"), "1\n", "the job that the application has run since");
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_history_server_asks_s3_nothing() {
    let node = Node::fresh(Profile::Emr712);
    node.upload_event_logs(LOGS);
    // The access log names the client. This is what it says of a history server that reads S3.
    let requests =
        |client: &str| node.sh(&format!("grep -ci '{client}' /var/log/lab-s3.log || true")).trim().to_string();
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.wait_for_applications(9);
    assert_ne!(requests("aws-sdk-java"), "0", "{}", node.sh("tail -n 3 /var/log/lab-s3.log"));

    node.emr_shs(&["install", "--index"]).expect(0);
    node.sh(": >/var/log/lab-s3.log");
    for id in ["0001/1", "0003", "0013/1"] {
        let url = format!("http://localhost:9977/api/v1/applications/application_1795352263709_{id}/jobs");
        node.sh(&format!("curl -sSf -m 60 --retry 5 --retry-all-errors {url}"));
    }
    // Some looks of the history server at its directory, one each second.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_ne!(requests("aws-sdk-rust"), "0", "{}", node.sh("tail -n 3 /var/log/lab-s3.log"));
    assert_eq!(requests("java"), "0", "{}", node.sh("grep -i java /var/log/lab-s3.log"));
    let pid = node.history_server_pid();
    assert_eq!(node.sh(&format!("ss -tnp dport = :7070 | grep -c 'pid={pid},' || true")), "0\n");
    assert_eq!(node.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ | grep -c emr-shs/jars || true")), "0\n");
}
