//! An installation that was thought through: everything read, everything checked, nothing written.

use crate::aws::TimeoutProfile;
use crate::aws::s3::{EventLogs, Probe};
use crate::change::component::Component;
use crate::change::plan::{self, Change, Plan};
use crate::change::receipt::Receipt;
use crate::change::resource::{Program, Resource, State};
use crate::cli::ComponentArgs;
use crate::desired::log_gateway::{self, Setup};
use crate::desired::{self, Context};
use crate::doctor::checks::s3::S3Observations;
use crate::doctor::{self, Facts};
use crate::error::Fault;
use crate::host::Host;
use crate::install::notes;
use crate::node::history_server::Readiness;
use crate::node::jars::Scheme;
use crate::node::{Node, describe_cluster};
use crate::paths::{LINK_DIR, LOG_LINK_KEY, PROGRAM_DIR};
use crate::settings::Settings;
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a server that runs may take to answer before it counts as one that does not.
const PATIENCE: Duration = Duration::from_secs(20);

/// An installation, or a piece of one, that can begin.
pub struct Installation {
    /// The machine.
    pub host: Host,
    /// What is on it.
    pub node: Node,
    /// What we did to it before.
    pub receipt: Receipt,
    /// What is asked for.
    pub settings: Settings,
    /// Where event logs go; the gateway alone needs not know.
    pub event_logs: Option<EventLogs>,
    /// What will change.
    pub plan: Plan,
    store: S3Observations,
    scheme: Option<Result<Scheme, Fault>>,
    /// The log gateway, or why there is none; `None` where none is asked for.
    pub gateway: Option<Result<Setup, String>>,
    components: Vec<Component>,
    force: bool,
}

/// Looks at the server and, where links may be needed, into the jars.
fn look(
    node: &mut Node,
    host: &Host,
    receipt: &Receipt,
    settings: &Settings,
    components: &[Component],
) -> Result<Option<Result<Scheme, Fault>>> {
    node.look(host, receipt)?;
    if components == [Component::Gateway] {
        // Nothing is restarted, so nobody need look into the server.
        return Ok(None);
    }
    if let Some(server) = &mut node.server {
        server.settle(&node.spark, PATIENCE)?;
    }
    let wanted = settings.event_logs.as_ref().filter(|_| components.contains(&Component::Link));
    Ok(wanted.map(|uri| node.scheme(host, &uri.scheme, &settings.jars)))
}

impl Installation {
    /// Reads and checks.
    pub fn prepare(command: &str, components: &[Component], mut host: Host, args: &ComponentArgs) -> Result<Self> {
        let receipt = Receipt::load(&host)?;
        let mut settings = Settings::merge(args, &receipt.settings)?;
        settings.check_jars(&host)?;
        let only_gateway = components == [Component::Gateway];
        if !components.contains(&Component::Gateway) {
            // What the gateway is told here would not reach it.
            settings.gateway = receipt.settings.gateway.clone();
            settings.no_proxy = receipt.settings.no_proxy;
        }
        if only_gateway {
            if !host.is_live() {
                return Err(Fault::usage("the log gateway is a service, and below another root there are none")
                    .hint("run it on the node itself: sudo emr-shs proxy install")
                    .into());
            }
            // Asked for by name.
            settings.no_proxy = false;
        }
        let event_logs =
            if only_gateway { settings.event_logs.clone() } else { Some(settings.event_logs(command)?.clone()) };
        let mut node = Node::read(&host)?;
        let files = Facts::of_files(&host, &node, &receipt, &settings, event_logs.as_ref());
        doctor::preflight(&Facts { force: args.force, ..files }, components)?;
        let connects = host.is_live() && !only_gateway;
        let mut s3 = connects.then(|| node.way_to_s3(&settings).open(TimeoutProfile::Usual)).transpose()?;
        let wants_gateway = host.is_live() && components.contains(&Component::Gateway) && !settings.no_proxy;
        let (cluster_id, region) = (node.identity.cluster_id.clone(), node.region(&settings));
        let ask_emr = wants_gateway && settings.gateway.log_uris.is_empty() && settings.cluster.is_none();
        // AWS takes as long to answer as this machine takes to be looked at.
        let (looked, bucket, described, program) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| match (&mut s3, &event_logs) {
                (Some(s3), Some(uri)) => Some(s3.find_bucket(uri)),
                _ => None,
            });
            let described = scope.spawn(|| ask_emr.then(|| describe_cluster(cluster_id.as_deref(), region)));
            let program = scope.spawn(|| wants_gateway.then(|| Program::this(PROGRAM_DIR)));
            let looked = look(&mut node, &host, &receipt, &settings, components);
            (looked, asked.join(), described.join(), program.join())
        });
        let scheme = looked?;
        let bucket = bucket.map_err(|_| anyhow!("the thread that asks S3 died"))?;
        let described = described.map_err(|_| anyhow!("the thread that asks EMR died"))?.transpose();
        if let Ok(Some(cluster)) = &described {
            settings.cluster = Some(cluster.clone());
        }
        let described = described.map(|_| settings.cluster.as_ref());
        let described = described.as_ref().map(|c| *c).map_err(String::as_str);
        let program = program.map_err(|_| anyhow!("the thread that reads this program died"))?.transpose()?;
        let gateway = program.map(|program| log_gateway::setup(&host, &node, &settings, described, program));
        host.s3 = s3;
        let plan = Plan { changes: Vec::new(), restart: None, found: Vec::new(), notes: Vec::new() };
        let components = components.to_vec();
        let mut this = Self {
            host,
            node,
            receipt,
            settings,
            event_logs,
            plan,
            store: S3Observations { bucket, complete: true, ..S3Observations::default() },
            scheme,
            gateway,
            components,
            force: args.force,
        };
        doctor::preflight(&this.facts(&this.store), &this.components)?;
        if let (Some(Err(why)), true) = (&this.gateway, only_gateway) {
            return Err(Fault::preflight(format!("no log gateway: {why}"))
                .unchanged()
                .hint("emr-shs proxy install --log-uri s3://my-bucket/elasticmapreduce/")
                .into());
        }
        this.plan.changes = this.changes(&this.receipt, &this.settings)?;
        if !args.force {
            plan::refuse_foreign(&this.receipt, &this.plan.changes)?;
        }
        this.plan.restart = this.restart_reason();
        this.plan.found = notes::mistakes(&this.host, &this.node, &this.receipt);
        if this.is_whole() {
            this.plan.found.extend(notes::server_is_down(&this.node));
        }
        this.plan.found.extend(this.no_store());
        this.plan.found.extend(this.no_gateway());
        this.plan.notes = notes::consequences(&this.host, &this.node, &this.settings, &this.plan.changes);
        Ok(this)
    }

    fn facts<'a>(&'a self, store: &'a S3Observations) -> Facts<'a> {
        Facts {
            scheme: self.scheme.as_ref(),
            store: Some(store),
            setup: self.gateway.as_ref().and_then(|setup| setup.as_ref().ok()),
            force: self.force,
            ..Facts::of_files(&self.host, &self.node, &self.receipt, &self.settings, self.event_logs.as_ref())
        }
    }

    /// Refuses a bucket that this node may not do with what is needed.
    pub fn allow(&self, probe: Probe) -> Result<(), Fault> {
        doctor::preflight(&self.facts(&S3Observations { probe, ..self.store.clone() }), &self.components)
    }

    fn context<'a>(&'a self, receipt: &'a Receipt, settings: &'a Settings) -> Context<'a> {
        Context {
            host: &self.host,
            node: &self.node,
            receipt,
            settings,
            event_logs: self.event_logs.as_ref(),
            bucket: self.store.bucket.as_ref().and_then(|bucket| bucket.as_ref().ok()),
            scheme: self.scheme.as_ref().and_then(|scheme| scheme.as_ref().ok()),
            gateway: self.gateway.as_ref().and_then(|setup| setup.as_ref().ok()),
            force: self.force,
        }
    }

    /// Why the history server gets no local store, if it gets none.
    fn no_store(&self) -> Option<String> {
        let store = desired::local_store::choose(&self.host, &self.node, &self.receipt, &self.settings);
        let why = store.err().filter(|_| self.is_whole())?;
        Some(format!("No local store for the history server: {why}."))
    }

    /// Why executor logs will not open, as far as it is the gateway's affair.
    fn no_gateway(&self) -> Option<String> {
        match self.gateway.as_ref()? {
            Err(why) => Some(format!(
                "No log gateway: {why}. Log links keep leading to NodeManagers. Once there is one: emr-shs proxy install --log-uri s3://…"
            )),
            Ok(_) => {
                let version = self.node.spark.version.as_ref()?;
                (!version.at_least(3, 0)).then(|| format!(
                    "Spark {version} has no {} (3.0 has it): its pages keep linking to NodeManagers. The gateway's own pages list the logs.",
                    LOG_LINK_KEY
                ))
            }
        }
    }

    /// What has to change for these settings: the S3 prefix, then what goes, then what comes.
    pub fn changes(&self, receipt: &Receipt, settings: &Settings) -> Result<Vec<Change>> {
        let wants = self.context(receipt, settings).desired(&self.components)?;
        let mut changes = plan::changes(&self.host, receipt, &wants)?;
        let released = plan::releases(&self.host, receipt, &wants, |r| {
            // What --set names is of another piece than the key's usual one.
            let named = matches!(r, Resource::Key { key, .. } if settings.set.contains_key(key));
            // A directory the server works in goes after a restart, which a piece alone does not make.
            self.components.contains(&Component::of(r))
                && !named
                && (self.is_whole() || !matches!(r, Resource::Cache { .. }))
        })?;
        let prefixes = changes.iter().take_while(|c| matches!(c.resource, Resource::Prefix { .. })).count();
        changes.splice(prefixes..prefixes, released);
        Ok(changes)
    }

    /// The keys that this installation has in spark-defaults.conf, or will have. What somebody else
    /// chose is not among them.
    pub fn keys(&self) -> Result<BTreeMap<String, String>> {
        let wants = self.context(&self.receipt, &self.settings).desired(&self.components)?;
        let changes = plan::changes(&self.host, &self.receipt, &wants)?;
        let key = |change: plan::Change| match change.resource {
            Resource::Key { key, .. } if !change.yields => Some((key, change.after.value()?)),
            _ => None,
        };
        Ok(changes.into_iter().filter_map(key).collect())
    }

    /// Whether this is `install`, which restarts the server, and not a piece of it.
    pub fn is_whole(&self) -> bool {
        self.components.len() == Component::ALL.len()
    }

    /// Whether this writes to the prefix, or makes others write there.
    pub fn concerns_s3(&self) -> bool {
        self.components != [Component::Link] && self.components != [Component::Gateway]
    }

    /// What the restarted server must be.
    pub fn readiness(&self) -> Readiness {
        let linked = self.plan.changes.iter().any(|c| {
            matches!(&c.resource, Resource::Link { path } if path.starts_with(LINK_DIR)) && c.after != State::Absent
        });
        Readiness {
            directory: self.event_logs.as_ref().map(ToString::to_string),
            class_path: linked.then(|| format!("{LINK_DIR}/*")),
        }
    }

    fn restart_reason(&self) -> Option<String> {
        let server = self.node.server.as_ref().filter(|_| self.is_whole())?;
        let reason = if self.plan.changes.iter().any(Change::needs_restart) {
            "it reads its settings only when it starts"
        } else if self.receipt.owes_restart {
            "an earlier run changed its settings and did not restart it"
        } else if server.process.is_none() {
            "it does not run"
        } else if server.answer.is_none() {
            "it does not answer"
        } else if !server.is_ready(&self.readiness()) {
            "it does not read that directory"
        } else {
            return None;
        };
        Some(reason.into())
    }

    /// Notes arguments that changed nothing on the node; only where there is a receipt already.
    pub fn remember_settings(&mut self) -> Result<(), Fault> {
        if self.receipt.is_empty() || self.receipt.settings == self.settings {
            return Ok(());
        }
        self.receipt.settings = self.settings.clone();
        self.receipt.save(&self.host).map_err(Fault::of)
    }
}
