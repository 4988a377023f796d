//! Accepts connections until SIGTERM or SIGINT, then finishes the open ones.

use super::access_log::{AccessLog, PAUSE};
use super::connection::Connection;
use super::connections::Closed;
use super::startup;
pub(crate) use super::startup::GatewayConfig;
use crate::error::Fault;
use crate::gateway::handler::Gateway;
use crate::gateway::limits::{BACKLOG, MAX_REFUSALS, REFUSAL_TIMEOUT, SEND_BUFFER};
use crate::gateway::shares::Client;
use crate::gateway::tls::Tls;
use crate::shown::hint;
use anyhow::Result;
use hyper_util::server::graceful::GracefulShutdown;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6V6Only;
use sd_notify::NotifyState;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;

/// How long open responses can take after SIGTERM; less than the unit's TimeoutStopSec.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs the gateway until SIGTERM or SIGINT.
pub(crate) fn run(config: GatewayConfig) -> Result<()> {
    // One request occupies a core for microseconds, so more threads than four gain nothing.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let result = runtime.block_on(listen(config));
    // A task that still waits for S3 has no connection left to answer.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn listen(config: GatewayConfig) -> Result<()> {
    let (listener, address) = bind(config.settings.address())?;
    let tls = startup::tls(&config.settings)?;
    let gateway = Arc::new(startup::gateway(&config, tls.is_some()).await?);
    let access_log = AccessLog::start(config.quiet, gateway.left_out.clone());
    tokio::spawn(gateway.credentials.clone().refresh_forever());
    gateway.archive.watch();
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().reload_forever(|text| eprintln!("warning: {text}")));
    }
    if let Some(logins) = &gateway.logins {
        tokio::spawn(logins.clone().reload_forever(|text| eprintln!("warning: {text}")));
    }
    let description = startup::describe(&config, &gateway);
    eprintln!("emr-shs {} gateway on {address}, {description}", env!("CARGO_PKG_VERSION"));

    let mut signals =
        StopSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let acceptor = Acceptor {
        gateway,
        tls,
        access_log,
        refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        graceful: GracefulShutdown::new(),
    };
    acceptor.accept_until(&listener, &mut signals).await?;
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    drop(listener);
    let archive = acceptor.gateway.archive.clone();
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, acceptor.graceful.shutdown()).await;
    archive.save();
    // The last lines of the access log.
    tokio::time::sleep(2 * PAUSE).await;
    Ok(())
}

fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        // IPv4 too, whatever net.ipv6.bindv6only says.
        setsockopt(&socket, Ipv6V6Only, &false)?;
    }
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let mut bound = listener(address);
    // The kernel can be built without IPv6.
    if bound.is_err() && address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        let v4 = listener((Ipv4Addr::UNSPECIFIED, address.port()).into());
        bound = if v4.is_ok() { v4 } else { bound };
    }
    let listener = bound.map_err(|e| {
        Fault::preflight(format!("the gateway cannot listen on {address}")).detail(e.to_string()).hint(hint!("find the process that uses the port: sudo ss -ltnp 'sport = :{}'; or choose another port: --listen '[::]:9978'", address.port()))
    })?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

struct Acceptor {
    gateway: Arc<Gateway>,
    tls: Option<Arc<Tls>>,
    access_log: AccessLog,
    refusals: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Acceptor {
    async fn accept_until(&self, listener: &TcpListener, signals: &mut StopSignals) -> Result<()> {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = signals.recv() => return Ok(()),
            };
            match accepted {
                Ok((stream, peer)) => {
                    let client = self.gateway.client(peer.ip());
                    if self.gateway.serves(client.address) {
                        self.serve(stream, client);
                    } else {
                        self.refuse(stream, client);
                    }
                }
                // For example, the process has no free file descriptor until a connection closes.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn serve(&self, stream: TcpStream, client: Client) {
        let Some(open) = self.gateway.connections.open(client.address, client.is_own) else { return };
        let connection = self.connection(client);
        let (tls, watcher) = (self.tls.clone(), self.graceful.watcher());
        tokio::spawn(connection.serve(open, stream, tls, watcher));
    }

    fn refuse(&self, stream: TcpStream, client: Client) {
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else {
            return self.gateway.connections.count_closed(Closed::Stranger);
        };
        let (connection, tls) = (self.connection(client), self.tls.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, connection.refuse(stream, tls)).await;
        });
    }

    fn connection(&self, client: Client) -> Connection {
        Connection { gateway: self.gateway.clone(), client, access_log: self.access_log.clone() }
    }
}
