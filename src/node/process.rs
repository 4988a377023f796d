//! The history server's process: the one that systemd knows as the unit's, as the kernel shows it: its arguments, its
//! threads, and the ports on which it listens. And processes that look like it.

use super::control_group::{self, UnitGroup};
use super::spark::mebibytes;
use crate::systemd::{SYSTEMD, Unit};
use anyhow::{Result, bail};
use fs_err as fs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDPermissions, FDTarget, Process as ProcEntry, Stat, all_processes};
use procfs::{Current, ProcResult, Uptime};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `spark-class` runs this small JVM first. It only composes the command line of the real one.
const LAUNCHER: &str = "org.apache.spark.launcher.Main";
const MAIN_CLASS: &str = "org.apache.spark.deploy.history.HistoryServer";
/// The name of the thread `spark-history-task-0`, as the kernel keeps it: its first 15 bytes.
const SCAN_THREAD: &str = "spark-history-t";

/// The Java process of the history server's unit.
///
/// Only systemd's word makes a `Process`: the unit's main process, or a member of the unit's control group. A process
/// that merely has the right arguments is a [`LookAlike`]. Nothing waits for a look-alike, and nothing can end one.
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
    /// The history server of a unit: the unit's main process if that is the history server, else the youngest history
    /// server in the unit's control group, else the main process if it is a JVM: its arguments can come from a file.
    pub fn of_unit(unit: &Unit) -> Option<Self> {
        let main = unit.main_pid.and_then(|pid| entry(pid).and_then(|entry| Self::read(&entry, Self::is_jvm)));
        if main.as_ref().is_some_and(Self::is_server) {
            return main;
        }
        Self::servers_in_group(unit).into_iter().max_by_key(|p| p.started).or(main).or_else(|| {
            // Where /proc is mounted with hidepid, users other than root do not see the processes of others.
            let hidden = unit.main_pid.filter(|_| control_group::is_hiding_processes())?;
            Some(Self { pid: hidden, started: 0, args: Vec::new(), listens: Vec::new(), scans: false })
        })
    }

    /// Every history server in a unit's control group: one, unless a stop or a start has gone wrong.
    pub(crate) fn servers_in_group(unit: &Unit) -> Vec<Self> {
        members(unit).iter().filter_map(|entry| Self::read(entry, Self::is_server)).collect()
    }

    /// Every history server in a unit's control group, and what is about to become one: the shell that runs
    /// `spark-class`, and its launcher.
    pub(crate) fn stages_in_group(unit: &Unit) -> Vec<Self> {
        let names_server = |process: &Self| process.args.iter().any(|a| a.contains(MAIN_CLASS));
        members(unit).iter().filter_map(Self::parse).filter(names_server).collect()
    }

    fn read(entry: &ProcEntry, wanted: impl FnOnce(&Self) -> bool) -> Option<Self> {
        let mut process = Self::parse(entry).filter(wanted)?;
        process.listens = listens(entry);
        process.scans = scans(entry);
        Some(process)
    }

    fn is_jvm(&self) -> bool {
        let is_java = self.args.first().is_some_and(|a| Path::new(a).file_name().is_some_and(|name| name == "java"));
        is_java && !self.names(LAUNCHER)
    }

    /// Whether the arguments are those of a history server. The arguments alone do not say whose server it is.
    pub(crate) fn is_server(&self) -> bool {
        self.is_jvm() && self.names(MAIN_CLASS)
    }

    fn names(&self, class: &str) -> bool {
        self.args.iter().any(|a| a == class)
    }

    /// `None` for a process that is gone or a zombie.
    fn parse(entry: &ProcEntry) -> Option<Self> {
        let pid = u32::try_from(entry.pid()).ok()?;
        let args = arguments(pid)?;
        let stat = entry.stat().ok().filter(|stat| stat.state != 'Z')?;
        Some(Self { pid, started: stat.starttime, args, listens: Vec::new(), scans: false })
    }

    /// Whether the thread that scans the event log directory runs by now.
    pub(crate) fn has_begun_to_scan(&self) -> bool {
        entry(self.pid).is_some_and(|entry| scans(&entry))
    }

    fn stat(&self) -> Option<Stat> {
        entry(self.pid)?.stat().ok().filter(|stat| stat.starttime == self.started)
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
            // Another process can have the pid by now.
            if self.is_alive() {
                // This fails if the process has just ended, which is what we want.
                let _ = kill(pid, signal);
            }
            while self.is_alive() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        if self.is_alive() {
            bail!("process {} still runs after SIGKILL", self.pid);
        }
        Ok(())
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.stat().is_some_and(|stat| stat.state != 'Z')
    }

    /// `None` if the arguments name no class path: a file of arguments or a variable can.
    pub fn class_path(&self) -> Option<&str> {
        let is_option = |a: &String| ["-cp", "-classpath", "--class-path"].contains(&a.as_str());
        match self.args.iter().position(is_option) {
            Some(at) => self.args.get(at + 1).map(String::as_str),
            None => self.args.iter().find_map(|a| a.strip_prefix("--class-path=")),
        }
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
        let since_boot = Uptime::current().ok().filter(|_| self.started > 0)?.uptime_duration();
        let started = Duration::from_millis(self.started.saturating_mul(1000) / procfs::ticks_per_second());
        Some(since_boot.saturating_sub(started))
    }

    /// A variable of its environment, as it was when the process started. Only root sees that of other accounts' processes.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        let value = |variable: &[u8]| {
            let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        environment.split(|byte| *byte == 0).find_map(value)
    }

    /// A system property from its command line. Such a property overrides spark-defaults.conf.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.args.iter().rev().find_map(|a| a.strip_prefix("-D")?.strip_prefix(key)?.strip_prefix('='))
    }

    /// The logs that the process has open for writing, beside the console: what a logger's appender writes. Java's own
    /// log of garbage collections, and the logs in which a local store keeps its content, are no such logs.
    pub(crate) fn open_logs(&self) -> Vec<PathBuf> {
        const ENDS: [&str; 5] = ["log", "out", "err", "txt", "json"];
        let is_log = |path: &Path| {
            let has_end = path.extension().is_some_and(|end| ENDS.iter().any(|log| end == *log));
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let is_of_java =
                stem.contains("gc") || self.args.iter().any(|a| path.to_str().is_some_and(|p| a.contains(p)));
            has_end && !is_of_java && !stem.bytes().all(|b| b.is_ascii_digit())
        };
        let entry = i32::try_from(self.pid).ok().and_then(|pid| ProcEntry::new(pid).ok());
        let descriptors = entry.and_then(|entry| entry.fd().ok()).into_iter().flatten().flatten();
        let written = descriptors.filter(|open| open.fd > 2 && open.mode().contains(FDPermissions::WRITE));
        written
            .filter_map(|open| match open.target {
                FDTarget::Path(path) if is_log(&path) => Some(path),
                _ => None,
            })
            .collect()
    }
}

/// A process that looks like a history server, and is not the unit's. emr-shs names it and leaves it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LookAlike {
    pub pid: u32,
    pub user: String,
    /// The unit or the session to which the process belongs.
    pub unit: Option<String>,
    /// Empty if the process listens on no port, or belongs to another user and we are not root.
    pub listens: Vec<SocketAddr>,
}

impl LookAlike {
    /// Every process outside a unit that has a history server's arguments.
    pub(crate) fn beside(unit: &Unit) -> Vec<Self> {
        let group = group(unit);
        let is_of_unit = |pid: u32| unit.main_pid == Some(pid) || group.as_ref().is_some_and(|g| g.contains(pid));
        processes().filter_map(|entry| Self::read(&entry).filter(|found| !is_of_unit(found.pid))).collect()
    }

    fn read(entry: &ProcEntry) -> Option<Self> {
        let pid = Process::parse(entry).filter(Process::is_server)?.pid;
        Some(Self { pid, user: user_of(entry), unit: control_group::unit_of(pid), listens: listens(entry) })
    }

    pub(crate) fn description(&self) -> String {
        let unit = self.unit.as_deref().map(|unit| format!(" in {unit}")).unwrap_or_default();
        let ports: BTreeSet<u16> = self.listens.iter().map(SocketAddr::port).collect();
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let port = if ports.is_empty() { String::new() } else { format!(", port {}", ports.join(", ")) };
        format!("process {} of user {}{unit}{port}", self.pid, self.user)
    }
}

/// The process that listens on a port.
#[derive(Clone, Debug)]
pub(crate) struct PortOwner {
    /// `None` if the process belongs to another user and we are not root.
    pub pid: Option<u32>,
    pub command: Option<String>,
    /// The unit or the session to which the process belongs.
    pub unit: Option<String>,
    /// Whether the process has the arguments of a history server.
    pub looks_like_server: bool,
}

impl PortOwner {
    pub(crate) fn description(&self) -> String {
        let unit = self.unit.as_deref().map(|unit| format!(" in {unit}")).unwrap_or_default();
        match (self.pid, &self.command) {
            (Some(pid), Some(command)) => format!("process {pid}{unit}: {command}"),
            (Some(pid), None) => format!("process {pid}{unit}"),
            _ => "a process that only root can see".into(),
        }
    }
}

/// The process of this machine that listens on a port; `None` if the port is free.
pub(crate) fn listener(port: u16) -> Option<PortOwner> {
    let sockets = listening(procfs::net::tcp(), procfs::net::tcp6());
    let (inode, _) = sockets.into_iter().find(|(_, address)| address.port() == port)?;
    let owner = processes().find(|entry| socket_inodes(entry).contains(&inode));
    let pid = owner.as_ref().and_then(|owner| u32::try_from(owner.pid()).ok());
    let command = |args: Vec<String>| args.join(" ").trim_end().chars().take(200).collect();
    Some(PortOwner {
        pid,
        command: pid.and_then(arguments).map(command),
        unit: pid.and_then(control_group::unit_of),
        looks_like_server: owner.and_then(|owner| Process::parse(&owner)).is_some_and(|p| p.is_server()),
    })
}

/// Whether systemd itself has a socket that listens on this port; `None` if this process cannot see systemd's descriptors.
pub(crate) fn has_systemd_listening(port: u16) -> Option<bool> {
    let systemd = entry(SYSTEMD)?;
    systemd.fd().ok()?;
    Some(listens(&systemd).iter().any(|address| address.port() == port))
}

/// The user id with whose rights a process acts. The owner of its directory in /proc is root where the process keeps others from
/// looking into it, as one with file capabilities does.
pub(crate) fn account_of(pid: u32) -> Option<u32> {
    Some(entry(pid)?.status().ok()?.euid)
}

fn user_of(entry: &ProcEntry) -> String {
    let Some(uid) = u32::try_from(entry.pid()).ok().and_then(account_of) else { return "unknown".into() };
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn group(unit: &Unit) -> Option<UnitGroup> {
    UnitGroup::new(unit.control_group.as_deref()?)
}

/// The processes in a unit's control group.
fn members(unit: &Unit) -> Vec<ProcEntry> {
    let Some(group) = group(unit) else { return Vec::new() };
    let is_member = |entry: &ProcEntry| u32::try_from(entry.pid()).is_ok_and(|pid| group.contains(pid));
    processes().filter(is_member).collect()
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
