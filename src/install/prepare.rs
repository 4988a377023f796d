//! An installation that is prepared: everything read, everything checked, nothing written.

use super::notes;
use crate::aws::config::TimeoutProfile;
use crate::aws::emr::{Description, EmrError, Retry};
use crate::aws::identity;
use crate::aws::s3::{Bucket, Refusal, S3};
use crate::aws::uri::EventLogs;
use crate::change::component::Component;
use crate::change::plan::{self, Change, Plan};
use crate::change::receipt::{LeftOut, Part, Receipt};
use crate::change::resource::{Program, Resource, State};
use crate::change::transaction;
use crate::desired::Context;
use crate::desired::event_log_cache::EventLogCache;
use crate::desired::local_store::{self, LocalStore, NoStore};
use crate::desired::log_gateway::{self, GatewaySetup, NoGateway};
use crate::desired::taken_port::TakenPort;
use crate::doctor;
use crate::doctor::facts::{Facts, Mode, S3Observations};
use crate::error::Fault;
use crate::host::Host;
use crate::installed::shortfall::Shortfall;
use crate::node::hadoop_client::HadoopClients;
use crate::node::history_server::Readiness;
use crate::node::jars::Scheme;
use crate::node::{Node, jar};
use crate::paths::{GATEWAY_UNIT, HISTORY_PORT_KEY, LINK_DIR, LOG_LINK_KEY, PROGRAM_DIR};
use crate::settings::Settings;
use crate::shown::hint;
use crate::signals;
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a running history server may take to answer. After that `install` treats the server as dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What a command asks for.
pub(crate) struct Request<'a> {
    /// The command's name, for hints.
    pub command: &'static str,
    pub components: &'a [Component],
    pub host: Host,
    pub receipt: Receipt,
    /// The settings of this run.
    pub settings: Settings,
    /// Replace what somebody else made.
    pub force: bool,
}

/// An installation, or a component of one, that can begin.
pub(crate) struct Installation {
    pub host: Host,
    pub node: Node,
    pub receipt: Receipt,
    pub settings: Settings,
    /// `None` only for the log gateway alone, which does not need event logs.
    pub event_logs: Option<EventLogs>,
    /// What will change.
    pub plan: Plan,
    /// The log gateway, or why there is none; `None` where the command does not ask for one.
    pub gateway: Option<Result<GatewaySetup, NoGateway>>,
    /// What the user wants and this run does not bring about.
    pub missing: Vec<Shortfall>,
    /// What of these the run itself leaves out. The receipt remembers it.
    pub left_out: Vec<LeftOut>,
    pub(super) command: &'static str,
    /// The local store, or why there is none; chosen once, because others change what lies on the disks meanwhile.
    /// `None` where the command does not ask for one.
    pub(super) store: Option<Result<LocalStore, NoStore>>,
    /// The event-log cache; `None` without the index.
    pub(super) cache: Option<EventLogCache>,
    /// The port that the log gateway takes from the history server.
    pub(super) taken: Option<TakenPort>,
    /// Whether rolling event logs lie below the prefix.
    has_rolling: bool,
    /// Why it is not known whether jobs run under roles of their own; `None` if it is known, or does not matter.
    pub(super) roles_unknown: Option<EmrError>,
    /// Hadoop's own clients, for the moment when S3 refuses emr-shs; `None` where S3 is not asked.
    pub(super) hadoop: Option<Arc<HadoopClients>>,
    pub(super) s3: S3Observations,
    pub(super) scheme: Option<Result<Scheme, Fault>>,
    pub(super) components: Vec<Component>,
    pub(super) force: bool,
    /// Whether nobody can tell if the S3 prefix exists, and `--force` leaves it as it is.
    leaves_prefix: bool,
}

/// What the threads of [`Installation::prepare`] found out.
struct Findings {
    scheme: Option<Result<Scheme, Fault>>,
    bucket: Option<Result<Bucket, Refusal>>,
    has_rolling: bool,
    /// EMR's description of the cluster; `None` if nobody needs it.
    described: Result<Option<Description>, EmrError>,
    /// The node's public name, where EMR did not tell it.
    public_name: Option<String>,
    program: Option<Program>,
}

impl Installation {
    /// Reads the node, S3 and EMR, and checks everything that can be checked before a change.
    pub(crate) fn prepare(request: Request<'_>) -> Result<Self> {
        let Request { command, components, mut host, receipt, mut settings, force } = request;
        let only_gateway = components == [Component::Gateway];
        check_jars(&host, &settings)?;
        keep_to_components(components, &host, &receipt, &mut settings)?;
        let event_logs =
            if only_gateway { settings.event_logs.clone() } else { Some(settings.event_logs(command)?.clone()) };
        let mut node = Node::read(&host)?;
        let files = Facts::of_files(&host, &node, &receipt, &settings, event_logs.as_ref());
        doctor::preflight(&Facts { mode: Mode::Preflight { force, gateway: None }, ..files }, components)?;

        let connects = host.is_live() && !only_gateway;
        let mut s3 = event_logs
            .as_ref()
            .filter(|_| connects)
            .map(|uri| {
                node.s3_connection(uri, settings.region.as_deref(), settings.endpoint_url.as_deref())
                    .open(TimeoutProfile::Usual)
            })
            .transpose()?;
        let asks_s3 = s3.as_mut().zip(event_logs.as_ref());
        let found = find_out(&mut node, &host, &receipt, &settings, components, asks_s3)?;
        let mut roles_unknown = found.described.as_ref().err().cloned();
        if let Ok(Some(description)) = &found.described {
            settings.cluster = Some(description.cluster.clone());
            roles_unknown = description.roles_unknown.clone();
        }
        settings.public_name = found.public_name.or(settings.public_name);
        // What EMR said to an earlier run still holds.
        let described = match (&settings.cluster, &found.described) {
            (None, Err(why)) => Err(why),
            (cluster, _) => Ok(cluster.as_ref()),
        };
        let told = found.bucket.as_ref().and_then(|found| found.as_ref().ok()?.region.as_deref());
        let told = event_logs.as_ref().map(|uri| uri.bucket.as_str()).zip(told);
        let cache = settings.index.then(|| EventLogCache::choose(&host, &node, &receipt));
        let cache = cache.transpose().map_err(no_place_for_cache)?;
        let taken = TakenPort::of(&node, &receipt, &settings)?;
        let gateway = found.program.map(|program| {
            let set = TakenPort::keys_after(taken.as_ref(), &node, &receipt, &settings);
            let settings = Settings { set, ..settings.clone() };
            log_gateway::setup(&host, &node, &settings, told, described, program, cache.as_ref())
        });
        host.s3 = s3;

        let mut this = Self {
            host,
            node,
            receipt,
            settings,
            event_logs,
            plan: Plan { changes: Vec::new(), restart: None, problems: Vec::new(), notes: Vec::new() },
            gateway,
            missing: Vec::new(),
            left_out: Vec::new(),
            command,
            store: None,
            cache,
            taken,
            has_rolling: found.has_rolling,
            roles_unknown,
            s3: S3Observations { bucket: found.bucket, complete: true, ..S3Observations::default() },
            hadoop: None,
            scheme: found.scheme,
            components: components.to_vec(),
            force,
            leaves_prefix: false,
        };
        this.prepare_hadoop();
        this.ask_hadoop_for_bucket();
        signals::check()?;
        this.check_index_settings()?;
        if let (Some(taken), Some(Ok(gateway))) = (this.taken, &this.gateway) {
            gateway.can_take(taken)?;
        }
        doctor::preflight(&this.facts_with(&this.s3, force), &this.components)?;
        if let (Some(Err(why)), true) = (&this.gateway, only_gateway) {
            return Err(Fault::preflight(format!("no log gateway: {why}")).unchanged().hint(why.hint(command)).into());
        }
        this.check_index()?;
        this.check_taken_port()?;
        this.make_plan()?;
        Ok(this)
    }

    fn make_plan(&mut self) -> Result<()> {
        self.store = self.components.contains(&Component::Configure).then(|| {
            let reads = self.history_directory();
            local_store::choose(&self.host, &self.node, &self.receipt, &self.settings, reads.as_deref())
        });
        let mut changes = self.changes(&self.receipt, &self.settings);
        if let (Err(why), Some(Ok(_))) = (&changes, &self.store) {
            // Somebody may have put something in the place of the store meanwhile.
            let store = self.store.replace(Err(NoStore::NoPlace(format!("{why:#}"))));
            match self.changes(&self.receipt, &self.settings) {
                Ok(without) => changes = Ok(without),
                Err(_) => self.store = store,
            }
        }
        self.leaves_prefix = self.force && changes.is_err() && self.host.s3.is_some();
        self.plan.changes = if self.leaves_prefix { self.changes(&self.receipt, &self.settings)? } else { changes? };
        if !self.force {
            plan::refuse_foreign(&self.receipt, &self.plan.changes)?;
        }
        self.plan.restart = self.restart_reason();
        self.plan.problems = notes::mistakes(&self.host, &self.node, &self.receipt);
        if self.is_whole() {
            self.plan.problems.extend(notes::server_is_down(&self.node));
            self.plan.problems.extend(notes::look_alikes(&self.node));
        }
        self.left_out = self.what_is_left_out();
        self.missing = self.what_stays_missing()?;
        self.plan.problems.extend(self.why_no_store());
        self.plan.problems.extend(self.why_logs_do_not_open());
        self.plan.notes = notes::consequences(
            &self.host,
            &self.node,
            &self.settings,
            self.history_directory().as_deref(),
            &self.plan.changes,
        );
        self.plan.notes.extend(notes::taken_port(self.taken.as_ref(), &self.settings, &self.plan.changes));
        let gateway = self.gateway.as_ref().filter(|gateway| gateway.is_ok());
        self.plan.notes.extend(gateway.and_then(|_| notes::log_uri_of_others(&self.settings)));
        let store = self.store.as_ref().filter(|store| store.is_ok() && self.has_rolling);
        let store = store.filter(|_| self.cache.is_none());
        self.plan.notes.extend(store.and(self.event_logs.as_ref()).map(notes::rolls_elsewhere));
        self.plan.notes.extend(self.why_roles_are_unknown());
        Ok(())
    }

    pub(super) fn facts_with<'a>(&'a self, s3: &'a S3Observations, force: bool) -> Facts<'a> {
        Facts {
            scheme: self.scheme.as_ref(),
            s3: Some(s3),
            mode: Mode::Preflight { force, gateway: self.gateway.as_ref().and_then(|setup| setup.as_ref().ok()) },
            ..Facts::of_files(&self.host, &self.node, &self.receipt, &self.settings, self.event_logs.as_ref())
        }
    }

    pub(super) fn components(&self) -> &[Component] {
        &self.components
    }

    pub(super) fn context<'a>(&'a self, receipt: &'a Receipt, settings: &'a Settings) -> Context<'a> {
        Context {
            host: &self.host,
            node: &self.node,
            receipt,
            settings,
            event_logs: self.event_logs.as_ref(),
            bucket: self.s3.bucket.as_ref().and_then(|bucket| bucket.as_ref().ok()),
            scheme: self.scheme.as_ref().and_then(|scheme| scheme.as_ref().ok()),
            gateway: self.gateway.as_ref().and_then(|setup| setup.as_ref().ok()),
            store: self.store.as_ref().and_then(|store| store.as_ref().ok()),
            cache: self.cache.as_ref(),
            taken: self.taken.as_ref(),
            force: self.force,
        }
    }

    /// What the history server will read.
    pub(crate) fn history_directory(&self) -> Option<String> {
        match &self.cache {
            Some(cache) => Some(cache.uri()),
            None => self.event_logs.as_ref().map(ToString::to_string),
        }
    }

    fn why_no_store(&self) -> Option<String> {
        let why = self.no_store().filter(|_| self.is_whole())?;
        // What is missing says it too.
        let is_told = self.left_out.iter().any(|left_out| left_out.part == Part::LocalStore);
        (!is_told).then(|| format!("No local store for the history server: {why}."))
    }

    fn why_logs_do_not_open(&self) -> Option<String> {
        match self.gateway.as_ref()? {
            // What is missing says it too.
            Err(_) if self.left_out.iter().any(|left_out| left_out.part == Part::LogGateway) => None,
            Err(why) => Some(format!(
                "No log gateway: {why}. Log links keep leading to NodeManagers. To add a gateway later: sudo emr-shs proxy install --log-uri s3://my-bucket/elasticmapreduce/"
            )),
            Ok(_) => {
                let version = self.node.spark.version.as_ref()?;
                (!version.at_least(3, 0)).then(|| format!(
                    "Spark {version} does not know {LOG_LINK_KEY}, which Spark 3.0 introduced: on its own port, the history server keeps linking to NodeManagers. In pages that you open through the log gateway, links lead to the archived logs."
                ))
            }
        }
    }

    /// The changes that these settings need: the S3 prefix, then what goes, then what comes.
    pub(crate) fn changes(&self, receipt: &Receipt, settings: &Settings) -> Result<Vec<Change>> {
        let mut desired = self.context(receipt, settings).desired(&self.components)?;
        desired.retain(|desired| !self.leaves_prefix || !matches!(desired.resource, Resource::Prefix { .. }));
        let mut changes = plan::changes(&self.host, receipt, &desired)?;
        let released = plan::releases(&self.host, receipt, &desired, |resource| {
            // --set can name a key that belongs to another component.
            let is_set = matches!(resource, Resource::Key { key, .. } if settings.set.contains_key(key));
            // The history server has its store open until a restart, which a component alone does not make.
            let is_open = matches!(resource, Resource::Cache { .. }) && !self.is_whole();
            let component = Component::of(resource);
            let stays = component == Component::Gateway && self.keeps_gateway();
            self.components.contains(&component) && !is_set && !is_open && !stays
        })?;
        let prefixes = changes.iter().take_while(|c| matches!(c.resource, Resource::Prefix { .. })).count();
        changes.splice(prefixes..prefixes, released);
        Ok(changes)
    }

    /// Whether an installed gateway stays although this run could not set one up: only for want of EMR's answer.
    fn keeps_gateway(&self) -> bool {
        matches!(self.gateway, Some(Err(NoGateway::LogUriUnknown(_) | NoGateway::LogUriUnusable(_))))
    }

    /// The keys that this installation sets in spark-defaults.conf. Keys that somebody else chose are not
    /// among them.
    pub(crate) fn keys(&self) -> Result<BTreeMap<String, String>> {
        let desired = self.context(&self.receipt, &self.settings).desired(&self.components)?;
        let changes = plan::changes(&self.host, &self.receipt, &desired)?;
        let key = |change: Change| match change.resource {
            Resource::Key { key, .. } if !change.yields => Some((key, change.after.value()?)),
            _ => None,
        };
        Ok(changes.into_iter().filter_map(key).collect())
    }

    /// Whether this is `install` itself, which restarts the history server, and not a component alone.
    pub(crate) fn is_whole(&self) -> bool {
        self.components.len() == Component::ALL.len()
    }

    /// Whether this command writes to the prefix, or makes jobs write there.
    pub(crate) fn concerns_s3(&self) -> bool {
        self.components != [Component::Link] && self.components != [Component::Gateway]
    }

    /// What the restarted history server must show to count as ready.
    pub(crate) fn readiness(&self) -> Readiness {
        let linked = self.plan.changes.iter().any(|c| {
            matches!(&c.resource, Resource::Link { path } if path.starts_with(LINK_DIR)) && c.after != State::Absent
        });
        Readiness { directory: self.history_directory(), class_path: linked.then(|| format!("{LINK_DIR}/*")) }
    }

    fn restart_reason(&self) -> Option<String> {
        let server = self.node.server.as_ref().filter(|_| self.is_whole())?;
        let reason = if self.plan.changes.iter().any(Change::needs_restart) {
            "it reads its settings only when it starts"
        } else if self.receipt.owes_restart {
            "an earlier run changed its settings and did not restart it"
        } else if server.process.is_none() {
            "it does not run"
        } else if !server.is_alive() {
            "it does not answer"
        } else if server.barrier.is_some() {
            // It lives, and nobody can see more of it.
            return None;
        } else if !server.is_ready(&self.readiness()) {
            "it does not read that directory"
        } else {
            return None;
        };
        Some(reason.into())
    }

    /// Remembers settings that change nothing on the node. Without a receipt there is nothing to remember.
    pub(crate) fn remember_settings(&mut self) -> Result<(), Fault> {
        if self.receipt.is_empty() {
            return Ok(());
        }
        let before = self.receipt.clone();
        self.receipt.settings = self.settings.clone();
        self.receipt.leave_out(&self.components, &self.left_out);
        transaction::adopt(&mut self.receipt, &self.plan.changes);
        if self.receipt == before {
            return Ok(());
        }
        self.receipt.save(&self.host).map_err(Fault::of)
    }
}

/// Without a place for the event-log cache there is no index.
fn no_place_for_cache(why: String) -> Fault {
    Fault::preflight(format!("--index has no place for the event-log cache: {why}"))
        .unchanged()
        .hint("make room on a disk at /mnt, /mnt1, …; or install without the index: --index=false")
}

/// Refuses `--jar` files that this node does not have.
fn check_jars(host: &Host, settings: &Settings) -> Result<(), Fault> {
    settings.jars.iter().try_for_each(|path| {
        let real = host.target(path).map_err(Fault::of)?;
        jar::find(&real, &[]).map(drop).map_err(|e| {
            Fault::usage(format!("--jar {}: {e}", path.display())).hint("name a jar of this node by its absolute path")
        })
    })
}

/// Keeps the remembered gateway settings, unless this command sets up the gateway. Refuses changes of the history server's port that
/// only `install` can make.
fn keep_to_components(
    components: &[Component],
    host: &Host,
    receipt: &Receipt,
    settings: &mut Settings,
) -> Result<(), Fault> {
    if !components.contains(&Component::Gateway) {
        settings.gateway = receipt.settings.gateway.clone();
        settings.no_proxy = receipt.settings.no_proxy;
    }
    if components.len() < Component::ALL.len() && settings.take_port != receipt.settings.take_port {
        return Err(match settings.take_port {
            true => Fault::usage("--take-port is for install alone")
                .detail("the history server must leave its port, restart, and only then the log gateway can take it")
                .hint("sudo emr-shs install --index --take-port"),
            false => Fault::usage("the log gateway has the history server's port, and only install gives it back")
                .detail("the log gateway must leave the port before the history server restarts")
                .hint("sudo emr-shs install --take-port=false; or, without the index, too: sudo emr-shs install --index=false"),
        });
    }
    let has_gateway = receipt.entries.iter().any(|entry| entry.resource.is_unit(GATEWAY_UNIT));
    let (port, earlier) = (settings.set.get(HISTORY_PORT_KEY), receipt.settings.set.get(HISTORY_PORT_KEY));
    let concerns_gateway = has_gateway || components.contains(&Component::Gateway);
    if concerns_gateway && components.len() < Component::ALL.len() && port != earlier {
        return Err(Fault::usage(
            "the history server and the log gateway must change to the new port together, and only install changes both",
        )
        .hint(hint!("sudo emr-shs install --set {}={}", HISTORY_PORT_KEY, port.cloned().unwrap_or_default())));
    }
    if components == [Component::Gateway] {
        if !host.is_live() {
            return Err(Fault::usage(
                "the log gateway is a service, and a directory given with --root has no services",
            )
            .hint("run this on the node itself: sudo emr-shs proxy install"));
        }
        // The user asks for the gateway by name.
        settings.no_proxy = false;
    }
    Ok(())
}

/// Asks S3 and EMR while this machine is being read: each takes about as long as the other.
fn find_out(
    node: &mut Node,
    host: &Host,
    receipt: &Receipt,
    settings: &Settings,
    components: &[Component],
    s3: Option<(&mut S3, &EventLogs)>,
) -> Result<Findings> {
    let wants_gateway = host.is_live() && components.contains(&Component::Gateway) && !settings.no_proxy;
    let makes_jobs_log = host.is_live() && components.contains(&Component::Configure) && !settings.history_only;
    let asks_emr = (wants_gateway || makes_jobs_log) && settings.runtime_roles().is_none();
    // A gateway needs the log URI. Everything else that EMR says is worth less waiting.
    let needs_log_uri = wants_gateway && settings.gateway.log_uris.is_empty() && settings.cluster.is_none();
    let retry = if needs_log_uri { Retry::BusyOrSilent } else { Retry::Busy };
    let has_public_name = settings.public_name().is_some();
    let (cluster_id, region) = (node.identity.cluster_id.clone(), node.region(settings.region.as_deref()));
    std::thread::scope(|scope| {
        let bucket = scope.spawn(|| {
            let (s3, uri) = s3?;
            let bucket = s3.find_bucket(uri);
            let has_rolling = bucket.is_ok() && notes::has_rolling_event_logs(s3, uri);
            Some((bucket, has_rolling))
        });
        let described = scope.spawn(|| {
            let described = asks_emr.then(|| Description::fetch(cluster_id.as_deref(), region, retry)).transpose();
            let told = matches!(&described, Ok(Some(description)) if description.cluster.public_dns.is_some());
            let asks_for_name = wants_gateway && !has_public_name && !told;
            (described, if asks_for_name { identity::public_name() } else { None })
        });
        let program = scope.spawn(|| wants_gateway.then(|| Program::this(PROGRAM_DIR)).transpose());
        let scheme = observe(node, host, receipt, settings, components);
        let (described, public_name) = described.join().map_err(|_| anyhow!("the thread that asks EMR died"))?;
        signals::check()?;
        let (bucket, has_rolling) = bucket.join().map_err(|_| anyhow!("the thread that asks S3 died"))?.unzip();
        Ok(Findings {
            scheme: scheme?,
            bucket,
            has_rolling: has_rolling.unwrap_or_default(),
            described,
            public_name,
            program: program.join().map_err(|_| anyhow!("the thread that reads this program died"))??,
        })
    })
}

/// Observes the history server and, where links may be needed, searches jars for the classes of the event logs'
/// scheme.
fn observe(
    node: &mut Node,
    host: &Host,
    receipt: &Receipt,
    settings: &Settings,
    components: &[Component],
) -> Result<Option<Result<Scheme, Fault>>> {
    node.observe_server(host, &|path| receipt.created_link(path))?;
    if components == [Component::Gateway] {
        // Nothing restarts the server.
        return Ok(None);
    }
    if let Some(server) = &mut node.server {
        server.settle(&node.spark, ANSWER_TIMEOUT)?;
    }
    // A history server that reads the event-log cache needs no class for S3.
    let uri = settings.event_logs.as_ref().filter(|_| components.contains(&Component::Link) && !settings.index);
    Ok(uri.map(|uri| node.scheme(host, &uri.scheme, &settings.jars)))
}
