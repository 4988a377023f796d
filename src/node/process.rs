//! The history server's process, as the kernel shows it: its arguments, and where it listens.

use fs_err as fs;
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

const MAIN_CLASS: &str = "org.apache.spark.deploy.history.HistoryServer";

/// A running history server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot: with the pid, one process and no other.
    pub started: u64,
    /// Its command line.
    #[serde(skip)]
    pub args: Vec<String>,
    /// Where it listens; empty where we may not see that, or nothing yet.
    pub listens: Vec<SocketAddr>,
}

impl Process {
    /// The history server that runs now, the newest if there are several.
    pub fn find() -> Option<Self> {
        let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
        pids.filter_map(Self::read).max_by_key(|p| p.started)
    }

    fn read(pid: u32) -> Option<Self> {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let args: Vec<String> = cmdline.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        let java = Path::new(args.first()?).file_name()? == "java";
        if !java || !args.iter().any(|a| a == MAIN_CLASS) {
            return None;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields are counted after the name, which may hold anything but ends with `)`.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        if fields.next() == Some("Z") {
            return None;
        }
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, started, args, listens: listens(pid) })
    }

    /// Whether two are the same process.
    pub fn is(&self, other: &Process) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }

    /// The class path it was started with.
    pub fn class_path(&self) -> Option<&str> {
        let at = self.args.iter().position(|a| a == "-cp" || a == "-classpath")?;
        self.args.get(at + 1).map(String::as_str)
    }

    /// A system property of its command line; it wins over spark-defaults.conf.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.args.iter().rev().find_map(|a| a.strip_prefix("-D")?.strip_prefix(key)?.strip_prefix('='))
    }
}

fn listens(pid: u32) -> Vec<SocketAddr> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let sockets: BTreeSet<u64> = fds
        .flatten()
        .filter_map(|fd| {
            let link = fs::read_link(fd.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect();
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&"0A"), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
                continue;
            };
            if inode.parse().is_ok_and(|i: u64| sockets.contains(&i))
                && let Some(address) = address(local)
            {
                found.insert(address);
            }
        }
    }
    found.into_iter().collect()
}

/// `0100007F:46A0` of /proc/net/tcp: words in the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
    };
    Some(SocketAddr::new(ip, port))
}
