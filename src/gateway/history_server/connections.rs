//! Connections to the history server. Spark's queue of connections that wait to be accepted has one or two places on most nodes
//! (docs/emr.md §3.2). If it is full, the kernel drops the first packet of a connection, and sends it again a second later. So the
//! gateway keeps connections for the next requests, opens one after the other, and tries again sooner than the kernel.

use super::listener::ListenerAccount;
use crate::dns;
use crate::gateway::http::{Body, BoxError, empty};
use crate::gateway::limits::{HANDSHAKE_TIMEOUT, HISTORY_BUFFER, HISTORY_IDLE, MAX_IDLE_HISTORY_CONNECTIONS};
use anyhow::{Context, Error, Result, anyhow};
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// How long the history server can take to accept a connection. It runs on this node. The tests, which run beside others on a busy
/// machine, wait longer, as for the next limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 30 } else { 3 });
/// How long a new connection can wait for those that are opened before it.
const TURN_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 10 });
/// After what time the gateway gives up an attempt to connect, and tries again. It waits twice as long for each next attempt; these are
/// the shortest and the longest time. The kernel itself would send the first packet again after a second.
const ATTEMPT_TIMEOUTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How many times a request is sent whose connection ends before the answer begins: a history server that restarts ends all connections
/// that the gateway keeps.
const TRIES: u32 = 3;

pub(super) struct Connections(Client<Connector, Body>);

impl Connections {
    /// `account` is `None` if any account's program can be the history server.
    pub(super) fn new(account: Option<ListenerAccount>) -> Self {
        let connector = Connector(Arc::new(Opener { account, tls: loopback_tls().into(), turn: Mutex::default() }));
        let mut client = Client::builder(TokioExecutor::new());
        client
            .http1_max_buf_size(HISTORY_BUFFER)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(HISTORY_IDLE)
            .pool_max_idle_per_host(MAX_IDLE_HISTORY_CONNECTIONS);
        Self(client.build(connector))
    }

    /// Sends a request, which has no body and changes nothing.
    pub(super) async fn exchange(
        &self,
        host: &str,
        port: u16,
        secure: bool,
        request: &Request<()>,
    ) -> Result<Response<Incoming>> {
        let uri = Uri::builder()
            .scheme(if secure { "https" } else { "http" })
            .authority(format!("{host}:{port}"))
            .path_and_query(request.uri().path_and_query().map_or("/", |path| path.as_str()))
            .build()?;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut onward = Request::builder().method(request.method()).uri(&uri).body(empty())?;
            *onward.headers_mut() = request.headers().clone();
            match self.0.request(onward).await {
                Err(error) if tries < TRIES && has_ended(&error) => {}
                answer => return answer.map_err(cause),
            }
        }
    }
}

/// Whether a connection ended before its answer began.
fn has_ended(error: &legacy::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    if error.is_connect() {
        return false;
    }
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let is_incomplete = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let io = cause.downcast_ref::<std::io::Error>();
        if is_incomplete || io.is_some_and(|io| matches!(io.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// The error without the outer message of the HTTP client.
fn cause(error: legacy::Error) -> Error {
    let error = Error::from(error);
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    if causes.is_empty() { error } else { anyhow!(causes.join(": ")) }
}

/// Opens connections.
#[derive(Clone)]
struct Connector(Arc<Opener>);

struct Opener {
    account: Option<ListenerAccount>,
    tls: TlsConnector,
    /// Held while a connection is opened, so that one is opened at a time.
    turn: Mutex<()>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opener = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(opener.open(&uri).await?)) })
    }
}

impl Opener {
    async fn open(&self, uri: &Uri) -> Result<Box<dyn Stream>> {
        let authority = uri.authority().context("an address without a host")?;
        let (host, port) = (authority.host(), authority.port_u16().context("an address without a port")?);
        let addresses = dns::lookup_later(host).await.with_context(|| authority.to_string())?;
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        let stream = {
            let late = || {
                anyhow!(
                    "{} s were not enough to open the connections to {authority} that came first",
                    TURN_TIMEOUT.as_secs()
                )
            };
            let _turn = timeout(TURN_TIMEOUT, self.turn.lock()).await.map_err(|_| late())?;
            connect(&addresses).await.with_context(|| authority.to_string())?
        };
        if let Some(account) = &self.account {
            account.check(stream.local_addr()?, stream.peer_addr()?).await?;
        }
        if uri.scheme_str() != Some("https") {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string())?;
        // The client goes on with this in the background if another connection comes free.
        let secured = timeout(HANDSHAKE_TIMEOUT, self.tls.connect(name, stream)).await;
        let late = |_| anyhow!("{authority} did not finish its TLS handshake within {} s", HANDSHAKE_TIMEOUT.as_secs());
        Ok(Box::new(secured.map_err(late)??))
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream> {
    let begun = Instant::now();
    let (mut patience, longest) = ATTEMPT_TIMEOUTS;
    while begun.elapsed() < CONNECT_TIMEOUT {
        if let Ok(connected) = timeout(patience, TcpStream::connect(addresses)).await {
            return Ok(connected?);
        }
        patience = longest.min(2 * patience);
    }
    Err(anyhow!("did not accept a connection within {} s", CONNECT_TIMEOUT.as_secs()))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::{BufRead, BufReader, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use tokio::net::TcpSocket;
    use tokio::task::JoinSet;

    /// A history server as on most nodes: few connections can wait, and it takes a while to accept one. It ends each
    /// connection at the request after so many answers.
    struct Server {
        port: u16,
        accepted: Arc<AtomicUsize>,
    }

    impl Server {
        fn start(answers: usize) -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let listener = socket.listen(1).unwrap().into_std().unwrap();
            listener.set_nonblocking(false).unwrap();
            let (port, accepted) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
            let count = accepted.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    count.fetch_add(1, Ordering::Relaxed);
                    thread::spawn(move || serve(&stream.unwrap(), answers));
                    thread::sleep(Duration::from_millis(5));
                }
            });
            Self { port, accepted }
        }

        fn accepted(&self) -> usize {
            self.accepted.load(Ordering::Relaxed)
        }
    }

    fn serve(mut stream: &std::net::TcpStream, answers: usize) {
        let mut heads = BufReader::new(stream).lines().map_while(Result::ok).filter(String::is_empty);
        for _ in heads.by_ref().take(answers) {
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
        // The next request gets no answer.
        heads.next();
    }

    async fn ask(connections: &Connections, port: u16) -> Result<()> {
        let request = Request::new(());
        let asked = connections.exchange("127.0.0.1", port, false, &request);
        let answer = timeout(Duration::from_secs(60), asked).await.context("no answer")??;
        assert_eq!(answer.into_body().collect().await?.to_bytes(), "ok");
        Ok(())
    }

    #[tokio::test]
    async fn a_connection_serves_many_requests() {
        let (server, connections) = (Server::start(usize::MAX), Connections::new(None));
        for _ in 0..20 {
            ask(&connections, server.port).await.unwrap();
        }
        assert!(server.accepted() < 4, "{} connections", server.accepted());
    }

    #[tokio::test]
    async fn everybody_gets_an_answer_although_few_connections_can_wait() {
        let (server, connections) = (Server::start(usize::MAX), Arc::new(Connections::new(None)));
        let mut asked = JoinSet::new();
        for _ in 0..150 {
            let connections = connections.clone();
            asked.spawn(async move { ask(&connections, server.port).await });
        }
        for answer in asked.join_all().await {
            answer.unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_ends_its_connections_is_asked_again() {
        let (server, connections) = (Server::start(1), Connections::new(None));
        for _ in 0..50 {
            ask(&connections, server.port).await.unwrap();
        }
        assert!(server.accepted() >= 50, "each connection has one answer");
    }

    #[tokio::test]
    async fn a_server_that_does_not_listen_or_answer_is_told_as_it_is() {
        let connections = Connections::new(None);
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = ask(&connections, closed).await.unwrap_err();
        assert_eq!(format!("{error:#}"), format!("127.0.0.1:{closed}: Connection refused (os error 111)"));
        let error = ask(&connections, Server::start(0).port).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "connection closed before message completed");
    }
}
