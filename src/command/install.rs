//! `install`, its components `prefix`, `configure`, `link` and `proxy install`, and `plan`, which stops before the
//! first change.

use super::provisioning::{self, Waited};
use super::{host, must_be_root, node_name, uninstall, verify};
use crate::change::component::Component;
use crate::change::plan::{self, Change};
use crate::change::receipt::{Lock, Receipt};
use crate::change::resource::Resource;
use crate::change::transaction::Transaction;
use crate::change::undo;
use crate::cli::{ComponentArgs, InstallArgs, PlanArgs};
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::install::prepare::{Installation, Request};
use crate::installed::log_gateway::LogGateway;
use crate::node::history_server::{HistoryServer, NotReady, Readiness, same_directory};
use crate::node::identity::{Identity, Role};
use crate::node::process::Process;
use crate::node::provisioning::{DeferredInstall, is_pending};
use crate::node::spark::Spark;
use crate::paths::HISTORY_SERVER_UNIT;
use crate::settings::LinkInto;
use crate::signals;
use crate::systemd;
use crate::ui::{Console, Outcome};
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// A server that lived gets at least so long to come back with its old settings.
const RECOVERY: Duration = Duration::from_secs(120);

/// Everything at once.
pub fn install(root: &Path, args: &InstallArgs, console: &Console) -> Result<Exit> {
    run("install", Component::ALL, root, &args.install, Some(args), console)
}

/// Only the class path.
pub fn link(root: &Path, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    run("link", &[Component::Link], root, args, None, console)
}

/// Only the S3 prefix.
pub fn prefix(root: &Path, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    run("prefix", &[Component::Prefix], root, args, None, console)
}

/// Only spark-defaults.conf.
pub fn configure(root: &Path, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    run("configure", &[Component::Configure], root, args, None, console)
}

/// Only the log gateway.
pub fn gateway(root: &Path, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    run("proxy install", &[Component::Gateway], root, args, None, console)
}

/// What `install` would do.
pub fn plan(root: &Path, args: &PlanArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    if passes_by(&host, &args.install) {
        return Ok(console.not_primary("plan"));
    }
    let job = Installation::prepare(request("install", Component::ALL, host, &args.install)?)?;
    console.plan("plan", &job.plan);
    Ok(if args.check && !job.plan.is_done() { Exit::Pending } else { Exit::Done })
}

/// The request of a command line, completed by what the receipt remembers.
fn request<'a>(command: &'a str, components: &'a [Component], host: Host, args: &ComponentArgs) -> Result<Request<'a>> {
    let receipt = Receipt::load(&host)?;
    let settings = args.resolve(&receipt.settings)?;
    Ok(Request { command, components, host, receipt, settings, force: args.force })
}

/// Whether this node is not meant: a non-zero exit of a bootstrap action would kill the instance,
/// so this is asked before anything that can fail.
fn passes_by(host: &Host, args: &ComponentArgs) -> bool {
    args.if_primary && Identity::observe(host).role == Role::Worker
}

fn run(
    command: &str,
    components: &[Component],
    root: &Path,
    args: &ComponentArgs,
    whole: Option<&InstallArgs>,
    console: &Console,
) -> Result<Exit> {
    let begun = Instant::now();
    let host = host(root)?;
    if passes_by(&host, args) {
        return Ok(console.not_primary(command));
    }
    let mut lock = None;
    if !args.dry_run {
        must_be_root(&host)?;
        let in_unit = whole.filter(|args| args.in_unit);
        lock = Some(match in_unit.map(|args| provisioning::wait(&host, args.provisioning_timeout, console)) {
            // The unit that a bootstrap action has left begins when steps begin, and is waited for.
            None => Lock::wait(&host, command, || {
                let patient = begun.elapsed() < args.restart.timeout && !signals::asked();
                Ok(patient && DeferredInstall::is_wanted(&Receipt::load(&host)?))
            })?,
            Some(waited) => match waited? {
                Waited::Ready(lock) => lock,
                Waited::NotNeeded(why) => {
                    console.say(why);
                    return Ok(Exit::Done);
                }
            },
        });
        if whole.is_some() && in_unit.is_none() && host.is_live() && is_pending(&host, args.if_primary)? {
            return provisioning::defer(&host, args, console);
        }
    }
    let mut job = Installation::prepare(request(command, components, host, args)?)?;
    if args.dry_run {
        console.plan(command, &job.plan);
        return Ok(Exit::Done);
    }
    console.say(&format!("emr-shs {} {command} on {}", env!("CARGO_PKG_VERSION"), node_name(&job.node)));
    console.notes(&job.plan.found);
    let mut ready = None;
    if job.plan.is_done() {
        job.remember_settings()?;
    } else {
        prove_rights(&job, console)?;
        ready = carry_out(&mut job, args.restart.timeout, console)?;
    }
    let mut outcome = Outcome::of(&job, ready, begun.elapsed());
    console.outcome(&outcome);
    if matches!(job.gateway, Some(Ok(_))) {
        settle_gateway(&job.host, console)?;
    }
    drop(lock);
    if let Some(who) = whole.filter(|args| args.verify).map(|args| &args.login) {
        outcome.verify = Some(verify::prove(job.host, who, None, console)?);
    }
    if console.is_json() {
        console.data(command, &outcome);
    }
    outcome.verify.map_or(Ok(Exit::Done), |report| report.end(console))
}

/// Says so if the log gateway runs and logs do not open all the same: S3 or credentials are missing.
fn settle_gateway(host: &Host, console: &Console) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Some(gateway) = LogGateway::observe(&Receipt::load(host)?)? else { return Ok(()) };
        if gateway.is_ready() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let says = gateway.says.unwrap_or("nothing".into());
            console.warn(&format!("the log gateway runs, but logs do not open yet; it answers: {says}"));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Before anything is written: event logs that jobs cannot write make every job fail. A node that
/// only reads a prefix that is there needs to list it, and has.
fn prove_rights(job: &Installation, console: &Console) -> Result<()> {
    let makes_prefix = job.plan.real().any(|c| matches!(c.resource, Resource::Prefix { .. }));
    let Some(s3) = job.host.s3.as_ref().filter(|_| job.concerns_s3()) else { return Ok(()) };
    if job.settings.history_only && !makes_prefix {
        return Ok(());
    }
    let Some(event_logs) = &job.event_logs else { return Ok(()) };
    job.check_probe(s3.probe(event_logs))?;
    console.ok(&event_logs.to_string(), "put, list, read, delete");
    Ok(())
}

/// Makes the changes, restarts, waits; or puts everything back. Gives how long the server took.
fn carry_out(job: &mut Installation, timeout: Duration, console: &Console) -> Result<Option<Duration>> {
    let alive = job.node.server.as_ref().is_some_and(|s| s.answer.is_some());
    let mut run = InstallRun {
        job,
        there_before: Process::all_stages(server_user(&job.host)),
        restarted: false,
        timeout,
        console,
    };
    let mut transaction = Transaction::begin(&run.job.host, run.job.receipt.clone());
    transaction.remember(&run.job.settings, alive);
    let made = run.change_and_restart(&mut transaction);
    let kept = made.and_then(|(changes, took)| transaction.keep(took.is_some()).map(|()| (changes, took)));
    match kept {
        Ok((changes, took)) => {
            job.plan.changes = changes;
            Ok(took)
        }
        Err(error) => Err(run.put_back(transaction, Fault::of(error)).into()),
    }
}

/// The user id the history server runs as on EMR.
fn server_user(host: &Host) -> Option<u32> {
    host.account("spark").map(|(user, _)| user)
}

struct InstallRun<'a> {
    job: &'a Installation,
    /// The history servers that ran when it began.
    there_before: Vec<Process>,
    /// Whether this run has touched the server.
    restarted: bool,
    timeout: Duration,
    console: &'a Console,
}

impl InstallRun<'_> {
    fn change_and_restart(&mut self, transaction: &mut Transaction<'_>) -> Result<(Vec<Change>, Option<Duration>)> {
        let Self { job, console, .. } = *self;
        let plan = &job.plan;
        let owes =
            job.node.server.is_some() && (plan.restart.is_some() || plan.changes.iter().any(Change::needs_restart));
        transaction.apply(&plan.changes, owes)?;
        console.rows(&plan.changes);
        let mut changes = plan.changes.clone();
        let Some(mut server) = job.node.server.clone().filter(|_| plan.restart.is_some()) else {
            return Ok((changes, None));
        };
        let mut readiness = job.readiness();
        let mut answer = self.restart(&mut server, &readiness)?;
        if answer.as_ref().is_err_and(|e| e.class_path_dropped) {
            let jars = job.node.spark.home.join("jars");
            console.warn(&format!(
                "the history server does not get the SPARK_DAEMON_CLASSPATH of its unit (its start script or spark-env.sh \
                 sets its own); linking into {} instead",
                jars.display()
            ));
            let mut settings = job.settings.clone();
            settings.link_into = LinkInto::SparkJars;
            let moved = job.changes(transaction.receipt(), &settings)?;
            plan::refuse_foreign(transaction.receipt(), &moved)?;
            transaction.remember(&settings, false);
            transaction.apply(&moved, true)?;
            console.rows(&moved);
            changes.retain(|c| !moved.iter().any(|m| m.resource == c.resource && m.is_real()));
            changes.extend(
                moved.into_iter().filter(|c| c.is_real() && c.before == crate::change::resource::State::Absent),
            );
            readiness.class_path = None;
            answer = self.restart(&mut server, &readiness)?;
        }
        let took = answer.map_err(|e| e.fault(&job.host, job.event_logs.as_ref()))?;
        Ok((changes, Some(took)))
    }

    /// With the settings as they are now: a port may be among what was changed.
    fn restart(&mut self, server: &mut HistoryServer, readiness: &Readiness) -> Result<Result<Duration, NotReady>> {
        self.restarted = true;
        let spark = Spark::observe(&self.job.host)?;
        self.console.restart(&spark, server, readiness, self.timeout)
    }

    /// Undoes this run and brings the server back to how it was; the fault then tells both.
    fn put_back(&self, mut transaction: Transaction<'_>, mut fault: Fault) -> Fault {
        fault.exit = Exit::Failed;
        fault.hint = fault.hint.or_else(|| Some("mend that, then run it again".into()));
        fault.unchanged = false;
        let undone = transaction.undoable();
        let mut trouble = transaction.roll_back();
        let mut state = "the history server was not touched".to_string();
        if let Some(was) = self.job.node.server.as_ref().filter(|_| self.restarted) {
            // Settings of an earlier run that never got to its restart: the server has not lived
            // with them.
            let back = if was.process.is_some() && self.job.receipt.owes_restart {
                self.as_it_was_at_first(&mut transaction)
            } else {
                self.as_it_was(was)
            };
            match back {
                Ok(text) => state = text,
                Err(text) => trouble.push(text),
            }
        }
        transaction.end(&mut trouble);
        if !trouble.is_empty() {
            return trouble
                .into_iter()
                .fold(fault, Fault::detail)
                .hint("emr-shs status shows what is there; emr-shs uninstall tries again");
        }
        let put_back = match undone {
            0 => "nothing on this node was changed".into(),
            1 => "put back: 1 change".into(),
            n => format!("put back: {n} changes"),
        };
        fault.detail(format!("{put_back}; {state}"))
    }

    /// Starts the server with its old settings and waits until it is as well as it was.
    fn as_it_was(&self, was: &HistoryServer) -> Result<String, String> {
        let job = self.job;
        let stop = || systemd::stop(HISTORY_SERVER_UNIT).map_err(|e| format!("{e:#}"));
        let Some(old) = &was.process else {
            stop().and_then(|()| self.end_strays())?;
            return Ok("the history server was down before, and is again".into());
        };
        if Process::all().iter().any(|p| p.is(old)) {
            self.end_strays()?;
            return Ok("the history server was never stopped, and goes on as it was".into());
        }
        // What a script has started that was cut short would hold the port.
        stop().and_then(|()| self.end_strays())?;
        let said = was.answer.as_ref().and_then(|a| a.reads.clone());
        // A file that was changed before us without a restart names the directory it reads now.
        let written = job.node.spark.defaults.get("spark.history.fs.logDirectory");
        let directory = said.filter(|said| written.is_some_and(|written| same_directory(written, said)));
        let readiness = Readiness { directory: directory.clone(), class_path: None };
        let lost = |why: String| format!("the history server does not come back with its old settings: {why}");
        self.console.say("putting everything back");
        let timeout = self.timeout.max(RECOVERY);
        match self.console.restart(&job.node.spark, &mut was.clone(), &readiness, timeout) {
            Ok(Ok(_)) => Ok(match directory {
                Some(dir) => format!("the history server answers again from {dir}"),
                None => "the history server answers again".into(),
            }),
            Ok(Err(not_ready)) => Err(lost(not_ready.what)),
            Err(e) => Err(lost(format!("{e:#}"))),
        }
    }

    /// Ends the history servers that this run's restarts have started, those on their way too. The
    /// unit is stopped, so no further ones come.
    fn end_strays(&self) -> Result<(), String> {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let mut strays = Process::all_stages(server_user(&self.job.host));
            strays.retain(|p| !self.there_before.iter().any(|known| known.is(p)));
            if strays.is_empty() {
                return Ok(());
            }
            strays.iter().try_for_each(|p| p.end().map_err(|e| format!("{e:#}")))?;
            if Instant::now() > deadline {
                return Err("history servers are started again and again by something else".into());
            }
        }
    }

    /// Undoes what earlier runs did, too, and starts the server.
    fn as_it_was_at_first(&self, transaction: &mut Transaction<'_>) -> Result<String, String> {
        let job = self.job;
        let mut receipt = job.receipt.clone();
        systemd::stop(HISTORY_SERVER_UNIT).map_err(|e| format!("{e:#}")).and_then(|()| self.end_strays())?;
        let undone = undo::plan_of_server(&job.host, &receipt).and_then(|rows| {
            uninstall::carry_out(&job.host, &mut receipt, &rows, self.timeout.max(RECOVERY), self.console)
        });
        transaction.began_with(receipt);
        match undone {
            Ok(()) => {
                Ok("what an earlier, interrupted run had changed is put back too; the history server answers again"
                    .into())
            }
            Err(e) => Err(format!("the settings of an earlier, interrupted run are not all put back: {e:#}")),
        }
    }
}
