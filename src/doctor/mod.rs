//! Every known cause of a failure, each as a check: one constant list, causes before their effects.
//!
//! `doctor` first gathers facts, each within a time limit, S3's and EMR's in the background (`gather`), and
//! then judges them. `install` and its components run the checks that could stop them, on the facts they have.
//!
//! To add a check: name it in [`check::CheckId`], write its function in `checks`, and add it to
//! [`CHECKS`].

mod causes;
pub(crate) mod check;
pub(crate) mod checks;
mod event_logs;
pub(crate) mod facts;
pub(crate) mod gather;

use crate::change::component::Component;
use crate::error::{Fault, Verdict};
use crate::shown::Hint;
use check::{CheckId, CheckReport, CheckResult, NotPassed};
use checks::{drift, listing, logs, node, s3, server};
use facts::{Facts, Mode};

/// One known cause of a failure.
pub(crate) struct Check {
    id: CheckId,
    /// What the check examines, and why that matters.
    why: &'static str,
    /// The components whose installation a failure stops before anything is changed.
    stops: &'static [Component],
    judge: fn(&Facts<'_>) -> CheckResult,
}

const ALL: &[Component] = Component::ALL;
/// The components that need Spark.
const NEEDS_SPARK: &[Component] = &[Component::Prefix, Component::Configure, Component::Link, Component::Gateway];
/// The components that change what the history server reads or how it starts.
const CHANGES_SERVER: &[Component] = &[Component::Prefix, Component::Configure, Component::Link];
/// The components that write event logs, or make jobs write them.
const WRITES_EVENT_LOGS: &[Component] = &[Component::Prefix, Component::Configure];

const fn check(
    id: CheckId,
    stops: &'static [Component],
    judge: fn(&Facts<'_>) -> CheckResult,
    why: &'static str,
) -> Check {
    Check { id, why, stops, judge }
}

#[rustfmt::skip]
pub(crate) const CHECKS: &[Check] = &[
    check(CheckId::Primary, ALL, node::primary, "Only the primary node runs the history server."),
    check(CheckId::Provisioning, &[], node::provisioning, "EMR installs Spark after bootstrap actions, so an installation by a bootstrap action waits for that."),
    check(CheckId::Release, NEEDS_SPARK, node::release, "The EMR release and Spark's version decide what works."),
    check(CheckId::Systemd, NEEDS_SPARK, node::systemd, "emr-shs restarts the history server through its systemd unit."),
    check(CheckId::Drift, &[], drift::drift, "Everything that was wanted must be there, and as emr-shs installed it; EMR rewrites spark-defaults.conf when it reconfigures a cluster."),
    check(CheckId::Defaults, CHANGES_SERVER, node::defaults, "Spark must be able to read spark-defaults.conf, and the running server must use its settings."),
    check(CheckId::ClassPath, &[Component::Link], node::class_path, "The server's class path must contain the file system class of the event logs, and one version of that class's AWS SDK."),
    check(CheckId::JobUploads, &[], node::job_uploads, "Every job uploads all jars in Spark's jars directory."),
    check(CheckId::Disk, &[], node::disk, "The local store and the server's log need disk space."),
    check(CheckId::Buffer, &[], node::buffer, "EMRFS needs a writable local directory as a buffer."),
    check(CheckId::Heap, &[], server::heap, "EMR's JVM options end the history server at once when its heap is full."),
    check(CheckId::Port, CHANGES_SERVER, server::port, "If another process uses the server's port, the server takes the next port."),
    check(CheckId::Credentials, &[], s3::credentials, "The history server uses the instance profile's credentials for S3."),
    check(CheckId::Clock, &[], s3::clock, "S3 refuses signatures if the node's clock is wrong by 15 minutes."),
    check(CheckId::Bucket, &[Component::Prefix, Component::Configure, Component::Link], s3::bucket, "The bucket must exist, and the server must ask for it in the bucket's region."),
    check(CheckId::Prefix, &[], s3::prefix, "An event log directory on S3 exists only if an object has its prefix. Without the directory, servers and jobs fail."),
    check(CheckId::List, WRITES_EVENT_LOGS, s3::list, "The history server lists the event logs: s3:ListBucket."),
    check(CheckId::Kms, WRITES_EVENT_LOGS, s3::kms, "Reading encrypted objects needs kms:Decrypt, and writing them needs kms:GenerateDataKey."),
    check(CheckId::Get, WRITES_EVENT_LOGS, s3::get, "The history server reads event logs: s3:GetObject."),
    check(CheckId::Put, WRITES_EVENT_LOGS, s3::put, "Jobs write event logs, and fail if they cannot: s3:PutObject."),
    check(CheckId::Delete, WRITES_EVENT_LOGS, s3::delete, "Spark renames finished event logs, which on S3 means to copy and to delete: s3:DeleteObject."),
    check(CheckId::Cleaner, &[Component::Configure], server::cleaner, "Spark's cleaner deletes the event logs of all clusters under the prefix."),
    check(CheckId::Service, &[], server::service, "The unit must be active, its process must run, and the server must answer on its port."),
    check(CheckId::ServerLog, &[Component::Configure, Component::Link], server::log, "If the history server fails, its log says why."),
    check(CheckId::Pages, CHANGES_SERVER, server::pages, "If the server's pages require a login, emr-shs cannot see what the server reads after a restart."),
    check(CheckId::Reads, &[], listing::reads, "A server that answers may still read nothing, so this compares its list with the event logs in S3."),
    check(CheckId::Cost, &[], listing::cost, "Each scan of the event log directory sends S3 requests, which cost money and time."),
    check(CheckId::LogUri, &[], logs::log_uri, "The log gateway serves executor logs from the archive to which EMR uploads them."),
    check(CheckId::Archive, &[], logs::archive, "EMR must upload container logs, and the node's role must be able to list and read them."),
    check(CheckId::LogPattern, &[], logs::pattern, "A log link can use only attributes that executors have in the event log; otherwise Spark keeps the link to the NodeManager."),
    check(CheckId::Gateway, &[Component::Gateway], logs::gateway, "The log gateway must run, answer, and have credentials."),
    check(CheckId::Index, &[], logs::index, "With --index, the log gateway lists the applications of every prefix, and the history server shows what somebody opens."),
    check(CheckId::RuntimeRoles, &[Component::Configure], logs::runtime_roles, "Jobs with roles of their own need S3 permissions of their own, and their logs need a gateway with a login."),
    check(CheckId::Primaries, &[], node::primaries, "A cluster with three primary nodes needs an installation on each of them."),
];

impl Check {
    /// `failed` are the checks that failed before this one.
    fn run(&self, facts: &Facts<'_>, failed: &[CheckId]) -> CheckReport {
        let line =
            |verdict, found| CheckReport { id: self.id, why: self.why, verdict, found, details: Vec::new(), fix: None };
        if let Some(why) = self.premature(facts) {
            return line(Verdict::Skip, why.into());
        }
        let fault = match (self.judge)(facts) {
            Ok(found) => return line(Verdict::Pass, found),
            Err(NotPassed::Skip(why)) => return line(Verdict::Skip, why),
            Err(NotPassed::CausedBy(causes, fault)) => match causes.iter().find(|cause| failed.contains(cause)) {
                Some(cause) => return line(Verdict::Skip, format!("{}: see {cause}", fault.message)),
                None => fault,
            },
            Err(NotPassed::Fail(fault)) => fault,
        };
        CheckReport { details: fault.details, fix: fault.hint, ..line(Verdict::Fail, fault.message) }
    }

    /// Why the check cannot judge yet: its subject is unreadable or not installed.
    fn premature(&self, facts: &Facts<'_>) -> Option<&'static str> {
        let Mode::Live(observations) = facts.mode else { return None };
        match self.id {
            CheckId::JobUploads | CheckId::Heap | CheckId::Cleaner | CheckId::Cost
                if observations.unreadable.is_some() =>
            {
                Some("not known: see defaults")
            }
            CheckId::Release | CheckId::Systemd | CheckId::Defaults | CheckId::ClassPath if observations.is_pending => {
                Some("EMR has not installed Spark yet: see provisioning")
            }
            _ => None,
        }
    }
}

/// Stops the installation of some components: the error is that of the first check that fails.
pub(crate) fn preflight(facts: &Facts<'_>, components: &[Component]) -> Result<(), Fault> {
    for check in CHECKS.iter().filter(|check| check.stops.iter().any(|component| components.contains(component))) {
        if let Err(NotPassed::Fail(mut fault) | NotPassed::CausedBy(_, mut fault)) = (check.judge)(facts) {
            // The refused command restarts the server itself. A restart alone would not make the changes that the user asked for.
            fault.hint = fault.hint.map(Hint::with_this_command_again);
            return Err(fault);
        }
    }
    Ok(())
}

/// Runs the wanted checks.
pub(crate) fn report(facts: &Facts<'_>, wanted: impl Fn(CheckId) -> bool) -> Vec<CheckReport> {
    let mut failed = Vec::new();
    let run = |check: &Check| {
        let line = check.run(facts, &failed);
        if line.verdict == Verdict::Fail {
            failed.push(check.id);
        }
        line
    };
    CHECKS.iter().filter(|check| wanted(check.id)).map(run).collect()
}
