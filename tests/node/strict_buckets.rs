//! Buckets that demand something of each request, and settings of S3A for one bucket: the installation does what S3A does.

use crate::helpers::command_output::{CommandOutput, assert_same_tree};
use crate::helpers::node::{CLUSTER, LOG_URI, LOGS, Node, Profile};
use serde_json::{Value, json};

const CORE: &str = "/etc/hadoop/conf/core-site.xml";
const DEFAULTS: &str = "/etc/spark/conf.dist/spark-defaults.conf";
const KEY: &str = "arn:aws:kms:eu-west-3:111122223333:key/0a1b2c3d-0000-4000-8000-000000000000";
const CUSTOMER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const EVENT_LOGS: &str = "^/acme-spark/.";
const CONTAINER_LOGS: &str = "^/acme-logs/.";

type Properties<'a> = &'a [(&'a str, &'a str)];

/// An account of S3 that may list and read event logs, and not write them.
const READER: &str = r#"/opt/lab/s3 user reader readersecret user
    echo '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["reader"]},"Action":["s3:ListBucket","s3:GetObject"],"Resource":["arn:aws:s3:::acme-spark","arn:aws:s3:::acme-spark/*"]}]}' >/root/reader.json
    /opt/lab/s3 policy s3://acme-spark /root/reader.json"#;

/// Sets properties of Hadoop, besides those with which the node came.
fn set(node: &Node, properties: Properties<'_>) {
    let lines: String =
        properties.iter().map(|(k, v)| format!("<property><name>{k}</name><value>{v}</value></property>")).collect();
    node.sh(&format!(
        "[ -e /root/core-site.xml ] || cp -p {CORE} /root/
        sed 's|</configuration>|{lines}&|' /root/core-site.xml >{CORE}"
    ));
}

/// The rule of a bucket that refuses new objects without such a header.
fn demands(place: &str, header: &str) -> Value {
    json!({ "method": "PUT", "match": place, "lacks": header, "status": 403, "code": "AccessDenied", "message": "Access Denied" })
}

/// The rule of a bucket that answers only to those who say that they pay.
fn pays(place: &str) -> Value {
    let mut rule = demands(place, "^x-amz-request-payer: requester$");
    rule.as_object_mut().unwrap().remove("method");
    rule
}

/// The words of both outputs in one line.
fn words(ran: &CommandOutput) -> String {
    (ran.out() + &ran.err()).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The result of each stage of a proof.
fn results(ran: &CommandOutput) -> Vec<String> {
    let json = ran.json();
    json["stages"].as_array().unwrap().iter().map(|stage| stage["result"].as_str().unwrap().to_string()).collect()
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn what_a_bucket_demands_and_what_is_said_of_one_bucket_alone_is_done() {
    let node = Node::fresh(Profile::Emr712);
    node.sh("/opt/lab/s3-fault on");
    let prefix = || node.emr_shs(&["prefix", "--event-logs", &format!("{LOGS}{}/", node.s3_requests())]);
    let algorithm = |wanted: &str| demands(EVENT_LOGS, &format!("^x-amz-server-side-encryption: {wanted}$"));
    let key = demands(EVENT_LOGS, &format!("^x-amz-server-side-encryption-aws-kms-key-id: {KEY}$"));
    let acl = demands(EVENT_LOGS, "^x-amz-acl: bucket-owner-full-control$");

    // A bucket that demands what nobody has configured.
    node.s3_refuses(&json!([acl]));
    let refused = words(&prefix().expect(3));
    assert!(refused.contains("is not allowed to write") && refused.contains("every Spark job"), "{refused}");

    // The same bucket, once S3A is configured for it.
    let of_bucket = |name: &str| format!("fs.s3a.bucket.acme-spark.{name}");
    let (short, long) = (of_bucket("encryption.algorithm"), of_bucket("fs.s3a.encryption.algorithm"));
    let (short_key, long_key) = (of_bucket("encryption.key"), of_bucket("fs.s3a.encryption.key"));
    let cases: &[(Properties<'_>, Value)] = &[
        (&[("fs.s3a.acl.default", "BucketOwnerFullControl")], json!([acl])),
        (&[(&short, "sse-kms"), (&short_key, KEY)], json!([algorithm("aws:kms"), key])),
        (&[(&short, "SSE-KMS"), (&short_key, "old"), (&long_key, KEY)], json!([algorithm("aws:kms"), key])),
        (&[("fs.s3a.encryption.algorithm", "SSE-KMS"), (&long, "AES256")], json!([algorithm("AES256")])),
        (
            &[("fs.s3a.encryption.algorithm", "DSSE-KMS"), ("fs.s3a.encryption.key", KEY)],
            json!([algorithm("aws:kms:dsse"), key]),
        ),
    ];
    for (properties, rules) in cases {
        set(&node, properties);
        node.s3_refuses(rules);
        let ran = words(&prefix().expect(0));
        assert!(!ran.contains("Hadoop's own client"), "{properties:?}: {ran}");
    }

    // Object Lock: S3A of this Hadoop sends no checksum, so jobs would fail.
    set(&node, &[]);
    let mut lock = demands(EVENT_LOGS, "^(content-md5|x-amz-checksum-[a-z0-9]+): ");
    lock["status"] = json!(400);
    lock["code"] = json!("InvalidRequest");
    lock["message"] = json!(
        "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
    );
    node.s3_refuses(&json!([lock]));
    let refused = words(&prefix().expect(3));
    assert!(refused.contains("Object Lock") && refused.contains("every Spark job"), "{refused}");

    // Credentials of which emr-shs has none. The instance profile may do everything here, and shows nothing.
    node.s3_refuses(&json!([]));
    node.sh(READER);
    let provider = of_bucket("aws.credentials.provider");
    let (id, secret) = (of_bucket("access.key"), of_bucket("secret.key"));
    let reader: Properties<'_> = &[(&id, "reader"), (&secret, "readersecret")];
    let simple = "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider";
    let anonymous = "org.apache.hadoop.fs.s3a.AnonymousAWSCredentialsProvider";
    let role = "org.apache.hadoop.fs.s3a.auth.AssumedRoleCredentialProvider";
    let arn = "arn:aws:iam::111122223333:role/events";
    let cases: &[(Properties<'_>, &[&str])] = &[
        (
            reader,
            &["as user hadoop (as jobs write event logs): fails to write: AccessDeniedException", "every Spark job"],
        ),
        (&[(&provider, anonymous)], &["as user hadoop", "fails to write", "every Spark job", &provider]),
        (&[("fs.s3a.aws.credentials.provider", anonymous)], &["as user hadoop", "fails to write", "every Spark job"]),
        (
            &[(&of_bucket("session.token"), "old")],
            &["as user hadoop", "The provided token is malformed", "session.token"],
        ),
        (&[(&provider, role), (&of_bucket("assumed.role.arn"), arn)], &["as user hadoop", "assumed.role.arn"]),
        (
            &[(&provider, "com.example.Vault")],
            &["nothing shows whether jobs and the history server can use", "com.example.Vault", "add --force"],
        ),
    ];
    for (properties, words_of_refusal) in cases {
        set(&node, properties);
        let ran = words(&prefix().expect(3));
        assert!(ran.contains("Hadoop has credentials of its own"), "{properties:?}: {ran}");
        for wanted in *words_of_refusal {
            assert!(ran.contains(wanted), "{wanted} for {properties:?} in: {ran}");
        }
    }
    // Others that may write and read: the keystore does not exist, so that S3A takes the keys beside it.
    set(&node, &[("fs.s3a.security.credential.provider.path", "localjceks://file/tmp/none.jceks")]);
    let ran = words(&prefix().expect(0));
    assert!(ran.contains("allowed to Hadoop's own client, as hadoop and spark"), "{ran}");
    // Keys that may do everything, and a role that no provider assumes, need no second opinion.
    let cases: &[Properties<'_>] =
        &[&[("fs.s3a.aws.credentials.provider", anonymous), (&provider, simple)], &[("fs.s3a.assumed.role.arn", arn)]];
    for properties in cases {
        set(&node, properties);
        let ran = words(&prefix().expect(0));
        assert!(!ran.contains("Hadoop's own client"), "{properties:?}: {ran}");
    }

    // Settings that emr-shs does not share: Hadoop's client finds out what they mean.
    let cases: &[(Properties<'_>, &[&str])] = &[
        (
            &[("fs.s3a.acl.default", "bucket-owner-full-control")],
            &[
                "cannot do what Hadoop's settings say (fs.s3a.acl.default)",
                "as user hadoop",
                "of Java: BucketOwnerFullControl",
            ],
        ),
        (
            &[(&short, "aws:kms")],
            &["as user hadoop", "found aws:kms; S3A knows", &format!("look at {short} in {CORE}")],
        ),
        (
            &[("fs.s3a.fast.upload.buffer", "disc")],
            &["settings that emr-shs does not know (fs.s3a.fast.upload.buffer)", "as user hadoop", "every Spark job"],
        ),
    ];
    for (properties, words_of_refusal) in cases {
        set(&node, properties);
        let before = node.tree();
        let ran = words(&prefix().expect(3));
        for wanted in *words_of_refusal {
            assert!(ran.contains(wanted), "{wanted} for {properties:?} in: {ran}");
        }
        assert_same_tree(&before, &node.tree());
    }
    set(&node, &[(&of_bucket("create.storage.class"), "intelligent_tiering"), ("fs.s3a.connection.maximum", "200")]);
    let ran = words(&prefix().expect(0));
    assert!(ran.contains("allowed to Hadoop's own client, as hadoop and spark"), "{ran}");
    let sse_c: Properties<'_> = &[(&short, "sse-c"), (&short_key, CUSTOMER_KEY)];
    set(&node, sse_c);
    let ran = words(&prefix().expect(0));
    assert!(ran.contains(&format!("cannot do what Hadoop's settings say ({short})")), "{ran}");
    // What makes no difference asks nobody.
    set(&node, &[("fs.s3a.connection.maximum", "200"), ("fs.s3a.fast.upload.buffer", "bytebuffer")]);
    let ran = words(&prefix().expect(0));
    assert!(!ran.contains("Hadoop's own client"), "{ran}");

    // All of it at once: what is said for all buckets leads nowhere, S3A has no region, the server speaks TLS from its next
    // start on, by a word in capitals, and YARN names the server by a URL with a reference.
    let (log_algorithm, log_key) =
        ("fs.s3a.bucket.acme-logs.encryption.algorithm", "fs.s3a.bucket.acme-logs.encryption.key");
    set(
        &node,
        &[
            ("fs.s3a.endpoint", "http://127.0.0.1:9"),
            (&of_bucket("endpoint"), "127.0.0.1:7070"),
            (&of_bucket("connection.ssl.enabled"), " False "),
            ("fs.s3a.bucket.acme-logs.endpoint", "http://127.0.0.1:7070"),
            ("fs.s3a.bucket.team-logs.endpoint", "http://127.0.0.1:7071"),
            (&short, "SSE-KMS"),
            (&long_key, KEY),
            (log_algorithm, "AES256"),
            (log_key, KEY),
            (&of_bucket("acl.default"), "BucketOwnerFullControl"),
            (&of_bucket("requester.pays.enabled"), "true"),
        ],
    );
    node.sh(&format!(
        "sed -i 's|<property><name>fs.s3a.endpoint.region</name><value>[^<]*</value></property>||' {CORE}"
    ));
    assert!(!node.sh(&format!("cat {CORE}")).contains("endpoint.region"));
    // Objects and lists are only for those who pay.
    let pays = pays("^/acme-spark/[^?]|^/acme-spark/?[?].*list-type");
    node.s3_refuses(&json!([algorithm("aws:kms"), key, acl, pays]));
    node.sh(&format!(
        "keytool -genkeypair -keystore /opt/lab/keys.p12 -storetype PKCS12 -storepass secret -alias shs -keyalg RSA -dname CN=localhost 2>/dev/null
         chown spark /opt/lab/keys.p12
         echo '<configuration><property><name>yarn.resourcemanager.hostname</name><value>ip-172-31-59-96.ec2.internal</value></property></configuration>' >/etc/hadoop/conf/yarn-site.xml
         sed -i '/^spark.yarn.historyServer.address/d' {DEFAULTS}
         printf '%s\\n' 'spark.ssl.historyServer.enabled True' 'spark.ssl.historyServer.keyStore /opt/lab/keys.p12' \
         'spark.ssl.historyServer.keyStorePassword secret' 'spark.ssl.historyServer.keyPassword secret' 'spark.ssl.historyServer.protocol TLSv1.2' \
         'spark.yarn.historyServer.address http://${{hadoopconf-yarn.resourcemanager.hostname}}:18080' >>{DEFAULTS}
         /opt/lab/s3 mb s3://team-logs"
    ));
    let often = ["--set", "spark.history.fs.update.interval=3s"];
    let uris = ["--log-uri", LOG_URI, "--log-uri", "s3://team-logs/emr/"];
    let ran = node.emr_shs(&[&["install", "--event-logs", LOGS, "--verify"], &often[..], &uris].concat()).expect(0);
    assert!(ran.err().contains("proved in"), "{}", ran.err());
    let defaults = node.sh(&format!("cat {DEFAULTS}"));
    assert!(defaults.contains("spark.hadoop.fs.s3a.bucket.acme-spark.endpoint.region eu-west-3\n"), "{defaults}");
    let s3a = defaults.lines().filter(|line| line.starts_with("spark.hadoop.fs.s3a."));
    assert!(s3a.clone().all(|line| line.starts_with("spark.hadoop.fs.s3a.bucket.acme-spark.")), "{defaults}");
    let link = "spark.history.custom.executor.log.url http://ip-172-31-59-96.ec2.internal:9977/logs/";
    assert!(defaults.contains(link), "{defaults}");
    // The server has TLS since the restart, and the gateway has followed it.
    let front = || node.sh("curl -s http://localhost:9977/");
    assert!(front().contains(LOGS), "{}", front());
    let plan = || node.emr_shs(&[&["plan", "--event-logs", LOGS, "--check"], &often[..], &uris].concat());
    plan().expect(0);
    node.spark_submit("strict");
    node.emr_shs(&["doctor"]).expect(0);

    // Each log URI is reached by the endpoint of its own bucket.
    let asked = |bucket: &str, application: &str| {
        let container = format!("container_{application}_01_000001");
        let own = format!("acme-logs/elasticmapreduce/{CLUSTER}");
        let top = if bucket == "acme-logs" { &own } else { "team-logs/emr/j-1OTHER2CLUSTER" };
        node.sh(&format!("echo hello | gzip | /opt/lab/s3 put - s3://{top}/containers/application_{application}/{container}/stderr.gz"));
        node.sh(&format!("curl -si http://localhost:9977/logs/{container}/stderr"))
    };
    let acme = asked("acme-logs", "1700000000000_0001");
    assert!(acme.contains("location: http://127.0.0.1:7070/acme-logs/"), "{acme}");
    let team = asked("team-logs", "1700100000000_0001");
    assert!(team.contains("location: http://127.0.0.1:7071/team-logs/"), "{team}");

    // A bucket of container logs that demands an encryption which nothing on this node names: the other stages are proved.
    set_log_key(&node, None);
    let strict_logs = |wanted: &str| demands(CONTAINER_LOGS, wanted);
    node.s3_refuses(&json!([strict_logs("^x-amz-server-side-encryption: aws:kms$")]));
    let ran = node.emr_shs(&["verify", "--json"]).expect(0);
    assert_eq!(results(&ran), ["pass", "skip", "pass", "pass", "pass", "pass"], "{}", ran.out());
    // EMR names the key.
    set_log_key(&node, Some(KEY));
    node.s3_refuses(&json!([strict_logs(&format!("^x-amz-server-side-encryption-aws-kms-key-id: {KEY}$"))]));
    let ran = words(&node.emr_shs(&["verify"]).expect(0));
    assert!(ran.contains("encrypted with the cluster's key for logs"), "{ran}");

    // Somebody gives Hadoop keys that may not write: jobs fail, and both commands say so.
    node.s3_refuses(&json!([]));
    node.sh(&format!("cp -p {CORE} /root/before.xml; sed -i 's|</configuration>|<property><name>{id}</name><value>reader</value></property><property><name>{secret}</name><value>readersecret</value></property>&|' {CORE}"));
    let doctor = words(&node.doctor_with_hadoop(&[]).expect(3));
    assert!(doctor.contains("as user hadoop, fails: AccessDeniedException"), "{doctor}");
    let verify = words(&node.emr_shs(&["verify"]).expect(3));
    assert!(verify.contains("and neither are jobs"), "{verify}");
    node.sh(&format!("cp -p /root/before.xml {CORE}"));

    // Somebody takes TLS away: nothing is to be installed for it, and the gateway follows the server once more.
    node.sh(&format!("sed -i '/^spark.ssl/d' {DEFAULTS}"));
    plan().expect(0);
    node.emr_shs(&["restart"]).expect(0);
    assert!(front().contains(LOGS), "{}", front());
    plan().expect(0);

    // A customer's key: what the server is to read is written with the key, as jobs write it.
    node.sh(&format!(
        r"sed -i -E 's#<name>{short}</name><value>[^<]*#<name>{short}</name><value>SSE-C#; s#<name>({long_key})</name><value>[^<]*#<name>\1</name><value>{CUSTOMER_KEY}#' {CORE}"
    ));
    node.s3_knows_customer_keys();
    node.emr_shs(&["restart"]).expect(0);
    node.spark_submit("customer");
    let ran = words(&node.emr_shs(&["verify"]).expect(0));
    assert!(ran.contains(&format!("written by Hadoop's own client as user hadoop, because emr-shs cannot do what Hadoop's settings say ({short})")), "{ran}");
    let doctor = node.doctor_with_hadoop(&[]).expect(0);
    assert!(words(&doctor).contains("allowed to Hadoop's own client"), "{}", doctor.out());
    node.emr_shs(&["uninstall"]).expect(0);
}

#[test]
#[ignore = "needs root and a node: scripts/test node"]
fn what_a_bucket_demands_of_emrfs_is_done() {
    let node = Node::fresh(Profile::Emr71);
    node.sh("/opt/lab/s3-fault on");
    let prefix = || node.emr_shs(&["prefix", "--event-logs", &format!("{LOGS}{}/", node.s3_requests())]);
    let algorithm = |wanted: &str| demands(EVENT_LOGS, &format!("^x-amz-server-side-encryption: {wanted}$"));
    let key = demands(EVENT_LOGS, &format!("^x-amz-server-side-encryption-aws-kms-key-id: {KEY}$"));
    let acl = demands(EVENT_LOGS, "^x-amz-acl: bucket-owner-full-control$");
    let pays = pays("^/acme-spark");
    let encrypts = ("fs.s3.enableServerSideEncryption", "True");
    let cases: &[(Properties<'_>, Value)] = &[
        (&[encrypts], json!([algorithm("AES256")])),
        (&[encrypts, ("fs.s3.serverSideEncryption.kms.keyId", KEY)], json!([algorithm("aws:kms"), key])),
        (&[("fs.s3.canned.acl", "BucketOwnerFullControl")], json!([acl])),
        (&[("fs.s3.useRequesterPaysHeader", "true")], json!([pays])),
    ];
    for (properties, rules) in cases {
        set(&node, properties);
        node.s3_refuses(rules);
        let ran = words(&prefix().expect(0));
        assert!(!ran.contains("Hadoop's own client"), "{properties:?}: {ran}");
    }
    // What emr-shs does not know of EMRFS, EMRFS itself is asked.
    node.s3_refuses(&json!([]));
    set(&node, &[("fs.s3.storageClass", "STANDARD_IA")]);
    let ran = words(&prefix().expect(0));
    assert!(
        ran.contains("does not know (fs.s3.storageClass)") && ran.contains("allowed to Hadoop's own client"),
        "{ran}"
    );
    // Nobody pays.
    set(&node, &[]);
    node.s3_refuses(&json!([pays]));
    let ran = words(&prefix().expect(3));
    assert!(ran.contains("answers only to those who pay"), "{ran}");
}

/// The key with which EMR encrypts this cluster's logs.
fn set_log_key(node: &Node, key: Option<&str>) {
    let settings: Value = serde_json::from_str(&node.sh("cat /etc/lab/standin.json")).unwrap();
    let mut cluster = settings["cluster"].clone();
    match key {
        Some(key) => cluster["LogEncryptionKmsKeyId"] = json!(key),
        None => drop(cluster.as_object_mut().unwrap().remove("LogEncryptionKmsKeyId")),
    }
    node.stand_in("cluster", cluster);
}
