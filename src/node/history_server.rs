//! The history server as a service: its unit, its process, what it answers, and when it is ready.
//!
//! `systemctl restart` succeeding proves nothing (facts §0.6), and neither does an answer: any
//! path answers 200 (facts 2 §3.3), an empty list may be an unreadable directory, the process may
//! be the old one. Ready means that the new process itself answers on its port and names our
//! directory.

use super::jars;
use super::process::Process;
use super::spark::Spark;
use super::symptoms::{self, Diagnosis};
use crate::fault::Fault;
use crate::host::Host;
use crate::interrupt;
use crate::s3::EventLogs;
use crate::systemd::{self, Unit};
use anyhow::Result;
use fs_err as fs;
use serde::Serialize;
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::tls::TlsConfig;

/// The unit EMR gives the history server (facts §2).
pub const UNIT: &str = "spark-history-server.service";
/// The port Spark's TLS takes, where none is named: the plain one and this.
const TLS_OFFSET: u16 = 400;
/// How many further ports Spark tries when its own is taken (`spark.port.maxRetries`).
const PORT_RETRIES: u16 = 16;
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
}

/// What a history server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Spark's version.
    pub version: String,
    /// The event log directory its front page names.
    pub reads: Option<String>,
}

/// What a server must be to be ready.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The directory its front page must name; `None` accepts any.
    pub directory: Option<String>,
    /// An element its class path must have; `None` asks for nothing.
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
    /// Whether the new process has not the class path its unit was given.
    pub class_path_dropped: bool,
}

impl NotReady {
    /// The error a person reads. `event_logs` completes the command that is proposed.
    pub fn fault(self, host: &Host, event_logs: Option<&EventLogs>) -> Fault {
        let Some(found) = self.diagnosis else {
            return Fault::failed(format!("the history server {}", self.what))
                .detail(format!("its log has no line that is known: {}", self.log.display()))
                .hint(format!("tail -50 {}", self.log.display()));
        };
        let fault = Fault::failed(format!("the history server {}: {}", self.what, found.cause)).detail(format!(
            "{}: {}",
            self.log.display(),
            found.line
        ));
        match found.missing_class.and_then(|class| jars::find_anywhere(host, &class)) {
            Some(jar) => fault.hint(format!(
                "the class is in {0}; try\n  emr-shs install{1} --jar {0}",
                jar.display(),
                event_logs.map(|uri| format!(" --event-logs {uri}")).unwrap_or_default()
            )),
            None => fault.hint(found.fix),
        }
    }
}

impl HistoryServer {
    /// Looks at the unit, the process, and the port.
    pub fn observe(spark: &Spark) -> Result<Self> {
        let unit = if systemd::is_running() { systemd::show(UNIT)? } else { Unit::default() };
        let mut server = Self { unit, process: None, port: 0, https: false, answer: None };
        server.look(spark);
        Ok(server)
    }

    /// Looks again at everything that changes while a server starts.
    fn look(&mut self, spark: &Spark) {
        self.process = Process::find();
        let process = self.process.as_ref();
        let setting = |key: &str| process.and_then(|p| p.property(key)).or_else(|| spark.defaults.get(key));
        let port = setting("spark.history.ui.port").and_then(|p| p.parse().ok()).unwrap_or(18080);
        let tls = setting("spark.ssl.historyServer.enabled").or_else(|| setting("spark.ssl.enabled"));
        self.https = tls == Some("true");
        self.port = if self.https {
            let named = setting("spark.ssl.historyServer.port").or_else(|| setting("spark.ssl.port"));
            named.and_then(|p| p.parse().ok()).unwrap_or(port + TLS_OFFSET)
        } else {
            port
        };
        self.answer = self.address().and_then(|at| ask(at, self.https));
    }

    /// Where this very process listens on its configured port. Where we may not see its sockets,
    /// loopback.
    fn address(&self) -> Option<SocketAddr> {
        let process = self.process.as_ref()?;
        if process.listens.is_empty() && !nix::unistd::geteuid().is_root() {
            return Some((Ipv4Addr::LOCALHOST, self.port).into());
        }
        let at = process.listens.iter().find(|a| a.port() == self.port)?;
        let ip = if at.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { at.ip() };
        Some((ip, self.port).into())
    }

    /// Where a person's tools find it.
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.port)
    }

    /// How many applications it lists; `None` if it does not say within two seconds.
    pub fn applications(&self) -> Option<usize> {
        let url = format!("{}/api/v1/applications", base(self.address()?, self.https));
        let body = agent(Duration::from_secs(2)).get(&url).call().ok()?.body_mut().read_to_string().ok()?;
        serde_json::from_str::<Vec<serde::de::IgnoredAny>>(&body).ok().map(|list| list.len())
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
    fn lacks(&self, target: &Target, old: Option<&Process>) -> Option<String> {
        let Some(process) = &self.process else { return Some("no process runs".into()) };
        if old.is_some_and(|old| old.is(process)) {
            return Some(format!("the old process {} still runs", process.pid));
        }
        if self.unit.active != "active" {
            return Some(format!("its unit is {}", self.unit.active));
        }
        let Some(answer) = &self.answer else {
            let near = |a: &&SocketAddr| a.port() != self.port && a.port().abs_diff(self.port) <= PORT_RETRIES;
            return Some(match process.listens.iter().find(near) {
                Some(other) => format!("it listens on port {}, because {} is taken", other.port(), self.port),
                None => format!("it does not answer on port {}", self.port),
            });
        };
        let wanted = target.directory.as_ref()?;
        match &answer.reads {
            Some(reads) if same_directory(reads, wanted) => None,
            Some(reads) => Some(format!("it reads {reads}, not {wanted}")),
            None => Some("its page names no event log directory".into()),
        }
    }

    /// Whether it is ready as it stands.
    pub fn is_ready(&self, target: &Target) -> bool {
        self.lacks(target, None).is_none()
    }

    /// Restarts the unit and waits until it is ready, for at most `timeout`. Ends early when its
    /// process, its log or its death tells that it will not be. `tick` is called while it waits.
    /// Gives the time it took.
    pub fn restart(
        &mut self,
        host: &Host,
        spark: &Spark,
        target: &Target,
        timeout: Duration,
        tick: impl Fn(),
    ) -> Result<Result<Duration, NotReady>> {
        let begun = Instant::now();
        let log = LogMark::set(spark);
        let old = Process::find();
        let not_ready = |what: String, class_path_dropped: bool| {
            let diagnosis = symptoms::diagnose(host, &log.since());
            Ok(Err(NotReady { what, diagnosis, log: log.path.clone(), class_path_dropped }))
        };
        if let Err(e) = systemd::restart(UNIT, timeout) {
            interrupt::check()?;
            return not_ready(format!("could not be restarted: {e:#}"), false);
        }
        let mut was_seen = false;
        loop {
            interrupt::check()?;
            self.unit = systemd::show(UNIT)?;
            self.look(spark);
            let Some(lack) = self.lacks(target, old.as_ref()) else { return Ok(Ok(begun.elapsed())) };
            let waited = begun.elapsed().as_secs();
            let new = self.process.as_ref().filter(|p| old.as_ref().is_none_or(|old| !old.is(p)));
            was_seen |= new.is_some();
            if let (Some(process), Some(wanted)) = (new, &target.class_path)
                && !process.class_path().is_some_and(|cp| cp.split(':').any(|e| e == wanted))
            {
                return not_ready(format!("runs without {wanted} on its class path"), true);
            }
            let dead = self.unit.active == "failed" || was_seen && new.is_none();
            if dead || log.since().contains("Exception in thread \"main\"") {
                return not_ready(format!("stopped {waited} s after its restart"), false);
            }
            let answers = self.answer.is_some() && new.is_some() && self.unit.active == "active";
            let astray = new.is_some_and(|p| {
                p.listens.iter().any(|a| a.port() != self.port && a.port().abs_diff(self.port) <= PORT_RETRIES)
            });
            if answers || astray || begun.elapsed() > timeout {
                return not_ready(format!("is not ready after {waited} s: {lack}"), false);
            }
            tick();
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Whether two spellings name one directory; `hdfs://host/x`, `hdfs:///x` and `/x` are not taken
/// for one, the page repeats what was configured.
fn same_directory(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn base(at: SocketAddr, https: bool) -> String {
    format!("{}://{at}", if https { "https" } else { "http" })
}

/// A client for this machine's own server, whose certificate is not ours to judge.
fn agent(timeout: Duration) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().disable_verification(true).unversioned_rustls_crypto_provider(provider).build();
    Agent::config_builder().timeout_global(Some(timeout)).tls_config(tls).proxy(None).build().into()
}

fn ask(at: SocketAddr, https: bool) -> Option<Answer> {
    let base = base(at, https);
    let agent = agent(Duration::from_secs(5));
    let get = |path: &str| agent.get(format!("{base}{path}")).call().ok()?.body_mut().read_to_string().ok();
    let version: serde_json::Value = serde_json::from_str(&get("/api/v1/version")?).ok()?;
    let version = version.get("spark")?.as_str()?.to_string();
    Some(Answer { version, reads: get("/").as_deref().and_then(directory_on_page) })
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
fn log_file(spark: &Spark) -> PathBuf {
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

/// What its log says at present, for a server that is found dead.
pub fn last_trouble(host: &Host, spark: &Spark) -> Option<Diagnosis> {
    let mark = LogMark { path: log_file(spark), len: 0, head: Vec::new() };
    symptoms::diagnose(host, &mark.since())
}
