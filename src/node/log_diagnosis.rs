//! Lines of the history server's log that name a known trouble: what it is, and what helps
//! (facts §6.3).

use serde::Serialize;
use std::time::Duration;

/// A trouble that is known by what it prints.
struct Symptom {
    /// All of these stand in the line.
    needles: &'static [&'static str],
    cause: &'static str,
    fix: &'static str,
    /// The checks of `doctor` that look at that cause itself.
    checks: &'static [&'static str],
}

const fn symptom(
    needles: &'static [&'static str],
    cause: &'static str,
    fix: &'static str,
    checks: &'static [&'static str],
) -> Symptom {
    Symptom { needles, cause, fix, checks }
}

const DENIED: &[&str] = &["credentials", "clock", "list", "kms", "get"];
const CLASSES: &[&str] = &["drift", "class path"];

/// The first that fits counts, so what says more comes first.
#[rustfmt::skip]
const KNOWN: &[Symptom] = &[
    symptom(&["Log directory specified does not exist"],
        "its event log directory does not exist; on S3 that is a prefix without any object",
        "sudo emr-shs prefix --event-logs URI makes it", &["bucket", "prefix"]),
    symptom(&["Log directory specified is not a directory"],
        "its event log directory is a file, or an object",
        "name another directory: sudo emr-shs install --event-logs URI", &["prefix"]),
    symptom(&["No FileSystem for scheme"],
        "it has no file system for the event logs' scheme: core-site.xml is not on its class path, or does not name one",
        "see HADOOP_CONF_DIR in /etc/spark/conf/spark-env.sh, and emr-shs discover", CLASSES),
    symptom(&["NoSuchFieldError"],
        "two versions of one library meet on its class path",
        "emr-shs discover shows the AWS SDK jars; keep one version of each", CLASSES),
    symptom(&["NoSuchMethodError"],
        "two versions of one library meet on its class path",
        "emr-shs discover shows the AWS SDK jars; keep one version of each", CLASSES),
    symptom(&["NoSuchBucket"],
        "the bucket of its event logs does not exist",
        "check the bucket's name in spark.history.fs.logDirectory", &["bucket"]),
    symptom(&["The specified bucket does not exist"],
        "the bucket of its event logs does not exist",
        "check the bucket's name in spark.history.fs.logDirectory", &["bucket"]),
    symptom(&["ciphertext refers to a customer master key"],
        "the instance profile may not use the KMS key of the event logs",
        "allow kms:Decrypt and kms:GenerateDataKey on that key to the instance profile", &["kms"]),
    symptom(&["is not authorized to perform: kms:"],
        "the instance profile may not use the KMS key of the event logs",
        "allow kms:Decrypt and kms:GenerateDataKey on that key to the instance profile", &["kms"]),
    symptom(&["RequestTimeTooSkewed"],
        "S3 refused its signatures, because this node's clock is wrong",
        "timedatectl status; systemctl restart chronyd", &["clock"]),
    symptom(&["ExpiredToken"],
        "S3 refused its credentials as expired; S3A of EMR 7.0 to 7.8 can keep them too long",
        "restart it, and use s3:// (EMRFS) on those releases", &["credentials"]),
    symptom(&["PermanentRedirect"],
        "the bucket lies in another region than the one it asks",
        "sudo emr-shs install names the bucket's region to it", &["drift", "bucket", "list"]),
    symptom(&["permanent redirect response to region"],
        "the bucket lies in another region than the one it asks",
        "sudo emr-shs install names the bucket's region to it", &["drift", "bucket", "list"]),
    symptom(&["301 Moved Permanently"],
        "the bucket lies in another region than the one it asks",
        "sudo emr-shs install names the bucket's region to it", &["drift", "bucket", "list"]),
    symptom(&["AuthorizationHeaderMalformed"],
        "the bucket lies in another region than the one it asks",
        "sudo emr-shs install names the bucket's region to it", &["drift", "bucket", "list"]),
    symptom(&["Access Denied"],
        "S3 denied it access",
        "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile", DENIED),
    symptom(&["AccessDenied"],
        "S3 denied it access",
        "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile", DENIED),
    symptom(&["tatus code: 403"],
        "S3 denied it access",
        "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile", DENIED),
    symptom(&["tatus Code: 403"],
        "S3 denied it access",
        "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile", DENIED),
    symptom(&["Unable to load credentials"],
        "it found no credentials for S3",
        "give the cluster an instance profile, and see whether the metadata service answers", &["credentials"]),
    symptom(&["No AWS Credentials provided"],
        "it found no credentials for S3",
        "give the cluster an instance profile, and see whether the metadata service answers", &["credentials"]),
    symptom(&["Unable to execute HTTP request"],
        "S3 does not answer it",
        "the way out is a NAT or an S3 VPC endpoint; see what `aws s3 ls` says on this node", &["credentials", "bucket"]),
    symptom(&["Cannot create temp dir"],
        "the directory EMRFS buffers in is not writable by the user spark",
        "see fs.s3.buffer.dir in core-site.xml: mkdir -p /mnt/s3; chown spark:spark /mnt/s3", &["buffer"]),
    symptom(&["OutOfMemoryError"],
        "its heap is too small; EMR's JVM options end it at once then",
        "set SPARK_DAEMON_MEMORY=4g or more in the spark-env/export classification", &["heap"]),
    symptom(&["Too small initial heap"],
        "its heap setting is unusable",
        "see SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh", &["heap"]),
    symptom(&["Initial heap size set to a larger value than the maximum heap size"],
        "its heap setting is unusable",
        "see SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh", &["heap"]),
    symptom(&["Could not reserve enough space"],
        "the machine has not the memory its heap setting asks for",
        "lower SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh", &["heap"]),
    symptom(&["Cannot allocate memory"],
        "the machine has not the memory its heap setting asks for",
        "lower SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh", &["heap"]),
    symptom(&["Permission denied: user=", "access="],
        "HDFS denies its user access to the event log directory",
        "hdfs dfs -chmod 1777 on that directory", &[]),
    symptom(&["Wrong FS: "],
        "a path of one file system was given to another: jobs, or EMR's own uploader, use HDFS where the event logs are in S3",
        "see that spark.eventLog.dir and spark.history.fs.logDirectory name one place", &["drift", "defaults"]),
    symptom(&["Malformed \\uxxxx encoding"],
        "spark-defaults.conf has a backslash that Spark cannot read",
        "emr-shs plan names the line", &["defaults"]),
    symptom(&["Failed to bind", "BindException"],
        "its port is taken by another process",
        "ss -ltnp shows by which", &["port"]),
    symptom(&["No space left on device"],
        "a file system is full",
        "df -h; its local store lies at spark.history.store.path", &["disk"]),
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
    /// The checks of `doctor` that look at that cause itself.
    #[serde(skip)]
    pub checks: &'static [&'static str],
}

/// The first known trouble in a piece of log.
pub fn diagnose(log: &str) -> Option<Diagnosis> {
    log.lines().find_map(diagnose_line)
}

fn diagnose_line(line: &str) -> Option<Diagnosis> {
    if let Some(class) = missing_class(line) {
        return Some(Diagnosis {
            line: line.trim().into(),
            cause: format!("it cannot load {class}"),
            fix: "sudo emr-shs install links what its event logs need; emr-shs discover shows which jars there are"
                .into(),
            missing_class: Some(class),
            checks: CLASSES,
        });
    }
    let known = KNOWN.iter().find(|s| s.needles.iter().all(|n| line.contains(n)))?;
    Some(Diagnosis {
        line: line.trim().into(),
        cause: known.cause.into(),
        fix: known.fix.into(),
        missing_class: None,
        checks: known.checks,
    })
}

/// What Spark logs for an event log it cannot read; it goes on all the same (facts §11).
pub const UNREADABLE: &str = "Exception while merging application listings";

/// A known trouble, as often as a log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The first line of its kind.
    pub diagnosis: Diagnosis,
    /// How many lines.
    pub count: usize,
    /// How long ago the last of them was written.
    pub ago: Duration,
}

/// What is wrong with a server that [`silenced`] knows.
pub const SILENCED: &str = "it writes no log: another jar's SLF4J comes before Spark's on its class path";

/// A server without a log: the bundle of the AWS SDK v2 brings an SLF4J that knows nothing of
/// Spark's Log4j. The same words in a log that goes on are of the bundle's own, shaded copy.
fn silenced(log: &str) -> Option<Diagnosis> {
    let line = log.lines().find(|line| line.contains("Defaulting to no-operation (NOP) logger implementation"))?;
    Some(Diagnosis {
        line: line.into(),
        cause: SILENCED.into(),
        fix: "sudo emr-shs install puts Spark's own jars first".into(),
        missing_class: None,
        checks: &[],
    })
}

/// Every known trouble in a log that was written to last so long ago. Its own times tell the rest:
/// they are the node's, in whatever time zone.
pub fn sightings(log: &str, written: Duration) -> Vec<Sighting> {
    let mut found: Vec<(Diagnosis, usize, u64)> = Vec::new();
    let mut now = 0;
    for line in log.lines() {
        now = seconds(line).unwrap_or(now);
        let Some(diagnosis) = diagnose_line(line) else { continue };
        match found.iter_mut().find(|(known, ..)| known.cause == diagnosis.cause) {
            Some((_, count, last)) => (*count, *last) = (*count + 1, now),
            None => found.push((diagnosis, 1, now)),
        }
    }
    if now == 0
        && let Some(diagnosis) = silenced(log)
    {
        found.insert(0, (diagnosis, 1, now));
    }
    let ago = |last: u64| match now {
        // A log without any time was written by a server that is silenced, or that did not get far.
        0 => Duration::ZERO,
        now => written + Duration::from_secs(now.saturating_sub(last)),
    };
    found.into_iter().map(|(diagnosis, count, last)| Sighting { diagnosis, count, ago: ago(last) }).collect()
}

/// The seconds of a line that begins with `26/11/22 20:36:55`, since some day long ago.
fn seconds(line: &str) -> Option<u64> {
    let (date, rest) = line.split_once(' ')?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.len() == 2);
    let mut date = date.split('/').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = rest.get(..8)?.split(':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Two lines of one log are seldom months apart: months of 31 days do.
    Some((((year * 12 + month) * 31 + day) * 24 + hour) * 3600 + minute * 60 + second)
}

/// The event logs that a log says could not be read. It was written to last so long ago.
pub fn unreadable(log: &str, written: Duration) -> Unreadable {
    let mut lines = log.lines().filter(|line| !line.trim().is_empty());
    let (mut count, mut now, mut last) = (0, 0, 0);
    let mut reason = None;
    while let Some(line) = lines.next() {
        now = seconds(line).unwrap_or(now);
        if !line.contains(UNREADABLE) {
            continue;
        }
        (count, last) = (count + 1, now);
        if reason.is_none() {
            // The exception's own line comes next.
            reason = lines.clone().next().map(|why| why.trim().chars().take(200).collect());
        }
    }
    Unreadable { count, reason, ago: written + Duration::from_secs(now.saturating_sub(last)) }
}

/// Event logs that the server could not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How often its log says so.
    pub count: usize,
    /// Why, the first time.
    pub reason: Option<String>,
    /// How long ago the last time was.
    pub ago: Duration,
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
