//! `verify`: proof from end to end. One small application that never ran is written to S3, and
//! followed as a person would: the history server lists it, links to its executor's log, and the
//! log gateway gives that log's very bytes. What was written goes again, whatever happened.

pub mod synthetic;

use crate::aws::config::TimeoutProfile;
use crate::aws::error::S3Failure;
use crate::aws::s3::S3;
use crate::aws::uri::EventLogs;
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::error::Fault;
use crate::http::{agent, client_of_the_world};
use crate::installed::log_gateway::reachable;
use crate::node::Node;
use crate::node::history_server::HistoryServer;
use crate::paths::{GATEWAY_UNIT, LOG_LINK_KEY, SCAN_INTERVAL_KEY};
use crate::signals;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde::Serialize;
use std::io::Read;
use std::time::{Duration, Instant};
use synthetic::SyntheticApplication;

/// How often the history server is asked whether it lists the application.
const POLL: Duration = Duration::from_millis(500);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A stage of the proof, and the checks that explain why it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// The names of checks.
    pub checks: &'static [&'static str],
}

const OF_S3: &[&str] = &["credentials", "clock", "bucket", "list", "kms", "get", "put", "delete"];
const WRITE_EVENT_LOG: Stage = Stage { name: "event log", checks: OF_S3 };
const WRITE_LOG: Stage = Stage { name: "container log", checks: &["credentials", "clock", "log URI", "archive"] };
const LISTED: Stage = Stage {
    name: "listed",
    checks: &[
        "drift",
        "defaults",
        "class path",
        "disk",
        "heap",
        "port",
        "prefix",
        "kms",
        "get",
        "service",
        "server log",
        "reads",
    ],
};
const EXECUTORS: Stage = Stage { name: "executors", checks: &["heap", "disk", "service", "server log"] };
const LINK: Stage = Stage { name: "link", checks: &["drift", "defaults", "log pattern", "gateway"] };
const GATEWAY: Stage = Stage { name: "gateway", checks: &["drift", "gateway", "log URI", "archive", "clock"] };
const LOG: Stage = Stage { name: "log", checks: &["clock", "credentials", "archive", "gateway"] };
const REMOVED: Stage = Stage { name: "removed", checks: &["delete", "credentials"] };

/// What a stage came to.
#[derive(Debug, Serialize)]
pub struct Step {
    /// The stage.
    pub stage: &'static str,
    /// `pass`, `fail` or `skip`.
    pub result: &'static str,
    /// Seconds it took.
    pub seconds: f64,
    /// What was seen.
    pub found: String,
}

/// What happens, as it happens.
pub enum News<'a> {
    /// A stage has ended.
    Step(Step),
    /// Something is waited for.
    Waits(&'a str),
}

/// Who is told of it.
type Tell<'a> = &'a mut dyn FnMut(News<'_>);

/// A proof that failed: at which stage, and how.
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// How.
    pub fault: Fault,
}

/// What is proved, and how long it may take.
pub struct Proof<'a> {
    /// The node, its history server answering.
    pub node: &'a Node,
    /// Its installation.
    pub receipt: &'a Receipt,
    /// `name:password`, if the gateway wants a login.
    pub login: Option<&'a str>,
    /// How long the history server may take to list the application.
    pub timeout: Duration,
}

enum End {
    /// The stage is passed: what was seen.
    Pass(String),
    /// The stage does not apply.
    Skip(String),
}

impl Proof<'_> {
    /// Goes through all stages, and removes what was written.
    pub fn carry_out(&self, uri: &EventLogs, tell: Tell<'_>) -> Result<(), Failure> {
        let mut written = Written::default();
        let result = self.stages(uri, &mut written, tell);
        let objects = written.keys.len();
        if objects == 0 {
            return result;
        }
        // Ctrl-C is why we may be here.
        let removed = stage(tell, REMOVED, false, |_| {
            written.remove()?;
            Ok(End::Pass(format!("all that was written: {objects} in S3")))
        });
        result.and(removed)
    }

    fn stages(&self, uri: &EventLogs, written: &mut Written, tell: Tell<'_>) -> Result<(), Failure> {
        let synthetic = SyntheticApplication::new(self.node, &self.receipt.settings);
        let mut log_is_there = false;
        stage(tell, WRITE_EVENT_LOG, true, |_| {
            let (name, parts) = synthetic.event_log();
            written.put(self.s3(uri)?, uri, &parts)?;
            Ok(End::Pass(format!("{name} in {uri}")))
        })?;
        stage(tell, WRITE_LOG, true, |_| {
            if !self.has_gateway() {
                return Ok(End::Skip("no log gateway is installed".into()));
            }
            let Some(place) = self.receipt.settings.log_uri() else {
                return Ok(End::Skip("no log URI is known".into()));
            };
            let Some(key) = synthetic.log_key(self.node.identity.cluster_id.as_deref()) else {
                return Ok(End::Skip("this node's files name no cluster id".into()));
            };
            let place = EventLogs::from(place);
            let mut s3 = self.s3(&place)?;
            // How that bucket encrypts is its own affair.
            s3.encryption = None;
            written.put(s3, &place, &[(key, synthetic.log_gz())])?;
            log_is_there = true;
            Ok(End::Pass(format!("stderr of {} in {place}", synthetic.container())))
        })?;
        let mut link = None;
        let mut server = None;
        stage(tell, LISTED, true, |tell| {
            let found = server.insert(self.listed(&synthetic, tell)?);
            Ok(End::Pass(format!("by the history server on port {}", found.port)))
        })?;
        stage(tell, EXECUTORS, true, |_| {
            let found = server.as_ref().and_then(|server| stderr_link(server, &synthetic));
            link = Some(found.ok_or_else(|| {
                Fault::failed("the history server lists the application, and shows no log of its executor")
                    .detail(format!("asked for applications/{}/allexecutors", synthetic.id()))
            })?);
            Ok(End::Pass("one, with a link to its stderr".into()))
        })?;
        let Some(link) = link.filter(|_| log_is_there) else { return Ok(()) };
        let mut path = String::new();
        stage(tell, LINK, true, |_| {
            path = format!("/logs/{}/stderr", synthetic.container());
            if !self.node.spark.version.as_ref().is_some_and(|v| v.at_least(3, 0)) {
                return Ok(End::Skip("Spark before 3.0 links to NodeManagers; the log gateway is asked itself".into()));
            }
            path = self.path_of(&link, &synthetic)?;
            Ok(End::Pass(link.clone()))
        })?;
        let mut answer = Answer::default();
        stage(tell, GATEWAY, true, |_| {
            answer = self.ask_gateway(&path)?;
            Ok(End::Pass(match &answer.location {
                Some(_) => "redirects to a presigned URL".into(),
                None => "gives the log itself".into(),
            }))
        })?;
        stage(tell, LOG, true, |_| {
            let text = match &answer.location {
                Some(location) => fetch(location)?,
                None => plain(std::mem::take(&mut answer.body), &answer.kind)?,
            };
            if text != synthetic.log() {
                return Err(Fault::failed("the log that came is not the log that was written").detail(format!(
                    "found {} bytes, wanted {}",
                    text.len(),
                    synthetic.log().len()
                )));
            }
            Ok(End::Pass(format!("{} bytes, the very ones that were written", text.len())))
        })
    }

    fn s3(&self, uri: &EventLogs) -> Result<S3, Fault> {
        let mut s3 = self.node.way_to_s3(&self.receipt.settings).open(TimeoutProfile::Usual).map_err(Fault::of)?;
        s3.find_bucket(uri).map_err(|refusal| refusal.fault)?;
        Ok(s3)
    }

    fn has_gateway(&self) -> bool {
        self.receipt.entry(&Resource::Unit { name: GATEWAY_UNIT.into() }).is_some()
    }

    /// Waits until the history server lists the application. One that is busy may take its time;
    /// one that is gone does not come back by waiting.
    fn listed(&self, synthetic: &SyntheticApplication, tell: Tell<'_>) -> Result<HistoryServer, Fault> {
        let begun = Instant::now();
        let wanted = synthetic.id();
        // Thousands of older ones need not be told of each time.
        let question = format!("applications?minEndDate={}", synthetic.before_its_end());
        let every = self.node.spark.defaults.get(SCAN_INTERVAL_KEY).unwrap_or("10s");
        let mut server = HistoryServer::observe(&self.node.spark).map_err(Fault::of)?;
        loop {
            let list = server.api(&question, PATIENCE);
            let mut listed = list.iter().filter_map(|list| list.as_array()).flatten();
            if listed.any(|application| application.get("id").is_some_and(|id| *id == wanted)) {
                return Ok(server);
            }
            if list.is_none() {
                server = HistoryServer::observe(&self.node.spark).map_err(Fault::of)?;
            }
            if server.wants_login {
                return Err(Fault::failed("the history server wants a login, so nobody can tell what it lists")
                    .hint("take the filter off its pages for the time of the proof: spark.ui.filters"));
            }
            let waited = begun.elapsed();
            if server.process.is_none() || server.answer.is_none() && waited > self.timeout {
                return Err(Fault::failed(format!("the history server does not answer on port {}", server.port)));
            }
            if waited > self.timeout {
                let text = format!("the history server does not list {wanted} after {} s", waited.as_secs());
                return Err(Fault::failed(text).detail(format!("it scans every {every}")));
            }
            signals::check().map_err(Fault::of)?;
            tell(News::Waits(&format!("waiting for the history server, which scans every {every}")));
            std::thread::sleep(POLL);
        }
    }

    /// The link's path on the gateway. One that leads elsewhere opens nothing once its node is gone.
    fn path_of(&self, link: &str, synthetic: &SyntheticApplication) -> Result<String, Fault> {
        let key = Resource::Key { path: self.node.spark.defaults_path.clone(), key: LOG_LINK_KEY.into() };
        let installed = || self.receipt.entry(&key)?.ours.last()?.value();
        let pattern = self.receipt.settings.set.get(LOG_LINK_KEY).cloned().or_else(installed).unwrap_or_default();
        let wanted = synthetic.link(&pattern);
        match wanted.find("/logs/").filter(|_| wanted == link) {
            Some(at) => Ok(wanted[at..].to_string()),
            None => Err(Fault::failed("the link leads past the log gateway")
                .detail(format!("found {link}"))
                .detail(format!("wanted {wanted}"))),
        }
    }

    fn ask_gateway(&self, path: &str) -> Result<Answer, Fault> {
        let gateway = &self.receipt.settings.gateway;
        let at = reachable(gateway.address());
        let url = format!("{}://{at}{path}", if gateway.has_tls() { "https" } else { "http" });
        let failed = |what: String| Fault::failed(what).detail(format!("asked {url}"));
        let mut request = agent(PATIENCE).get(&url).header("accept-encoding", "identity");
        if let Some(login) = self.login {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(login)));
        }
        let mut answer = request.call().map_err(|e| failed(format!("the log gateway does not answer: {e}")))?;
        let status = answer.status().as_u16();
        let location = answer.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_string);
        let kind = Kind::of(&answer);
        let body = answer.body_mut().read_to_vec().unwrap_or_default();
        match (status, &location) {
            (302, Some(_)) | (200, None) => Ok(Answer { location, kind, body }),
            (401, _) => {
                Err(failed("the log gateway wants a login".into()).hint("EMR_SHS_LOGIN=name:password emr-shs verify"))
            }
            _ => {
                let page = String::from_utf8_lossy(&body).into_owned();
                let says = page.split("<h1>").nth(1).and_then(|rest| rest.split("</h1>").next()).unwrap_or_default();
                Err(failed(format!("the log gateway answers {status}: {says}")))
            }
        }
    }
}

/// The link to the executor's stderr, by the history server.
fn stderr_link(server: &HistoryServer, synthetic: &SyntheticApplication) -> Option<String> {
    let executors = server.api(&format!("applications/{}/allexecutors", synthetic.id()), PATIENCE)?;
    let one = executors.as_array()?.iter().find(|executor| executor.get("id").is_some_and(|id| id == "1"))?;
    Some(one.get("executorLogs")?.get("stderr")?.as_str()?.to_string())
}

/// What the gateway answered.
#[derive(Default)]
struct Answer {
    location: Option<String>,
    kind: Kind,
    body: Vec<u8>,
}

/// The log behind a presigned URL, as a browser would show it.
fn fetch(location: &str) -> Result<Vec<u8>, Fault> {
    // Its signature is nobody's business.
    let shown = location.split('?').next().unwrap_or_default();
    let failed = |what: String| Fault::failed(what).detail(format!("asked {shown}"));
    let mut answer = client_of_the_world(PATIENCE)
        .get(location)
        .header("accept-encoding", "identity")
        .call()
        .map_err(|e| failed(format!("S3 does not answer to the presigned URL: {e}")))?;
    let status = answer.status().as_u16();
    let kind = Kind::of(&answer);
    let body = answer.body_mut().read_to_vec().unwrap_or_default();
    if status != 200 {
        let text = String::from_utf8_lossy(&body).into_owned();
        let inner = |tag: &str| text.split(&format!("<{tag}>")).nth(1)?.split("</").next().map(str::to_string);
        let fault = failed(format!("S3 answers {status} to the presigned URL")).detail(format!(
            "{} {}",
            inner("Code").unwrap_or_default(),
            inner("Message").unwrap_or_default()
        ));
        // Policies can tell them apart (facts 2 §6).
        let mode = "where a bucket's policy refuses presigned URLs: sudo emr-shs proxy install --mode stream";
        return Err(if status == 403 { fault.hint(mode) } else { fault });
    }
    plain(body, &kind)
}

/// What a browser is told about a body.
#[derive(Default)]
struct Kind {
    content_type: String,
    gzip: bool,
}

impl Kind {
    fn of<B>(answer: &ureq::http::Response<B>) -> Self {
        let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
        Self { content_type: header("content-type"), gzip: header("content-encoding") == "gzip" }
    }
}

/// The text that a browser shows.
fn plain(body: Vec<u8>, kind: &Kind) -> Result<Vec<u8>, Fault> {
    if !kind.content_type.starts_with("text/plain") {
        return Err(Fault::failed("the log would be saved as a file, not shown")
            .detail(format!("found the type “{}”, wanted text/plain", kind.content_type)));
    }
    if !kind.gzip {
        return Ok(body);
    }
    let mut text = Vec::new();
    let unpacked = GzDecoder::new(body.as_slice()).read_to_end(&mut text);
    unpacked.map(|_| text).map_err(|e| Fault::failed("the log cannot be unpacked").detail(e.to_string()))
}

fn stage(
    tell: Tell<'_>,
    stage: Stage,
    may_be_interrupted: bool,
    work: impl FnOnce(Tell<'_>) -> Result<End, Fault>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let go_on = if may_be_interrupted { signals::check().map_err(Fault::of) } else { Ok(()) };
    let result = go_on.and_then(|()| work(tell));
    let (word, found) = match &result {
        Ok(End::Pass(found)) => ("pass", found.clone()),
        Ok(End::Skip(why)) => ("skip", why.clone()),
        Err(fault) => ("fail", fault.message.clone()),
    };
    tell(News::Step(Step { stage: stage.name, result: word, seconds: begun.elapsed().as_secs_f64(), found }));
    result.map(drop).map_err(|fault| Failure { stage, fault })
}

/// What was written and has to go: its way to S3, its place, its key.
#[derive(Default)]
struct Written {
    ways: Vec<S3>,
    keys: Vec<(usize, EventLogs, String)>,
}

impl Written {
    /// Writes objects below a prefix. What failed may be there all the same, unless it was refused.
    fn put(&mut self, s3: S3, uri: &EventLogs, objects: &[(String, Vec<u8>)]) -> Result<(), Fault> {
        self.ways.push(s3);
        for (name, body) in objects {
            let key = format!("{}{name}", uri.prefix);
            self.keys.push((self.ways.len() - 1, uri.clone(), key.clone()));
            if let Err(refusal) = self.ways[self.ways.len() - 1].put(uri, &key, body) {
                if matches!(refusal.failure, S3Failure::Denied { .. }) {
                    self.keys.pop();
                }
                return Err(refusal.fault);
            }
        }
        Ok(())
    }

    /// Deletes all of it; the fault names what is left.
    fn remove(&mut self) -> Result<(), Fault> {
        let mut left: Option<Fault> = None;
        for (way, uri, key) in self.keys.drain(..) {
            if let Err(refusal) = self.ways[way].delete(&uri, &key) {
                let fault = left.take().unwrap_or(refusal.fault);
                left = Some(fault.detail(format!("left behind: s3://{}/{key}", uri.bucket)));
            }
        }
        left.map_or(Ok(()), Err)
    }
}

impl Drop for Written {
    /// Whatever happened.
    fn drop(&mut self) {
        let _ = self.remove();
    }
}
