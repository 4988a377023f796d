//! Gathers the facts that `doctor` judges. S3 and EMR answer in the background; doctor collects everything
//! else in sequence. Each answer has a time limit: a service may hang, and that may be the very reason for
//! which a person runs `doctor`.

use super::check::{CheckId, CheckReport};
use super::facts::{
    ContainerLogs, EmrObservations, Facts, Mode, Observations, S3Observations, ServerObservations, log_uri,
};
use super::report;
use crate::aws::config::TimeoutProfile;
use crate::aws::emr::{ClusterDescription, EmrError};
use crate::aws::s3::{Listing, Refusal, S3};
use crate::aws::uri::{EventLogs, LogUri};
use crate::change::receipt::Receipt;
use crate::error::{Fault, Verdict};
use crate::host::Host;
use crate::ids::{self, Attempt};
use crate::installed::deferred_install::DeferredInstall;
use crate::installed::drift;
use crate::installed::log_gateway::LogGateway;
use crate::node::hadoop_client::{About, HadoopClients, Planned};
use crate::node::history_server::{self, STARTING};
use crate::node::jars::Scheme;
use crate::node::process::{self, Process};
use crate::node::{Node, log_diagnosis, provisioning};
use crate::paths::{HISTORY_SERVER_UNIT, LOG_DIRECTORY_KEY};
use crate::settings::Settings;
use crate::systemd;
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After this time, answers that are still missing count as "no answer in time".
const DEADLINE: Duration = Duration::from_secs(14);
/// After this time Hadoop's own client counts as silent. It is asked only where S3 refuses emr-shs.
const HADOOP_DEADLINE: Duration = Duration::from_secs(16);
/// doctor asks the history server to open only event logs smaller than this many bytes for each MiB of the
/// server's heap: doctor must not be the reason why the server runs out of memory. A compressed event log
/// counts tenfold.
const MODERATE_SIZE: i64 = 20 << 10;
const COMPRESSION: i64 = 10;
/// How long a starting server may take to answer.
const SETTLE: Duration = Duration::from_secs(6);
/// How many applications the server opens until one has executors.
const SAMPLES: usize = 3;
/// How many rolling event logs are measured.
const MEASURED: usize = 3;
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
        observe_server(&host, &mut node)?;
        let scheme = event_logs.as_ref().map(|uri| node.scheme(&host, &uri.scheme, &settings.jars));
        let gateway = if is_live { LogGateway::observe(&receipt).map_err(|e| format!("{e:#}")) } else { Ok(None) };
        let listed = node.server.as_ref().and_then(|server| server.list());

        let emr = emr.and_then(|emr| within_deadline(&emr, begun));
        let container_logs = is_live.then(|| {
            let uri = log_uri(&settings, emr.as_ref())?;
            let cluster = node.identity.cluster_id.clone()?;
            within_deadline(&ask_container_logs(&node, &settings, &uri, cluster), begun)
        });
        let mut s3 = s3.map(|answers| answers.within_deadline(begun));
        if let (Some(s3), Some(uri)) = (s3.as_mut().filter(|s3| s3.is_refused()), &event_logs) {
            let about = if settings.history_only { About::Reading } else { About::Writing };
            let clients = HadoopClients::of(&host, &node, uri, Planned::default());
            s3.hadoop = Some(clients.ask(uri, about, begun + HADOOP_DEADLINE));
        }
        let server = ServerObservations::gather(&node, s3.as_ref(), listed, begun);
        let observations = Observations {
            unreadable,
            is_pending: is_live && provisioning::is_pending(&host, false)?,
            deferred_install: if is_live { DeferredInstall::observe(&receipt)? } else { None },
            emr,
            container_logs: container_logs.flatten(),
            server,
            resources: drift::compare(&host, &receipt),
            gateway,
        };
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
    fn gather(node: &Node, s3: Option<&S3Observations>, listed: Option<Vec<Attempt>>, begun: Instant) -> Self {
        let mut observed = Self::of_log(node);
        // systemd restarts the server again and again, and each start begins the log anew. Until the
        // new log contains a known error, doctor reads it again.
        let is_crash_looping = node.server.as_ref().is_some_and(|server| server.is_crash_looping());
        while is_crash_looping && observed.known_errors.is_empty() && begun.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(200));
            observed = Self::of_log(node);
        }
        observed.attributes = sample_attributes(node, s3, listed.as_deref(), begun);
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
        let (text, age) = history_server::log_tail(&node.spark);
        Self {
            known_errors: log_diagnosis::known_errors(&text, age),
            last_errors: log_diagnosis::last_errors(&text),
            unreadable: log_diagnosis::unreadable_event_logs(&text, age),
            ..Self::default()
        }
    }
}

/// The attribute names of an executor. The server opens the smallest applications first, and none whose
/// size is not known.
fn sample_attributes(
    node: &Node,
    s3: Option<&S3Observations>,
    listed: Option<&[Attempt]>,
    begun: Instant,
) -> Option<(String, Vec<String>)> {
    let (server, listed, s3) = (node.server.as_ref()?, listed?, s3?);
    let moderate = i64::try_from(node.spark.daemon_heap_mib()).ok()?.saturating_mul(MODERATE_SIZE);
    let objects = s3.listing.as_ref()?.as_ref().ok()?.objects.iter().map(|o| (&o.name, o.size));
    let sizes: BTreeMap<Attempt, i64> = objects
        .chain(s3.rolling.iter().map(|(name, size)| (name, *size)))
        .filter_map(|(name, size)| Some((Attempt::of_event_log(name)?, uncompressed_size(name, size))))
        .collect();
    let known = listed.iter().filter_map(|attempt| Some((*sizes.get(attempt)?, attempt)));
    let mut candidates: Vec<(i64, &Attempt)> =
        known.filter(|(size, attempt)| *size < moderate && attempt.application.starts_with("application_")).collect();
    candidates.sort();
    let in_time = candidates.into_iter().take(SAMPLES).take_while(|_| begun.elapsed() < DEADLINE);
    in_time.into_iter().find_map(|(_, attempt)| Some((attempt.application.clone(), server.attributes(attempt)?)))
}

fn uncompressed_size(event_log: &str, size: i64) -> i64 {
    if ids::is_uncompressed_event_log(event_log) { size } else { size.saturating_mul(COMPRESSION) }
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

fn ask_emr(node: &Node, settings: &Settings) -> Receiver<Result<EmrObservations, EmrError>> {
    let (id, region) = (node.identity.cluster_id.clone(), node.region(settings.region.as_deref()));
    in_background(move || {
        let described = ClusterDescription::fetch(id.as_deref(), region, TimeoutProfile::Short)?;
        Ok(EmrObservations {
            cluster: described.cluster(),
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
    done: Receiver<()>,
}

impl S3Answers {
    fn request(node: &Node, settings: &Settings, uri: &EventLogs) -> Self {
        let connection = node.s3_connection(uri, settings.region.as_deref(), settings.endpoint_url.as_deref());
        let so_far = Arc::new(Mutex::new(S3Observations::default()));
        let (uri, answers, may_write) = (uri.clone(), so_far.clone(), !settings.history_only);
        let done = in_background(move || {
            let Ok(mut s3) = connection.open(TimeoutProfile::Short) else { return };
            ask_s3(&answers, &mut s3, &uri, may_write);
        });
        Self { so_far, done }
    }

    fn within_deadline(self, begun: Instant) -> S3Observations {
        within_deadline(&self.done, begun);
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks S3 step by step. The lock is never held during a request.
fn ask_s3(answers: &Mutex<S3Observations>, s3: &mut S3, uri: &EventLogs, may_write: bool) {
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
            ask_event_logs(answers, s3, uri);
        }
        if has_bucket && may_write && begun.elapsed() < LATEST_PROBE {
            let probe = s3.probe(uri);
            answers().probe = probe;
        }
    }
    answers().complete = true;
}

/// Lists the event logs, reads a byte of the newest one, and measures some rolling ones.
fn ask_event_logs<'a>(answers: impl Fn() -> std::sync::MutexGuard<'a, S3Observations>, s3: &S3, uri: &EventLogs) {
    let listing = s3.list(uri, PAGES);
    let newest = listing.as_ref().ok().and_then(Listing::newest).map(|log| format!("{}{}", uri.prefix, log.name));
    let rolling: Vec<String> =
        listing.iter().flat_map(|l| l.directories.iter().rev()).take(MEASURED).cloned().collect();
    answers().listing = Some(listing);
    let sample = newest.map(|key| s3.get(uri, &key, Some(1)).map(drop));
    answers().sample = sample;
    for name in rolling {
        let directory = EventLogs { prefix: format!("{}{name}", uri.prefix), ..uri.clone() };
        if let Ok(parts) = s3.list(&directory, 1) {
            answers().rolling.insert(name, parts.objects.iter().map(|part| part.size).sum());
        }
    }
}
