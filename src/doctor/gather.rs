//! What `doctor` gathers before it judges: at once, and each thing within its time, for what it is
//! called for may be that something hangs.

use super::checks::listing::{is_plain, log_name};
use super::checks::s3::{PATIENCE, S3Observations};
use super::checks::server::Server;
use super::{CheckReport, Facts, report};
use crate::aws::emr::{Cluster, Described, EmrError};
use crate::aws::s3::Refusal;
use crate::aws::uri::{EventLogs, LogUri};
use crate::change::receipt::Receipt;
use crate::error::Fault;
use crate::host::Host;
use crate::installed::drift::{self as installed, ResourceStatus};
use crate::installed::log_gateway::LogGateway;
use crate::node::Node;
use crate::node::history_server::Attempt;
use crate::node::jars::Scheme;
use crate::node::process::Process;
use crate::node::provisioning::{self, DeferredInstall};
use crate::paths::HISTORY_SERVER_UNIT;
use crate::settings::Settings;
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When whatever has not answered is given up, and nobody is asked any more.
const DEADLINE: Duration = Duration::from_secs(14);
/// How large an event log may be for the server to be asked to open it, for each MiB of its heap:
/// this must never be what it runs out of memory of. A compressed one counts tenfold.
const MODERATE: i64 = 20 << 10;
/// A server that runs shorter than this may still be starting.
pub const STARTING: Duration = Duration::from_secs(60);
/// How long one that is starting is waited for.
const SETTLE: Duration = Duration::from_secs(6);
/// How many applications are opened to find one with executors.
const SAMPLES: usize = 3;

/// What only an examination looks for.
pub struct Observations {
    /// Why a file of the node could not be read.
    pub unreadable: Option<Fault>,
    /// Whether EMR has still to bring the history server.
    pub is_pending: bool,
    /// The installation that waits for that.
    pub waiting: Option<DeferredInstall>,
    /// What EMR says of the cluster; `None` if it took too long.
    pub emr: Option<Result<Emr, EmrError>>,
    /// What lies where container logs are archived; `None` if S3 took too long.
    pub archive: Option<Result<Archived, Refusal>>,
    /// The history server's words.
    pub server: Server,
    /// All of the receipt, compared with the node.
    pub rows: Vec<ResourceStatus>,
    /// The log gateway, or why it could not be looked at.
    pub gateway: Result<Option<LogGateway>, String>,
}

/// What EMR says of the cluster.
#[derive(Clone, Debug)]
pub struct Emr {
    /// What does not change.
    pub cluster: Cluster,
    /// Whether container logs are not uploaded.
    pub uploads_no_application_logs: bool,
    /// Whether jobs may have roles of their own, or why nobody tells.
    pub runtime_roles: Result<bool, EmrError>,
}

/// What lies where container logs are archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archived {
    /// No log of this cluster.
    Nothing,
    /// Logs that can be read.
    Logs,
}

/// A node that was looked at from all sides.
pub struct Gathered {
    host: Host,
    node: Node,
    receipt: Receipt,
    settings: Settings,
    event_logs: Option<EventLogs>,
    scheme: Option<Result<Scheme, Fault>>,
    store: Option<S3Observations>,
    seen: Observations,
}

impl Gathered {
    /// Looks at everything. `settings` are the receipt's, with what the command line says else.
    pub fn make(host: Host, receipt: Receipt, settings: Settings) -> Result<Self> {
        let begun = Instant::now();
        let (mut node, unreadable) = Node::read_what_can_be(&host);
        let configured = || node.spark.defaults.get("spark.history.fs.logDirectory")?.parse().ok();
        let event_logs: Option<EventLogs> = settings.event_logs.clone().or_else(configured);
        let live = host.is_live();

        let store = Arc::new(Mutex::new(S3Observations::default()));
        let asked = event_logs.as_ref().filter(|_| live).map(|uri| ask_store(&node, &settings, uri, &store));
        let emr = live.then(|| ask_emr(&node, &settings));
        // With nothing taken for ours the class path is what it is.
        node.look(&host, &Receipt::default())?;
        if let Some(server) = &mut node.server
            && let Some(process) = &server.process
            && process.up().is_some_and(|up| up < STARTING)
            && !process.is_suspended()
        {
            server.settle(&node.spark, SETTLE)?;
        }
        let scheme = event_logs.as_ref().map(|uri| node.scheme(&host, &uri.scheme, &settings.jars));
        let gateway = if live { LogGateway::observe(&receipt).map_err(|e| format!("{e:#}")) } else { Ok(None) };
        let listed = node.server.as_ref().and_then(|server| server.list());

        let emr = emr.and_then(|emr| within(&emr, begun));
        let archive = live.then(|| {
            let uri = log_uri(&settings, emr.as_ref())?;
            let cluster = node.identity.cluster_id.clone()?;
            within(&ask_archive(&node, &settings, &uri, cluster), begun)
        });
        if let Some(asked) = &asked {
            within(asked, begun);
        }
        let store = asked.map(|_| store.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let mut server = Server::of_log(&node);
        // Its log begins anew each time: what kills it comes last.
        let dies = node.server.as_ref().is_some_and(|server| server.dies());
        while dies && server.sightings.is_empty() && begun.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(200));
            server = Server::of_log(&node);
        }
        server.attributes = sample(&node, store.as_ref(), listed.as_deref(), begun);
        server.listed = listed;
        server.pid_later = Process::find(HISTORY_SERVER_UNIT, None).map(|p| p.pid);
        let rows = installed::rows(&host, &receipt);
        let is_pending = live && provisioning::is_pending(&host, false)?;
        let waiting = if live { DeferredInstall::observe(&receipt)? } else { None };
        let seen =
            Observations { is_pending, waiting, unreadable, emr, archive: archive.flatten(), server, rows, gateway };
        Ok(Self { host, node, receipt, settings, event_logs, scheme, store, seen })
    }

    /// For the checks.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            scheme: self.scheme.as_ref(),
            store: self.store.as_ref(),
            seen: Some(&self.seen),
            ..Facts::of_files(&self.host, &self.node, &self.receipt, &self.settings, self.event_logs.as_ref())
        }
    }

    /// The checks whose names are asked for. On a node that runs no history server only the first
    /// has something to say.
    pub fn report(&self, asked: impl Fn(&str) -> bool) -> Vec<CheckReport> {
        let first = report(&self.facts(), |name| name == "primary");
        if first.iter().any(|line| line.result == "fail") {
            return first;
        }
        report(&self.facts(), asked)
    }

    /// The node that was looked at.
    pub fn node(&self) -> &Node {
        &self.node
    }
}

/// Does something in the background. Whoever waits for it may give up.
fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        let _ = done.send(work());
    });
    result
}

fn within<T>(result: &Receiver<T>, begun: Instant) -> Option<T> {
    result.recv_timeout(DEADLINE.saturating_sub(begun.elapsed())).ok()
}

fn ask_store(node: &Node, settings: &Settings, uri: &EventLogs, store: &Arc<Mutex<S3Observations>>) -> Receiver<()> {
    let way = node.way_to_s3(settings);
    let (uri, store, writes) = (uri.clone(), store.clone(), !settings.history_only);
    aside(move || {
        let Ok(mut s3) = way.open(PATIENCE) else { return };
        S3Observations::ask(&store, &mut s3, &uri, writes);
    })
}

fn ask_emr(node: &Node, settings: &Settings) -> Receiver<Result<Emr, EmrError>> {
    let (id, region) = (node.identity.cluster_id.clone(), node.region(settings));
    aside(move || {
        let described = Described::fetch(id.as_deref(), region, PATIENCE)?;
        Ok(Emr {
            cluster: described.cluster(),
            uploads_no_application_logs: described.uploads_no_application_logs(),
            runtime_roles: described.has_runtime_roles(),
        })
    })
}

fn ask_archive(node: &Node, settings: &Settings, uri: &LogUri, cluster: String) -> Receiver<Result<Archived, Refusal>> {
    let way = node.way_to_s3(settings);
    let place = EventLogs { prefix: format!("{}{cluster}/containers/", uri.prefix), ..uri.clone().into() };
    aside(move || {
        let mut s3 = way.open(PATIENCE).map_err(Fault::of)?;
        s3.find_bucket(&place)?;
        match s3.first_object(&place)? {
            None => Ok(Archived::Nothing),
            Some(key) => s3.get(&place, &key, Some(1)).map(|_| Archived::Logs),
        }
    })
}

/// Where this cluster's logs are archived: by the settings, by EMR now, or by EMR then.
pub fn log_uri(settings: &Settings, emr: Option<&Result<Emr, EmrError>>) -> Option<LogUri> {
    let described = emr.and_then(|emr| emr.as_ref().ok()).map(|emr| &emr.cluster);
    let cluster = described.or(settings.cluster.as_ref());
    settings.gateway.log_uris.first().cloned().or_else(|| cluster?.log_uri.as_ref()?.parse().ok())
}

/// The attributes of an executor, by the server: of the smallest application first. One whose size
/// is not known is not opened.
fn sample(
    node: &Node,
    store: Option<&S3Observations>,
    listed: Option<&[Attempt]>,
    begun: Instant,
) -> Option<(String, Vec<String>)> {
    let (server, listed, store) = (node.server.as_ref()?, listed?, store?);
    let moderate = i64::try_from(node.spark.daemon_heap_mib()).ok()?.saturating_mul(MODERATE);
    let objects = store.listing.as_ref()?.as_ref().ok()?.objects.iter().map(|o| (&o.name, o.size));
    let sizes: BTreeMap<Attempt, i64> = objects
        .chain(store.rolling.iter().map(|(name, size)| (name, *size)))
        .filter_map(|(name, size)| Some((log_name(name)?, if is_plain(name) { size } else { size.saturating_mul(10) })))
        .collect();
    let known = listed.iter().filter_map(|one| Some((*sizes.get(one)?, one)));
    let mut candidates: Vec<(i64, &Attempt)> =
        known.filter(|(size, one)| *size < moderate && one.application.starts_with("application_")).collect();
    candidates.sort();
    let in_time = candidates.into_iter().take(SAMPLES).take_while(|_| begun.elapsed() < DEADLINE);
    in_time.into_iter().find_map(|(_, one)| Some((one.application.clone(), server.attributes(one)?)))
}
