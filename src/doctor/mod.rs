//! Every known cause of trouble, each a check: one constant list, causes before what they cause.
//!
//! `doctor` runs all of them over facts that are gathered first, at once and each within its time
//! ([`gather`]). What `install` and its components must not fail for is marked in the same list;
//! they run those with what they know themselves.

pub mod checks;
pub mod gather;

use crate::aws::uri::EventLogs;
use crate::change::component::Component;
use crate::change::receipt::Receipt;
use crate::desired::log_gateway::Setup;
use crate::error::Fault;
use crate::host::Host;
use crate::installed::drift as installed;
use crate::node::Node;
use crate::node::jars::Scheme;
use crate::settings::Settings;
use checks::s3::S3Observations;
use checks::{listing as reading, logs as archive, node, s3 as store, server};
use gather::Observations;
use serde::Serialize;

/// What is known. Where something is `None`, the checks that need it cannot tell.
pub struct Facts<'a> {
    /// The machine.
    pub host: &'a Host,
    /// What is on it.
    pub node: &'a Node,
    /// What we did to it.
    pub receipt: &'a Receipt,
    /// What is, or will be, installed.
    pub settings: &'a Settings,
    /// Where event logs are, or will be.
    pub event_logs: Option<&'a EventLogs>,
    /// What their scheme needs; before an installation without what that will add.
    pub scheme: Option<&'a Result<Scheme, Fault>>,
    /// What S3 answered.
    pub store: Option<&'a S3Observations>,
    /// The log gateway that will be set up, if that is the question.
    pub setup: Option<&'a Setup>,
    /// Go on where something is not ours.
    pub force: bool,
    /// What only an gather looks for; none before an installation.
    pub seen: Option<&'a Observations>,
}

impl<'a> Facts<'a> {
    /// What files tell, before anybody is asked.
    pub fn of_files(
        host: &'a Host,
        node: &'a Node,
        receipt: &'a Receipt,
        settings: &'a Settings,
        event_logs: Option<&'a EventLogs>,
    ) -> Self {
        let (scheme, store, setup, seen) = (None, None, None, None);
        Self { host, node, receipt, settings, event_logs, scheme, store, setup, force: false, seen }
    }

    /// The command that writes what is missing.
    fn install_again(&self) -> String {
        match self.event_logs.filter(|_| self.receipt.settings.event_logs.is_none()) {
            Some(uri) => format!("sudo emr-shs install --event-logs {uri}"),
            None => "sudo emr-shs install".into(),
        }
    }
}

/// Why a check ends early: what it found is a failure, or it cannot tell.
pub enum Stop {
    /// A failure.
    Fail(Fault),
    /// A failure that is explained by that of one of these checks: then it is theirs to tell.
    Behind(Fault, &'static [&'static str]),
    /// It cannot tell.
    Skip(String),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fail(fault)
    }
}

/// What a check's function gives: what is well, or why it ends early.
pub type Found = Result<String, Stop>;

/// Ends a check that cannot tell.
pub fn skip<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skip(why.into()))
}

/// One known cause of trouble.
pub struct Check {
    /// Its name in the list.
    pub name: &'static str,
    /// What is looked at, and why it matters.
    pub why: &'static str,
    /// The components of an installation that it may stop before anything is changed.
    pub stops: &'static [Component],
    look: fn(&Facts<'_>) -> Found,
}

const ALL: &[Component] = Component::ALL;
/// What needs Spark to be there.
const INSTALLS: &[Component] = &[Component::Prefix, Component::Configure, Component::Link, Component::Gateway];
const OF_SERVER: &[Component] = &[Component::Prefix, Component::Configure, Component::Link];
const WRITES: &[Component] = &[Component::Prefix, Component::Configure];

/// What is judged by the configuration alone, and cannot be where nobody can read it.
const OF_CONFIGURATION: &[&str] = &["job uploads", "heap", "cleaner", "cost"];

/// What is judged by what EMR installs, and cannot be before it has.
const OF_SPARK: &[&str] = &["release", "systemd", "defaults", "class path"];

const fn check(
    name: &'static str,
    stops: &'static [Component],
    look: fn(&Facts<'_>) -> Found,
    why: &'static str,
) -> Check {
    Check { name, why, stops, look }
}

/// All checks.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    check("primary", ALL, node::primary, "Only the primary node runs the history server."),
    check("provisioning", &[], node::provisioning, "EMR installs Spark after bootstrap actions; an installation of theirs waits for that."),
    check("release", INSTALLS, node::release, "What works depends on the EMR release and on Spark's version."),
    check("systemd", INSTALLS, node::systemd, "The history server is restarted through its systemd unit."),
    check("drift", &[], installed::drift, "What an installation wrote is still there; a reconfiguration of the cluster rewrites spark-defaults.conf."),
    check("defaults", OF_SERVER, node::defaults, "Spark can read spark-defaults.conf, and the running server uses what it says."),
    check("class path", &[Component::Link], node::class_path, "The event logs' scheme has a class on the server's class path, and that class its AWS SDK, in one version."),
    check("job uploads", &[], node::job_uploads, "What lies in Spark's jars directory is uploaded by every job."),
    check("disk", &[], node::disk, "The local store and the server's log need room."),
    check("buffer", &[], node::buffer, "EMRFS works only with a local directory it may write to."),
    check("heap", &[], server::heap, "A history server without memory ends at once, by EMR's own JVM options."),
    check("port", &[], server::port, "On a port that is taken the server moves to the next one, where nobody looks."),
    check("credentials", &[], store::credentials, "S3 is asked with the instance profile's credentials."),
    check("clock", &[], store::clock, "S3 refuses what is signed by a clock that is 15 minutes off."),
    check("bucket", &[Component::Prefix, Component::Configure, Component::Link], store::bucket, "The bucket is there, and the server asks for it in its region."),
    check("prefix", &[], store::prefix, "Without any object under it, the event log directory does not exist, and servers and jobs fail."),
    check("list", WRITES, store::list, "The history server lists the event logs: s3:ListBucket."),
    check("kms", WRITES, store::kms, "Encrypted objects need kms:Decrypt to read and kms:GenerateDataKey to write."),
    check("get", WRITES, store::get, "The history server reads event logs: s3:GetObject."),
    check("put", WRITES, store::put, "Jobs write event logs, or fail: s3:PutObject."),
    check("delete", WRITES, store::delete, "Spark renames finished event logs, which S3 does by copy and delete: s3:DeleteObject."),
    check("cleaner", &[Component::Configure], server::cleaner, "Spark's cleaner deletes everybody's event logs under the prefix."),
    check("service", &[], server::service, "The unit is active, one process serves it, and it answers on its port."),
    check("server log", &[], server::log, "What is known to go wrong leaves a line in the server's log."),
    check("pages", OF_SERVER, server::pages, "A server that wants a login cannot be looked into after a restart."),
    check("reads", &[], reading::reads, "A server that answers may read nothing: all event logs in S3 are listed."),
    check("cost", &[], reading::cost, "Each scan of the directory is S3 requests, which cost money and time."),
    check("log URI", &[], archive::log_uri, "Executor logs are served from where EMR archives them."),
    check("archive", &[], archive::logs, "EMR uploads container logs, and the node's role may list and read them."),
    check("log pattern", &[], archive::pattern, "A log link may name only what executors have in the event log; else Spark keeps the link to the NodeManager."),
    check("gateway", &[Component::Gateway], archive::gateway, "The log gateway runs, answers, and has credentials."),
    check("runtime roles", &[], archive::runtime_roles, "Jobs under roles of their own need S3 permissions of their own, and their logs a gateway with a login."),
    check("primaries", &[], node::primaries, "On a cluster with three primary nodes each one needs its installation."),
];

impl Check {
    /// `failed` are the checks before it that failed.
    fn run(&self, facts: &Facts<'_>, failed: &[&str]) -> CheckReport {
        let line = |result, found| CheckReport {
            name: self.name,
            why: self.why,
            result,
            found,
            details: Vec::new(),
            fix: None,
        };
        if OF_CONFIGURATION.contains(&self.name) && facts.seen.is_some_and(|seen| seen.unreadable.is_some()) {
            return line("skip", "not known: see defaults".into());
        }
        if OF_SPARK.contains(&self.name) && facts.seen.is_some_and(|seen| seen.is_pending) {
            return line("skip", "Spark is not there yet: see provisioning".into());
        }
        let fault = match (self.look)(facts) {
            Ok(found) => return line("pass", found),
            Err(Stop::Skip(why)) => return line("skip", why),
            Err(Stop::Behind(fault, causes)) => match causes.iter().find(|cause| failed.contains(cause)) {
                Some(cause) => return line("skip", format!("{}: see {cause}", fault.message)),
                None => fault,
            },
            Err(Stop::Fail(fault)) => fault,
        };
        CheckReport { details: fault.details, fix: fault.hint, ..line("fail", fault.message) }
    }
}

/// Stops a piece of an installation for the first check that fails, as far as the facts tell.
pub fn preflight(facts: &Facts<'_>, components: &[Component]) -> Result<(), Fault> {
    for check in CHECKS.iter().filter(|check| check.stops.iter().any(|piece| components.contains(piece))) {
        if let Err(Stop::Fail(fault) | Stop::Behind(fault, _)) = (check.look)(facts) {
            return Err(fault);
        }
    }
    Ok(())
}

/// One line of a report.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The check's name.
    pub name: &'static str,
    /// What it looks at, and why.
    pub why: &'static str,
    /// `pass`, `fail` or `skip`.
    pub result: &'static str,
    /// What was found.
    pub found: String,
    /// The facts behind a failure.
    pub details: Vec<String>,
    /// What mends a failure.
    pub fix: Option<String>,
}

/// Runs the checks whose names are asked for.
pub fn report(facts: &Facts<'_>, asked: impl Fn(&str) -> bool) -> Vec<CheckReport> {
    let mut failed = Vec::new();
    let line = |check: &Check| {
        let line = check.run(facts, &failed);
        if line.result == "fail" {
            failed.push(check.name);
        }
        line
    };
    CHECKS.iter().filter(|check| asked(check.name)).map(line).collect()
}
