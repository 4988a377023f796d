//! Installations that fail, or are stopped, after their first change. They put everything back.

use super::*;

on_profiles! {
    [emr_7_1: Emr71, emr_7_12: Emr712]
    [an_install_that_fails_halfway_is_rolled_back, a_server_that_dies_of_new_settings_gets_the_old_ones_back, an_interrupted_install_is_rolled_back_or_finished_by_the_next]
}

fn an_install_that_fails_halfway_is_rolled_back(profile: Profile) {
    let node = Node::fresh(profile);
    let read_only = "unshare -m bash -c 'mount --bind /usr/lib /usr/lib; mount -o remount,ro,bind /usr/lib; exec emr-shs install --event-logs s3://acme-spark/events/'";
    let full_conf = "unshare -m bash -c 'cp -a /etc/spark/conf.dist /tmp/conf; mount -t tmpfs -o size=64k none /etc/spark/conf.dist; cp -a /tmp/conf/. /etc/spark/conf.dist/; head -c 1M /dev/zero >/etc/spark/conf.dist/full 2>/dev/null; emr-shs install --event-logs s3://acme-spark/events/; code=$?; cmp /tmp/conf/spark-defaults.conf /etc/spark/conf.dist/spark-defaults.conf || exit 99; rm -r /tmp/conf; exit $code'";
    let full_var = "unshare -m bash -c 'mount -t tmpfs -o size=16k none /var/lib; head -c 12k /dev/zero >/var/lib/full; exec emr-shs install --event-logs s3://acme-spark/events/'";
    let untouched = "the history server was not touched";
    let case = |run, says| Case { given: ":", run, code: 1, says, mend: ":" };
    try_all(
        &node,
        &[
            case(read_only, &["/usr/lib/emr-shs", "ead-only file system", untouched]),
            case(full_conf, &["spark-defaults.conf", "o space left", untouched]),
            case(full_var, &["receipt", "o space left", untouched]),
        ],
    );

    // The disk has room for the first receipt, but not for the last one, which is written after the restart.
    let before = node.tree();
    let nearly_full = full_var.replace("size=16k", "size=24k").replace("12k", "8k");
    complains(&node.run(&["bash", "-c", &nearly_full]), 1, &["receipt", "o space left", "answers again from hdfs:///"]);
    assert_same_tree(&before, &node.tree());
    assert_eq!(node.reads(), HDFS);

    // A link that someone else has replaced is left alone.
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let link = node.sh("ls /usr/lib/emr-shs/jars | head -1").trim().to_string();
    node.sh(&format!("ln -sfn /opt/theirs.jar /usr/lib/emr-shs/jars/{link}"));
    complains(
        &node.emr_shs(&["install"]),
        3,
        &[&format!("/usr/lib/emr-shs/jars/{link} has changed since emr-shs wrote it"), "/opt/theirs.jar", "--force"],
    );
    assert_eq!(node.reads(), LOGS);
    let ran = node.emr_shs(&["uninstall"]).expect(0);
    assert!(ran.err().contains("left alone, because somebody has changed it"), "{}", ran.err());
    assert_eq!(node.reads(), HDFS);
    assert_eq!(node.sh(&format!("readlink /usr/lib/emr-shs/jars/{link}")).trim(), "/opt/theirs.jar");

    // While Spark cannot read its configuration, `uninstall` refuses and keeps the receipt.
    node.sh("rm -r /usr/lib/emr-shs");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.sh(&format!(r"cp -p {DEFAULTS} /root/; echo 'spark.acme.home C:\users' >>{DEFAULTS}"));
    complains(&node.emr_shs(&["uninstall"]), 3, &["cannot be read by Spark"]);
    node.sh(&format!("cp -p /root/spark-defaults.conf {DEFAULTS}"));

    // What an `uninstall` leaves that fails halfway is called no installation, until the next one removes the rest.
    let stuck = read_only.replace("install --event-logs s3://acme-spark/events/", "uninstall");
    complains(&node.run(&["bash", "-c", &stuck]), 1, &["could not be put back", "ead-only file system"]);
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("it could not finish") && status.contains("still as installed"), "{status}");
    let report = node.emr_shs(&["doctor"]).expect(3).out();
    assert!(report.contains("uninstall: it could not finish"), "{report}");
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.reads(), HDFS);
}

/// Runs an installation whose settings kill the server. Then the files and the server must be as before.
fn dies(node: &Node, case: &Case<'_>) {
    node.sh(case.given);
    let before = node.tree();
    let ran = node.run(&["bash", "-c", case.run]);
    let after = node.tree();
    let reads = node.get("/").map(|_| node.reads());
    node.sh(case.mend);
    complains(&ran, case.code, case.says);
    assert_same_tree(&before, &after);
    assert_eq!(reads.as_deref(), Some(HDFS), "the history server is not back:\n{}", ran.err());
}

fn a_server_that_dies_of_new_settings_gets_the_old_ones_back(profile: Profile) {
    let node = Node::fresh(profile);
    // A jar that contains the class that emr-shs looks for, without the classes that it needs.
    let (lacks, heap) = match profile {
        Profile::Emr71 => {
            let name = "com/amazon/ws/emr/hadoop/fs/EmrFileSystem.class";
            let whole = File::open(node.path("/usr/share/aws/emr/emrfs/lib/emrfs-hadoop-assembly-2.62.0.jar")).unwrap();
            let mut class = Vec::new();
            zip::ZipArchive::new(whole).unwrap().by_name(name).unwrap().read_to_end(&mut class).unwrap();
            jar(&node, "/opt/mine/half.jar", &[(name, &class)]);
            ("the class path lacks org.apache.hadoop.fs.s3a.S3AFileSystem", "34m")
        }
        _ => {
            jar(&node, "/opt/mine/half.jar", &[(SDK_V2, b"")]);
            ("the class path lacks software.amazon.awssdk", "40m")
        }
    };
    let back = "the history server answers again from hdfs:///var/log/spark/apps";
    let half = format!("{INSTALL} --jar /opt/mine/half.jar");
    let hang = format!("{INSTALL} --timeout 12");
    let forced = format!("{INSTALL} --force");
    let small = format!(
        "cp -p /etc/spark/conf.dist/spark-env.sh /root/; echo 'export SPARK_DAEMON_MEMORY={heap}' >>/etc/spark/conf.dist/spark-env.sh; systemctl restart spark-history-server; \
         until curl -sf localhost:18080/ | grep -q 'Event log directory'; do sleep 0.2; done"
    );
    let case = |given, run, says, mend| Case { given, run, code: 1, says, mend };
    let restart = "systemctl restart spark-history-server";
    for case in [
        case(":", half.as_str(), &[lacks, "the class is in /", "--jar", back][..], ":"),
        case(
            "/opt/lab/s3 user blind blindsecret user; cp -p /etc/hadoop/conf/core-site.xml /root/; sed -i 's/>labroot</>blind</; s/>labrootsecret</>blindsecret</' /etc/hadoop/conf/core-site.xml",
            // Without --force, install asks Hadoop's client about these keys, and stops before the first change.
            forced.as_str(),
            &["S3 denies access", "s3:ListBucket", back],
            "cp -p /root/core-site.xml /etc/hadoop/conf/core-site.xml",
        ),
        case(
            "echo 'grep -q \"logDirectory *s3:\" /etc/spark/conf/spark-defaults.conf && sleep 1000' >/etc/default/spark-history-server",
            hang.as_str(),
            &["did not end within 12 s", back],
            "rm /etc/default/spark-history-server",
        ),
        case(
            small.as_str(),
            INSTALL,
            &["the heap is too small", "SPARK_DAEMON_MEMORY", back],
            "cp -p /root/spark-env.sh /etc/spark/conf.dist/",
        ),
    ] {
        dies(&node, &case);
        node.sh(restart);
        wait("the history server", || node.answers().then_some(()));
    }

    // A run was killed before its restart, and the server dies of its settings.
    let before = node.tree();
    node.emr_shs(&["link", "--event-logs", LOGS, "--jar", "/opt/mine/half.jar"]).expect(0);
    node.emr_shs(&["configure", "--event-logs", LOGS]).expect(0);
    node.sh("/opt/lab/s3 put /dev/null s3://acme-spark/events/");
    complains(&node.emr_shs(&["restart"]), 1, &[lacks, "put back: the settings that the history server reads"]);
    assert_eq!(node.reads(), HDFS);
    assert_same_tree(&before, &node.tree());
    node.emr_shs(&["link", "--event-logs", LOGS, "--jar", "/opt/mine/half.jar"]).expect(0);
    node.emr_shs(&["configure", "--event-logs", LOGS]).expect(0);
    complains(&node.emr_shs(&["install"]), 1, &[lacks, "an earlier, interrupted run"]);
    assert_eq!(node.reads(), HDFS);
    assert_same_tree(&before, &node.tree());
}

fn an_interrupted_install_is_rolled_back_or_finished_by_the_next(profile: Profile) {
    let node = Node::fresh(profile);
    let before = node.tree();
    // Ctrl-C, twice, while the server restarts.
    let child = node.spawn(&["emr-shs", "install", "--event-logs", LOGS]);
    wait("the restart to begin", || {
        (node.sh("systemctl is-active spark-history-server || true").trim() != "active").then_some(())
    });
    node.sh("pkill -INT -x emr-shs; sleep 1; pkill -INT -x emr-shs || true");
    let ran = CommandOutput(child.wait_with_output().unwrap());
    complains(&ran, 1, &["interrupted", "the history server answers again from hdfs:///var/log/spark/apps"]);
    assert_eq!(node.reads(), HDFS);
    assert_same_tree(&before, &node.tree());

    // kill -9 at the same moment: the next run restarts the server although nothing is left to change.
    let mut child = node.spawn(&["emr-shs", "install", "--event-logs", LOGS]);
    wait("the restart to begin", || {
        (node.sh("systemctl is-active spark-history-server || true").trim() != "active").then_some(())
    });
    node.sh("pkill -KILL -x emr-shs");
    child.wait().unwrap();
    wait("the server", || node.answers().then_some(()));
    assert!(node.emr_shs(&["status"]).expect(0).out().contains("has not restarted since a change"));
    let pid = node.history_server_pid();
    node.emr_shs(&["install"]).expect(0);
    assert_ne!(node.history_server_pid(), pid, "the restart that was owed");
    assert_eq!(node.reads(), LOGS);
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
}
