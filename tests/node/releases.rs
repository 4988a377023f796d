//! Releases and forms of nodes, as far as they are known to differ: what a plan wants on each, and that the
//! history server which is then installed serves.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{Node, Profile};
use serde_json::Value;
use std::collections::BTreeSet;

/// A form of a node and a scheme for event logs, and the links to jars that are wanted there; with any of them
/// there is a drop-in, too. What is only planned is served by another row.
const TABLE: &str = "
profile  form           logs  links                 served
5.33     kerberos       s3    -                     yes
5.33     more-parts     s3a   hadoop-aws v1-parts   yes
6.4      as-it-is       s3    emrfs                 yes
6.4      emrfs-there    s3    -                     plan
6.4      as-it-is       s3a   hadoop-aws v1         yes
6.4      sdk-in-parts   s3a   hadoop-aws v1-parts   yes
7.1      as-it-is       s3    emrfs                 plan
7.1      as-it-is       s3a   hadoop-aws v1         plan
7.1      emrfs-there    s3    -                     yes
7.12     as-it-is       s3    hadoop-aws v2         plan
7.12     no-pid-file    s3    hadoop-aws v2         yes
7.12     init-script    s3    hadoop-aws v2         yes
7.12     jars-by-env    s3    -                     yes
8.1      as-it-is       s3a   hadoop-aws v2         plan
8.1      preview        s3    hadoop-aws v2         plan
8.1      next-release   s3    hadoop-aws v2         plan
8.1      few-files      s3    hadoop-aws v2         yes
";

/// What makes a node of that form of its profile, and what takes it back.
const FORMS: &[(&str, &str, &str)] = &[
    ("as-it-is", "true", "true"),
    (
        "kerberos",
        "cp -a /etc/spark/conf.dist/spark-defaults.conf /root/; : >/etc/spark.keytab
         echo 'spark.history.kerberos.enabled   true' >>/etc/spark/conf.dist/spark-defaults.conf
         echo 'spark.history.kerberos.principal spark/ip-172-31-59-96.ec2.internal@EC2.INTERNAL' >>/etc/spark/conf.dist/spark-defaults.conf
         echo 'spark.history.kerberos.keytab    /etc/spark.keytab' >>/etc/spark/conf.dist/spark-defaults.conf",
        "mv /root/spark-defaults.conf /etc/spark/conf.dist/; rm /etc/spark.keytab",
    ),
    // What 5.x has besides, and nobody here needs.
    (
        "more-parts",
        "cd /usr/share/aws/aws-java-sdk; for part in ec2 s3control; do cp aws-java-sdk-{kms,$part}-1.11.977.jar; done",
        "rm /usr/share/aws/aws-java-sdk/aws-java-sdk-{ec2,s3control}-*",
    ),
    // As 6.3 and 7.0 were seen.
    (
        "emrfs-there",
        "ln -s /usr/share/aws/emr/emrfs/lib/*.jar /usr/lib/spark/jars/",
        "rm /usr/lib/spark/jars/emrfs-hadoop-assembly-*",
    ),
    (
        "sdk-in-parts",
        "mv /usr/share/aws/aws-java-sdk /root/; cp -r /opt/lab/aws-java-sdk-modules /usr/share/aws/aws-java-sdk",
        "rm -r /usr/share/aws/aws-java-sdk; mv /root/aws-java-sdk /usr/share/aws/",
    ),
    // systemd guesses which process is the main one.
    (
        "no-pid-file",
        "cp -a /etc/systemd/system/spark-history-server.service /root/; systemctl stop spark-history-server
         sed -i /^PIDFile=/d /etc/systemd/system/spark-history-server.service
         systemctl daemon-reload; systemctl start spark-history-server",
        "systemctl stop spark-history-server; mv /root/spark-history-server.service /etc/systemd/system/
         systemctl daemon-reload; systemctl start spark-history-server",
    ),
    // The unit is made by systemd from /etc/init.d: it knows no main process, and stays active when that dies.
    (
        "init-script",
        "cp -a /etc/systemd/system/spark-history-server.service /root/; systemctl disable --now spark-history-server
         rm /etc/systemd/system/spark-history-server.service; systemctl daemon-reload; systemctl start spark-history-server",
        "systemctl stop spark-history-server; mv /root/spark-history-server.service /etc/systemd/system/
         systemctl daemon-reload; systemctl enable --now spark-history-server",
    ),
    // As a cluster of 7.12 was configured (facts 2 §1.6), but that Spark's own jars come first.
    (
        "jars-by-env",
        "cp -a /etc/spark/conf.dist/spark-env.sh /root/
         sdk=/usr/share/aws/aws-java-sdk/aws-java-sdk-bundle-1.12.792.jar:/usr/share/aws/aws-java-sdk-v2/aws-sdk-java-bundle-2.24.6.jar
         echo \"export SPARK_DAEMON_CLASSPATH=/usr/lib/spark/jars/*:/usr/lib/hadoop/hadoop-aws.jar:$sdk\" >>/etc/spark/conf.dist/spark-env.sh
         systemctl restart spark-history-server",
        "mv /root/spark-env.sh /etc/spark/conf.dist/; systemctl restart spark-history-server",
    ),
    ("preview", "sed -i s/emr-spark-8.1.0/emr-spark-8.0-preview/ /mnt/var/lib/info/*", "true"),
    ("next-release", "sed -i s/emr-spark-8.0-preview/emr-spark-9.0.0-lts/ /mnt/var/lib/info/*", "true"),
    // On 8 it is not known which of them there are.
    ("few-files", "rm /mnt/var/lib/info/{job-flow-state.txt,extraInstanceData.json}", "true"),
];

/// Where the links of a word in the table lead: their names are those of the jars, or `.jar` after what is told.
fn links(word: &str) -> Vec<&'static str> {
    match word {
        "emrfs" => vec!["emrfs.jar → /usr/share/aws/emr/emrfs/lib/emrfs-hadoop-assembly-V.jar"],
        "hadoop-aws" => vec!["hadoop-aws.jar → /usr/lib/hadoop/hadoop-aws.jar"],
        "v1" => vec!["aws-sdk-v1.jar → /usr/share/aws/aws-java-sdk/aws-java-sdk-bundle-V.jar"],
        "v2" => vec!["aws-sdk-v2.jar → /usr/share/aws/aws-java-sdk-v2/aws-sdk-java-bundle-V.jar"],
        "v1-parts" => vec![
            "aws-java-sdk-core-V.jar → /usr/share/aws/aws-java-sdk/aws-java-sdk-core-V.jar",
            "aws-java-sdk-dynamodb-V.jar → /usr/share/aws/aws-java-sdk/aws-java-sdk-dynamodb-V.jar",
            "aws-java-sdk-kms-V.jar → /usr/share/aws/aws-java-sdk/aws-java-sdk-kms-V.jar",
            "aws-java-sdk-s3-V.jar → /usr/share/aws/aws-java-sdk/aws-java-sdk-s3-V.jar",
            "jmespath-java-V.jar → /usr/share/aws/aws-java-sdk/jmespath-java-V.jar",
        ],
        "-" => Vec::new(),
        _ => panic!("'{word}' is no word of the table"),
    }
}

/// What every Spark is told.
const KEYS: &str = "spark.eventLog.enabled spark.eventLog.dir spark.history.fs.logDirectory spark.history.store.path \
                    spark.history.fs.update.interval spark.history.fs.numReplayThreads";

/// What it depends on Spark's version: further keys (facts §7.2), what is found wrong, and when logs are listed.
const SPARKS: &[(&str, &str, &[&str], &str)] = &[
    (
        "2.4.7",
        "",
        &["Spark 2.4.7 has no spark.history.custom.executor.log.url (3.0 has it): its pages keep linking to \
           NodeManagers. The gateway's own pages list the logs."],
        "once its log is closed. Jobs",
    ),
    ("3.1.2", "spark.history.custom.executor.log.url", &[], "a long one earlier with spark.eventLog.rolling.enabled"),
    (
        "3.5.8",
        "spark.history.custom.executor.log.url spark.history.store.hybridStore.diskBackend spark.history.store.serializer",
        &[],
        "a long one earlier with spark.eventLog.rolling.enabled",
    ),
    (
        "4.1.1",
        "spark.history.custom.executor.log.url spark.history.store.hybridStore.diskBackend spark.history.store.serializer",
        &[],
        "or a part of it",
    ),
];

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_5_33_is_planned_and_served() {
    carry_out("5.33", "2.4.7", &Node::fresh(Profile::Emr533, "matrix"));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_6_4_is_planned_and_served() {
    carry_out("6.4", "3.1.2", &Node::fresh(Profile::Emr64, "matrix"));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_7_1_is_planned_and_served() {
    carry_out("7.1", "3.5.8", &Node::fresh(Profile::Emr71, "matrix"));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_7_12_is_planned_and_served() {
    let node = Node::fresh(Profile::Emr712, "matrix");
    carry_out("7.12", "3.5.8", &node);
    the_sdk_silences_a_server_that_gets_it_first(&node);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_8_1_and_later_labels_are_planned_and_served() {
    let node = Node::fresh(Profile::Emr81, "matrix");
    carry_out("8.1", "4.1.1", &node);
}

/// Goes through the rows of a profile.
fn carry_out(profile: &str, spark: &str, node: &Node) {
    let mut rows = TABLE.lines().skip(2).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let rows: Vec<_> = rows.by_ref().filter(|row| row[0] == profile).collect();
    assert!(!rows.is_empty());
    for row in rows {
        let (form, scheme, served) = (row[1], row[2], row[row.len() - 1] == "yes");
        let (_, made, undone) = FORMS.iter().find(|(name, ..)| *name == form).unwrap();
        eprintln!("{}", row.join(" "));
        node.sh(made);
        let logs = format!("{scheme}://acme-spark/events/");
        // Where nothing tells that the bucket is in the cluster's own region.
        let region = if form == "few-files" { "spark.hadoop.fs.s3a.bucket.acme-spark.endpoint.region" } else { "" };
        is_planned(node, &logs, &row[3..row.len() - 1], spark, region);
        if form == "next-release" {
            let said = node.emr_shs(&["discover"]).expect(0).out();
            assert!(said.contains("emr-spark-9.0.0-lts"), "{said}");
        }
        if served {
            serve(node, &logs, spark);
        }
        node.sh(undone);
    }
}

/// The plan is the one that the table and Spark's version ask for.
#[track_caller]
fn is_planned(node: &Node, logs: &str, words: &[&str], spark: &str, more: &str) {
    let json = node.emr_shs(&["plan", "--json", "--event-logs", logs]).expect(0).json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let of = |kind: &str, what: &dyn Fn(&Value) -> Option<String>| -> BTreeSet<String> {
        let changes = json["changes"].as_array().unwrap().iter();
        changes.filter(|change| change["resource"]["kind"] == kind).filter_map(what).collect()
    };

    let version = regex::Regex::new(r"-\d[\d.]*\d\.jar").unwrap();
    let links_planned = of("link", &|link| {
        let name = text(&link["resource"]["path"]).strip_prefix("/usr/lib/emr-shs/jars/")?.to_string();
        let line = format!("{name} → {}", link["after"]["target"].as_str()?);
        Some(version.replace_all(&line, "-V.jar").into_owned())
    });
    let links_wanted: BTreeSet<String> = words.iter().flat_map(|word| links(word)).map(String::from).collect();
    assert_eq!(links_planned, links_wanted, "links for {logs}");

    let drop_ins = of("file", &|file| {
        Some(text(&file["resource"]["path"])).filter(|path| path.contains("/spark-history-server.service.d/"))
    });
    assert_eq!(drop_ins.is_empty(), links_wanted.is_empty(), "{drop_ins:?}");

    let (_, keys, found, note) = SPARKS.iter().find(|(version, ..)| *version == spark).unwrap();
    let keys: BTreeSet<String> =
        [KEYS, keys, more].iter().flat_map(|keys| keys.split_whitespace()).map(String::from).collect();
    assert_eq!(of("key", &|key| Some(text(&key["resource"]["key"]))), keys, "keys for Spark {spark}");
    assert_eq!(json["found"], serde_json::json!(found));
    let notes: Vec<String> = json["notes"].as_array().unwrap().iter().map(text).collect();
    assert!(notes.iter().any(|line| line.contains(note)), "wanted “{note}” in {notes:#?}");
}

/// Installs, proves it from an event log to an executor's log, examines it, and takes it back.
#[track_caller]
fn serve(node: &Node, logs: &str, spark: &str) {
    let before = node.tree();
    install(node, logs);
    let proof = node.emr_shs(&["verify", "--json"]).expect(0);
    let stages = proof.json()["stages"].as_array().unwrap().clone();
    assert_eq!(stages.len(), 8);
    for stage in stages {
        // Where the server's own pages keep linking to NodeManagers, the gateway is asked without them.
        let is = if stage["stage"] == "link" && spark.starts_with("2.") { "skip" } else { "pass" };
        assert_eq!(stage["result"], is, "{}", proof.out());
    }
    // A job of the node's own; what Spark 3.1 says of one is not to be had, and newer ones' are in lifecycle.rs.
    if spark.starts_with("2.") {
        let job = node.spark_submit("written-by-2.4");
        crate::helpers::node::wait("that job", || node.get("/api/v1/applications")?.contains(&job).then_some(()));
    }
    node.emr_shs(&["doctor"]).expect(0);
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains(&format!("Spark {spark} answers on port 18080, reads {logs}")), "{status}");

    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.reads(), "hdfs:///var/log/spark/apps");
    assert_same_tree(&before, &node.tree());
}

#[track_caller]
fn install(node: &Node, logs: &str) {
    // Scans often, so that nobody need wait.
    node.emr_shs(&["install", "--event-logs", logs, "--set", "spark.history.fs.update.interval=2s"]).expect(0);
    assert_eq!(node.reads(), logs);
}

/// The class path of that cluster of 7.12 as it was: it serves, and nobody can read why not if it did not.
fn the_sdk_silences_a_server_that_gets_it_first(node: &Node) {
    let (_, made, _) = FORMS.iter().find(|(name, ..)| *name == "jars-by-env").unwrap();
    node.sh(&made.replace("/usr/lib/spark/jars/*:", ""));
    install(node, "s3://acme-spark/events/");
    let said = node.emr_shs(&["doctor"]).expect(3).out();
    let failed: Vec<_> = said.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failed.len() == 1 && failed[0].contains("server log"), "{said}");
    assert!(said.contains("let SPARK_DAEMON_CLASSPATH begin with"), "{said}");
    node.sh("sed -i 's#^export SPARK_DAEMON_CLASSPATH=#&/usr/lib/spark/jars/*:#' /etc/spark/conf.dist/spark-env.sh");
    node.emr_shs(&["restart"]).expect(0);
    node.emr_shs(&["doctor"]).expect(0);
}
