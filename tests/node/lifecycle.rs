//! `install` and `uninstall` on a node: what the history server lists, what each option does, what stays.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{LOGS, Node, Profile};
use serde_json::Value;

/// The ids of the fixtures' applications, with their attempts as `id:completed`.
const FIXTURES: &[(&str, &[&str])] = &[
    ("application_1795352263709_0001", &["1:true"]),
    ("application_1795352263709_0002", &["1:true"]),
    ("application_1795352263709_0003", &["-:true"]),
    ("application_1795352263709_0005", &["-:true"]),
    ("application_1795352263709_0007", &["-:true"]),
    ("application_1795352263709_0009", &["2:true", "1:true"]),
    ("application_1795352263709_0010", &["1:false"]),
    ("application_1795352263709_0011", &["-:false"]),
    ("application_1795352263709_0013", &["1:true"]),
];

on_profiles! {
    [emr_7_1: Emr71, emr_7_12: Emr712]
    [install_lists_applications_from_s3_and_uninstall_leaves_no_trace, install_repairs_a_server_that_a_manual_setup_broke, each_option_does_what_it_says, jars_on_the_class_path_are_not_linked_again, settings_that_others_changed_survive_uninstall]
}

fn install_lists_applications_from_s3_and_uninstall_leaves_no_trace(profile: Profile) {
    let node = Node::fresh(profile);
    let before = node.tree();
    let spark_jars = node.sh("ls /usr/lib/spark/jars");
    node.emr_shs(&["plan", "--check", "--event-logs", LOGS]).expect(4);

    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.reads(), LOGS);
    assert_eq!(node.sh("ls /usr/lib/spark/jars"), spark_jars, "every job would upload what is added there");

    let pid = node.history_server_pid();
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    assert_eq!(node.history_server_pid(), pid, "a second install restarts nothing");
    node.emr_shs(&["plan", "--check"]).expect(0);
    let status = node.emr_shs(&["status", "--json"]).expect(0).json();
    assert_eq!(status["server_reads_event_logs"], true);
    assert!(status["rows"].as_array().unwrap().iter().all(|r| r["condition"] == "ours"), "{status:#}");

    node.upload_event_logs(LOGS);
    let own = node.spark_submit("written-after-install");
    let listed = node.wait_for_attempts(attempts() + 1);
    for (id, attempts) in FIXTURES {
        assert_eq!(attempts_of(&listed, id), *attempts, "{id}");
    }
    assert_eq!(attempts_of(&listed, &own), ["-:true"], "{own} of spark-submit");

    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps");
    assert_same_tree(&before, &node.tree());
    assert!(node.s3_has(LOGS), "event logs stay");
}

/// How many attempts of applications are uploaded.
fn attempts() -> usize {
    FIXTURES.iter().map(|(_, attempts)| attempts.len()).sum()
}

fn attempts_of(listed: &[Value], id: &str) -> Vec<String> {
    let application = listed.iter().find(|a| a["id"] == id).unwrap_or_else(|| panic!("{id} is not listed"));
    let attempts = application["attempts"].as_array().unwrap().iter();
    attempts.map(|a| format!("{}:{}", a["attemptId"].as_str().unwrap_or("-"), a["completed"])).collect()
}

fn install_repairs_a_server_that_a_manual_setup_broke(profile: Profile) {
    let node = Node::broken(profile);
    let before = node.tree();
    assert!(!node.answers());
    let plan = node.emr_shs(&["plan", "--event-logs", LOGS]).expect(0).out().replace('\n', " ");
    for said in [
        "customAWSCredentialsProvider is not a key of Hadoop",
        "uses {{APP_ID}}, which executors on YARN do not have",
        "The history server is not running",
        "restart spark-history-server",
    ] {
        assert!(plan.contains(said), "wanted “{said}” in {plan}");
    }
    // The scheme and directory of the manual setup, with an empty bucket.
    let seeds = "s3a://acme-spark/spark-events/";
    node.emr_shs(&["install", "--event-logs", seeds]).expect(0);
    assert_eq!(node.reads(), seeds);
    node.upload_event_logs(seeds);
    node.emr_shs(&["restart"]).expect(0);
    let listed = node.wait_for_attempts(attempts());
    assert_eq!(attempts_of(&listed, "application_1795352263709_0009"), ["2:true", "1:true"]);

    let ran = node.emr_shs(&["uninstall"]).expect(0);
    assert!(ran.err().contains("was down before the install"), "{}", ran.err());
    node.wait_until_dead();
    assert_same_tree(&before, &node.tree());
}

fn each_option_does_what_it_says(profile: Profile) {
    let node = Node::fresh(profile);
    let before = node.tree();
    node.sh("install -d /opt/mine && install -m 644 /usr/lib/hadoop/hadoop-aws.jar /opt/mine/mine.jar");
    node.emr_shs(&["install", "--event-logs", "s3a://acme-spark/events/", "--jar", "/opt/mine/mine.jar"]).expect(0);
    assert_eq!(node.sh("readlink /usr/lib/emr-shs/jars/mine.jar").trim(), "/opt/mine/mine.jar");
    assert_eq!(node.sh("test ! -e /usr/lib/emr-shs/jars/hadoop-aws.jar && echo no").trim(), "no");

    let option = ["--set", "spark.history.ui.maxApplications=123"];
    node.emr_shs(&["install", "--event-logs", LOGS, "--link-into", "spark-jars", option[0], option[1]]).expect(0);
    assert_eq!(node.reads(), LOGS);
    assert!(node.sh("ls /usr/lib/spark/jars").contains("emr-shs-"));
    assert_eq!(
        node.sh("test ! -e /usr/lib/emr-shs -a ! -e /etc/systemd/system/spark-history-server.service.d/zz-emr-shs.conf && echo gone")
            .trim(),
        "gone"
    );
    assert!(node.sh("cat /etc/spark/conf/spark-defaults.conf").contains("spark.history.ui.maxApplications 123"));

    node.emr_shs(&["install", "--history-only", "--link-into", "daemon"]).expect(0);
    assert_eq!(node.reads(), LOGS);
    assert!(!node.sh("ls /usr/lib/spark/jars").contains("emr-shs-"));
    let defaults = node.sh("cat /etc/spark/conf/spark-defaults.conf");
    assert!(defaults.contains("spark.eventLog.dir               hdfs:///var/log/spark/apps\n"), "{defaults}");

    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());

    // The commands for single components together do what `install` does.
    for piece in [&["prefix"][..], &["link"], &["configure"], &["proxy", "install"]] {
        node.emr_shs(&[piece, &["--event-logs", LOGS]].concat()).expect(0);
        assert_eq!(node.reads(), "hdfs:///var/log/spark/apps", "{piece:?} alone restarts nothing");
    }
    node.emr_shs(&["restart"]).expect(0);
    assert_eq!(node.reads(), LOGS);
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
}

fn jars_on_the_class_path_are_not_linked_again(profile: Profile) {
    let node = Node::fresh(profile);
    node.sh(match profile {
        Profile::Emr71 => "ln -s /usr/share/aws/emr/emrfs/lib/emrfs-hadoop-assembly-2.62.0.jar /usr/lib/spark/jars/",
        _ => {
            "ln -s /usr/lib/hadoop/hadoop-aws.jar /usr/share/aws/aws-java-sdk-v2/aws-sdk-java-bundle-*.jar /usr/lib/spark/jars/"
        }
    });
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.reads(), LOGS);
    assert_eq!(
        node.sh("test ! -e /usr/lib/emr-shs -a ! -e /etc/systemd/system/spark-history-server.service.d/zz-emr-shs.conf && echo none")
            .trim(),
        "none"
    );
}

fn settings_that_others_changed_survive_uninstall(profile: Profile) {
    let node = Node::fresh(profile);
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.sh("sed -i 's/^spark.history.fs.update.interval .*/spark.history.fs.update.interval 5m/' /etc/spark/conf.dist/spark-defaults.conf");
    node.sh("echo 'spark.acme.team data' >> /etc/spark/conf.dist/spark-defaults.conf");
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.lines().any(|l| l.starts_with("changed") && l.contains("update.interval")), "{status}");
    let ran = node.emr_shs(&["uninstall"]).expect(0);
    assert!(ran.err().contains("left alone, because somebody has changed it"), "{}", ran.err());
    let defaults = node.sh("cat /etc/spark/conf/spark-defaults.conf");
    assert!(
        defaults.contains("spark.history.fs.update.interval 5m") && defaults.contains("spark.acme.team data"),
        "{defaults}"
    );
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps");

    // A user has chosen another directory on S3, which needs the jars.
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.sh("sed -i 's#^spark.history.fs.logDirectory .*#spark.history.fs.logDirectory s3://acme-spark/theirs/#' /etc/spark/conf.dist/spark-defaults.conf");
    node.sh("/opt/lab/s3 put /dev/null s3://acme-spark/theirs/");
    let ran = node.emr_shs(&["uninstall"]).expect(0);
    assert!(ran.err().contains("links it needs are left"), "{}", ran.err());
    assert_eq!(node.reads(), "s3://acme-spark/theirs/");
    node.sh("sed -i 's#^spark.history.fs.logDirectory .*#spark.history.fs.logDirectory hdfs:///var/log/spark/apps#' /etc/spark/conf.dist/spark-defaults.conf");
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps");
    assert_eq!(node.sh("test ! -e /usr/lib/emr-shs -a ! -e /var/lib/emr-shs && echo gone").trim(), "gone");
}
