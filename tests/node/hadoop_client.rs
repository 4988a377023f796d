//! Where S3 refuses emr-shs, this node's own Hadoop has the last word: jobs and the history server can have credentials,
//! headers or an endpoint that emr-shs does not use.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::node::{LOGS, Node, Profile};
use crate::helpers::wait::wait;
use std::process::Command;

const INSTALL: &[&str] = &["install", "--event-logs", LOGS];
const OFTEN: &[&str] = &["--set", "spark.history.fs.update.interval=3s"];

/// Gives the instance profile an account of the S3 server that may do nothing, except with container logs.
const ROLE_WITHOUT_RIGHTS: &str = r#"/opt/lab/s3 user limited limitedsecret user
    echo '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:*"],"Resource":["arn:aws:s3:::acme-logs","arn:aws:s3:::acme-logs/*"]}]}' >/root/logs.json
    /opt/lab/s3 policy s3://acme-logs /root/logs.json
    echo limited >/etc/lab/session-user"#;
/// Hadoop gets an account of its own that may do this in the bucket of event logs.
fn hadoop_may(actions: &str) -> String {
    format!(
        r#"/opt/lab/s3 user hadoops hadoopssecret user
        sed -i 's/>labroot</>hadoops</; s/>labrootsecret</>hadoopssecret</' /etc/hadoop/conf/core-site.xml
        echo '{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":["hadoops"]}},"Action":[{actions}],"Resource":["arn:aws:s3:::acme-spark","arn:aws:s3:::acme-spark/*"]}}]}}' >/root/spark.json
        /opt/lab/s3 policy s3://acme-spark /root/spark.json"#
    )
}

#[track_caller]
fn says(ran: &CommandOutput, wanted: &[&str]) {
    let text = (ran.out() + &ran.err()).split_whitespace().collect::<Vec<_>>().join(" ");
    for wanted in wanted {
        assert!(text.contains(wanted), "wanted “{wanted}” in:\n{}{}", ran.out(), ran.err());
    }
}

/// Counts the objects that tests of permissions have left, each of which the command must have named, and removes them.
#[track_caller]
fn names_all_that_is_left(node: &Node, ran: &CommandOutput) -> usize {
    let left = node.sh(&format!("/opt/lab/s3 ls {LOGS} | grep -o '[.]emr-shs-probe-[0-9a-f-]*' || true"));
    for name in left.lines() {
        says(ran, &[&format!("aws s3 rm {LOGS}{name}")]);
    }
    node.sh(&format!("/opt/lab/s3 rm '{LOGS}.emr-shs-probe*'"));
    left.lines().count()
}

/// Fails if a Java process, its class or an object that tests permissions is left.
#[track_caller]
fn nothing_is_left(node: &Node) {
    let left =
        "ls -d /run/emr-shs-hadoop-client-* 2>/dev/null; /opt/lab/s3 ls s3://acme-spark/ | grep emr-shs-probe; true";
    assert_eq!(node.sh(left), "");
    // emr-shs does not wait long for the end of a Java that it has killed.
    wait("the end of Java", || node.sh("pgrep -fa HadoopClien[t]; true").is_empty().then_some(()));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn hadoops_own_credentials_suffice_to_install_verify_examine_and_uninstall() {
    let node = Node::fresh(Profile::Emr712);
    node.sh(ROLE_WITHOUT_RIGHTS);
    let before = node.tree();
    let installed = node.emr_shs(&[INSTALL, OFTEN, &["--verify"]].concat()).expect(0);
    says(
        &installed,
        &[
            "allowed to Hadoop's own client, as hadoop and spark",
            "fs.s3a.access.key, fs.s3a.endpoint",
            "The log gateway does not use Hadoop's credentials: it reads logs with the instance profile, which is allowed to list",
            "written by Hadoop's own client as user hadoop",
            "proved in",
        ],
    );
    nothing_is_left(&node);
    let doctor = node.doctor_with_hadoop(&[]).expect(0);
    says(
        &doctor,
        &[
            "allowed to Hadoop's own client (as hadoop)",
            "emr-shs's own request fails: the role EMR_EC2_DefaultRole is not allowed to",
        ],
    );
    assert!(!doctor.out().contains("FAIL "), "{}", doctor.out());
    nothing_is_left(&node);
    node.emr_shs(&["install"]).expect(0);
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());

    // The instance profile may not even read container logs, and the log gateway has nothing else.
    node.sh("/opt/lab/s3 policy s3://acme-logs");
    let installed = node.emr_shs(INSTALL).expect(5);
    says(
        &installed,
        &[
            "Jobs of other accounts, as through Livy, and jobs under runtime roles can have other rights",
            "no log opens until S3 allows the instance profile to list s3://acme-logs/",
            "missing log gateway",
        ],
    );
    node.emr_shs(&["uninstall"]).expect(0);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn a_refusal_says_who_was_refused_and_what_still_works() {
    let node = Node::fresh(Profile::Emr712);
    node.sh(ROLE_WITHOUT_RIGHTS);
    node.upload_event_logs(LOGS);
    node.sh(&hadoop_may(r#""s3:ListBucket","s3:GetObject""#));
    let before = node.tree();
    let refused = node.emr_shs(INSTALL).expect(3);
    says(
        &refused,
        &[
            "the role EMR_EC2_DefaultRole is not allowed to",
            "as user hadoop (as jobs write event logs): fails to write: AccessDeniedException",
            "as user spark (as the history server reads them): is allowed to list, read",
            "every Spark job of the cluster would fail",
            "--history-only",
            "nothing was changed on this node",
        ],
    );
    assert!(!refused.err().contains("hadoopssecret"), "{}", refused.err());

    // What Hadoop's client wrote and nobody may delete is named.
    node.sh(&hadoop_may(r#""s3:ListBucket","s3:GetObject","s3:PutObject""#));
    let refused = node.emr_shs(INSTALL).expect(3);
    says(
        &refused,
        &["(as jobs write event logs): fails to delete: AccessDeniedException", "one object may be left in S3"],
    );
    assert_eq!(names_all_that_is_left(&node, &refused), 1);
    // Where S3 allows everything to emr-shs, it tries Hadoop's keys first: that object is named, too.
    node.sh("mv /etc/lab/session-user /root/");
    let install = || node.emr_shs(INSTALL);
    let doctor = || node.doctor_with_hadoop(&["--event-logs", LOGS]);
    for command in [&install as &dyn Fn() -> CommandOutput, &doctor] {
        let refused = command().expect(3);
        says(&refused, &["AccessDeniedException", "2 objects may be left in S3"]);
        assert_eq!(names_all_that_is_left(&node, &refused), 2);
    }
    node.sh("mv /root/session-user /etc/lab/");
    node.sh(&hadoop_may(r#""s3:ListBucket","s3:GetObject""#));

    // Without Java nobody can tell, so emr-shs's own refusal counts.
    node.sh("mkdir /root/java; mv /usr/bin/java /usr/lib/jvm/jre-17 /root/java/");
    let unknown = node.emr_shs(INSTALL).expect(3);
    says(&unknown, &["the role EMR_EC2_DefaultRole is not allowed to", "could not be asked: no java"]);
    assert!(!unknown.err().contains("every Spark job"), "{}", unknown.err());

    // A Java that hangs is ended with emr-shs.
    node.sh("printf '#!/bin/sh\\nsleep 77 & wait\\n' >/usr/bin/java; chmod 755 /usr/bin/java");
    let mut child = node.spawn(&[
        "bash",
        "-c",
        "emr-shs install --event-logs s3://acme-spark/events/ & echo $! >/run/install.pid; wait $!; date +%s%3N >/run/ended",
    ]);
    wait("Hadoop's client", || (!node.sh("pgrep -f 'sleep 7[7]'; true").is_empty()).then_some(()));
    let asked = node.sh("date +%s%3N; kill -TERM $(cat /run/install.pid)");
    child.wait().unwrap();
    let took = node.sh(&format!("echo $(($(cat /run/ended) - {}))", asked.trim()));
    assert!(took.trim().parse::<i64>().unwrap() < 3000, "{took}");
    wait("the end of Java", || node.sh("pgrep -f 'sleep 7[7]'; true").is_empty().then_some(()));
    node.sh("rm /usr/bin/java; mv /root/java/java /usr/bin/; mv /root/java/jre-17 /usr/lib/jvm/; rmdir /root/java");
    nothing_is_left(&node);
    assert_same_tree(&before, &node.tree());

    node.emr_shs(&[INSTALL, &["--history-only"]].concat()).expect(0);
    node.wait_for_applications(1);
    node.emr_shs(&["uninstall"]).expect(0);
    nothing_is_left(&node);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn what_the_start_files_give_the_history_server_alone_is_its_way_to_s3() {
    let node = Node::fresh(Profile::Emr712);
    node.sh(ROLE_WITHOUT_RIGHTS);
    node.upload_event_logs(LOGS);
    node.sh(&hadoop_may(r#""s3:ListBucket","s3:GetObject""#));
    // Nobody else has the keys.
    node.sh("sed -i 's/>hadoops</>limited</; s/>hadoopssecret</>limitedsecret</' /etc/hadoop/conf/core-site.xml");
    let before = node.tree();
    node.emr_shs(&[INSTALL, &["--history-only"]].concat()).expect(3);
    let options = "-Dspark.hadoop.fs.s3a.access.key=hadoops -Dspark.hadoop.fs.s3a.secret.key=hadoopssecret";
    node.sh(&format!("echo 'export SPARK_HISTORY_OPTS=\"{options}\"' >/etc/default/spark-history-server"));
    node.emr_shs(&["restart"]).expect(0);
    let installed = node.emr_shs(&[INSTALL, &["--history-only"]].concat()).expect(0);
    assert!(!installed.err().contains("hadoopssecret"), "{}", installed.err());
    node.wait_for_applications(1);
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh("rm /etc/default/spark-history-server; systemctl restart spark-history-server");
    assert_same_tree(&before, &node.tree());
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn each_account_is_asked_with_the_role_that_emrfs_maps_it_to() {
    let node = Node::fresh(Profile::Emr71);
    node.sh(ROLE_WITHOUT_RIGHTS);
    let map = |jobs: &str, server: &str| {
        node.sh(&format!("printf 'hadoop {jobs}\\nspark {server}\\n' >/etc/lab/role-mapping"));
    };
    let (may, may_not) = ("labroot labrootsecret", "limited limitedsecret");
    map(may, may_not);
    let refused = node.emr_shs(INSTALL).expect(3);
    says(
        &refused,
        &[
            "as user hadoop (as jobs write event logs): is allowed to write",
            "as user spark (as the history server reads them): fails to list",
        ],
    );
    assert!(!refused.err().contains("every Spark job"), "{}", refused.err());
    map(may_not, may);
    let refused = node.emr_shs(INSTALL).expect(3);
    says(&refused, &["as user hadoop (as jobs write event logs): fails to write", "every Spark job", "--history-only"]);
    map(may, may);
    node.emr_shs(&[INSTALL, OFTEN].concat()).expect(0);
    node.spark_submit("mapped");
    node.wait_for_applications(1);
    nothing_is_left(&node);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn the_compiled_class_is_that_of_its_source() {
    let node = Node::fresh(Profile::Emr712);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/hadoop-client/HadoopClient");
    let jars = node.path("/usr/lib/spark/jars").join("*");
    let dir = tempfile::tempdir().unwrap();
    let javac = Command::new("javac")
        .args(["--release", "8", "-g:none", "-nowarn", "-cp", jars.to_str().unwrap(), "-d"])
        .arg(dir.path())
        .arg(format!("{source}.java"))
        .output()
        .unwrap();
    assert!(javac.status.success(), "{}", String::from_utf8_lossy(&javac.stderr));
    let compiled = std::fs::read(dir.path().join("HadoopClient.class")).unwrap();
    assert!(
        compiled == std::fs::read(format!("{source}.class")).unwrap(),
        "compile HadoopClient.java again: its head says how"
    );
}
