//! What the user wanted, and what is not there or does not work: the one comparison behind the exit code of `install`,
//! `plan --check`, `status`, `doctor` and `verify`.

use super::deferred_install::DeferredInstall;
use super::drift::{self, Condition, ResourceStatus};
use super::log_gateway::{LogGateway, Trouble};
use crate::change::component::Component;
use crate::change::receipt::{LeftOut, Part, Receipt};
use crate::change::resource::Resource;
use crate::host::Host;
use crate::node::history_server::{HistoryServer, same_directory};
use crate::paths::{DEFERRED_INSTALL_UNIT, GATEWAY_UNIT, LOG_DIRECTORY_KEY, LOG_LINK_KEY};
use crate::shown::{Hint, hint};
use anyhow::{Result, anyhow};
use serde::Serialize;

/// Something that the user wanted, and that is not there or does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shortfall {
    pub name: String,
    pub found: String,
    /// What to type.
    pub hint: Hint,
    #[serde(skip)]
    pub subject: Subject,
}

/// What a [`Shortfall`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A part that the last run could not make.
    Part(Part),
    /// A resource that is not as emr-shs wrote it.
    Resource(Resource),
    /// A key whose value in spark-defaults.conf has no effect.
    Overridden,
    /// The log gateway is there, and opens no logs.
    Gateway,
    /// The log gateway does not find the history server.
    Elsewhere,
    DeferredInstall,
    /// An `uninstall` that has not finished.
    Uninstall,
}

/// What is on the node.
pub(crate) struct Present<'a> {
    pub resources: &'a [ResourceStatus],
    pub gateway: Option<&'a LogGateway>,
    pub deferred_install: Option<&'a DeferredInstall>,
    pub server: Option<&'a HistoryServer>,
}

/// Compares what the receipt says that the user wants with what is on the node.
pub(crate) fn shortfalls(receipt: &Receipt, present: &Present<'_>) -> Vec<Shortfall> {
    if let Some(failure) = present.deferred_install.and_then(|deferred| deferred.failure.as_ref()) {
        return vec![Shortfall {
            name: DEFERRED_INSTALL_UNIT.into(),
            found: format!("the installation that waited for EMR failed: {}", failure.message),
            hint: failure.hint.clone(),
            subject: Subject::DeferredInstall,
        }];
    }
    let uninstall = Shortfall::of_uninstall(receipt);
    let parts = uninstall.into_iter().chain(receipt.left_out.iter().map(Shortfall::of_part));
    let gateway = present.gateway.and_then(Shortfall::of_gateway);
    let is_told = |status: &ResourceStatus| status.is_told_by(present.gateway);
    let is_removed_now =
        |r: &ResourceStatus| present.deferred_install.is_some_and(|deferred| deferred.removes(&r.resource));
    let drifted =
        present.resources.iter().filter(|r| r.condition != Condition::Ours && !is_told(r) && !is_removed_now(r));
    let drifted = drifted.map(Shortfall::of_resource);
    let overridden = present.server.map(|server| overridden(receipt, server)).unwrap_or_default();
    let elsewhere = present.gateway.zip(present.server).and_then(|(gateway, server)| elsewhere(gateway, server));
    parts.chain(drifted).chain(overridden).chain(elsewhere).chain(gateway.clone()).collect()
}

/// Observes the node and compares. `gateway` is the log gateway if it has just been observed.
pub(crate) fn observe(
    host: &Host,
    receipt: &Receipt,
    server: Option<&HistoryServer>,
    gateway: Option<LogGateway>,
) -> Result<Vec<Shortfall>> {
    if !host.is_live() {
        // Below another root there are files and no services.
        let resources = drift::compare(host, receipt);
        let present = Present { resources: &resources, gateway: None, deferred_install: None, server: None };
        return Ok(shortfalls(receipt, &present));
    }
    let (resources, gateway) = std::thread::scope(|scope| {
        let gateway = scope.spawn(|| if gateway.is_some() { Ok(gateway) } else { LogGateway::observe(receipt) });
        (drift::compare(host, receipt), gateway.join())
    });
    let gateway = gateway.map_err(|_| anyhow!("the thread that asks the log gateway died"))??;
    let deferred_install = DeferredInstall::observe(host, receipt)?;
    if deferred_install.is_none() && DeferredInstall::is_wanted(receipt) {
        // The deferred installation has ended since the receipt was read. The receipt of now does not name it any more.
        return observe(host, &Receipt::load(host)?, server, None);
    }
    let present = Present {
        resources: &resources,
        gateway: gateway.as_ref(),
        deferred_install: deferred_install.as_ref(),
        server,
    };
    Ok(shortfalls(receipt, &present))
}

/// The keys whose value a system property of the running history server replaces. Only keys that the user asked for,
/// and the places of logs, count: of a tuning key anybody's value is as good.
fn overridden(receipt: &Receipt, server: &HistoryServer) -> Vec<Shortfall> {
    let Some(process) = &server.process else { return Vec::new() };
    let asked_for =
        |key: &str| [LOG_DIRECTORY_KEY, LOG_LINK_KEY].contains(&key) || receipt.settings.set.contains_key(key);
    let keys = receipt.entries.iter().filter_map(|entry| match &entry.resource {
        Resource::Key { key, .. } if asked_for(key) => Some((key.as_str(), entry.ours.last()?.value()?)),
        _ => None,
    });
    keys.filter_map(|(key, wanted)| {
        let found = process.property(key).filter(|found| !same_directory(found, &wanted))?;
        Some(Shortfall {
            name: key.into(),
            found: format!("the history server was started with -D{key}={found}, which replaces {wanted}"),
            hint: hint!("remove -D{} from SPARK_HISTORY_OPTS, then: sudo emr-shs restart", key),
            subject: Subject::Overridden,
        })
    })
    .collect()
}

/// A history server on another port than that on which the log gateway looks for it. It can get its port from a line of its start
/// files that emr-shs does not understand.
fn elsewhere(gateway: &LogGateway, server: &HistoryServer) -> Option<Shortfall> {
    let looks = gateway.history_server_port?;
    let is_seen = server.is_alive() && server.process.as_ref().is_some_and(|process| !process.listens.is_empty());
    (is_seen && !server.listens_on(looks)).then(|| Shortfall {
        name: "history server".into(),
        found: format!("the log gateway looks for it on port {looks}, and it answers on port {}", server.port),
        hint: "sudo emr-shs install".into(),
        subject: Subject::Elsewhere,
    })
}

impl Shortfall {
    /// What an `uninstall` has left that could not finish.
    pub(crate) fn of_uninstall(receipt: &Receipt) -> Option<Self> {
        let left = receipt.entries.len() + receipt.unknown.len();
        (receipt.uninstalling && left > 0).then(|| Self {
            name: "uninstall".into(),
            found: format!("it could not finish; {left} of the things that emr-shs made are left"),
            hint: "sudo emr-shs uninstall; or, to install again: sudo emr-shs install".into(),
            subject: Subject::Uninstall,
        })
    }

    pub(crate) fn of_part(left_out: &LeftOut) -> Self {
        Self {
            name: left_out.part.name().into(),
            found: left_out.why.clone(),
            hint: Hint::printed_before(&left_out.hint),
            subject: Subject::Part(left_out.part),
        }
    }

    fn of_resource(status: &ResourceStatus) -> Self {
        Self {
            name: status.name.clone(),
            found: status.differs.clone(),
            hint: status.hint(),
            subject: Subject::Resource(status.resource.clone()),
        }
    }

    fn of_gateway(gateway: &LogGateway) -> Option<Self> {
        let port = gateway.port;
        let active = &gateway.unit.active;
        let (found, hint) = match gateway.trouble()? {
            Trouble::Silent => (
                match gateway.socket_that_fails() {
                    None => format!("its unit is {active}, and nothing answers on port {port}"),
                    Some(socket) => {
                        format!("its unit is {active}, its socket is {socket}, and nothing answers on port {port}")
                    }
                },
                hint!(
                    "sudo systemctl restart {}; if it stops again: sudo journalctl -u {} -n 20",
                    GATEWAY_UNIT,
                    GATEWAY_UNIT
                ),
            ),
            Trouble::NotReady(says) => (
                format!("it answers on port {port}, but opens no logs: {says}"),
                hint!("sudo journalctl -u {} -n 20; to see why: sudo emr-shs doctor", GATEWAY_UNIT),
            ),
            Trouble::NotTheUnit => (
                format!("port {port} answers, but the unit {GATEWAY_UNIT} is {active}"),
                hint!(
                    "find the process: sudo ss -ltnp | grep :{}; end it, then: sudo systemctl restart {}",
                    port,
                    GATEWAY_UNIT
                ),
            ),
            Trouble::Closed(why) => (why, closed_hint()),
            Trouble::LogUris(troubles) => {
                let told: Vec<String> =
                    troubles.iter().map(|trouble| format!("{}: {}", trouble.uri, trouble.why)).collect();
                (format!("it does not open all logs below {}", told.join("; below ")), log_uris_hint())
            }
            Trouble::Sources(troubles) => {
                let told: Vec<String> =
                    troubles.iter().map(|trouble| format!("{}: {}", trouble.uri, trouble.why)).collect();
                (format!("it does not list the applications below {}", told.join("; below ")), sources_hint())
            }
        };
        Some(Self { name: Part::LogGateway.name().into(), found, hint, subject: Subject::Gateway })
    }

    /// The component that has to be installed again; `None` if no component's installation helps.
    pub(crate) fn component(&self) -> Option<Component> {
        match &self.subject {
            Subject::Part(part) => part.component(),
            Subject::Resource(resource) => Some(Component::of(resource)),
            Subject::Overridden => Some(Component::Configure),
            Subject::Gateway | Subject::Elsewhere => Some(Component::Gateway),
            Subject::DeferredInstall => Some(Component::DeferredInstall),
            Subject::Uninstall => None,
        }
    }
}

/// What to type where the log gateway cannot list event logs.
pub(crate) fn sources_hint() -> Hint {
    "allow it to the instance profile: emr-shs render iam-policy --for history-server; a prefix that is not needed any more leaves the list when sudo emr-shs install --event-logs names the others".into()
}

/// What to type when the gateway does not open all logs below one of its log URIs.
pub(crate) fn log_uris_hint() -> Hint {
    "allow s3:ListBucket and s3:GetObject below it to the cluster's instance profile: emr-shs render iam-policy; or name only the log URIs that there are: sudo emr-shs proxy install --log-uri s3://BUCKET/PREFIX/"
        .into()
}

/// What to type when browsers do not reach the gateway.
pub(crate) fn closed_hint() -> Hint {
    "start the log gateway if it does not run: sudo systemctl restart emr-shs-gateway.service; if it runs, name what browsers use: for each further name, sudo emr-shs proxy install --host-name NAME; for the address with which log links begin, sudo emr-shs proxy install --public-url http://NAME:PORT, then: sudo emr-shs restart"
        .into()
}
