//! What leaves a node in a bundle has lost its secrets and its names, and is still worth reading.

use emr_shs::testing::{Kind, Redactor, protobuf_shape, shape};
use proptest::prelude::*;
use serde_json::json;

fn text(input: &str) -> String {
    Redactor::default().text(input)
}

#[test]
fn secrets_of_many_kinds_go() {
    let rows = [
        ("login with password=hunter2-Xy failed", "hunter2"),
        ("password: hunter2 ", "hunter2"),
        (r#"{"user":"a","password":"hun ter2"}"#, "ter2"),
        (r#"{"client_secret": "hun\"ter2"}"#, "ter2"),
        ("<name>fs.s3a.secret.key</name><value>hunter2</value>", "hunter2"),
        ("Secret key: hunter2", "hunter2"),
        ("curl -u bob:hunter2 https://x", "hunter2"),
        ("curl https://x -u bob:hunter2", "hunter2"),
        ("emr-shs verify --login bob:hunter2", "hunter2"),
        ("mysql --password hunter2 -e x", "hunter2"),
        ("java -Dcom.acme.db.password=hunter2 -jar x.jar", "hunter2"),
        ("export DB_PASSWORD='hun ter2'", "ter2"),
        ("trustStorePassword = hunter2", "hunter2"),
        ("PASSWD=hunter2", "hunter2"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/2026, Signature=abcdef0123", "abcdef0123"),
        (r#""Authorization": "Bearer hunter2hunter2""#, "hunter2"),
        ("> Proxy-Authorization: Basic aHVudGVyMg==", "aHVudGVyMg"),
        ("Set-Cookie: session=hunter2; Path=/", "hunter2"),
        (
            "GET https://b.s3.eu-west-3.amazonaws.com/k?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE&X-Amz-Signature=0badc0ffee",
            "0badc0ffee",
        ),
        ("X-Amz-Signature=0badc0ffee&x=1", "0badc0ffee"),
        ("X-Amz-Security-Token=IQoJb3JpZ2luX2VjE", "IQoJb3"),
        ("key AKIAIOSFODNN7EXAMPLE is not active", "AKIAIOSFODNN7EXAMPLE"),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY and more 1", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXA1"),
        ("got je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY back", "je7MtGbClwBF"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N", "dozjgNryP4J3"),
        ("alice:$2y$10$abcdefghijklmnopqrstuuEXAMPLEabcdefghijklmnopqrstuv", "abcdefghijklmnopqrstuu"),
        ("jdbc:mysql://root:hunter2@db:3306/hive", "hunter2"),
        ("s3a://AKIAIOSFODNN7EXAMPLE:hun/ter2@acme/events", "ter2"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEhunter2\nhunter2==\n-----END RSA PRIVATE KEY-----\nok", "hunter2"),
        ("digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "9f86d081"),
        ("DefaultAWSCredentials(accessKey=x, secretKey=hunter2)", "hunter2"),
        ("api_key = hunter2", "hunter2"),
        ("the password is hunter2", "hunter2"),
        ("uses ghp_hunter2hunter2 for git", "hunter2"),
        ("https://x.blob.core.windows.net/c?sv=1&sig=hunter2%3D", "hunter2"),
        ("X-Api-Key: hunter2", "hunter2"),
        ("sasl.jaas.config=Plain required username=\"a\" password=\"hunter2\";", "hunter2"),
        ("{aws_secret_access_key=hunter2, aws_session_token=hunter2}", "hunter2"),
        ("secret token: hunter2", "hunter2"),
        ("password => \"hunter2\"", "hunter2"),
        ("[password]=hunter2", "hunter2"),
    ];
    for (line, secret) in rows {
        let shown = text(line);
        assert!(!shown.contains(secret), "{line}\n{shown}");
    }
}

#[test]
fn names_of_many_kinds_become_placeholders() {
    let rows = [
        ("reads s3://acme-spark/team-blue/events/", "acme-spark", "s3://bucket-1/name-1/events/"),
        (
            "s3n://acme-logs/elasticmapreduce/j-3H6EATEWWRWS/containers/",
            "j-3H6",
            "bucket-1/elasticmapreduce/cluster-1/containers/",
        ),
        ("Bucket acme-spark does not exist", "acme", "Bucket bucket-1 does not exist"),
        ("acme.logs.s3.eu-west-3.amazonaws.com:443", "acme", "bucket-1.s3.eu-west-3.amazonaws.com:443"),
        ("https://s3.eu-west-3.amazonaws.com/acme-x/k", "acme", "https://s3.eu-west-3.amazonaws.com/name-"),
        ("spark.hadoop.fs.s3a.bucket.acme.data.endpoint=x", "acme", "fs.s3a.bucket.bucket-1.endpoint"),
        ("arn:aws:iam::123456789012:role/blue", "blue", "arn-1"),
        ("arn:aws-cn:kms:cn-north-1:123456789012:key/abc is denied", "1234", "arn-1 is denied"),
        ("User: 123456789012 is not allowed", "123456789012", "account-1"),
        ("aws-logs-123456789012-eu-west-1", "123456789012", "aws-logs-account-1-eu-west-1"),
        ("connect to 10.20.30.40:8020", "10.20", "address-1:8020"),
        ("/10.20.30.40:51234 closed", "10.20", "/address-1:51234"),
        ("listens on [2001:db8::17]:9977", "2001:db8", "[address-1]:9977"),
        ("peer 2001:db8:0:1::a5: refused", "2001", "peer address-1: refused"),
        ("ip-172-31-59-96.ec2.internal:18080", "172-31", "host-1:18080"),
        ("ip-172-31-59-96 sshd[1]", "172-31", "host-1 sshd"),
        ("ec2-203-0-113-7.eu-west-3.compute.amazonaws.com", "203-0", "host-1"),
        ("proxy.corp.acme.com refuses", "acme", "host-1 refuses"),
        ("hdfs://nameservice7:8020/user/alice/x", "alice", "hdfs://host-1:8020/user/user-1/x"),
        ("ldap://dir.acme.example:389", "acme", "ldap://host-1:389"),
        ("instance i-08dea4f4abcd12345 in vpc-0a1b2c3d4e5f60718", "08dea", "instance instance-1 in id-1"),
        ("AWS-ElasticMapReduce-j-1PJ03JVIDQH3T", "1PJ03", "AWS-ElasticMapReduce-cluster-1"),
        ("ig-3IO8Y3HB7E9EE", "3IO8", "id-1"),
        ("mail alice.smith@acme.example now", "alice", "mail user-1 now"),
        ("principal spark/node7@CORP.ACME", "ACME", "user-1"),
        ("/home/alice/job.py", "alice", "/home/user-1/job.py"),
        ("user=alice, group=x", "alice", "user=user-1"),
        ("Permission denied: user=alice, access=WRITE", "alice", "user=user-1"),
        ("ugi=alice (auth:SIMPLE)", "alice", "ugi=user-1 (auth:SIMPLE)"),
        ("process 17 of user alice in session-3.scope", "alice", "of user user-1 in"),
        ("Changing view acls to: spark,alice", "alice", "acls to: spark,user-1"),
        ("users with view permissions: Set(spark, alice); groups", "alice", "Set(spark, user-1)"),
        ("Call From node7/10.0.0.9 to blue-name:8020 failed", "node7", "From host-1/address-1 to host-2:8020 failed"),
        ("Call From node7/10.0.0.9 to blue-name:8020 failed", "blue-name", "host-2:8020"),
        ("uid=alice,ou=whales,dc=acme,dc=com", "alice", "uid=user-1,ou=user-2"),
        ("certificate for CN=*.acme.com", "acme", "CN=*host-1"),
        ("10.1.2.3 GET /logs/blue/whale?q=1 200 redirect 1.2 ms", "whale", "address-1 GET /logs/name-1/name-2?*** 200"),
        ("user CORP\\alice is gone", "alice", "user user-1 is gone"),
        ("hostname: node7", "node7", "hostname: host-1"),
    ];
    for (line, name, wanted) in rows {
        let shown = text(line);
        assert!(!shown.contains(name), "{line}\n{shown}");
        assert!(shown.contains(wanted), "{line}\n{shown}\nwanted {wanted}");
    }
}

#[test]
fn what_helps_stays() {
    let rows = [
        "26/11/26 19:33:51 INFO FsHistoryProvider: Parsing application_1795352263709_0001 for listing data...",
        "java.lang.ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found",
        "\tat org.apache.spark.deploy.history.HistoryServer$.main(HistoryServer.scala:300)",
        "\tat com.amazonaws.auth.EC2ContainerCredentialsProviderWrapper.refresh(EC2ContainerCredentialsProviderWrapper.java:74)",
        "26/11/26 19:33:51 INFO SecurityManager: SecurityManager: authentication disabled; ui acls disabled",
        "/usr/lib/spark/jars/spark-core_2.12-3.5.6-amzn-0.jar",
        "/usr/share/aws/aws-java-sdk-v2/aws-sdk-java-bundle-2.35.5.jar",
        "ExecStart=/etc/init.d/spark-history-server start",
        "Bound HistoryServer to 0.0.0.0, and started at http://localhost:18080",
        "listens on 127.0.0.1:18080, [::1]:18080 and [::]:9977",
        "https://s3.eu-west-3.amazonaws.com/ and https://spark.apache.org/",
        "release emr-7.12.0, Spark 3.5.6-amzn-0, kernel 6.1.155-176.282.amzn2023.x86_64",
        "-XX:+ExitOnOutOfMemoryError -Xmx4096m",
        "systemd 252 (252.23-3.amzn2023)",
        "the user spark cannot write to /mnt/s3, the buffer directory of EMRFS",
        "the bucket is in region eu-west-3, and the server asks for it in us-east-1",
        "StatusCode: 403, Error Code: AccessDenied (Service: S3, Status Code: 403)",
        "Terminating due to java.lang.OutOfMemoryError: Java heap space",
        "eventlog_v2_application_1795352263709_0002_1/events_1_application_1795352263709_0002_1.zstd",
        "spark.history.fs.update.interval=30s, spark.history.ui.port=18080",
        "hadoop.security.authorization=true",
        "HistoryServer.scala:300 and line:12, status:403, port 18080:, at 2026-11-26 19:33:51,123",
        "GET /api/v1/applications/application_1795352263709_0001/1/allexecutors 200",
        "Caused by: java.lang.NoSuchMethodError: 'void org.apache.hadoop.util.SemaphoredDelegatingExecutor.<init>(int)'",
        "Started emr-shs-gateway.service - Executor logs of Spark applications, from S3 (emr-shs).",
        "journalctl -u spark-history-server -n 20; [ $(id -u) = 0 ]",
        "24 GiB of 80 GiB free; 50 applications x 75 MB, -> 3.7 GB",
        "1/1 (100%) 2026-11-26T19:33:51Z 12,345 bytes",
    ];
    for line in rows {
        assert_eq!(text(line), line);
    }
    // The provider of credentials is the answer to most questions about S3.
    let mut redactor = Redactor::default();
    let provider = "org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider";
    assert_eq!(redactor.value("fs.s3a.aws.credentials.provider", provider), provider);
}

#[test]
fn one_thing_has_one_name_in_all_texts() {
    let mut redactor = Redactor::default();
    redactor.know_name(Kind::Bucket, "acme-spark");
    redactor.know_name(Kind::User, "mallory");
    let first = redactor.text("s3://other/x/ and S3A://ACME-SPARK/x/, acme-spark is mine");
    assert_eq!(first, "s3://bucket-2/name-1/ and S3A://bucket-1/name-1/, bucket-1 is mine");
    assert_eq!(redactor.value("spark.eventLog.dir", "s3a://acme-spark/x/"), "s3a://bucket-1/name-1/");
    assert_eq!(redactor.key("fs.s3a.bucket.acme-spark.endpoint"), "fs.s3a.bucket.bucket-1.endpoint");
    // A text that went through already stays as it is.
    assert_eq!(redactor.text(&first), first);
    assert_eq!(redactor.text("mallory's file, immallory"), "user-1's file, immallory");
}

#[test]
fn a_value_of_a_setting_stays_only_if_its_shape_is_harmless() {
    let kept = [
        ("spark.master", "yarn"),
        ("spark.executor.memory", "4269M"),
        ("spark.history.fs.update.interval", "1h"),
        ("spark.dynamicAllocation.enabled", "true"),
        (
            "spark.sql.parquet.output.committer.class",
            "com.amazon.emr.committer.EmrOptimizedSparkSqlParquetOutputCommitter",
        ),
        ("spark.driver.extraLibraryPath", "/usr/lib/hadoop/lib/native:/usr/lib/hadoop-lzo/lib/native"),
        ("spark.history.store.path", "/mnt/emr-shs/store"),
        ("fs.s3.buffer.dir", "/mnt/s3,/mnt1/s3"),
        ("EMR_SHS_LISTEN", "[::]:9977"),
        ("EMR_SHS_MODE", "redirect"),
        ("release", "emr-7.12.0"),
        ("region", "eu-west-3"),
    ];
    let mut redactor = Redactor::default();
    for (key, value) in kept {
        assert_eq!(redactor.value(key, value), value, "{key}");
    }
    let gone = [
        ("spark.executorEnv.TEAM", "blue whales", "whales"),
        ("spark.app.name", "alice-report", "alice"),
        ("spark.ssl.historyServer.keyStorePassword", "changeit", "changeit"),
        ("fs.s3a.secret.key", "true-blue", "blue"),
        ("fs.s3a.access.key", "12345", "12345"),
        ("spark.authenticate.secret", "abc", "abc"),
        ("spark.executorEnv.GITHUB_TOKEN", "ghp_x", "ghp"),
        ("spark.history.ui.admin.acls", "alice,bob", "alice"),
        ("spark.driver.extraJavaOptions", "-Xmx1g -Ddb.password=hunter2 -Dteam=blue", "hunter2"),
        ("spark.driver.extraJavaOptions", "-Xmx1g -Ddb.password=hunter2 -Dteam=blue", "blue"),
        ("spark.files", "/home/alice/secret.txt", "alice"),
        ("spark.jars", "/opt/blue/whale.jar", "blue"),
        ("spark.yarn.historyServer.address", "node7.blue.corp:18080", "blue"),
        ("spark.hadoop.hive.metastore.uris", "thrift://hive.blue.corp:9083", "blue"),
        ("spark.x", "jdbc:mysql://hive.blue.corp/db?user=a&password=b", "blue"),
    ];
    for (key, value, part) in gone {
        let shown = redactor.value(key, value);
        assert!(!shown.contains(part), "{key} {value}\n{shown}");
    }
}

#[test]
fn the_shape_of_a_file_has_no_values() {
    let file = json!({
        "jobFlowId": "j-1PJ03JVIDQH3T", "isMaster": true, "n": 7, "none": null, "at": "s3://acme/x", "dir": "/mnt/x",
        "groups": { "CORE": [{ "type": "m5.xlarge" }], "ig-3IO8Y3HB7E9EE": "blue" }, "list": [1, 2, 3, 4, 5],
    });
    assert_eq!(
        shape(&file),
        json!({
            "jobFlowId": "text", "isMaster": "true or false", "n": "number", "none": "null", "at": "URI", "dir": "path",
            "groups": { "CORE": [{ "type": "text" }], "member 2": "text" },
            "list": ["number", "number", "number", "2 more"],
        })
    );
    let state = include_str!("../../lab/emr/job-flow-state.synthetic.txt");
    let shown = protobuf_shape(state);
    assert!(shown.contains("nodeProvisionCheckinRecord {") && shown.contains("status: SUCCESSFUL"), "{shown}");
    for part in ["j-0SYNTHETIC00", "1700000000000", "i-0000", "localhost"] {
        assert!(!shown.contains(part), "{part}: {shown}");
    }
}

proptest! {
    /// Whatever stands around a known secret, and however it is written.
    #[test]
    fn no_known_secret_survives(
        secret in "[!-~]{6,40}",
        before in "\\PC{0,30}",
        after in "\\PC{0,30}",
        other in "[a-z]{3,12}",
    ) {
        // Such a word is a part of every placeholder.
        prop_assume!(!["bucket", "address", "cluster", "instance", "account"].iter().any(|word| word.contains(&secret.to_lowercase())));
        let mut redactor = Redactor::default();
        redactor.know_secret(&secret);
        redactor.know_name(Kind::Bucket, &format!("{other}-bucket"));
        let escaped = serde_json::Value::from(secret.as_str()).to_string();
        let line = format!("{before}{secret}{after}\n{before} {escaped} s3://{other}-bucket/{secret}/{after}\n{secret}");
        let shown = redactor.text(&line);
        prop_assert!(!shown.contains(&secret), "{line}\n{shown}");
        let shown = redactor.value("some.setting", &secret);
        prop_assert!(!shown.contains(&secret), "{shown}");
        let shown = redactor.messages(&json!({ "found": line })).to_string();
        prop_assert!(!shown.contains(&secret), "{shown}");
    }

    /// No text makes the redactor fail, or lets a bucket or an account through.
    #[test]
    fn any_text_can_be_redacted(text in "(\\PC|\n){0,200}", account in "[1-9][0-9]{11}", bucket in "[a-z][a-z0-9]{9,20}z") {
        let line = format!("{text} {account} s3a://{bucket}/x {text}");
        let shown = Redactor::default().text(&line);
        prop_assert!(!shown.contains(&format!(" {account} ")) || text.contains(&account), "{shown}");
        prop_assert!(!shown.contains(&bucket), "{shown}");
    }
}
