//! Which cause and fix `doctor` reads from a line of the history server's log, from names of event logs, and what a scan of
//! them costs.

use emr_shs::testing::{Attempt, Cause, Listing, diagnose, known_errors, requests, scanning, unreadable_event_logs};
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
    ] {
        let found = diagnose(line).unwrap_or_else(|| panic!("nothing is known of: {line}"));
        assert!(found.cause.to_string().contains(&cause), "{line}\n{found:?}");
        assert!(found.cause.fix().contains(fix), "{line}\n{found:?}");
    }
    for line in [
        "26/11/22 21:29:48 INFO HistoryServer: Started daemon with process name: 5193@ip-172-31-59-96",
        "26/11/22 21:29:49 WARN NativeCodeLoader: Unable to load native-hadoop library for your platform...",
        "26/11/22 21:29:50 WARN MetricsConfig: Cannot locate configuration: tried hadoop-metrics2-s3a-file-system.properties",
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
    assert_eq!((found[0].count, found[0].ago), (2, Duration::from_secs(35)));
    let found = unreadable_event_logs(log, Duration::from_secs(5));
    assert_eq!((found.count, found.ago), (2, Duration::from_secs(35)));
    assert_eq!(found.reason.unwrap(), "java.nio.file.AccessDeniedException: s3a://b/events/a: open");

    let silenced = "SLF4J: Failed to load class \"org.slf4j.impl.StaticLoggerBinder\".\n\
                    SLF4J: Defaulting to no-operation (NOP) logger implementation\n";
    let found = known_errors(silenced, Duration::from_secs(9999));
    assert_eq!(found[0].diagnosis.cause, Cause::Silenced);
    assert!(Cause::Silenced.to_string().contains("writes no log"));
    let shaded = format!("26/11/22 21:00:30 INFO HistoryServer: something\n{silenced}");
    assert_eq!(known_errors(&shaded, Duration::ZERO), []);
}

#[test]
fn event_log_names_give_application_and_attempt() {
    let named = |name: &str| Attempt::of_event_log(name).map(|log| (log.application, log.attempt));
    let app = "application_1795352263709_0001".to_string();
    for name in [
        "application_1795352263709_0001",
        "application_1795352263709_0001.zstd",
        "application_1795352263709_0001.lz4.inprogress",
        "application_1795352263709_0001.inprogress",
        "eventlog_v2_application_1795352263709_0001/",
    ] {
        assert_eq!(named(name), Some((app.clone(), None)), "{name}");
    }
    for name in [
        "application_1795352263709_0001_2",
        "application_1795352263709_0001_2.snappy",
        "eventlog_v2_application_1795352263709_0001_2/",
    ] {
        assert_eq!(named(name), Some((app.clone(), Some("2".into()))), "{name}");
    }
    assert_eq!(named("local-1795352263709"), Some(("local-1795352263709".into(), None)));
    for name in ["", ".emr-shs-probe-1-2", "_SUCCESS", "README", "application_1", "other/", "eventlog_v2_"] {
        assert_eq!(named(name), None, "{name}");
    }
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
