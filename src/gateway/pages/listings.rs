//! Pages that list applications, containers and logs.

use super::parts::{Absence, FileRow};
use super::{Layout, respond};
use crate::gateway::archive::{Object, Unanswered};
use crate::gateway::history_server::api::ApplicationInfo;
use crate::gateway::http::Body;
use crate::gateway::route::LogDirectory;
use crate::gateway::served::Served;
use crate::ids::Container;
use askama::Template;
use hyper::{Response, StatusCode};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How many rows a page shows. A longer page is slow to load and to read.
const MAX_ROWS: usize = 1000;

#[derive(Template)]
#[template(path = "applications.html")]
struct Applications<'a> {
    layout: Layout,
    rows: Vec<ApplicationRow<'a>>,
    application_count: usize,
    clusters: Vec<&'a str>,
    cluster_count: usize,
}

struct ApplicationRow<'a> {
    href: String,
    id: &'a str,
    name: &'a str,
}

/// The applications of a cluster, newest first. `names` come from the history server.
pub(in crate::gateway) fn applications(
    cluster: &str,
    is_own_cluster: bool,
    mut ids: Vec<String>,
    names: &BTreeMap<String, String>,
    clusters: &[String],
    gaps: &[Unanswered],
    served: &Served,
) -> Response<Body> {
    ids.sort_unstable_by_key(|id| Reverse(numbers(id)));
    let row = |id| ApplicationRow {
        href: if is_own_cluster { format!("/logs/{id}/") } else { format!("/logs/{cluster}/containers/{id}/") },
        id,
        name: names.get(id).map_or("", String::as_str),
    };
    let mut other_clusters: Vec<&str> = clusters.iter().map(String::as_str).filter(|id| *id != cluster).collect();
    let cluster_count = other_clusters.len();
    other_clusters.truncate(MAX_ROWS);
    let page = Applications {
        layout: Layout::new(format!("Executor logs of {cluster}")).with_gaps(gaps).within_clusters(served),
        rows: ids.iter().take(MAX_ROWS).map(|id| row(id)).collect(),
        application_count: ids.len(),
        clusters: other_clusters,
        cluster_count,
    };
    respond(StatusCode::OK, &page)
}

/// The two numbers in `application_<timestamp>_<number>`. As text, 10000 would sort before 9999.
fn numbers(id: &str) -> (u64, u64) {
    let mut parts = id.split('_').skip(1).map(|number| number.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[derive(Template)]
#[template(path = "containers.html")]
struct Containers<'a> {
    layout: Layout,
    rows: Vec<ContainerRow<'a>>,
    complete: bool,
    absence: Option<Absence<'a>>,
    directory: String,
}

struct ContainerRow<'a> {
    id: &'a str,
    /// `driver`, `executor 3`, or empty.
    role: &'a str,
    files: Vec<FileRow<'a>>,
}

/// The containers of an application, with their logs. `complete` tells whether `objects` are all
/// that S3 contains.
pub(in crate::gateway) fn containers(
    id: &str,
    cluster: &str,
    objects: &[Object],
    complete: bool,
    application: &ApplicationInfo,
    gaps: &[Unanswered],
    served: &Served,
) -> Response<Body> {
    let mut by_container: BTreeMap<&str, Vec<FileRow>> = BTreeMap::new();
    let mut hidden = 0;
    for object in objects {
        if let Some((container, name)) = object.name.split_once('/').filter(|(id, _)| Container::parse(id).is_some()) {
            let files = by_container.entry(container).or_default();
            match served.has_file(name) {
                true => files.push(FileRow::of_container(container, name, object)),
                false => hidden += 1,
            }
        }
    }
    let title = match &application.name {
        Some(name) => format!("{id}: {name}"),
        None => id.to_string(),
    };
    let status = if by_container.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let page = Containers {
        layout: Layout::new(title).below(Some(cluster.into())).with_gaps(gaps).without_files(hidden, served),
        absence: by_container.is_empty().then(|| Absence::of(application)),
        rows: by_container
            .into_iter()
            .map(|(id, files)| ContainerRow { id, role: application.roles.get(id).map_or("", String::as_str), files })
            .collect(),
        complete,
        directory: format!("{cluster}/containers/{id}/"),
    };
    respond(status, &page)
}

#[derive(Template)]
#[template(path = "files.html")]
struct Files<'a> {
    layout: Layout,
    files: Vec<FileRow<'a>>,
    absence: Option<Absence<'a>>,
    location: &'a str,
}

/// The logs in a directory.
pub(in crate::gateway) fn files(
    directory: &LogDirectory,
    location: &str,
    objects: &[Object],
    application: &ApplicationInfo,
    gaps: &[Unanswered],
    served: &Served,
) -> Response<Body> {
    let (files, hidden) = FileRow::of_directory(directory, objects, served);
    let (title, parent) = match directory {
        LogDirectory::Container(container) => {
            (format!("Logs of {}", container.id), Some(container.application.to_string()))
        }
        LogDirectory::Directory(path) => (format!("Logs in {path}"), None),
    };
    let page = Files {
        layout: Layout::new(title).below(parent).with_gaps(gaps).without_files(hidden, served),
        files,
        absence: objects.is_empty().then(|| Absence::of(application)),
        location,
    };
    respond(if objects.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK }, &page)
}
