//! Which log a URL means: paths in, S3 keys out. Pure, so that one table can test all of it.
//!
//! Only these shapes lead to S3; whatever else a bucket holds has no URL here. Below `/logs/`,
//! and (all but the first two) below the log URI's own prefix, as the shell script that AWS
//! publishes has them:
//!
//! | path | is |
//! |---|---|
//! | `container_…/stderr` | a log of YARN; its cluster is found |
//! | `container_…/`, `application_…/`, `` | listings |
//! | `j-…/containers/application_…/container_…/stderr.gz` | the same, spelled out (facts §5.1) |
//! | `applications/…/jobs/…[/attempts/n]/SPARK_DRIVER/stderr`, `…/SPARK_EXECUTOR/n/…` | EMR Serverless (facts §5.2) |
//! | `…/jobs/…/containers/[spark-…/]pod/stderr` | EMR on EKS (facts §5.3) |

use crate::ids::{Application, Container, is_cluster, is_digits, is_id, is_pod, is_spark_application};
use percent_encoding::percent_decode_str;

/// The longest path that is looked at, in bytes. S3 keys have at most 1,024.
const LONGEST: usize = 4096;
/// The longest name of one file, in bytes, as on Linux.
const LONGEST_NAME: usize = 255;

/// A directory of logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogDirectory {
    /// One whose cluster has to be found.
    Container(Container),
    /// One that is spelled out below a log URI; ends in a slash.
    Directory(String),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogRequest {
    /// One log. The name is as asked for: `stderr` is stored as `stderr.gz`.
    Log(LogDirectory, String),
    /// The logs in a directory.
    Files(LogDirectory),
    /// The containers of an application; the cluster only where the path names it.
    Containers(Application, Option<String>),
    /// The applications of a cluster; of this node's own where the path names none.
    Applications(Option<String>),
}

/// A path that means a log or a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What is asked for.
    pub ask: LogRequest,
    /// The log URI whose prefix the path begins with (the long form); else all are meant.
    pub under: Option<usize>,
    /// The object as it is stored, and not as text in the page.
    pub download: bool,
}

/// Why a path below `/logs/` means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// It cannot be decoded to names, or holds what no log's path does.
    Malformed,
    /// It has none of the shapes.
    NotALog,
}

/// Finds out what a path asks for. `prefixes` are those of the log URIs, each empty or ending in
/// a slash. `None` means that it is no business of the gateway, but the history server's.
pub fn route(path: &str, query: Option<&str>, prefixes: &[&str]) -> Option<Result<Route, RouteError>> {
    let download = query.is_some_and(|q| q.split('&').any(|pair| pair == "download=1"));
    let route = |(ask, under)| Route { ask, under, download };
    let Some(rest) = path.strip_prefix("/logs/") else {
        return spelled_out(path, prefixes).map(route).map(Ok);
    };
    let found = below(rest).and_then(|names| short(&names).or_else(|| long(&names)).ok_or(RouteError::NotALog));
    // A log URI's own prefix may begin with `logs/`, too.
    Some(found.map(|ask| (ask, None)).or_else(|bad| spelled_out(path, prefixes).ok_or(bad)).map(route))
}

/// The long form: only where all of it has the right shape is it ours.
fn spelled_out(path: &str, prefixes: &[&str]) -> Option<(LogRequest, Option<usize>)> {
    let names = below(path.strip_prefix('/')?).ok()?;
    prefixes.iter().enumerate().find_map(|(i, prefix)| {
        let depth = prefix.split('/').filter(|name| !name.is_empty()).count();
        let (head, rest) = names.split_at_checked(depth)?;
        let same = head.iter().map(String::as_str).eq(prefix.split('/').filter(|name| !name.is_empty()));
        match long(rest).filter(|_| same)? {
            // A bare `/` or `/j-…/` would hide pages of the history server.
            LogRequest::Applications(_) => None,
            ask => Some((ask, Some(i))),
        }
    })
}

/// Splits a path into names, each decoded once. A slash at the end gives an empty last name.
fn below(path: &str) -> Result<Vec<String>, RouteError> {
    if path.len() > LONGEST {
        return Err(RouteError::Malformed);
    }
    let names = path.split('/').map(decode).collect::<Option<Vec<_>>>().ok_or(RouteError::Malformed)?;
    let inner_empty = names.iter().rev().skip(1).any(String::is_empty);
    if inner_empty { Err(RouteError::Malformed) } else { Ok(names) }
}

/// One name, decoded once, if nobody on the way to S3 could read it as something else.
fn decode(raw: &str) -> Option<String> {
    let bytes = raw.as_bytes();
    let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
    let sound = (0..bytes.len()).all(|i| bytes[i] != b'%' || hex(i + 1) && hex(i + 2));
    let name = percent_decode_str(raw).decode_utf8().ok().filter(|_| sound)?;
    let plain = name != "." && name != ".." && name.trim() == name && name.len() <= LONGEST_NAME;
    let harmless = !name.contains(['/', '\\']) && !name.chars().any(is_odd);
    (plain && harmless).then(|| name.into_owned())
}

/// Control characters, line separators, and the marks that turn the direction of what is read.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn short(names: &[String]) -> Option<LogRequest> {
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

/// The shapes below a log URI.
fn long(names: &[String]) -> Option<LogRequest> {
    let names = strs(names);
    let (file, directory) = names.split_last()?;
    let file = if file.is_empty() { None } else { Some((*file).to_string()) };
    let ask = |fits: bool| {
        let place = || LogDirectory::Directory(directory.iter().flat_map(|name| [name, "/"]).collect());
        fits.then(|| match file.clone() {
            Some(file) => LogRequest::Log(place(), file),
            None => LogRequest::Files(place()),
        })
    };
    match directory {
        [cluster] if is_cluster(cluster) && file.is_none() => Some(LogRequest::Applications(Some((*cluster).into()))),
        [cluster, "containers", application] if is_cluster(cluster) && file.is_none() => {
            Some(LogRequest::Containers(Application::parse(application)?, Some((*cluster).into())))
        }
        [cluster, "containers", application, container] if is_cluster(cluster) => {
            ask(Container::parse(container)?.application == Application::parse(application)?)
        }
        ["applications", application, "jobs", job, rest @ ..] => {
            let worker = match rest {
                ["attempts", n, worker @ ..] if is_digits(n, 1..=6) => worker,
                worker => worker,
            };
            let is_worker = match worker {
                ["SPARK_DRIVER"] => true,
                ["SPARK_EXECUTOR", n] => is_digits(n, 1..=10),
                _ => false,
            };
            ask(is_worker && is_id(application) && is_id(job))
        }
        [cluster, "jobs", job, "containers", rest @ ..] if is_id(cluster) && is_id(job) => ask(match rest {
            [pod] => is_pod(pod),
            [application, pod] => is_spark_application(application) && is_pod(pod),
            _ => false,
        }),
        _ => None,
    }
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// The directory of a container's logs below a log URI.
pub fn container_directory(cluster: &str, container: &Container) -> String {
    [cluster, "/containers/", &container.application.to_string(), "/", &container.id, "/"].concat()
}

/// The name a log is stored under: EMR compresses what it archives.
pub fn stored_name(file: &str) -> String {
    if file.ends_with(".gz") { file.into() } else { format!("{file}.gz") }
}
