//! What checks judge by: the facts about the node, and the observations of a running one.

use super::check::{NotPassed, skip};
use super::event_logs::EventLogAnswers;
use crate::aws::emr::{Cluster, EmrError};
use crate::aws::s3::{Bucket, Listing, Probe, Refusal};
use crate::aws::uri::{EventLogs, LogUri};
use crate::change::receipt::Receipt;
use crate::desired::log_gateway::GatewaySetup;
use crate::error::Fault;
use crate::host::Host;
use crate::installed::deferred_install::DeferredInstall;
use crate::installed::drift::ResourceStatus;
use crate::installed::log_gateway::LogGateway;
use crate::installed::shortfall::Present;
use crate::node::Node;
use crate::node::event_logs::Attempt;
use crate::node::hadoop_client::Opinion;
use crate::node::history_server::{HistoryServer, NoLog};
use crate::node::jars::Scheme;
use crate::node::log_diagnosis::{KnownError, UnreadableEventLogs};
use crate::node::process::PortOwner;
use crate::node::start_files::{Mention, Place, mentioned};
use crate::paths::HISTORY_SERVER_UNIT;
use crate::settings::Settings;
use crate::shown::{Hint, hint};
use crate::values::SparkValue;
use std::time::Duration;

/// What the checks know. A check skips itself where it needs a fact that is `None`.
pub(crate) struct Facts<'a> {
    pub host: &'a Host,
    pub node: &'a Node,
    pub receipt: &'a Receipt,
    /// The settings of the installation, or of the one that is about to begin.
    pub settings: &'a Settings,
    pub event_logs: Option<&'a EventLogs>,
    /// The jars that the scheme of the event logs needs.
    pub scheme: Option<&'a Result<Scheme, Fault>>,
    pub s3: Option<&'a S3Observations>,
    pub mode: Mode<'a>,
}

/// What the checks are for.
pub(crate) enum Mode<'a> {
    /// They stop an installation before it changes anything.
    Preflight {
        /// `--force`
        force: bool,
        /// The log gateway that will be installed.
        gateway: Option<&'a GatewaySetup>,
    },
    /// They examine a node as it is.
    Live(&'a Observations),
}

/// What `doctor` observes on a running node, beside what an installation reads too.
pub(crate) struct Observations {
    /// Why a configuration file could not be read.
    pub unreadable: Option<Fault>,
    /// Whether EMR has yet to install the history server.
    pub is_pending: bool,
    pub deferred_install: Option<DeferredInstall>,
    /// `None` if EMR did not answer in time.
    pub emr: Option<Result<EmrObservations, EmrError>>,
    /// `None` if S3 did not answer in time.
    pub container_logs: Option<Result<ContainerLogs, Refusal>>,
    pub server: ServerObservations,
    /// Every resource of the receipt, compared with the node.
    pub resources: Vec<ResourceStatus>,
    /// The log gateway, or why it could not be observed.
    pub gateway: Result<Option<LogGateway>, String>,
}

/// What EMR says of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct EmrObservations {
    pub cluster: Cluster,
    /// The log URI as EMR spells it.
    pub spelled_log_uri: Option<String>,
    /// Whether the cluster uploads no container logs.
    pub uploads_no_application_logs: bool,
    /// Whether jobs can have roles of their own, or why that is not known.
    pub runtime_roles: Result<bool, EmrError>,
}

/// The archive of the cluster's container logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerLogs {
    None,
    Readable,
}

/// What the history server answers, and what its log says.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerObservations {
    /// The server's process a while after the first observation.
    pub pid_later: Option<u32>,
    /// The process that listens on the server's port.
    pub listener: Option<PortOwner>,
    /// The port on which the server answers instead of its own.
    pub moved_to: Option<u16>,
    pub listed: Option<Vec<Attempt>>,
    /// Why the server's log could not be read.
    pub no_log: Option<NoLog>,
    pub known_errors: Vec<KnownError>,
    /// The last lines of the log that mention errors.
    pub last_errors: Vec<String>,
    pub unreadable: UnreadableEventLogs,
    /// Whether the log is longer than what doctor reads of it.
    pub log_is_cut: bool,
}

/// What S3 answered, as far as it was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct S3Observations {
    /// How long the credentials stay valid, if they expire; or why there are none.
    pub credentials: Option<Result<Option<Duration>, String>>,
    /// The role of the instance profile.
    pub role: Option<String>,
    pub bucket: Option<Result<Bucket, Refusal>>,
    /// By how many seconds this node's clock is ahead of S3's.
    pub clock_ahead: Option<i64>,
    /// The objects directly below the prefix.
    pub listing: Option<Result<Listing, Refusal>>,
    pub event_logs: EventLogAnswers,
    /// The answer to reading the first byte of the newest event log.
    pub sample: Option<Result<(), Refusal>>,
    /// The answers to writing, listing, reading and deleting an object.
    pub probe: Probe,
    /// What Hadoop's own client may do. It is asked only where S3 refuses emr-shs, and where Hadoop has credentials or
    /// settings of its own.
    pub hadoop: Option<Opinion>,
    /// Whether only Hadoop's own client can tell what it may do: what S3 allows emr-shs does not show it.
    pub only_hadoop_tells: bool,
    /// Whether all requests have been answered.
    pub complete: bool,
}

impl S3Observations {
    /// Whether S3 refused anything, or could not be asked.
    pub(crate) fn is_refused(&self) -> bool {
        let Probe { put, list, get, delete } = &self.probe;
        matches!(self.credentials, Some(Err(_)))
            || matches!(self.bucket, Some(Err(_)))
            || matches!(self.listing, Some(Err(_)))
            || [put, list, get, delete, &self.sample].into_iter().any(|answer| matches!(answer, Some(Err(_))))
    }
}

impl<'a> Facts<'a> {
    /// The facts of an installation that is about to begin, from the node's files alone.
    pub(crate) fn of_files(
        host: &'a Host,
        node: &'a Node,
        receipt: &'a Receipt,
        settings: &'a Settings,
        event_logs: Option<&'a EventLogs>,
    ) -> Self {
        let mode = Mode::Preflight { force: false, gateway: None };
        Self { host, node, receipt, settings, event_logs, scheme: None, s3: None, mode }
    }

    pub(crate) fn is_preflight(&self) -> bool {
        matches!(self.mode, Mode::Preflight { .. })
    }

    pub(crate) fn force(&self) -> bool {
        matches!(self.mode, Mode::Preflight { force: true, .. })
    }

    /// The observations of a live node. In a preflight, a check that needs them skips itself.
    pub(crate) fn observations(&self) -> Result<&'a Observations, NotPassed> {
        match self.mode {
            Mode::Live(observations) => Ok(observations),
            Mode::Preflight { .. } => skip("only doctor observes this"),
        }
    }

    /// What of an installation is on a live node.
    pub(crate) fn present(&self, observations: &'a Observations) -> Present<'a> {
        Present {
            resources: &observations.resources,
            gateway: observations.gateway.as_ref().ok().and_then(Option::as_ref),
            deferred_install: observations.deferred_install.as_ref(),
            server: self.node.server.as_ref(),
        }
    }

    /// The history server, where there are services.
    pub(crate) fn server(&self) -> Result<&'a HistoryServer, NotPassed> {
        match &self.node.server {
            Some(server) if server.unit.exists => Ok(server),
            Some(_) => skip(format!("this node has no {HISTORY_SERVER_UNIT}")),
            None => skip("a directory given with --root has no services"),
        }
    }

    /// The errors in the history server's log, in the order in which they first appear. A preflight
    /// reads no log, so it knows none.
    pub(crate) fn known_errors(&self) -> &'a [KnownError] {
        match self.mode {
            Mode::Live(observations) => &observations.server.known_errors,
            Mode::Preflight { .. } => &[],
        }
    }

    /// The objects below the prefix, if S3 listed them.
    pub(crate) fn listing(&self) -> Option<&'a Listing> {
        self.s3?.listing.as_ref()?.as_ref().ok()
    }

    /// The value of a key for the history server, now or after the installation. A system property
    /// overrides spark-defaults.conf.
    pub(crate) fn effective(&self, key: &str) -> Option<SparkValue> {
        let defaults = &self.node.spark.defaults;
        let set = || self.settings.set.get(key).filter(|_| self.is_preflight()).map(|text| defaults.value(text));
        self.system_property(key).or_else(set).or_else(|| defaults.get(key).cloned())
    }

    /// A system property of the server's command line: before an installation after the server's next start, otherwise
    /// now, or after its next start if it does not run.
    pub(crate) fn system_property(&self, key: &str) -> Option<SparkValue> {
        let process = self.node.server.as_ref().and_then(|server| server.process.as_ref());
        let (running, written) = (process.and_then(|process| process.property(key)), self.node.spark.option(key));
        let property = match process {
            // The start files have not changed since the process started, so the next server gets the same options. emr-shs need not
            // understand the files.
            Some(process) if self.node.spark.start_files.were_read_by(process.up()) => running,
            Some(_) if !self.is_preflight() => running,
            // What no file mentions any more, the next server does not get.
            Some(_) => written.or_else(|| running.filter(|_| self.feared_option(key, |_| true).is_some())),
            // The server is not observed yet. The text of a file alone does not show whether a line takes effect.
            None if self.is_preflight() && self.host.is_live() && self.node.server.is_none() => None,
            None => written,
        };
        property.map(|text| self.node.spark.defaults.value(text))
    }

    /// The first place from which the next start can take a value of a system property that is among the feared ones: what
    /// shell scripts do with an option that they mention, only a shell can tell. `None` while a server runs that nobody is
    /// about to restart.
    pub(crate) fn feared_option(&self, key: &str, is_feared: impl Fn(&SparkValue) -> bool) -> Option<Mention> {
        let server = self.node.server.as_ref();
        if !self.is_preflight() && server.is_some_and(|server| server.process.is_some()) {
            return None;
        }
        let of_unit = server.into_iter().flat_map(|server| &server.unit.environment).flat_map(|(name, value)| {
            let mention = |value| Mention { place: Place::Variable(name.clone()), value };
            mentioned(value, key).map(mention).collect::<Vec<_>>()
        });
        let defaults = &self.node.spark.defaults;
        self.node
            .spark
            .start_files
            .mentions(key)
            .into_iter()
            .chain(of_unit)
            .find(|mention| mention.value.as_ref().is_none_or(|value| is_feared(&defaults.value(value))))
    }

    /// The setting by which the history server asks who comes, or hides applications from some; `None` if there is none.
    pub(crate) fn hides_applications(&self) -> Option<&'static str> {
        const FILTERS: &str = "spark.ui.filters";
        const ACLS: &str = "spark.history.ui.acls.enable";
        let is_on = |value: &SparkValue| value.boolean() != Some(false);
        let has_words = |value: &SparkValue| !value.text().trim().is_empty();
        let has = |key: &str, is_feared: fn(&SparkValue) -> bool| {
            self.effective(key).is_some_and(|value| is_feared(&value)) || self.feared_option(key, is_feared).is_some()
        };
        [(FILTERS, has_words as fn(&SparkValue) -> bool), (ACLS, is_on)]
            .into_iter()
            .find_map(|(key, is_feared)| has(key, is_feared).then_some(key))
    }

    /// The release label, from the node's files or from EMR.
    pub(crate) fn release(&self) -> Option<String> {
        let described = || self.observations().ok()?.emr.as_ref()?.as_ref().ok()?.cluster.release.clone();
        self.node.identity.release.clone().or_else(described)
    }

    /// The log URI, as far as it is known.
    pub(crate) fn log_uri(&self) -> Option<LogUri> {
        log_uri(self.settings, self.observations().ok().and_then(|observations| observations.emr.as_ref()))
    }

    /// The command that installs again what the checks found missing.
    pub(crate) fn install_again(&self) -> Hint {
        match self.event_logs.filter(|_| self.receipt.settings.event_logs.is_none()) {
            Some(uri) => hint!("sudo emr-shs install --event-logs {}", uri.to_string()),
            None => "sudo emr-shs install".into(),
        }
    }
}

/// The URI to which EMR archives this cluster's logs: from the settings, else from EMR's present answer,
/// else from the answer that the receipt remembers.
pub(crate) fn log_uri(settings: &Settings, emr: Option<&Result<EmrObservations, EmrError>>) -> Option<LogUri> {
    let described = emr.and_then(|emr| emr.as_ref().ok()).map(|emr| &emr.cluster);
    let cluster = described.or(settings.cluster.as_ref());
    settings.gateway.log_uris.first().cloned().or_else(|| cluster?.log_uri.as_ref()?.parse().ok())
}
