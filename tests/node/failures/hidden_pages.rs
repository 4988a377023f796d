//! A history server whose pages cannot be seen. It is alive, and nobody rolls anything back because of it.

use super::*;
use crate::helpers::doctor_cases::Report;
use std::time::{Duration, Instant};

on_profiles! {
    [emr_7_12: Emr712]
    [a_login_before_the_pages_is_known_before_the_first_change]
}

const LOGIN_PAGE: &str = "https://login.acme.example/oauth2/";

fn a_login_before_the_pages_is_known_before_the_first_change(profile: Profile) {
    let node = Node::fresh(profile);
    let redirects = || node.sh("curl -si localhost:18080/ || true").contains(LOGIN_PAGE).then_some(());
    let pid = || node.sh("systemctl show -p MainPID --value spark-history-server");
    node.sh("/opt/lab/harden login");

    // The running server does not have the filter yet. The restarted one has it, and lives.
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let said = ran.err().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(&format!("warning: port 18080 redirects (302) to {LOGIN_PAGE}")), "{said}");
    assert!(said.contains("judges by its process"), "{said}");
    assert!(redirects().is_some() && node.sh("pgrep -a java").contains("/usr/lib/emr-shs/jars"));
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("it runs, but port 18080 redirects (302)"), "{status}");
    let report = Report::of(&node);
    assert_eq!((report.code, report.names("fail")), (0, vec![]), "{}", report.text());
    assert!(report.names("skip").contains(&"pages"), "{}", report.text());
    assert!(report.text().contains(&format!("redirects (302) to {LOGIN_PAGE}")), "{}", report.text());
    node.emr_shs(&["uninstall"]).expect(0);

    // Now the login is known before the first change.
    wait("the filter", redirects);
    let (before, server, begun) = (node.tree(), pid(), Instant::now());
    let says = ["pages cannot be seen", LOGIN_PAGE, "spark.ui.filters", "--force"];
    complains(&node.emr_shs(&["install", "--event-logs", LOGS]), 3, &says);
    complains(&node.emr_shs(&["plan", "--event-logs", LOGS]), 3, &says);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_same_tree(&before, &node.tree());
    assert_eq!(pid(), server);

    // With --force a failure is still one, and the server comes back behind its login.
    node.sh("echo 'grep -q elsewhere /etc/spark/conf/spark-defaults.conf && command=false' >/etc/default/spark-history-server");
    let ran = node.emr_shs(&["install", "--event-logs", "s3://acme-spark/elsewhere/", "--force"]);
    complains(&ran, 1, &["put back: ", "the history server answers again"]);
    node.sh("rm /etc/default/spark-history-server");
    assert!(redirects().is_some());
    assert_same_tree(&before, &node.tree());

    node.sh("/opt/lab/harden no-login; systemctl restart spark-history-server");
    wait("the server", || node.answers().then_some(()));
    assert_eq!(node.reads(), HDFS);
}
