//! The history server as a service: its unit, its process, what it answers, and when it is ready.
//!
//! `systemctl restart` succeeding proves nothing (facts §0.6), and neither does an answer: any
//! path answers 200 (facts 2 §3.3), an empty list may be an unreadable directory, the process may
//! be the old one. Ready means that the new process itself answers on its port and names our
//! directory.

use super::jars;
use super::log_diagnosis::{self, Diagnosis};
use super::process::Process;
use super::spark::Spark;
use crate::aws::uri::EventLogs;
use crate::error::Fault;
use crate::host::Host;
use crate::http::agent;
use crate::paths::HISTORY_SERVER_UNIT;
use crate::signals;
use crate::systemd::{self, Unit};
use anyhow::Result;
use fs_err as fs;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The port Spark's TLS takes, where none is named: the plain one and this.
const TLS_OFFSET: u16 = 400;
/// How many further ports Spark tries when its own is taken (`spark.port.maxRetries`).
const PORT_RETRIES: u16 = 16;
/// How long a server that answers must live where its scanning thread cannot be told.
const SETTLE: Duration = Duration::from_secs(3);
/// How long one request to the server may take. A starting one may take a connection and not
/// serve it; it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);
/// A server that systemd has started again by itself, and that has been running shorter than this,
/// has not proved that it lives.
const STEADY: Duration = Duration::from_secs(120);
/// How often a starting server is looked at.
const POLL: Duration = Duration::from_millis(100);
/// What is said of a class that was looked for everywhere.
pub const NO_JAR: &str = "no jar below /usr/lib, /usr/share/aws or /opt has it";
/// How much of a log is read at most: its end.
const LOG_TAIL: u64 = 4 << 20;

/// The history server as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryServer {
    /// Its unit.
    pub unit: Unit,
    /// Its process, if it runs.
    pub process: Option<Process>,
    /// The port it is configured for.
    pub port: u16,
    /// Whether that port speaks TLS.
    pub https: bool,
    /// What it answered, if it did.
    pub answer: Option<Answer>,
    /// Whether it wants a login before it answers.
    pub wants_login: bool,
}

/// What a history server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Spark's version.
    pub version: String,
    /// The event log directory its front page names.
    pub reads: Option<String>,
}

/// An attempt of an application that the server lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// The application's id.
    pub application: String,
    /// Its attempt, where attempts are told apart: in YARN's cluster mode (facts §11).
    pub attempt: Option<String>,
}

impl Attempt {
    /// Its path below `applications/` in the REST API.
    pub fn path(&self) -> String {
        let attempt = self.attempt.as_ref().map(|attempt| format!("/{attempt}")).unwrap_or_default();
        format!("{}{attempt}", self.application)
    }
}

/// What a server must be to be ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// The directory its front page must name; `None` accepts any.
    pub directory: Option<String>,
    /// An element that a restarted server's class path must have; `None` asks for nothing.
    pub class_path: Option<String>,
}

/// Why a server did not become ready.
#[derive(Debug)]
pub struct NotReady {
    /// What was seen, in one clause: `stopped 6 s after its restart`.
    pub what: String,
    /// The cause, where its log gives it away.
    pub diagnosis: Option<Diagnosis>,
    /// The log it was looked for in.
    pub log: PathBuf,
    /// The log's last errors, for a trouble that is not known.
    pub last_words: Vec<String>,
    /// Whether the new process has not the class path its unit was given.
    pub class_path_dropped: bool,
}

impl NotReady {
    /// The error a person reads. `event_logs` completes the command that is proposed.
    pub fn fault(self, host: &Host, event_logs: Option<&EventLogs>) -> Fault {
        let Some(found) = self.diagnosis else {
            let fault = Fault::failed(format!("the history server {}", self.what));
            let fault = self.last_words.iter().fold(fault, |fault, line| fault.detail(format!("its log: {line}")));
            return fault.hint(format!("tail -50 {}", self.log.display()));
        };
        let fault = Fault::failed(format!("the history server {}: {}", self.what, found.cause)).detail(format!(
            "{}: {}",
            self.log.display(),
            found.line
        ));
        let Some(class) = found.missing_class else { return fault.hint(found.fix) };
        match jars::find_anywhere(host, &class) {
            Some(jar) => fault.hint(format!(
                "the class is in {0}; try\n  emr-shs install{1} --jar {0}",
                jar.display(),
                event_logs.map(|uri| format!(" --event-logs {uri}")).unwrap_or_default()
            )),
            None => fault.hint(NO_JAR),
        }
    }
}

impl HistoryServer {
    /// Looks at the unit, the process, and the port.
    pub fn observe(spark: &Spark) -> Result<Self> {
        let unit = if systemd::is_running() { systemd::show(HISTORY_SERVER_UNIT)? } else { Unit::default() };
        let mut server = Self { unit, process: None, port: 0, https: false, answer: None, wants_login: false };
        server.look(spark);
        Ok(server)
    }

    /// Whether systemd starts it again and again: it lives too short to be of use.
    pub fn dies(&self) -> bool {
        let up = self.process.as_ref().and_then(|p| p.up());
        self.unit.restarts > 1 && up.is_none_or(|up| up < STEADY)
    }

    /// Looks again at everything that changes while a server starts.
    fn look(&mut self, spark: &Spark) {
        self.process = Process::find(HISTORY_SERVER_UNIT, self.unit.main_pid);
        let process = self.process.as_ref();
        let setting = |key: &str| process.and_then(|p| p.property(key)).or_else(|| spark.defaults.get(key));
        let number = |key: &str| setting(key).and_then(|p| p.parse::<u16>().ok());
        let port = number("spark.history.ui.port").unwrap_or(18080);
        let tls = setting("spark.ssl.historyServer.enabled").or_else(|| setting("spark.ssl.enabled"));
        self.https = tls == Some("true");
        let tls_port = || number("spark.ssl.historyServer.port").unwrap_or(port.saturating_add(TLS_OFFSET));
        self.port = if self.https { tls_port() } else { port };
        self.answer = None;
        self.wants_login = false;
        if let Some(at) = self.address(self.port) {
            match ask(at, self.https) {
                Asked::Answer(answer) => self.answer = Some(answer),
                Asked::Login => self.wants_login = true,
                Asked::Nothing => {}
            }
        }
    }

    /// Gives a server that runs a moment to answer: it may just be starting. A restart in the middle of
    /// its start script would leave the process that the script brings up then, with what it had read.
    pub fn settle(&mut self, spark: &Spark, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let is_silent = |server: &Self| server.process.is_some() && server.answer.is_none() && !server.wants_login;
        while (self.unit.is_starting || is_silent(self)) && Instant::now() < deadline {
            signals::check()?;
            std::thread::sleep(POLL);
            if self.unit.is_starting {
                self.unit = systemd::show(HISTORY_SERVER_UNIT)?;
            }
            self.look(spark);
        }
        Ok(())
    }

    /// Where this very process listens on a port. Where we may not see its sockets, loopback.
    fn address(&self, port: u16) -> Option<SocketAddr> {
        let process = self.process.as_ref()?;
        if process.listens.is_empty() && !nix::unistd::geteuid().is_root() {
            return Some((Ipv4Addr::LOCALHOST, port).into());
        }
        let at = process.listens.iter().find(|a| a.port() == port)?;
        let ip = if at.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { at.ip() };
        Some((ip, port).into())
    }

    /// The port near its own on which it answers instead, because its own was taken.
    pub fn moved_to(&self) -> Option<u16> {
        let ports = self.process.as_ref()?.listens.iter().map(SocketAddr::port);
        let mut near = ports.filter(|p| *p != self.port && p.abs_diff(self.port) <= PORT_RETRIES);
        near.find(|p| self.address(*p).is_some_and(|at| matches!(ask(at, self.https), Asked::Answer(_))))
    }

    /// Where a person's tools find it, once these keys are set.
    pub fn url(&self, spark: &Spark, set: &BTreeMap<String, String>) -> String {
        format!("{}://localhost:{}", if self.https { "https" } else { "http" }, self.port_after(spark, set))
    }

    /// Where this node itself finds it, once these keys are set.
    pub fn local_url(&self, spark: &Spark, set: &BTreeMap<String, String>) -> String {
        let ip = self.address(self.port).map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |at| at.ip());
        base((ip, self.port_after(spark, set)).into(), self.https)
    }

    fn port_after(&self, spark: &Spark, set: &BTreeMap<String, String>) -> u16 {
        let tls_port = self.https && spark.defaults.get("spark.ssl.historyServer.port").is_some();
        let number = |key: &str| set.get(key).and_then(|port| port.parse::<u16>().ok());
        match number("spark.history.ui.port").filter(|_| !tls_port) {
            Some(port) if self.https => port.saturating_add(TLS_OFFSET),
            Some(port) => port,
            None => self.port,
        }
    }

    /// What it lists; `None` if it does not say within four seconds.
    pub fn list(&self) -> Option<Vec<Attempt>> {
        self.answer.as_ref()?;
        let list = self.api("applications", Duration::from_secs(4))?;
        let of = |application: &serde_json::Value| {
            let id = application.get("id")?.as_str()?.to_string();
            let attempts = application.get("attempts")?.as_array()?.clone();
            let name = |attempt: &serde_json::Value| Some(attempt.get("attemptId")?.as_str()?.to_string());
            Some(attempts.into_iter().map(move |a| Attempt { application: id.clone(), attempt: name(&a) }))
        };
        Some(list.as_array()?.iter().filter_map(of).flatten().collect())
    }

    /// What the executors of an application have in its event log, by name; `None` if it has none
    /// or the server does not say within four seconds. The server opens the log for it.
    pub fn attributes(&self, of: &Attempt) -> Option<Vec<String>> {
        let executors = self.api(&format!("applications/{}/allexecutors", of.path()), Duration::from_secs(4))?;
        let executor = executors.as_array()?.iter().find(|e| e.get("id").is_some_and(|id| id != "driver"))?;
        Some(executor.get("attributes")?.as_object()?.keys().cloned().collect())
    }

    /// An answer of its REST API; `None` if there is none in time, or no JSON.
    pub fn api(&self, path: &str, patience: Duration) -> Option<serde_json::Value> {
        let url = format!("{}/api/v1/{path}", base(self.address(self.port)?, self.https));
        let mut answer = agent(patience).get(&url).call().ok().filter(|answer| answer.status() == 200)?;
        // Thousands of applications are megabytes.
        let text = answer.body_mut().with_config().limit(256 << 20).read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The directory it reads, or would read: its own word first, then its command line, then
    /// the file.
    pub fn directory(&self, spark: &Spark) -> Option<String> {
        const KEY: &str = "spark.history.fs.logDirectory";
        let said = self.answer.as_ref().and_then(|a| a.reads.clone());
        said.or_else(|| Some(self.process.as_ref()?.property(KEY)?.to_string()))
            .or_else(|| spark.defaults.get(KEY).map(str::to_string))
    }

    /// Why it is not what it should be, or `None` if it is ready. `old` is the process that
    /// must be gone.
    fn lacks(&self, readiness: &Readiness, old: Option<&Process>) -> Option<String> {
        let Some(process) = &self.process else { return Some("no process runs".into()) };
        if old.is_some_and(|old| old.is(process)) {
            return Some(format!("the old process {} still runs", process.pid));
        }
        if self.unit.active != "active" {
            return Some(format!("its unit is {}", self.unit.active));
        }
        let Some(answer) = &self.answer else {
            return Some(format!("it does not answer on port {}", self.port));
        };
        let wanted = readiness.directory.as_ref()?;
        match &answer.reads {
            Some(reads) if same_directory(reads, wanted) => None,
            Some(reads) => Some(format!("it reads {reads}, not {wanted}")),
            None => Some("its page names no event log directory".into()),
        }
    }

    /// Whether it is ready as it stands.
    pub fn is_ready(&self, readiness: &Readiness) -> bool {
        self.lacks(readiness, None).is_none()
    }

    /// Restarts the unit and waits until it is ready, for at most `timeout`. Ends early when its
    /// process, its log or its death tells that it will not be. `tick` is called while it waits.
    /// Gives the time it took.
    pub fn restart(
        &mut self,
        spark: &Spark,
        readiness: &Readiness,
        timeout: Duration,
        tick: impl Fn(),
    ) -> Result<Result<Duration, NotReady>> {
        let begun = Instant::now();
        let log = LogMark::set(spark);
        let old = Process::find(HISTORY_SERVER_UNIT, self.unit.main_pid);
        let is_new = |p: &Process| old.as_ref().is_none_or(|old| !old.is(p));
        let drops = |p: &Process| {
            let wanted = readiness.class_path.as_ref();
            wanted.is_some_and(|wanted| !p.class_path().is_some_and(|cp| cp.split(':').any(|e| e == wanted)))
        };
        let not_ready = |what: String, class_path_dropped: bool| {
            let text = log.since();
            let diagnosis = log_diagnosis::diagnose(&text);
            let last_words = log_diagnosis::last_words(&text);
            Ok(Err(NotReady { what, diagnosis, log: log.path.clone(), last_words, class_path_dropped }))
        };

        // A server that dies within the seconds that its start script waits is seen only here.
        let (mut was_seen, mut dropped) = (false, false);
        let mut looked = begun;
        let mut watch = || {
            if looked.elapsed() < POLL {
                return;
            }
            looked = Instant::now();
            tick();
            if let Some(new) = Process::find(HISTORY_SERVER_UNIT, None).filter(is_new) {
                was_seen = true;
                dropped |= drops(&new);
            }
        };
        if let Err(e) = systemd::restart(HISTORY_SERVER_UNIT, timeout, &mut watch) {
            signals::check()?;
            // Its script says that it failed when the server was gone after a few seconds.
            let died = begun.elapsed() < timeout && (was_seen || log_diagnosis::diagnose(&log.since()).is_some());
            let what =
                if died { "stopped right after its restart".into() } else { format!("could not be restarted: {e:#}") };
            return not_ready(what, dropped);
        }
        let mut answered = None;
        loop {
            signals::check()?;
            self.unit = systemd::show(HISTORY_SERVER_UNIT)?;
            self.look(spark);
            let new = self.process.as_ref().filter(|p| is_new(p));
            was_seen |= new.is_some();
            if dropped || new.is_some_and(drops) {
                return not_ready("runs without the class path its unit gives it".into(), true);
            }
            let lack = match self.lacks(readiness, old.as_ref()) {
                None => {
                    let since = answered.get_or_insert_with(Instant::now);
                    if self.process.as_ref().is_some_and(|p| p.scans) || since.elapsed() > SETTLE {
                        return Ok(Ok(begun.elapsed()));
                    }
                    "it answers, but does not scan its directory yet".into()
                }
                Some(lack) => lack,
            };
            let waited = begun.elapsed().as_secs();
            let dead = self.unit.active == "failed" || was_seen && new.is_none();
            if dead || log.since().contains("Exception in thread \"main\"") {
                return not_ready(format!("stopped {waited} s after its restart"), false);
            }
            if let Some(port) = self.moved_to() {
                return not_ready(
                    format!("took port {port}, because {} is taken by another process", self.port),
                    false,
                );
            }
            let says = self.answer.as_ref().is_some_and(|a| a.reads.is_some());
            let astray = answered.is_none() && says && new.is_some() && self.unit.active == "active";
            if astray || begun.elapsed() > timeout {
                return not_ready(format!("is not ready after {waited} s: {lack}"), false);
            }
            tick();
            std::thread::sleep(POLL);
        }
    }
}

/// Whether two spellings name one directory; `hdfs://host/x`, `hdfs:///x` and `/x` are not taken
/// for one, the page repeats what was configured.
pub fn same_directory(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn base(at: SocketAddr, https: bool) -> String {
    format!("{}://{at}", if https { "https" } else { "http" })
}

/// What came of asking a port.
enum Asked {
    Answer(Answer),
    /// 401 or 403: a filter in front of the pages wants to know who asks.
    Login,
    Nothing,
}

fn ask(at: SocketAddr, https: bool) -> Asked {
    let base = base(at, https);
    let agent = agent(PATIENCE);
    let get = |path: &str| {
        let mut answer = agent.get(format!("{base}{path}")).call().ok()?;
        Some((answer.status().as_u16(), answer.body_mut().read_to_string().ok()?))
    };
    let version = match get("/api/v1/version") {
        Some((200, json)) => serde_json::from_str::<serde_json::Value>(&json).ok(),
        Some((401 | 403, _)) => return Asked::Login,
        _ => None,
    };
    let Some(version) = version.as_ref().and_then(|v| v.get("spark")?.as_str()) else { return Asked::Nothing };
    let reads = get("/").and_then(|(_, page)| directory_on_page(&page));
    Asked::Answer(Answer { version: version.into(), reads })
}

/// `<strong>Event log directory:</strong> s3://…` of the front page.
fn directory_on_page(html: &str) -> Option<String> {
    let after = html.split_once("Event log directory:")?.1;
    let text = after.trim_start().strip_prefix("</strong>").unwrap_or(after);
    let text = text.split('<').next()?.trim();
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

/// A place in the server's log: what comes after it was written since.
struct LogMark {
    path: PathBuf,
    len: u64,
    head: Vec<u8>,
}

impl LogMark {
    const HEAD: usize = 512;

    fn set(spark: &Spark) -> Self {
        let path = log_file(spark);
        let len = fs::metadata(&path).map_or(0, |m| m.len());
        Self { head: Self::read_head(&path), path, len }
    }

    fn read_head(path: &PathBuf) -> Vec<u8> {
        let mut head = Vec::new();
        if let Ok(file) = fs::File::open(path) {
            // What cannot be read compares as empty, and the log counts as new.
            let _ = file.take(Self::HEAD as u64).read_to_end(&mut head);
        }
        head
    }

    /// What was written since. EMR's script truncates the log at each start (facts §2): a log
    /// that begins otherwise than before is a new one.
    fn since(&self) -> String {
        let appended = !self.head.is_empty() && Self::read_head(&self.path).starts_with(&self.head);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(&self.path)?;
            let len = file.metadata()?.len();
            let from = if appended && len >= self.len { self.len } else { 0 };
            file.seek(SeekFrom::Start(from.max(len.saturating_sub(LOG_TAIL))))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

/// EMR's log of the server; else the newest that Spark's own scripts would write.
pub fn log_file(spark: &Spark) -> PathBuf {
    let dir = spark.log_dir();
    let own = dir.join("spark-history-server.out");
    if own.exists() {
        return own;
    }
    let logs = fs::read_dir(&dir).into_iter().flatten().flatten().filter(|e| {
        let name = e.file_name();
        let name = name.to_string_lossy();
        name.contains("HistoryServer") && name.ends_with(".out")
    });
    logs.max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok()).map_or(own, |e| e.path())
}

/// The end of the server's log, and how long ago it was written to.
pub fn log(spark: &Spark) -> (String, Duration) {
    let mark = LogMark { path: log_file(spark), len: 0, head: Vec::new() };
    let written = fs::metadata(&mark.path).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
    (mark.since(), written.unwrap_or_default())
}

/// What its log says at present, for a server that is found dead.
pub fn last_trouble(spark: &Spark) -> Option<Diagnosis> {
    log_diagnosis::diagnose(&log(spark).0)
}
