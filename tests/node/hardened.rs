//! A node as companies harden it, with other people on it (`lab/root/opt/lab/harden`): everything works there, and nobody
//! else's processes, files and links are touched.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::doctor_cases::Report;
use crate::helpers::node::{LOG_URI, LOGS, Node, Profile};
use crate::helpers::wait::wait;

/// A log of the fixtures, by the path of its link in the history server.
const LOG: &str = "http://localhost:9977/logs/container_1795352263709_0001_01_000002/stderr";
const SAYS: &str = "FIXTURE task stderr app=yarn-cluster-single executor=1";
const LOGIN_PAGE: &str = "https://login.acme.example/oauth2/";

/// What belongs to others: processes, and what lies in directories where they may write.
fn of_others(node: &Node) -> String {
    node.sh(
        "for unit in second flicker locks planter proxy resolver; do
            echo $unit $(systemctl show -p MainPID,NRestarts,ActiveEnterTimestampMonotonic --value lab-$unit)
        done
        # useradd and userdel write the file anew.
        stat -c '%n %a %U:%G' /etc/shadow
        stat -c '%n %i %F %a %U:%G %N' /tmp /var/tmp /var/log/spark /etc \
            /mnt1/emr-shs /mnt/.emr-shs.emr-shs-new /var/log/spark/{gc.log,HistoryServer-1.out} /tmp/{hsperfdata_root,emr-shs.log}
        find /mnt /mnt1 -xdev -path /mnt/var/log -prune -o -printf '%p %i %y %m %u:%g %l\\n' | sort",
    )
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn everything_works_on_a_hardened_node_and_nothing_of_others_is_touched() {
    let node = Node::fresh(Profile::Hardened);
    node.upload_container_logs(LOG_URI, false);
    wait("the other team's server", || {
        node.sh("curl -s localhost:18090/api/v1/version || true").contains("spark").then_some(())
    });
    let (before, others) = (node.tree(), of_others(&node));
    let others_are_as_before = || assert_eq!(of_others(&node), others);

    let often = ["--set", "spark.history.fs.update.interval=3s"];
    let ran = node.emr_shs(&[&["install", "--event-logs", LOGS, "--verify"], &often[..]].concat()).expect(0);
    assert!(ran.err().contains("proved in"), "{}", ran.err());
    let said = ran.err().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("of user hadoop in lab-second.service, port 18090"), "{said}");
    assert_eq!(node.reads(), LOGS);
    assert!(
        node.sh("grep ^spark.history.store.path /etc/spark/conf/spark-defaults.conf").contains("/mnt/emr-shs/store-")
    );
    node.emr_shs(&["verify"]).expect(0);
    node.emr_shs(&["plan", "--check"]).expect(0);
    let status = node.emr_shs(&["status", "--json"]).expect(0).json();
    assert_eq!(status["server_reads_event_logs"], true);
    assert!(status["rows"].as_array().unwrap().iter().all(|r| r["condition"] == "ours"), "{status:#}");
    let report = Report::of(&node);
    assert_eq!((report.code, report.names("fail")), (0, vec![]), "{}", report.text());

    // Jobs and people use what root has made with a umask of 077.
    let own = node.spark_submit("hardened");
    wait("the application of the job", || {
        // The one that verify has written can still be listed, too.
        node.wait_for_applications(1).iter().any(|application| application["id"] == own.as_str()).then_some(())
    });
    assert!(node.sh(&format!("runuser -u hadoop -- hadoop fs -ls {LOGS}")).contains(&own));
    // The browser of this node goes through the company's proxy.
    assert!(node.sh(&format!("curl -sfL --compressed {LOG}")).contains(SAYS));

    let pid = node.history_server_pid();
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    assert_eq!(node.history_server_pid(), pid);
    // The same with S3A, which has keys for one bucket alone, and secrets under two names.
    node.emr_shs(&["install", "--event-logs", "s3a://acme-spark/events/"]).expect(0);
    assert_eq!(node.reads(), "s3a://acme-spark/events/");
    node.wait_for_applications(1);

    // A login before the pages is known before the first change.
    let redirects = || node.sh("curl -si localhost:18080/ || true").contains(LOGIN_PAGE).then_some(());
    node.sh("/opt/lab/harden login; systemctl restart spark-history-server");
    wait("the login", redirects);
    let refused = node.emr_shs(&["install", "--event-logs", "s3://acme-spark/other/"]).expect(3);
    assert!(refused.err().contains("pages cannot be seen") && refused.err().contains(LOGIN_PAGE), "{}", refused.err());
    let report = Report::of(&node);
    assert!(report.text().contains(&format!("redirects (302) to {LOGIN_PAGE}")), "{}", report.text());
    node.sh("/opt/lab/harden no-login; systemctl restart spark-history-server");

    wait("the server", || node.answers().then_some(()));
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps");
    assert_same_tree(&before, &node.tree());
    others_are_as_before();
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_index_works_on_a_hardened_node_and_shows_nothing_that_a_login_hides() {
    let node = Node::fresh(Profile::Hardened);
    wait("the other team's server", || {
        node.sh("curl -s localhost:18090/api/v1/version || true").contains("spark").then_some(())
    });
    let (before, others) = (node.tree(), of_others(&node));

    // A login before the pages: the gateway's list would show to all what the filter shows to some.
    node.sh("/opt/lab/harden login; systemctl restart spark-history-server");
    wait("the login", || node.sh("curl -si localhost:18080/ || true").contains(LOGIN_PAGE).then_some(()));
    for force in [&[][..], &["--force"]] {
        let refused = node.emr_shs(&[&["install", "--event-logs", LOGS, "--index"], force].concat()).expect(3);
        for said in [
            "--index would show applications that the history server hides from some users",
            "found spark.ui.filters among the settings of the history server",
            "--index=false",
        ] {
            assert!(refused.err().contains(said), "{said}: {}", refused.err());
        }
    }
    node.sh("/opt/lab/harden no-login; systemctl restart spark-history-server");
    wait("the server", || node.answers().then_some(()));
    assert_same_tree(&before, &node.tree());

    // Without a login: through the company's proxy, on a small disk, with a umask of 077 and a /tmp without programs.
    let ran = node.emr_shs(&["install", "--event-logs", LOGS, "--index", "--verify"]).expect(0);
    assert!(ran.err().contains("proved in"), "{}", ran.err());
    assert_eq!(node.reads(), "file:///mnt/emr-shs/event-log-cache");
    assert_eq!(node.sh("stat -c '%U:%G %a' /mnt/emr-shs/event-log-cache"), "emr-shs:spark 2750\n");
    node.emr_shs(&["verify"]).expect(0);
    node.emr_shs(&["plan", "--check"]).expect(0);
    let report = Report::of(&node);
    assert_eq!((report.code, report.names("fail")), (0, vec![]), "{}", report.text());
    let job = node.spark_submit("hardened");
    let gateway = "curl -sS -m 60 localhost:9977";
    let lists = || node.sh(&format!("{gateway}/api/v1/applications || true")).contains(&job).then_some(());
    wait("the job in the list", lists);
    let opened = node.sh(&format!("{gateway}/api/v1/applications/{job}/jobs"));
    assert!(opened.starts_with('['), "{opened}");
    assert!(node.sh("ls /mnt/emr-shs/event-log-cache").contains(&job));
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());

    // A login that comes later: the gateway's list shows what it hides.
    node.sh("/opt/lab/harden login; systemctl restart spark-history-server");
    wait("the login", || node.sh("curl -si localhost:18080/ || true").contains(LOGIN_PAGE).then_some(()));
    let report = Report::of(&node);
    assert!(
        report.text().contains("lists applications that the history server hides from some users"),
        "{}",
        report.text()
    );
    node.sh("/opt/lab/harden no-login; systemctl restart spark-history-server");
    wait("the server", || node.answers().then_some(()));

    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps");
    assert_same_tree(&before, &node.tree());
    assert_eq!(of_others(&node), others);
}
