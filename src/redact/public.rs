//! What everybody knows: words, hosts and accounts that tell nothing about whose node this is.

use std::net::{IpAddr, Ipv4Addr};

/// The accounts of Linux, Hadoop and EMR.
#[rustfmt::skip]
const ACCOUNTS: &[&str] = &[
    "root", "spark", "hadoop", "yarn", "hdfs", "mapred", "hive", "livy", "zookeeper", "nobody", "ec2-user",
    "ssm-user", "emr-shs", "kms", "hbase", "oozie", "hue", "flink", "presto", "trino", "tez", "zeppelin", "jupyter",
    "sshd", "dbus", "chrony", "postfix", "rpc", "bin", "daemon", "adm", "mail", "nginx", "apache", "anonymous",
    "everyone", "empty", "dr.who", "admin", "user", "users", "none", "null", "unknown", "systemd", "ubuntu",
    "debian", "emr-notebook",
];

/// Words of Spark, Hadoop, EMR and file systems. A bucket or a person with such a name is not recognisable by it.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "aws", "s3", "s3a", "s3n", "emr", "logs", "log", "events", "event", "data", "jobs", "job", "test", "prod",
    "dev", "history", "server", "client", "cluster", "master", "primary", "node", "localhost", "localdomain",
    "true", "false", "info", "warn", "error", "default", "config", "conf", "name", "value", "key", "http", "https",
    "java", "main", "local", "internal", "host", "bucket", "account", "address", "instance", "id", "arn", "text",
    "spark-history-server", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters", "localhost4",
    "localhost6",
];

/// Values of settings that are words of Spark, Hadoop, systemd, EMR or emr-shs.
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "yarn", "client", "cluster", "local", "lz4", "zstd", "snappy", "lzf", "gzip", "json", "protobuf", "leveldb",
    "rocksdb", "fair", "fifo", "kryo", "java", "redirect", "stream", "daemon", "spark-jars", "daemons", "simple",
    "kerberos", "aes256", "sse-kms", "sse-c", "sse-s3", "dsse-kms", "cse-kms", "cse-custom", "private", "disk",
    "bytebuffer", "array", "directory", "magic", "partitioned", "append", "replace", "fail", "static", "dynamic",
    "v1", "v2", "none", "warn", "error", "log", "server", "client", "change", "versionid", "etag", "random",
    "sequential", "normal", "adaptive", "on_demand", "ondemand", "spot", "prefix", "dir", "cache", "link", "file",
    "account", "program", "unit", "key", "absent", "exists", "line", "occupied", "log-gateway", "local-store",
    "forking", "simple", "notify", "exec", "oneshot", "process", "control-group", "mixed", "loaded", "not-found",
    "masked", "active", "inactive", "failed", "running", "exited", "dead", "enabled", "disabled", "generated",
    "success", "exit-code", "signal", "timeout", "always", "no", "yes", "on-failure", "infinity", "master", "core",
    "task", "emr", "crc32", "crc32c", "sha256", "emr-shs", "spark-history-server.service",
    "emr-shs-gateway.service", "emr-shs-install.service",
];

/// Parts of paths and of names of objects that EMR, Spark, Hadoop, YARN, Linux or emr-shs choose.
#[rustfmt::skip]
const PARTS: &[&str] = &[
    "", ".", "..", "*", "elasticmapreduce", "containers", "node", "steps", "applications", "daemons", "logs", "log",
    "events", "event-logs", "eventlogs", "spark-events", "spark-logs", "spark", "history", "spark-history",
    "stderr.gz", "stdout.gz", "stderr", "stdout", "syslog", "syslog.gz", "directory.info", "prelaunch.err",
    "prelaunch.out", "controller.gz", "appstatus", "jobs", "api", "v1", "version", "allexecutors", "executors",
    "attempts", "environment", "stages", "static", "storage", "healthz", "readyz", "metrics", "latest", "meta-data",
    "iam", "security-credentials", "dynamic", "instance-identity", "document", "token", "libs", "script-runner",
    "script-runner.jar", "etc", "var", "lib", "run", "tmp", "mnt", "mnt1", "mnt2", "mnt3", "s3", "emr", "docker",
    "opt", "proc", "sys", "usr", "share", "bin", "sbin", "libexec", "conf", "conf.dist", "hadoop", "hive", "hudi",
    "hbase", "yarn", "hdfs", "mapred", "apps", "jars", "java-tmp", "emr-shs", "local-store", "store", "stores",
    "systemd", "system", "init.d", "default", "alternatives", "service-nanny", "sysconfig", "tmpfiles.d",
    "instance-controller", "info", "user", "warehouse", "conf.empty", "spark-conf", "spark-defaults.conf",
    "spark-env.sh", "core-site.xml", "emrfs-site.xml", "log4j2.properties", "log4j.properties",
    "metrics.properties", "gateway.env", "install.env", "receipt.json", "spark-history-server",
    "spark-history-server.out", "spark-history-server.pid", "spark-history-server.service",
    "spark-history-server.service.d", "emr-shs-gateway.service", "emr-shs-install.service", "zz-emr-shs.conf",
    "zz-emr-shs-store.conf", "override.conf", "multi-user.target.wants", "instance.json", "extraInstanceData.json",
    "job-flow.json", "job-flow-state.txt", "hudi-defaults.conf", "home", "native", "server", "jvm", "work", "users",
    "htpasswd", "tls", "ssl", "pki", "certs", "security", "hadoop-httpfs", "s3a", "eventlog_v2",
    "spark-history-server.out.1", ".emr-shs-probe", "shs", "prod", "dev", "test", "data", "redhat-release",
    "os-release", "sparklogs", "sparkhistory", "sparkeventlogs", "SPARK_DRIVER", "SPARK_EXECUTOR", "cgroup", "fs",
    "system.slice",
];

/// Names whose classes are no secret of anybody.
#[rustfmt::skip]
const PACKAGES: &[&str] = &[
    "org.apache.", "com.amazon.", "com.amazonaws.", "software.amazon.", "java.", "javax.", "jdk.", "sun.",
    "com.sun.", "org.eclipse.", "org.sparkproject.", "org.slf4j.", "scala.", "io.netty.", "org.glassfish.",
    "com.fasterxml.",
];

/// Hosts of projects, as messages and comments name them.
#[rustfmt::skip]
const PUBLIC_HOSTS: &[&str] = &[
    "apache.org", "slf4j.org", "freedesktop.org", "kernel.org", "w3.org", "github.com", "aws.amazon.com",
    "oracle.com", "java.net", "debian.org", "systemd.io", "example.com", "debian.com", "openjdk.org",
];

/// Services whose endpoints have the same name for everybody.
#[rustfmt::skip]
const AWS_SERVICES: &[&str] = &[
    "s3", "s3-fips", "s3-accelerate", "sts", "kms", "ec2", "elasticmapreduce", "logs", "monitoring", "sqs", "sdb",
    "dynamodb", "glue", "ssm", "iam", "emr-containers", "emr-serverless", "dualstack", "fips", "s3-external-1",
    "ap",
];

pub(super) fn is_account(name: &str) -> bool {
    ACCOUNTS.iter().any(|known| known.eq_ignore_ascii_case(name))
        || name.starts_with("systemd-")
        || name.starts_with('_')
}

pub(super) fn is_common(word: &str) -> bool {
    is_account(word) || COMMON.iter().any(|known| known.eq_ignore_ascii_case(word))
}

pub(super) fn is_value(word: &str) -> bool {
    VALUES.iter().any(|known| known.eq_ignore_ascii_case(word))
}

pub(super) fn is_class(word: &str) -> bool {
    PACKAGES.iter().any(|package| word.starts_with(package))
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._$*".contains(&b))
}

/// Whether a part of a path was chosen by a program and not by a person.
pub(super) fn is_part(part: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let ends = [".inprogress", ".zstd", ".lz4", ".lzf", ".snappy", ".compact"];
    let bare = ends.iter().fold(part, |part, end| part.strip_suffix(end).unwrap_or(part));
    let is_of_yarn = |text: &str| {
        ["application_", "container_", "appattempt_"]
            .iter()
            .any(|head| text.strip_prefix(head).is_some_and(|rest| digits(rest.strip_prefix('e').unwrap_or(rest))))
    };
    let is_rolling = || {
        let inner = bare.strip_prefix("eventlog_v2_").or(bare.strip_prefix("appstatus_"));
        let event = bare.strip_prefix("events_").and_then(|rest| rest.split_once('_')).filter(|(n, _)| digits(n));
        inner.or(event.map(|(_, rest)| rest)).is_some_and(is_of_yarn)
    };
    let is_number = part.len() <= 5 && digits(part);
    let is_pattern = part.starts_with("{{")
        && part.split("}}").next().is_some_and(|name| name[2..].bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
    PARTS.contains(&part) || is_of_yarn(bare) || is_rolling() || is_number || is_pattern || part.starts_with(".emr-shs")
}

/// Whether a host, in small letters, is the same for everybody: an endpoint of AWS, a project's site.
pub(super) fn is_public_host(host: &str) -> bool {
    let of_project = |known: &str| host == known || host.strip_suffix(known).is_some_and(|head| head.ends_with('.'));
    if host == "localhost" || PUBLIC_HOSTS.iter().any(|known| of_project(known)) {
        return true;
    }
    let head = host.strip_suffix(".amazonaws.com.cn").or(host.strip_suffix(".amazonaws.com"));
    head.is_some_and(|head| head.split('.').all(|label| AWS_SERVICES.contains(&label) || is_region(label)))
}

/// `eu-west-3`, `us-gov-east-1`
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, middle @ .., number] = parts.as_slice() else { return false };
    area.len() == 2
        && (1..=2).contains(&middle.len())
        && middle.iter().all(|word| (3..=10).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase()))
        && number.len() == 1
        && number.bytes().all(|b| b.is_ascii_digit())
        && area.bytes().all(|b| b.is_ascii_lowercase())
}

/// Whether an address is the same on every machine.
pub(super) fn is_public_address(address: IpAddr) -> bool {
    const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
    address.is_loopback() || address.is_unspecified() || address == IpAddr::V4(METADATA)
}
