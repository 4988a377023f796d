//! The history server's process as the kernel shows it: its arguments, its threads, and the ports on
//! which it listens.

use super::spark::mebibytes;
use anyhow::{Result, bail};
use fs_err as fs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process as ProcEntry, Stat, all_processes};
use procfs::{Current, ProcResult, Uptime};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// `spark-class` runs this small JVM first. It only composes the command line of the real one.
const LAUNCHER: &str = "org.apache.spark.launcher.Main";
const MAIN_CLASS: &str = "org.apache.spark.deploy.history.HistoryServer";
/// The name of the thread `spark-history-task-0`, as the kernel keeps it: its first 15 bytes.
const SCAN_THREAD: &str = "spark-history-t";

/// A running history server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    pub pid: u32,
    /// Start time in clock ticks since boot. A pid and a start time identify one process for ever.
    pub started: u64,
    #[serde(skip)]
    pub args: Vec<String>,
    /// Empty if the process does not listen yet, or belongs to another user and we are not root.
    pub listens: Vec<SocketAddr>,
    /// Whether the thread that scans the event log directory runs. Spark starts that thread only after
    /// it has found the directory; its web page is up before.
    pub scans: bool,
}

impl Process {
    /// Every history server on this machine.
    pub fn all() -> Vec<Self> {
        processes().filter_map(|entry| Self::read(&entry)).collect()
    }

    /// The history server of a unit: the unit's main process if systemd knows one, else a process in
    /// the unit's control group, else the youngest history server on this machine.
    pub fn find(unit: &str, main_pid: Option<u32>) -> Option<Self> {
        Self::all().into_iter().max_by_key(|p| (Some(p.pid) == main_pid, p.is_in_control_group(unit), p.started))
    }

    /// Every history server, and every process of `user` that is about to become one: the shell that
    /// runs `spark-class`, and its launcher.
    pub fn all_stages(user: Option<u32>) -> Vec<Self> {
        let will_be_server = |entry: &ProcEntry, process: &Self| {
            user.is_some() && entry.uid().ok() == user && process.args.iter().any(|a| a.contains(MAIN_CLASS))
        };
        processes()
            .filter_map(|entry| Some((Self::parse(&entry)?, entry)))
            .filter(|(process, entry)| process.is_server() || will_be_server(entry, process))
            .map(|(process, _)| process)
            .collect()
    }

    fn read(entry: &ProcEntry) -> Option<Self> {
        let mut process = Self::parse(entry).filter(Self::is_server)?;
        process.listens = listens(entry);
        process.scans = scans(entry);
        Some(process)
    }

    fn is_server(&self) -> bool {
        let is_java = self.args.first().is_some_and(|a| Path::new(a).file_name().is_some_and(|name| name == "java"));
        let names = |class: &str| self.args.iter().any(|a| a == class);
        is_java && names(MAIN_CLASS) && !names(LAUNCHER)
    }

    /// `None` for a process that is gone or a zombie.
    fn parse(entry: &ProcEntry) -> Option<Self> {
        let pid = u32::try_from(entry.pid()).ok()?;
        let args = arguments(pid)?;
        let stat = entry.stat().ok().filter(|stat| stat.state != 'Z')?;
        Some(Self { pid, started: stat.starttime, args, listens: Vec::new(), scans: false })
    }

    fn stat(&self) -> Option<Stat> {
        entry(self.pid)?.stat().ok().filter(|stat| stat.starttime == self.started)
    }

    fn is_in_control_group(&self, unit: &str) -> bool {
        let groups = entry(self.pid).and_then(|entry| entry.cgroups().ok());
        groups.is_some_and(|groups| groups.0.iter().any(|group| group.pathname.contains(unit)))
    }

    /// Whether two are the same process.
    pub fn is(&self, other: &Process) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }

    /// Ends the process: with SIGTERM, and with SIGKILL if it still runs after ten seconds.
    pub fn end(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?);
        for (signal, seconds) in [(Signal::SIGTERM, 10), (Signal::SIGKILL, 5)] {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            // This fails if the process is gone already, which is what we want.
            let _ = kill(pid, signal);
            while self.is_alive() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        if self.is_alive() {
            bail!("process {} still runs after SIGKILL", self.pid);
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        self.stat().is_some_and(|stat| stat.state != 'Z')
    }

    pub fn class_path(&self) -> Option<&str> {
        let at = self.args.iter().position(|a| a == "-cp" || a == "-classpath")?;
        self.args.get(at + 1).map(String::as_str)
    }

    /// The heap that its command line sets.
    pub fn heap_mib(&self) -> Option<u64> {
        mebibytes(self.args.iter().rev().find_map(|a| a.strip_prefix("-Xmx"))?)
    }

    /// Whether SIGSTOP or a debugger has suspended the process.
    pub fn is_suspended(&self) -> bool {
        self.stat().is_some_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    /// How long the process has been running.
    pub fn up(&self) -> Option<Duration> {
        let since_boot = Uptime::current().ok()?.uptime_duration();
        let started = Duration::from_secs(self.started / procfs::ticks_per_second());
        Some(since_boot.saturating_sub(started))
    }

    /// A system property from its command line. Such a property overrides spark-defaults.conf.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.args.iter().rev().find_map(|a| a.strip_prefix("-D")?.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The process that listens on a port.
#[derive(Clone, Debug)]
pub(crate) struct PortOwner {
    /// `None` if the process belongs to another user and we are not root.
    pub pid: Option<u32>,
    pub command: Option<String>,
    pub is_history_server: bool,
}

impl PortOwner {
    pub(crate) fn description(&self) -> String {
        match (self.pid, &self.command) {
            (Some(pid), Some(command)) => format!("process {pid}: {command}"),
            (Some(pid), None) => format!("process {pid}"),
            _ => "a process that only root can see".into(),
        }
    }
}

/// The process of this machine that listens on a port; `None` if the port is free.
pub(crate) fn listener(port: u16) -> Option<PortOwner> {
    let sockets = listening(procfs::net::tcp(), procfs::net::tcp6());
    let (inode, _) = sockets.into_iter().find(|(_, address)| address.port() == port)?;
    let owner = processes().find(|entry| socket_inodes(entry).contains(&inode));
    let args = owner.as_ref().and_then(|owner| arguments(u32::try_from(owner.pid()).ok()?));
    Some(PortOwner {
        pid: owner.as_ref().and_then(|owner| u32::try_from(owner.pid()).ok()),
        command: args.map(|args| args.join(" ").trim_end().chars().take(200).collect()),
        is_history_server: owner.and_then(|owner| Process::parse(&owner)).is_some_and(|p| p.is_server()),
    })
}

fn processes() -> impl Iterator<Item = ProcEntry> {
    all_processes().into_iter().flatten().flatten()
}

fn entry(pid: u32) -> Option<ProcEntry> {
    ProcEntry::new(i32::try_from(pid).ok()?).ok()
}

/// The command line of a process. `procfs` refuses one that is not UTF-8.
fn arguments(pid: u32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(bytes.split(|b| *b == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect())
}

fn scans(process: &ProcEntry) -> bool {
    let threads = process.tasks().into_iter().flatten().flatten();
    threads.into_iter().any(|thread| thread.stat().is_ok_and(|stat| stat.comm == SCAN_THREAD))
}

/// The addresses on which a process listens, in its own network namespace.
fn listens(process: &ProcEntry) -> Vec<SocketAddr> {
    let inodes = socket_inodes(process);
    let sockets = listening(process.tcp(), process.tcp6()).into_iter();
    let addresses: BTreeSet<SocketAddr> =
        sockets.filter(|(inode, _)| inodes.contains(inode)).map(|(_, address)| address).collect();
    addresses.into_iter().collect()
}

fn socket_inodes(process: &ProcEntry) -> BTreeSet<u64> {
    let descriptors = process.fd().into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| match descriptor.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect()
}

/// The listening sockets of two tables: their inodes and addresses. A machine without IPv6 has no
/// second table.
fn listening(v4: ProcResult<Vec<TcpNetEntry>>, v6: ProcResult<Vec<TcpNetEntry>>) -> Vec<(u64, SocketAddr)> {
    let sockets = [v4, v6].into_iter().flatten().flatten();
    let listening = sockets.filter(|socket| socket.state == TcpState::Listen);
    listening
        .map(|socket| {
            let address = socket.local_address;
            (socket.inode, SocketAddr::new(address.ip().to_canonical(), address.port()))
        })
        .collect()
}
