//! The list of applications: `keeper` brings the index up to date, again and again, `reader` reads it, `api` answers as the
//! history server's REST API does, and `page` makes the page of it.

mod api;
mod dates;
mod keeper;
mod page;
mod query;
mod reader;
mod status;
mod turns;

pub(in crate::gateway) use status::Status;

use crate::aws::endpoint::StoreAddress;
use crate::aws::uri::EventLogs;
use crate::error::Fault;
use crate::gateway::base;
use crate::gateway::credentials::CredentialsCache;
use crate::gateway::http::{Body, redirect};
use crate::gateway::limits::{
    MAX_INDEX_QUERIES, MAX_INDEX_QUERIES_OF_CLIENT, MAX_SENT_LISTS, MAX_SENT_LISTS_OF_CLIENT,
};
use crate::gateway::pages;
use crate::gateway::shares::{Client, Share, Shares};
use crate::host::Host;
use crate::index::{MOST_SOURCES, Requests, Store, source_name, without_covered};
use crate::paths::{GATEWAY_APPLICATIONS, GATEWAY_STATE_DIR};
use crate::shown::hint;
use anyhow::Result;
use api::ApiRequest;
use hyper::Response;
use keeper::Keeper;
use reader::AllReaders;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the history server's own page lies, because the list takes its place.
pub(in crate::gateway) const HISTORY_SERVER: &str = "/history-server";

/// A request for what the index changes.
pub(in crate::gateway) enum ListRequest {
    /// The list of applications, with the query of its address.
    Page(Option<String>),
    Api(ApiRequest),
    /// The history server's own page.
    HistoryServer,
    /// That page without the slash at the end of its path.
    ToHistoryServer,
}

impl ListRequest {
    /// `None` if the index has nothing to do with a path.
    pub(in crate::gateway) fn of(path: &str, query: Option<&str>) -> Option<Self> {
        match path.strip_prefix(HISTORY_SERVER) {
            Some("") => return Some(Self::ToHistoryServer),
            Some(rest) if rest.starts_with('/') => return Some(Self::HistoryServer),
            _ => {}
        }
        match path {
            "/" => Some(Self::Page(query.map(str::to_string))),
            path => ApiRequest::of(path, query).map(Self::Api),
        }
    }
}

/// What the gateway needs to keep an index.
pub(in crate::gateway) struct IndexSettings {
    pub(in crate::gateway) sources: Vec<Place>,
    pub(in crate::gateway) file: Option<PathBuf>,
    pub(in crate::gateway) look_interval: Duration,
    pub(in crate::gateway) listing_interval: Duration,
}

/// A source, and how its bucket is reached.
#[derive(Clone)]
pub(in crate::gateway) struct Place {
    pub(in crate::gateway) uri: EventLogs,
    pub(in crate::gateway) store: StoreAddress,
    /// `None` for the region that the SDK finds.
    pub(in crate::gateway) region: Option<String>,
}

impl Place {
    fn name(&self) -> String {
        source_name(&self.uri)
    }
}

/// The index, and what answers from it.
pub(in crate::gateway) struct Applications {
    readers: AllReaders,
    status: Arc<Status>,
    /// Lists that are sent at the same time.
    lists: Shares,
    /// Queries for a page, or for one application.
    queries: Shares,
    keeper: Mutex<Option<keeper::Running>>,
}

impl Applications {
    /// Opens the index and begins to keep it.
    pub(in crate::gateway) fn start(settings: IndexSettings, credentials: Arc<CredentialsCache>) -> Result<Arc<Self>> {
        let sources = without_covered(settings.sources, |place| &place.uri);
        if sources.len() > MOST_SOURCES {
            return Err(Fault::usage(format!(
                "--event-logs: the gateway takes at most {MOST_SOURCES} prefixes, found {}",
                sources.len()
            ))
            .hint("name a prefix above them: the layout below it does not matter")
            .into());
        }
        let is_own = settings.file.is_none();
        let file = match settings.file {
            Some(file) => file,
            None => own_file()?,
        };
        let store = if is_own { Store::open_own(&file)? } else { Store::open(&file)? };
        if let Some(why) = store.writing_refused() {
            return Err(Fault::failed(why).hint("name another file: --index-db FILE, or end the other emr-shs").into());
        }
        if let Some(why) = store.replaced() {
            eprintln!(
                "warning: {} could not be used ({why}), so the gateway has begun a new index there",
                file.display()
            );
        }
        store.prepare_list()?;
        pages::begin_with_list();
        let status = Arc::new(Status::new(Arc::new(Requests::default())));
        let readers = AllReaders::new(file, status.clone());
        let keeper = Keeper {
            store,
            places: sources,
            status: status.clone(),
            credentials,
            look_interval: settings.look_interval,
            listing_interval: settings.listing_interval,
        };
        let keeper = Mutex::new(Some(keeper.start()?));
        let lists = Shares::new(MAX_SENT_LISTS, MAX_SENT_LISTS_OF_CLIENT);
        let queries = Shares::new(MAX_INDEX_QUERIES, MAX_INDEX_QUERIES_OF_CLIENT);
        Ok(Arc::new(Self { readers, status, lists, queries, keeper }))
    }

    /// The answer to a request; an error if the index cannot be read now. The share is kept until the answer is sent.
    pub(in crate::gateway) async fn answer(
        &self,
        client: Client,
        request: ListRequest,
        share: Share,
    ) -> Result<Response<Body>> {
        let is_list = matches!(request, ListRequest::Api(ApiRequest::List(_)));
        let shares = if is_list { &self.lists } else { &self.queries };
        let Some(room) = shares.take(client) else { return Ok(pages::busy().response()) };
        match request {
            ListRequest::Page(query) => self.page(self.readers.of(client.key()), query.as_deref()).await,
            ListRequest::Api(request) => api::respond(self.readers.of(client.key()), request, (share, room)).await,
            ListRequest::HistoryServer | ListRequest::ToHistoryServer => {
                Ok(redirect(base::link(base::path(), &format!("{HISTORY_SERVER}/"))))
            }
        }
    }

    /// How many requests had no room, by what they needed.
    pub(in crate::gateway) fn refused(&self) -> [(&'static str, u64); 2] {
        [("lists", self.lists.refused()), ("queries", self.queries.refused())]
    }

    pub(in crate::gateway) fn status(&self) -> &Status {
        &self.status
    }

    /// Ends what the keeper does, and waits for it.
    pub(in crate::gateway) async fn stop(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            keeper.stop().await;
        }
    }
}

/// The index in the gateway's own state directory.
fn own_file() -> Result<PathBuf> {
    let host = Host::new(Path::new("/"));
    let own = nix::unistd::geteuid().as_raw();
    let meta = host.metadata(Path::new(GATEWAY_STATE_DIR)).ok().flatten();
    if meta.is_some_and(|meta| meta.is_dir() && meta.uid() == own) {
        return Ok(GATEWAY_APPLICATIONS.into());
    }
    Err(Fault::usage("--event-logs needs a file for the index")
        .detail(format!("the gateway's unit has {GATEWAY_STATE_DIR}, which does not belong to this account"))
        .hint(hint!("name a file: --index-db {}", "/var/tmp/emr-shs-index.sqlite"))
        .into())
}
