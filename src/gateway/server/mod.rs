//! Listening, connections, time limits, and an end in good order.

use crate::aws::s3::LogUri;
use crate::error::Fault;
use crate::gateway::access::{Addresses, HostNames, Users, plain};
use crate::gateway::archive::Archive;
use crate::gateway::credentials::CredentialsCache;
use crate::gateway::history_server::proxy::HistoryServerProxy;
use crate::gateway::metrics::{Metrics, Outcome};
use crate::gateway::presign::LatestSigner;
use crate::gateway::tls::Tls;
use crate::gateway::{Body, Gateway};
use crate::settings::{GatewaySettings, Mode};
use crate::systemd;
use anyhow::{Context, Result};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::convert::Infallible;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// How long a connection may take to send a request's head, and how long it may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 1024;
/// How large a request's head may be, in bytes: browsers bring all cookies of `localhost`.
const LARGEST_HEAD: usize = 64 * 1024;
/// Logins that are checked at a time.
const LOGINS: usize = 2;
/// Peers that are told, at a time, that they are not served.
const FOREIGN: usize = 64;
/// How long that may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// The longest path in the access log, in bytes.
const LONGEST: usize = 512;
/// How long answers under way may take when the gateway is to end.
const DRAIN: Duration = Duration::from_secs(15);
/// Lines of the access log that may wait for a slow reader; more are dropped.
const LINES: usize = 8192;
/// How long the next lines are waited for. Else each would wake the thread that writes them.
const PAUSE: Duration = Duration::from_millis(20);

/// What `proxy serve` was told.
pub struct Serve {
    /// What `install` would pass on, too.
    pub settings: GatewaySettings,
    /// This node's own cluster.
    pub cluster_id: Option<String>,
    /// AWS region; the SDK's own chain where there is none.
    pub region: Option<String>,
    /// S3 endpoint, where it is not AWS's own.
    pub endpoint_url: Option<String>,
    /// Where the history server answers.
    pub history_server: String,
    /// No access log.
    pub quiet: bool,
}

/// Serves until it is told to end.
pub fn run(serve: Serve) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let ended = runtime.block_on(listen(serve));
    // What waits for an SDK call has nobody left to answer to.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn listen(serve: Serve) -> Result<()> {
    let (listener, at) = bind(serve.settings.address()).await?;
    let tls = tls(&serve.settings)?;
    let log = AccessLog::start(serve.quiet);
    let gateway = Arc::new(gateway(&serve, tls.is_some()).await?);
    tokio::spawn(gateway.keeper.clone().keep());
    let warm = gateway.clone();
    tokio::spawn(async move {
        // So that the first click need not wait for it.
        for store in &warm.archive.stores {
            while store.way().await.is_err() {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    });
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().watch(|text| eprintln!("warning: {text}")));
    }
    eprintln!("emr-shs {} gateway on {at}, {}", env!("CARGO_PKG_VERSION"), describe(&serve, &gateway));

    let mut end = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    systemd::notify("READY=1");
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let foreign = Arc::new(Semaphore::new(FOREIGN));
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit?,
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    // No file descriptors, say: they come back when connections end.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
        };
        let connection = Connection { gateway: gateway.clone(), peer, log: log.clone() };
        if !gateway.open && !gateway.own.contain(peer.ip()) {
            // They must not keep others from being served.
            if let Ok(place) = foreign.clone().try_acquire_owned() {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let _ = tokio::time::timeout(FAREWELL, connection.farewell(stream, tls)).await;
                });
            }
            continue;
        }
        let (tls, watcher) = (tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            connection.gateway.metrics.connections.fetch_add(1, Ordering::Relaxed);
            let gateway = connection.gateway.clone();
            connection.serve(stream, tls, watcher).await;
            gateway.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
    systemd::notify("STOPPING=1");
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    // The last lines of the access log.
    tokio::time::sleep(2 * PAUSE).await;
    Ok(())
}

async fn bind(at: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let mut bound = TcpListener::bind(at).await;
    // A kernel without IPv6.
    if bound.is_err() && at.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, at.port())).await;
        bound = if v4.is_ok() { v4 } else { bound };
    }
    let listener = bound.map_err(|e| {
        Fault::preflight(format!("the gateway cannot listen on {at}")).detail(e.to_string()).hint(format!(
            "see who does: ss -ltnp 'sport = :{}'; or choose another port: --listen '[::]:9978'",
            at.port()
        ))
    })?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

fn tls(settings: &GatewaySettings) -> Result<Option<Arc<Tls>>> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(chain), Some(key)) => Ok(Some(Arc::new(Tls::from_files(chain.clone(), key.clone())?))),
        _ if settings.tls_self_signed => {
            let (tls, print) = Tls::self_signed(names(settings))?;
            eprintln!("self-signed certificate, SHA-256 {print}");
            Ok(Some(Arc::new(tls)))
        }
        _ => Ok(None),
    }
}

fn names(settings: &GatewaySettings) -> Vec<String> {
    let mut names = settings.host_names.clone();
    names.extend(std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_string()));
    names.extend(settings.public_url.as_deref().and_then(public_host));
    names.push("localhost".into());
    names
}

/// The host of `https://host:port`.
fn public_host(url: &str) -> Option<String> {
    let uri: hyper::Uri = url.parse().ok()?;
    Some(uri.host()?.trim_matches(['[', ']']).to_string())
}

async fn gateway(serve: &Serve, tls: bool) -> Result<Gateway> {
    let settings = &serve.settings;
    let users = settings.htpasswd.as_deref().map(Users::read).transpose()?.map(Arc::new);
    let keeper = CredentialsCache::new().await;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(6))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        .no_credentials();
    if let Some(region) = &serve.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let config = loader.load().await;
    let uris: Vec<LogUri> = settings.log_uris.clone();
    if uris.is_empty() {
        return Err(Fault::usage("which log URI?")
            .detail("the gateway serves logs below the log URIs of clusters, and none is named")
            .hint("emr-shs proxy serve --log-uri s3://my-bucket/elasticmapreduce/")
            .into());
    }
    let signers = uris.iter().map(|_| LatestSigner::default()).collect();
    let prefix = settings.link_prefix();
    Ok(Gateway {
        archive: Arc::new(Archive::new(
            uris,
            serve.cluster_id.clone(),
            &config,
            serve.endpoint_url.clone(),
            keeper.clone(),
        )),
        keeper,
        front: HistoryServerProxy::new(&serve.history_server, prefix.as_deref()).context("--history-server")?,
        mode: settings.mode.unwrap_or_default(),
        names: HostNames::new(names(settings)),
        own: Addresses::default(),
        open: settings.insecure || (tls && users.is_some()),
        users,
        logins: Semaphore::new(LOGINS),
        tunnel: format!(
            "ssh -L {port}:localhost:{port} hadoop@{}",
            settings.host_names.last().map_or("PRIMARY-NODE", String::as_str),
            port = settings.address().port()
        ),
        metrics: Metrics::default(),
        signers,
    })
}

fn describe(serve: &Serve, gateway: &Gateway) -> String {
    let uris: Vec<String> = serve.settings.log_uris.iter().map(ToString::to_string).collect();
    let mode = match gateway.mode {
        Mode::Redirect => "redirects to presigned URLs",
        Mode::Stream => "streams",
    };
    let peers = if gateway.open { "any peer" } else { "this node's own addresses" };
    let login = if gateway.users.is_some() { ", with a login" } else { "" };
    format!("logs below {}, {mode}, serves {peers}{login}", uris.join(" and "))
}

/// Whether the first byte is not the one that a TLS handshake begins with.
async fn speaks_http(stream: &TcpStream) -> bool {
    const HANDSHAKE_RECORD: u8 = 22;
    let mut first = [0];
    let peeked = tokio::time::timeout(HANDSHAKE, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1)) if first[0] != HANDSHAKE_RECORD)
}

struct Connection {
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    log: AccessLog,
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<Arc<Tls>>, watcher: Watcher) {
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.http(stream, watcher).await,
            Some(_) if speaks_http(&stream).await => self.send_to_https(stream, watcher).await,
            Some(tls) => {
                if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
                    self.http(stream, watcher).await;
                }
            }
        }
    }

    async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, watcher: Watcher) {
        let service = service_fn(|request| self.one(request));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(LARGEST_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        // An error is a peer that went away, or spoke no HTTP: it was answered if it could be.
        let _ = watcher.watch(connection).await;
    }

    /// One answer to a peer that is not served.
    async fn farewell(self, stream: TcpStream, tls: Option<Arc<Tls>>) {
        match tls {
            Some(tls) if !speaks_http(&stream).await => {
                if let Ok(stream) = tls.acceptor().accept(stream).await {
                    self.once(stream).await;
                }
            }
            _ => self.once(stream).await,
        }
    }

    async fn once<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let service = service_fn(|request| self.one(request));
        let _ = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    /// Whoever types `http://` to a TLS port is sent on, not left with a broken connection.
    async fn send_to_https(self, stream: TcpStream, watcher: Watcher) {
        let service = service_fn(|request: Request<Incoming>| {
            let host = request.headers().get(hyper::header::HOST).and_then(|h| h.to_str().ok());
            let host = host.filter(|host| self.gateway.names.contain(host, &self.gateway.own));
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let to = host.map(|host| format!("https://{host}{path}"));
            std::future::ready(Ok::<_, Infallible>(crate::gateway::moved_or_refused(to)))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        let _ = watcher.watch(connection).await;
    }

    async fn one(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let begun = Instant::now();
        let asked = self.log.wants().then(|| (request.method().clone(), request.uri().clone()));
        let (answer, outcome) = self.gateway.answer(self.peer, request).await;
        self.gateway.metrics.count(outcome);
        if let Some((method, uri)) = asked {
            self.log.write(self.peer.ip(), &method, uri.path(), answer.status().as_u16(), outcome, begun.elapsed());
        }
        Ok(answer)
    }
}

/// One line a request to stdout, by a thread of its own: no answer waits for the journal.
#[derive(Clone)]
struct AccessLog(Option<SyncSender<String>>);

impl AccessLog {
    fn start(quiet: bool) -> Self {
        if quiet {
            return Self(None);
        }
        let (sender, lines) = sync_channel::<String>(LINES);
        std::thread::spawn(move || {
            let mut out = BufWriter::new(std::io::stdout());
            while let Ok(first) = lines.recv() {
                for line in std::iter::once(first).chain(lines.try_iter().take(LINES)) {
                    let _ = out.write_all(line.as_bytes());
                }
                let _ = out.flush();
                std::thread::sleep(PAUSE);
            }
        });
        Self(Some(sender))
    }

    fn wants(&self) -> bool {
        self.0.is_some()
    }

    /// The path only: no query, no URL, nothing that was signed.
    fn write(&self, peer: IpAddr, method: &Method, path: &str, status: u16, outcome: Outcome, took: Duration) {
        // A path is ASCII here, or it was refused before it was looked at.
        let path = path.get(..LONGEST).unwrap_or(path);
        let tenths = took.as_micros() / 100;
        let (ms, tenth) = (tenths / 10, tenths % 10);
        let text = format!("{} {method} {path} {status} {} {ms}.{tenth} ms\n", plain(peer), outcome.name());
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(text);
        }
    }
}
