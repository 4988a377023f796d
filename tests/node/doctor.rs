//! `doctor` names the cause of each known failure first, and no healthy part as failing. After the cause is mended, every
//! check passes again.
//!
//! Its reports are compared with tests/snapshots. SNAPSHOTS=overwrite writes those files anew.

use crate::helpers::command_output::assert_same_tree;
use crate::helpers::doctor_cases::{DoctorCases, Report, healthy, lists, until};
use crate::helpers::node::{CLUSTER, LOGS, Node, Profile};
use crate::helpers::snapshots::assert_snapshot;
use serde_json::{Value, json};

const DEFAULTS: &str = "/etc/spark/conf/spark-defaults.conf";
const ENV: &str = "/etc/spark/conf/spark-env.sh";
const SERVER: &str = "spark-history-server";

fn denied(method: &str, of: &str, message: &str) -> Value {
    json!({"refuse": [{"method": method, "match": of, "status": 403, "code": "AccessDenied", "message": message}]})
}

fn of_kms(action: &str) -> String {
    format!(
        "User: arn:aws:sts::111122223333:assumed-role/EMR_EC2_DefaultRole/i-0a1b is not authorized to perform: {action} \
         on resource: arn:aws:kms:eu-west-3:111122223333:key/9f3c because no identity-based policy allows it"
    )
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn doctor_names_what_s3_refuses() {
    let mut p = DoctorCases::installed(Profile::Emr71);
    healthy(&p.node, "doctor-healthy-7.1.txt");
    p.node.sh("/opt/lab/s3-fault on");
    let (object, list) = ("^/acme-spark/events/[^?]", "^/acme-spark/?\\?.*list-type");
    let name = "the role EMR_EC2_DefaultRole is not allowed to";

    // Here it matters what emr-shs's own requests show. Hadoop's client has tests of its own, and takes seconds.
    p.node.sh("mv /usr/lib/jvm /usr/lib/jvm.away");
    let new_key = denied("PUT", object, &of_kms("kms:GenerateDataKey"));
    p.s3("kms:GenerateDataKey denied", &new_key, &["kms"], &[name, "allow kms:GenerateDataKey", "key/9f3c"]);
    let key = denied("GET", object, &of_kms("kms:Decrypt"));
    p.s3("kms:Decrypt denied", &key, &["kms"], &["kms:Decrypt", "in the key's policy too"]);
    let denial = |method: &str, of: &str| denied(method, of, "Access Denied");
    p.s3("s3:GetObject denied", &denial("GET", object), &["get"], &[name, "allow s3:GetObject"]);
    p.s3("s3:PutObject denied", &denial("PUT", object), &["put"], &["allow s3:PutObject", "no java was found"]);
    let report = p.s3("s3:DeleteObject denied", &denial("DELETE", object), &["delete"], &["allow s3:DeleteObject"]);
    let left = report.json["left_in_s3"].as_array().unwrap();
    assert!(left.len() == 1 && p.node.s3_has(left[0].as_str().unwrap()), "{left:?}");
    assert!(Report::of(&p.node).json.get("left_in_s3").is_none());
    p.s3("s3:ListBucket denied", &denial("GET", list), &["list"], &["allow s3:ListBucket"]);
    p.s3("container logs denied", &denial("GET", "^/acme-logs"), &["archive"], &["s3:ListBucket", "acme-logs"]);
    let gone = json!({"refuse": [{"match": "^/acme-spark", "status": 404, "code": "NoSuchBucket"}]});
    p.s3("bucket gone", &gone, &["bucket"], &["there is no bucket acme-spark", "aws s3 mb"]);
    p.s3("clock behind", &json!({"date_shift": 1000}), &["clock"], &["behind S3's", "chronyd"]);
    p.s3("clock ahead", &json!({"date_shift": -1000}), &["clock"], &["ahead of S3's"]);
    p.s3("S3 hangs", &json!({"hang": true}), &["bucket"], &["could not be asked", "timed out"]);
    let slow = json!({"delay_ms": 300});
    p.s3("S3 is slow", &slow, &[], &[]);
    p.node.sh("mv /usr/lib/jvm.away /usr/lib/jvm");

    // S3 denies one event log. Only the server's log shows it.
    let one = denied("GET", "application_1795352263709_0003", "Access Denied");
    std::fs::write(p.node.path("/etc/lab/s3-fault.json"), one.to_string()).unwrap();
    p.case(
        "one event log denied",
        &format!("systemctl stop spark-history-server; rm -rf /mnt/emr-shs/store-acme-spark-events-905771e932ca/*; systemctl start spark-history-server
         {}", until(&format!("grep -q 'merging application listings' /var/log/spark/spark-history-server.out && {}", lists(9)))),
        &["server log"],
        &["S3 denies access", "application_1795352263709_0003", "allow s3:ListBucket and s3:GetObject"],
        "rm /etc/lab/s3-fault.json; systemctl stop spark-history-server; rm -r /mnt/emr-shs/store-acme-spark-events-905771e932ca/*; systemctl start spark-history-server",
    );
    p.node.sh("/opt/lab/s3-fault off");
    // The policy of the bucket denies one action.
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["limited"]},
        "Action": ["s3:GetObject", "s3:ListBucket", "s3:DeleteObject"],
        "Resource": ["arn:aws:s3:::acme-spark", "arn:aws:s3:::acme-spark/*", "arn:aws:s3:::acme-logs", "arn:aws:s3:::acme-logs/*"]}]});
    let allow = |bucket: &str| {
        let text = policy.to_string().replace("\"arn:aws:s3:::acme-spark\",\"arn:aws:s3:::acme-spark/*\",\"arn:aws:s3:::acme-logs\",\"arn:aws:s3:::acme-logs/*\"", &format!("\"arn:aws:s3:::{bucket}\",\"arn:aws:s3:::{bucket}/*\""));
        format!("echo '{text}' >/srv/policy; /opt/lab/s3 policy s3://{bucket} /srv/policy; ")
    };
    p.case(
        "a role without a permission",
        &format!(
            "mv /usr/lib/jvm /usr/lib/jvm.away
            /opt/lab/s3 user limited limitedsecret user; {}{} echo limited >/etc/lab/session-user",
            allow("acme-spark"),
            allow("acme-logs")
        ),
        &["put"],
        &["allow s3:PutObject"],
        "mv /usr/lib/jvm.away /usr/lib/jvm; rm /etc/lab/session-user; /opt/lab/s3 policy s3://acme-spark; /opt/lab/s3 policy s3://acme-logs",
    );
    p.case(
        "buffer directory not writable",
        "chown root:root /mnt/s3; chmod 700 /mnt/s3",
        &["buffer"],
        &["the user spark cannot write to /mnt/s3", "fix: sudo mkdir -p /mnt/s3; sudo chown spark: /mnt/s3"],
        "chown spark:spark /mnt/s3; chmod 1777 /mnt/s3",
    );
    assert_snapshot("doctor-s3.txt", &p.said);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn doctor_names_what_damaged_an_installation() {
    let mut p = DoctorCases::installed(Profile::Emr712);
    healthy(&p.node, "doctor-healthy-7.12.txt");
    let log = "/var/log/spark/spark-history-server.out";
    assert!(p.node.sh(&format!("cat {log}")).contains("INFO HistoryServer"), "the SDK's SLF4J silences the server");

    p.case(
        "full local store",
        "/opt/lab/small-disk /mnt/emr-shs/store-acme-spark-events-905771e932ca 20 spark; /opt/lab/small-disk /mnt/emr-shs/store-acme-spark-events-905771e932ca --fill",
        &["disk"],
        &["/mnt/emr-shs/store-acme-spark-events-905771e932ca has 0 MB left", "df -h /mnt/emr-shs/store-acme-spark-events-905771e932ca"],
        "umount /mnt/emr-shs/store-acme-spark-events-905771e932ca",
    );
    p.case(
        "full log directory",
        "/opt/lab/small-disk /var/log/spark 20 spark; /opt/lab/small-disk /var/log/spark --fill",
        &["disk"],
        &["/var/log/spark has 0 MB left"],
        "umount /var/log/spark",
    );
    p.case(
        "cleaner on",
        &format!("echo 'spark.history.fs.cleaner.enabled true' >>{DEFAULTS}"),
        &["cleaner"],
        &[
            "deletes the event logs of all clusters",
            "fix: sudo emr-shs install --set spark.history.fs.cleaner.enabled=false",
        ],
        &format!("sed -i /cleaner/d {DEFAULTS}"),
    );
    p.case(
        "compaction on",
        &format!("echo 'spark.history.fs.eventLog.rolling.maxFilesToRetain 3' >>{DEFAULTS}"),
        &["cleaner"],
        &[
            "rewrites the rolling event logs in s3://acme-spark/events/",
            "fix: sudo emr-shs install --set spark.history.fs.eventLog.rolling.maxFilesToRetain=2147483647",
        ],
        &format!("sed -i /maxFilesToRetain/d {DEFAULTS}"),
    );
    p.case(
        "malformed configuration",
        &format!("echo 'spark.foo bar\\u12' >>{DEFAULTS}"),
        &["defaults"],
        &["cannot be read by Spark", "is not a \\uXXXX escape", "fix: correct line"],
        &format!("sed -i /spark.foo/d {DEFAULTS}"),
    );
    p.case("jobs log elsewhere", &format!("cp -p {DEFAULTS} /srv/defaults; sed -i 's#^spark.eventLog.dir.*#spark.eventLog.dir hdfs:///var/log/spark/apps#' {DEFAULTS}"), &["drift"], &["spark.eventLog.dir: found hdfs:///var/log/spark/apps", "jobs log to hdfs:///var/log/spark/apps", "see drift"], &format!("cp -p /srv/defaults {DEFAULTS}"));
    let jars = "/usr/lib/spark/jars";
    p.case(
        "two SDKs, and jobs upload one",
        &format!("cp /usr/share/aws/aws-java-sdk-v2/aws-sdk-java-bundle-*.jar {jars}/aws-sdk-java-bundle-2.0.0.jar"),
        &["class path", "job uploads"],
        &[
            "2 jars of AWS SDK v2",
            "NoSuchMethodError",
            &format!("sudo rm {jars}/aws-sdk-java-bundle-2.0.0.jar"),
            "every job uploads",
        ],
        &format!("rm {jars}/aws-sdk-java-bundle-2.0.0.jar"),
    );
    p.case("restart owed", "cp -p /var/lib/emr-shs/receipt.json /srv/receipt; sed -i 's/\"owes_restart\": *false/\"owes_restart\": true/' /var/lib/emr-shs/receipt.json", &["drift"], &["has not been restarted since emr-shs changed its settings", "fix: sudo emr-shs restart"], "cp -p /srv/receipt /var/lib/emr-shs/receipt.json");

    p.case(
        "reconfiguration",
        "/opt/lab/reconfigure; until curl -sfo /dev/null localhost:18080/api/v1/version; do sleep 0.2; done",
        &["drift"],
        &["spark-defaults.conf has lost all 7 keys", "when it reconfigures a cluster", "fix: sudo emr-shs install"],
        "emr-shs install",
    );
    p.case(
        "stopped",
        &format!("systemctl stop {SERVER} || true"),
        &["service"],
        &["the history server is stopped", "fix: sudo systemctl start"],
        &format!("systemctl start {SERVER}"),
    );
    let sdk = "/usr/lib/emr-shs/jars/aws-sdk-v2.jar";
    p.suffers(
        "link gone",
        |node| {
            node.sh(&format!("mv {sdk} /srv/; systemctl restart {SERVER} || true"));
            node.wait_until_dead();
        },
        &["drift"],
        &["aws-sdk-v2.jar: found absent", "does not run; its unit is failed: see drift"],
    );
    p.case("dies over and over", &format!("mkdir -p /run/systemd/system/{SERVER}.service.d; printf '[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nRestart=always\\nRestartSec=1\\n' >/run/systemd/system/{SERVER}.service.d/lab.conf; systemctl daemon-reload; systemctl start {SERVER} || true; {}", until(&format!("[ $(systemctl show -P NRestarts {SERVER}) -ge 2 ]"))), &["drift"], &["dies again and again", "see drift"], &format!("rm /run/systemd/system/{SERVER}.service.d/lab.conf; systemctl daemon-reload; mv /srv/aws-sdk-v2.jar {sdk}; systemctl stop {SERVER} || true; pkill -u spark; while pgrep -u spark java; do sleep 0.1; done; systemctl start {SERVER}"));
    p.case("port taken", &format!("systemctl stop {SERVER}; systemd-run -q --collect --unit squatter python3 -m http.server 18080; until curl -so /dev/null localhost:18080; do sleep 0.1; done; systemctl start {SERVER}; {}", until("curl -sfo /dev/null localhost:18081/api/v1/version")), &["port"], &["another process uses port 18080", "http.server 18080", "answers on port 18081", "spark.history.ui.port=18081"], &format!("systemctl stop squatter; systemctl stop {SERVER} || true; while pgrep -u spark java; do sleep 0.1; done; systemctl start {SERVER}"));
    p.case("override", &format!("cp -p {ENV} /srv/env; echo 'export SPARK_HISTORY_OPTS=\"$SPARK_HISTORY_OPTS -Dspark.history.fs.logDirectory=hdfs:///var/log/spark/apps\"' >>{ENV}; systemctl restart {SERVER}; until curl -sfo /dev/null localhost:18080/api/v1/version; do sleep 0.2; done"), &["drift", "defaults"], &["on its command line", "found -Dspark.history.fs.logDirectory=hdfs:///var/log/spark/apps", "SPARK_HISTORY_OPTS"], &format!("cp -p /srv/env {ENV}; systemctl restart {SERVER}"));
    // An event log can contain a query plan of 150 MB in one line.
    p.suffers("heap too small for a large event log", |node| {
        node.sh(&format!("echo 'export SPARK_DAEMON_MEMORY=128m' >>{ENV}; (cat /srv/eventlogs/application_1795352263709_0003; printf '{{\"Event\":\"org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart\",\"physicalPlanDescription\":\"'; head -c 150000000 /dev/zero | tr '\\0' x; printf '\"}}\\n') >/srv/large; /opt/lab/s3 put /srv/large s3://acme-spark/events/application_1795352263709_0777; systemctl restart {SERVER} || true"));
        node.wait_until_dead();
    }, &["heap"], &["a heap of 128 MiB is too small", "OutOfMemoryError", "the history server does not run", "see heap", "SPARK_DAEMON_MEMORY=4g"]);
    p.node.sh(&format!("cp -p /srv/env {ENV}; /opt/lab/s3 rm s3://acme-spark/events/application_1795352263709_0777; rm /srv/large; systemctl restart {SERVER}"));
    p.recovered();
    assert_snapshot("doctor-installation.txt", &p.said);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn doctor_names_failures_of_aws_and_of_the_gateway() {
    let mut p = DoctorCases::installed(Profile::Emr71);
    // Here it matters what emr-shs's own requests show. Hadoop's client of the lab has keys of its own.
    p.node.sh("mv /usr/lib/jvm /usr/lib/jvm.away");
    p.stand_in(
        "metadata service hangs",
        "outage",
        json!("hang"),
        &["credentials"],
        &["this node has no credentials", "the metadata service does not answer: timed out", "curl -s -m 2"],
    );
    p.stand_in("no instance profile", "role", json!(null), &["credentials"], &["this node has no instance profile"]);
    let error = json!({"__type": "AccessDeniedException", "Message": "not authorized to perform: elasticmapreduce:DescribeCluster"});
    p.stand_in(
        "DescribeCluster denied",
        "describe_error",
        error,
        &[],
        &["EMR could not be asked: AccessDeniedException"],
    );
    let settings: Value =
        serde_json::from_slice(&std::fs::read(p.node.path("/etc/lab/standin.json")).unwrap()).unwrap();
    let cluster = |change: &dyn Fn(&mut Value)| {
        let mut cluster = settings["cluster"].clone();
        change(&mut cluster);
        cluster
    };
    p.stand_in(
        "no log URI",
        "cluster",
        cluster(&|c| c["LogUri"] = json!(null)),
        &["log URI"],
        &["no log URI", "--log-uri"],
    );
    p.stand_in(
        "log upload switched off",
        "cluster",
        cluster(&|c| {
            c["MonitoringConfiguration"] =
                json!({"S3LoggingConfiguration": {"LogTypeUploadPolicy": {"application-logs": "disabled"}}})
        }),
        &["archive"],
        &["does not upload application logs", "LogTypeUploadPolicy"],
    );
    p.node.stand_in(
        "security_configuration",
        json!({"AuthorizationConfiguration": {"IAMConfiguration": {"EnableApplicationScopedIAMRole": true}}}),
    );
    p.stand_in(
        "runtime roles without a login",
        "cluster",
        cluster(&|c| c["SecurityConfiguration"] = json!("roles")),
        &["runtime roles"],
        &["requires no login", "--htpasswd"],
    );
    p.recovered();

    let gateway = "emr-shs-gateway";
    p.case(
        "gateway stopped",
        &format!("systemctl stop {gateway}.socket {gateway}"),
        &["gateway"],
        &["does not run; its unit is inactive", "fix: sudo systemctl restart emr-shs-gateway"],
        &format!("systemctl start {gateway}"),
    );
    p.node.stand_in("outage", json!("refuse"));
    p.suffers(
        "no credentials, the gateway's neither",
        |node| drop(node.sh(&format!("sleep 1; systemctl restart {gateway}; sleep 1"))),
        &["credentials"],
        &["log gateway", "see credentials"],
    );
    p.node.stand_in("outage", json!(null));
    p.node.sh(&format!("systemctl restart {gateway}"));
    p.recovered();
    p.node.sh("mv /usr/lib/jvm.away /usr/lib/jvm");
    p.case(
        "suspended",
        "kill -STOP $(pgrep -u spark java)",
        &["service"],
        &["the history server is suspended", "fix: sudo kill -CONT"],
        "kill -CONT $(pgrep -u spark java)",
    );
    // Neither takes the time of the questions to S3.
    let both = format!("$(pgrep -u spark java) $(systemctl show -P MainPID {gateway})");
    p.case(
        "suspended, and a gateway that hangs",
        &format!("kill -STOP {both}"),
        &["service", "gateway"],
        &["the history server is suspended", "the log gateway does not answer on port 9977"],
        &format!("kill -CONT {both}"),
    );
    let links = "spark.history.custom.executor.log.url";
    p.case(
        "log pattern with APP_ID",
        &format!(
            "emr-shs install --set '{links}=http://x/{{{{APP_ID}}}}/{{{{CONTAINER_ID}}}}/{{{{FILE_NAME}}}}'; {}",
            until(&lists(10))
        ),
        &["log pattern", "gateway"],
        &[
            "log links use APP_ID, which executors do not have",
            "CONTAINER_ID",
            &format!("fix: sudo emr-shs install --set {links}="),
        ],
        &format!("emr-shs install --set {links}="),
    );
    p.case("event logs that are none", &format!("systemctl stop {SERVER}; rm -rf /mnt/emr-shs/store-acme-spark-events-905771e932ca/*; head -c 5000 /dev/urandom >/srv/none; for name in application_1795352263709_0901.zstd application_1795352263709_0902.zstd; do /opt/lab/s3 put /srv/none s3://acme-spark/events/$name; done; systemctl start {SERVER}; {}", until(&format!("[ $(grep -c 'merging application listings' /var/log/spark/spark-history-server.out) = 2 ] && {}", lists(10)))), &["server log", "reads"], &["10 of 12 event logs listed", "application_1795352263709_0901", "Exception while merging application listings", "fix: find the reason"], &format!("/opt/lab/s3 rm s3://acme-spark/events/application_1795352263709_0901.zstd s3://acme-spark/events/application_1795352263709_0902.zstd; systemctl restart {SERVER}"));
    p.suffers(
        "prefix gone",
        |node| drop(node.sh("/opt/lab/s3 rm 's3://acme-spark/events/*'")),
        &["prefix"],
        &["no object lies under s3://acme-spark/events/", "fix: sudo emr-shs prefix"],
    );
    p.suffers(
        "prefix gone, server dead",
        |node| {
            node.sh(&format!("systemctl restart {SERVER} || true"));
            node.wait_until_dead();
        },
        &["prefix"],
        &["does not run; its unit is failed: see prefix"],
    );
    p.node.sh(&format!("/opt/lab/s3 put-tree /srv/eventlogs {LOGS}; systemctl restart {SERVER}"));
    p.recovered();
    assert_snapshot("doctor-aws.txt", &p.said);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn doctor_explains_a_node_without_an_installation() {
    let node = Node::fresh(Profile::Emr712);
    let mut p = DoctorCases { node, said: String::new(), env: &[] };
    let before = p.node.tree();
    let report = p.suffers("HDFS only", |_| {}, &[], &["emr-shs is not installed on this node"]);
    assert_eq!(report.names("skip").iter().filter(|name| ["primary", "service", "heap"].contains(name)).count(), 0);
    // A user other than root sees less, but no check fails for that.
    let ran = p.node.run(&[
        "setpriv",
        "--reuid",
        "hadoop",
        "--regid",
        "hadoop",
        "--init-groups",
        "emr-shs",
        "doctor",
        "--json",
    ]);
    assert_eq!(ran.json()["failed"], 0, "{}", ran.out());
    assert_same_tree(&before, &p.node.tree());

    p.suffers(
        "jobs log elsewhere than the server reads",
        |node| {
            drop(node.sh(&format!(
                "cp -p {DEFAULTS} /srv/defaults; sed -i 's#^spark.eventLog.dir.*#spark.eventLog.dir {LOGS}#' {DEFAULTS}"
            )))
        },
        &["defaults"],
        &["jobs log to s3://acme-spark/events/, but the history server reads hdfs:///var/log/spark/apps"],
    );
    p.node.sh(&format!("cp -p /srv/defaults {DEFAULTS}"));
    let instance = "/mnt/var/lib/info/instance.json";
    p.suffers(
        "worker node",
        |node| {
            drop(node.sh(&format!(
                "cp -p {instance} /srv/instance; sed -i 's/\"isMaster\": *true/\"isMaster\": false/' {instance}"
            )))
        },
        &["primary"],
        &["not the cluster's primary node"],
    );
    p.node.sh(&format!("cp -p /srv/instance {instance}"));
    p.suffers(
        "no EMR",
        |node| drop(node.sh("mv /mnt/var/lib/info /srv/info")),
        &["primary"],
        &["does not look like an EMR node"],
    );
    p.node.sh("mv /srv/info /mnt/var/lib/info");
    // A server whose directory is on S3 and whose class path lacks S3A.
    p.suffers("missing class", |node| {
        node.sh(&format!("/opt/lab/s3 put /dev/null {LOGS}; sed -Ei 's#^(spark.eventLog.dir|spark.history.fs.logDirectory) .*#\\1 {LOGS}#' {DEFAULTS}; systemctl restart {SERVER} || true"));
        node.wait_until_dead();
    }, &["class path"], &["class path lacks S3AFileSystem", "the class is in /usr/lib/hadoop/hadoop-aws", "see class path", "fix: sudo emr-shs install --event-logs s3://acme-spark/events/"]);
    assert!(p.node.emr_shs(&["doctor", "--json"]).json()["node"].as_str().unwrap().contains(CLUSTER));

    // A second S3 server of another region. A proxy before it refuses requests that are signed for this node's region.
    let stub = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/region_redirect.py");
    p.node.copy(stub, "/opt/lab/region_redirect.py");
    p.node.sh(&format!(
        "mkdir /srv/central
         systemd-run -q --unit lab-central --setenv=ROOT_ACCESS_KEY=labroot --setenv=ROOT_SECRET_KEY=labrootsecret /opt/lab/versitygw --port 127.0.0.1:7072 --region eu-central-1 posix /srv/central
         systemd-run -q --unit lab-redirect python3 /opt/lab/region_redirect.py 7073 7072 eu-central-1
         sed -i 's/127.0.0.1:7070/127.0.0.1:7073/' /etc/hadoop/conf/core-site.xml
         for port in 7072 7073; do until : </dev/tcp/127.0.0.1/$port; do sleep 0.1; done 2>/dev/null; done
         AWS_REGION=eu-central-1 LAB_S3_PORT=7072 /opt/lab/s3 mb s3://acme-central s3://acme-logs
         cp -p /srv/defaults {DEFAULTS}; systemctl reset-failed {SERVER}; systemctl start {SERVER}"
    ));
    p.env = &["env", "AWS_ACCESS_KEY_ID=labroot", "AWS_SECRET_ACCESS_KEY=labrootsecret"];
    let install = ["emr-shs", "install", "--no-proxy", "--event-logs", "s3a://acme-central/events/"];
    p.node.run(&[p.env, &install].concat()).expect(0);
    let says = &[
        "acme-central.endpoint.region: found absent, wanted eu-central-1",
        "the history server asks for it in eu-west-3: see drift",
    ];
    p.suffers(
        "wrong region",
        |node| {
            node.sh(&format!("sed -i /endpoint.region/d {DEFAULTS}; systemctl restart {SERVER} || true"));
            node.wait_until_dead();
        },
        &["drift"],
        says,
    );
    assert_snapshot("doctor-bare.txt", &p.said);
}
