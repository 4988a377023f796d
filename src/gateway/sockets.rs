//! Whose socket is at the other end: the account that made a TCP socket of this node.
//!
//! The kernel tells it about one socket at a time (`sock_diag`, without any right), and in a table of all sockets
//! (`/proc/net/tcp`), where kernels lack the first. `hidepid` hides neither.

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};
use procfs::net::{TcpNetEntry, TcpState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// What the kernel tells of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Uid(u32),
    /// No process of this node has such a socket, or its process has closed it.
    Nobody,
    /// This kernel does not tell whose sockets there are.
    Unknown,
    /// This kernel tells it, but has not answered this question: this process had no descriptor left, for example.
    Unanswered,
}

#[derive(Clone, Copy)]
enum Way {
    SockDiag,
    Table,
}

/// Whose the socket is that is connected from `peer` to `own`. May block.
pub(super) fn of_peer(peer: SocketAddr, own: SocketAddr) -> Owner {
    told_by(way(), |way| way.of_peer(plain(peer), plain(own)))
}

/// Only a kernel that tells of no socket makes an owner unknown: nobody must be served because a question has failed.
fn told_by(way: Option<Way>, ask: impl FnOnce(Way) -> Option<Owner>) -> Owner {
    way.map_or(Owner::Unknown, |way| ask(way).unwrap_or(Owner::Unanswered))
}

/// The same, where the kernel tells it within microseconds; `None` where it must be looked for in a table of all sockets.
pub(super) fn of_peer_at_once(peer: SocketAddr, own: SocketAddr) -> Option<Owner> {
    let way = way().filter(|way| matches!(way, Way::SockDiag))?;
    way.of_peer(plain(peer), plain(own))
}

/// Whether this kernel tells whose sockets there are.
pub(super) fn are_seen() -> bool {
    way().is_some()
}

/// The first way by which the kernel tells the truth about a connection that this process makes with itself.
fn way() -> Option<Way> {
    static WAY: OnceLock<Option<Way>> = OnceLock::new();
    *WAY.get_or_init(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let own = listener.local_addr().ok()?;
        let connected = TcpStream::connect(own).ok()?;
        let peer = connected.local_addr().ok()?;
        let uid = Owner::Uid(nix::unistd::geteuid().as_raw());
        [Way::SockDiag, Way::Table].into_iter().find(|way| way.of_peer(peer, own) == Some(uid))
    })
}

impl Way {
    fn of_peer(self, peer: SocketAddr, own: SocketAddr) -> Option<Owner> {
        match self {
            Self::SockDiag => diagnosed(peer, own).map(|found| match found {
                Diagnosis::Socket { uid, has_process: true } => Owner::Uid(uid),
                _ => Owner::Nobody,
            }),
            Self::Table => Some(peer_in_table(peer, own)),
        }
    }
}

/// The address without the form that IPv6 gives to addresses of IPv4: the kernel knows such a connection as one of IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    match (address, address.ip().to_canonical()) {
        (SocketAddr::V6(_), IpAddr::V4(v4)) => SocketAddr::from((v4, address.port())),
        _ => address,
    }
}

/// What sock_diag tells of the socket between two ends.
pub(super) enum Diagnosis {
    Socket {
        /// 0, too, as long as no process has accepted the connection, on older kernels.
        uid: u32,
        /// Whether the socket is the connection itself and a process holds it. A socket that its process has closed belongs to
        /// root for the kernel. Without a connected socket the kernel names one that listens on the same port.
        has_process: bool,
    },
    Missing,
}

/// What sock_diag tells of the socket that is connected from `near` to `far`. `None` if the kernel does not answer such
/// questions.
pub(super) fn diagnose(near: SocketAddr, far: SocketAddr) -> Option<Diagnosis> {
    diagnosed(plain(near), plain(far))
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Asks the kernel for one socket, by both its ends. `None` if the kernel does not answer such questions.
///
/// The layouts are those of linux/netlink.h and linux/inet_diag.h: `nlmsghdr`, then `inet_diag_req_v2` in the question, and
/// `inet_diag_msg` in the answer.
fn diagnosed(near: SocketAddr, far: SocketAddr) -> Option<Diagnosis> {
    const NLM_F_REQUEST: u16 = 1;
    const IPPROTO_TCP: u8 = 6;
    let family: u8 = if near.is_ipv4() { 2 } else { 10 };
    let scope = |address: SocketAddr| if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
    let mut question = Vec::with_capacity(72);
    question.extend(72_u32.to_ne_bytes());
    question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    question.extend(NLM_F_REQUEST.to_ne_bytes());
    question.extend([0; 8]);
    question.extend([family, IPPROTO_TCP, 0, 0]);
    // In any state.
    question.extend(u32::MAX.to_ne_bytes());
    let ports = [near.port().to_be_bytes(), far.port().to_be_bytes()].concat();
    question.extend(&ports);
    question.extend(sixteen(near.ip()));
    question.extend(sixteen(far.ip()));
    question.extend(scope(near).max(scope(far)).to_ne_bytes());
    // No cookie: the ends alone say which socket is meant.
    question.extend([0xff; 8]);

    let kernel =
        socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)
            .ok()?;
    sendto(kernel.as_raw_fd(), &question, &NetlinkAddr::new(0, 0), MsgFlags::empty()).ok()?;
    let mut answer = [0; 512];
    // The answer is there when `sendto` returns.
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
    told(answer.get(..length)?, &ports)
}

/// Reads an answer about the socket with these ports.
fn told(answer: &[u8], ports: &[u8]) -> Option<Diagnosis> {
    const NLMSG_ERROR: u16 = 2;
    const ENOENT: i32 = 2;
    const LISTEN: u8 = 10;
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind == NLMSG_ERROR {
        return (number(16)? == ENOENT.wrapping_neg().cast_unsigned()).then_some(Diagnosis::Missing);
    }
    if kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let (state, found_ports, uid, inode) = (*answer.get(17)?, answer.get(20..24)?, number(80)?, number(84)?);
    let has_process = found_ports == ports && state != LISTEN && inode != 0;
    Some(Diagnosis::Socket { uid, has_process })
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// All TCP sockets of this node.
pub(super) fn table() -> Vec<TcpNetEntry> {
    [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten().collect()
}

fn peer_in_table(peer: SocketAddr, own: SocketAddr) -> Owner {
    let is_at = |found: SocketAddr, wanted: SocketAddr| {
        found.port() == wanted.port() && found.ip().to_canonical() == wanted.ip()
    };
    let is_it = |entry: &&TcpNetEntry| {
        entry.state != TcpState::Listen
            && entry.inode != 0
            && is_at(entry.local_address, peer)
            && is_at(entry.remote_address, own)
    };
    table().iter().find(is_it).map_or(Owner::Nobody, |entry| Owner::Uid(entry.uid))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::net::Shutdown;

    #[test]
    fn an_answer_that_names_no_socket_tells_nothing() {
        assert!(told(&[0; 20], &[0; 4]).is_none(), "an error");
    }

    #[test]
    fn a_question_that_fails_makes_nobody_unknown() {
        assert_eq!(told_by(None, |_| Some(Owner::Uid(1))), Owner::Unknown);
        for way in [Way::SockDiag, Way::Table] {
            assert_eq!(told_by(Some(way), |_| None), Owner::Unanswered);
            assert_eq!(told_by(Some(way), |_| Some(Owner::Uid(1))), Owner::Uid(1));
        }
    }

    #[test]
    fn both_ways_tell_whose_a_connection_is_until_it_is_closed() {
        let own_uid = Owner::Uid(nix::unistd::geteuid().as_raw());
        // Of IPv4, of IPv6, and of IPv4 through a socket of IPv6.
        for (listens, through) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "::ffff:127.0.0.1")] {
            let Ok(listener) = TcpListener::bind(listens) else { continue };
            let port = listener.local_addr().unwrap().port();
            let at = SocketAddr::new(through.parse().unwrap(), port);
            let Ok(client) = TcpStream::connect(at) else { continue };
            let (server, peer) = listener.accept().unwrap();
            let (peer, own) = (plain(peer), plain(server.local_addr().unwrap()));
            for way in [Way::SockDiag, Way::Table] {
                assert_eq!(way.of_peer(peer, own), Some(own_uid), "{at}");
                let other = SocketAddr::new(peer.ip(), peer.port() ^ 1);
                assert_eq!(way.of_peer(other, own), Some(Owner::Nobody), "{at}");
            }
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(of_peer(peer, own), own_uid, "its process still reads");
            drop(client);
            for way in [Way::SockDiag, Way::Table] {
                assert_eq!(way.of_peer(peer, own), Some(Owner::Nobody), "nobody's, and not root's: {at}");
            }
        }
    }
}
