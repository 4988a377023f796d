//! The history server at `/`, so that users need only one port and one tunnel for its pages and for
//! the logs.
//!
//! Log links contain the gateway's absolute address, so that they also work in pages that a browser
//! loads from the history server's own port. In pages that pass through the gateway, `links.rs`
//! makes them relative.

use super::connections::Connections;
use super::cookies;
use super::links::{LinkRewriter, LogLinks};
use super::listener::ListenerAccount;
use super::run_links::RunLinks;
use crate::gateway::base;
use crate::gateway::http::{Body, BoxError};
use anyhow::{Context, Result, anyhow};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long the history server counts as started after it has shown that it is. A restart takes longer.
const STARTED_FOR: Duration = Duration::from_secs(1);
/// How long the gateway waits for a history server that answers, but does not have all its pages yet.
const STARTING: Duration = Duration::from_secs(10);
/// For how long the gateway does not ask again, where the history server's answers do not tell: a login page answers every path.
const UNKNOWN_FOR: Duration = Duration::from_secs(600);
/// The history server gets the handler of this path last, and that handler redirects to the path with a slash. With the slash, the
/// history server would write an exception into its log.
const LAST_PATH: &str = "/history";

/// Headers that concern one connection only (RFC 9110, section 7.6.1), beside those that
/// `Connection` lists.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Headers with which a client would choose the address in the history server's links (docs/emr.md
/// §3.2).
const FORWARDED: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", FORWARDED_CONTEXT];
/// The path that the history server puts before its links.
const FORWARDED_CONTEXT: &str = "x-forwarded-context";

/// What the history server's answers have told about its start.
#[derive(Default)]
struct Startup {
    /// Until when it counts as started.
    shown_until: Option<Instant>,
    /// Since when it answers, and does not have all its pages.
    unready_since: Option<Instant>,
}

pub(in crate::gateway) struct HistoryServerProxy {
    /// `127.0.0.1:18080`
    authority: String,
    /// Whether that port speaks TLS.
    secure: bool,
    connections: Connections,
    /// The port to which the plain port redirected last. A history server gets TLS, or loses it, when it restarts; the gateway
    /// then goes on.
    tls_port: Mutex<Option<u16>>,
    startup: Mutex<Startup>,
    links: LogLinks,
    /// The path that the history server puts before its links, `spark.ui.proxyBase`; empty if it puts none. Whoever is before
    /// the history server must take it away.
    base: String,
}

impl HistoryServerProxy {
    pub(in crate::gateway) fn new(
        url: &str,
        account: Option<ListenerAccount>,
        base: Option<&str>,
        link_prefix: Option<&str>,
    ) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("“{url}” is not a URL"))?;
        let authority = uri.authority().with_context(|| format!("“{url}” contains no host"))?;
        let secure = uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            secure,
            connections: Connections::new(account),
            tls_port: Mutex::default(),
            startup: Mutex::default(),
            links: LogLinks::new(link_prefix, base::path()),
            base: base.unwrap_or_default().trim_end_matches('/').into(),
        })
    }

    /// A path without the path that the history server puts before its links.
    pub(in crate::gateway) fn without_base<'a>(&self, path: &'a str) -> &'a str {
        base::without(&self.base, path).unwrap_or(path)
    }

    /// Takes that path away from the path that is asked for.
    pub(in crate::gateway) fn take_base_from(&self, uri: &mut Uri) {
        base::take_from(&self.base, uri);
    }

    /// Forwards a request and returns the history server's response. `gateway_login` says that the
    /// request's login is meant for the gateway: the history server must not see it.
    /// The history server may take `timeout` until its response begins. `run` is where the links to executor logs lead, if
    /// the response is about a job run of EMR Serverless.
    pub(in crate::gateway) async fn forward(
        &self,
        request: Request<()>,
        gateway_login: bool,
        timeout: Duration,
        run: Option<RunLinks>,
    ) -> Result<Response<Body>> {
        let host = request.headers().get(header::HOST).cloned();
        let path = self.without_base(request.uri().path_and_query().map_or("/", |p| p.as_str())).to_string();
        let is_static = path.starts_with("/static/");
        let method = request.method().clone();
        let mut onward = Request::builder().method(method).uri(&path).body(())?;
        *onward.headers_mut() = onward_headers(request.headers(), gateway_login, is_static);
        let response = tokio::time::timeout(timeout, self.send(onward))
            .await
            .map_err(|_| anyhow!("the history server did not answer within {} s", timeout.as_secs()))??;
        Ok(self.rewrite(response, host.as_ref(), run))
    }

    /// Sends a request, which has no body, once the history server has all its pages: while it starts, it answers any path with its
    /// front page (`docs/emr.md §7.4`).
    pub(super) async fn send(&self, request: Request<()>) -> Result<Response<Incoming>> {
        if self.startup().shown_until.is_none_or(|until| until < Instant::now()) {
            self.wait_until_started(request.headers()).await?;
        }
        self.send_at_once(request).await
    }

    /// Asks for [`LAST_PATH`] until the answer is neither 404 nor a page of HTML with status 200, or until [`STARTING`] has passed.
    /// `headers` are those of the request that is sent next: they contain the login, if the history server wants one.
    async fn wait_until_started(&self, headers: &HeaderMap) -> Result<()> {
        loop {
            let mut request = Request::builder().uri(LAST_PATH).body(())?;
            for name in [header::HOST, header::AUTHORIZATION, header::COOKIE] {
                let values = headers.get_all(&name).into_iter().cloned();
                request.headers_mut().extend(values.map(|value| (name.clone(), value)));
            }
            let asked = Instant::now();
            let response = self.send_at_once(request).await?;
            let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let is_page = content_type.is_some_and(|found| found.starts_with("text/html"));
            let is_starting = match response.status() {
                // It has no page at all yet.
                StatusCode::NOT_FOUND => true,
                StatusCode::OK => is_page,
                _ => false,
            };
            if self.counts_as_started(is_starting, asked) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Notes what an answer shows, and returns whether the history server counts as started now. It counts as started, too, if its
    /// answers have looked like those of a server that starts for longer than [`STARTING`].
    fn counts_as_started(&self, is_starting: bool, asked: Instant) -> bool {
        let mut startup = self.startup();
        let since = *startup.unready_since.get_or_insert(asked);
        let is_over = !is_starting || since.elapsed() > STARTING;
        if is_over {
            let trust = if is_starting { UNKNOWN_FOR } else { STARTED_FOR };
            *startup = Startup { shown_until: Some(asked + trust), unready_since: None };
        }
        is_over
    }

    fn startup(&self) -> MutexGuard<'_, Startup> {
        self.startup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the history server redirects its plain port to its TLS port, the request goes there.
    async fn send_at_once(&self, request: Request<()>) -> Result<Response<Incoming>> {
        let (host, port) = self.authority.rsplit_once(':').unwrap_or((&self.authority, "80"));
        let port: u16 = port.parse().with_context(|| format!("{port} is no port"))?;
        let known = *self.tls_port.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tls_port) = known {
            if let Ok(response) = self.connections.exchange(host, tls_port, true, &request).await {
                return Ok(response);
            }
            // The history server can have restarted without TLS.
            *self.tls_port.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let response = self.connections.exchange(host, port, self.secure, &request).await?;
        let Some(tls_port) = tls_port(&request, &response).filter(|_| !self.secure) else { return Ok(response) };
        let response = self.connections.exchange(host, tls_port, true, &request).await?;
        *self.tls_port.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls_port);
        Ok(response)
    }

    /// Makes redirects and log links in a response relative.
    fn rewrite(
        &self,
        response: Response<Incoming>,
        host: Option<&HeaderValue>,
        run: Option<RunLinks>,
    ) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        parts.headers = end_to_end(&parts.headers);
        cookies::wrap(&mut parts.headers, base::path());
        drop_odd_length(&mut parts.headers);
        // Only one: browsers differ in which of several they follow.
        if let Some(location) = parts.headers.remove(header::LOCATION) {
            let location = self.relative_location(&location, host).unwrap_or(location);
            parts.headers.insert(header::LOCATION, onward_location(location));
        }
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is = |wanted: &str| content_type.is_some_and(|found| found.starts_with(wanted));
        let (is_html, is_json) = (is("text/html"), is("application/json"));
        let is_plain = !parts.headers.contains_key(header::CONTENT_ENCODING);
        let body = body.map_err(|e| -> BoxError { e.into() }).boxed_unsync();
        if !is_plain || !is_html && !is_json {
            return Response::from_parts(parts, body);
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        let body = match run {
            Some(run) if is_html => {
                LinkRewriter::new(body, move |held, ended| run.rewrite_html(held, ended)).boxed_unsync()
            }
            Some(run) => {
                let mut json = run.json();
                LinkRewriter::new(body, move |held, ended| json.rewrite(held, ended)).boxed_unsync()
            }
            None => body,
        };
        let links = self.links.clone();
        let body = LinkRewriter::new(body, move |held, ended| links.rewrite(held, ended));
        Response::from_parts(parts, body.boxed_unsync())
    }

    /// The path of a redirect to the history server or to the gateway itself. Only the browser knows
    /// the host and port that lead here.
    fn relative_location(&self, location: &HeaderValue, host: Option<&HeaderValue>) -> Option<HeaderValue> {
        let uri: Uri = location.to_str().ok()?.parse().ok()?;
        let to = uri.authority()?.as_str();
        let leads_here = to == self.authority || host.is_some_and(|host| host == to);
        let path = uri.path_and_query().filter(|_| leads_here)?.as_str();
        HeaderValue::from_str(path).ok()
    }
}

/// Leaves out a length that is no number: hyper does not read that of an answer to HEAD.
fn drop_odd_length(headers: &mut HeaderMap) {
    let number = |length: &HeaderValue| {
        let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.is_some_and(|digits| digits.parse::<u64>().is_ok())
    };
    let lengths = headers.get_all(header::CONTENT_LENGTH);
    if lengths.iter().count() > 1 || !lengths.iter().all(number) {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// A redirect of the history server, as browsers must follow it: a path never leads to another host, and begins with the path before
/// the gateway. Spark writes some of its redirects without the path before its links.
fn onward_location(location: HeaderValue) -> HeaderValue {
    if names_a_host(location.as_bytes()) {
        return onward_location(HeaderValue::from_static("/"));
    }
    let path = location.to_str().ok().filter(|to| to.starts_with('/'));
    path.and_then(|path| HeaderValue::try_from(base::link(base::path(), path)).ok()).unwrap_or(location)
}

/// Whether a browser takes the beginning of this path for a host. The history server never means one by it.
fn names_a_host(location: &[u8]) -> bool {
    // Browsers leave out tabs and ends of lines.
    let mut read = location.iter().filter(|byte| !b"\t\r\n".contains(byte));
    let mut is_slash = || read.next().is_some_and(|byte| b"/\\".contains(byte));
    is_slash() && is_slash()
}

/// Whether the history server has no page with such a path: some of its parts would mean something else for it, or for a
/// browser that follows its redirect.
pub(in crate::gateway) fn is_odd(path: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    let mut parts = decoded.split(|byte| b"/;".contains(byte));
    names_a_host(&decoded)
        || decoded.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control())
        || parts.any(|part| matches!(part, b"." | b".."))
}

/// The port to which a history server with TLS redirects each request to its plain port: same host, same path. A redirect to a
/// login leads elsewhere, and is the browser's.
fn tls_port(request: &Request<()>, response: &Response<Incoming>) -> Option<u16> {
    let to: Uri = response.headers().get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
    let asked: Uri = format!("http://{}/", request.headers().get(header::HOST)?.to_str().ok()?).parse().ok()?;
    let path = |uri: &Uri| percent_encoding::percent_decode_str(uri.path()).collect::<Vec<u8>>();
    let is_same = to.scheme_str() == Some("https") && to.host() == asked.host() && path(&to) == path(request.uri());
    to.port_u16().filter(|_| is_same && response.status().is_redirection())
}

/// The headers with which a request goes on to the history server.
pub(in crate::gateway) fn onward_headers(headers: &HeaderMap, gateway_login: bool, is_static: bool) -> HeaderMap {
    let mut headers = end_to_end(headers);
    for name in FORWARDED {
        headers.remove(name);
    }
    // Every Spark since 2.4 puts this path before its links, unless `spark.ui.proxyBase` is set.
    if let Some(path) = Some(base::path()).filter(|path| !path.is_empty()) {
        headers.insert(FORWARDED_CONTEXT, HeaderValue::from_static(path));
    }
    cookies::unwrap(&mut headers);
    if gateway_login {
        headers.remove(header::AUTHORIZATION);
    }
    headers.remove(header::CONTENT_LENGTH);
    if !is_static {
        // The gateway cannot rewrite links in a compressed page.
        headers.remove(header::ACCEPT_ENCODING);
    }
    headers
}

/// The headers without those that concern one connection only.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed {
        kept.remove(name);
    }
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_that_a_browser_takes_for_a_host_leaves_the_gateway() {
        for host in ["//evil.example/", "/\\evil.example", "\\/x", "\\\\x", "/\t/evil.example/", "\t/\t\\x", "//"] {
            assert!(names_a_host(host.as_bytes()) && is_odd(host), "{host:?}");
        }
        for path in ["/", "/history//x", "/x?u=//y", "https://login.example/", "x//y", ""] {
            assert!(!names_a_host(path.as_bytes()), "{path:?}");
        }
        let onward = |location| onward_location(HeaderValue::from_static(location));
        assert_eq!(onward("/\t/evil.example/"), "/");
        assert_eq!([onward("/a?b"), onward("https://login.example/")], ["/a?b", "https://login.example/"]);
        for odd in ["//evil.example/..%2f..%2fstatic", "/%2fx", "/x/..%2f..", "/x;/../y", "/%09/x", "/x%5cy"] {
            assert!(is_odd(odd), "{odd:?}");
        }
        assert!(!is_odd("/history/application_1_0001/1/jobs/") && !is_odd("/static/a..b.js"));
    }

    #[test]
    fn a_length_is_a_number() {
        for (length, stays) in
            [("12", true), ("0n", false), ("+1", false), ("", false), ("99999999999999999999", false)]
        {
            let mut headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static(length))]);
            drop_odd_length(&mut headers);
            assert_eq!(headers.contains_key(header::CONTENT_LENGTH), stays, "{length:?}");
            headers.append(header::CONTENT_LENGTH, HeaderValue::from_static("1"));
            headers.append(header::CONTENT_LENGTH, HeaderValue::from_static("1"));
            drop_odd_length(&mut headers);
            assert!(!headers.contains_key(header::CONTENT_LENGTH), "two");
        }
    }
}
