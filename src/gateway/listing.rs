//! Listings: reads directories from the archive and names from the history server, and makes pages
//! of them. A log URI that does not answer takes nothing from the page but its own part, and the page names it.

use super::archive::{Archive, Failures, LogError, Objects, Whereabouts};
use super::history_server::api::ApplicationInfo;
use super::http::Body;
use super::pages::{self, Message};
use super::route::{self, LogDirectory, LogRequest};
use crate::ids::{Application, is_cluster};
use hyper::{Response, StatusCode};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The page of a listing. `log_uri` limits it to one log URI; `names` are those of applications.
pub(super) async fn page(
    archive: &Archive,
    request: &LogRequest,
    log_uri: Option<usize>,
    application: &ApplicationInfo,
    names: &BTreeMap<String, String>,
) -> Result<Response<Body>, LogError> {
    match request {
        LogRequest::Applications(cluster) => applications(archive, names, cluster.as_deref()).await,
        LogRequest::Containers(id, cluster) => containers(archive, id, cluster.as_deref(), log_uri, application).await,
        LogRequest::Files(directory) | LogRequest::Log(directory, _) => {
            files(archive, directory, log_uri, application).await
        }
    }
}

/// The applications of a cluster: the one in the path, this node's own, or the first one there is.
async fn applications(
    archive: &Archive,
    names: &BTreeMap<String, String>,
    cluster: Option<&str>,
) -> Result<Response<Body>, LogError> {
    let listed = archive.clusters().await;
    let directories = listed.given.iter().flat_map(|(_, list)| list.names.iter());
    let clusters: BTreeSet<String> =
        directories.filter(|name| is_cluster(name) && archive.served.has_cluster(name)).cloned().collect();
    archive.gaps(&listed, clusters.is_empty())?;
    let own_cluster = archive.own_cluster.as_deref();
    let Some(cluster) = cluster.or(own_cluster).or(clusters.first().map(String::as_str)) else {
        return Ok(Message::new(StatusCode::NOT_FOUND, "There are no logs of clusters under the gateway's log URIs")
            .response());
    };
    let of_cluster = archive.applications(cluster, &listed).await;
    let (_, failures) = listed.into_parts();
    let listed = of_cluster.and(failures);
    let mut ids: Vec<String> = listed.given.iter().flat_map(|(_, list)| list.names.iter()).cloned().collect();
    ids.retain(|id| Application::parse(id).is_some());
    ids.sort_unstable();
    ids.dedup();
    let gaps = match archive.gaps(&listed, ids.is_empty()) {
        Ok(gaps) => gaps,
        // The page still lists other clusters, and names the log URIs that do not answer.
        Err(LogError::Incomplete(gaps)) => gaps,
        Err(error) => return Err(error),
    };
    let clusters: Vec<String> = clusters.iter().cloned().collect();
    Ok(pages::applications(cluster, own_cluster == Some(cluster), ids, names, &clusters, &gaps, &archive.served))
}

/// Where the logs of an application can be.
struct Place {
    buckets: Range<usize>,
    cluster: String,
    failures: Failures,
}

impl Place {
    async fn of(archive: &Archive, application: &Application) -> Result<Self, LogError> {
        Ok(match archive.cluster(application).await? {
            Whereabouts::On(found) => {
                Self { buckets: found.bucket..found.bucket + 1, cluster: found.id, failures: Failures::default() }
            }
            // Nothing is there that could be listed.
            Whereabouts::Nowhere { own, failures } => Self { buckets: 0..0, cluster: own.id, failures },
        })
    }
}

async fn containers(
    archive: &Archive,
    id: &Application,
    cluster: Option<&str>,
    log_uri: Option<usize>,
    application: &ApplicationInfo,
) -> Result<Response<Body>, LogError> {
    let place = match cluster {
        Some(cluster) if archive.can_have_logs(id) => {
            Place { buckets: archive.buckets_of(log_uri), cluster: cluster.to_string(), failures: Failures::default() }
        }
        _ => Place::of(archive, id).await?,
    };
    let listed = archive.list_all(place.buckets, &format!("{}/containers/{id}/", place.cluster)).await;
    let listed = listed.and(place.failures);
    let Objects { objects, complete } = first_with_objects(&listed.given);
    let gaps = archive.gaps(&listed, objects.is_empty())?;
    Ok(pages::containers(&id.to_string(), &place.cluster, &objects, complete, application, &gaps, &archive.served))
}

async fn files(
    archive: &Archive,
    directory: &LogDirectory,
    log_uri: Option<usize>,
    application: &ApplicationInfo,
) -> Result<Response<Body>, LogError> {
    let is_impossible = directory.application().is_some_and(|application| !archive.can_have_logs(&application));
    let (place, path) = match directory {
        LogDirectory::Directory(path) => {
            let buckets = if is_impossible { 0..0 } else { archive.buckets_of(log_uri) };
            (Place { buckets, cluster: String::new(), failures: Failures::default() }, path.clone())
        }
        LogDirectory::Container(container) => {
            let place = Place::of(archive, &container.application).await?;
            let path = route::container_directory(&place.cluster, container);
            (place, path)
        }
    };
    let shown_bucket = place.buckets.start;
    let listed = archive.list(place.buckets, &path).await.and(place.failures);
    let Objects { objects, .. } = first_with_objects(&listed.given);
    let gaps = archive.gaps(&listed, objects.is_empty())?;
    let with_objects = listed.given.iter().find(|(_, list)| !list.objects.is_empty());
    let uri = &archive.buckets[with_objects.map_or(shown_bucket, |(bucket, _)| *bucket)].uri;
    let location = format!("s3://{}/{}{path}", uri.bucket, uri.prefix);
    Ok(pages::files(directory, &location, &objects, application, &gaps, &archive.served))
}

/// The objects of the first log URI that has any.
fn first_with_objects(given: &[(usize, Objects)]) -> Objects {
    let lists = || given.iter().map(|(_, list)| list);
    let first = lists().find(|list| !list.objects.is_empty()).or_else(|| lists().next()).cloned();
    first.unwrap_or(Objects { objects: [].into(), complete: true })
}
