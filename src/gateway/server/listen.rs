//! Accepts connections until SIGTERM or SIGINT, then finishes the open ones.

use super::access_log::{AccessLog, PAUSE};
use super::connection::Connection;
use super::connections::{Closed, Connections};
use super::sockets::{self, Sockets};
use super::startup;
pub(crate) use super::startup::GatewayConfig;
use crate::gateway::handler::Gateway;
use crate::gateway::limits::{
    KEPT_CONNECTIONS, LAST_REQUESTS, MAX_CONNECTIONS, MAX_LEAVING_CONNECTIONS, MAX_REFUSALS, REFUSAL_TIMEOUT,
};
use crate::gateway::shares::Client;
use crate::gateway::sockets::{Owner, of_peer_at_once};
use crate::gateway::tls::Tls;
use anyhow::Result;
use hyper_util::server::graceful::GracefulShutdown;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// How long open responses can take after SIGTERM; less than the unit's TimeoutStopSec.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);
/// A response of which nothing has moved for so long is not finished after SIGTERM. A download over a bad line pauses for less.
const SHUTDOWN_SILENCE: Duration = Duration::from_secs(3);

/// Runs the gateway until SIGTERM or SIGINT.
pub(crate) fn run(config: GatewayConfig) -> Result<()> {
    // Before the first thread: the descriptors' variables are taken out of the environment.
    let handed_over = sockets::handed_over()?;
    // One request occupies a core for microseconds, so more threads than four gain nothing.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let result = runtime.block_on(listen(config, handed_over));
    // A task that still waits for S3 has no connection left to answer.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn listen(config: GatewayConfig, handed_over: Vec<std::net::TcpListener>) -> Result<()> {
    let sockets = Sockets::open(handed_over, config.settings.address())?;
    let tls = startup::tls(&config.settings)?;
    let gateway = Arc::new(startup::gateway(&config, tls.clone()).await?);
    let access_log = AccessLog::start(config.quiet, gateway.left_out.clone());
    tokio::spawn(gateway.credentials.clone().refresh_forever());
    gateway.archive.watch();
    if let Some(cache) = &gateway.event_log_cache {
        tokio::spawn(cache.clone().watch_forever());
    }
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().reload_forever(|text| eprintln!("warning: {text}")));
    }
    if let Some(logins) = &gateway.logins {
        tokio::spawn(logins.clone().reload_forever(|text| eprintln!("warning: {text}")));
    }
    let description = startup::describe(&config, &gateway);
    eprintln!("emr-shs {} gateway on {}, {description}", env!("CARGO_PKG_VERSION"), sockets.addresses());

    let mut signals =
        StopSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let acceptor = Acceptor {
        gateway,
        tls,
        access_log,
        refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        room: Arc::new(Semaphore::new(MAX_CONNECTIONS + KEPT_CONNECTIONS + MAX_LEAVING_CONNECTIONS)),
        graceful: GracefulShutdown::new(),
    };
    acceptor.accept_until(&sockets, &mut signals).await?;
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    // Whoever connects from now on waits in systemd's socket for the next start.
    drop(sockets);
    acceptor.gateway.is_stopping.store(true, Ordering::Relaxed);
    tokio::time::sleep(LAST_REQUESTS).await;
    acceptor.gateway.connections.evict_speechless();
    let archive = acceptor.gateway.archive.clone();
    let applications = acceptor.gateway.applications.clone();
    let keeper = tokio::spawn(async move {
        if let Some(applications) = applications {
            applications.stop().await;
        }
    });
    let Acceptor { gateway, graceful, .. } = acceptor;
    tokio::select! {
        () = graceful.shutdown() => {}
        () = disconnect_the_silent(&gateway.connections) => {}
        () = tokio::time::sleep(SHUTDOWN_TIMEOUT) => {}
    }
    archive.save();
    let _ = keeper.await;
    // The last lines of the access log.
    tokio::time::sleep(2 * PAUSE).await;
    Ok(())
}

/// Clients that do not read must not delay the next start, because nobody is served until then.
async fn disconnect_the_silent(connections: &Connections) {
    loop {
        tokio::time::sleep(SHUTDOWN_SILENCE / 4).await;
        connections.evict_silent(SHUTDOWN_SILENCE);
    }
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
    /// A permit for each connection that has not ended yet, whether or not it was told to go.
    room: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Acceptor {
    async fn accept_until(&self, sockets: &Sockets, signals: &mut StopSignals) -> Result<()> {
        loop {
            let accept = async {
                let room = self.room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
                sockets.accept().await.map(|(stream, peer)| (stream, peer, room))
            };
            let accepted = tokio::select! {
                accepted = accept => accepted,
                () = signals.recv() => return Ok(()),
            };
            match accepted {
                Ok((stream, peer, room)) => {
                    let client = self.gateway.client_at(peer.ip());
                    let own = stream.local_addr().ok();
                    let owner = own.filter(|_| client.is_own).and_then(|own| of_peer_at_once(peer, own));
                    let account = if let Some(Owner::Uid(id)) = owner { Some(id) } else { None };
                    let client = Client { account, ..client };
                    let (gateway, access_log, caller) =
                        (self.gateway.clone(), self.access_log.clone(), OnceCell::new());
                    let connection = Connection { gateway, client, access_log, peer, own, owner, caller };
                    if self.gateway.serves(client) {
                        self.serve(connection, stream, room);
                    } else {
                        self.refuse(connection, stream);
                    }
                }
                // For example, the process has no free file descriptor until a connection closes.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn serve(&self, connection: Connection, stream: TcpStream, room: OwnedSemaphorePermit) {
        let Some(open) = self.gateway.connections.open(connection.client) else { return };
        let (tls, watcher) = (self.tls.clone(), self.graceful.watcher());
        // Not from an async block: its future would have room for the connection's twice.
        tokio::spawn(connection.serve(open, room, stream, tls, watcher));
    }

    fn refuse(&self, connection: Connection, stream: TcpStream) {
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else {
            return self.gateway.connections.count_closed(Closed::Stranger);
        };
        let tls = self.tls.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, connection.refuse(stream, tls)).await;
        });
    }
}
