//! One connection: TLS if it is on, then HTTP/1.1 with time limits.

use super::access_log::{AccessLog, Answered};
use super::connections::{Closed, Link, OpenConnection};
use super::watched::Watched;
use crate::gateway::callers::Caller;
use crate::gateway::handler::{Gateway, LoggedIn};
use crate::gateway::http::{Body, protect, redirect};
use crate::gateway::limits::{HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, MAX_HEAD, MAX_REFUSED_HEAD};
use crate::gateway::metrics::RequestOutcome;
use crate::gateway::pages;
use crate::gateway::shares::Client;
use crate::gateway::tls::Tls;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

pub(super) struct Connection {
    pub(super) gateway: Arc<Gateway>,
    pub(super) client: Client,
    pub(super) access_log: AccessLog,
    pub(super) peer: SocketAddr,
    /// The gateway's own end; `None` if the connection has ended already.
    pub(super) own: Option<SocketAddr>,
    /// Which account of this node has made the connection: looked up at the first request.
    pub(super) caller: OnceCell<Caller>,
}

impl Connection {
    /// Serves a client until it goes away, is silent or does not read for too long, or must make room for others.
    pub(super) async fn serve(self, open: OpenConnection, stream: TcpStream, tls: Option<Arc<Tls>>, watcher: Watcher) {
        let _ = stream.set_nodelay(true);
        let link = open.link.clone();
        let served = async {
            match tls {
                None => self.serve_http(&link, Watched::new(stream, link.clone()), watcher).await,
                Some(_) if speaks_http(&stream).await => {
                    self.redirect_to_https(Watched::new(stream, link.clone()), watcher).await
                }
                Some(tls) => {
                    let accepted = tls.acceptor().accept(Watched::new(stream, link.clone()));
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, accepted).await {
                        Ok(Ok(stream)) => self.serve_http(&link, stream, watcher).await,
                        Ok(Err(_)) => Ok(()),
                        Err(_) => {
                            self.gateway.connections.count_closed(Closed::Silent);
                            Ok(())
                        }
                    }
                }
            }
        };
        tokio::select! {
            biased;
            // An error means that the client went away, did not read, or did not speak HTTP. hyper has answered if it could.
            ended = served => {
                if let Some(reason) = ended.err().as_ref().and_then(why_closed) {
                    self.gateway.connections.count_closed(reason);
                }
            }
            () = link.evicted() => {}
        }
    }

    async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        link: &Arc<Link>,
        stream: S,
        watcher: Watcher,
    ) -> hyper::Result<()> {
        let service = service_fn(|request| self.respond(Some(link), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            // A client may close its half of the connection after its last request.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        watcher.watch(connection).await
    }

    /// Gives one response to a client that is not served, and closes the connection.
    pub(super) async fn refuse(self, stream: TcpStream, tls: Option<Arc<Tls>>) {
        match tls {
            Some(tls) if !speaks_http(&stream).await => {
                if let Ok(stream) = tls.acceptor().accept(stream).await {
                    self.respond_once(stream).await;
                }
            }
            _ => self.respond_once(stream).await,
        }
    }

    async fn respond_once<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let service = service_fn(|request| self.respond(None, request));
        let _ = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(MAX_REFUSED_HEAD)
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    /// Redirects a browser that uses `http://` on the TLS port: it would show a broken connection.
    async fn redirect_to_https(&self, stream: Watched<TcpStream>, watcher: Watcher) -> hyper::Result<()> {
        let service = service_fn(|request: Request<Incoming>| {
            let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
            let host = host.filter(|host| self.gateway.host_names.contains(host, &self.gateway.node_addresses));
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let mut response = match host {
                Some(host) => redirect(format!("https://{host}{path}")),
                None => pages::unknown_host().response(),
            };
            protect(response.headers_mut());
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        watcher.watch(connection).await
    }

    /// `link` is `None` for a client that is not served.
    async fn respond(
        &self,
        link: Option<&Arc<Link>>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let begun = Instant::now();
        let logged = self.access_log.is_on().then(|| (request.method().clone(), request.uri().clone()));
        let answered = link.map(|link| link.answers());
        let caller = match link {
            Some(_) => self.caller.get_or_init(|| self.gateway.caller(self.peer, self.own)).await,
            None => &Caller::Unasked,
        };
        let (mut response, mut outcome) = self.gateway.handle(self.client, caller, request).await;
        let user = response.extensions_mut().remove::<LoggedIn>().map(|LoggedIn(name)| name);
        if let Some(link) = link.filter(|_| outcome == RequestOutcome::Page) {
            let kept = self.gateway.page_memory.keep(response, link, &self.gateway.connections);
            (response, outcome) = match kept {
                Some(response) => (response, outcome),
                None => (pages::busy().response(), RequestOutcome::Busy),
            };
        }
        protect(response.headers_mut());
        if self.gateway.is_stopping.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        drop(answered);
        self.gateway.metrics.count(outcome);
        if let Some((method, uri)) = logged {
            self.access_log.write(&Answered {
                client: self.client.address,
                method: &method,
                path: uri.path(),
                status: response.status().as_u16(),
                outcome,
                begun,
                user: user.as_deref(),
                is_stranger: link.is_none(),
            });
        }
        Ok(response)
    }
}

/// Why the gateway ended a connection; `None` if the client ended it, or did not speak HTTP.
fn why_closed(error: &hyper::Error) -> Option<Closed> {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    if io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut) {
        return Some(Closed::Unread);
    }
    if error.is_timeout() {
        return Some(Closed::Silent);
    }
    error.is_parse_too_large().then_some(Closed::LargeHead)
}

/// Whether the first byte is not the one that a TLS handshake begins with.
async fn speaks_http(stream: &TcpStream) -> bool {
    const HANDSHAKE_RECORD: u8 = 22;
    let mut first = [0];
    let peeked = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1)) if first[0] != HANDSHAKE_RECORD)
}
