//! The allow-list of URLs: which log or listing a path means. No I/O, so that one table tests all of it.
//!
//! Only these forms lead to S3. Nothing else in a bucket can be reached through the gateway. Paths of
//! the short form begin with `/logs/`:
//!
//! | path | means |
//! |---|---|
//! | `container_…/stderr` | a log of YARN; the gateway searches its cluster |
//! | `container_…/`, `application_…/`, `` | listings of logs, containers, applications |
//!
//! Paths of the long form begin with `/logs/` or with the prefix of a log URI. The links of the proxy
//! script that AWS publishes begin with the prefix.
//!
//! | path | means |
//! |---|---|
//! | `j-…/containers/application_…/container_…/stderr.gz` | a log of YARN (docs/emr.md §5.1) |
//! | `applications/…/jobs/…[/attempts/n]/SPARK_DRIVER/stderr`, `…/SPARK_EXECUTOR/n/…` | a log of EMR Serverless (docs/emr.md §5.3) |
//! | `…/jobs/…/containers/[spark-…/]pod/stderr` | a log of EMR on EKS (docs/emr.md §5.4) |
//!
//! Below a source of the index, which need not be a log URI, only logs of EMR Serverless are served. Their paths name the bucket:
//!
//! | path | means |
//! |---|---|
//! | `/logs/s3/bucket/…/applications/…/jobs/…[/attempts/n]/SPARK_DRIVER/stderr`, `…/SPARK_EXECUTOR/n/…` | a log of EMR Serverless |

use crate::ids::{Application, Container, JobRun, is_cluster, is_digits, is_id, is_pod, is_spark_application};
use percent_encoding::percent_decode_str;

/// The longest path that can mean a log, in bytes: S3 keys have at most 1,024, and percent encoding
/// makes each byte three.
const MAX_PATH: usize = 4096;
/// The longest name between two slashes, in bytes: Linux allows no longer file name.
const MAX_NAME: usize = 255;
/// Begins the paths that name a bucket.
pub(crate) const BUCKETS: &str = "/logs/s3/";

/// A directory of logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogDirectory {
    /// The directory of a container. The archive finds its cluster.
    Container(Container),
    /// A path under a log URI; ends in a slash.
    Directory(String),
}

impl LogDirectory {
    /// The application on YARN to which the directory belongs.
    pub(crate) fn application(&self) -> Option<Application> {
        match self {
            Self::Container(container) => Some(container.application.clone()),
            Self::Directory(path) => match path.split('/').collect::<Vec<_>>()[..] {
                [_, "containers", application, ..] => Application::parse(application),
                _ => None,
            },
        }
    }
}

/// The log or listing that a path names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogRequest {
    /// One log, by the name in the path. See [`stored_name`].
    Log(LogDirectory, String),
    /// The logs in a directory.
    Files(LogDirectory),
    /// The containers of an application, and its cluster if the path contains it.
    Containers(Application, Option<String>),
    /// The applications of a cluster; of this node's own cluster if the path contains none.
    Applications(Option<String>),
}

/// A path that names a log or a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The log or listing that the path names.
    pub request: LogRequest,
    /// The index of the log URI whose prefix the path begins with. `None` means all log URIs.
    pub log_uri: Option<usize>,
    /// Deliver the object as S3 stores it, for download, and not as text.
    pub download: bool,
}

/// Why a path under `/logs/` means no log and no listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The path cannot be decoded, or contains a name that no log has.
    Malformed,
    /// The path has none of the forms.
    NotALog,
}

/// Finds the log or listing that a path means. `prefixes` are those of the log URIs, each empty or
/// ending in a slash. `None` means that the path belongs to the history server.
pub fn route(path: &str, query: Option<&str>, prefixes: &[&str]) -> Option<Result<Route, RouteError>> {
    let download = is_download(query);
    let route = |(request, log_uri)| Route { request, log_uri, download };
    let Some(rest) = path.strip_prefix("/logs/") else {
        return under_log_uri(path, prefixes).map(route).map(Ok);
    };
    let found =
        decode_path(rest).and_then(|names| short_form(&names).or_else(|| long_form(&names)).ok_or(RouteError::NotALog));
    // The prefix of a log URI can begin with `logs/`, too.
    Some(found.map(|request| (request, None)).or_else(|e| under_log_uri(path, prefixes).ok_or(e)).map(route))
}

fn is_download(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "download=1"))
}

/// Finds the log of EMR Serverless that a path with a bucket means, below one of some sources: each a bucket, and a prefix that is
/// empty or ends in a slash. `None` if the path means no such log. `Route::log_uri` is the position of the source.
pub fn route_of_source(path: &str, query: Option<&str>, sources: &[(&str, &str)]) -> Option<Route> {
    let names = decode_path(path.strip_prefix(BUCKETS)?).ok()?;
    let (bucket, names) = names.split_first()?;
    sources.iter().enumerate().filter(|(_, (of, _))| of == bucket).find_map(|(i, (_, prefix))| {
        let below = strs(below(names, prefix)?);
        let (file, directory) = below.split_last()?;
        let run = JobRun::of_path(directory)?;
        let request = log_or_files(directory, file);
        is_worker(&directory[run.length..]).then(|| Route { request, log_uri: Some(i), download: is_download(query) })
    })
}

/// The names behind those of a prefix.
fn below<'n>(names: &'n [String], prefix: &str) -> Option<&'n [String]> {
    let of_prefix = || prefix.split('/').filter(|name| !name.is_empty());
    let (head, rest) = names.split_at_checked(of_prefix().count())?;
    head.iter().map(String::as_str).eq(of_prefix()).then_some(rest)
}

/// The long form under the prefix of a log URI. All other paths belong to the history server.
fn under_log_uri(path: &str, prefixes: &[&str]) -> Option<(LogRequest, Option<usize>)> {
    let names = decode_path(path.strip_prefix('/')?).ok()?;
    prefixes.iter().enumerate().find_map(|(i, prefix)| {
        match long_form(below(&names, prefix)?)? {
            // If a log URI has no prefix, the path `/j-…/` would hide a page of the history server, so it stays
            // the history server's.
            LogRequest::Applications(_) => None,
            request => Some((request, Some(i))),
        }
    })
}

/// Splits a path into names and decodes each once. After a slash at the end, the last name is empty.
fn decode_path(path: &str) -> Result<Vec<String>, RouteError> {
    if path.len() > MAX_PATH {
        return Err(RouteError::Malformed);
    }
    let names = path.split('/').map(decode_name).collect::<Option<Vec<_>>>().ok_or(RouteError::Malformed)?;
    let inner_empty = names.iter().rev().skip(1).any(String::is_empty);
    if inner_empty { Err(RouteError::Malformed) } else { Ok(names) }
}

/// Decodes one name. `None` if a browser, a proxy or S3 could read the name as something else, or if
/// a reader could see something else.
fn decode_name(encoded: &str) -> Option<String> {
    let bytes = encoded.as_bytes();
    // Most names are nothing but these, and most requests are for logs.
    if bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) && bytes.len() <= MAX_NAME {
        return Some(encoded.into());
    }
    let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
    let well_formed = (0..bytes.len()).all(|i| bytes[i] != b'%' || hex(i + 1) && hex(i + 2));
    let name = percent_decode_str(encoded).decode_utf8().ok().filter(|_| well_formed)?;
    let plain = name != "." && name != ".." && name.trim() == name && name.len() <= MAX_NAME;
    let unambiguous = !name.contains(['/', '\\']) && !name.chars().any(is_misleading);
    (plain && unambiguous).then(|| name.into_owned())
}

/// Control characters, line separators, the byte order mark, and the marks that reverse the direction
/// of a text.
fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The forms without a cluster.
fn short_form(names: &[String]) -> Option<LogRequest> {
    match strs(names).as_slice() {
        [""] => Some(LogRequest::Applications(None)),
        [name] | [name, ""] if name.starts_with("application_") => {
            Some(LogRequest::Containers(Application::parse(name)?, None))
        }
        [name] | [name, ""] => Some(LogRequest::Files(LogDirectory::Container(Container::parse(name)?))),
        [name, file] => Some(LogRequest::Log(LogDirectory::Container(Container::parse(name)?), (*file).into())),
        _ => None,
    }
}

/// The forms that name the whole path under a log URI.
fn long_form(names: &[String]) -> Option<LogRequest> {
    let names = strs(names);
    let (file, directory) = names.split_last()?;
    let log_or_files = |is_valid: bool| is_valid.then(|| log_or_files(directory, file));
    match directory {
        [cluster] if is_cluster(cluster) && file.is_empty() => Some(LogRequest::Applications(Some((*cluster).into()))),
        [cluster, "containers", application] if is_cluster(cluster) && file.is_empty() => {
            Some(LogRequest::Containers(Application::parse(application)?, Some((*cluster).into())))
        }
        [cluster, "containers", application, container] if is_cluster(cluster) => {
            log_or_files(Container::parse(container)?.application == Application::parse(application)?)
        }
        ["applications", ..] => {
            let run = JobRun::of_path(directory).filter(|run| run.before == 0)?;
            log_or_files(is_worker(&directory[run.length..]))
        }
        [cluster, "jobs", job, "containers", rest @ ..] if is_id(cluster) && is_id(job) => log_or_files(match rest {
            [pod] => is_pod(pod),
            [application, pod] => is_spark_application(application) && is_pod(pod),
            _ => false,
        }),
        _ => None,
    }
}

/// Whether these names are the directory of a driver or an executor of EMR Serverless.
fn is_worker(names: &[&str]) -> bool {
    match names {
        ["SPARK_DRIVER"] => true,
        ["SPARK_EXECUTOR", n] => is_digits(n, 1..=10),
        _ => false,
    }
}

/// A log, or all logs of the directory if the name is empty.
fn log_or_files(directory: &[&str], file: &str) -> LogRequest {
    let directory = LogDirectory::Directory(directory.iter().flat_map(|name| [name, "/"]).collect());
    if file.is_empty() { LogRequest::Files(directory) } else { LogRequest::Log(directory, file.into()) }
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// The directory of a container's logs under a log URI.
pub fn container_directory(cluster: &str, container: &Container) -> String {
    [cluster, "/containers/", &container.application.to_string(), "/", &container.id, "/"].concat()
}

/// The name of a log in S3: EMR compresses the logs that it archives.
pub fn stored_name(file: &str) -> String {
    if file.ends_with(".gz") { file.into() } else { format!("{file}.gz") }
}
