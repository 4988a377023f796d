//! The history server's process, as the kernel shows it: its arguments, and where it listens.

use super::spark::mebibytes;
use anyhow::{Result, bail};
use fs_err as fs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

const LAUNCHER: &str = "org.apache.spark.launcher.Main";
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
    /// Whether its thread that scans the directory runs. Spark starts it after the web page, once
    /// it has found the directory; where that fails, the page is there for a moment all the same.
    pub scans: bool,
}

impl Process {
    /// Every history server on this machine.
    pub fn all() -> Vec<Self> {
        pids().filter_map(Self::read).collect()
    }

    /// The unit's history server: the main process systemd knows, else one in the unit's control
    /// group, else the newest there is.
    pub fn find(unit: &str, main_pid: Option<u32>) -> Option<Self> {
        Self::all().into_iter().max_by_key(|p| {
            let group = fs::read_to_string(format!("/proc/{}/cgroup", p.pid)).unwrap_or_default();
            (Some(p.pid) == main_pid, group.contains(unit), p.started)
        })
    }

    /// Every history server, and what is about to become one: the shell of `user` that runs
    /// spark-class, and its launcher.
    pub fn all_stages(user: Option<u32>) -> Vec<Self> {
        let early = |process: &Process| {
            let owner = fs::metadata(format!("/proc/{}", process.pid)).ok().map(|m| m.uid());
            user.is_some() && user == owner && process.args.iter().any(|a| a.contains(MAIN_CLASS))
        };
        pids().filter_map(Self::parse).filter(|p| p.is_server() || early(p)).collect()
    }

    fn read(pid: u32) -> Option<Self> {
        let mut process = Self::parse(pid).filter(Self::is_server)?;
        process.listens = listens(pid);
        process.scans = scans(pid);
        Some(process)
    }

    fn is_server(&self) -> bool {
        let java = self.args.first().is_some_and(|a| Path::new(a).file_name().is_some_and(|name| name == "java"));
        let is = |class: &str| self.args.iter().any(|a| a == class);
        // spark-class first runs a small JVM that only puts the command line together.
        java && is(MAIN_CLASS) && !is(LAUNCHER)
    }

    /// Any process; a zombie is none.
    fn parse(pid: u32) -> Option<Self> {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let args = cmdline.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields are counted after the name, which may hold anything but ends with `)`.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        if fields.next() == Some("Z") {
            return None;
        }
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, started, args, listens: Vec::new(), scans: false })
    }

    /// Whether two are the same process.
    pub fn is(&self, other: &Process) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }

    /// Ends it: asked first, and made to after ten seconds.
    pub fn end(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?);
        for (signal, patience) in [(Signal::SIGTERM, 10), (Signal::SIGKILL, 5)] {
            let deadline = Instant::now() + Duration::from_secs(patience);
            // Gone already is what is wanted.
            let _ = kill(pid, signal);
            while Self::parse(self.pid).is_some_and(|p| p.is(self)) {
                if Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        if Self::parse(self.pid).is_some_and(|p| p.is(self)) {
            bail!("process {} does not end", self.pid);
        }
        Ok(())
    }

    /// The class path it was started with.
    pub fn class_path(&self) -> Option<&str> {
        let at = self.args.iter().position(|a| a == "-cp" || a == "-classpath")?;
        self.args.get(at + 1).map(String::as_str)
    }

    /// Its heap by its command line, in MiB.
    pub fn heap_mib(&self) -> Option<u64> {
        mebibytes(self.args.iter().rev().find_map(|a| a.strip_prefix("-Xmx"))?)
    }

    /// Whether it is suspended, as by SIGSTOP or a debugger.
    pub fn is_suspended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with(['T', 't']))
    }

    /// How long it has been running.
    pub fn up(&self) -> Option<Duration> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let since_boot: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        let began = Duration::from_secs(self.started / u64::try_from(ticks).ok()?);
        Some(Duration::from_secs_f64(since_boot).saturating_sub(began))
    }

    /// A system property of its command line; it wins over spark-defaults.conf.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.args.iter().rev().find_map(|a| a.strip_prefix("-D")?.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Who listens on a port.
pub struct Listener {
    /// The process, where we may see it.
    pub pid: Option<u32>,
    /// Its command line.
    pub command: Option<String>,
}

impl Listener {
    /// In words.
    pub fn who(&self) -> String {
        match (self.pid, &self.command) {
            (Some(pid), Some(command)) => format!("process {pid}: {command}"),
            (Some(pid), None) => format!("process {pid}"),
            _ => "a process that only root may see".into(),
        }
    }

    /// Whether it is a history server.
    pub fn is_history_server(&self) -> bool {
        self.pid.and_then(Process::parse).is_some_and(|p| p.is_server())
    }
}

/// Who listens on a port of this node, if anybody does.
pub fn listener(port: u16) -> Option<Listener> {
    let inode = listening("/proc/net").into_iter().find(|(_, at)| at.port() == port)?.0;
    let pid = pids().find(|pid| sockets(*pid).contains(&inode));
    let command = pid.and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok()).map(|bytes| {
        let words: Vec<_> = bytes.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        words.join(" ").trim_end().chars().take(200).collect()
    });
    Some(Listener { pid, command })
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

fn scans(pid: u32) -> bool {
    // The kernel keeps 15 bytes of `spark-history-task-0`.
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads
        .flatten()
        .any(|t| fs::read_to_string(t.path().join("comm")).is_ok_and(|name| name.trim_end() == "spark-history-t"))
}

fn listens(pid: u32) -> Vec<SocketAddr> {
    let sockets = sockets(pid);
    let found: BTreeSet<SocketAddr> = listening(&format!("/proc/{pid}/net"))
        .into_iter()
        .filter_map(|(inode, address)| sockets.contains(&inode).then_some(address))
        .collect();
    found.into_iter().collect()
}

/// The inodes of a process's sockets.
fn sockets(pid: u32) -> BTreeSet<u64> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| {
        let link = fs::read_link(fd.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
    .collect()
}

/// The listening sockets of a network namespace: their inodes and addresses.
fn listening(net: &str) -> Vec<(u64, SocketAddr)> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let Ok(text) = fs::read_to_string(format!("{net}/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&"0A"), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
                continue;
            };
            if let (Ok(inode), Some(address)) = (inode.parse(), address(local)) {
                found.push((inode, address));
            }
        }
    }
    found
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
