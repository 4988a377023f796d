//! Which requests of a visitor cost requests to S3, and which limits there are.

use crate::helpers::index_gateway::IndexGateway;
use crate::helpers::many_logs::ManyLogs;
use crate::helpers::wait::wait;
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../docs/gateway.md");

/// How many LISTs the gateway has sent.
fn lists(gateway: &IndexGateway) -> u64 {
    let (_, text) = gateway.ask("/-/metrics");
    let metric = "emr_shs_gateway_s3_requests_total{operation=\"ListObjectsV2\"} ";
    text.lines().find_map(|line| line.strip_prefix(metric)).unwrap().parse().unwrap()
}

#[test]
fn clusters_that_do_not_exist_cost_nothing() {
    let s3 = ManyLogs::start(&[]);
    let directory = "container-logs/j-2AXXXXXXGAPLF/containers/application_1795352263709_0001";
    s3.put(&format!("{directory}/container_1795352263709_0001_01_000001/stderr.gz"), b"x");
    let gateway = IndexGateway::start(&s3, &[]);
    wait("the log URI", || (gateway.ask("/-/readyz").0 == 200).then_some(()));
    let (status, page) = gateway.ask("/logs/j-2AXXXXXXGAPLF/");
    assert!(status == 200 && page.contains("application_1795352263709_0001"), "{page}");
    let before = lists(&gateway);
    for n in 0..20 {
        let (status, page) = gateway.ask(&format!("/logs/j-2AXXXXXX{n:05}/"));
        assert!(status == 200 && page.contains("j-2AXXXXXXGAPLF"), "{status}: {page}");
    }
    assert_eq!(lists(&gateway), before);
}

#[test]
fn the_document_says_what_each_limit_counts() {
    let s3 = ManyLogs::start(&["-flat", "2"]);
    let gateway = IndexGateway::start(&s3, &["--event-logs", "s3://acme/flat/"]);
    let (_, text) = gateway.ask("/-/metrics");
    let lines = text.lines().filter_map(|line| line.strip_prefix("emr_shs_gateway_busy_total{what=\""));
    let counted: BTreeSet<&str> = lines.map(|rest| rest.split('"').next().unwrap()).collect();
    let row = DOCUMENT.lines().find_map(|line| line.strip_prefix("| `busy_total{what}` |")).unwrap();
    let documented: BTreeSet<&str> = row.split('`').skip(1).step_by(2).collect();
    assert_eq!(counted, documented);
    assert!(counted.contains("lists") && counted.contains("queries"));
}
