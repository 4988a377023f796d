//! Which cause and fix `doctor` reads from the history server's log, whatever the layout of the log, and what a scan of the
//! event logs costs.

use emr_shs::testing::{Cause, Listing, diagnose, known_errors, requests, scanning, unreadable_event_logs};
use std::time::Duration;

#[test]
fn each_known_log_line_gets_its_cause_and_fix() {
    let missing = |class: &str| format!("the class path lacks {class}");
    let two = "two versions of one library".to_string();
    let region = "another region".to_string();
    let denied = "S3 denies access".to_string();
    for (line, cause, fix) in [
        (
            "Caused by: java.lang.ClassNotFoundException: Class com.amazon.ws.emr.hadoop.fs.EmrFileSystem not found",
            missing("com.amazon.ws.emr.hadoop.fs.EmrFileSystem"),
            "sudo emr-shs install links",
        ),
        (
            "java.lang.RuntimeException: java.lang.ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found",
            missing("org.apache.hadoop.fs.s3a.S3AFileSystem"),
            "sudo emr-shs install links",
        ),
        (
            "java.lang.NoClassDefFoundError: com/amazonaws/AmazonClientException",
            missing("com.amazonaws.AmazonClientException"),
            "sudo emr-shs install links",
        ),
        (
            "Caused by: java.lang.NoClassDefFoundError: software/amazon/awssdk/core/exception/SdkException",
            missing("software.amazon.awssdk.core.exception.SdkException"),
            "sudo emr-shs install links",
        ),
        ("java.lang.NoSuchFieldError: SERVICE_ID", two.clone(), "keep one version"),
        (
            "java.lang.NoSuchMethodError: 'software.amazon.awssdk.services.s3.S3ClientBuilder x()'",
            two,
            "keep one version",
        ),
        (
            r#"org.apache.hadoop.fs.UnsupportedFileSystemException: No FileSystem for scheme "s3""#,
            "core-site.xml is not on the class path".into(),
            "HADOOP_CONF_DIR",
        ),
        (
            "java.io.FileNotFoundException: Log directory specified does not exist: s3://b/events/",
            "the event log directory does not exist".into(),
            "emr-shs prefix",
        ),
        (
            "com.amazonaws.services.s3.model.AmazonS3Exception: Access Denied (Service: Amazon S3; Status Code: 403; Error Code: 403 Forbidden)",
            denied.clone(),
            "allow s3:ListBucket",
        ),
        ("java.nio.file.AccessDeniedException: s3a://b/events: getFileStatus", denied.clone(), "allow s3:ListBucket"),
        ("(Service: S3, Status Code: 403, Request ID: X)", denied.clone(), "allow s3:ListBucket"),
        ("(Service: Amazon S3; Status code: 403)", denied, "allow s3:ListBucket"),
        (
            "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.",
            "the KMS key".into(),
            "kms:Decrypt",
        ),
        (
            "AmazonS3Exception: User: x is not authorized to perform: kms:Decrypt on resource: y (Status Code: 403; Error Code: AccessDenied)",
            "the KMS key".into(),
            "kms:Decrypt",
        ),
        ("java.lang.RuntimeException: Cannot create temp dirs: [/mnt/s3]", "EMRFS buffers".into(), "chown spark:spark"),
        ("WARN Cannot create temp dir with proper permission: /mnt/s3", "EMRFS buffers".into(), "fs.s3.buffer.dir"),
        ("Status Code: 301; Error Code: 301 Moved Permanently", region.clone(), "emr-shs install"),
        (
            "org.apache.hadoop.fs.s3a.AWSRedirectException: Received permanent redirect response to region [eu-central-1].",
            region.clone(),
            "emr-shs install",
        ),
        ("Error Code: PermanentRedirect", region.clone(), "emr-shs install"),
        (
            "AuthorizationHeaderMalformed: The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-3'",
            region,
            "emr-shs install",
        ),
        (
            "Terminating due to java.lang.OutOfMemoryError: Java heap space",
            "the heap is too small".into(),
            "SPARK_DAEMON_MEMORY=4g",
        ),
        (
            "Exception in thread \"log-replay-executor-3\" java.lang.OutOfMemoryError: Java heap space",
            "the heap is too small".into(),
            "numReplayThreads=1",
        ),
        (
            "Error occurred during initialization of VM: Too small initial heap",
            "does not accept the heap setting".into(),
            "SPARK_DAEMON_MEMORY",
        ),
        (
            "java.lang.IllegalArgumentException: Wrong FS: s3://b/events, expected: hdfs://ip-172-31-59-96:8020",
            "another".into(),
            "spark.eventLog.dir",
        ),
        ("java.io.IOException: No space left on device", "a file system is full".into(), "df -h"),
        (
            r#"AccessControlException: Permission denied: user=spark, access=READ_EXECUTE, inode="/var/log/spark/apps":hdfs:spark:drwx------"#,
            "HDFS denies".into(),
            "hdfs dfs -chmod 1777",
        ),
        ("The specified bucket does not exist (Service: S3; Error Code: NoSuchBucket)", "the bucket".into(), "check"),
        ("Error Code: ExpiredToken; The provided token has expired.", "expired".into(), "restart the history server"),
        ("Error Code: RequestTimeTooSkewed", "clock is wrong".into(), "chronyd"),
        (
            "java.net.BindException: Failed to bind to /0.0.0.0:18080: Service 'HistoryServerUI' failed after 16 retries",
            "uses the history server's port".into(),
            "ss -ltnp",
        ),
        (
            "NoAwsCredentialsException: +: Unable to load credentials from system settings",
            "no credentials".into(),
            "instance profile",
        ),
        (
            "SdkClientException: Unable to execute HTTP request: Connect to b.s3.amazonaws.com:443 timed out",
            "does not answer".into(),
            "VPC endpoint",
        ),
        (
            r"java.lang.IllegalArgumentException: Malformed \uxxxx encoding.",
            "an escape that Spark cannot read".into(),
            "correct that line; to see its number: sudo emr-shs plan",
        ),
        (
            "java.lang.UnsatisfiedLinkError: /tmp/librocksdbjni4862.so: /tmp/librocksdbjni4862.so: failed to map segment from shared object: Operation not permitted",
            "noexec".into(),
            "-Djava.io.tmpdir=/mnt/tmp",
        ),
        (
            "java.lang.NoClassDefFoundError: Could not initialize class org.xerial.snappy.Snappy",
            "native library".into(),
            "findmnt",
        ),
        (
            "java.lang.NullPointerException: null uri host. This can be caused by unencoded / in the password string",
            "no host in the URI".into(),
            "lower-case letters",
        ),
        (
            "javax.net.ssl.SSLPeerUnverifiedException: Certificate for <my.bucket.s3.eu-west-3.amazonaws.com> doesn't match any of the subject alternative names: [*.s3.eu-west-3.amazonaws.com]",
            "another name".into(),
            "path.style.access true",
        ),
        (
            "SdkClientException: Unable to execute HTTP request: PKIX path building failed: unable to find valid certification path to requested target",
            "does not trust the certificate".into(),
            "keytool -importcert",
        ),
        (
            "java.net.UnknownHostException: acme-spark.s3.eu-west-3.amazonaws.com: Name or service not known",
            "DNS".into(),
            "getent hosts",
        ),
        (
            "SdkClientException: Unable to execute HTTP request: b.s3.amazonaws.com: Temporary failure in name resolution",
            "DNS".into(),
            "resolv.conf",
        ),
        (
            "S3Exception: Please reduce your request rate. (Service: S3, Status Code: 503, Request ID: X)",
            "throttles".into(),
            "update.interval=300s",
        ),
        (
            "AmazonS3Exception: Slow Down (Service: Amazon S3; Status Code: 503; Error Code: 503 Slow Down)",
            "throttles".into(),
            "cost",
        ),
        (
            "ConnectionPoolTimeoutException: Timeout waiting for connection from pool",
            "free connection".into(),
            "connection.maximum",
        ),
        (
            "com.fasterxml.jackson.core.exc.StreamConstraintsException: String value length (20051112) exceeds the maximum allowed (20000000, from `StreamReadConstraints.getMaxStringLength()`)",
            "longer text".into(),
            "spark.sql.maxPlanStringLength",
        ),
        (
            "java.lang.IllegalArgumentException: Codec [gz] is not available. Consider setting spark.io.compression.codec=snappy",
            "takes the end of an object's name for a codec".into(),
            "aws s3 mv",
        ),
        (
            "org.apache.spark.SparkIllegalArgumentException: [CODEC_NOT_AVAILABLE.WITH_CONF_SUGGESTION] The codec gz is not available.",
            "codec".into(),
            "move it",
        ),
        (
            "java.lang.IllegalStateException: Disk usage tracker went negative (now = -1048576, delta = -2097152)",
            "lost count".into(),
            "sudo emr-shs restart",
        ),
        ("java.io.IOException: Too many open files", "limit of open files".into(), "LimitNOFILE=65536"),
        (
            "S3Exception: Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters (Service: S3, Status Code: 400)",
            "Object Lock".into(),
            "without a default retention",
        ),
        (
            "java.nio.file.AccessDeniedException: /mnt/spark-history/listing.rdb",
            "local file or directory".into(),
            "chown -R spark:spark",
        ),
        ("java.io.FileNotFoundException: /var/log/spark/gc.log (Permission denied)", "local file".into(), "ls -ld"),
        (
            "org.rocksdb.RocksDBException: While mkdir if missing: /mnt/spark-history/listing.rdb: Permission denied",
            "local file".into(),
            "chown",
        ),
        (
            "org.rocksdb.RocksDBException: While lock file: /mnt/spark-history/listing.rdb/LOCK: Resource temporarily unavailable",
            "opened the local store".into(),
            "pgrep -af",
        ),
        (
            "com.google.protobuf.InvalidProtocolBufferException: Protocol message contained an invalid tag (zero).",
            "another format".into(),
            "spark.history.store.path",
        ),
        (
            "java.lang.UnsupportedClassVersionError: org/apache/spark/launcher/Main has been compiled by a more recent version of the Java Runtime (class file version 61.0)",
            "older than a class".into(),
            "JAVA_HOME",
        ),
        (
            "java.lang.IllegalAccessError: class org.apache.spark.storage.StorageUtils$ cannot access class sun.nio.ch.DirectBuffer (in module java.base) because module java.base does not export sun.nio.ch to unnamed module",
            "newer than this Spark".into(),
            "older Java",
        ),
        (
            "Unrecognized VM option 'UseConcMarkSweepGC'",
            "does not accept one of its options".into(),
            "SPARK_DAEMON_JAVA_OPTS",
        ),
        (
            "OpenJDK 64-Bit Server VM warning: INFO: os::commit_memory failed; error='Cannot allocate memory' (errno=12)",
            "less memory".into(),
            "lower SPARK_DAEMON_MEMORY",
        ),
        (
            "Error: Could not find or load main class org.apache.spark.deploy.history.HistoryServer",
            "Spark's own jars".into(),
            "SPARK_HOME",
        ),
        (
            "java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory or process/resource limits reached",
            "no further thread".into(),
            "TasksMax",
        ),
        ("java.lang.OutOfMemoryError: Metaspace", "outside of the heap".into(), "MaxMetaspaceSize"),
        (
            "java.lang.OutOfMemoryError: GC overhead limit exceeded",
            "the heap is too small".into(),
            "SPARK_DAEMON_MEMORY",
        ),
        (
            "java.net.BindException: Cannot assign requested address: Service 'HistoryServerUI' failed after 16 retries",
            "an address that this node does not have".into(),
            "SPARK_LOCAL_IP",
        ),
        ("java.net.BindException: Address already in use", "uses the history server's port".into(), "ss -ltnp"),
        (
            "java.io.IOException: org.ietf.jgss.GSSException: No valid credentials provided (Mechanism level: Failed to find any Kerberos tgt)",
            "Kerberos".into(),
            "klist",
        ),
        (
            "AmazonS3Exception: The request signature we calculated does not match the signature you provided. (Error Code: SignatureDoesNotMatch)",
            "does not accept the access key".into(),
            "fs.s3a.secret.key",
        ),
        (
            "AccessDeniedException: s3a://b/events: getFileStatus: User: x is not authorized to perform: s3:ListBucket because no VPC endpoint policy allows the s3:ListBucket action",
            "the policy of the VPC endpoint".into(),
            "modify-vpc-endpoint",
        ),
        (
            "AWSBadRequestException: getFileStatus on s3a://b/events: software.amazon.awssdk.services.s3.model.S3Exception: null (Service: S3, Status Code: 400, Request ID: X)",
            "400 without a reason".into(),
            "sudo emr-shs install",
        ),
        (
            "java.nio.file.AccessDeniedException: acme-spark: org.apache.hadoop.fs.s3a.auth.NoAuthWithAWSException: no",
            "no credentials".into(),
            "instance profile",
        ),
        (
            "java.net.ConnectException: Call From ip-172-31-59-96/172.31.59.96 to ip-172-31-59-96:8020 failed on connection exception: java.net.ConnectException: Connection refused",
            "HDFS does not answer".into(),
            "namenode",
        ),
        ("java.io.IOException: Disk quota exceeded", "a file system is full".into(), "df -h"),
        (
            "java.nio.file.FileSystemException: /mnt/spark-history/listing.rdb/LOCK: Read-only file system",
            "read-only".into(),
            "findmnt",
        ),
        (
            "java.lang.NumberFormatException: Failed to parse time string: 60x",
            "cannot read a value".into(),
            "spark-defaults.conf",
        ),
        ("com.github.luben.zstd.ZstdIOException: Unknown frame descriptor", "damaged".into(), "move that object"),
    ] {
        let found = diagnose(line).unwrap_or_else(|| panic!("nothing is known of: {line}"));
        assert!(found.cause.to_string().contains(&cause), "{line}\n{found:?}");
        assert!(found.cause.fix().contains(fix), "{line}\n{found:?}");
    }
    for line in [
        "26/11/22 21:29:48 INFO HistoryServer: Started daemon with process name: 5193@ip-172-31-59-96",
        "26/11/22 21:29:49 WARN NativeCodeLoader: Unable to load native-hadoop library for your platform...",
        "26/11/22 21:29:50 WARN MetricsConfig: Cannot locate configuration: tried hadoop-metrics2-s3a-file-system.properties",
        "26/11/22 21:29:50 INFO FsHistoryProvider: Parsing s3://b/AccessDenied-tests for listing data",
        "INFO ExecutorLogUrlHandler: Fail to renew executor log urls: some of required attributes are missing",
        "\tat org.apache.hadoop.fs.s3a.S3AFileSystem.initialize(S3AFileSystem.java:688)",
    ] {
        assert_eq!(diagnose(line), None, "{line}");
    }
}

#[test]
fn a_diagnosis_says_how_often_and_how_long_ago() {
    let log = "26/11/22 20:59:50 ERROR FsHistoryProvider: Exception while merging application listings\n\
               java.nio.file.AccessDeniedException: s3a://b/events/a: open\n\
               \tat X\n\
               26/11/22 21:00:00 ERROR FsHistoryProvider: Exception while merging application listings\n\
               java.nio.file.AccessDeniedException: s3a://b/events/b: open\n\
               26/11/22 21:00:30 INFO HistoryServer: something\n";
    let found = known_errors(log, Duration::from_secs(5));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].count, found[0].ago), (2, Some(Duration::from_secs(35))));
    let found = unreadable_event_logs(log, Duration::from_secs(5));
    assert_eq!((found.count, found.ago), (2, Some(Duration::from_secs(35))));
    assert_eq!(found.reason.unwrap(), "java.nio.file.AccessDeniedException: s3a://b/events/a: open");

    let silenced = "SLF4J: Failed to load class \"org.slf4j.impl.StaticLoggerBinder\".\n\
                    SLF4J: Defaulting to no-operation (NOP) logger implementation\n";
    let found = known_errors(silenced, Duration::from_secs(9999));
    assert_eq!(found[0].diagnosis.cause, Cause::Silenced);
    assert!(Cause::Silenced.to_string().contains("writes no log"));
    let shaded = format!("26/11/22 21:00:30 INFO HistoryServer: something\n{silenced}");
    assert_eq!(known_errors(&shaded, Duration::ZERO), []);
}

/// A server's log in one layout: an old error, then 100 s later something else.
fn log_in(head: impl Fn(&str, &str, u32) -> String) -> String {
    let error = "FsHistoryProvider: Exception while merging application listings";
    format!(
        "{}\njava.nio.file.AccessDeniedException: s3a://b/events/a: open\n\tat a.B.c(B.java:1)\n{}\n",
        head("ERROR", error, 10),
        head("INFO", "HistoryServer: something", 110)
    )
}

#[test]
fn the_time_of_an_error_is_read_in_the_usual_layouts() {
    let clock = |s: u32| format!("{:02}:{:02}:{:02}", 20 + s / 3600, s / 60 % 60, s % 60);
    type Layout<'a> = &'a dyn Fn(&str, &str, u32) -> String;
    let layouts: [(&str, Layout<'_>); 17] = [
        ("Spark's own", &|level, text, s| format!("26/11/22 {} {level} {text}", clock(s))),
        ("ISO 8601", &|level, text, s| format!("2026-11-22T{},123 {level} [main] {text}", clock(s))),
        ("ISO 8601 with a zone", &|level, text, s| format!("2026-11-22T{}.123+01:00 {level} {text}", clock(s))),
        ("Log4j's default", &|level, text, s| format!("2026-11-22 {},123 [main] {level:5} {text}", clock(s))),
        ("in brackets", &|level, text, s| format!("[2026-11-22 {}.123] [{level}] {text}", clock(s))),
        ("level first", &|level, text, s| format!("{level:5} 2026-11-22 {},123 {text}", clock(s))),
        ("level first, to the right", &|level, text, s| format!("{level:>5} [2026-11-22 {}] {text}", clock(s))),
        ("basic ISO 8601", &|level, text, s| format!("20261122T{},123 {level} {text}", clock(s).replace(':', ""))),
        ("compact", &|level, text, s| format!("20261122{}123 {level} {text}", clock(s).replace(':', ""))),
        ("month's name", &|level, text, s| format!("22 Nov 2026 {},123 {level} {text}", clock(s))),
        ("as web servers", &|level, text, s| format!("[22/Nov/2026:{} +0000] {level} {text}", clock(s))),
        ("German", &|level, text, s| format!("22.11.2026 {} {level} {text}", clock(s))),
        ("American", &|level, text, s| format!("11/22/2026 {} {level} {text}", clock(s))),
        ("milliseconds", &|level, text, s| format!("{} {level} {text}", 1_795_379_815_000 + u64::from(s) * 1000)),
        ("time of day", &|level, text, s| format!("{},123 {level} {text}", clock(s))),
        ("java.util.logging", &|level, text, s| {
            let level = if level == "ERROR" { "SEVERE" } else { level };
            format!("Nov 22, 2026 8:{:02}:{:02} PM org.apache.A b\n{level}: {text}", s / 60, s % 60)
        }),
        ("logfmt", &|level, text, s| format!("time=\"2026-11-22T{}Z\" level={level} msg=\"{text}\"", clock(s))),
    ];
    for (name, layout) in layouts {
        let log = log_in(layout);
        let found = known_errors(&log, Duration::from_secs(5));
        assert_eq!(found.len(), 1, "{name}: {found:?}\n{log}");
        assert_eq!(found[0].diagnosis.cause, Cause::AccessDenied, "{name}");
        assert_eq!((found[0].count, found[0].ago), (1, Some(Duration::from_secs(105))), "{name}\n{log}");
        let found = unreadable_event_logs(&log, Duration::from_secs(5));
        assert_eq!((found.count, found.ago), (1, Some(Duration::from_secs(105))), "{name}");
        assert_eq!(found.reason.unwrap(), "java.nio.file.AccessDeniedException: s3a://b/events/a: open", "{name}");
    }
}

#[test]
fn lines_of_json_are_read_with_their_exceptions() {
    let denied = r#""msg":"Exception while merging application listings""#;
    for (name, error, later) in [
        (
            "Spark's",
            format!(
                r#"{{"ts":"2026-11-22T20:36:55.000Z","level":"ERROR",{denied},"exception":{{"class":"java.nio.file.AccessDeniedException","msg":"s3a://b/events/a: open","stacktrace":[{{"class":"a.B","method":"c","file":"B.java","line":"1"}}]}},"logger":"FsHistoryProvider"}}"#
            ),
            r#"{"ts":"2026-11-22T20:38:35.000Z","level":"INFO","msg":"something","logger":"HistoryServer"}"#,
        ),
        (
            "Log4j's",
            r#"{"instant":{"epochSecond":1795379815,"nanoOfSecond":1},"level":"ERROR","message":"Exception while merging application listings","thrown":{"message":"s3a://b/events/a: open","name":"java.nio.file.AccessDeniedException","extendedStackTrace":[]}}"#.into(),
            r#"{"instant":{"epochSecond":1795379915,"nanoOfSecond":1},"level":"INFO","message":"something"}"#,
        ),
        (
            "Elastic's",
            r#"{"@timestamp":"2026-11-22T20:36:55.123Z","log.level":"ERROR","message":"Exception while merging application listings","error.type":"java.nio.file.AccessDeniedException","error.message":"s3a://b/events/a: open"}"#.into(),
            r#"{"@timestamp":"2026-11-22T20:38:35.123Z","log.level":"INFO","message":"something"}"#,
        ),
        (
            "Logstash's",
            r#"{"@timestamp":"2026-11-22T20:36:55.123+01:00","level":"ERROR","message":"Exception while merging application listings","stack_trace":"java.nio.file.AccessDeniedException: s3a://b/events/a: open\n\tat a.B.c(B.java:1)\n"}"#.into(),
            r#"{"@timestamp":"2026-11-22T20:38:35.123+01:00","level":"INFO","message":"something"}"#,
        ),
        (
            "GELF",
            r#"{"version":"1.1","timestamp":1795379815.123,"level":3,"short_message":"Exception while merging application listings","full_message":"java.nio.file.AccessDeniedException: s3a://b/events/a: open"}"#.into(),
            r#"{"version":"1.1","timestamp":1795379915.123,"level":6,"short_message":"something"}"#,
        ),
    ] {
        let log = format!("{error}\n{later}\n");
        let found = known_errors(&log, Duration::ZERO);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!((&found[0].diagnosis.cause, found[0].count), (&Cause::AccessDenied, 1), "{name}");
        assert_eq!(found[0].ago, Some(Duration::from_secs(100)), "{name}");
        let found = unreadable_event_logs(&log, Duration::ZERO);
        assert_eq!(found.reason.as_deref(), Some("java.nio.file.AccessDeniedException: s3a://b/events/a: open"), "{name}");
    }
}

#[test]
fn an_error_that_nobody_has_listed_is_counted_and_quoted() {
    let one = "26/11/22 20:59:50 ERROR FsHistoryProvider: Exception while merging application listings\n               java.lang.IllegalStateException: the moon is full\n               \tat a.B.c(B.java:1)\n\
               Caused by: java.lang.RuntimeException: so it is\n";
    let found = known_errors(&one.repeat(3000), Duration::from_secs(5));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0].diagnosis.cause, found[0].count), (&Cause::Unknown, 3000));
    assert_eq!(found[0].diagnosis.line, "java.lang.IllegalStateException: the moon is full");
    assert_eq!(found[0].ago, Some(Duration::from_secs(5)));
    // A known cause is named all the same.
    let both = format!("{one}26/11/22 21:00:00 ERROR X: failed\njava.io.IOException: Too many open files\n");
    let causes: Vec<Cause> = known_errors(&both, Duration::ZERO).into_iter().map(|e| e.diagnosis.cause).collect();
    assert_eq!(causes, [Cause::Unknown, Cause::TooManyFiles]);
    // Neither a warning nor an orderly stop is an error.
    let healthy = "26/11/22 20:59:50 WARN HttpChannel: /history/x\njava.lang.IllegalStateException: gone\n                   26/11/22 20:59:51 ERROR HistoryServer: RECEIVED SIGNAL TERM\n";
    assert_eq!(known_errors(healthy, Duration::ZERO), []);
}

#[test]
fn an_error_of_unknown_time_is_not_a_new_one() {
    // `%m%n`: neither times nor levels.
    let log = "Exception while merging application listings\njava.nio.file.AccessDeniedException: s3a://b/a: open\n\tat a.B\nsomething\n";
    let found = known_errors(log, Duration::from_secs(5));
    assert_eq!((found.len(), found[0].ago), (1, None), "{found:?}");
    assert_eq!(found[0].diagnosis.cause, Cause::AccessDenied);
    // A level alone shows that the server writes its log.
    let nop = "SLF4J: Defaulting to no-operation (NOP) logger implementation";
    assert_eq!(known_errors(&format!("{nop}\nINFO HistoryServer: something\n"), Duration::ZERO), []);
    assert_eq!(
        known_errors(&format!("{nop}\n2026-11-22T20:36:55,123 INFO [main] HistoryServer: x\n"), Duration::ZERO),
        []
    );
    // The JVM's warnings do not.
    let jvm = format!("WARNING: Using incubator modules: jdk.incubator.vector\n{nop}\n");
    assert_eq!(known_errors(&jvm, Duration::ZERO)[0].diagnosis.cause, Cause::Silenced);
}

#[test]
fn the_thread_that_died_names_the_cause_of_a_death() {
    let log = "26/11/22 20:59:50 WARN X: Cannot create temp dir with proper permission: /mnt/s3\n               26/11/22 20:59:51 INFO HistoryServer: x\n               Exception in thread \"main\" java.lang.reflect.InvocationTargetException\n               \tat a.B.c(B.java:1)\n\
               Caused by: java.nio.file.AccessDeniedException: /mnt/spark-history/listing.rdb\n";
    assert_eq!(diagnose(log).unwrap().cause, Cause::LocalDenied);
}

#[test]
fn scanning_rolling_logs_costs_two_requests_each() {
    let listing = |directories: usize| Listing {
        objects: Vec::new(),
        directories: (0..directories).map(|n| format!("eventlog_v2_application_1_{n:04}/")).collect(),
        complete: true,
    };
    assert_eq!([0, 1, 999, 1001].map(|n| requests(&listing(n))), [1, 3, 1999, 2004]);
    // One LIST a minute costs 0.22 dollars a month. Scanning 2,000 rolling logs without a pause costs over 400.
    assert!((scanning(1, 60.0).0 - 0.216).abs() < 0.001);
    let (dollars, takes) = scanning(requests(&listing(2000)), 60.0);
    assert!(dollars > 400.0 && takes > 60.0, "{dollars} {takes}");
}
