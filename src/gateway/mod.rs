//! The log gateway: a click on *stderr* in the history server leads here, and from here to a
//! presigned URL of the log that EMR has archived in S3.
//!
//! A request goes through [`Gateway::answer`] from top to bottom: who asks (`access`), what for
//! (`route`), where that is (`archive`), and the answer: a presigned URL (`presign`), the bytes
//! (`stream`), a page (`pages`), or the history server's own (`front`).

pub mod access;
pub mod archive;
pub mod credentials;
pub mod history_server;
pub mod metrics;
pub mod pages;
pub mod presign;
pub mod route;
pub mod server;
pub mod stream;
pub mod tls;

use crate::ids;
use crate::settings::Mode;
use access::{Addresses, HostNames, Users};
use archive::{Archive, Location, LogError};
use bytes::Bytes;
use credentials::{CredentialsCache, Session};
use history_server::api::ApplicationInfo;
use history_server::proxy::HistoryServerProxy;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use metrics::{Metrics, Outcome};
use pages::Page;
use presign::{LatestSigner, encode_value};
use route::{LogDirectory, LogRequest, RouteError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// How long a presigned URL is good for, unless its credentials end sooner. It is signed for one
/// click, and some bucket policies limit the age of signatures.
const URL_LIFE: Duration = Duration::from_secs(300);

/// What the answers' bodies fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is at hand.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Headers of every answer that is the gateway's own.
pub fn own_headers(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// The gateway, as all its connections share it.
pub struct Gateway {
    /// The log URIs.
    pub archive: Arc<Archive>,
    /// The node's credentials.
    pub keeper: Arc<CredentialsCache>,
    /// The history server.
    pub front: HistoryServerProxy,
    /// Redirect or stream.
    pub mode: Mode,
    /// The names it answers to.
    pub names: HostNames,
    /// This node's addresses.
    pub own: Addresses,
    /// Whether others than this node's own addresses are served.
    pub open: bool,
    /// Whom it lets in, where a login is wanted.
    pub users: Option<Arc<Users>>,
    /// How many logins may still be checked at the same time.
    pub logins: Semaphore,
    /// What people type on their own machine to come from this node itself.
    pub tunnel: String,
    /// What it counts.
    pub metrics: Metrics,
    /// One for each log URI.
    pub signers: Vec<LatestSigner>,
}

impl Gateway {
    /// Answers a request. Gives what became of it, too.
    pub async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> (Response<Body>, Outcome) {
        if request.uri().path() == "/-/style.css" {
            // Refusals want to be read, too.
            return self.own_page(request.uri().path());
        }
        if let Some(refusal) = self.refusal(peer, &request) {
            return (refusal.answer(), Outcome::Refused);
        }
        if let Some(answer) = self.login(&request).await {
            return (answer, Outcome::Refused);
        }
        let path = request.uri().path();
        if path.starts_with("/-/") {
            return self.own_page(path);
        }
        if path == "/logs" {
            return (moved("/logs/".into()), Outcome::Page);
        }
        let prefixes: Vec<&str> = self.archive.stores.iter().map(|store| store.uri.prefix.as_str()).collect();
        match route::route(path, request.uri().query(), &prefixes) {
            None => self.history_server(request).await,
            Some(Err(bad)) => (not_a_log(bad).answer(), Outcome::NotFound),
            Some(Ok(route)) => {
                let asked =
                    RequestContext { method: request.method(), headers: request.headers(), download: route.download };
                match &route.ask {
                    LogRequest::Log(place, file) => self.log(place, file, route.under, &asked).await,
                    ask => self.listing(ask, route.under).await,
                }
            }
        }
    }

    /// What must be so before anything else is looked at.
    fn refusal(&self, peer: SocketAddr, request: &Request<Incoming>) -> Option<Page> {
        if !self.open && !self.own.contain(peer.ip()) {
            return Some(
                Page::new(StatusCode::FORBIDDEN, "This gateway serves its own node only")
                    .text(&format!("You come from {}, which is not an address of this node. Through an ssh tunnel or ssh's SOCKS proxy you would come from the node itself:", access::plain(peer.ip())))
                    .code(&self.tunnel)
                    .text("To let others in, give it TLS and a login, on the node:")
                    .code("sudo emr-shs proxy install --tls-cert /etc/emr-shs/chain.pem --tls-key /etc/emr-shs/key.pem --htpasswd /etc/emr-shs/users"),
            );
        }
        if request.uri().authority().is_some() || request.uri().scheme().is_some() {
            return Some(Page::new(StatusCode::BAD_REQUEST, "This is not a proxy for other hosts"));
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        match (hosts.next().and_then(|h| h.to_str().ok()), hosts.next()) {
            (Some(host), None) if self.names.contain(host, &self.own) => {}
            (Some(host), None) => {
                return Some(
                    Page::new(StatusCode::MISDIRECTED_REQUEST, "This gateway does not go by that name")
                        .text(&format!("Your browser asked for “{host}”. If that is a name of this node, tell the gateway all its further names, on the node:"))
                        .code("sudo emr-shs proxy install --host-name NAME --host-name ANOTHER"),
                );
            }
            _ => return Some(Page::new(StatusCode::BAD_REQUEST, "The request names no host, or more than one")),
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        (!reads).then(|| Page::new(StatusCode::METHOD_NOT_ALLOWED, "There is nothing to change here"))
    }

    async fn login(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let users = self.users.clone().filter(|_| request.uri().path() != "/-/healthz")?;
        let given = request.headers().get(header::AUTHORIZATION).and_then(|a| a.to_str().ok()).map(str::to_string);
        if let Some(given) = given {
            if users.remember(&given) {
                return None;
            }
            // It takes a core, and memory, for a tenth of a second.
            let Ok(_one) = self.logins.try_acquire() else {
                let busy = Page::new(StatusCode::SERVICE_UNAVAILABLE, "Too many people log in at this moment");
                return Some(busy.text("Try again in a second.").answer());
            };
            let known = tokio::task::spawn_blocking(move || users.know(&given)).await;
            if known.unwrap_or(false) {
                return None;
            }
        }
        let mut answer = Page::new(StatusCode::UNAUTHORIZED, "A login is needed").answer();
        let challenge = HeaderValue::from_static("Basic realm=\"emr-shs\", charset=\"UTF-8\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        Some(answer)
    }

    /// `/-/…`: for monitoring, and the pages' style.
    fn own_page(&self, path: &str) -> (Response<Body>, Outcome) {
        let left = self.keeper.current().map(|session| session.left(SystemTime::now()));
        let (status, kind, text) = match path {
            "/-/style.css" => (StatusCode::OK, "text/css; charset=utf-8", pages::STYLE.into()),
            "/-/healthz" => (StatusCode::OK, "text/plain", "ok\n".into()),
            "/-/readyz" => match (left.is_some(), self.archive.stores.iter().all(|s| s.known_client().is_some())) {
                (true, true) => (StatusCode::OK, "text/plain", "ready\n".into()),
                (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "no credentials\n".into()),
                (_, false) => {
                    (StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{}\n", self.archive.unreachable_reason()))
                }
            },
            "/-/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", self.metrics.text(left)),
            _ => return (Page::new(StatusCode::NOT_FOUND, "There is no such page").answer(), Outcome::NotFound),
        };
        let mut answer = Response::new(full(text));
        *answer.status_mut() = status;
        own_headers(answer.headers_mut());
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        (answer, Outcome::Page)
    }

    async fn history_server(&self, request: Request<Incoming>) -> (Response<Body>, Outcome) {
        match self.front.pass(request, self.users.is_some()).await {
            Ok(answer) => (answer, Outcome::History),
            Err(e) => {
                let page = Page::new(StatusCode::BAD_GATEWAY, "The history server does not answer")
                    .text("Executor logs open all the same. On the node, this tells more:")
                    .code("sudo emr-shs status")
                    .text(&format!("{e:#}"));
                (page.answer(), Outcome::Unavailable)
            }
        }
    }

    async fn log(
        &self,
        place: &LogDirectory,
        file: &str,
        under: Option<usize>,
        asked: &RequestContext<'_>,
    ) -> (Response<Body>, Outcome) {
        let found = match self.archive.known(place, file, under) {
            Some(at) => Ok(at),
            None => self.archive.find(place, file, under).await,
        };
        let given = match found {
            Ok(at) => self.give(&at, place, asked).await,
            Err(e) => Err(e),
        };
        match given {
            Ok(answer) => answer,
            Err(trouble) => {
                let ask = LogRequest::Log(place.clone(), file.into());
                let run = self.front.info_of(&ask).await;
                (pages::trouble(&trouble, &ask, &self.archive, &run).answer(), outcome(&trouble))
            }
        }
    }

    /// Gives a log that is there.
    async fn give(
        &self,
        at: &Location,
        place: &LogDirectory,
        asked: &RequestContext<'_>,
    ) -> Result<(Response<Body>, Outcome), LogError> {
        let store = &self.archive.stores[at.store];
        let way = store.way().await?;
        let attachment = asked.download.then(|| attachment(at, place));
        if self.mode == Mode::Stream {
            let streamed = stream::log(way, &store.uri.bucket, at, asked.headers, attachment.as_deref()).await;
            return match streamed {
                Ok(answer) => Ok((answer, Outcome::Stream)),
                Err(e) => Err(self.archive.refused(at, &e).await),
            };
        }
        let session = self.keeper.session().await.map_err(LogError::NoCredentials)?;
        let now = SystemTime::now();
        let signer = self.signers[at.store].get(&session, now, &way.address, &way.region);
        let life = url_life(&session, now).ok_or_else(|| LogError::NoCredentials("they end this second".into()))?;
        let zipped = at.key.ends_with(".gz");
        let overrides: &[(&str, &str)] = match (&attachment, zipped) {
            (Some(attachment), _) => &[
                ("response-content-disposition", attachment),
                // Else a browser would unpack it on the way.
                ("response-content-encoding", "identity"),
                ("response-content-type", if zipped { "application/gzip" } else { "application/octet-stream" }),
            ],
            (None, true) => {
                &[("response-content-encoding", "gzip"), ("response-content-type", "text/plain; charset=utf-8")]
            }
            (None, false) => &[("response-content-type", "text/plain; charset=utf-8")],
        };
        let url = signer.url(asked.method.as_str(), &at.key, overrides, now, life);
        Ok((moved(url), Outcome::Redirect))
    }

    async fn listing(&self, ask: &LogRequest, under: Option<usize>) -> (Response<Body>, Outcome) {
        let run = self.front.info_of(ask).await;
        match self.list(ask, under, &run).await {
            Ok(page) => (page.answer(), Outcome::Page),
            Err(trouble) => (pages::trouble(&trouble, ask, &self.archive, &run).answer(), outcome(&trouble)),
        }
    }

    async fn list(&self, ask: &LogRequest, under: Option<usize>, run: &ApplicationInfo) -> Result<Page, LogError> {
        let archive = &self.archive;
        let prefix = |store: usize| &archive.stores[store].uri.prefix;
        match ask {
            LogRequest::Applications(cluster) => {
                let own = archive.own_cluster.as_deref();
                let mut others = Vec::new();
                for store in 0..archive.stores.len() {
                    others.extend(archive.directories(store, prefix(store)).await?);
                }
                others.retain(|name| ids::is_cluster(name));
                let Some(cluster) = cluster.as_deref().or(own).or(others.first().map(String::as_str)) else {
                    return Ok(Page::new(StatusCode::NOT_FOUND, "No cluster has logs below the log URI"));
                };
                let mut ids = Vec::new();
                for store in 0..archive.stores.len() {
                    ids.extend(archive.directories(store, &format!("{}{cluster}/containers/", prefix(store))).await?);
                }
                ids.retain(|id| ids::Application::parse(id).is_some());
                Ok(pages::applications(
                    cluster,
                    own == Some(cluster),
                    ids,
                    &self.front.names_of_applications().await,
                    &others,
                ))
            }
            LogRequest::Containers(application, cluster) => {
                let (stores, cluster) = match cluster {
                    Some(cluster) => (archive.stores_of(under), cluster.clone()),
                    None => {
                        let (store, cluster) = archive.cluster(application).await?.unwrap_or_else(|| archive.own());
                        (store..store + 1, cluster)
                    }
                };
                let (mut files, mut whole) = (Vec::new(), true);
                for store in stores {
                    let below = format!("{}{cluster}/containers/{application}/", prefix(store));
                    (files, whole) = archive.list_all(store, &below).await?;
                    if !files.is_empty() {
                        break;
                    }
                }
                Ok(pages::containers(&application.to_string(), &cluster, &files, whole, run))
            }
            LogRequest::Files(place) | LogRequest::Log(place, _) => {
                let (stores, directory) = match place {
                    LogDirectory::Directory(directory) => (archive.stores_of(under), directory.clone()),
                    LogDirectory::Container(container) => {
                        let found = archive.cluster(&container.application).await?;
                        let (store, cluster) = found.unwrap_or_else(|| archive.own());
                        (store..store + 1, route::container_directory(&cluster, container))
                    }
                };
                let (mut files, mut location) = (Vec::new(), String::new());
                for store in stores {
                    let below = format!("{}{directory}", prefix(store));
                    files = archive.list(store, &below).await?;
                    location = format!("s3://{}/{below}", archive.stores[store].uri.bucket);
                    if !files.is_empty() {
                        break;
                    }
                }
                Ok(pages::files(place, &location, &files, run))
            }
        }
    }
}

/// A request for a log.
struct RequestContext<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    download: bool,
}

/// How long a URL can be good for from the second that `now` lies in.
fn url_life(session: &Session, now: SystemTime) -> Option<Duration> {
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = session.left(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    let life = left.map_or(URL_LIFE, |left| left.min(URL_LIFE));
    (life.as_secs() > 0).then_some(life)
}

/// A redirect, or nothing but a refusal.
fn moved_or_refused(to: Option<String>) -> Response<Body> {
    match to {
        Some(to) => moved(to),
        None => Page::new(StatusCode::MISDIRECTED_REQUEST, "This gateway does not go by that name").answer(),
    }
}

fn moved(to: String) -> Response<Body> {
    let mut answer = Response::new(empty());
    *answer.status_mut() = StatusCode::FOUND;
    own_headers(answer.headers_mut());
    match HeaderValue::try_from(to) {
        Ok(to) => drop(answer.headers_mut().insert(header::LOCATION, to)),
        Err(_) => *answer.status_mut() = StatusCode::NOT_FOUND,
    }
    answer
}

/// `attachment` and a name for the file: its container's, so that ten stderrs can be told apart.
fn attachment(at: &Location, place: &LogDirectory) -> String {
    let file = at.key.rsplit('/').next().unwrap_or_default();
    let name = match place {
        LogDirectory::Container(container) => format!("{}-{file}", container.id),
        LogDirectory::Directory(directory) => {
            let last = directory.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            format!("{last}-{file}")
        }
    };
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    if plain == name {
        format!("attachment; filename=\"{plain}\"")
    } else {
        format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", encode_value(&name))
    }
}

fn not_a_log(bad: RouteError) -> Page {
    let (status, text) = match bad {
        RouteError::Malformed => (StatusCode::BAD_REQUEST, "The path holds what no log's path does."),
        RouteError::NotALog => (StatusCode::NOT_FOUND, "The gateway gives logs of containers and nothing else:"),
    };
    Page::new(status, "This is no log")
        .text(text)
        .code("/logs/\n/logs/application_1795352263709_0001/\n/logs/container_1795352263709_0001_01_000002/stderr")
}

fn outcome(trouble: &LogError) -> Outcome {
    match trouble {
        LogError::Missing { .. } => Outcome::NotFound,
        LogError::Denied { .. } | LogError::Archived { .. } => Outcome::Refused,
        LogError::Searching | LogError::NoCredentials(_) | LogError::Unreachable(_) => Outcome::Unavailable,
    }
}
