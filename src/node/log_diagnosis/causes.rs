//! The causes of known errors: what each means, and what to do about it.

use std::fmt;

/// What a line in the log means. As text it is a clause: "S3 denies access".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This class is not on the class path.
    MissingClass(String),
    NoDirectory,
    DirectoryIsFile,
    NoFileSystem,
    TwoVersions,
    NoMainClass,
    NativeLibrary,
    OldJava,
    NewJava,
    InvalidJvmOption,
    InvalidSetting,
    InvalidDefaults,
    WrongFileSystem,
    NoBucket,
    NoHostInUri,
    WrongCertificate,
    UntrustedCertificate,
    NoTls,
    UnknownHost,
    NoAnswer,
    Throttled,
    NoConnectionLeft,
    KeyDenied,
    KeyUnusable,
    EndpointDenied,
    RoleDenied,
    WrongClock,
    ExpiredCredentials,
    WrongKeys,
    WrongRegion,
    NoRegion,
    BadRequest,
    ObjectLock,
    Archived,
    NoCredentials,
    LocalDenied,
    AccessDenied,
    HdfsDenied,
    NoHdfs,
    Kerberos,
    BufferNotWritable,
    NoLocalDirectory,
    NoThread,
    OtherMemory,
    OutOfMemory,
    InvalidHeap,
    HeapTooLarge,
    WrongAddress,
    PortTaken,
    TooManyFiles,
    DiskFull,
    ReadOnly,
    StoreLocked,
    StoreFormat,
    StoreMiscounted,
    LongText,
    UnknownCodec,
    DamagedEventLog,
    /// The server writes no log at all.
    Silenced,
    /// An error that nobody has listed.
    Unknown,
}

impl Cause {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        self.words().1
    }

    /// Whether the cause can lie in one event log while the server reads the others.
    pub(crate) fn is_of_single_event_logs(&self) -> bool {
        matches!(self, Self::LongText | Self::UnknownCodec | Self::DamagedEventLog | Self::Unknown)
    }

    /// Whether a running server has to start again before the fix helps.
    pub(crate) fn needs_restart(&self) -> bool {
        matches!(
            self,
            Self::NativeLibrary
                | Self::OldJava
                | Self::NewJava
                | Self::InvalidJvmOption
                | Self::InvalidSetting
                | Self::UntrustedCertificate
                | Self::WrongKeys
                | Self::LocalDenied
                | Self::Kerberos
                | Self::NoThread
                | Self::OtherMemory
                | Self::OutOfMemory
                | Self::InvalidHeap
                | Self::HeapTooLarge
                | Self::WrongAddress
                | Self::TooManyFiles
                | Self::StoreLocked
        )
    }

    /// The text and the fix.
    #[rustfmt::skip]
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::MissingClass(_) => ("the class path lacks a class", "sudo emr-shs install links the jars that the event logs need; to list the jars of this node: sudo emr-shs discover"),
            Self::NoDirectory => ("the event log directory does not exist; S3 has no directories, so at least one object must have the prefix", "create it: sudo emr-shs prefix --event-logs s3://BUCKET/PREFIX/"),
            Self::DirectoryIsFile => ("the event log directory is a file or an object", "name another directory: sudo emr-shs install --event-logs s3://BUCKET/PREFIX/"),
            Self::NoFileSystem => ("no file system serves the scheme of the event logs: core-site.xml is not on the class path, or does not name one", "check that HADOOP_CONF_DIR in /etc/spark/conf/spark-env.sh names a directory with a core-site.xml; to list what this node serves: sudo emr-shs discover"),
            Self::TwoVersions => ("the class path contains two versions of one library", "keep one version of each AWS SDK; to list their jars: sudo emr-shs discover"),
            Self::NoMainClass => ("Java does not find the class of the history server: Spark's own jars are not on the class path", "ls /usr/lib/spark/jars; and check SPARK_HOME in /etc/spark/conf/spark-env.sh"),
            Self::NativeLibrary => ("Java cannot load a native library, usually because /tmp is mounted with noexec", "findmnt -no OPTIONS -T /tmp shows whether it is noexec; if so: sudo install -d -m 1777 /mnt/tmp; let SPARK_DAEMON_JAVA_OPTS in /etc/spark/conf/spark-env.sh contain -Djava.io.tmpdir=/mnt/tmp"),
            Self::OldJava => ("this Java is older than a class that the server needs", "ls /usr/lib/jvm; set JAVA_HOME to a newer Java in /etc/spark/conf/spark-env.sh"),
            Self::NewJava => ("this Java is newer than this Spark supports", "ls /usr/lib/jvm; set JAVA_HOME to an older Java in /etc/spark/conf/spark-env.sh"),
            Self::InvalidJvmOption => ("the JVM does not accept one of its options", "correct SPARK_DAEMON_JAVA_OPTS or SPARK_HISTORY_OPTS in /etc/spark/conf/spark-env.sh"),
            Self::InvalidSetting => ("Spark cannot read a value in its configuration", "correct the key that the line names: in /etc/spark/conf/spark-defaults.conf, or with sudo emr-shs install --set KEY=VALUE"),
            Self::InvalidDefaults => ("spark-defaults.conf contains an escape that Spark cannot read", "correct that line; to see its number: sudo emr-shs plan"),
            Self::WrongFileSystem => ("a path of one file system reached another: jobs, or EMR's own uploader, use HDFS while the event logs are in S3", "let spark.eventLog.dir and spark.history.fs.logDirectory name one directory: sudo emr-shs install --event-logs s3://BUCKET/PREFIX/"),
            Self::NoBucket => ("the bucket of the event logs does not exist", "check the bucket's name in spark.history.fs.logDirectory; to name another one: sudo emr-shs install --event-logs s3://BUCKET/PREFIX/"),
            Self::NoHostInUri => ("Java finds no host in the URI of the event logs: the bucket's name is no host name for Java", "use a bucket whose name consists of lower-case letters, digits and hyphens: sudo emr-shs install --event-logs s3://BUCKET/PREFIX/"),
            Self::WrongCertificate => ("the certificate of the S3 endpoint is for another name: AWS's certificates do not fit a bucket name with dots", "let S3A write that bucket's name into the path: add spark.hadoop.fs.s3a.bucket.BUCKET.path.style.access true to /etc/spark/conf/spark-defaults.conf, then: sudo emr-shs restart"),
            Self::UntrustedCertificate => ("Java does not trust the certificate of the S3 endpoint: its authority, such as that of a proxy or of a private store, is not in Java's trust store", "sudo keytool -importcert -noprompt -cacerts -storepass changeit -alias s3-authority -file CA.pem"),
            Self::NoTls => ("TLS between the history server and the S3 endpoint fails", "check the scheme and the port of fs.s3a.endpoint in /etc/hadoop/conf/core-site.xml, and with openssl s_client -connect HOST:443 what answers there"),
            Self::UnknownHost => ("DNS does not know a host that the history server asks for, or DNS does not answer", "getent hosts NAME, with the name in that line; if nothing answers, check /etc/resolv.conf and the DNS settings of the VPC"),
            Self::NoAnswer => ("S3 does not answer the history server", "S3 is reached through a NAT gateway or an S3 VPC endpoint; test it on this node: aws s3 ls"),
            Self::Throttled => ("S3 throttles the history server, because the bucket gets too many requests", "let the server ask less often: sudo emr-shs install --set spark.history.fs.update.interval=300s; doctor counts the requests (cost)"),
            Self::NoConnectionLeft => ("the history server waits for a free connection to S3", "allow more connections: add spark.hadoop.fs.s3a.connection.maximum 500 to /etc/spark/conf/spark-defaults.conf, then: sudo emr-shs restart"),
            Self::KeyDenied => ("the instance profile has no access to the KMS key of the event logs", "allow kms:Decrypt and kms:GenerateDataKey on that key to the instance profile; to print the policy: sudo emr-shs render iam-policy --kms-key ARN"),
            Self::KeyUnusable => ("the KMS key of the event logs is disabled, deleted, or in another region", "aws kms describe-key --key-id KEY shows its state; aws kms enable-key --key-id KEY enables it"),
            Self::EndpointDenied => ("the policy of the VPC endpoint denies access to the bucket", "allow the bucket in the endpoint's policy: aws ec2 describe-vpc-endpoints shows it, aws ec2 modify-vpc-endpoint changes it"),
            Self::RoleDenied => ("the instance profile is not allowed to assume the role that the configuration names", "allow sts:AssumeRole on that role to the instance profile, also in the role's trust policy"),
            Self::WrongClock => ("S3 refuses the signatures, because this node's clock is wrong", "timedatectl status; sudo systemctl restart chronyd"),
            Self::ExpiredCredentials => ("S3 refuses the credentials as expired; S3A of EMR 7.0 to 7.8 can keep credentials for too long", "restart the history server: sudo emr-shs restart; on EMR 7.0 to 7.8 use s3:// (EMRFS)"),
            Self::WrongKeys => ("S3 does not accept the access key, or the signature that was made with its secret key", "correct fs.s3a.access.key and fs.s3a.secret.key in /etc/hadoop/conf/core-site.xml, or remove both: S3A then uses the instance profile"),
            Self::WrongRegion => ("the bucket is in another region than the one the history server asks", "set the bucket's region: sudo emr-shs install"),
            Self::NoRegion => ("the history server does not know the region of the bucket", "set the bucket's region: sudo emr-shs install"),
            Self::BadRequest => ("S3 answers 400 without a reason, as it does for the wrong region and for expired credentials", "set the bucket's region: sudo emr-shs install; if the error remains: sudo emr-shs restart"),
            Self::ObjectLock => ("the bucket has Object Lock, and refuses objects without a checksum, which S3A does not send", "use a bucket without a default retention for event logs: sudo emr-shs install --event-logs s3://BUCKET/PREFIX/"),
            Self::Archived => ("an event log is archived, and must be restored before it can be read", "aws s3api restore-object --bucket BUCKET --key KEY --restore-request Days=7; and take the lifecycle rule that archives event logs off the bucket"),
            Self::NoCredentials => ("the history server finds no credentials for S3", "give the cluster an instance profile, and check that the metadata service answers"),
            Self::LocalDenied => ("the history server's user is not allowed to use a local file or directory", "ls -ld shows whose it is; if only the history server uses it: sudo chown -R spark:spark PATH; if jobs read it, too, such as a configuration file: sudo chmod a+rX PATH"),
            Self::AccessDenied => ("S3 denies access", "allow s3:ListBucket and s3:GetObject on the event logs to the instance profile; to print the policy: sudo emr-shs render iam-policy"),
            Self::HdfsDenied => ("HDFS denies the history server's user access to the event log directory", "let every user write there, with the directory that the log names: hdfs dfs -chmod 1777 DIRECTORY"),
            Self::NoHdfs => ("HDFS does not answer, or is in safe mode", "sudo systemctl status hadoop-hdfs-namenode; hdfs dfsadmin -safemode get"),
            Self::Kerberos => ("Kerberos does not let the history server in: its ticket, its keytab or its principal is wrong or missing", "check spark.history.kerberos.enabled, .principal and .keytab in /etc/spark/conf/spark-defaults.conf, and: sudo -u spark klist -kt KEYTAB"),
            Self::BufferNotWritable => ("the user spark cannot write to the directory in which EMRFS buffers", "make the directory in fs.s3.buffer.dir (core-site.xml) writable: sudo mkdir -p /mnt/s3; sudo chown spark:spark /mnt/s3"),
            Self::NoLocalDirectory => ("no local directory has room for Hadoop's buffers, or lets the server write", "df -h; and check hadoop.tmp.dir and fs.s3a.buffer.dir in /etc/hadoop/conf/core-site.xml"),
            Self::NoThread => ("the node gives the history server no further thread", "systemctl show -p TasksMax spark-history-server; sudo systemctl set-property spark-history-server TasksMax=infinity"),
            Self::OtherMemory => ("memory outside of the heap is used up: that of classes, or of buffers", "raise or remove -XX:MaxMetaspaceSize and -XX:MaxDirectMemorySize in /etc/spark/conf/spark-env.sh"),
            Self::OutOfMemory => ("the heap is too small, and EMR's JVM options end the server when it is full", "set SPARK_DAEMON_MEMORY=4g or more in /etc/spark/conf/spark-env.sh; for new clusters, set it in the spark-env/export classification; or read with one thread: sudo emr-shs install --set spark.history.fs.numReplayThreads=1"),
            Self::InvalidHeap => ("the JVM does not accept the heap setting", "correct SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh"),
            Self::HeapTooLarge => ("this machine has less memory than the heap setting asks for", "lower SPARK_DAEMON_MEMORY in /etc/spark/conf/spark-env.sh"),
            Self::WrongAddress => ("the history server listens on an address that this node does not have", "ip -brief address lists the node's addresses; correct SPARK_LOCAL_IP or SPARK_DAEMON_JAVA_OPTS in /etc/spark/conf/spark-env.sh"),
            Self::PortTaken => ("another process uses the history server's port", "find that process: sudo ss -ltnp"),
            Self::TooManyFiles => ("the history server has reached its limit of open files", "sudo mkdir -p /etc/systemd/system/spark-history-server.service.d; printf '[Service]\\nLimitNOFILE=65536\\n' | sudo tee /etc/systemd/system/spark-history-server.service.d/files.conf; sudo systemctl daemon-reload"),
            Self::DiskFull => ("a file system is full", "find the full file system: df -h; the local store is at spark.history.store.path"),
            Self::ReadOnly => ("a file system is mounted read-only", "findmnt -O ro; sudo dmesg | tail shows why"),
            Self::StoreLocked => ("another process has opened the local store, such as a second history server", "pgrep -af history.HistoryServer lists them; end the one that does not belong to the unit"),
            Self::StoreFormat => ("the local store was written in another format: by another version of Spark, or with another spark.history.store.serializer", "sudo systemctl stop spark-history-server; remove what Spark made in the directory spark.history.store.path; sudo systemctl start spark-history-server"),
            Self::StoreMiscounted => ("the history server has lost count of the size of its local store, by a fault of older versions of Spark (SPARK-32024)", "let the server count anew: sudo emr-shs restart"),
            Self::LongText => ("an event log contains a longer text than Spark's JSON parser accepts", "let jobs write shorter plans: spark.sql.maxPlanStringLength=1000000; a version of Spark without that limit reads the event log"),
            Self::UnknownCodec => ("Spark takes the end of an object's name for a codec that it does not have; an event log must not be packed with gzip", "unpack that object, or move it out of the event log directory: aws s3 mv s3://BUCKET/KEY s3://BUCKET/elsewhere/"),
            Self::DamagedEventLog => ("an event log is damaged, or is no event log", "move that object out of the event log directory: aws s3 mv s3://BUCKET/KEY s3://BUCKET/elsewhere/"),
            Self::Silenced => ("the history server writes no log: another jar's SLF4J precedes Spark's on its class path", "put Spark's own jars first: sudo emr-shs install"),
            Self::Unknown => ("errors that emr-shs does not know", "read them in the server's log"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingClass(class) => write!(f, "the class path lacks {class}"),
            other => f.write_str(other.words().0),
        }
    }
}

/// A line that contains all of the texts has the cause. If an error has several causes, the uppermost counts, so texts that
/// say more come first.
#[rustfmt::skip]
const KNOWN: &[(&[&str], Cause)] = &[
    (&["Log directory specified does not exist"], Cause::NoDirectory),
    (&["Log directory specified is not a directory"], Cause::DirectoryIsFile),
    (&["No FileSystem for scheme"], Cause::NoFileSystem),
    (&["Could not find or load main class"], Cause::NoMainClass),
    (&["UnsatisfiedLinkError"], Cause::NativeLibrary),
    (&["failed to map segment from shared object"], Cause::NativeLibrary),
    (&["Could not initialize class org.xerial.snappy"], Cause::NativeLibrary),
    (&["Could not initialize class org.rocksdb"], Cause::NativeLibrary),
    (&["Could not initialize class com.github.luben.zstd"], Cause::NativeLibrary),
    (&["UnsupportedClassVersionError"], Cause::OldJava),
    (&["InaccessibleObjectException"], Cause::NewJava),
    (&["because module java.base does not"], Cause::NewJava),
    (&["NoSuchFieldError"], Cause::TwoVersions),
    (&["NoSuchMethodError"], Cause::TwoVersions),
    (&["AbstractMethodError"], Cause::TwoVersions),
    (&["IncompatibleClassChangeError"], Cause::TwoVersions),
    (&["requires Jackson Databind version"], Cause::TwoVersions),
    (&["null uri host"], Cause::NoHostInUri),
    (&["bucket is null/empty"], Cause::NoHostInUri),
    (&["doesn't match any of the subject alternative names"], Cause::WrongCertificate),
    (&["No subject alternative"], Cause::WrongCertificate),
    (&["PKIX path"], Cause::UntrustedCertificate),
    (&["unable to find valid certification path"], Cause::UntrustedCertificate),
    (&["SSLHandshakeException"], Cause::NoTls),
    (&["SSLException"], Cause::NoTls),
    (&["UnknownHostException"], Cause::UnknownHost),
    (&["Name or service not known"], Cause::UnknownHost),
    (&["Temporary failure in name resolution"], Cause::UnknownHost),
    (&["SlowDown"], Cause::Throttled),
    (&["Please reduce your request rate"], Cause::Throttled),
    (&["tatus Code: 503"], Cause::Throttled),
    (&["tatus code: 503"], Cause::Throttled),
    (&["Timeout waiting for connection from pool"], Cause::NoConnectionLeft),
    (&["Acquire operation took longer than"], Cause::NoConnectionLeft),
    (&["NoSuchBucket"], Cause::NoBucket),
    (&["The specified bucket does not exist"], Cause::NoBucket),
    (&["ciphertext refers to a customer master key"], Cause::KeyDenied),
    (&["is not authorized to perform: kms:"], Cause::KeyDenied),
    (&["KMS.DisabledException"], Cause::KeyUnusable),
    (&["KMS.NotFoundException"], Cause::KeyUnusable),
    (&["KMS.KMSInvalidStateException"], Cause::KeyUnusable),
    (&["KMS.InvalidStateException"], Cause::KeyUnusable),
    (&["is not authorized to perform: sts:AssumeRole"], Cause::RoleDenied),
    (&["deny in a VPC endpoint policy"], Cause::EndpointDenied),
    (&["no VPC endpoint policy allows"], Cause::EndpointDenied),
    (&["RequestTimeTooSkewed"], Cause::WrongClock),
    (&["ExpiredToken"], Cause::ExpiredCredentials),
    (&["SignatureDoesNotMatch"], Cause::WrongKeys),
    (&["InvalidAccessKeyId"], Cause::WrongKeys),
    (&["Error Code: InvalidToken"], Cause::WrongKeys),
    (&["PermanentRedirect"], Cause::WrongRegion),
    (&["permanent redirect response to region"], Cause::WrongRegion),
    (&["301 Moved Permanently"], Cause::WrongRegion),
    (&["AuthorizationHeaderMalformed"], Cause::WrongRegion),
    (&["Unable to find a region"], Cause::NoRegion),
    (&["Unable to load region"], Cause::NoRegion),
    (&["with Object Lock parameters"], Cause::ObjectLock),
    (&["InvalidObjectState"], Cause::Archived),
    (&["storage class", "not valid"], Cause::Archived),
    (&["NoAuthWithAWSException"], Cause::NoCredentials),
    (&["NoAwsCredentialsException"], Cause::NoCredentials),
    (&["Unable to load credentials"], Cause::NoCredentials),
    (&["Unable to load AWS credentials"], Cause::NoCredentials),
    (&["No AWS Credentials provided"], Cause::NoCredentials),
    (&["AccessDeniedException: /"], Cause::LocalDenied),
    (&["AccessDeniedException: file:/"], Cause::LocalDenied),
    (&["(Permission denied)"], Cause::LocalDenied),
    (&["/LOCK: Permission denied"], Cause::LocalDenied),
    (&["RocksDBException: ", "Permission denied"], Cause::LocalDenied),
    (&["Access Denied"], Cause::AccessDenied),
    (&["AccessDenied"], Cause::AccessDenied),
    (&["tatus code: 403"], Cause::AccessDenied),
    (&["tatus Code: 403"], Cause::AccessDenied),
    (&["S3Exception: null", "tatus Code: 400"], Cause::BadRequest),
    (&["Bad Request", "tatus Code: 400"], Cause::BadRequest),
    (&["GSSException"], Cause::Kerberos),
    (&["Can't get Kerberos realm"], Cause::Kerberos),
    (&["KrbException"], Cause::Kerberos),
    (&["SIMPLE authentication is not enabled"], Cause::Kerberos),
    (&["Login failure for"], Cause::Kerberos),
    (&["Permission denied: user=", "access="], Cause::HdfsDenied),
    (&["SafeModeException"], Cause::NoHdfs),
    (&["Call From ", "failed on connection exception"], Cause::NoHdfs),
    (&["Wrong FS: "], Cause::WrongFileSystem),
    (&["Unable to execute HTTP request"], Cause::NoAnswer),
    (&["Cannot create temp dir"], Cause::BufferNotWritable),
    (&["Could not find any valid local directory"], Cause::NoLocalDirectory),
    (&["No space available in any of the local directories"], Cause::NoLocalDirectory),
    (&["OutOfMemoryError: unable to create"], Cause::NoThread),
    (&["OutOfMemoryError: Metaspace"], Cause::OtherMemory),
    (&["OutOfMemoryError: Compressed class space"], Cause::OtherMemory),
    (&["OutOfMemoryError: Direct buffer memory"], Cause::OtherMemory),
    (&["OutOfMemoryError: Cannot reserve"], Cause::OtherMemory),
    (&["OutOfMemoryError"], Cause::OutOfMemory),
    (&["Too small initial heap"], Cause::InvalidHeap),
    (&["Too small maximum heap"], Cause::InvalidHeap),
    (&["Invalid maximum heap size"], Cause::InvalidHeap),
    (&["Invalid initial heap size"], Cause::InvalidHeap),
    (&["Initial heap size set to a larger value than the maximum heap size"], Cause::InvalidHeap),
    (&["Could not reserve enough space"], Cause::HeapTooLarge),
    (&["Cannot allocate memory"], Cause::HeapTooLarge),
    (&["Unrecognized VM option"], Cause::InvalidJvmOption),
    (&["Unrecognized option: "], Cause::InvalidJvmOption),
    (&["Improperly specified VM option"], Cause::InvalidJvmOption),
    (&["Conflicting collector combinations"], Cause::InvalidJvmOption),
    (&["Failed to parse time string"], Cause::InvalidSetting),
    (&["Failed to parse byte string"], Cause::InvalidSetting),
    (&["Time must be specified as"], Cause::InvalidSetting),
    (&["Size must be specified as"], Cause::InvalidSetting),
    (&["IllegalArgumentException: spark.", "should be"], Cause::InvalidSetting),
    (&["Malformed \\uxxxx encoding"], Cause::InvalidDefaults),
    (&["Cannot assign requested address"], Cause::WrongAddress),
    (&["Failed to bind", "BindException"], Cause::PortTaken),
    (&["Address already in use"], Cause::PortTaken),
    (&["Too many open files"], Cause::TooManyFiles),
    (&["No space left on device"], Cause::DiskFull),
    (&["Disk quota exceeded"], Cause::DiskFull),
    (&["Read-only file system"], Cause::ReadOnly),
    (&["While lock file: "], Cause::StoreLocked),
    (&["/LOCK: Resource temporarily unavailable"], Cause::StoreLocked),
    (&["/LOCK: No locks available"], Cause::StoreLocked),
    (&["InvalidProtocolBufferException"], Cause::StoreFormat),
    (&["Disk usage tracker went negative"], Cause::StoreMiscounted),
    (&["StreamConstraintsException"], Cause::LongText),
    (&["Codec [", "] is not available"], Cause::UnknownCodec),
    (&["CODEC_NOT_AVAILABLE"], Cause::UnknownCodec),
    (&["ZstdIOException"], Cause::DamagedEventLog),
    (&["Exception parsing Spark event log"], Cause::DamagedEventLog),
    (&["Malformed line #"], Cause::DamagedEventLog),
];

/// The cause that an error names, and the line that names it.
pub(super) fn cause_of(lines: &[String]) -> Option<(&str, Cause)> {
    let class = lines.iter().find_map(|line| Some((line.as_str(), Cause::MissingClass(missing_class(line)?))));
    class.or_else(|| {
        let row_of = |line: &String| KNOWN.iter().position(|(texts, _)| texts.iter().all(|text| line.contains(text)));
        let named = lines.iter().filter_map(|line| Some((row_of(line)?, line)));
        let (row, line) = named.min_by_key(|(row, _)| *row)?;
        Some((line, KNOWN[row].1.clone()))
    })
}

/// The class in `ClassNotFoundException: Class a.b.C not found` or `NoClassDefFoundError: a/b/C`.
fn missing_class(line: &str) -> Option<String> {
    let after = ["ClassNotFoundException: ", "NoClassDefFoundError: "].iter().find_map(|n| line.split_once(n))?.1;
    let name = after.strip_prefix("Class ").unwrap_or(after);
    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '/' | '_' | '$')).collect();
    (name.contains(['.', '/'])).then(|| name.replace('/', "."))
}
