//! A real Prometheus scrapes the gateway, as docs/gateway.md tells, and runs the alerts and the dashboard's queries.

use super::*;
use crate::helpers::prometheus::Prometheus;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

const DOCUMENT: &str = include_str!("../../../docs/gateway.md");

/// The metrics in a table of the document.
pub fn documented(what: &str) -> BTreeSet<String> {
    let head = format!("| {what}, after `emr_shs_gateway_`");
    let table = DOCUMENT.lines().skip_while(|line| !line.starts_with(&head));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    let name = |row: &str| row.split('`').nth(1).unwrap().split('{').next().unwrap().to_string();
    // The test's certificate is another one.
    rows.map(name).filter(|name| name != "self_signed_certificate_info").collect()
}

/// The document's configuration of Prometheus, for a test that does not wait.
fn configuration(dir: &Path) -> String {
    let block = DOCUMENT.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let block = block.replace("/etc/prometheus/", &format!("{}/", dir.display()));
    let block = block.replace("ip-10-0-0-1.ec2.internal", PRIVATE_NAME);
    assert!(block.contains(&format!("[\"{PRIVATE_NAME}:9977\"]")), "{block}");
    format!("global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n{block}")
}

/// All queries of the dashboard, with Grafana's variables replaced.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(include_str!("../../../assets/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap();
            query.replace("$instance", ".*").replace("$__rate_interval", "1m")
        })
        .collect()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn prometheus_scrapes_the_gateway_and_runs_the_alerts_and_the_dashboard() {
    let node = node();
    node.sh(&format!(
        "mkdir -p /srv/tls; cd /srv/tls; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=gateway -days 2 \
         -addext subjectAltName=DNS:{PRIVATE_NAME} -keyout key.pem -out chain.pem 2>/dev/null; chmod 644 key.pem"
    ));
    let users = include_str!("../../fixtures/htpasswd").replace("admin:", "prometheus:");
    fs::write(node.path("/srv/users"), users).unwrap();
    let files = ["--tls-cert", "/srv/tls/chain.pem", "--tls-key", "/srv/tls/key.pem", "--htpasswd", "/srv/users"];
    node.emr_shs(&[&["proxy", "install"], &files[..]].concat()).expect(0);
    let ask = |path: &str| {
        let url = format!("https://localhost:9977{path}");
        ask(&node, &["-k", "-u", "prometheus:correct horse", &url])
    };
    assert_eq!(ask(LOG).status, 302);
    wait("the gateway to be ready", || (ask("/-/readyz").status == 200).then_some(()));

    // The document lists every metric, and no other.
    let metrics = ask("/-/metrics").body;
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE emr_shs_gateway_"));
    let printed: BTreeSet<String> = types.map(|rest| rest.split(' ').next().unwrap().to_string()).collect();
    assert_eq!(printed, documented("Metric"));
    // Nothing is wrong yet.
    for line in ["ready 1", "failing_log_uris 0", "busy_total{what=\"pages\"} 0", "log_lines_left_out_total 0"] {
        assert!(metrics.contains(&format!("\nemr_shs_gateway_{line}\n")), "{line} in {metrics}");
    }

    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("prometheus.yml", &configuration(dir.path()));
    write("emr-shs-password", "correct horse");
    write("emr-shs-ca.pem", &fs::read_to_string(node.path("/srv/tls/chain.pem")).unwrap());
    write("emr-shs-alerts.yml", include_str!("../../../assets/monitoring/alerts.yml"));
    let prometheus = Prometheus::start(&node, dir.path());
    wait("a scrape", || (prometheus.query("up{job=\"emr-shs-gateway\"} == 1").len() == 1).then_some(()));
    let queries = dashboard();
    assert!(queries.len() > 15, "{queries:?}");
    for query in &queries {
        // A rate needs two scrapes.
        wait(query, || (!prometheus.query(query).is_empty()).then_some(()));
    }

    // The alerts are evaluated, and are quiet.
    let alerts = || {
        let groups = prometheus.api("rules", &[]).unwrap();
        let rules = groups["groups"][0]["rules"].as_array().unwrap().clone();
        assert_eq!(rules.len(), 6);
        rules.iter().for_each(|rule| assert_ne!(rule["health"], "err", "{rule}"));
        let state = |rule: &Value| format!("{} {}", rule["name"].as_str().unwrap(), rule["state"].as_str().unwrap());
        let evaluated = rules.iter().all(|rule| rule["health"] == "ok");
        evaluated.then(|| rules.iter().map(state).collect::<Vec<_>>())
    };
    let names = [
        "EmrShsGatewayDown",
        "EmrShsGatewayLacksLogs",
        "EmrShsGatewaySpendsItsBudget",
        "EmrShsIndexTooOld",
        "EmrShsEventLogCacheFull",
        "EmrShsEventLogsRefused",
    ];
    let quiet = names.map(|name| format!("{name} inactive"));
    // A scrape that is late once lets one of them wait for a moment.
    wait("the rules to be quiet", || (alerts()? == quiet).then_some(()));

    // S3 is gone: a log that the gateway found before does not make the gateway ready.
    node.sh("systemctl stop lab-s3");
    wait("the gateway to notice", || (ask("/logs/").status == 502).then_some(()));
    let unready = ask("/-/readyz");
    assert_eq!(unready.status, 503, "{}", unready.body);
    let waits_for = |alert: &str| wait(alert, || alerts()?.iter().any(|state| state == alert).then_some(()));
    waits_for("EmrShsGatewayLacksLogs pending");
    // A scrape starts a gateway whose socket is there.
    node.sh(&format!("systemctl stop {UNIT}.socket {UNIT}.service"));
    waits_for("EmrShsGatewayDown pending");
}
