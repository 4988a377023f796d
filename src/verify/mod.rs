//! `verify`: a proof from end to end.
//!
//! It writes the event log and one executor log of a synthetic application to S3, and follows them as a
//! person would: the history server lists the application and links to the executor's log, and the log
//! gateway opens exactly that log. In the end it deletes what it wrote, however the proof ended.

mod cleanup;
mod gateway;
pub(crate) mod synthetic;
mod writing;

use crate::aws::config::TimeoutProfile;
use crate::aws::s3::{Refusal, S3};
use crate::aws::uri::EventLogs;
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::error::{Fault, Verdict};
use crate::host::Host;
use crate::installed::shortfall;
use crate::node::Node;
use crate::node::history_server::{self, HistoryServer};
use crate::paths::{GATEWAY_UNIT, LOG_LINK_KEY};
use crate::shown::{Hint, hint};
use crate::signals;
use cleanup::{NotWritten, Written};
use serde::Serialize;
use std::time::{Duration, Instant};
use synthetic::SyntheticApplication;

/// How often the history server is asked whether it lists the application.
const POLL: Duration = Duration::from_millis(500);
/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A stage of the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Stage {
    #[serde(rename = "event log")]
    WriteEventLog,
    #[serde(rename = "container log")]
    WriteContainerLog,
    #[serde(rename = "listed")]
    Listed,
    #[serde(rename = "executors")]
    Executors,
    #[serde(rename = "link")]
    Link,
    #[serde(rename = "gateway")]
    Gateway,
    #[serde(rename = "log")]
    Log,
    #[serde(rename = "complete")]
    Complete,
    #[serde(rename = "removed")]
    Removed,
}

impl Stage {
    /// In their order.
    pub(crate) const ALL: [Self; 9] = [
        Self::WriteEventLog,
        Self::WriteContainerLog,
        Self::Listed,
        Self::Executors,
        Self::Link,
        Self::Gateway,
        Self::Log,
        Self::Complete,
        Self::Removed,
    ];

    /// The name that people read; JSON has the same.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WriteEventLog => "event log",
            Self::WriteContainerLog => "container log",
            Self::Listed => "listed",
            Self::Executors => "executors",
            Self::Link => "link",
            Self::Gateway => "gateway",
            Self::Log => "log",
            Self::Complete => "complete",
            Self::Removed => "removed",
        }
    }
}

/// How a stage ended.
#[derive(Debug, Serialize)]
pub(crate) struct StageReport {
    pub stage: Stage,
    #[serde(rename = "result")]
    pub verdict: Verdict,
    pub seconds: f64,
    pub found: String,
}

/// What happens during the proof, as it happens.
pub(crate) enum ProofEvent<'a> {
    /// A stage has ended.
    StageEnded(StageReport),
    /// The proof waits for something.
    Waiting(&'a str),
}

type OnEvent<'a> = &'a mut dyn FnMut(ProofEvent<'_>);

/// A proof that failed.
pub(crate) struct Failure {
    pub stage: Stage,
    pub fault: Fault,
}

/// What to prove, and how long that may take.
pub(crate) struct Proof<'a> {
    pub host: &'a Host,
    pub node: &'a Node,
    pub receipt: &'a Receipt,
    /// `name:password`, to prove that this login opens logs; without it root proves itself by the gateway's token.
    pub login: Option<&'a str>,
    /// How long the history server may take to list the application.
    pub timeout: Duration,
}

/// How a stage ends that does not fail.
enum End {
    Pass(String),
    /// The stage does not apply.
    Skip(String),
}

/// The results of stages that later stages need.
#[derive(Default)]
struct Found {
    /// Whether the executor's log lies in S3.
    has_container_log: bool,
    server: Option<HistoryServer>,
    /// The link to the executor's stderr.
    link: Option<String>,
}

impl Proof<'_> {
    /// Runs all stages, and deletes what they wrote.
    pub(crate) fn run(&self, uri: &EventLogs, listener: OnEvent<'_>) -> Result<(), Failure> {
        let mut written = Written::default();
        let result = self.stages(uri, &mut written, listener);
        let objects = written.count();
        if objects == 0 {
            return result;
        }
        // This stage runs even after Ctrl-C.
        let removed = run_stage(listener, Stage::Removed, |_| {
            written.remove()?;
            let plural = if objects == 1 { "" } else { "s" };
            Ok(End::Pass(format!("deleted {objects} object{plural} from S3")))
        });
        result.and(removed)
    }

    fn stages(&self, uri: &EventLogs, written: &mut Written, listener: OnEvent<'_>) -> Result<(), Failure> {
        let synthetic = SyntheticApplication::new(self.node, &self.receipt.settings);
        let mut found = Found::default();
        interruptible(listener, Stage::WriteEventLog, |_| {
            let (name, parts) = synthetic.event_log();
            Ok(End::Pass(format!("{name} in {uri}{}", self.write_event_log(uri, written, &parts)?)))
        })?;
        interruptible(listener, Stage::WriteContainerLog, |_| {
            self.write_container_log(&synthetic, written, &mut found)
        })?;
        interruptible(listener, Stage::Listed, |listener| {
            if self.receipt.settings.index {
                self.wait_until_indexed(&synthetic, listener)?;
                found.server = Some(HistoryServer::observe(&self.node.spark).map_err(Fault::of)?);
                return Ok(End::Pass("by the log gateway, from the index".into()));
            }
            let server = found.server.insert(self.wait_until_listed(&synthetic, listener)?);
            Ok(End::Pass(format!("by the history server on port {}", server.port)))
        })?;
        interruptible(listener, Stage::Executors, |_| {
            let mut on_taken = String::new();
            if self.receipt.settings.index {
                // The gateway fetches the event log, and answers once the history server shows it.
                let path = format!("/api/v1/applications/{}/allexecutors", synthetic.id());
                self.browser().json(&path)?;
                if let Some(taken) = self.receipt.taken_port() {
                    self.browser().json_at(taken, &path)?;
                    on_taken = format!("; the log gateway opens it on port {}, too", taken.port());
                }
            }
            let link = found.server.as_ref().and_then(|server| stderr_link(server, &synthetic));
            found.link = Some(link.ok_or_else(|| {
                Fault::failed("the history server lists the application, but shows no log of its executor")
                    .detail(format!("asked for applications/{}/allexecutors", synthetic.id()))
                    .hint(self.look_at_server_log())
            })?);
            Ok(End::Pass(format!("one, with a link to its stderr{on_taken}")))
        })?;
        if let Some(link) = found.link.as_ref().filter(|_| found.has_container_log) {
            self.gateway_stages(&synthetic, link, listener)?;
        }
        interruptible(listener, Stage::Complete, |_| self.complete(found.server.as_ref()))
    }

    /// Whether everything is there that the user wanted, also what no stage of the proof uses.
    fn complete(&self, server: Option<&HistoryServer>) -> Result<End, Fault> {
        // Another run can have written the receipt since the proof began.
        let receipt = Receipt::load(self.host).map_err(Fault::of)?;
        let missing = shortfall::observe(self.host, &receipt, server, None).map_err(Fault::of)?;
        let Some(first) = missing.first() else { return Ok(End::Pass("everything that was wanted is there".into())) };
        let fault = Fault::failed("something that was wanted is not there").hint(first.hint.clone());
        Err(missing
            .iter()
            .fold(fault, |fault, shortfall| fault.detail(format!("{}: {}", shortfall.name, shortfall.found))))
    }

    fn write_container_log(
        &self,
        synthetic: &SyntheticApplication,
        written: &mut Written,
        found: &mut Found,
    ) -> Result<End, Fault> {
        if !self.has_gateway() {
            return Ok(End::Skip("no log gateway is installed".into()));
        }
        let Some(uri) = self.receipt.settings.log_uri() else {
            return Ok(End::Skip("the log URI is not known".into()));
        };
        let Some(key) = synthetic.log_key(self.node.identity.cluster_id.as_deref()) else {
            return Ok(End::Skip("the files of this node name no cluster id".into()));
        };
        let uri = EventLogs::from(uri);
        let objects = [(key, synthetic.log_gz())];
        let how = match self.write_log(&uri, written, &objects) {
            Ok(how) => how,
            // EMR writes logs in its own way, so that this says nothing about them.
            Err(NotWritten { fault, is_refused: true, .. }) => {
                let what = "EMR writes logs there in its own way, so verify cannot prove that they open";
                return Ok(End::Skip(format!("{}; {what}", fault.message)));
            }
            Err(NotWritten { fault, .. }) => return Err(fault),
        };
        found.has_container_log = true;
        Ok(End::Pass(format!("stderr of {} in {uri}{how}", synthetic.container())))
    }

    /// The stages that follow the link through the log gateway.
    fn gateway_stages(
        &self,
        synthetic: &SyntheticApplication,
        link: &str,
        listener: OnEvent<'_>,
    ) -> Result<(), Failure> {
        // What a browser asks for, if the history server's page has no link to the gateway.
        let mut target = format!("/logs/{}/stderr", synthetic.container());
        interruptible(listener, Stage::Link, |_| {
            if !self.node.spark.version.as_ref().is_some_and(|v| v.at_least(3, 0)) {
                return Ok(End::Skip(
                    "Spark before 3.0 links to NodeManagers; verify asks the log gateway directly".into(),
                ));
            }
            self.check_link(link, synthetic)?;
            target = link.into();
            Ok(End::Pass(link.into()))
        })?;
        let mut answer = gateway::Answer::default();
        interruptible(listener, Stage::Gateway, |_| {
            let browser = self.browser();
            answer = browser.follow(&target)?;
            let how = match &answer.location {
                Some(_) => "redirects to a presigned URL",
                None => "answers with the log itself",
            };
            let ways = browser.try_every_way(synthetic, &target)?;
            Ok(End::Pass(format!("{how}; opens by way of {}", ways.join(", "))))
        })?;
        interruptible(listener, Stage::Log, |_| {
            let uri = self.receipt.settings.log_uri().map(EventLogs::from);
            let proxies = uri.map(|uri| self.node.proxies(&uri)).unwrap_or_default();
            let log = gateway::log_as_browser_shows_it(&mut answer, &proxies)?;
            let wanted = synthetic.log();
            if log != wanted {
                return Err(Fault::failed("the log that arrived differs from the log that was written")
                    .detail(format!("found {} bytes, wanted {}", log.len(), wanted.len()))
                    .hint(gateway::hint_for_changed_log(&self.receipt.settings)));
            }
            Ok(End::Pass(format!("{} bytes, exactly those that were written", log.len())))
        })
    }

    fn browser(&self) -> gateway::Browser<'_> {
        gateway::Browser::new(self.host, &self.receipt.settings, self.login)
    }

    /// Waits until the log gateway lists the application.
    fn wait_until_indexed(&self, synthetic: &SyntheticApplication, listener: OnEvent<'_>) -> Result<(), Fault> {
        let begun = Instant::now();
        let wanted = synthetic.id();
        let path = format!("/api/v1/applications/{wanted}");
        loop {
            let answer = self.browser().json(&path);
            let waited = begun.elapsed();
            match answer {
                Ok(application) if application["id"] == *wanted => return Ok(()),
                Err(fault) if waited > self.timeout => return Err(fault),
                Ok(_) if waited > self.timeout => {
                    let message = format!("the log gateway does not list {wanted} after {} s", waited.as_secs());
                    return Err(Fault::failed(message).hint(hint!(
                        "read what the gateway says: sudo journalctl -u {} -n 20; if it only needs longer: sudo emr-shs verify --timeout {}",
                        GATEWAY_UNIT,
                        self.timeout.as_secs().saturating_mul(4).to_string()
                    )));
                }
                _ => {}
            }
            signals::check().map_err(Fault::of)?;
            listener(ProofEvent::Waiting("waiting for the log gateway, which looks for new event logs every 30 s"));
            std::thread::sleep(POLL);
        }
    }

    fn s3(&self, uri: &EventLogs) -> Result<S3, Refusal> {
        let settings = &self.receipt.settings;
        let connection = self.node.s3_connection(uri, settings.region.as_deref(), settings.endpoint_url.as_deref());
        let mut s3 = connection.open(TimeoutProfile::Usual).map_err(Fault::of)?;
        s3.find_bucket(uri)?;
        Ok(s3)
    }

    fn has_gateway(&self) -> bool {
        self.receipt.entry(&Resource::Unit { name: GATEWAY_UNIT.into() }).is_some()
    }

    /// Waits until the history server lists the application. A busy server may take its time. A dead one
    /// is a failure at once.
    fn wait_until_listed(
        &self,
        synthetic: &SyntheticApplication,
        listener: OnEvent<'_>,
    ) -> Result<HistoryServer, Fault> {
        let begun = Instant::now();
        let wanted = synthetic.id();
        // The server can list thousands of applications, so ask for recent ones only.
        let query = format!("applications?minEndDate={}", synthetic.before_its_end());
        let interval = self.node.spark.scan_interval().as_secs_f64();
        let mut server = HistoryServer::observe(&self.node.spark).map_err(Fault::of)?;
        loop {
            let list = server.api(&query, TIMEOUT);
            let mut listed = list.iter().filter_map(|list| list.as_array()).flatten();
            if listed.any(|application| application.get("id").is_some_and(|id| *id == wanted)) {
                return Ok(server);
            }
            if list.is_none() {
                server = HistoryServer::observe(&self.node.spark).map_err(Fault::of)?;
            }
            let waited = begun.elapsed();
            // A server that starts answers with errors for a moment.
            if let Some(barrier) = server.barrier.as_ref().filter(|b| b.is_login() || waited > self.timeout) {
                return Err(Fault::failed("verify cannot see what the history server lists")
                    .detail(format!("port {} {barrier}", server.port))
                    .hint(hint!(
                        "remove the filter from spark.ui.filters in {}, then: sudo emr-shs restart; sudo emr-shs verify",
                        self.node.spark.defaults_path
                    )));
            }
            if server.process.is_none() || server.answer.is_none() && waited > self.timeout {
                let message = format!("the history server does not answer on port {}", server.port);
                let again = hint!("sudo emr-shs restart; if it does not answer then, {}", self.look_at_server_log());
                return Err(Fault::failed(message).hint(again));
            }
            if waited > self.timeout {
                let message = format!("the history server does not list {wanted} after {} s", waited.as_secs());
                let longer = self.timeout.as_secs().saturating_mul(4).to_string();
                return Err(Fault::failed(message).detail(format!("the server scans every {interval} s")).hint(hint!(
                    "{}; if the server only needs longer: sudo emr-shs verify --timeout {}",
                    self.look_at_server_log(),
                    longer
                )));
            }
            signals::check().map_err(Fault::of)?;
            listener(ProofEvent::Waiting(&format!("waiting for the history server, which scans every {interval} s")));
            std::thread::sleep(POLL);
        }
    }

    /// Whether the history server's page has the installed link. A link that leads elsewhere opens nothing once the
    /// node of the executor is gone.
    fn check_link(&self, link: &str, synthetic: &SyntheticApplication) -> Result<(), Fault> {
        let key = Resource::Key { path: self.node.spark.defaults_path.clone(), key: LOG_LINK_KEY.into() };
        let installed = || self.receipt.entry(&key)?.ours.last()?.value();
        let pattern = self.receipt.settings.set.get(LOG_LINK_KEY).cloned().or_else(installed).unwrap_or_default();
        let wanted = synthetic.link(&pattern);
        if wanted == link && wanted.contains("/logs/") {
            return Ok(());
        }
        Err(Fault::failed("the log link does not lead to the log gateway")
            .detail(format!("found {link}"))
            .detail(format!("wanted {wanted}"))
            .hint(match self.receipt.settings.set.contains_key(LOG_LINK_KEY) {
                true => hint!("take back the pattern that --set named: sudo emr-shs install --set {}=", LOG_LINK_KEY),
                false => "write the pattern again: sudo emr-shs install; if install finds nothing to change, let the \
                          history server read it: sudo emr-shs restart"
                    .into(),
            }))
    }

    /// Where the history server says what it does.
    fn look_at_server_log(&self) -> Hint {
        hint!("read what the history server says: tail -50 {}", history_server::log_file(&self.node.spark))
    }
}

/// The link to the executor's stderr that the history server shows.
fn stderr_link(server: &HistoryServer, synthetic: &SyntheticApplication) -> Option<String> {
    stderr_link_in(&server.api(&format!("applications/{}/allexecutors", synthetic.id()), TIMEOUT)?)
}

/// The link in the answer of the history server's REST API.
fn stderr_link_in(executors: &serde_json::Value) -> Option<String> {
    let executor = executors.as_array()?.iter().find(|executor| executor.get("id").is_some_and(|id| id == "1"))?;
    Some(executor.get("executorLogs")?.get("stderr")?.as_str()?.to_string())
}

/// Runs a stage, unless the user has interrupted the proof.
fn interruptible(
    listener: OnEvent<'_>,
    stage: Stage,
    work: impl FnOnce(OnEvent<'_>) -> Result<End, Fault>,
) -> Result<(), Failure> {
    run_stage(listener, stage, |listener| {
        signals::check().map_err(Fault::of)?;
        work(listener)
    })
}

fn run_stage(
    listener: OnEvent<'_>,
    stage: Stage,
    work: impl FnOnce(OnEvent<'_>) -> Result<End, Fault>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let result = work(listener);
    let (verdict, found) = match &result {
        Ok(End::Pass(found)) => (Verdict::Pass, found.clone()),
        Ok(End::Skip(why)) => (Verdict::Skip, why.clone()),
        Err(fault) => (Verdict::Fail, fault.message.clone()),
    };
    listener(ProofEvent::StageEnded(StageReport { stage, verdict, seconds: begun.elapsed().as_secs_f64(), found }));
    result.map(drop).map_err(|fault| Failure { stage, fault })
}
