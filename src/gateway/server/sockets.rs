//! The listening sockets: those that systemd hands over, or else one of the gateway's own.

use crate::error::Fault;
use crate::gateway::limits::{BACKLOG, SEND_BUFFER};
use crate::paths::GATEWAY_SOCKET;
use crate::shown::hint;
use anyhow::Result;
use listenfd::ListenFd;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv6V6Only, SndBuf};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The sockets that systemd hands over to its service; none if systemd has no socket for it.
pub(super) fn handed_over() -> Result<Vec<StdListener>> {
    let mut handed = ListenFd::from_env();
    let all = (0..handed.len()).filter_map(|at| handed.take_tcp_listener(at).transpose());
    let all = all.collect::<io::Result<Vec<_>>>().map_err(|e| {
        Fault::preflight("systemd hands the gateway a socket on which no browser can connect")
            .detail(e.to_string())
            .hint(hint!("leave only TCP ports in it: sudo systemctl edit {}", GATEWAY_SOCKET))
    })?;
    Ok(all)
}

pub(super) struct Sockets {
    all: Vec<TcpListener>,
    /// Which one is asked first: all in turn.
    turn: AtomicUsize,
}

impl Sockets {
    /// The sockets that were handed over, or else one on `address`.
    pub(super) fn open(handed_over: Vec<StdListener>, address: SocketAddr) -> Result<Self> {
        let mut all = handed_over.into_iter().map(take).collect::<io::Result<Vec<_>>>()?;
        if all.is_empty() {
            all.push(bind(address)?);
        }
        Ok(Self { all, turn: AtomicUsize::new(0) })
    }

    /// For people.
    pub(super) fn addresses(&self) -> String {
        let addresses = self.all.iter().filter_map(|socket| socket.local_addr().ok());
        addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(" and ")
    }

    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len().max(1);
        let (later, sooner) = self.all.split_at(first);
        poll_fn(|cx| {
            let mut ready = sooner.iter().chain(later).map(|socket| socket.poll_accept(cx));
            ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }
}

fn take(socket: StdListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    // Connections inherit it.
    setsockopt(&socket, SndBuf, &(SEND_BUFFER as usize))?;
    TcpListener::from_std(socket)
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
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

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let mut bound = listener(address);
    // The kernel can be built without IPv6.
    if bound.is_err() && address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        let v4 = listener((Ipv4Addr::UNSPECIFIED, address.port()).into());
        bound = if v4.is_ok() { v4 } else { bound };
    }
    Ok(bound.map_err(|e| {
        Fault::preflight(format!("the gateway cannot listen on {address}")).detail(e.to_string()).hint(hint!("find the process that uses the port: sudo ss -ltnp 'sport = :{}'; or choose another port: sudo emr-shs proxy install --listen '[::]:9978'; then: sudo emr-shs restart", address.port()))
    })?)
}
