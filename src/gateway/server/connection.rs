//! One connection: TLS if it is on, then HTTP/1.1 with time limits.

use super::access_log::AccessLog;
use crate::gateway::handler::Gateway;
use crate::gateway::http::{Body, protect, redirect};
use crate::gateway::pages;
use crate::gateway::tls::Tls;
use hyper::body::Incoming;
use hyper::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long a connection can take to send a request's head, and how long it can be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How large a request's head can be, in bytes: browsers send all cookies of `localhost`, which can
/// come from many other programs.
const MAX_HEAD: usize = 64 * 1024;
/// How long a TLS handshake can take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Connection {
    pub(super) gateway: Arc<Gateway>,
    pub(super) peer: SocketAddr,
    pub(super) access_log: AccessLog,
}

impl Connection {
    pub(super) async fn serve(self, stream: TcpStream, tls: Option<Arc<Tls>>, watcher: Watcher) {
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.serve_http(stream, watcher).await,
            Some(_) if speaks_http(&stream).await => self.redirect_to_https(stream, watcher).await,
            Some(tls) => {
                if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
                    self.serve_http(stream, watcher).await;
                }
            }
        }
    }

    async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, watcher: Watcher) {
        let service = service_fn(|request| self.respond(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        // An error means that the peer went away or did not speak HTTP. hyper has answered if it could.
        let _ = watcher.watch(connection).await;
    }

    /// Gives one response to a peer that is not served, and closes the connection.
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
        let service = service_fn(|request| self.respond(request));
        let _ = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
    }

    /// Redirects a browser that uses `http://` on the TLS port: it would show a broken connection.
    async fn redirect_to_https(self, stream: TcpStream, watcher: Watcher) {
        let service = service_fn(|request: Request<Incoming>| {
            let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
            let host = host.filter(|host| self.gateway.host_names.contains(host, &self.gateway.node_addresses));
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let response = match host {
                Some(host) => redirect(format!("https://{host}{path}")),
                None => pages::unknown_host().response(),
            };
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        let _ = watcher.watch(connection).await;
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let begun = Instant::now();
        let logged = self.access_log.is_on().then(|| (request.method().clone(), request.uri().clone()));
        let (mut response, outcome) = self.gateway.handle(self.peer, request).await;
        protect(response.headers_mut());
        self.gateway.metrics.count(outcome);
        if let Some((method, uri)) = logged {
            let status = response.status().as_u16();
            self.access_log.write(self.peer.ip(), &method, uri.path(), status, outcome, begun.elapsed());
        }
        Ok(response)
    }
}

/// Whether the first byte is not the one that a TLS handshake begins with.
async fn speaks_http(stream: &TcpStream) -> bool {
    const HANDSHAKE_RECORD: u8 = 22;
    let mut first = [0];
    let peeked = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1)) if first[0] != HANDSHAKE_RECORD)
}
