//! Old and new EMR releases, and nodes that are set up in other ways: what `plan` wants on each, and that the history
//! server works after `install`.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::node::{Node, Profile};
use serde_json::Value;
use std::collections::BTreeSet;

/// A profile, a variant of its nodes, a scheme for event logs, and the links to jars that `plan` wants there. If there are
/// links, `plan` wants a drop-in, too. Rows with `plan` are not installed, because another row is like them.
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

/// The variants: name, shell lines that change a node into one, and lines that change it back.
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
    // Parts of the SDK on 5.x that event logs do not need.
    (
        "more-parts",
        "cd /usr/share/aws/aws-java-sdk; for part in ec2 s3control; do cp aws-java-sdk-{kms,$part}-1.11.977.jar; done",
        "rm /usr/share/aws/aws-java-sdk/aws-java-sdk-{ec2,s3control}-*",
    ),
    // Seen on 6.3 and 7.0.
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
    // Without PIDFile= systemd guesses the main process.
    (
        "no-pid-file",
        "cp -a /etc/systemd/system/spark-history-server.service /root/; systemctl stop spark-history-server
         sed -i /^PIDFile=/d /etc/systemd/system/spark-history-server.service
         systemctl daemon-reload; systemctl start spark-history-server",
        "systemctl stop spark-history-server; mv /root/spark-history-server.service /etc/systemd/system/
         systemctl daemon-reload; systemctl start spark-history-server",
    ),
    // systemd generates the unit from /etc/init.d: it has no main process, and stays active when the server dies.
    (
        "init-script",
        "cp -a /etc/systemd/system/spark-history-server.service /root/; systemctl disable --now spark-history-server
         rm /etc/systemd/system/spark-history-server.service; systemctl daemon-reload; systemctl start spark-history-server",
        "systemctl stop spark-history-server; mv /root/spark-history-server.service /etc/systemd/system/
         systemctl daemon-reload; systemctl enable --now spark-history-server",
    ),
    // A class path from SPARK_DAEMON_CLASSPATH, as seen on a cluster of 7.12, but with Spark's own jars first.
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
    // It is not known which of these files EMR 8 has.
    ("few-files", "rm /mnt/var/lib/info/{job-flow-state.txt,extraInstanceData.json}", "true"),
];

/// The links that a word of the table stands for.
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

/// Keys that every version of Spark gets.
const KEYS: &str =
    "spark.eventLog.enabled spark.eventLog.dir spark.history.fs.logDirectory spark.history.fs.update.interval";

/// For each version of Spark: further keys, findings of `plan`, and words of its note on when logs are listed.
const SPARKS: &[(&str, &str, &[&str], &str)] = &[
    (
        "2.4.7",
        "spark.history.store.path",
        &["Spark 2.4.7 does not know spark.history.custom.executor.log.url, which Spark 3.0 introduced: on its \
           own port, the history server keeps linking to NodeManagers. In pages that you open through the log gateway, \
           links lead to the archived logs."],
        "once its event log is closed. Jobs",
    ),
    (
        "3.1.2",
        "spark.history.store.path spark.history.custom.executor.log.url",
        &[],
        "(for a long application earlier, with spark.eventLog.rolling.enabled)",
    ),
    (
        "3.5.8",
        "spark.history.store.path spark.history.custom.executor.log.url spark.history.store.hybridStore.diskBackend spark.history.store.serializer",
        &[],
        "(for a long application earlier, with spark.eventLog.rolling.enabled)",
    ),
    (
        "4.1.1",
        "spark.history.custom.executor.log.url",
        &[
            "No local store for the history server: event logs roll, so the history server lists applications while they \
           run, and from a local store Spark can show the state in which somebody first opened an application for ever.",
        ],
        "or a part of it",
    ),
];

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_5_33_is_planned_and_served() {
    carry_out("5.33", "2.4.7", &Node::fresh(Profile::Emr533));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_6_4_is_planned_and_served() {
    carry_out("6.4", "3.1.2", &Node::fresh(Profile::Emr64));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_7_1_is_planned_and_served() {
    carry_out("7.1", "3.5.8", &Node::fresh(Profile::Emr71));
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_7_12_is_planned_and_served() {
    let node = Node::fresh(Profile::Emr712);
    carry_out("7.12", "3.5.8", &node);
    the_sdk_silences_a_server_that_gets_it_first(&node);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn emr_8_1_and_later_labels_are_planned_and_served() {
    let node = Node::fresh(Profile::Emr81);
    carry_out("8.1", "4.1.1", &node);
}

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
        is_planned(node, &logs, &row[3..row.len() - 1], spark);
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

/// Fails unless `plan` wants the links of the table and the keys of this version of Spark.
#[track_caller]
fn is_planned(node: &Node, logs: &str, words: &[&str], spark: &str) {
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

    let drop_ins =
        of("file", &|file| Some(text(&file["resource"]["path"])).filter(|path| path.ends_with("/zz-emr-shs.conf")));
    assert_eq!(drop_ins.is_empty(), links_wanted.is_empty(), "{drop_ins:?}");

    let (_, keys, found, note) = SPARKS.iter().find(|(version, ..)| *version == spark).unwrap();
    let keys: BTreeSet<String> =
        [KEYS, keys].iter().flat_map(|keys| keys.split_whitespace()).map(String::from).collect();
    assert_eq!(of("key", &|key| Some(text(&key["resource"]["key"]))), keys, "keys for Spark {spark}");
    assert_eq!(json["found"], serde_json::json!(found));
    let notes: Vec<String> = json["notes"].as_array().unwrap().iter().map(text).collect();
    assert!(notes.iter().any(|line| line.contains(note)), "wanted “{note}” in {notes:#?}");
}

/// Runs `install`, `verify`, `doctor`, `status` and `uninstall`, which must leave no trace.
#[track_caller]
fn serve(node: &Node, logs: &str, spark: &str) {
    let before = node.tree();
    install(node, logs);
    let proof = node.emr_shs(&["verify", "--json"]).expect(0);
    let stages = proof.json()["stages"].as_array().unwrap().clone();
    assert_eq!(stages.len(), 9);
    for stage in stages {
        // Spark 2 keeps linking to NodeManagers, so `verify` skips the link and asks the gateway itself.
        let is = if stage["stage"] == "link" && spark.starts_with("2.") { "skip" } else { "pass" };
        assert_eq!(stage["result"], is, "{}", proof.out());
    }
    // List a job that this node ran. lifecycle.rs does so for newer versions; jobs of Spark 3.1 do not run on this Java.
    if spark.starts_with("2.") {
        let job = node.spark_submit("written-by-2.4");
        crate::helpers::wait::wait("that job", || node.get("/api/v1/applications")?.contains(&job).then_some(()));
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
    // A short scan interval saves waiting.
    node.emr_shs(&["install", "--event-logs", logs, "--set", "spark.history.fs.update.interval=2s"]).expect(0);
    assert_eq!(node.reads(), logs);
}

/// With the SDK before Spark's jars, as on that cluster of 7.12, the server works but writes no log. `doctor` says so.
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
