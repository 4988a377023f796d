//! Lines of the history server's log that name a known trouble: what it is, and what helps
//! (facts §6.3).

use serde::Serialize;

/// A trouble that is known by what it prints.
struct Symptom {
    /// All of these stand in the line.
    needles: &'static [&'static str],
    cause: &'static str,
    fix: &'static str,
}

const fn symptom(needles: &'static [&'static str], cause: &'static str, fix: &'static str) -> Symptom {
    Symptom { needles, cause, fix }
}

const KNOWN: &[Symptom] = &[
    symptom(
        &["Log directory specified does not exist"],
        "its event log directory does not exist; on S3 that is a prefix without any object",
        "emr-shs prefix --event-logs URI makes it",
    ),
    symptom(
        &["No FileSystem for scheme"],
        "it has no file system for the event logs' scheme: core-site.xml is not on its class path, or does not name one",
        "see HADOOP_CONF_DIR in /etc/spark/conf/spark-env.sh, and emr-shs discover",
    ),
    symptom(
        &["NoSuchFieldError"],
        "two versions of one library meet on its class path",
        "emr-shs discover shows the AWS SDK jars; keep one version of each",
    ),
    symptom(
        &["NoSuchMethodError"],
        "two versions of one library meet on its class path",
        "emr-shs discover shows the AWS SDK jars; keep one version of each",
    ),
    symptom(
        &["NoSuchBucket"],
        "the bucket of its event logs does not exist",
        "check the bucket's name in spark.history.fs.logDirectory",
    ),
    symptom(
        &["The specified bucket does not exist"],
        "the bucket of its event logs does not exist",
        "check the bucket's name in spark.history.fs.logDirectory",
    ),
    symptom(
        &["ciphertext refers to a customer master key"],
        "the instance profile may not use the KMS key of the event logs",
        "allow kms:Decrypt and kms:GenerateDataKey on that key to the instance profile",
    ),
    symptom(
        &["ExpiredToken"],
        "S3 refused its credentials as expired; S3A of EMR 7.0 to 7.8 can keep them too long",
        "restart it, and use s3:// (EMRFS) on those releases",
    ),
    symptom(
        &["Access Denied"],
        "S3 denied it access",
        "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile",
    ),
    symptom(
        &["AccessDenied"],
        "S3 denied it access",
        "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile",
    ),
    symptom(
        &["status code: 403"],
        "S3 denied it access",
        "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile",
    ),
    symptom(
        &["PermanentRedirect"],
        "the bucket lies in another region than the one it asks",
        "name the bucket's region: --region, or spark.hadoop.fs.s3a.endpoint.region",
    ),
    symptom(
        &["301 Moved Permanently"],
        "the bucket lies in another region than the one it asks",
        "name the bucket's region: --region, or spark.hadoop.fs.s3a.endpoint.region",
    ),
    symptom(
        &["AuthorizationHeaderMalformed"],
        "the bucket lies in another region than the one it asks",
        "name the bucket's region: --region, or spark.hadoop.fs.s3a.endpoint.region",
    ),
    symptom(
        &["Cannot create temp dir"],
        "the directory EMRFS buffers in is not writable by the user spark",
        "see fs.s3.buffer.dir in core-site.xml: mkdir -p /mnt/s3; chown spark:spark /mnt/s3",
    ),
    symptom(
        &["OutOfMemoryError"],
        "its heap is too small; EMR's JVM options end it at once then",
        "set SPARK_DAEMON_MEMORY=4g or more in the spark-env/export classification",
    ),
    symptom(
        &["Too small initial heap"],
        "its heap setting is unusable",
        "see SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh",
    ),
    symptom(
        &["Could not reserve enough space"],
        "the machine has not the memory its heap setting asks for",
        "lower SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh",
    ),
    symptom(
        &["Permission denied: user=", "access="],
        "HDFS denies its user access to the event log directory",
        "hdfs dfs -chmod 1777 on that directory",
    ),
    symptom(
        &["Malformed \\uxxxx encoding"],
        "spark-defaults.conf has a backslash that Spark cannot read",
        "emr-shs plan names the line",
    ),
    symptom(&["Failed to bind", "BindException"], "its port is taken by another process", "ss -ltnp shows by which"),
    symptom(
        &["No space left on device"],
        "a file system is full",
        "df -h; its local store lies at spark.history.store.path",
    ),
];

/// A trouble found in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The line that gave it away.
    pub line: String,
    /// What is the matter.
    pub cause: String,
    /// What helps.
    pub fix: String,
    /// The class that is missing, if that is it.
    pub missing_class: Option<String>,
}

/// The first known trouble in a piece of log.
pub fn diagnose(log: &str) -> Option<Diagnosis> {
    log.lines().find_map(|line| {
        if let Some(class) = missing_class(line) {
            return Some(Diagnosis {
                line: line.trim().into(),
                cause: format!("it cannot load {class}"),
                fix: "no jar below /usr/lib, /usr/share/aws or /opt has it".into(),
                missing_class: Some(class),
            });
        }
        let known = KNOWN.iter().find(|s| s.needles.iter().all(|n| line.contains(n)))?;
        Some(Diagnosis {
            line: line.trim().into(),
            cause: known.cause.into(),
            fix: known.fix.into(),
            missing_class: None,
        })
    })
}

/// The last lines that speak of an error, at most three, without their stack traces.
pub fn last_words(log: &str) -> Vec<String> {
    let speaks = |line: &&str| {
        !line.starts_with(['\t', ' ']) && ["Exception", "Error", "ERROR"].iter().any(|w| line.contains(w))
    };
    let mut lines: Vec<String> =
        log.lines().rev().filter(speaks).take(3).map(|l| l.chars().take(200).collect()).collect();
    lines.reverse();
    lines
}

/// `ClassNotFoundException: Class a.b.C not found`, `NoClassDefFoundError: a/b/C`.
fn missing_class(line: &str) -> Option<String> {
    let after = ["ClassNotFoundException: ", "NoClassDefFoundError: "].iter().find_map(|n| line.split_once(n))?.1;
    let name = after.strip_prefix("Class ").unwrap_or(after);
    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '/' | '_' | '$')).collect();
    (name.contains(['.', '/'])).then(|| name.replace('/', "."))
}
