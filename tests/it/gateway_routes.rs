//! Which URL of the gateway leads to which object in S3. No other URL leads to an object.

use crate::helpers::allowed_keys::{Bucket, CLUSTER, assert_harmless};
use emr_shs::testing::{
    LogDirectory, LogRequest, RouteError, container_directory, route, route_of_source, stored_name,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use regex::Regex;
use std::cell::Cell;

/// Prefixes of log URIs.
const ROOT: &[&str] = &[""];
const EMR: &[&str] = &["elasticmapreduce/"];
const DEEP: &[&str] = &["teams/data eng/x%20y/é/"];
const LOGS: &[&str] = &["logs/emr/"];
const TWO: &[&str] = &["elasticmapreduce/", "other/"];

/// A path, its query, the prefixes of the log URIs, and where it leads. Words in capital letters stand for ids, see `spelled`.
#[rustfmt::skip]
const TABLE: &[(&str, Option<&str>, &[&str], &str)] = &[
    // The short form names a container. The gateway finds its cluster.
    ("/logs/CON/stderr", None, EMR, "any: elasticmapreduce/FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/stdout", None, ROOT, "any: FOUND/containers/APP/CON/stdout.gz"),
    ("/logs/CON/stdout", None, DEEP, "any: teams/data eng/x%20y/é/FOUND/containers/APP/CON/stdout.gz"),
    ("/logs/CON/stderr.gz", None, ROOT, "any: FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/prelaunch.out", None, ROOT, "any: FOUND/containers/APP/CON/prelaunch.out.gz"),
    ("/logs/CON/launch_container.sh", None, ROOT, "any: FOUND/containers/APP/CON/launch_container.sh.gz"),
    ("/logs/container_e17_1795352263709_0001_01_000002/stderr", None, ROOT, "any: FOUND/containers/APP/container_e17_1795352263709_0001_01_000002/stderr.gz"),
    ("/logs/container_1795352263709_12345_01_1000002/stderr", None, ROOT, "any: FOUND/containers/application_1795352263709_12345/container_1795352263709_12345_01_1000002/stderr.gz"),
    // Downloads, and queries without a meaning.
    ("/logs/CON/stderr", Some("download=1"), ROOT, "download any: FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/stderr", Some("a=b&download=1"), ROOT, "download any: FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/stderr", Some("download=0"), ROOT, "any: FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/stderr", Some("xdownload=1"), ROOT, "any: FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/stderr", Some("start=-4096"), ROOT, "any: FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/stderr", Some("/../../x"), ROOT, "any: FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/stderr", Some(""), ROOT, "any: FOUND/containers/APP/CON/stderr.gz"),
    // The long form, below /logs/ and below the log URI's prefix.
    ("/logs/CLU/containers/APP/CON/stderr.gz", None, EMR, "any: elasticmapreduce/CLU/containers/APP/CON/stderr.gz"),
    ("/logs/CLU/containers/APP/CON/stderr", None, ROOT, "any: CLU/containers/APP/CON/stderr.gz"),
    ("/elasticmapreduce/CLU/containers/APP/CON/stderr.gz", None, EMR, "0: elasticmapreduce/CLU/containers/APP/CON/stderr.gz"),
    ("/elasticmapreduce/CLU/containers/APP/CON/stderr", Some("download=1"), EMR, "download 0: elasticmapreduce/CLU/containers/APP/CON/stderr.gz"),
    ("/CLU/containers/APP/CON/stderr.gz", None, ROOT, "0: CLU/containers/APP/CON/stderr.gz"),
    ("/teams/data%20eng/x%2520y/%C3%A9/CLU/containers/APP/CON/stderr.gz", None, DEEP, "0: teams/data eng/x%20y/é/CLU/containers/APP/CON/stderr.gz"),
    ("/other/CLU/containers/APP/CON/stderr.gz", None, TWO, "1: other/CLU/containers/APP/CON/stderr.gz"),
    // A prefix that itself begins with logs/.
    ("/logs/emr/CLU/containers/APP/CON/stderr.gz", None, LOGS, "0: logs/emr/CLU/containers/APP/CON/stderr.gz"),
    ("/logs/CLU/containers/APP/CON/stderr.gz", None, LOGS, "any: logs/emr/CLU/containers/APP/CON/stderr.gz"),
    ("/logs/emr/CLU/", None, LOGS, "no log"),
    ("/logs/emr/CON/stderr", None, LOGS, "no log"),
    // EMR Serverless.
    ("/logs/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr.gz", None, EMR, "any: elasticmapreduce/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr.gz"),
    ("/elasticmapreduce/applications/SLS/jobs/JOB/SPARK_DRIVER/stdout", None, EMR, "0: elasticmapreduce/applications/SLS/jobs/JOB/SPARK_DRIVER/stdout.gz"),
    ("/applications/SLS/jobs/JOB/SPARK_EXECUTOR/12/stderr.gz", None, ROOT, "0: applications/SLS/jobs/JOB/SPARK_EXECUTOR/12/stderr.gz"),
    ("/logs/applications/SLS/jobs/JOB/attempts/2/SPARK_DRIVER/stderr.gz", None, ROOT, "any: applications/SLS/jobs/JOB/attempts/2/SPARK_DRIVER/stderr.gz"),
    ("/logs/applications/SLS/jobs/JOB/attempts/2/SPARK_EXECUTOR/7/stdout.gz", None, ROOT, "any: applications/SLS/jobs/JOB/attempts/2/SPARK_EXECUTOR/7/stdout.gz"),
    ("/logs/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr-2026-11-22-13.gz", None, ROOT, "any: applications/SLS/jobs/JOB/SPARK_DRIVER/stderr-2026-11-22-13.gz"),
    // EMR on EKS, with and without the application's directory.
    ("/logs/VIR/jobs/JOB/containers/JOB-nkz5v/stdout.gz", None, EMR, "any: elasticmapreduce/VIR/jobs/JOB/containers/JOB-nkz5v/stdout.gz"),
    ("/elasticmapreduce/VIR/jobs/JOB/containers/spark-JOB/spark-JOB-driver/stderr.gz", None, EMR, "0: elasticmapreduce/VIR/jobs/JOB/containers/spark-JOB/spark-JOB-driver/stderr.gz"),
    ("/VIR/jobs/JOB/containers/spark-JOB/pi-5f.x-exec-1/stdout", None, ROOT, "0: VIR/jobs/JOB/containers/spark-JOB/pi-5f.x-exec-1/stdout.gz"),
    // Names of rolled logs, and names that need encoding.
    ("/logs/CON/stderr-2026-11-22-13.gz", None, ROOT, "any: FOUND/containers/APP/CON/stderr-2026-11-22-13.gz"),
    ("/logs/CON/stdout.1.gz", None, ROOT, "any: FOUND/containers/APP/CON/stdout.1.gz"),
    ("/logs/CON/a%20b", None, ROOT, "any: FOUND/containers/APP/CON/a b.gz"),
    ("/logs/CON/a+b", None, ROOT, "any: FOUND/containers/APP/CON/a+b.gz"),
    ("/logs/CON/a%2Bb", None, ROOT, "any: FOUND/containers/APP/CON/a+b.gz"),
    ("/logs/CON/100%25", None, ROOT, "any: FOUND/containers/APP/CON/100%.gz"),
    ("/logs/CON/a%3Fb%23c%26d%3De", None, ROOT, "any: FOUND/containers/APP/CON/a?b#c&d=e.gz"),
    ("/logs/CON/%E6%97%A5%E8%AA%8C%20%F0%9F%98%80", None, ROOT, "any: FOUND/containers/APP/CON/日誌 😀.gz"),
    ("/logs/CON/日誌", None, ROOT, "any: FOUND/containers/APP/CON/日誌.gz"),
    ("/logs/CON/%73tderr", None, ROOT, "any: FOUND/containers/APP/CON/stderr.gz"),
    ("/logs/CON/~'\"", None, ROOT, "any: FOUND/containers/APP/CON/~'\".gz"),
    ("/logs/CON/...", None, ROOT, "any: FOUND/containers/APP/CON/....gz"),
    ("/logs/CON/.gz", None, ROOT, "any: FOUND/containers/APP/CON/.gz"),
    ("/logs/CON/stderrgz", None, ROOT, "any: FOUND/containers/APP/CON/stderrgz.gz"),
    ("/logs/CON/(A)*255", None, ROOT, "any: FOUND/containers/APP/CON/(A)*255.gz"),
    // A name that is encoded twice is decoded once: it contains a percent sign.
    ("/logs/CON/%252e%252e", None, ROOT, "any: FOUND/containers/APP/CON/%2e%2e.gz"),
    ("/logs/CON/..%252f..%252fsecret", None, ROOT, "any: FOUND/containers/APP/CON/..%2f..%2fsecret.gz"),
    ("/logs/CON/%255c", None, ROOT, "any: FOUND/containers/APP/CON/%5c.gz"),
    ("/logs/CON/%2500", None, ROOT, "any: FOUND/containers/APP/CON/%00.gz"),
    ("/logs/%252e%252e/stderr", None, ROOT, "no log"),
    // Listings.
    ("/logs/", None, EMR, "applications"),
    ("/logs/CLU/", None, EMR, "applications of CLU"),
    ("/logs/APP", None, EMR, "containers of APP"),
    ("/logs/APP/", None, EMR, "containers of APP"),
    ("/logs/CLU/containers/APP/", None, EMR, "containers of APP in CLU"),
    ("/elasticmapreduce/CLU/containers/APP/", None, EMR, "containers of APP in CLU"),
    ("/logs/CON", None, EMR, "files in any: elasticmapreduce/FOUND/containers/APP/CON/"),
    ("/logs/CON/", None, EMR, "files in any: elasticmapreduce/FOUND/containers/APP/CON/"),
    ("/other/CLU/containers/APP/CON/", None, TWO, "files in 1: other/CLU/containers/APP/CON/"),
    ("/logs/applications/SLS/jobs/JOB/SPARK_DRIVER/", None, ROOT, "files in any: applications/SLS/jobs/JOB/SPARK_DRIVER/"),
    ("/logs/VIR/jobs/JOB/containers/JOB-nkz5v/", None, ROOT, "files in any: VIR/jobs/JOB/containers/JOB-nkz5v/"),
    // Steps to the parent directory in every spelling.
    ("/logs/CON/..", None, ROOT, "malformed"),
    ("/logs/CON/.", None, ROOT, "malformed"),
    ("/logs/CON/../CON/stderr", None, ROOT, "malformed"),
    ("/logs/../logs/CON/stderr", None, ROOT, "malformed"),
    ("/logs/CON/%2e%2e", None, ROOT, "malformed"),
    ("/logs/CON/%2E.", None, ROOT, "malformed"),
    ("/logs/CON/%2e", None, ROOT, "malformed"),
    ("/logs/CON/..%2fstderr", None, ROOT, "malformed"),
    ("/logs/CON%2Fstderr", None, ROOT, "malformed"),
    ("/logs/CON/a%2Fb", None, ROOT, "malformed"),
    ("/logs/CON/a%5Cb", None, ROOT, "malformed"),
    ("/logs/CON/a\\b", None, ROOT, "malformed"),
    ("/logs/CON/..%5c..%5cx", None, ROOT, "malformed"),
    ("/elasticmapreduce/CLU/containers/APP/../APP/CON/stderr.gz", None, EMR, "history server"),
    ("/elasticmapreduce/../CLU/containers/APP/CON/stderr.gz", None, ROOT, "history server"),
    ("/elasticmapreduce%2FCLU/containers/APP/CON/stderr.gz", None, EMR, "history server"),
    // Empty names.
    ("/logs//CON/stderr", None, ROOT, "malformed"),
    ("/logs/CON//stderr", None, ROOT, "malformed"),
    ("/logs//", None, ROOT, "malformed"),
    ("//logs/CON/stderr", None, ROOT, "history server"),
    ("//CLU/containers/APP/CON/stderr.gz", None, ROOT, "history server"),
    ("/elasticmapreduce//CLU/containers/APP/CON/stderr.gz", None, EMR, "history server"),
    // Control characters, line ends, marks that turn the direction of text, blanks at an end.
    ("/logs/CON/stderr%00", None, ROOT, "malformed"),
    ("/logs/CON/stderr%00.gz", None, ROOT, "malformed"),
    ("/logs/CON/a%0D%0ALocation:%20x", None, ROOT, "malformed"),
    ("/logs/CON/a%0Ab", None, ROOT, "malformed"),
    ("/logs/CON/a\nb", None, ROOT, "malformed"),
    ("/logs/CON/a%09b", None, ROOT, "malformed"),
    ("/logs/CON/a%7Fb", None, ROOT, "malformed"),
    ("/logs/CON/a%C2%85b", None, ROOT, "malformed"),
    ("/logs/CON/a%E2%80%AEzg.rredts", None, ROOT, "malformed"),
    ("/logs/CON/a%E2%81%A6b", None, ROOT, "malformed"),
    ("/logs/CON/a%D8%9Cb", None, ROOT, "malformed"),
    ("/logs/CON/a%E2%80%8Fb", None, ROOT, "malformed"),
    ("/logs/CON/a%E2%80%A8b", None, ROOT, "malformed"),
    ("/logs/CON/%EF%BB%BFstderr", None, ROOT, "malformed"),
    ("/logs/CON/%20stderr", None, ROOT, "malformed"),
    ("/logs/CON/stderr%20", None, ROOT, "malformed"),
    ("/logs/CON/stderr%C2%A0", None, ROOT, "malformed"),
    ("/logs/CON/%20", None, ROOT, "malformed"),
    ("/logs/%20CON/stderr", None, ROOT, "malformed"),
    // Malformed encodings, and bytes that are not UTF-8.
    ("/logs/CON/stderr%", None, ROOT, "malformed"),
    ("/logs/CON/stderr%2", None, ROOT, "malformed"),
    ("/logs/CON/stderr%zz", None, ROOT, "malformed"),
    ("/logs/CON/%u002e", None, ROOT, "malformed"),
    ("/logs/CON/%+2", None, ROOT, "malformed"),
    ("/logs/CON/%ff", None, ROOT, "malformed"),
    ("/logs/CON/%c0%ae%c0%ae", None, ROOT, "malformed"),
    ("/logs/CON/%c0%af", None, ROOT, "malformed"),
    ("/logs/CON/%ed%a0%80", None, ROOT, "malformed"),
    ("/logs/CON/%E6%97", None, ROOT, "malformed"),
    // Too long.
    ("/logs/CON/(A)*256", None, ROOT, "malformed"),
    ("/logs/CON/(A)*5000", None, ROOT, "malformed"),
    ("/logs/(A)*4097", None, ROOT, "malformed"),
    ("/(A)*4097", None, ROOT, "history server"),
    ("/logs/(a/)*2048", None, ROOT, "no log"),
    ("/logs/(a/)*2049", None, ROOT, "malformed"),
    // Other objects below a log URI, such as logs of the cluster, are not served.
    ("/logs/CLU/node/i-0123456789abcdef0/applications/spark/spark.log.gz", None, EMR, "no log"),
    ("/logs/CLU/node/i-0123456789abcdef0/daemons/instance-state/instance-state.log.gz", None, EMR, "no log"),
    ("/logs/CLU/steps/s-0123456789ABC/stderr.gz", None, EMR, "no log"),
    ("/logs/CLU/daemons/i-0123456789abcdef0/x.gz", None, EMR, "no log"),
    ("/logs/CLU/hadoop-mapreduce/history/2026/11/22/000000/job.jhist.gz", None, EMR, "no log"),
    ("/elasticmapreduce/CLU/node/i-0123456789abcdef0/applications/spark/spark.log.gz", None, EMR, "history server"),
    ("/elasticmapreduce/CLU/steps/s-0123456789ABC/stderr.gz", None, EMR, "history server"),
    ("/CLU/steps/s-0123456789ABC/stderr.gz", None, ROOT, "history server"),
    ("/logs/CLU/containers/APP/CON/sub/stderr.gz", None, EMR, "no log"),
    ("/logs/CLU/containers/APP/stderr.gz", None, EMR, "no log"),
    ("/logs/CLU/containers/stderr.gz", None, EMR, "no log"),
    ("/logs/CLU/containers/", None, EMR, "no log"),
    ("/logs/CLU/stderr.gz", None, EMR, "no log"),
    ("/logs/CON/sub/stderr", None, EMR, "no log"),
    ("/logs/APP/stderr", None, EMR, "no log"),
    ("/logs/stderr", None, EMR, "no log"),
    ("/logs/secret.txt", None, ROOT, "no log"),
    ("/logs/applications/SLS/jobs/JOB/sparklogs/eventlog", None, ROOT, "no log"),
    ("/logs/applications/SLS/jobs/JOB/stderr.gz", None, ROOT, "no log"),
    ("/logs/applications/SLS/jobs/JOB/SPARK_EXECUTOR/stderr.gz", None, ROOT, "no log"),
    ("/logs/applications/SLS/jobs/JOB/SPARK_EXECUTOR/x/stderr.gz", None, ROOT, "no log"),
    ("/logs/applications/SLS/jobs/JOB/attempts/SPARK_DRIVER/stderr.gz", None, ROOT, "no log"),
    ("/logs/applications/SLS/jobs/JOB/HIVE_DRIVER/stderr.gz", None, ROOT, "no log"),
    ("/logs/applications/00ABCDEFGHIJ0001/jobs/JOB/SPARK_DRIVER/stderr.gz", None, ROOT, "no log"),
    ("/logs/VIR/jobs/JOB/containers/stderr.gz", None, ROOT, "no log"),
    ("/logs/VIR/jobs/JOB/containers/a/b/stderr.gz", None, ROOT, "no log"),
    ("/logs/VIR/jobs/JOB/containers/Pod/stderr.gz", None, ROOT, "no log"),
    ("/logs/VIR/jobs/JOB/containers/-pod/stderr.gz", None, ROOT, "no log"),
    ("/logs/VIR/jobs/JOB/spark/stderr.gz", None, ROOT, "no log"),
    // Malformed ids, and a container of another application.
    ("/logs/CLU/containers/application_1795352263709_0002/CON/stderr.gz", None, EMR, "no log"),
    ("/elasticmapreduce/CLU/containers/application_1795352263709_0002/CON/stderr.gz", None, EMR, "history server"),
    ("/logs/j-2axxxxxxgaplf/containers/APP/CON/stderr.gz", None, EMR, "no log"),
    ("/logs/j-/containers/APP/CON/stderr.gz", None, EMR, "no log"),
    ("/logs/container_1795352263709_0001_01/stderr", None, EMR, "no log"),
    ("/logs/container_x_1795352263709_0001_01_000002/stderr", None, EMR, "no log"),
    ("/logs/container_e_1795352263709_0001_01_000002/stderr", None, EMR, "no log"),
    ("/logs/container_e17_1795352263709_0001_01_000002_3/stderr", None, EMR, "no log"),
    ("/logs/container_1795352263709_001_01_000002/stderr", None, EMR, "no log"),
    ("/logs/container_0795352263709_0001_01_000002/stderr", None, EMR, "no log"),
    ("/logs/container_99999999999999999999_0001_01_000002/stderr", None, EMR, "no log"),
    ("/logs/container_1795352263709_0001_01_+00002/stderr", None, EMR, "no log"),
    ("/logs/container_1795352263709_0001_01_00000%D9%A2/stderr", None, EMR, "no log"),
    ("/logs/application_1795352263709_1/", None, EMR, "no log"),
    ("/logs/Container_1795352263709_0001_01_000002/stderr", None, EMR, "no log"),
    // The history server's own pages, and paths that only resemble ours.
    ("/", None, ROOT, "history server"),
    ("/", None, EMR, "history server"),
    ("/history/APP/jobs/", None, ROOT, "history server"),
    ("/api/v1/applications/APP/logs", None, ROOT, "history server"),
    ("/static/webui.css", None, ROOT, "history server"),
    ("/CLU/", None, ROOT, "history server"),
    ("/elasticmapreduce/CLU/", None, EMR, "history server"),
    ("/elasticmapreduce/", None, EMR, "history server"),
    ("/logsx/CON/stderr", None, EMR, "history server"),
    ("/LOGS/CON/stderr", None, EMR, "history server"),
    ("/%6cogs/CON/stderr", None, EMR, "history server"),
    ("/CON/stderr", None, ROOT, "history server"),
    ("/CLU/containers/APP/CON/stderr.gz", None, EMR, "history server"),
    ("/Elasticmapreduce/CLU/containers/APP/CON/stderr.gz", None, EMR, "history server"),
    ("/other/elasticmapreduce/CLU/containers/APP/CON/stderr.gz", None, EMR, "history server"),
    ("", None, ROOT, "history server"),
    ("*", None, ROOT, "history server"),
];

/// Where a request leads, in the words of the table.
fn said(path: &str, query: Option<&str>, prefixes: &[&str]) -> String {
    let route = match route(path, query, prefixes) {
        None => return "history server".into(),
        Some(Err(RouteError::Malformed)) => return "malformed".into(),
        Some(Err(RouteError::NotALog)) => return "no log".into(),
        Some(Ok(route)) => route,
    };
    let directory = |place| match place {
        LogDirectory::Container(container) => container_directory(CLUSTER, &container),
        LogDirectory::Directory(directory) => directory,
    };
    let under = route.log_uri.map_or("any".to_string(), |under| under.to_string());
    let prefix = prefixes[route.log_uri.unwrap_or(0)];
    let download = if route.download { "download " } else { "" };
    match route.request {
        LogRequest::Log(place, file) => {
            format!("{download}{under}: {prefix}{}{}", directory(place), stored_name(&file))
        }
        LogRequest::Files(place) => format!("files in {under}: {prefix}{}", directory(place)),
        LogRequest::Containers(application, None) => format!("containers of {application}"),
        LogRequest::Containers(application, Some(cluster)) => format!("containers of {application} in {cluster}"),
        LogRequest::Applications(None) => "applications".into(),
        LogRequest::Applications(Some(cluster)) => format!("applications of {cluster}"),
    }
}

fn spelled(text: &str) -> String {
    let text = text
        .replace("APP", "application_1795352263709_0001")
        .replace("CON", "container_1795352263709_0001_01_000002")
        .replace("CLU", "j-2AXXXXXXGAPLF")
        .replace("FOUND", CLUSTER)
        .replace("SLS", "00abcdefghij0001")
        .replace("VIR", "1234abcdefghij0001vcluster")
        .replace("JOB", "00f5trm1fv0d3p0b");
    // `(A)*255` stands for 255 times `A`.
    let Some((before, rest)) = text.split_once('(') else { return text };
    let (repeated, rest) = rest.split_once(")*").unwrap();
    let (count, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    format!("{before}{}{after}", repeated.repeat(count.parse().unwrap()))
}

#[test]
fn a_path_leads_to_its_log_or_nowhere() {
    let buckets = Bucket::both();
    for (path, query, prefixes, expected) in TABLE {
        let (path, expected) = (spelled(path), spelled(expected));
        assert_eq!(said(&path, *query, prefixes), expected, "{path} {query:?} {prefixes:?}");
        let log = assert_harmless(&path, *query, prefixes, &buckets);
        assert_eq!(log.as_deref(), expected.split_once(": ").map(|(_, key)| key).filter(|key| !key.ends_with('/')));
    }
}

/// Sources of an index: buckets and prefixes.
const SOURCES: &[(&str, &str)] = &[("acme", "spark-events/"), ("acme", "sls/team a/"), ("whole", "")];

/// A path, and which log of which source it means.
#[rustfmt::skip]
const OF_SOURCES: &[(&str, Option<&str>)] = &[
    ("/logs/s3/acme/sls/team%20a/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr", Some("1: applications/SLS/jobs/JOB/SPARK_DRIVER/stderr")),
    ("/logs/s3/acme/sls/team%20a/x/y/applications/SLS/jobs/JOB/SPARK_EXECUTOR/2/stdout.gz", Some("1: x/y/applications/SLS/jobs/JOB/SPARK_EXECUTOR/2/stdout.gz")),
    ("/logs/s3/whole/applications/SLS/jobs/JOB/attempts/2/SPARK_EXECUTOR/2/stdout", Some("2: applications/SLS/jobs/JOB/attempts/2/SPARK_EXECUTOR/2/stdout")),
    ("/logs/s3/whole/applications/SLS/jobs/JOB/SPARK_DRIVER/", Some("2: applications/SLS/jobs/JOB/SPARK_DRIVER/")),
    ("/logs/s3/whole/applications/applications/SLS/jobs/JOB/SPARK_DRIVER/stdout", Some("2: applications/applications/SLS/jobs/JOB/SPARK_DRIVER/stdout")),
    // Below no source, or of another bucket.
    ("/logs/s3/acme/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr", None),
    ("/logs/s3/acme/sls/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr", None),
    ("/logs/s3/other/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr", None),
    ("/logs/s3/Whole/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr", None),
    ("/s3/whole/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr", None),
    // Other objects of a source.
    ("/logs/s3/whole/applications/SLS/jobs/JOB/sparklogs/eventlog_v2_JOB/events_1_JOB", None),
    ("/logs/s3/whole/CLU/containers/APP/CON/stderr", None),
    ("/logs/s3/whole/VIR/jobs/JOB/containers/JOB-nkz5v/stdout", None),
    ("/logs/s3/whole/application_1_0001", None),
    ("/logs/s3/whole/applications/SLS/jobs/JOB/SPARK_DRIVER/x/stdout", None),
    ("/logs/s3/whole/applications/SLS/jobs/JOB/SPARK_EXECUTOR/x/stdout", None),
    ("/logs/s3/whole/applications/SLS/jobs/JOB/attempts/x/SPARK_DRIVER/stdout", None),
    ("/logs/s3/whole/applications/SLS/jobs/../SPARK_DRIVER/stdout", None),
    // One run within the directory of another.
    ("/logs/s3/whole/applications/SLS/jobs/JOB/applications/SLS/jobs/JOB/SPARK_DRIVER/stdout", None),
    ("/logs/s3/acme/spark-events/../sls/team%20a/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr", None),
    ("/logs/s3/acme/sls/team%20a/..%2fx/applications/SLS/jobs/JOB/SPARK_DRIVER/stderr", None),
    ("/logs/s3/whole//applications/SLS/jobs/JOB/SPARK_DRIVER/stdout", None),
    ("/logs/s3/whole/%2e%2e/applications/SLS/jobs/JOB/SPARK_DRIVER/stdout", None),
    ("/logs/s3/", None),
    ("/logs/s3/whole", None),
    ("/logs/s3/whole/", None),
];

fn said_of_source(path: &str) -> Option<String> {
    let route = route_of_source(path, None, SOURCES)?;
    let (place, file) = match route.request {
        LogRequest::Log(place, file) => (place, file),
        LogRequest::Files(place) => (place, String::new()),
        other => panic!("{path} leads to {other:?}"),
    };
    let LogDirectory::Directory(directory) = place else { panic!("{path} leads to a container") };
    Some(format!("{}: {directory}{file}", route.log_uri.unwrap()))
}

#[test]
fn below_a_source_only_logs_of_serverless_are_served() {
    for (path, expected) in OF_SOURCES {
        assert_eq!(said_of_source(&spelled(path)), expected.map(spelled), "{path}");
    }
    let of_run = Regex::new(
        r"\A[0-2]: ([^/]+/)*applications/[a-z0-9]{8,64}/jobs/[a-z0-9]{8,64}/(attempts/[0-9]{1,6}/)?(SPARK_DRIVER|SPARK_EXECUTOR/[0-9]{1,10})/[^/]*\z",
    );
    let (of_run, found) = (of_run.unwrap(), Cell::new(0));
    let cases = 20_000;
    let ran = runner(cases).run(
        &(select(&["acme/spark-events", "acme/sls/team%20a", "whole", "x"][..]), path()),
        |(at, path)| {
            if let Some(said) = said_of_source(&format!("/logs/s3/{at}{}", path.trim_start_matches("/logs"))) {
                found.set(found.get() + 1);
                prop_assert!(of_run.is_match(&said) && !said.contains(['\\', '\0', '\n']), "{said}");
                let key = said.split_once(": ").map_or("", |(_, key)| key);
                prop_assert!(key.split('/').all(|name| !matches!(name, "." | "..")), "{said}");
            }
            Ok(())
        },
    );
    ran.unwrap_or_else(|e| panic!("{e}"));
    assert!(found.get() > cases / 100, "only {} of {cases} led to a log", found.get());
}

const PREFIXES: &[&[&str]] = &[ROOT, EMR, DEEP, LOGS, TWO, &["a/b/c/", "", "logs/"]];

/// Names in paths that lead to logs.
#[rustfmt::skip]
const LEGAL: &[&str] = &[
    "logs", "elasticmapreduce", "j-2AXXXXXXGAPLF", "containers", "application_1795352263709_0001",
    "container_1795352263709_0001_01_000002", "container_e17_1795352263709_0001_01_000002", "applications",
    "00abcdefghij0001", "jobs", "attempts", "2", "SPARK_DRIVER", "SPARK_EXECUTOR", "spark-00f5trm1fv0d3p0b",
    "spark-00f5trm1fv0d3p0b-driver", "stderr", "stdout.gz", "teams", "data%20eng", "x%2520y", "%C3%A9", "emr",
    "other", "",
];

/// Pieces that attacks on URLs use.
#[rustfmt::skip]
const HOSTILE: &[&str] = &[
    "", ".", "..", "...", "%2e", "%2E%2e", "%252e", "%252e%252e", "%2f", "%2F", "%252f", "%5c", "\\", "%255C", "%00",
    "%0a", "%0d%0a", "%09", "%20", "%C2%A0", "%7f", "%c2%85", "%e2%80%ae", "%e2%80%a8", "%D8%9C", "%ef%bb%bf",
    "%c0%ae", "%c0%af", "%ff", "%", "%2", "%zz", "%u002e", "+", " ", "?", "#", ";", "&", "=", ":", "@", "*", "~", "|",
    "'", "\"", "<", ">", "node", "steps", "daemons", "é", "\u{202e}", "http:", "acme-logs.s3.amazonaws.com",
    "X-Amz-Signature=0", "response-content-type=text/html", "download=1",
];

/// Paths that lead to logs. The first two do so only below `/logs/`.
const SHAPES: &[&str] = &[
    "container_1795352263709_0001_01_000002/stderr",
    "container_e17_1795352263709_0001_01_000002/stderr.gz",
    "j-2AXXXXXXGAPLF/containers/application_1795352263709_0001/container_1795352263709_0001_01_000002/stderr",
    "j-2AXXXXXXGAPLF/containers/application_1795352263709_0001/container_e17_1795352263709_0001_01_000002/stdout.1.gz",
    "applications/00abcdefghij0001/jobs/00f5trm1fv0d3p0b/SPARK_DRIVER/stderr.gz",
    "applications/00abcdefghij0001/jobs/00f5trm1fv0d3p0b/attempts/2/SPARK_EXECUTOR/12/stdout.gz",
    "1234abcdefghij0001vcluster/jobs/00f5trm1fv0d3p0b/containers/00f5trm1fv0d3p0b-nkz5v/stderr.gz",
    "1234abcdefghij0001vcluster/jobs/00f5trm1fv0d3p0b/containers/spark-00f5trm1fv0d3p0b/pi.x-driver/stdout.gz",
];

/// A file name, or an attempt to pass something else off as one.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => select(LEGAL).prop_map(str::to_string),
        3 => select(HOSTILE).prop_map(str::to_string),
        3 => (select(HOSTILE), select(LEGAL), select(HOSTILE)).prop_map(|(a, b, c)| format!("{a}{b}{c}")),
        1 => "[ -~]{0,12}",
        1 => any::<String>(),
        1 => any::<Vec<u8>>().prop_map(|bytes| bytes.iter().map(|byte| format!("%{byte:02x}")).collect()),
        1 => (0..300_usize).prop_map(|length| "x".repeat(length)),
    ]
}

/// A change to one name of a path.
#[derive(Clone, Debug)]
enum Change {
    Replace(String),
    Insert(usize, String),
    Remove(usize),
    Encode(usize),
    Before(String),
    Drop,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        name().prop_map(Change::Replace),
        (any::<usize>(), name()).prop_map(|(at, text)| Change::Insert(at, text)),
        any::<usize>().prop_map(Change::Remove),
        any::<usize>().prop_map(Change::Encode),
        name().prop_map(Change::Before),
        Just(Change::Drop),
    ]
}

/// Mostly paths that lead to logs with one or two changes, sometimes random names.
fn path() -> impl Strategy<Value = String> {
    let root = prop_oneof![
        2 => Just("/logs/"),
        1 => select(&["/", "/elasticmapreduce/", "/logs/emr/", "/teams/data%20eng/x%2520y/%C3%A9/", "/a/b/c/", "//", ""][..]),
    ];
    let changes = proptest::collection::vec((any::<usize>(), change()), 0..3);
    let changed = (select(SHAPES), changes).prop_map(|(shape, changes)| {
        let mut names: Vec<String> = shape.split('/').map(str::to_string).collect();
        for (at, change) in changes {
            // The file name, which is last, allows the most characters, so it is changed more often.
            let at = (at % (names.len() * 2 + 1)).min(names.len().saturating_sub(1));
            apply(&mut names, at, change);
        }
        names.join("/")
    });
    let random = proptest::collection::vec(name(), 0..8).prop_map(|names| names.join("/"));
    (root, prop_oneof![4 => changed, 1 => random]).prop_map(|(root, rest)| format!("{root}{rest}"))
}

fn apply(names: &mut Vec<String>, at: usize, change: Change) {
    let Some(name) = names.get_mut(at) else { return };
    let place = |nth: usize| name.char_indices().map(|(i, _)| i).nth(nth % name.chars().count().max(1)).unwrap_or(0);
    match change {
        Change::Replace(other) => *name = other,
        Change::Insert(nth, text) => name.insert_str(place(nth), &text),
        Change::Remove(nth) if !name.is_empty() => drop(name.remove(place(nth))),
        Change::Encode(nth) if !name.is_empty() => {
            let at = place(nth);
            let c = name.remove(at);
            let encoded: String = c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
            name.insert_str(at, &encoded);
        }
        Change::Remove(_) | Change::Encode(_) => {}
        Change::Before(other) => names.insert(at, other),
        Change::Drop => drop(names.remove(at)),
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn any_request_leads_to_a_log_or_nothing() {
    let buckets = Bucket::both();
    let query = proptest::option::of(proptest::collection::vec(name(), 0..4).prop_map(|names| names.join("&")));
    let (cases, logs) = (10_000, Cell::new(0));
    let ran = runner(cases).run(&(path(), query, select(PREFIXES)), |(path, query, prefixes)| {
        let log = assert_harmless(&path, query.as_deref(), prefixes, &buckets);
        logs.set(logs.get() + u32::from(log.is_some()));
        Ok(())
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
    assert!(logs.get() > cases / 10, "only {} of {cases} led to a log", logs.get());
}

#[test]
fn a_log_is_found_by_every_spelling_of_its_name() {
    // All characters but slash and backslash, and some of Unicode that are read from left or from right.
    let plain = [' '..='.', '0'..='[', ']'..='~'];
    let far = ['\u{a1}'..='\u{61b}', '\u{61d}'..='\u{6ff}', '\u{4e00}'..='\u{9fff}', '\u{1f600}'..='\u{1f64f}'];
    let character = prop_oneof![
        4 => proptest::char::ranges(plain.to_vec().into()),
        1 => proptest::char::ranges(far.to_vec().into()),
    ];
    let name = proptest::collection::vec((character, any::<bool>()), 1..60);
    let inputs = (select(SHAPES), name, select(PREFIXES), any::<prop::sample::Index>());
    let ran = runner(5_000).run(&inputs, |(shape, name, prefixes, under)| {
        let blank = |(c, _): &&(char, bool)| c.is_whitespace();
        let (left, right) = (name.iter().take_while(blank).count(), name.iter().rev().take_while(blank).count());
        let name = name.get(left..name.len() - right).unwrap_or_default();
        let file: String = name.iter().map(|(c, _)| *c).collect();
        prop_assume!(!matches!(&*file, "" | "." | ".."));
        let (directory, _) = shape.rsplit_once('/').unwrap();
        let encode = |c: char| c.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let spelled: String =
            name.iter().map(|(c, how)| if *how || "%?#".contains(*c) { encode(*c) } else { c.to_string() }).collect();
        let is_short = directory.starts_with("container_");
        let found =
            if is_short { format!("{CLUSTER}/containers/application_1795352263709_0001/") } else { String::new() };
        let key = |prefix: &str| format!("{prefix}{found}{directory}/{}", stored_name(&file));
        prop_assert_eq!(
            said(&format!("/logs/{directory}/{spelled}"), None, prefixes),
            format!("any: {}", key(prefixes[0]))
        );

        if !is_short {
            let i = under.index(prefixes.len());
            let encoded: String = prefixes[i].chars().map(|c| if c == '/' { "/".into() } else { encode(c) }).collect();
            let path = format!("/{encoded}{directory}/{spelled}");
            prop_assert_eq!(said(&path, None, prefixes), format!("{i}: {}", key(prefixes[i])));
        }
        Ok(())
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
}
