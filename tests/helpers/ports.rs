//! Ports for servers that a test starts as processes of their own.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where Linux takes no port from for a socket that names none: it takes those from 32768 on.
const FIRST: u32 = 15_000;
const COUNT: u32 = 15_000;

/// A port that nobody uses, and that no test of this process gets again soon. So no connection of another test has it when the
/// server begins to listen.
pub fn unused_port() -> u16 {
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(97)));
    loop {
        let port = (FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) as u16;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}
