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
use crate::gateway::sockets::Owner;
use crate::gateway::tls::Tls;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

pub(super) struct Connection {
    pub(super) gateway: Arc<Gateway>,
    pub(super) client: Client,
    pub(super) access_log: AccessLog,
    pub(super) peer: SocketAddr,
    /// The gateway's own end; `None` if the connection has ended already.
    pub(super) own: Option<SocketAddr>,
    /// Whose the other end is, if the kernel has told.
    pub(super) owner: Option<Owner>,
    /// Which account of this node has made the connection: looked up at the first request.
    pub(super) caller: OnceCell<Caller>,
}

impl Connection {
    /// Serves a client until it goes away, is silent or does not read for too long, or must make room for others. A connection
    /// takes little memory until its first byte is there, and what TLS and a request in flight need is allocated apart: most
    /// connections are idle.
    pub(super) async fn serve(
        self,
        open: OpenConnection,
        _room: OwnedSemaphorePermit,
        stream: TcpStream,
        tls: Option<Arc<Tls>>,
        watcher: Watcher,
    ) {
        let _ = stream.set_nodelay(true);
        let link = open.link.clone();
        let served = async {
            let patience = if tls.is_some() { HANDSHAKE_TIMEOUT } else { HEAD_TIMEOUT };
            if tokio::time::timeout(patience, first_byte(&stream)).await.is_err() {
                self.gateway.connections.count_closed(Closed::Silent);
                return Ok(());
            }
            link.has_spoken();
            match tls {
                None => Box::pin(self.serve_http(&link, Watched::new(stream, link.clone()), watcher)).await,
                Some(tls) => Box::pin(self.serve_tls(&link, stream, tls, watcher)).await,
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

    async fn serve_tls(
        &self,
        link: &Arc<Link>,
        stream: TcpStream,
        tls: Arc<Tls>,
        watcher: Watcher,
    ) -> hyper::Result<()> {
        if speaks_http(&stream).await {
            return self.redirect_to_https(Watched::new(stream, link.clone()), watcher).await;
        }
        match Box::pin(tls.accept(self.client, Watched::new(stream, link.clone()))).await {
            Ok(stream) => self.serve_http(link, stream, watcher).await,
            Err(failed) => {
                if failed.kind() == ErrorKind::TimedOut {
                    self.gateway.connections.count_closed(Closed::Silent);
                }
                Ok(())
            }
        }
    }

    /// Not an `async fn`: its future would have room for the connection's twice.
    pub(super) fn serve_http<'a, S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &'a self,
        link: &'a Arc<Link>,
        stream: S,
        watcher: Watcher,
    ) -> impl Future<Output = hyper::Result<()>> + Send + 'a {
        // hyper keeps room for the future of a request, also while there is none.
        let service = service_fn(move |request| Box::pin(self.respond(Some(link), request)));
        watcher.watch(http(MAX_HEAD).serve_connection(TokioIo::new(stream), service))
    }

    /// Gives one response to a client that is not served, and closes the connection.
    pub(super) async fn refuse(self, stream: TcpStream, tls: Option<Arc<Tls>>) {
        match tls {
            Some(tls) if !speaks_http(&stream).await => {
                if let Ok(stream) = tls.accept(self.client, stream).await {
                    self.respond_once(stream).await;
                }
            }
            _ => self.respond_once(stream).await,
        }
    }

    async fn respond_once<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let service = service_fn(|request| self.respond(None, request));
        let _ = http(MAX_REFUSED_HEAD).keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
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
        watcher.watch(http(MAX_HEAD).keep_alive(false).serve_connection(TokioIo::new(stream), service)).await
    }

    /// Which account has made the connection. The next request asks anew if the kernel has not answered.
    async fn caller(&self) -> &Caller {
        let ask = || async {
            match self.gateway.caller(self.peer, self.own, self.owner).await {
                Caller::Unanswered => Err(()),
                caller => Ok(caller),
            }
        };
        self.caller.get_or_try_init(ask).await.unwrap_or(&Caller::Unanswered)
    }

    /// `link` is `None` for a client that is not served.
    async fn respond(
        &self,
        link: Option<&Arc<Link>>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let begun = Instant::now();
        let logged = self.access_log.is_on().then(|| (request.method().clone(), request.uri().clone()));
        let is_api = self.gateway.is_api(request.uri().path());
        let answered = link.map(|link| link.answers());
        let caller = match link {
            Some(_) => self.caller().await,
            None => &Caller::Unasked,
        };
        let (mut response, mut outcome) = self.gateway.handle(self.client, caller, request).await;
        let user = response.extensions_mut().remove::<LoggedIn>().map(|LoggedIn(name)| name);
        if let Some((link, share)) = link.zip(response.extensions_mut().remove()) {
            link.reads(share);
        }
        if let Some(link) = link.filter(|_| outcome == RequestOutcome::Page) {
            let kept = self.gateway.page_memory.keep(response, link, &self.gateway.connections);
            (response, outcome) = match kept {
                Some(response) => (response, outcome),
                None => (pages::busy().response(), RequestOutcome::Busy),
            };
        }
        if is_api {
            response = pages::for_programs(response);
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

/// HTTP/1.1 as every client gets it. The size of a request's head is a parameter, because nobody has logged in before the gateway
/// has read it: hyper alone would keep 400 kB for each connection.
fn http(max_head: usize) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(max_head)
        // A client may close its half of the connection after its last request.
        .half_close(true);
    http
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

/// The first byte that the client sends, once it is there; `None` if the client is gone. tokio calls a new connection readable before
/// it knows, so the byte itself is what to wait for.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut first = [0];
    (stream.peek(&mut first).await.ok()? == 1).then_some(first[0])
}

/// Whether the first byte is not the one that a TLS handshake begins with.
async fn speaks_http(stream: &TcpStream) -> bool {
    const HANDSHAKE_RECORD: u8 = 22;
    let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, first_byte(stream)).await;
    matches!(first, Ok(Some(first)) if first != HANDSHAKE_RECORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_takes_little_memory() {
        fn size<F>(
            _: impl FnOnce(Connection, OpenConnection, OwnedSemaphorePermit, TcpStream, Option<Arc<Tls>>, Watcher) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let serve = size(Connection::serve);
        assert!(serve < 1500, "{serve} bytes");
    }
}
