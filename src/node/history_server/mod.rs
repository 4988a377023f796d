//! The history server as a service: its unit, its process, its answers, and its log.

mod api;
mod log;
mod readiness;
mod restart;

pub(crate) use api::Answer;
pub(crate) use log::{first_known_error, log_file, log_tail};
pub(crate) use readiness::Readiness;
pub(crate) use restart::RestartOutcome;

use super::process::Process;
use super::spark::Spark;
use crate::paths::{HISTORY_SERVER_UNIT, LOG_DIRECTORY_KEY};
use crate::signals;
use crate::systemd::{self, Unit};
use anyhow::Result;
use api::Reply;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Without a configured TLS port, Spark adds this to the plain port.
const TLS_OFFSET: u16 = 400;
/// How many further ports Spark tries when its own is taken (`spark.port.maxRetries`).
const PORT_RETRIES: u16 = 16;
/// A server that systemd has restarted by itself, and that has been running for less than this, may
/// die again.
const STEADY: Duration = Duration::from_secs(120);
/// How often a starting server is observed.
const POLL: Duration = Duration::from_millis(100);
/// The hint for a class that no jar of the node contains.
pub(crate) const NO_JAR: &str = "no jar below /usr/lib, /usr/share/aws or /opt contains that class; copy one that does to this node, and name it: sudo emr-shs install --jar /PATH/TO/IT.jar";

/// The history server as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryServer {
    pub unit: Unit,
    /// `None` if no history server runs.
    pub process: Option<Process>,
    /// The port that it is configured for.
    pub port: u16,
    /// Whether that port speaks TLS.
    pub https: bool,
    /// `None` if it does not answer on that port.
    pub answer: Option<Answer>,
    /// Whether it answers only after a login.
    pub wants_login: bool,
}

impl HistoryServer {
    pub fn observe(spark: &Spark) -> Result<Self> {
        let unit = if systemd::is_running() { systemd::show(HISTORY_SERVER_UNIT)? } else { Unit::default() };
        let mut server = Self { unit, process: None, port: 0, https: false, answer: None, wants_login: false };
        server.refresh(spark);
        Ok(server)
    }

    /// Whether systemd starts it again and again because it keeps dying.
    pub fn is_crash_looping(&self) -> bool {
        let up = self.process.as_ref().and_then(|p| p.up());
        self.unit.restarts > 1 && up.is_none_or(|up| up < STEADY)
    }

    /// Observes again everything that changes while a server starts, except the unit.
    fn refresh(&mut self, spark: &Spark) {
        self.process = Process::find(HISTORY_SERVER_UNIT, self.unit.main_pid);
        let process = self.process.as_ref();
        let setting = |key: &str| process.and_then(|p| p.property(key)).or_else(|| spark.defaults.get(key));
        let number = |key: &str| setting(key).and_then(|p| p.parse::<u16>().ok());
        let port = number("spark.history.ui.port").unwrap_or(18080);
        let tls = setting("spark.ssl.historyServer.enabled").or_else(|| setting("spark.ssl.enabled"));
        self.https = tls == Some("true");
        let tls_port = || number("spark.ssl.historyServer.port").unwrap_or(port.saturating_add(TLS_OFFSET));
        self.port = if self.https { tls_port() } else { port };
        let reply = self.address(self.port).map_or(Reply::Nothing, |at| api::ask(at, self.https));
        self.wants_login = matches!(reply, Reply::LoginRequired);
        self.answer = match reply {
            Reply::Answer(answer) => Some(answer),
            Reply::LoginRequired | Reply::Nothing => None,
        };
    }

    /// Waits until a starting server answers, but no longer than `timeout`.
    ///
    /// If emr-shs restarted a server while its start script runs, two servers would remain: the script would
    /// start its own server afterwards, with the old settings.
    pub fn settle(&mut self, spark: &Spark, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let is_silent = |server: &Self| server.process.is_some() && server.answer.is_none() && !server.wants_login;
        while (self.unit.is_starting || is_silent(self)) && Instant::now() < deadline {
            signals::check()?;
            std::thread::sleep(POLL);
            if self.unit.is_starting {
                self.unit = systemd::show(HISTORY_SERVER_UNIT)?;
            }
            self.refresh(spark);
        }
        Ok(())
    }

    /// The address at which the history server's process listens on a port. Only root sees the sockets of
    /// another user's process, so any other user gets the loopback address.
    fn address(&self, port: u16) -> Option<SocketAddr> {
        let process = self.process.as_ref()?;
        if process.listens.is_empty() && !nix::unistd::geteuid().is_root() {
            return Some((Ipv4Addr::LOCALHOST, port).into());
        }
        let at = process.listens.iter().find(|a| a.port() == port)?;
        let ip = if at.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { at.ip() };
        Some((ip, port).into())
    }

    /// The port on which it answers instead of its own, because another process has taken its own.
    pub fn moved_to(&self) -> Option<u16> {
        let ports = self.process.as_ref()?.listens.iter().map(SocketAddr::port);
        let mut near = ports.filter(|p| *p != self.port && p.abs_diff(self.port) <= PORT_RETRIES);
        near.find(|p| self.address(*p).is_some_and(|at| matches!(api::ask(at, self.https), Reply::Answer(_))))
    }

    /// The URL for a person who has a tunnel to the node. `set` are the keys that emr-shs will set.
    pub fn url(&self, spark: &Spark, set: &BTreeMap<String, String>) -> String {
        format!("{}://localhost:{}", if self.https { "https" } else { "http" }, self.port_after(spark, set))
    }

    /// The URL for a program on this node. `set` are the keys that emr-shs will set.
    pub fn local_url(&self, spark: &Spark, set: &BTreeMap<String, String>) -> String {
        let ip = self.address(self.port).map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |at| at.ip());
        api::base_url((ip, self.port_after(spark, set)).into(), self.https)
    }

    fn port_after(&self, spark: &Spark, set: &BTreeMap<String, String>) -> u16 {
        let has_tls_port = self.https && spark.defaults.get("spark.ssl.historyServer.port").is_some();
        let number = |key: &str| set.get(key).and_then(|port| port.parse::<u16>().ok());
        match number("spark.history.ui.port").filter(|_| !has_tls_port) {
            Some(port) if self.https => port.saturating_add(TLS_OFFSET),
            Some(port) => port,
            None => self.port,
        }
    }

    /// The directory that it reads according to its own page, else to its command line, else to
    /// spark-defaults.conf.
    pub fn directory(&self, spark: &Spark) -> Option<String> {
        let on_page = self.answer.as_ref().and_then(|a| a.reads.clone());
        on_page
            .or_else(|| Some(self.process.as_ref()?.property(LOG_DIRECTORY_KEY)?.to_string()))
            .or_else(|| spark.defaults.get(LOG_DIRECTORY_KEY).map(str::to_string))
    }
}

/// Whether two spellings name one directory. `hdfs://host/x`, `hdfs:///x` and `/x` count as different:
/// the server's page repeats the configured spelling.
pub(crate) fn same_directory(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}
