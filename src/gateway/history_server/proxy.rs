//! The history server at `/`, so that users need only one port and one tunnel for its pages and for
//! the logs.
//!
//! Log links contain the gateway's absolute address, so that they also work in pages that a browser
//! loads from the history server's own port. In pages that pass through the gateway, `LinkRewriter`
//! makes them relative, so that a tunnel can use any port.

use crate::dns;
use crate::gateway::http::{Body, BoxError, empty};
use anyhow::{Context, Result, anyhow};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use memchr::memmem::Finder;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long the history server can take to begin a response: before the first page of an
/// application, it reads the whole event log.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the history server can take to accept a connection. It runs on this node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Replaces the absolute prefix of log links.
const RELATIVE_PREFIX: &[u8] = b"/logs/";

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
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-context"];

pub(in crate::gateway) struct HistoryServerProxy {
    /// `127.0.0.1:18080`
    authority: String,
    tls: Option<tokio_rustls::TlsConnector>,
    /// Finds the absolute prefix of log links, such as `http://ip-…:9977/logs/`; `None` if the links
    /// are relative already.
    link_prefix: Option<Finder<'static>>,
}

impl HistoryServerProxy {
    pub(in crate::gateway) fn new(url: &str, link_prefix: Option<&str>) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("“{url}” is not a URL"))?;
        let authority = uri.authority().with_context(|| format!("“{url}” contains no host"))?;
        let secure = uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            tls: secure.then(|| loopback_tls().into()),
            link_prefix: link_prefix.map(|prefix| Finder::new(prefix).into_owned()),
        })
    }

    /// Forwards a request and returns the history server's response. `gateway_login` says that the
    /// request's login is meant for the gateway: the history server must not see it.
    pub(in crate::gateway) async fn forward(
        &self,
        request: Request<Incoming>,
        gateway_login: bool,
    ) -> Result<Response<Body>> {
        let host = request.headers().get(header::HOST).cloned();
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_string();
        let is_static = path.starts_with("/static/");
        let method = request.method().clone();
        let mut onward = Request::builder().method(method).uri(&path).body(empty())?;
        let mut headers = end_to_end(request.headers());
        for name in FORWARDED {
            headers.remove(name);
        }
        if gateway_login {
            headers.remove(header::AUTHORIZATION);
        }
        headers.remove(header::CONTENT_LENGTH);
        if !is_static {
            // The gateway cannot rewrite links in a compressed page.
            headers.remove(header::ACCEPT_ENCODING);
        }
        *onward.headers_mut() = headers;
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, self.send(onward))
            .await
            .map_err(|_| anyhow!("the history server did not answer within {} s", RESPONSE_TIMEOUT.as_secs()))??;
        Ok(self.rewrite(response, host.as_ref()))
    }

    /// Sends a request on a connection of its own: on loopback a connection costs next to nothing,
    /// and a new one is never stale.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(&self.authority)).await;
        let stream = connected.map_err(|_| {
            anyhow!("{} did not accept a connection within {} s", self.authority, CONNECT_TIMEOUT.as_secs())
        })?;
        let stream = stream.with_context(|| self.authority.clone())?;
        let Some(tls) = &self.tls else { return exchange(stream, request).await };
        let host = self.authority.rsplit_once(':').map_or("localhost", |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string())?;
        exchange(tls.connect(name, stream).await?, request).await
    }

    /// Makes redirects and log links in a response relative.
    fn rewrite(&self, response: Response<Incoming>, host: Option<&HeaderValue>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        parts.headers = end_to_end(&parts.headers);
        if let Some(location) = parts.headers.get(header::LOCATION).and_then(|to| self.relative_location(to, host)) {
            parts.headers.insert(header::LOCATION, location);
        }
        let contains_links = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|content_type| content_type.to_str().ok())
            .is_some_and(|t| t.starts_with("text/html") || t.starts_with("application/json"));
        let is_plain = !parts.headers.contains_key(header::CONTENT_ENCODING);
        let body = body.map_err(|e| -> BoxError { e.into() });
        match self.link_prefix.clone().filter(|_| contains_links && is_plain) {
            Some(prefix) => {
                parts.headers.remove(header::CONTENT_LENGTH);
                let rewriter = LinkRewriter { inner: Box::pin(body), prefix, held: BytesMut::new(), ended: false };
                Response::from_parts(parts, rewriter.boxed_unsync())
            }
            None => Response::from_parts(parts, body.boxed_unsync()),
        }
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

/// A connection to `host:port`.
async fn connect(authority: &str) -> std::io::Result<TcpStream> {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let port = port.parse().map_err(|_| std::io::Error::other(format!("{port} is no port")))?;
    let addresses = dns::lookup_later(host).await.map_err(std::io::Error::other)?;
    let addresses: Vec<SocketAddr> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
    TcpStream::connect(addresses.as_slice()).await
}

async fn exchange<S>(stream: S, request: Request<Body>) -> Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
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

/// A body in which log links become relative while it passes by, wherever its chunks are cut.
struct LinkRewriter<B> {
    inner: Pin<Box<B>>,
    prefix: Finder<'static>,
    /// Bytes that can be the beginning of the prefix.
    held: BytesMut,
    ended: bool,
}

impl<B> LinkRewriter<B> {
    /// The rewritten bytes that can be sent now: all but a possible beginning of the prefix; at the
    /// end of the body, all.
    fn sendable(&mut self) -> Bytes {
        let prefix_length = self.prefix.needle().len();
        let mut out = BytesMut::with_capacity(self.held.len());
        while let Some(at) = self.prefix.find(&self.held) {
            out.extend_from_slice(&self.held.split_to(at));
            out.extend_from_slice(RELATIVE_PREFIX);
            let _ = self.held.split_to(prefix_length);
        }
        let begun = if self.ended { 0 } else { partial_prefix_length(&self.held, self.prefix.needle()) };
        out.extend_from_slice(&self.held.split_to(self.held.len() - begun));
        out.freeze()
    }
}

/// How many bytes at the end of the text can be the beginning of the needle.
fn partial_prefix_length(text: &[u8], needle: &[u8]) -> usize {
    (1..needle.len().min(text.len() + 1)).rev().find(|&n| text.ends_with(&needle[..n])).unwrap_or(0)
}

impl<B> hyper::body::Body for LinkRewriter<B>
where
    B: hyper::body::Body<Data = Bytes, Error = BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.inner.as_mut().poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(e))),
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
                Poll::Ready(None) => self.ended = true,
            }
            let sendable = self.sendable();
            if !sendable.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(sendable))));
            }
        }
    }
}

/// TLS to a history server on this node, without a check of its certificate: the certificate is
/// made for the name that users type, by any authority that the cluster trusts. Over loopback no
/// other machine can pretend to be the history server.
fn loopback_tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|_| unreachable!("aws-lc-rs supports TLS 1.2 and 1.3"))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(LoopbackVerifier(algorithms)))
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Debug)]
struct LoopbackVerifier(rustls::crypto::WebPkiSupportedAlgorithms);

impl rustls::client::danger::ServerCertVerifier for LoopbackVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}
