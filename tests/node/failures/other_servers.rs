//! Processes that look like the history server. The unit's server is the one that systemd knows.

use super::*;
use crate::helpers::doctor_cases::Report;

on_profiles! {
    [emr_7_12: Emr712]
    [other_peoples_history_servers_are_named_and_left_alone, the_process_tells_what_the_start_files_do_not]
}

/// The process that systemd knows as the unit's.
fn main_pid(node: &Node, unit: &str) -> String {
    node.sh(&format!("systemctl show -p MainPID --value {unit}")).trim().into()
}

fn other_peoples_history_servers_are_named_and_left_alone(profile: Profile) {
    let node = Node::fresh(profile);
    node.sh("systemd-run -q --unit fake /opt/lab/look-alike fake games
         systemd-run -q --unit flicker /opt/lab/look-alike flicker nobody
         systemd-run -q --unit second /opt/lab/look-alike server hadoop 18090");
    wait("the second server", || {
        node.sh("curl -s localhost:18090/api/v1/version || true").contains("spark").then_some(())
    });
    let others = (main_pid(&node, "fake"), main_pid(&node, "second"));
    let are_left_alone = || assert_eq!((main_pid(&node, "fake"), main_pid(&node, "second")), others);

    // The installation goes by the unit's server alone.
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let said = ran.err().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("do not belong to spark-history-server.service"), "{said}");
    assert!(said.contains(&format!("process {} of user games in fake.service", others.0)), "{said}");
    assert!(said.contains("of user hadoop in second.service, port 18090"), "{said}");
    assert!(
        !node.sh("ls /usr/lib/spark/jars").contains("emr-shs-"),
        "the class path of a look-alike counts for nothing"
    );
    assert_eq!(node.reads(), LOGS);
    let report = Report::of(&node);
    assert_eq!(report.names("fail"), Vec::<&str>::new(), "{}", report.text());
    are_left_alone();

    // A failing one ends nobody else's server, and brings the unit's back.
    node.sh("echo 'grep -q elsewhere /etc/spark/conf/spark-defaults.conf && command=false' >/etc/default/spark-history-server");
    let ran = node.emr_shs(&["install", "--event-logs", "s3://acme-spark/elsewhere/"]);
    complains(&ran, 1, &["put back: ", "the history server answers again from s3://acme-spark/events/"]);
    node.sh("rm /etc/default/spark-history-server");
    assert_eq!(node.reads(), LOGS);
    are_left_alone();
    node.emr_shs(&["uninstall"]).expect(0);
    are_left_alone();
    node.sh("systemctl stop flicker");

    // A server on the unit's port that the unit did not start is a reason to stop before the first change.
    node.sh("systemctl stop spark-history-server || true; systemd-run -q --unit nanny /opt/lab/look-alike by-hand");
    wait("the server that a nanny starts", || node.answers().then_some(()));
    let (before, nanny) = (node.tree(), main_pid(&node, "nanny"));
    let says = [
        "the history server on port 18080 does not belong to spark-history-server.service",
        &format!("process {nanny} in nanny.service"),
        "sudo systemctl stop nanny.service; sudo systemctl restart spark-history-server.service",
    ];
    complains(&node.emr_shs(&["install", "--event-logs", LOGS]), 3, &says);
    complains(&node.emr_shs(&["restart"]), 3, &says);
    assert_same_tree(&before, &node.tree());
    assert_eq!(main_pid(&node, "nanny"), nanny);
    let report = Report::of(&node);
    assert_eq!(report.names("fail"), ["port"], "{}", report.text());
    assert!(report.text().contains(says[0]), "{}", report.text());

    // The advice is true.
    node.sh("systemctl stop nanny; systemctl restart spark-history-server");
    wait("the unit's server", || node.answers().then_some(()));
    node.sh("systemctl stop second fake");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.reads(), LOGS);

    // A masked unit cannot be restarted.
    node.sh("mv /etc/systemd/system/spark-history-server.service /root/; systemctl mask spark-history-server");
    complains(&node.emr_shs(&["restart"]), 3, &["is masked", "sudo systemctl unmask"]);
    assert_eq!(node.reads(), LOGS);
}

/// The account and the heap of a server that start files choose with a shell's means.
fn the_process_tells_what_the_start_files_do_not(profile: Profile) {
    let node = Node::fresh(profile);
    node.sh("echo 'user=hadoop' >/etc/default/spark-history-server; chown -R hadoop /var/log/spark/
        printf 'if [ -e /no/such/file ]; then\nexport SPARK_DAEMON_MEMORY=8g\nfi\n' >>/etc/spark/conf/spark-env.sh
        sleep 3; systemctl restart spark-history-server");
    wait("the server of another account", || node.answers().then_some(()));
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let defaults = node.sh("cat /etc/spark/conf/spark-defaults.conf");
    assert!(!defaults.contains("hybridStore.enabled") && !defaults.contains("numReplayThreads"), "{defaults}");
    let store = defaults.lines().find_map(|line| line.strip_prefix("spark.history.store.path ")).unwrap().trim();
    assert_eq!(node.sh(&format!("stat -c '%U %a' {store}; ls {store} | grep -c ^listing")), "hadoop 750\n1\n");
    node.emr_shs(&["plan", "--check"]).expect(0);
    node.sh("systemctl stop spark-history-server || true");
    // Now no process tells it, and it is known all the same. The plan restarts the server, and changes nothing.
    let plan = node.emr_shs(&["plan"]).expect(0).out();
    assert!(
        !plan.lines().any(|line| ["create", "change", "remove"].iter().any(|verb| line.starts_with(verb))),
        "{plan}"
    );
    node.sh("systemctl start spark-history-server");
    wait("the server", || node.answers().then_some(()));
    assert_eq!(Report::of(&node).names("fail"), Vec::<&str>::new());
    node.emr_shs(&["uninstall"]).expect(0);
}
