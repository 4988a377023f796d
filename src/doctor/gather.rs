//! Gathers the facts that `doctor` judges. S3 and EMR answer in the background; doctor collects everything
//! else in sequence. Each answer has a time limit: a service may hang, and that may be the very reason for
//! which a person runs `doctor`.

use super::check::{CheckId, CheckReport};
use super::event_logs::{Questions, event_logs};
use super::facts::{
    ContainerLogs, EmrObservations, Facts, Mode, Observations, S3Observations, ServerObservations, log_uri,
};
use super::report;
use crate::aws::config::TimeoutProfile;
use crate::aws::emr::{ClusterDescription, EmrError};
use crate::aws::s3::{Refusal, S3};
use crate::aws::uri::{EventLogs, LogUri};
use crate::change::receipt::Receipt;
use crate::error::{Fault, Verdict};
use crate::host::Host;
use crate::installed::deferred_install::DeferredInstall;
use crate::installed::drift;
use crate::installed::log_gateway::LogGateway;
use crate::node::event_logs::Attempt;
use crate::node::hadoop_client::{About, HadoopClients, Planned};
use crate::node::history_server::{self, STARTING};
use crate::node::jars::Scheme;
use crate::node::log_diagnosis::Cause;
use crate::node::process::{self, Process};
use crate::node::spark::Version;
use crate::node::{Node, log_diagnosis, provisioning};
use crate::paths::{HISTORY_SERVER_UNIT, LOG_DIRECTORY_KEY};
use crate::settings::Settings;
use crate::systemd;
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After this time, answers that are still missing count as "no answer in time".
const DEADLINE: Duration = Duration::from_secs(14);
/// After this time Hadoop's own client counts as silent. It is asked only where S3 refuses emr-shs, and
/// where Hadoop has credentials or settings of its own.
const HADOOP_DEADLINE: Duration = Duration::from_secs(16);
/// How long a starting server may take to answer.
const SETTLE: Duration = Duration::from_secs(6);
/// After this time no object is written any more: there must be time to delete it again.
const LATEST_PROBE: Duration = Duration::from_secs(6);
/// How many pages of a thousand names are listed.
const PAGES: usize = 10;

/// The facts about a live node.
pub(crate) struct Gathered {
    host: Host,
    node: Node,
    receipt: Receipt,
    settings: Settings,
    event_logs: Option<EventLogs>,
    scheme: Option<Result<Scheme, Fault>>,
    s3: Option<S3Observations>,
    observations: Observations,
}

impl Gathered {
    /// Gathers everything. The command line may override the receipt's settings.
    pub(crate) fn gather(host: Host, receipt: Receipt, settings: Settings) -> Result<Self> {
        let begun = Instant::now();
        let (mut node, unreadable) = Node::read_leniently(&host);
        let configured = || node.spark.defaults.text(LOG_DIRECTORY_KEY)?.parse().ok();
        let event_logs: Option<EventLogs> = settings.event_logs.clone().or_else(configured);
        let is_live = host.is_live();

        let s3 = event_logs.as_ref().filter(|_| is_live).map(|uri| S3Answers::request(&node, &settings, uri));
        let emr = is_live.then(|| ask_emr(&node, &settings));
        let gateway = is_live.then(|| ask_gateway(&receipt));
        observe_server(&host, &mut node)?;
        let scheme = event_logs.as_ref().map(|uri| node.scheme(&host, &uri.scheme, &settings.jars));
        let listed = node.server.as_ref().and_then(|server| server.list());

        let emr = emr.and_then(|emr| within_deadline(&emr, begun));
        let container_logs = is_live.then(|| {
            let uri = log_uri(&settings, emr.as_ref())?;
            let cluster = node.identity.cluster_id.clone()?;
            within_deadline(&ask_container_logs(&node, &settings, &uri, cluster), begun)
        });
        let mut s3 = s3.map(|answers| {
            answers.wait(begun);
            if let Some(Ok(listing)) = answers.so_far().listing {
                let listed = listed.as_deref().unwrap_or_default();
                answers.ask(Questions::new(
                    &listing,
                    listed,
                    node.spark.version.as_ref(),
                    settings.serverless.is_some(),
                ));
                answers.wait(begun);
            }
            answers.so_far()
        });
        if let (Some(s3), Some(uri)) = (&mut s3, &event_logs) {
            let is_refused = s3.is_refused();
            let overridden = (settings.region.as_deref(), settings.endpoint_url.as_deref());
            let may_ask = begun.elapsed() < LATEST_PROBE && !is_refused;
            let timeouts = may_ask.then_some(TimeoutProfile::Short);
            s3.only_hadoop_tells =
                s3.complete && node.doubt(&node.hadoop, uri, overridden, timeouts, settings.history_only).is_some();
            if is_refused || s3.only_hadoop_tells && begun.elapsed() < LATEST_PROBE {
                let about = if settings.history_only { About::Reading } else { About::Writing };
                let clients = HadoopClients::of(&host, &node, uri, Planned::default());
                s3.hadoop = Some(clients.ask(uri, about, begun + HADOOP_DEADLINE));
            }
        }
        let server = ServerObservations::gather(&host, &node, listed, begun);
        // A gateway that hangs must not take the time of the questions to S3.
        let gateway = gateway.map_or(Ok(None), |gateway| {
            let late = || {
                "it took longer than doctor waits to read the log gateway's unit and to ask the gateway: \
                 sudo journalctl -u emr-shs-gateway -n 50"
            };
            within_deadline(&gateway, begun).unwrap_or_else(|| Err(late().into()))
        });
        let observations = Observations {
            unreadable,
            is_pending: is_live && provisioning::is_pending(&host, false)?,
            deferred_install: if is_live { DeferredInstall::observe(&host, &receipt)? } else { None },
            emr,
            container_logs: container_logs.flatten(),
            server,
            resources: drift::compare(&host, &receipt),
            gateway,
        };
        if Receipt::load(&host)? != receipt {
            return Err(Fault::failed("another emr-shs has changed this node while doctor looked at it")
                .hint("run doctor again; if it says this again, that emr-shs is still at work: sudo emr-shs status")
                .into());
        }
        Ok(Self { host, node, receipt, settings, event_logs, scheme, s3, observations })
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            scheme: self.scheme.as_ref(),
            s3: self.s3.as_ref(),
            mode: Mode::Live(&self.observations),
            ..Facts::of_files(&self.host, &self.node, &self.receipt, &self.settings, self.event_logs.as_ref())
        }
    }

    /// Runs the wanted checks. On a node that is not a primary node, only the first check applies.
    pub(crate) fn report(&self, wanted: impl Fn(CheckId) -> bool) -> Vec<CheckReport> {
        let first = report(&self.facts(), |id| id == CheckId::Primary);
        if first.iter().any(|line| line.verdict == Verdict::Fail) {
            return first;
        }
        report(&self.facts(), wanted)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// The place of the event logs, if anything names it.
    pub(crate) fn event_logs(&self) -> Option<&EventLogs> {
        self.event_logs.as_ref()
    }

    /// What EMR says of the cluster; `None` if EMR did not answer in time.
    pub(crate) fn described(&self) -> Option<&Result<EmrObservations, EmrError>> {
        self.observations.emr.as_ref()
    }

    /// The role of the instance profile, if S3 was asked as one.
    pub(crate) fn role(&self) -> Option<&str> {
        self.s3.as_ref()?.role.as_deref()
    }
}

/// Observes the history server, and gives one that has just started time to answer.
fn observe_server(host: &Host, node: &mut Node) -> Result<()> {
    // doctor judges the whole class path, with the jars of emr-shs.
    node.observe_server(host, &|_| false)?;
    if let Some(server) = &mut node.server
        && let Some(process) = &server.process
        && process.up().is_some_and(|up| up < STARTING)
        && !process.is_suspended()
    {
        server.settle(&node.spark, SETTLE)?;
    }
    Ok(())
}

impl ServerObservations {
    fn gather(host: &Host, node: &Node, listed: Option<Vec<Attempt>>, begun: Instant) -> Self {
        let mut observed = Self::of_log(node);
        // systemd restarts the server again and again, and each start begins the log anew. Until the
        // new log contains a known error, doctor reads it again.
        let is_crash_looping = node.server.as_ref().is_some_and(|server| server.is_crash_looping());
        let knows_none = |observed: &Self| observed.known_errors.iter().all(|e| e.diagnosis.cause == Cause::Unknown);
        while is_crash_looping && knows_none(&observed) && begun.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(200));
            observed = Self::of_log(node);
        }
        observed.known_errors.retain(|error| error.diagnosis.cause != Cause::Silenced || is_silenced(host, node));
        observed.listed = listed;
        if let Some(server) = &node.server {
            observed.listener = process::listener(server.port);
            observed.moved_to = if server.is_alive() { None } else { server.moved_to() };
        }
        let unit_later = systemd::show(HISTORY_SERVER_UNIT).ok().filter(|_| node.server.is_some());
        observed.pid_later = unit_later.as_ref().and_then(Process::of_unit).map(|p| p.pid);
        observed
    }

    fn of_log(node: &Node) -> Self {
        let (text, age) = match history_server::log_tail(&node.spark) {
            Ok(read) => read,
            Err(why) => return Self { no_log: Some(why), ..Self::default() },
        };
        Self {
            known_errors: log_diagnosis::known_errors(&text, age),
            last_errors: log_diagnosis::last_errors(&text),
            unreadable: log_diagnosis::unreadable_event_logs(&text, age),
            log_is_cut: text.len() as u64 >= history_server::LOG_TAIL,
            ..Self::default()
        }
    }
}

/// Whether another jar's SLF4J precedes Spark's. A log without any entry can also be that of a server whose logger is
/// told to write nothing.
fn is_silenced(host: &Host, node: &Node) -> bool {
    let source = node.class_path.source_of(host, "org.slf4j.LoggerFactory");
    source.is_none_or(|jar| !jar.starts_with(node.spark.home.join("jars")))
}

/// Works in a thread of its own. The receiver may give up waiting.
fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // This fails if the receiver has given up.
        let _ = sender.send(work());
    });
    receiver
}

fn within_deadline<T>(result: &Receiver<T>, begun: Instant) -> Option<T> {
    result.recv_timeout(DEADLINE.saturating_sub(begun.elapsed())).ok()
}

fn ask_gateway(receipt: &Receipt) -> Receiver<Result<Option<LogGateway>, String>> {
    let receipt = receipt.clone();
    in_background(move || LogGateway::observe(&receipt).map_err(|e| format!("{e:#}")))
}

fn ask_emr(node: &Node, settings: &Settings) -> Receiver<Result<EmrObservations, EmrError>> {
    let (id, region) = (node.identity.cluster_id.clone(), node.region(settings.region.as_deref()));
    in_background(move || {
        let described = ClusterDescription::fetch(id.as_deref(), region, TimeoutProfile::Short)?;
        Ok(EmrObservations {
            cluster: described.cluster(),
            spelled_log_uri: described.spelled_log_uri().map(str::to_string),
            uploads_no_application_logs: described.uploads_no_application_logs(),
            runtime_roles: described.has_runtime_roles(),
        })
    })
}

fn ask_container_logs(
    node: &Node,
    settings: &Settings,
    uri: &LogUri,
    cluster: String,
) -> Receiver<Result<ContainerLogs, Refusal>> {
    let connection =
        node.s3_connection(&uri.clone().into(), settings.region.as_deref(), settings.endpoint_url.as_deref());
    let directory = |uri: LogUri| EventLogs { prefix: format!("{}{cluster}/containers/", uri.prefix), ..uri.into() };
    let directories: Vec<EventLogs> = uri.spellings().into_iter().map(directory).collect();
    in_background(move || {
        let mut s3 = connection.open(TimeoutProfile::Short).map_err(Fault::of)?;
        for (i, directory) in directories.iter().enumerate() {
            if i == 0 {
                s3.find_bucket(directory)?;
            }
            if let Some(key) = s3.first_object(directory)? {
                return s3.get(directory, &key, Some(1)).map(|_| ContainerLogs::Readable);
            }
        }
        Ok(ContainerLogs::None)
    })
}

/// Answers of S3 that arrive one by one. Whoever waits for them takes those that have arrived in time.
struct S3Answers {
    so_far: Arc<Mutex<S3Observations>>,
    /// Tells when all questions so far are answered.
    done: Receiver<()>,
    questions: Sender<Questions>,
}

impl S3Answers {
    fn request(node: &Node, settings: &Settings, uri: &EventLogs) -> Self {
        let connection = node.s3_connection(uri, settings.region.as_deref(), settings.endpoint_url.as_deref());
        let so_far = Arc::new(Mutex::new(S3Observations::default()));
        let (uri, answers, may_write) = (uri.clone(), so_far.clone(), !settings.history_only);
        let spark = node.spark.version.clone();
        let (questions, asked) = mpsc::channel::<Questions>();
        let (is_done, done) = mpsc::channel();
        std::thread::spawn(move || {
            let Ok(mut s3) = connection.open(TimeoutProfile::Short) else { return };
            ask_s3(&answers, &mut s3, &uri, spark.as_ref(), may_write);
            // Sending fails if doctor has given up waiting.
            while is_done.send(()).is_ok()
                && let Ok(questions) = asked.recv()
            {
                questions.ask(&s3, &uri, |tell| {
                    tell(&mut answers.lock().unwrap_or_else(PoisonError::into_inner).event_logs)
                });
            }
        });
        Self { so_far, done, questions }
    }

    /// Asks more. Without an answer to the questions before, this changes nothing.
    fn ask(&self, questions: Questions) {
        let _ = self.questions.send(questions);
    }

    fn wait(&self, begun: Instant) {
        within_deadline(&self.done, begun);
    }

    fn so_far(&self) -> S3Observations {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks S3 step by step. The lock is never held during a request.
fn ask_s3(answers: &Mutex<S3Observations>, s3: &mut S3, uri: &EventLogs, spark: Option<&Version>, may_write: bool) {
    let begun = Instant::now();
    let answers = || answers.lock().unwrap_or_else(PoisonError::into_inner);
    let (credentials, role) = s3.credentials();
    let has_credentials = credentials.is_ok();
    (answers().credentials, answers().role) = (Some(credentials), role);
    if has_credentials {
        let bucket = s3.find_bucket(uri);
        let has_bucket = bucket.is_ok();
        (answers().bucket, answers().clock_ahead) = (Some(bucket), s3.clock_ahead());
        if has_bucket {
            let listing = s3.list(uri, PAGES);
            let newest = listing.as_ref().ok().and_then(|listing| {
                let logs = event_logs(listing, &BTreeMap::new(), spark);
                Some(logs.iter().filter(|log| !log.name.is_rolling).max_by_key(|log| log.written)?.entry.to_string())
            });
            answers().listing = Some(listing);
            let sample = newest.map(|name| s3.get(uri, &format!("{}{name}", uri.prefix), Some(1)).map(drop));
            answers().sample = sample;
        }
        if has_bucket && may_write && begun.elapsed() < LATEST_PROBE {
            let probe = s3.probe(uri);
            answers().probe = probe;
        }
    }
    answers().complete = true;
}
