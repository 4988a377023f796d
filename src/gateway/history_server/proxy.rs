//! The history server behind `/`: one port and one tunnel for both. Its pages name logs by this
//! gateway's absolute address, so that they open from its own port too; in what passes through
//! here that prefix becomes relative, so that any tunnel on any port works.

use crate::gateway::{Body, BoxError, empty, full};
use anyhow::{Context, Result, anyhow};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use memchr::memmem::Finder;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long the history server may take to begin an answer: it may have a large log to read.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long it may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// The history server.
pub struct HistoryServerProxy {
    /// `127.0.0.1:18080`
    authority: String,
    tls: Option<tokio_rustls::TlsConnector>,
    /// The absolute prefix of log links, such as `http://ip-…:9977/logs/`; none if they are
    /// relative already.
    prefix: Option<Finder<'static>>,
}

impl HistoryServerProxy {
    /// The history server at an `http://` or `https://` address.
    pub fn new(url: &str, prefix: Option<&str>) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("“{url}” is no address of a history server"))?;
        let authority = uri.authority().context("it has no host")?;
        let secure = uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            tls: secure.then(|| tls_to_ourselves().into()),
            prefix: prefix.map(|prefix| Finder::new(prefix).into_owned()),
        })
    }

    /// Passes a request on and its answer back. The error says why there is none. A login that is
    /// meant for the gateway is `kept` from the history server.
    pub async fn pass(&self, request: Request<Incoming>, kept: bool) -> Result<Response<Body>> {
        let host = request.headers().get(header::HOST).cloned();
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_string();
        let is_static = path.starts_with("/static/");
        let method = request.method().clone();
        let mut onward = Request::builder().method(method).uri(&path).body(empty())?;
        *onward.headers_mut() = without_hops(request.headers());
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-context"] {
            onward.headers_mut().remove(name);
        }
        if kept {
            onward.headers_mut().remove(header::AUTHORIZATION);
        }
        onward.headers_mut().remove(header::CONTENT_LENGTH);
        if !is_static {
            // What is compressed cannot be rewritten.
            onward.headers_mut().remove(header::ACCEPT_ENCODING);
        }
        let answer = tokio::time::timeout(PATIENCE, self.ask(onward))
            .await
            .map_err(|_| anyhow!("it did not answer within {} s", PATIENCE.as_secs()))??;
        Ok(self.back(answer, host.as_ref()))
    }

    /// One connection a request: on loopback it costs next to nothing, and none is ever stale.
    async fn ask(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&self.authority)).await;
        let stream = connected.map_err(|_| anyhow!("nothing answers on {}", self.authority))?;
        let stream = stream.with_context(|| self.authority.clone())?;
        let Some(tls) = &self.tls else { return exchange(stream, request).await };
        let host = self.authority.rsplit_once(':').map_or("localhost", |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string())?;
        exchange(tls.connect(name, stream).await?, request).await
    }

    fn back(&self, answer: Response<Incoming>, host: Option<&HeaderValue>) -> Response<Body> {
        let (mut parts, body) = answer.into_parts();
        parts.headers = without_hops(&parts.headers);
        if let Some(location) = parts.headers.get(header::LOCATION).and_then(|l| self.relative(l, host)) {
            parts.headers.insert(header::LOCATION, location);
        }
        let text = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|t| t.to_str().ok())
            .is_some_and(|t| t.starts_with("text/html") || t.starts_with("application/json"));
        let plain = !parts.headers.contains_key(header::CONTENT_ENCODING);
        let body = body.map_err(|e| -> BoxError { e.into() });
        match self.prefix.clone().filter(|_| text && plain) {
            Some(prefix) => {
                parts.headers.remove(header::CONTENT_LENGTH);
                let rewritten = Rewrite { inner: Box::pin(body), prefix, held: BytesMut::new(), over: false };
                Response::from_parts(parts, rewritten.boxed_unsync())
            }
            None => Response::from_parts(parts, body.boxed_unsync()),
        }
    }

    /// A redirect to this very host, without the host: only the browser knows the way it came.
    fn relative(&self, location: &HeaderValue, host: Option<&HeaderValue>) -> Option<HeaderValue> {
        let uri: Uri = location.to_str().ok()?.parse().ok()?;
        let to = uri.authority()?.as_str();
        let ours = to == self.authority || host.is_some_and(|host| host == to);
        let path = uri.path_and_query().filter(|_| ours)?.as_str();
        HeaderValue::from_str(path).ok()
    }
}

async fn exchange<S>(stream: S, request: Request<Body>) -> Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Headers without those that concern one connection only.
fn without_hops(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        kept.remove(name);
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        kept.remove(name);
    }
    kept
}

/// Takes the host out of log links while a page passes by, wherever its chunks are cut.
struct Rewrite<B> {
    inner: Pin<Box<B>>,
    prefix: Finder<'static>,
    /// Bytes that may be the beginning of the prefix.
    held: BytesMut,
    over: bool,
}

/// What the absolute prefix becomes.
const RELATIVE: &[u8] = b"/logs/";

impl<B> Rewrite<B> {
    /// What can be sent of what has come; all of it at the end.
    fn sendable(&mut self) -> Bytes {
        let needle = self.prefix.needle().len();
        let mut out = BytesMut::with_capacity(self.held.len());
        while let Some(at) = self.prefix.find(&self.held) {
            out.extend_from_slice(&self.held.split_to(at));
            out.extend_from_slice(RELATIVE);
            let _ = self.held.split_to(needle);
        }
        let begun = if self.over { 0 } else { beginning(&self.held, self.prefix.needle()) };
        out.extend_from_slice(&self.held.split_to(self.held.len() - begun));
        out.freeze()
    }
}

/// How many bytes at the end could be the beginning of the needle.
fn beginning(text: &[u8], needle: &[u8]) -> usize {
    (1..needle.len().min(text.len() + 1)).rev().find(|&n| text.ends_with(&needle[..n])).unwrap_or(0)
}

impl<B> hyper::body::Body for Rewrite<B>
where
    B: hyper::body::Body<Data = Bytes, Error = BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.over {
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
                Poll::Ready(None) => self.over = true,
            }
            let sendable = self.sendable();
            if !sendable.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(sendable))));
            }
        }
    }
}

/// TLS to a history server on this very machine. Its certificate is made for the name people
/// use, by whomever the cluster trusts; over loopback there is nobody it could be mistaken for.
fn tls_to_ourselves() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|_| unreachable!("aws-lc-rs has TLS 1.2 and 1.3"))
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

impl HistoryServerProxy {
    /// One of its REST answers; `None` if it cannot say.
    pub async fn json(&self, path: &str) -> Option<serde_json::Value> {
        const WAIT: Duration = Duration::from_secs(2);
        const MOST: usize = 4 << 20;
        let request = Request::get(path).header(header::HOST, "localhost").body(full(Bytes::new())).ok()?;
        let answer = tokio::time::timeout(WAIT, self.ask(request)).await.ok()?.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        let body = http_body_util::Limited::new(answer.into_body(), MOST);
        let bytes = tokio::time::timeout(WAIT, body.collect()).await.ok()?.ok()?.to_bytes();
        serde_json::from_slice(&bytes).ok()
    }
}
