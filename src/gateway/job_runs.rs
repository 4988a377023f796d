//! The logs that a job run of EMR Serverless has written, beside its event log below a source of the index. The links in what the
//! history server sends of the run lead there.

use super::archive::Archive;
use super::base;
use super::history_server::run_links::RunLinks;
use super::presign::encode_value;
use super::route::{BUCKETS, LogDirectory, LogRequest, Route, route_of_source};
use crate::index::run_directory;

/// Finds the log of a job run that a path means; `None` if it means none below a source.
pub(super) fn route(archive: &Archive, path: &str, query: Option<&str>) -> Option<Route> {
    // Most paths are not below a source, and a redirect has to be fast.
    let mut route = path.starts_with(BUCKETS).then(|| route_of_source(path, query, &sources(archive)))??;
    route.log_uri = route.log_uri.map(|source| archive.bucket_of_source(source));
    Some(route)
}

/// The links to the logs of the executors of the run that has written this event log. `None` if the log is not of EMR
/// Serverless, or if it lies below no source.
pub(super) fn links(archive: &Archive, bucket: &str, key: &str) -> Option<RunLinks> {
    path(&sources(archive), bucket, key).map(|path| RunLinks::new(format!("{}{path}", base::path())))
}

fn sources(archive: &Archive) -> Vec<(&str, &str)> {
    archive.sources().iter().map(|source| (source.uri.bucket.as_str(), source.uri.prefix.as_str())).collect()
}

/// The path of a run on the gateway. A run has none if the name of one of its directories cannot be in a path.
fn path(sources: &[(&str, &str)], bucket: &str, key: &str) -> Option<String> {
    let of_source =
        |(of, prefix): &(&str, &'_ str)| Some((prefix.len(), key.strip_prefix(prefix)?)).filter(|_| *of == bucket);
    let (length, below) = sources.iter().find_map(of_source)?;
    let directory = run_directory(below)?;
    let names = key[..length + directory.len()].split_inclusive('/');
    let names: String = names.map(|name| format!("{}/", encode_value(name.trim_end_matches('/')))).collect();
    let path = format!("{BUCKETS}{bucket}/{names}");
    // Whoever writes event logs chooses the names of directories.
    let driver = route_of_source(&format!("{path}SPARK_DRIVER/"), None, sources)?;
    let leads_there = driver.request == LogRequest::Files(LogDirectory::Directory(format!("{directory}SPARK_DRIVER/")));
    leads_there.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::path;

    const RUN: &str = "applications/00f5trm1fv0d3p0b/jobs/00f5trm1fv0d3p0c/";
    const SOURCES: &[(&str, &str)] = &[("acme", "spark-events/"), ("acme", "serverless/"), ("whole", "")];

    #[test]
    fn the_logs_of_a_run_lie_beside_its_event_log() {
        let log = "sparklogs/eventlog_v2_00f5trm1fv0d3p0c/";
        for (bucket, directory, link) in [
            ("acme", format!("serverless/{RUN}"), Some(format!("/logs/s3/acme/serverless/{RUN}"))),
            (
                "acme",
                format!("serverless/{RUN}attempts/2/"),
                Some(format!("/logs/s3/acme/serverless/{RUN}attempts/2/")),
            ),
            (
                "acme",
                format!("serverless/team a/é/{RUN}"),
                Some(format!("/logs/s3/acme/serverless/team%20a/%C3%A9/{RUN}")),
            ),
            ("whole", RUN.into(), Some(format!("/logs/s3/whole/{RUN}"))),
            ("whole", format!("100%2f/{RUN}"), Some(format!("/logs/s3/whole/100%252f/{RUN}"))),
            // Below no source.
            ("acme", RUN.into(), None),
            ("acme", format!("serverless2/{RUN}"), None),
            ("other", format!("serverless/{RUN}"), None),
            // Names that mean something else in a path.
            ("whole", format!("../{RUN}"), None),
            ("whole", format!("a/./{RUN}"), None),
            ("whole", format!("a//{RUN}"), None),
            ("whole", format!("a\\b/{RUN}"), None),
            ("whole", format!("a\nb/{RUN}"), None),
            ("whole", format!(" /{RUN}"), None),
            ("whole", "applications/00f5trm1fv0d3p0b/jobs/\"><script>/".into(), None),
            ("whole", "applications/../jobs/00f5trm1fv0d3p0c/".into(), None),
        ] {
            assert_eq!(path(SOURCES, bucket, &format!("{directory}{log}")), link, "{bucket} {directory}");
        }
        assert_eq!(path(SOURCES, "acme", "spark-events/application_1_0001"), None);
    }
}
