//! The history server as a service: its unit, its process, its answers, and its log.

mod api;
mod log;
mod readiness;
mod restart;

pub(crate) use api::{Answer, Barrier};
pub(crate) use log::{LOG_TAIL, NoLog, first_known_error, in_place_of_log, log_file, log_tail};
pub(crate) use readiness::{Readiness, Sight};
pub(crate) use restart::RestartOutcome;

use super::process::{LookAlike, Process};
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
use ureq::http::Uri;

/// Without a configured TLS port, Spark adds this to the plain port.
const TLS_OFFSET: u16 = 400;
/// How many further ports Spark tries when its own is taken (`spark.port.maxRetries`).
const PORT_RETRIES: u16 = 16;
/// A server that systemd has restarted by itself, and that has been running for less than this, may
/// die again.
const STEADY: Duration = Duration::from_secs(120);
/// A server that has been running for less than this may still be starting.
pub(crate) const STARTING: Duration = Duration::from_secs(60);
/// At how many further ports of a server's process its pages are looked for.
const OTHER_PORTS: usize = 4;
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
    /// The port without TLS that it is configured for. With TLS it redirects each request from there.
    #[serde(skip)]
    plain_port: u16,
    /// `None` if it does not answer on that port, or if something bars the way to its pages.
    pub answer: Option<Answer>,
    /// What bars the way to the pages of a server that is alive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barrier: Option<Barrier>,
    /// Whether somebody requires a login before its pages.
    pub wants_login: bool,
    /// The directory that its process is configured for.
    #[serde(skip)]
    configured: Option<String>,
    /// Processes that look like a history server and are not this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<LookAlike>,
}

impl HistoryServer {
    pub fn observe(spark: &Spark) -> Result<Self> {
        let unit = if systemd::is_running() { systemd::show(HISTORY_SERVER_UNIT)? } else { Unit::default() };
        let others = LookAlike::beside(&unit);
        let mut server = Self {
            unit,
            process: None,
            port: 0,
            https: false,
            plain_port: 0,
            answer: None,
            barrier: None,
            wants_login: false,
            configured: None,
            others,
        };
        server.refresh(spark);
        // Ask a second time. A history server that runs can answer late: Java collects its garbage, or the node is busy. `settle` waits
        // for one that starts, and a suspended one cannot answer.
        let can_be_late = |p: &Process| p.up().is_some_and(|up| up >= STARTING) && !p.is_suspended();
        if server.process.as_ref().is_some_and(can_be_late) && server.listens_on(server.port) && !server.is_alive() {
            server.refresh(spark);
        }
        Ok(server)
    }

    /// Whether it answers on its port, with its pages or with a barrier before them. Such a server is not dead.
    pub fn is_alive(&self) -> bool {
        self.answer.is_some() || self.barrier.is_some()
    }

    /// Whether it listens on the port.
    pub(crate) fn listens_on(&self, port: u16) -> bool {
        self.process.as_ref().is_some_and(|p| p.listens.iter().any(|at| at.port() == port))
    }

    /// Whether systemd starts it again and again because it keeps dying.
    pub fn is_crash_looping(&self) -> bool {
        let up = self.process.as_ref().and_then(|p| p.up());
        self.unit.restarts > 1 && up.is_none_or(|up| up < STEADY)
    }

    /// Observes again everything that changes while a server starts, except the unit.
    fn refresh(&mut self, spark: &Spark) {
        self.process = Process::of_unit(&self.unit);
        let process = self.process.as_ref();
        let given = |key: &str| process.and_then(|p| p.property(key)).map(|text| spark.defaults.value(text));
        let setting = |key: &str| given(key).or_else(|| spark.defaults.get(key).cloned());
        let number = |key: &str| setting(key).and_then(|value| value.number::<u16>());
        let plain_port = number("spark.history.ui.port").unwrap_or(18080);
        let tls = setting("spark.ssl.historyServer.enabled").or_else(|| setting("spark.ssl.enabled"));
        let https = tls.and_then(|value| value.boolean()) == Some(true);
        let tls_port = || number("spark.ssl.historyServer.port").unwrap_or(plain_port.saturating_add(TLS_OFFSET));
        self.configured = setting(LOG_DIRECTORY_KEY).map(|value| value.text().to_string());
        let (port, https, reply) = self.look(if https { tls_port() } else { plain_port }, https);
        (self.port, self.https) = (port, https);
        self.plain_port = plain_port;
        (self.answer, self.barrier) = match reply {
            Reply::Answer(answer) => (Some(answer), None),
            Reply::Barred(barrier) => (None, Some(barrier)),
            Reply::Nothing => (None, None),
        };
        self.wants_login = self.barrier.as_ref().is_some_and(Barrier::is_login);
    }

    /// Finds the server's pages: at the configured port, else where its process listens. What a server really does
    /// counts for more than what its settings say: the settings may have changed since its start.
    fn look(&self, port: u16, https: bool) -> (u16, bool, Reply) {
        let (reply, spoken) = self.address(port).map_or((Reply::Nothing, https), |at| api::ask(at, https));
        let elsewhere: Vec<u16> = match &reply {
            // A server with TLS redirects from its plain port to its TLS port.
            Reply::Barred(Barrier::Redirect { to, .. }) if !spoken => {
                let named = to.parse::<Uri>().ok().and_then(|to| to.port_u16());
                named.into_iter().chain(self.other_ports(port)).collect()
            }
            // Ports that follow the configured one are no choice of a person: see `moved_to`.
            Reply::Nothing if !self.listens_on(port) => {
                self.other_ports(port).filter(|other| other.abs_diff(port) > PORT_RETRIES).collect()
            }
            _ => Vec::new(),
        };
        let is_redirected = matches!(reply, Reply::Barred(_));
        for other in elsewhere {
            let Some(at) = self.address(other) else { continue };
            if let (Reply::Answer(answer), spoken) = api::ask(at, https || is_redirected) {
                return (other, spoken, Reply::Answer(answer));
            }
        }
        (port, spoken, reply)
    }

    fn other_ports(&self, port: u16) -> impl Iterator<Item = u16> {
        let listens = self.process.iter().flat_map(|process| &process.listens);
        listens.map(SocketAddr::port).filter(move |other| *other != port).take(OTHER_PORTS)
    }

    /// Waits until a starting server answers, but no longer than `timeout`.
    ///
    /// If emr-shs restarted a server while its start script runs, two servers would remain: the script would
    /// start its own server afterwards, with the old settings.
    pub fn settle(&mut self, spark: &Spark, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while (self.unit.is_starting || self.may_still_answer()) && Instant::now() < deadline {
            signals::check()?;
            std::thread::sleep(POLL);
            self.unit = systemd::show(HISTORY_SERVER_UNIT)?;
            self.refresh(spark);
        }
        Ok(())
    }

    /// Whether a server that does not answer yet may do so later. A starting server answers with errors for a moment.
    fn may_still_answer(&self) -> bool {
        let Some(process) = &self.process else { return false };
        match &self.barrier {
            Some(Barrier::Redirect { .. } | Barrier::Login { .. }) => false,
            Some(_) => process.up().is_some_and(|up| up < STARTING),
            None => self.answer.is_none() && self.moved_to().is_none(),
        }
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
        if self.listens_on(self.port) {
            return None;
        }
        let ports = self.process.as_ref()?.listens.iter().map(SocketAddr::port);
        let mut near = ports.filter(|p| *p != self.port && p.abs_diff(self.port) <= PORT_RETRIES);
        near.find(|p| self.address(*p).is_some_and(|at| !matches!(api::ask(at, self.https), (Reply::Nothing, _))))
    }

    /// The URL for a person who has a tunnel to the node. `set` are the keys that emr-shs will set.
    pub fn url(&self, spark: &Spark, set: &BTreeMap<String, String>) -> String {
        format!("{}://localhost:{}", if self.https { "https" } else { "http" }, self.port_after(spark, set))
    }

    /// The URL for the log gateway, which follows the server from its plain port to its TLS port. So the URL stays the same when
    /// the server gets TLS or loses it, which happens when it restarts. `set` are the keys that emr-shs will set.
    pub fn local_url(&self, spark: &Spark, set: &BTreeMap<String, String>) -> String {
        let ip = self.address(self.port).map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |at| at.ip());
        let number = |key: &str| set.get(key).and_then(|port| spark.defaults.value(port).number::<u16>());
        // Only root sees at which ports another account's process listens.
        let is_unseen = self.process.as_ref().is_none_or(|process| process.listens.is_empty());
        if self.https && (is_unseen || self.listens_on(self.plain_port)) {
            let plain = number("spark.history.ui.port").unwrap_or(self.plain_port);
            return api::base_url((ip, plain).into(), false);
        }
        api::base_url((ip, self.port_after(spark, set)).into(), self.https)
    }

    /// Its port after a restart. `set` are the keys that emr-shs will set.
    pub(crate) fn port_after(&self, spark: &Spark, set: &BTreeMap<String, String>) -> u16 {
        let has_tls_port = self.https && spark.defaults.get("spark.ssl.historyServer.port").is_some();
        let number = |key: &str| set.get(key).and_then(|port| spark.defaults.value(port).number::<u16>());
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
            .or_else(|| self.configured.clone())
            .or_else(|| spark.defaults.text(LOG_DIRECTORY_KEY).map(str::to_string))
    }
}

/// Whether two spellings name one directory. `hdfs://host/x`, `hdfs:///x` and `/x` count as different:
/// the server's page repeats the configured spelling.
pub(crate) fn same_directory(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}
