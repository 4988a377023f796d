//! What the archive of this cluster's container logs answers. These functions list and read, and write nothing.

use super::answers::Answer;
use crate::aws::config::TimeoutProfile;
use crate::aws::s3::{Refusal, S3};
use crate::aws::uri::EventLogs;
use crate::change::receipt::Receipt;
use crate::error::Fault;
use crate::host::Host;
use crate::node::Node;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeSet;

/// How many containers' files are listed.
const CONTAINERS: usize = 5;

/// The content type and the encoding of an archived log.
pub(super) fn types(host: &Host) -> Result<Answer> {
    let (s3, directory) = archive(host)?;
    let key = s3.first_object(&directory).map_err(told)?.context("there is no container log yet")?;
    let (content_type, encoding) = s3.types(&directory, &key).map_err(told)?;
    let shown = |value: Option<String>| value.map_or("none".to_string(), |value| format!("“{value}”"));
    let file = key.rsplit('/').next().unwrap_or_default();
    Ok(Answer::whole(format!("{file}: Content-Type {}, Content-Encoding {}", shown(content_type), shown(encoding))))
}

/// The names of the files of some containers of the newest application.
pub(super) fn names(host: &Host) -> Result<Answer> {
    let (s3, directory) = archive(host)?;
    let below = |directory: &EventLogs, name: &str| EventLogs {
        prefix: format!("{}{}/", directory.prefix, name.trim_end_matches('/')),
        ..directory.clone()
    };
    let applications = s3.list(&directory, 1).map_err(told)?.directories;
    let application = applications.last().context("there is no container log yet")?;
    let application = below(&directory, application);
    let containers = s3.list(&application, 1).map_err(told)?.directories;
    let mut files = BTreeSet::new();
    for container in containers.iter().take(CONTAINERS) {
        let listing = s3.list(&below(&application, container), 1).map_err(told)?;
        files.extend(listing.objects.into_iter().map(|object| object.name));
    }
    let files: Vec<String> = files.into_iter().collect();
    Ok(Answer::partial(format!(
        "{} applications listed; {} containers of the last one have these files: {}",
        applications.len(),
        containers.len().min(CONTAINERS),
        files.join(", ")
    )))
}

/// A connection to the archive, and the directory of this cluster's containers.
fn archive(host: &Host) -> Result<(S3, EventLogs)> {
    if !host.is_live() {
        bail!("S3 is not asked about a directory given with --root");
    }
    let settings = Receipt::load(host)?.settings;
    let uri = settings.log_uri().context("the receipt names no log URI: no log gateway is installed")?;
    let (node, _) = Node::read_leniently(host);
    let cluster = node.identity.cluster_id.clone().context("no file of this node names its cluster")?;
    let connection =
        node.s3_connection(&uri.clone().into(), settings.region.as_deref(), settings.endpoint_url.as_deref());
    let mut s3 = connection.open(TimeoutProfile::Short)?;
    let spellings: Vec<EventLogs> = uri
        .spellings()
        .into_iter()
        .map(|uri| EventLogs { prefix: format!("{}{cluster}/containers/", uri.prefix), ..uri.into() })
        .collect();
    let first = spellings.first().context("the log URI has no spelling")?;
    s3.find_bucket(first).map_err(told)?;
    for directory in spellings {
        if s3.first_object(&directory).map_err(told)?.is_some() {
            return Ok((s3, directory));
        }
    }
    bail!("there is no container log yet")
}

fn told(refusal: Refusal) -> anyhow::Error {
    let Fault { message, details, .. } = refusal.fault;
    anyhow!("{}", [vec![message], details].concat().join("; "))
}
