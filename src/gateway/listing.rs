//! Listings: reads directories from the archive and names from the history server, and makes pages
//! of them.

use super::archive::{Archive, ClusterLocation, LogError};
use super::history_server::api::ApplicationInfo;
use super::history_server::proxy::HistoryServerProxy;
use super::http::Body;
use super::pages::{self, Message};
use super::route::{self, LogDirectory, LogRequest};
use crate::ids::{Application, is_cluster};
use hyper::{Response, StatusCode};

/// The page of a listing. `log_uri` limits it to one log URI.
pub(super) async fn page(
    archive: &Archive,
    history_server: &HistoryServerProxy,
    request: &LogRequest,
    log_uri: Option<usize>,
    application: &ApplicationInfo,
) -> Result<Response<Body>, LogError> {
    match request {
        LogRequest::Applications(cluster) => applications(archive, history_server, cluster.as_deref()).await,
        LogRequest::Containers(id, cluster) => containers(archive, id, cluster.as_deref(), log_uri, application).await,
        LogRequest::Files(directory) | LogRequest::Log(directory, _) => {
            files(archive, directory, log_uri, application).await
        }
    }
}

/// The applications of a cluster: the one in the path, this node's own, or the first one there is.
async fn applications(
    archive: &Archive,
    history_server: &HistoryServerProxy,
    cluster: Option<&str>,
) -> Result<Response<Body>, LogError> {
    let mut clusters = Vec::new();
    for (i, bucket) in archive.buckets.iter().enumerate() {
        clusters.extend(archive.directories(i, &bucket.uri.prefix).await?);
    }
    clusters.retain(|name| is_cluster(name));
    let own_cluster = archive.own_cluster.as_deref();
    let Some(cluster) = cluster.or(own_cluster).or(clusters.first().map(String::as_str)) else {
        return Ok(Message::new(StatusCode::NOT_FOUND, "There are no logs of clusters under the gateway's log URIs")
            .response());
    };
    let mut ids = Vec::new();
    for (i, bucket) in archive.buckets.iter().enumerate() {
        ids.extend(archive.directories(i, &format!("{}{cluster}/containers/", bucket.uri.prefix)).await?);
    }
    ids.retain(|id| Application::parse(id).is_some());
    let names = history_server.application_names().await;
    Ok(pages::applications(cluster, own_cluster == Some(cluster), ids, &names, &clusters))
}

async fn containers(
    archive: &Archive,
    id: &Application,
    cluster: Option<&str>,
    log_uri: Option<usize>,
    application: &ApplicationInfo,
) -> Result<Response<Body>, LogError> {
    let (buckets, cluster) = match cluster {
        Some(cluster) => (archive.buckets_of(log_uri), cluster.to_string()),
        None => {
            let ClusterLocation { bucket, id } = archive.cluster(id).await?;
            (bucket..bucket + 1, id)
        }
    };
    let (mut objects, mut complete) = (Vec::new(), true);
    for bucket in buckets {
        let prefix = format!("{}{cluster}/containers/{id}/", archive.buckets[bucket].uri.prefix);
        (objects, complete) = archive.list_all(bucket, &prefix).await?;
        if !objects.is_empty() {
            break;
        }
    }
    Ok(pages::containers(&id.to_string(), &cluster, &objects, complete, application))
}

async fn files(
    archive: &Archive,
    directory: &LogDirectory,
    log_uri: Option<usize>,
    application: &ApplicationInfo,
) -> Result<Response<Body>, LogError> {
    let (buckets, path) = match directory {
        LogDirectory::Directory(path) => (archive.buckets_of(log_uri), path.clone()),
        LogDirectory::Container(container) => {
            let ClusterLocation { bucket, id } = archive.cluster(&container.application).await?;
            (bucket..bucket + 1, route::container_directory(&id, container))
        }
    };
    let (mut objects, mut location) = (Vec::new(), String::new());
    for bucket in buckets {
        let uri = &archive.buckets[bucket].uri;
        let prefix = format!("{}{path}", uri.prefix);
        objects = archive.list(bucket, &prefix).await?;
        location = format!("s3://{}/{prefix}", uri.bucket);
        if !objects.is_empty() {
            break;
        }
    }
    Ok(pages::files(directory, &location, &objects, application))
}
