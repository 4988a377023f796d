//! The way of a request through the gateway, from top to bottom: who asks (`access`), which log or
//! listing the path means (`route`), where S3 stores it (`archive`), and the response: a redirect to
//! a presigned URL (`presign`), the bytes of the log (`stream`), a page (`pages`, `own_pages`), or the
//! history server's own response (`forwarded`).

use super::access::{HostNames, NodeAddresses, RootToken, canonical_ip};
use super::applications::{self, Applications, ListRequest};
use super::archive::{Archive, Location, LogError, paid_by};
use super::base;
use super::callers::{Caller, Callers};
use super::credentials::{CredentialsCache, Session};
use super::cross_site;
use super::event_log_cache::EventLogCache;
use super::history_server::api::ApplicationInfo;
use super::history_server::opening::Openings;
use super::history_server::proxy::HistoryServerProxy;
use super::http::{Body, hold, redirect};
use super::job_runs;
use super::limits::MAX_AUTHORIZATION;
use super::listing;
use super::logins::{LoginResult, Logins};
use super::metrics::{Metrics, RequestOutcome};
use super::page_memory::PageMemory;
use super::pages::{self, Message};
use super::presign::{LatestSigner, encode_value};
use super::route::{self, LogDirectory, LogRequest, RouteError};
use super::server::access_log::LeftOut;
use super::server::connections::Connections;
use super::shares::{Client, Shares};
use super::sockets::Owner;
use super::stream;
use super::tls::Tls;
use crate::settings::Mode;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

/// How long a presigned URL is valid, unless its credentials expire sooner. A URL serves one click,
/// and some bucket policies limit the age of signatures.
const URL_LIFETIME: Duration = Duration::from_secs(300);

/// The gateway, shared by all its connections.
pub(super) struct Gateway {
    pub(super) archive: Arc<Archive>,
    /// The list of applications; `None` if the gateway keeps no index.
    pub(super) applications: Option<Arc<Applications>>,
    pub(super) credentials: Arc<CredentialsCache>,
    pub(super) history_server: Arc<HistoryServerProxy>,
    pub(super) openings: Openings,
    /// `None` if the history server reads S3 itself.
    pub(super) event_log_cache: Option<Arc<EventLogCache>>,
    pub(super) mode: Mode,
    /// The names that a `Host` header can contain.
    pub(super) host_names: HostNames,
    pub(super) node_addresses: NodeAddresses,
    /// Whether peers with addresses other than this node's own are served.
    pub(super) serves_any_peer: bool,
    /// Tells which accounts of this node are served; `None` if there is a login, or if every peer is served.
    pub(super) callers: Option<Arc<Callers>>,
    pub(super) tls: Option<Arc<Tls>>,
    /// Checks logins; `None` if no login is required.
    pub(super) logins: Option<Logins>,
    /// What root sends instead of a login; `None` outside the unit.
    pub(super) root_token: Option<RootToken>,
    /// The command that users type on their own machine, so that their requests come from this node.
    pub(super) tunnel_command: String,
    pub(super) metrics: Metrics,
    pub(super) connections: Connections,
    /// Whether a signal has told the gateway to stop. Each response is the last of its connection then.
    pub(super) is_stopping: AtomicBool,
    pub(super) page_memory: PageMemory,
    /// Lines of the access log.
    pub(super) left_out: LeftOut,
    /// Requests that the history server answers, until the answers are read.
    pub(super) history_requests: Shares,
    /// Requests that wait for S3.
    pub(super) waiting: Shares,
    pub(super) streams: Shares,
    /// One for each bucket of the archive.
    pub(super) signers: Vec<LatestSigner>,
}

/// The user who has logged in: the access log finds it in the response.
#[derive(Clone)]
pub(super) struct LoggedIn(pub(super) Arc<str>);

/// The parts of a request for a log that shape its response.
struct RequestContext<'a> {
    client: Client,
    method: &'a Method,
    headers: &'a HeaderMap,
    download: bool,
}

impl Gateway {
    /// The ways with requests to S3 or to the history server, whose futures are large, are boxed: the redirect to a known log is the
    /// way that has to be fast.
    pub(super) async fn handle(
        &self,
        client: Client,
        caller: &Caller,
        mut request: Request<Incoming>,
    ) -> (Response<Body>, RequestOutcome) {
        base::take_from(base::path(), request.uri_mut());
        if request.uri().path() == "/-/style.css" {
            // The pages that refuse a request need their style, too.
            return self.own_page(request.uri().path());
        }
        if let Some(refusal) = self.refusal(client, caller, &request) {
            return (refusal.response(), RequestOutcome::Refused);
        }
        let user = match self.check_login(client, &request).await {
            Ok(user) => user,
            Err(refusal) => return *refusal,
        };
        let (mut response, outcome) = self.answer(client, request).await;
        if let Some(user) = user {
            response.extensions_mut().insert(LoggedIn(user));
        }
        (response, outcome)
    }

    /// Whether a path is one of the REST API, which programs ask for.
    pub(super) fn is_api(&self, path: &str) -> bool {
        let path = self.history_server.without_base(base::without(base::path(), path).unwrap_or(path));
        let own = path.strip_prefix(applications::HISTORY_SERVER).filter(|_| self.applications.is_some());
        own.unwrap_or(path).starts_with("/api/")
    }

    /// The answer to a client that may ask.
    async fn answer(&self, client: Client, request: Request<Incoming>) -> (Response<Body>, RequestOutcome) {
        let path = request.uri().path();
        if path == "/-/log-uris" {
            // Waits for S3 without a share, because few do: the others get what is known.
            Box::pin(self.archive.recheck(self.is_root(&request))).await;
        }
        if path.starts_with("/-/") {
            return self.own_page(path);
        }
        if path == "/logs" {
            return (redirect(base::link(base::path(), "/logs/")), RequestOutcome::Page);
        }
        if let Some(applications) = &self.applications {
            match ListRequest::of(self.history_server.without_base(path), request.uri().query()) {
                Some(ListRequest::HistoryServer) => {
                    let mut request = request;
                    self.history_server.take_base_from(request.uri_mut());
                    base::take_from(applications::HISTORY_SERVER, request.uri_mut());
                    return Box::pin(self.forward(client, request)).await;
                }
                Some(wanted) => return Box::pin(self.listed(applications, client, wanted)).await,
                None => {}
            }
        }
        let of_source = job_runs::route(&self.archive, path, request.uri().query()).map(Ok);
        let of_log_uri = || {
            let uris = self.archive.log_uris().iter();
            let prefixes: Vec<&str> = uris.map(|bucket| bucket.uri.prefix.as_str()).collect();
            route::route(path, request.uri().query(), &prefixes)
        };
        match of_source.or_else(of_log_uri) {
            None => Box::pin(self.forward(client, request)).await,
            Some(Err(error)) => (not_a_log(error).response(), RequestOutcome::NotFound),
            Some(Ok(route)) => {
                if let Some(refused) = self.archive.served.refuses(&route.request) {
                    return (pages::not_served(&refused, &self.archive.served).response(), RequestOutcome::Refused);
                }
                let (method, headers, download) = (request.method(), request.headers(), route.download);
                let context = RequestContext { client, method, headers, download };
                match &route.request {
                    LogRequest::Log(directory, file) => self.log(directory, file, route.log_uri, &context).await,
                    listing => Box::pin(self.listing(client, listing, route.log_uri)).await,
                }
            }
        }
    }

    /// The client at an address, without its account.
    pub(super) fn client_at(&self, address: IpAddr) -> Client {
        let is_own = self.node_addresses.contains(address);
        Client { address: canonical_ip(address), is_own, account: None }
    }

    pub(super) fn serves(&self, client: Client) -> bool {
        self.serves_any_peer || client.is_own
    }

    /// Which account of this node has made a connection; `owner` if the kernel has told it before.
    pub(super) async fn caller(&self, peer: SocketAddr, own: Option<SocketAddr>, owner: Option<Owner>) -> Caller {
        match (&self.callers, own) {
            (None, _) => Caller::Unasked,
            (Some(callers), Some(own)) => callers.find(peer, own, owner).await,
            (Some(_), None) => Caller::Nobody,
        }
    }

    /// Checks the peer, the host and the method, before anything else is read.
    fn refusal(&self, client: Client, caller: &Caller, request: &Request<Incoming>) -> Option<Message> {
        if !self.serves(client) {
            return Some(
                Message::new(StatusCode::FORBIDDEN, "This gateway serves only its own node")
                    .text(format!("Your address is {}, which does not belong to this node. Through an SSH tunnel or SSH's SOCKS proxy, your requests come from the node itself:", client.address))
                    .code(&self.tunnel_command)
                    .text("To serve other machines, set up TLS and a login on the node:")
                    .code("sudo emr-shs proxy install --tls-cert /etc/emr-shs/chain.pem --tls-key /etc/emr-shs/key.pem --htpasswd /etc/emr-shs/users"),
            );
        }
        // Programs that watch the node have accounts of their own, and what they get shows no log.
        let callers = self.callers.as_ref().filter(|_| !request.uri().path().starts_with("/-/"));
        if let Some(refusal) =
            callers.and_then(|callers| callers.refusal(caller, request.headers(), &self.tunnel_command))
        {
            return Some(refusal);
        }
        if request.uri().authority().is_some() || request.uri().scheme().is_some() {
            return Some(Message::new(
                StatusCode::BAD_REQUEST,
                "This gateway does not forward requests to other hosts",
            ));
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
            (Some(host), None) if self.host_names.contains(host, &self.node_addresses) => {}
            (Some(host), None) => {
                return Some(pages::unknown_host().text(format!("Your browser asked for “{host}”. If this name leads to this node, tell the gateway all additional names of the node. Type on the node:"))
                    .code("sudo emr-shs proxy install --host-name NAME --host-name ANOTHER"));
            }
            _ => {
                return Some(Message::new(
                    StatusCode::BAD_REQUEST,
                    "The request must contain one Host header with one name",
                ));
            }
        }
        if let Some(refusal) = cross_site::refusal(request.headers()) {
            return Some(refusal);
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        (!reads)
            .then(|| Message::new(StatusCode::METHOD_NOT_ALLOWED, "This gateway answers only GET and HEAD requests"))
    }

    /// Whether a request contains what only root can read.
    fn is_root(&self, request: &Request<Incoming>) -> bool {
        self.root_token.as_ref().zip(authorization(request)).is_some_and(|(token, sent)| token.is_in(sent))
    }

    /// The user who has logged in, if a login is required; an error is the response for a request without a valid login.
    async fn check_login(
        &self,
        client: Client,
        request: &Request<Incoming>,
    ) -> Result<Option<Arc<str>>, Box<(Response<Body>, RequestOutcome)>> {
        let Some(logins) = self.logins.as_ref().filter(|_| request.uri().path() != "/-/healthz") else {
            return Ok(None);
        };
        if self.is_root(request) {
            return Ok(None);
        }
        let authorization = authorization(request);
        if authorization.is_some_and(|authorization| authorization.len() > MAX_AUTHORIZATION) {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Box::new((Message::new(status, "The login is too long").response(), RequestOutcome::Refused)));
        }
        if let Some(authorization) = authorization {
            if let Some(user) = logins.verified(authorization) {
                return Ok(Some(user));
            }
            match logins.verify(client.key(), authorization).await {
                LoginResult::Right => return Ok(logins.verified(authorization)),
                LoginResult::Busy => {
                    return Err(Box::new((pages::busy_with_logins().response(), RequestOutcome::Busy)));
                }
                LoginResult::Wrong => {}
            }
        }
        let mut response = Message::new(StatusCode::UNAUTHORIZED, "A login is required").response();
        let challenge = HeaderValue::from_static("Basic realm=\"emr-shs\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        Err(Box::new((response, RequestOutcome::Refused)))
    }

    /// The answer from the index.
    async fn listed(
        &self,
        applications: &Applications,
        client: Client,
        wanted: ListRequest,
    ) -> (Response<Body>, RequestOutcome) {
        let Some(share) = self.waiting.take(client) else { return busy() };
        match applications.answer(client, wanted, share).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => (response, RequestOutcome::NotFound),
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => (response, RequestOutcome::Busy),
            Ok(response) => (response, RequestOutcome::Page),
            Err(error) => {
                let message =
                    Message::new(StatusCode::SERVICE_UNAVAILABLE, "The list of applications cannot be read now")
                        .text("The gateway makes a damaged index anew by itself. Executor logs remain available.")
                        .text(format!("{error:#}"));
                (message.response(), RequestOutcome::Unavailable)
            }
        }
    }

    async fn listing(
        &self,
        client: Client,
        request: &LogRequest,
        log_uri: Option<usize>,
    ) -> (Response<Body>, RequestOutcome) {
        let application = self.application_info(client, request).await;
        let names = match request {
            LogRequest::Applications(_) => self.application_names(client).await,
            _ => BTreeMap::new(),
        };
        let Some(_share) = self.waiting.take(client) else { return busy() };
        let page = listing::page(&self.archive, request, log_uri, &application, &names);
        match paid_by(client, &self.archive.budget, page).await {
            Ok(page) => (page, RequestOutcome::Page),
            Err(error) => (pages::log_error(&error, request, &self.archive, &application), outcome(&error)),
        }
    }

    /// What the history server tells of an application. Where many wait for the history server already, the page does
    /// without.
    async fn application_info(&self, client: Client, request: &LogRequest) -> ApplicationInfo {
        match self.history_requests.take_spare(client) {
            Some(_share) => Box::pin(self.history_server.application_info(request)).await,
            None => ApplicationInfo::default(),
        }
    }

    async fn application_names(&self, client: Client) -> BTreeMap<String, String> {
        match self.history_requests.take_spare(client) {
            Some(_share) => Box::pin(self.history_server.application_names()).await,
            None => BTreeMap::new(),
        }
    }

    async fn log(
        &self,
        directory: &LogDirectory,
        file: &str,
        log_uri: Option<usize>,
        context: &RequestContext<'_>,
    ) -> (Response<Body>, RequestOutcome) {
        let known = self.archive.known(directory, file, log_uri);
        // A redirect to a log that is known waits for nobody.
        let mut share = None;
        if known.is_none() || self.mode == Mode::Stream {
            share = self.waiting.take(context.client);
            if share.is_none() {
                return busy();
            }
        }
        let found = match known {
            Some(location) => Ok(location),
            None => {
                let found = self.archive.find(directory, file, log_uri);
                Box::pin(paid_by(context.client, &self.archive.budget, found)).await
            }
        };
        let delivered = match found {
            Ok(location) => self.deliver(&location, directory, context).await,
            Err(error) => Err(error),
        };
        drop(share);
        match delivered {
            Ok(response) => response,
            Err(error) => {
                let request = LogRequest::Log(directory.clone(), file.into());
                let application = self.application_info(context.client, &request).await;
                (pages::log_error(&error, &request, &self.archive, &application), outcome(&error))
            }
        }
    }

    /// Delivers a log by redirect or by stream. It is possible that S3 has not confirmed yet that the log exists.
    async fn deliver(
        &self,
        location: &Location,
        directory: &LogDirectory,
        context: &RequestContext<'_>,
    ) -> Result<(Response<Body>, RequestOutcome), LogError> {
        let bucket = &self.archive.buckets[location.bucket];
        let client = bucket.client().await?;
        let attachment = context.download.then(|| attachment(location, directory));
        if self.mode == Mode::Stream {
            let Some(share) = self.streams.take(context.client) else { return Ok(busy()) };
            let streamed = stream::log(client, &bucket.uri.bucket, location, context.headers, attachment.as_deref());
            let streamed = async {
                match streamed.await {
                    Ok(response) => Ok((response.map(|body| hold(body, share)), RequestOutcome::Stream)),
                    Err(error) => Err(self.archive.refusal(location, &error).await),
                }
            };
            return Box::pin(paid_by(context.client, &self.archive.budget, streamed)).await;
        }
        let session = self.credentials.session().await.map_err(LogError::NoCredentials)?;
        let now = SystemTime::now();
        let signer = self.signers[location.bucket].get(&session, now, &client.address, &client.region);
        let lifetime = url_lifetime(&session, now)
            .ok_or_else(|| LogError::NoCredentials("the credentials expire within this second".into()))?;
        let gzipped = location.key.ends_with(".gz");
        let overrides: &[(&str, &str)] = match (&attachment, gzipped) {
            (Some(attachment), _) => &[
                ("response-content-disposition", attachment),
                // With `gzip` here, a browser would decompress the file that it saves.
                ("response-content-encoding", "identity"),
                ("response-content-type", if gzipped { "application/gzip" } else { "application/octet-stream" }),
            ],
            (None, true) => {
                &[("response-content-encoding", "gzip"), ("response-content-type", "text/plain; charset=utf-8")]
            }
            (None, false) => &[("response-content-type", "text/plain; charset=utf-8")],
        };
        let url = signer.url(context.method.as_str(), &location.key, overrides, now, lifetime);
        Ok((redirect(url), RequestOutcome::Redirect))
    }
}

fn authorization(request: &Request<Incoming>) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()
}

/// How long a URL that is signed now stays valid; `None` if the credentials expire within this
/// second. A signature's time has no fraction, so the lifetime counts from the start of the second.
fn url_lifetime(session: &Session, now: SystemTime) -> Option<Duration> {
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = session.time_left(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    let lifetime = left.map_or(URL_LIFETIME, |left| left.min(URL_LIFETIME));
    (lifetime.as_secs() > 0).then_some(lifetime)
}

/// A Content-Disposition whose file name begins with the container: a user who downloads ten files
/// named stderr can tell them apart.
fn attachment(location: &Location, directory: &LogDirectory) -> String {
    let file = location.key.rsplit('/').next().unwrap_or_default();
    let name = match directory {
        LogDirectory::Container(container) => format!("{}-{file}", container.id),
        LogDirectory::Directory(path) => {
            let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            format!("{last}-{file}")
        }
    };
    let ascii: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    if ascii == name {
        format!("attachment; filename=\"{ascii}\"")
    } else {
        format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", encode_value(&name))
    }
}

pub(super) fn busy() -> (Response<Body>, RequestOutcome) {
    (pages::busy().response(), RequestOutcome::Busy)
}

fn not_a_log(error: RouteError) -> Message {
    let (status, text) = match error {
        RouteError::Malformed => {
            (StatusCode::BAD_REQUEST, "The path contains a name that no log has. The gateway serves paths such as:")
        }
        RouteError::NotALog => (StatusCode::NOT_FOUND, "The gateway serves only logs of containers, at paths such as:"),
    };
    Message::new(status, "Not a log").text(text).code(
        "/logs/\n/logs/application_1795352263709_0001/\n/logs/container_1795352263709_0001_01_000002/stderr"
            .replace("/logs/", &format!("{}/logs/", base::path())),
    )
}

fn outcome(error: &LogError) -> RequestOutcome {
    match error {
        LogError::Missing { .. } => RequestOutcome::NotFound,
        LogError::Denied { .. } | LogError::Archived { .. } => RequestOutcome::Refused,
        LogError::Overloaded => RequestOutcome::Busy,
        LogError::Searching
        | LogError::NoCredentials(_)
        | LogError::Unasked
        | LogError::Unreachable(_)
        | LogError::Incomplete(_)
        | LogError::OverBudget { .. } => RequestOutcome::Unavailable,
    }
}
