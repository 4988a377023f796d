//! `install --index`: the log gateway lists all applications, and the history server shows those that somebody opens.

use crate::gateway::monitoring::documented;
use crate::helpers::chromium::{Browser, Setup};
use crate::helpers::laptop::Laptop;
use crate::helpers::node::{LOG_URI, LOGS, Node, Profile};
use crate::helpers::wait::wait;
use serde_json::Value;
use std::collections::BTreeSet;

on_profiles! {
    [emr_7_1: Emr71, emr_7_12: Emr712, emr_8_1: Emr81]
    [people_find_and_open_applications_and_logs]
}

const GATEWAY: &str = "http://localhost:9977";
const CACHE: &str = "/mnt/emr-shs/event-log-cache";

/// The answer of the gateway to a program.
fn json(node: &Node, path: &str) -> Value {
    let text = node.sh(&format!("curl -sS -m 60 --fail-with-body '{GATEWAY}{path}'"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}"))
}

/// The ids of the applications that the gateway lists.
fn listed(node: &Node) -> Vec<String> {
    let list = json(node, "/api/v1/applications");
    list.as_array().unwrap().iter().map(|application| application["id"].as_str().unwrap().to_string()).collect()
}

fn wait_for_list(node: &Node, count: usize) -> Vec<String> {
    for _ in 0..120 {
        let ids = listed(node);
        if ids.len() >= count {
            return ids;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    panic!("the gateway lists {:?}, wanted {count}", listed(node));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_index_is_installed_and_taken_back() {
    let node = Node::fresh(Profile::Emr712);
    node.upload_event_logs(LOGS);
    // As it is today.
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let count = node.wait_for_applications(9).len();
    assert_eq!(node.reads(), LOGS);

    let installed = node.emr_shs(&["install", "--index"]).expect(0);
    assert_eq!(node.reads(), format!("file://{CACHE}"), "{}", installed.err());
    assert_eq!(node.sh(&format!("stat -c '%U:%G %a' {CACHE}")), "emr-shs:spark 2750\n");
    // The history server needs nothing for S3.
    assert_eq!(node.sh("ls /usr/lib/emr-shs /etc/systemd/system/spark-history-server.service.d 2>/dev/null | grep -c -e jars -e zz-emr-shs.conf || true"), "0\n");
    let ids = wait_for_list(&node, count);
    for id in &ids {
        let attempts = json(&node, &format!("/api/v1/applications/{id}"));
        let attempt =
            attempts["attempts"][0]["attemptId"].as_str().map(|attempt| format!("/{attempt}")).unwrap_or_default();
        let executors = json(&node, &format!("/api/v1/applications/{id}{attempt}/allexecutors"));
        assert!(executors.is_array(), "{id}: {executors}");
    }
    for command in [&["plan", "--check"][..], &["doctor"], &["verify"]] {
        let ran = node.emr_shs(command);
        assert_eq!(ran.code(), 0, "{command:?}: {}{}", ran.out(), ran.err());
    }
    let status = node.emr_shs(&["status", "--json"]).expect(0).json();
    assert_eq!(status["missing"], Value::Array(Vec::new()), "{status}");
    assert_eq!(status["server_reads_event_logs"], true);

    // The document lists every metric that an index adds.
    let metrics = node.sh(&format!("curl -sS {GATEWAY}/-/metrics"));
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE emr_shs_gateway_")?.split(' ').next());
    let of_index = types.filter(|name| name.starts_with("index_") || name.starts_with("event_log_cache_"));
    assert_eq!(of_index.map(str::to_string).collect::<BTreeSet<_>>(), documented("Metric of the index"));

    // A disk at /mnt that a stop of the machine has emptied.
    node.sh(
        "systemctl stop spark-history-server emr-shs-gateway; rm -r /mnt/emr-shs; systemctl start spark-history-server",
    );
    assert_eq!(node.sh(&format!("stat -c '%U:%G %a' {CACHE}")), "emr-shs:spark 2750\n");
    node.sh("until curl -sf localhost:18080/api/v1/version >/dev/null; do sleep 0.2; done");
    json(&node, &format!("/api/v1/applications/{}/1/allexecutors", ids[0]));
    assert_eq!(node.emr_shs(&["doctor"]).code(), 0);

    node.emr_shs(&["install", "--index=false"]).expect(0);
    assert_eq!(node.reads(), LOGS);
    node.wait_for_applications(count);
    assert_eq!(node.sh(&format!("ls {CACHE} 2>/dev/null | wc -l")), "0\n");
    node.emr_shs(&["install", "--index"]).expect(0);
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.sh("ls -d /mnt/emr-shs /var/lib/emr-shs-gateway /etc/emr-shs 2>/dev/null | wc -l"), "0\n");
}

fn people_find_and_open_applications_and_logs(profile: Profile) {
    let node = Node::fresh(profile);
    node.upload_event_logs(LOGS);
    node.upload_container_logs(LOG_URI, true);
    assert!(node.laptop(Laptop::Ssh, &["true"]).status().unwrap().success());
    node.emr_shs(&["install", "--event-logs", LOGS, "--index"]).expect(0);
    wait_for_list(&node, 9);
    let _tunnel = node.tunnel(&["-L", "19977:localhost:9977", "-L", "7070:localhost:7070"]);
    let browser = Browser::start(&node, Setup::default());
    let at = |path: &str| format!("http://localhost:19977{path}");

    browser.open(&at("/"));
    browser.wait_for_text("application_1795352263709_0001");
    browser.whole_page("index");
    assert_eq!(browser.count("script"), 0);
    // A search, with the form of the page.
    browser.script(
        "document.querySelector('input[name=q]').value = 'cluster-single'; document.querySelector('form').submit()",
    );
    browser.wait_for_text("1 to 1 of 1");
    browser.click_link("application_1795352263709_0001");
    browser.wait_for_text("Completed Jobs");
    // Single and rolling event logs, and one that has not ended: its executors, and the log of one of them.
    for (application, container, says) in [
        ("0001/1", "container_1795352263709_0001_01_000002", "FIXTURE task stderr app=yarn-cluster-single executor=1"),
        (
            "0013/1",
            "container_1795352263709_0013_01_000002",
            "FIXTURE task stderr app=yarn-cluster-rolling-zstd executor=1",
        ),
        ("0010/1", "container_1795352263709_0010_01_000002", "FIXTURE task stderr app=yarn-cluster-incomplete"),
    ] {
        browser.open(&at(&format!("/history/application_1795352263709_{application}/executors/")));
        browser.wait_for_text("stderr");
        // Spark 4.1 has buttons above the page's right edge, and draws the table again while it loads.
        let click = format!(
            "const link = document.querySelector(\"#active-executors a[href$='/logs/{container}/stderr']\");
             link?.click();
             return link != null;"
        );
        wait("the link", || (browser.script(&click) == true).then_some(()));
        browser.wait_for_text(says);
    }
    // The history server's own page is there, too, and lists all.
    browser.open(&at("/history-server/"));
    browser.wait_for_text("application_1795352263709_0009");
    browser.open(&at("/history/application_1_0001/jobs/"));
    browser.wait_for_text("not found");
}
