//! Every other path on the EMR-like node: what goes wrong ends in a message that helps, and a node
//! that is as it was before, its history server as well as before.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::node::{LOGS, Node, Profile, wait};
use std::fs::File;
use std::io::{Read, Write};

const HDFS: &str = "hdfs:///var/log/spark/apps";
const DEFAULTS: &str = "/etc/spark/conf.dist/spark-defaults.conf";

macro_rules! on_both_profiles {
    ($($name:ident),* $(,)?) => {
        mod emr_7_1 { $(#[test] #[ignore = "needs root and a node: scripts/test node"] fn $name() { super::$name(super::Profile::Emr71); })* }
        mod emr_7_12 { $(#[test] #[ignore = "needs root and a node: scripts/test node"] fn $name() { super::$name(super::Profile::Emr712); })* }
    };
}

on_both_profiles! {
    what_is_wrong_before_the_first_change,
    what_fails_half_way_is_put_back,
    a_server_that_dies_is_brought_back,
    readiness_is_never_fooled,
    unusual_servers,
    a_bucket_in_another_region,
    the_local_store,
    interrupted,
}

/// One thing that is wrong with a node.
struct Case<'a> {
    /// A shell line that makes it so.
    given: &'a str,
    /// The command; `emr-shs` as root in most cases.
    run: &'a str,
    code: i32,
    /// What the message must say.
    says: &'a [&'a str],
    /// A shell line that mends it.
    mend: &'a str,
}

/// Runs the cases one after the other on a node; after each it is as before.
fn try_all(node: &Node, cases: &[Case<'_>]) {
    let before = node.tree();
    let pid = node.history_server_pid();
    for case in cases {
        node.sh(case.given);
        let ran = node.run(&["bash", "-c", case.run]);
        node.sh(case.mend);
        eprintln!("given {}\nrun {}", case.given, case.run);
        complains(&ran, case.code, case.says);
        assert_same_tree(&before, &node.tree());
        assert_eq!(node.history_server_pid(), pid, "the history server was touched: {}\n{}", case.run, ran.err());
    }
    assert_eq!(node.reads(), HDFS);
}

#[track_caller]
fn complains(ran: &CommandOutput, code: i32, says: &[&str]) {
    let text = ran.err();
    assert_eq!(ran.code(), code, "{text}");
    for said in says {
        assert!(text.contains(said), "wanted “{said}” in:\n{text}");
    }
    assert!(code == 0 || text.contains("error: ") && text.contains("hint: "), "{text}");
}

/// A jar with these entries, written where the node sees it.
fn jar(node: &Node, path: &str, entries: &[(&str, &[u8])]) {
    let real = node.path(path);
    std::fs::create_dir_all(real.parent().unwrap()).unwrap();
    let mut jar = zip::ZipWriter::new(File::create(real).unwrap());
    for (name, content) in entries {
        jar.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        jar.write_all(content).unwrap();
    }
    jar.finish().unwrap();
}

const INSTALL: &str = "emr-shs install --event-logs s3://acme-spark/events/";
const SDK_V1: &str = "com/amazonaws/services/s3/AmazonS3Client.class";
const SDK_V2: &str = "software/amazon/awssdk/services/s3/S3Client.class";

/// Lets the instance profile's role do these things with the bucket, and nothing else.
fn role_may(actions: &str) -> String {
    format!(
        r#"/opt/lab/s3 user limited limitedsecret user >/dev/null 2>&1; echo limited >/etc/lab/session-user
        echo '{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":[{actions}],"Resource":["arn:aws:s3:::acme-spark","arn:aws:s3:::acme-spark/*"]}}]}}' >/tmp/policy.json
        /opt/lab/s3 policy s3://acme-spark /tmp/policy.json"#
    )
}
const ROLE_MAY_ALL: &str =
    "/opt/lab/s3 policy s3://acme-spark; rm /etc/lab/session-user; /opt/lab/s3 rm 's3://acme-spark/*'";

fn what_is_wrong_before_the_first_change(profile: Profile) {
    let node = Node::fresh(profile, "preflight");
    let (class, jars, link, sdk, two_sdks) = match profile {
        Profile::Emr71 => (
            "com.amazon.ws.emr.hadoop.fs.EmrFileSystem",
            "/usr/share/aws/emr/emrfs/lib",
            "emrfs.jar",
            SDK_V1,
            "emr-shs install --event-logs s3a://acme-spark/events/",
        ),
        _ => ("org.apache.hadoop.fs.s3a.S3AFileSystem", "/usr/lib/hadoop", "hadoop-aws.jar", SDK_V2, INSTALL),
    };
    jar(&node, "/opt/sdk/sdk-1.jar", &[(sdk, b"")]);
    jar(&node, "/opt/sdk/sdk-2.jar", &[(sdk, b"")]);
    let no_jar = format!("mv {jars} {jars}.away");
    let jar_again = format!("mv {jars}.away {jars}");
    let a_file = format!("mkdir -p /usr/lib/emr-shs/jars; echo x >/usr/lib/emr-shs/jars/{link}");
    let not_ours = format!("/usr/lib/emr-shs/jars/{link} is not ours");
    let no_class = format!("no jar on this node has {class}");
    let append = |line: &str| format!("cp -p {DEFAULTS} /root/; printf '%s\\n' '{line}' >>{DEFAULTS}");
    let restore = format!("cp -p /root/spark-defaults.conf {DEFAULTS}");
    let (malformed, cleaner) = (append(r"spark.acme.home C:\users"), append("spark.history.fs.cleaner.enabled TRUE"));
    let wrong_role = r#"sed -i.away 's/true/false/' /mnt/var/lib/info/instance.json"#;
    let right_role = "mv /mnt/var/lib/info/instance.json.away /mnt/var/lib/info/instance.json";
    let (nothing, list, no_delete) = (
        role_may(r#""s3:GetObject""#),
        role_may(r#""s3:ListBucket","s3:GetObject""#),
        role_may(r#""s3:ListBucket","s3:GetObject","s3:PutObject""#),
    );
    let case = |given, run, code, says, mend| Case { given, run, code, says, mend };
    try_all(
        &node,
        &[
            case(
                ":",
                "emr-shs install --event-logs s3://acme-nowhere/x/",
                3,
                &["there is no bucket acme-nowhere", "aws s3 mb"],
                ":",
            ),
            case(&nothing, INSTALL, 3, &["the role EMR_EC2_DefaultRole may not list", "s3:ListBucket"], ROLE_MAY_ALL),
            case(
                &list,
                INSTALL,
                3,
                &["the role EMR_EC2_DefaultRole may not write", "s3:PutObject", "every Spark job"],
                ROLE_MAY_ALL,
            ),
            case(
                &no_delete,
                INSTALL,
                3,
                &["may not delete", "s3:DeleteObject", "one object is left behind"],
                ROLE_MAY_ALL,
            ),
            case(&no_jar, INSTALL, 3, &[&no_class, "--jar"], &jar_again),
            case(
                "ln -s /opt/sdk/sdk-?.jar /usr/lib/spark/jars/",
                two_sdks,
                3,
                &["sdk-1.jar", "sdk-2.jar", "NoSuchMethodError"],
                "rm /usr/lib/spark/jars/sdk-?.jar",
            ),
            case(&malformed, INSTALL, 3, &["cannot be read by Spark", "\\users"], &restore),
            case(
                &cleaner,
                INSTALL,
                3,
                &["would delete event logs", "--set spark.history.fs.cleaner.enabled=false"],
                &restore,
            ),
            case(&a_file, INSTALL, 3, &[&not_ours, "a regular file"], "rm -r /usr/lib/emr-shs"),
            case(
                "mkdir /root/unit; mv /etc/systemd/system/spark-history-server.service /etc/init.d/spark-history-server /root/unit/; systemctl daemon-reload",
                INSTALL,
                3,
                &["has no spark-history-server.service"],
                "mv /root/unit/spark-history-server.service /etc/systemd/system/; mv /root/unit/spark-history-server /etc/init.d/; rmdir /root/unit; systemctl daemon-reload",
            ),
            case(
                ":",
                "unshare -m bash -c 'mount -t tmpfs none /run/systemd; exec emr-shs install --event-logs s3://acme-spark/events/'",
                3,
                &["does not run systemd"],
                ":",
            ),
            case(
                ":",
                "su hadoop -s /bin/bash -c 'emr-shs install --event-logs s3://acme-spark/events/'",
                3,
                &["only root may", "sudo emr-shs install --event-logs s3://acme-spark/events/"],
                ":",
            ),
            case(
                wrong_role,
                INSTALL,
                3,
                &["not the cluster's primary node", "instance.json", "--if-primary"],
                right_role,
            ),
            case(
                wrong_role,
                "emr-shs install --if-primary",
                0,
                &["not the primary node: nothing to do here"],
                right_role,
            ),
            case(
                "mv /mnt/var/lib/info /root/info; mv /emr /emr.away",
                INSTALL,
                3,
                &["does not look like an EMR node", "--force"],
                "mv /root/info /mnt/var/lib/info; mv /emr.away /emr",
            ),
            case(
                "systemctl stop lab-s3",
                INSTALL,
                3,
                &["S3 could not be asked", "127.0.0.1:7070"],
                "systemctl start lab-s3; /opt/lab/s3 mb s3://acme-spark",
            ),
        ],
    );
}

fn what_fails_half_way_is_put_back(profile: Profile) {
    let node = Node::fresh(profile, "halfway");
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

    // Room for the receipt once, but not for its last version: found out after the restart.
    let before = node.tree();
    let nearly_full = full_var.replace("size=16k", "size=24k").replace("12k", "8k");
    complains(&node.run(&["bash", "-c", &nearly_full]), 1, &["receipt", "o space left", "answers again from hdfs:///"]);
    assert_same_tree(&before, &node.tree());
    assert_eq!(node.reads(), HDFS);

    // A link of ours that somebody replaced is theirs now.
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    let link = node.sh("ls /usr/lib/emr-shs/jars | head -1").trim().to_string();
    node.sh(&format!("ln -sfn /opt/theirs.jar /usr/lib/emr-shs/jars/{link}"));
    complains(&node.emr_shs(&["install"]), 3, &[&format!("{link} is not ours"), "/opt/theirs.jar", "--force"]);
    assert_eq!(node.reads(), LOGS);
    let ran = node.emr_shs(&["uninstall"]).expect(0);
    assert!(ran.err().contains("left alone: changed since"), "{}", ran.err());
    assert_eq!(node.reads(), HDFS);
    assert_eq!(node.sh(&format!("readlink /usr/lib/emr-shs/jars/{link}")).trim(), "/opt/theirs.jar");

    // A file that Spark cannot read is no reason to forget what is ours.
    node.sh("rm -r /usr/lib/emr-shs");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.sh(&format!(r"cp -p {DEFAULTS} /root/; echo 'spark.acme.home C:\users' >>{DEFAULTS}"));
    complains(&node.emr_shs(&["uninstall"]), 3, &["cannot be read by Spark"]);
    node.sh(&format!("cp -p /root/spark-defaults.conf {DEFAULTS}"));
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.reads(), HDFS);
}

/// Tries an installation that kills the server; then everything is as it was, the server too.
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

fn a_server_that_dies_is_brought_back(profile: Profile) {
    let node = Node::fresh(profile, "dies");
    // A jar that has the class that is looked for, and not what that class needs.
    let (lacks, heap) = match profile {
        Profile::Emr71 => {
            let name = "com/amazon/ws/emr/hadoop/fs/EmrFileSystem.class";
            let whole = File::open(node.path("/usr/share/aws/emr/emrfs/lib/emrfs-hadoop-assembly-2.62.0.jar")).unwrap();
            let mut class = Vec::new();
            zip::ZipArchive::new(whole).unwrap().by_name(name).unwrap().read_to_end(&mut class).unwrap();
            jar(&node, "/opt/mine/half.jar", &[(name, &class)]);
            ("it cannot load org.apache.hadoop.fs.s3a.S3AFileSystem", "34m")
        }
        _ => {
            jar(&node, "/opt/mine/half.jar", &[(SDK_V2, b"")]);
            ("it cannot load software.amazon.awssdk", "40m")
        }
    };
    let back = "the history server answers again from hdfs:///var/log/spark/apps";
    let half = format!("{INSTALL} --jar /opt/mine/half.jar");
    let hang = format!("{INSTALL} --timeout 12");
    let small = format!(
        "cp -p /etc/spark/conf.dist/spark-env.sh /root/; echo 'export SPARK_DAEMON_MEMORY={heap}' >>/etc/spark/conf.dist/spark-env.sh; systemctl restart spark-history-server"
    );
    let case = |given, run, says, mend| Case { given, run, code: 1, says, mend };
    let restart = "systemctl restart spark-history-server";
    for case in [
        case(":", half.as_str(), &[lacks, "the class is in /", "--jar", back][..], ":"),
        case(
            "/opt/lab/s3 user blind blindsecret user; cp -p /etc/hadoop/conf/core-site.xml /root/; sed -i 's/>labroot</>blind</; s/>labrootsecret</>blindsecret</' /etc/hadoop/conf/core-site.xml",
            INSTALL,
            &["S3 denied it access", "s3:ListBucket", back],
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
            &["its heap is too small", "SPARK_DAEMON_MEMORY", back],
            "cp -p /root/spark-env.sh /etc/spark/conf.dist/",
        ),
    ] {
        dies(&node, &case);
        node.sh(restart);
        wait("the history server", || node.answers().then_some(()));
    }

    // Settings of a run that was killed before its restart, and that the server cannot live with.
    let before = node.tree();
    node.emr_shs(&["link", "--event-logs", LOGS, "--jar", "/opt/mine/half.jar"]).expect(0);
    node.emr_shs(&["configure", "--event-logs", LOGS]).expect(0);
    node.sh("/opt/lab/s3 put /dev/null s3://acme-spark/events/");
    complains(&node.emr_shs(&["restart"]), 1, &[lacks, "put back: everything that emr-shs changed"]);
    assert_eq!(node.reads(), HDFS);
    assert_same_tree(&before, &node.tree());
    node.emr_shs(&["link", "--event-logs", LOGS, "--jar", "/opt/mine/half.jar"]).expect(0);
    node.emr_shs(&["configure", "--event-logs", LOGS]).expect(0);
    complains(&node.emr_shs(&["install"]), 1, &[lacks, "an earlier, interrupted run"]);
    assert_eq!(node.reads(), HDFS);
    assert_same_tree(&before, &node.tree());
}

fn readiness_is_never_fooled(profile: Profile) {
    let node = Node::fresh(profile, "fooled");
    let before = node.tree();

    // A server that answers from another directory.
    node.sh(&format!(
        "echo 'export SPARK_HISTORY_OPTS=-Dspark.history.fs.logDirectory={HDFS}' >/etc/default/spark-history-server"
    ));
    complains(
        &node.emr_shs(&["install", "--event-logs", LOGS]),
        1,
        &["it reads hdfs:///var/log/spark/apps, not s3://acme-spark/events/"],
    );
    assert_eq!(node.reads(), HDFS);
    complains(
        &node.emr_shs(&["install", "--event-logs", LOGS]),
        3,
        &["wins over spark-defaults.conf", "SPARK_HISTORY_OPTS"],
    );
    node.sh("rm /etc/default/spark-history-server; systemctl restart spark-history-server");
    wait("the history server", || node.answers().then_some(()));
    assert_same_tree(&before, &node.tree());

    // The old process still answers: its script does not stop it, and systemd may not.
    node.sh(
        "cp -p /etc/init.d/spark-history-server /root/; sed -i 's/^stop() {/stop() { return 0/' /etc/init.d/spark-history-server
         mkdir /etc/systemd/system/spark-history-server.service.d
         printf '[Service]\\nKillMode=none\\nSendSIGKILL=no\\n' >/etc/systemd/system/spark-history-server.service.d/kill.conf; systemctl daemon-reload",
    );
    let pid = node.history_server_pid();
    complains(
        &node.emr_shs(&["install", "--event-logs", LOGS]),
        1,
        &["18080 is taken", "was never stopped, and goes on as it was"],
    );
    assert_eq!(node.history_server_pid(), pid, "and what was started beside it is gone");
    assert_eq!(node.reads(), HDFS);
    node.sh(&format!("kill {pid}"));
    node.sh("mv /root/spark-history-server /etc/init.d/; rm -r /etc/systemd/system/spark-history-server.service.d; systemctl daemon-reload; systemctl restart spark-history-server");
    wait("the history server", || node.answers().then_some(()));
    assert_same_tree(&before, &node.tree());

    // Another server on its port, so that it takes the next one.
    node.sh("systemctl stop spark-history-server");
    let mut other = node.spawn(&["python3", "-m", "http.server", "18080", "--directory", "/opt/lab"]);
    wait("the other server", || node.get("/").map(drop));
    complains(
        &node.emr_shs(&["install", "--event-logs", LOGS]),
        1,
        &["took port 18081, because 18080 is taken", "was down before, and is again"],
    );
    assert_same_tree(&before, &node.tree());
    other.kill().unwrap();
    other.wait().unwrap();
    wait("the port to be free", || node.get("/").is_none().then_some(()));
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.reads(), LOGS);
}

fn unusual_servers(profile: Profile) {
    let node = Node::fresh(profile, "unusual");
    let before = node.tree();

    // Another port; moved in the same run, too.
    node.sh(&format!("cp -p {DEFAULTS} /root/; sed -i 's/^spark.history.ui.port .*/spark.history.ui.port 18099/' {DEFAULTS}; systemctl restart spark-history-server"));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert!(ran.err().contains("on port 18099"), "{}", ran.err());
    let shown = || node.sh("curl -s localhost:9977").contains(LOGS);
    assert!(node.sh("curl -s localhost:18099").contains(LOGS) && shown());
    node.emr_shs(&["install", "--set", "spark.history.ui.port=18100", "--set", "spark.history.fs.update.interval=5m"])
        .expect(0);
    assert!(node.sh("curl -s localhost:18100").contains(LOGS) && shown());
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh(&format!("cp -p /root/spark-defaults.conf {DEFAULTS}; systemctl restart spark-history-server"));
    assert_same_tree(&before, &node.tree());

    // TLS, with a certificate of its own.
    node.sh(
        "keytool -genkeypair -keystore /opt/lab/keys.p12 -storetype PKCS12 -storepass secret -alias shs -keyalg RSA -dname CN=localhost 2>/dev/null
         chown spark /opt/lab/keys.p12",
    );
    node.sh(&format!(
        "cp -p {DEFAULTS} /root/; printf '%s\\n' 'spark.ssl.historyServer.enabled true' 'spark.ssl.historyServer.keyStore /opt/lab/keys.p12' \
         'spark.ssl.historyServer.keyStorePassword secret' 'spark.ssl.historyServer.keyPassword secret' 'spark.ssl.historyServer.protocol TLSv1.2' >>{DEFAULTS}
         systemctl restart spark-history-server"
    ));
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert!(ran.err().contains("on port 18480"), "{}", ran.err());
    assert!(node.sh("curl -sk https://localhost:18480/").contains(LOGS) && shown());
    assert!(
        !node.sh("cat /var/lib/emr-shs/receipt.json").contains("secret"),
        "other people's secrets are not ours to keep"
    );
    node.emr_shs(&["uninstall"]).expect(0);
    assert!(node.sh("curl -sk https://localhost:18480/").contains(HDFS));
    node.sh(&format!(
        "cp -p /root/spark-defaults.conf {DEFAULTS}; rm /opt/lab/keys.p12; systemctl restart spark-history-server"
    ));

    // A slow machine: the script returns before the server is there.
    node.sh("echo START_DELAY=4 >/etc/default/spark-history-server");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert_eq!(node.reads(), LOGS);
    assert!(
        !node.sh("ls /usr/lib/spark/jars").contains("emr-shs-"),
        "the launcher's own class path is not the server's"
    );
    node.emr_shs(&["uninstall"]).expect(0);

    // A start script that drops the environment.
    node.sh("echo 'unset SPARK_DAEMON_CLASSPATH' >/etc/default/spark-history-server");
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert!(ran.err().contains("linking into /usr/lib/spark/jars instead"), "{}", ran.err());
    assert_eq!(node.reads(), LOGS);
    assert!(node.sh("ls /usr/lib/spark/jars").contains("emr-shs-"));
    let again = node.emr_shs(&["install"]).expect(0);
    assert!(again.err().contains("nothing to do"), "{}", again.err());
    node.emr_shs(&["uninstall"]).expect(0);
    node.sh("rm /etc/default/spark-history-server; systemctl restart spark-history-server");
    assert_same_tree(&before, &node.tree());
    wait("the history server", || node.answers().then_some(()));
    assert_eq!(node.reads(), HDFS);
}

fn a_bucket_in_another_region(profile: Profile) {
    let node = Node::fresh(profile, "region");
    // A second store of region eu-central-1, and before it what S3 does with requests that are
    // signed for another region: 301, and the bucket's region in a header.
    let stub = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/region_redirect.py");
    node.copy(stub, "/opt/lab/region_redirect.py");
    node.sh(
        "mkdir /srv/central; sed 's/7070/7072/; s/eu-west-3/eu-central-1/' /etc/lab/s3.env >/tmp/central.env
         systemd-run -q --unit lab-central --setenv=ROOT_ACCESS_KEY=labroot --setenv=ROOT_SECRET_KEY=labrootsecret /opt/lab/versitygw --port 127.0.0.1:7072 --region eu-central-1 posix /srv/central
         systemd-run -q --unit lab-redirect python3 /opt/lab/region_redirect.py 7073 7072 eu-central-1
         sed -i 's/127.0.0.1:7070/127.0.0.1:7073/' /etc/hadoop/conf/core-site.xml",
    );
    wait("the second store", || {
        (node.run(&["bash", "-c", "AWS_REGION=eu-central-1 LAB_S3_PORT=7072 /opt/lab/s3 mb s3://acme-central"]).code()
            == 0)
            .then_some(())
    });
    let keys = "AWS_ACCESS_KEY_ID=labroot AWS_SECRET_ACCESS_KEY=labrootsecret";
    let ran =
        node.run(&["bash", "-c", &format!("{keys} emr-shs install --event-logs s3a://acme-central/events/")]).expect(0);
    assert!(ran.err().contains("spark.hadoop.fs.s3a.bucket.acme-central.endpoint.region"), "{}", ran.err());
    assert_eq!(node.reads(), "s3a://acme-central/events/");
}

fn the_local_store(profile: Profile) {
    let node = Node::fresh(profile, "store");
    // A full disk: no store, and that is said.
    node.sh("mkdir /root/mnt; cp -a /mnt/. /root/mnt/; mount -t tmpfs -o size=64m none /mnt; cp -a /root/mnt/. /mnt/");
    let ran = node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    assert!(
        ran.err().contains("No local store for the history server: /mnt has less than 1 GiB free"),
        "{}",
        ran.err()
    );
    assert!(node.emr_shs(&["status"]).expect(0).out().contains("/mnt has less than 1 GiB free"));
    assert!(!node.sh(&format!("cat {DEFAULTS}")).contains("spark.history.store"));
    // A mount that cannot be written.
    node.sh("umount -l /mnt; mount --bind /mnt /mnt; mount -o remount,ro,bind /mnt");
    let status = node.emr_shs(&["status"]).expect(0).out();
    assert!(status.contains("/mnt is mounted read-only"), "{status}");
    node.sh("umount -l /mnt");

    // With room, a plain install adds it, and it is used.
    node.emr_shs(&["install"]).expect(0);
    assert_eq!(node.reads(), LOGS);
    assert_eq!(node.sh("ls -d /mnt/spark-history/listing.rdb").trim(), "/mnt/spark-history/listing.rdb");
    node.upload_event_logs(LOGS);
    node.emr_shs(&["restart"]).expect(0);
    node.wait_for_applications(9);

    // A store as Spark before 3.4 writes it, and one of another directory: both are made anew.
    node.emr_shs(&["install", "--set", "spark.history.store.serializer=JSON"]).expect(0);
    node.wait_for_applications(9);
    node.emr_shs(&["install", "--set", "spark.history.store.serializer="]).expect(0);
    assert!(node.sh(&format!("cat {DEFAULTS}")).contains("PROTOBUF"));
    node.wait_for_applications(9);
    node.emr_shs(&["install", "--event-logs", "s3://acme-spark/elsewhere/"]).expect(0);
    assert_eq!(node.reads(), "s3://acme-spark/elsewhere/");
    node.emr_shs(&["install", "--event-logs", LOGS]).expect(0);
    node.wait_for_applications(9);

    // A store that is broken.
    for broken in [
        "rm -rf /mnt/spark-history/listing.rdb/*.sst /mnt/spark-history/listing.rdb/CURRENT",
        "echo broken >/mnt/spark-history/listing.rdb/CURRENT",
    ] {
        node.sh("systemctl stop spark-history-server || true");
        node.sh(broken);
        node.emr_shs(&["restart"]).expect(0);
        node.wait_for_applications(9);
    }
    node.emr_shs(&["uninstall"]).expect(0);
    assert_eq!(node.sh("test ! -e /mnt/spark-history && echo gone").trim(), "gone");
}

fn interrupted(profile: Profile) {
    let node = Node::fresh(profile, "interrupted");
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

    // Killed in the same place: the next run restarts although nothing is left to change.
    let mut child = node.spawn(&["emr-shs", "install", "--event-logs", LOGS]);
    wait("the restart to begin", || {
        (node.sh("systemctl is-active spark-history-server || true").trim() != "active").then_some(())
    });
    node.sh("pkill -KILL -x emr-shs");
    child.wait().unwrap();
    wait("the server", || node.answers().then_some(()));
    assert!(node.emr_shs(&["status"]).expect(0).out().contains("has not been restarted since a change"));
    let pid = node.history_server_pid();
    node.emr_shs(&["install"]).expect(0);
    assert_ne!(node.history_server_pid(), pid, "the restart that was owed");
    assert_eq!(node.reads(), LOGS);
    node.emr_shs(&["uninstall"]).expect(0);
    assert_same_tree(&before, &node.tree());
}
