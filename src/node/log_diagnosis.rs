//! Known errors in the history server's log: the text that identifies each error, its cause, and its fix
//! (`docs/emr.md §6.4`).
//!
//! To support a new log line: add its text to `KNOWN`. If its cause is new, add the cause to [`Cause`] with
//! its text and its fix, and name the doctor checks that explain the cause in `doctor/causes.rs`.

use std::fmt;
use std::time::Duration;

/// What a line in the log means. As text it is a clause: "S3 denies access".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This class is not on the class path.
    MissingClass(String),
    NoDirectory,
    DirectoryIsFile,
    NoFileSystem,
    TwoVersions,
    NoBucket,
    KeyDenied,
    WrongClock,
    ExpiredCredentials,
    WrongRegion,
    AccessDenied,
    NoCredentials,
    NoAnswer,
    BufferNotWritable,
    OutOfMemory,
    InvalidHeap,
    HeapTooLarge,
    HdfsDenied,
    WrongFileSystem,
    InvalidDefaults,
    PortTaken,
    DiskFull,
    /// The server writes no log at all.
    Silenced,
}

impl Cause {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::MissingClass(_) => {
                "sudo emr-shs install links the jars that the event logs need; to list the jars of this node: sudo emr-shs discover"
            }
            Self::NoDirectory => "create it: sudo emr-shs prefix --event-logs s3://BUCKET/PREFIX/",
            Self::DirectoryIsFile => "name another directory: sudo emr-shs install --event-logs s3://BUCKET/PREFIX/",
            Self::NoFileSystem => {
                "check that HADOOP_CONF_DIR in /etc/spark/conf/spark-env.sh names a directory with a core-site.xml; to list what this node serves: sudo emr-shs discover"
            }
            Self::TwoVersions => "keep one version of each AWS SDK; to list their jars: sudo emr-shs discover",
            Self::NoBucket => {
                "check the bucket's name in spark.history.fs.logDirectory; to name another one: sudo emr-shs install --event-logs s3://BUCKET/PREFIX/"
            }
            Self::KeyDenied => {
                "allow kms:Decrypt and kms:GenerateDataKey on that key to the instance profile; to print the policy: sudo emr-shs render iam-policy --kms-key ARN"
            }
            Self::WrongClock => "timedatectl status; sudo systemctl restart chronyd",
            Self::ExpiredCredentials => "restart the history server; on EMR 7.0 to 7.8 use s3:// (EMRFS)",
            Self::WrongRegion => "set the bucket's region: sudo emr-shs install",
            Self::AccessDenied => {
                "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile; to print the policy: sudo emr-shs render iam-policy"
            }
            Self::NoCredentials => "give the cluster an instance profile, and check that the metadata service answers",
            Self::NoAnswer => {
                "S3 is reached through a NAT gateway or an S3 VPC endpoint; test it on this node: aws s3 ls"
            }
            Self::BufferNotWritable => {
                "make the directory in fs.s3.buffer.dir (core-site.xml) writable: sudo mkdir -p /mnt/s3; sudo chown spark:spark /mnt/s3"
            }
            Self::OutOfMemory => {
                "set SPARK_DAEMON_MEMORY=4g or more in /etc/spark/conf/spark-env.sh; for new clusters, set it in the spark-env/export classification; or read with one thread: sudo emr-shs install --set spark.history.fs.numReplayThreads=1"
            }
            Self::InvalidHeap => "correct SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh",
            Self::HeapTooLarge => "lower SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh",
            Self::HdfsDenied => {
                "let every user write there, with the directory that the log names: hdfs dfs -chmod 1777 DIRECTORY"
            }
            Self::WrongFileSystem => {
                "let spark.eventLog.dir and spark.history.fs.logDirectory name one directory: sudo emr-shs install --event-logs s3://BUCKET/PREFIX/"
            }
            Self::InvalidDefaults => "correct that line; to see its number: sudo emr-shs plan",
            Self::PortTaken => "find that process: sudo ss -ltnp",
            Self::DiskFull => "find the full file system: df -h; the local store is at spark.history.store.path",
            Self::Silenced => "put Spark's own jars first: sudo emr-shs install",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingClass(class) => return write!(f, "the class path lacks {class}"),
            Self::NoDirectory => {
                "the event log directory does not exist; S3 has no directories, so at least one object must have the prefix"
            }
            Self::DirectoryIsFile => "the event log directory is a file or an object",
            Self::NoFileSystem => {
                "no file system serves the scheme of the event logs: core-site.xml is not on the class path, or does not name one"
            }
            Self::TwoVersions => "the class path contains two versions of one library",
            Self::NoBucket => "the bucket of the event logs does not exist",
            Self::KeyDenied => "the instance profile has no access to the KMS key of the event logs",
            Self::WrongClock => "S3 refuses the signatures, because this node's clock is wrong",
            Self::ExpiredCredentials => {
                "S3 refuses the credentials as expired; S3A of EMR 7.0 to 7.8 can keep credentials for too long"
            }
            Self::WrongRegion => "the bucket is in another region than the one the history server asks",
            Self::AccessDenied => "S3 denies access",
            Self::NoCredentials => "the history server finds no credentials for S3",
            Self::NoAnswer => "S3 does not answer the history server",
            Self::BufferNotWritable => "the user spark cannot write to the directory in which EMRFS buffers",
            Self::OutOfMemory => "the heap is too small, and EMR's JVM options end the server when it is full",
            Self::InvalidHeap => "the JVM does not accept the heap setting",
            Self::HeapTooLarge => "this machine has less memory than the heap setting asks for",
            Self::HdfsDenied => "HDFS denies the history server's user access to the event log directory",
            Self::WrongFileSystem => {
                "a path of one file system reached another: jobs, or EMR's own uploader, use HDFS while the event logs are in S3"
            }
            Self::InvalidDefaults => "spark-defaults.conf contains an escape that Spark cannot read",
            Self::PortTaken => "another process uses the history server's port",
            Self::DiskFull => "a file system is full",
            Self::Silenced => "the history server writes no log: another jar's SLF4J precedes Spark's on its class path",
        })
    }
}

/// A line that contains all of the texts has the cause. The first match counts, so texts that say more
/// come first.
#[rustfmt::skip]
const KNOWN: &[(&[&str], Cause)] = &[
    (&["Log directory specified does not exist"], Cause::NoDirectory),
    (&["Log directory specified is not a directory"], Cause::DirectoryIsFile),
    (&["No FileSystem for scheme"], Cause::NoFileSystem),
    (&["NoSuchFieldError"], Cause::TwoVersions),
    (&["NoSuchMethodError"], Cause::TwoVersions),
    (&["NoSuchBucket"], Cause::NoBucket),
    (&["The specified bucket does not exist"], Cause::NoBucket),
    (&["ciphertext refers to a customer master key"], Cause::KeyDenied),
    (&["is not authorized to perform: kms:"], Cause::KeyDenied),
    (&["RequestTimeTooSkewed"], Cause::WrongClock),
    (&["ExpiredToken"], Cause::ExpiredCredentials),
    (&["PermanentRedirect"], Cause::WrongRegion),
    (&["permanent redirect response to region"], Cause::WrongRegion),
    (&["301 Moved Permanently"], Cause::WrongRegion),
    (&["AuthorizationHeaderMalformed"], Cause::WrongRegion),
    (&["Access Denied"], Cause::AccessDenied),
    (&["AccessDenied"], Cause::AccessDenied),
    (&["tatus code: 403"], Cause::AccessDenied),
    (&["tatus Code: 403"], Cause::AccessDenied),
    (&["Unable to load credentials"], Cause::NoCredentials),
    (&["No AWS Credentials provided"], Cause::NoCredentials),
    (&["Unable to execute HTTP request"], Cause::NoAnswer),
    (&["Cannot create temp dir"], Cause::BufferNotWritable),
    (&["OutOfMemoryError"], Cause::OutOfMemory),
    (&["Too small initial heap"], Cause::InvalidHeap),
    (&["Initial heap size set to a larger value than the maximum heap size"], Cause::InvalidHeap),
    (&["Could not reserve enough space"], Cause::HeapTooLarge),
    (&["Cannot allocate memory"], Cause::HeapTooLarge),
    (&["Permission denied: user=", "access="], Cause::HdfsDenied),
    (&["Wrong FS: "], Cause::WrongFileSystem),
    (&["Malformed \\uxxxx encoding"], Cause::InvalidDefaults),
    (&["Failed to bind", "BindException"], Cause::PortTaken),
    (&["No space left on device"], Cause::DiskFull),
];

/// Spark logs this for an event log that it cannot read, and continues with the next one (`docs/emr.md §3.2`).
pub(crate) const UNREADABLE_EVENT_LOG: &str = "Exception while merging application listings";

/// A line of a log whose cause is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub line: String,
    pub cause: Cause,
}

/// The first line of a log whose cause is known.
pub fn diagnose(log: &str) -> Option<Diagnosis> {
    log.lines().find_map(diagnose_line)
}

fn diagnose_line(line: &str) -> Option<Diagnosis> {
    let known = || KNOWN.iter().find(|(texts, _)| texts.iter().all(|text| line.contains(text)));
    let cause = match missing_class(line) {
        Some(class) => Cause::MissingClass(class),
        None => known()?.1.clone(),
    };
    Some(Diagnosis { line: line.trim().into(), cause })
}

/// All lines of a log with one known cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownError {
    /// The first line.
    pub diagnosis: Diagnosis,
    pub count: usize,
    /// How long ago the last line was written.
    pub ago: Duration,
}

/// Every known error in a log. `age` is the time since the log was last written. Ages of single lines
/// are differences between the log's own timestamps, because its time zone is not known.
pub fn known_errors(log: &str, age: Duration) -> Vec<KnownError> {
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
        // No line has a timestamp: the server is silenced, or died early.
        0 => Duration::ZERO,
        now => age + Duration::from_secs(now.saturating_sub(last)),
    };
    found.into_iter().map(|(diagnosis, count, last)| KnownError { diagnosis, count, ago: ago(last) }).collect()
}

/// The bundle of the AWS SDK v2 contains an SLF4J that does not know Spark's Log4j. If the bundle precedes
/// Spark's SLF4J on the class path, the SLF4J of the bundle writes this line, and the server logs nothing
/// more. If the log contains lines with timestamps, the server is not silenced: the shaded copy of SLF4J in
/// the bundle wrote the line.
fn silenced(log: &str) -> Option<Diagnosis> {
    let line = log.lines().find(|line| line.contains("Defaulting to no-operation (NOP) logger implementation"))?;
    Some(Diagnosis { line: line.into(), cause: Cause::Silenced })
}

/// The timestamp of a line that begins like `26/11/22 20:36:55`, in seconds since an arbitrary day.
fn seconds(line: &str) -> Option<u64> {
    let (date, rest) = line.split_once(' ')?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.len() == 2);
    let mut date = date.split('/').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = rest.get(..8)?.split(':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Months of 31 days are exact enough: only differences within one log count.
    Some((((year * 12 + month) * 31 + day) * 24 + hour) * 3600 + minute * 60 + second)
}

/// Event logs that the server could not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadableEventLogs {
    /// How many times the server failed to read one.
    pub count: usize,
    /// The exception of the first failure.
    pub reason: Option<String>,
    /// How long ago the last failure was.
    pub ago: Duration,
}

/// The event logs that the server could not read, according to its log. `age` is the time since the log
/// was last written.
pub fn unreadable_event_logs(log: &str, age: Duration) -> UnreadableEventLogs {
    let mut lines = log.lines().filter(|line| !line.trim().is_empty());
    let (mut count, mut now, mut last) = (0, 0, 0);
    let mut reason = None;
    while let Some(line) = lines.next() {
        now = seconds(line).unwrap_or(now);
        if !line.contains(UNREADABLE_EVENT_LOG) {
            continue;
        }
        (count, last) = (count + 1, now);
        if reason.is_none() {
            // The exception is on the next line.
            reason = lines.clone().next().map(|why| why.trim().chars().take(200).collect());
        }
    }
    UnreadableEventLogs { count, reason, ago: age + Duration::from_secs(now.saturating_sub(last)) }
}

/// Whether the log says that the server's main thread died, which ends the server.
pub(crate) fn main_thread_died(log: &str) -> bool {
    log.contains("Exception in thread \"main\"")
}

/// The last three lines that mention an error, without stack traces.
pub(crate) fn last_errors(log: &str) -> Vec<String> {
    let is_error = |line: &&str| {
        !line.starts_with(['\t', ' ']) && ["Exception", "Error", "ERROR"].iter().any(|w| line.contains(w))
    };
    let mut lines: Vec<String> =
        log.lines().rev().filter(is_error).take(3).map(|l| l.chars().take(200).collect()).collect();
    lines.reverse();
    lines
}

/// The class in `ClassNotFoundException: Class a.b.C not found` or `NoClassDefFoundError: a/b/C`.
fn missing_class(line: &str) -> Option<String> {
    let after = ["ClassNotFoundException: ", "NoClassDefFoundError: "].iter().find_map(|n| line.split_once(n))?.1;
    let name = after.strip_prefix("Class ").unwrap_or(after);
    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '/' | '_' | '$')).collect();
    (name.contains(['.', '/'])).then(|| name.replace('/', "."))
}
