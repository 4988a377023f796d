//! `install`, its components `prefix`, `configure`, `link` and `proxy install`, and `plan`, which stops before the
//! first change.

use super::deferred_install::{self, WaitOutcome};
use super::{host, must_be_root, node_name, verify};
use crate::change::component::Component;
use crate::change::lock::Lock;
use crate::change::plan::Change;
use crate::change::receipt::Receipt;
use crate::cli::{ComponentArgs, InstallArgs, PlanArgs};
use crate::error::Exit;
use crate::host::Host;
use crate::install::prepare::{Installation, Request};
use crate::install::rights::Proven;
use crate::install::run;
use crate::installed::deferred_install::DeferredInstall;
use crate::installed::log_gateway::{LogGateway, Trouble, Tunnel};
use crate::installed::shortfall::{self, Shortfall};
use crate::node::history_server::HistoryServer;
use crate::node::identity::{Identity, Role};
use crate::node::provisioning::is_pending;
use crate::signals;
use crate::ui::Console;
use anyhow::{Result, anyhow};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a started gateway may take to become ready before `install` warns.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// One run of `install` or of a component.
struct Run<'a> {
    command: &'static str,
    components: &'a [Component],
    args: &'a ComponentArgs,
    /// The further options of `install`; `None` for a component alone.
    whole: Option<&'a InstallArgs>,
    console: &'a Console,
    begun: Instant,
}

/// Every component at once.
pub(crate) fn install(root: &Path, args: &InstallArgs, console: &Console) -> Result<Exit> {
    let run = Run { whole: Some(args), ..Run::of("install", Component::ALL, &args.install, console) };
    run.carry_out(root)
}

/// The class path alone.
pub(crate) fn link(root: &Path, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    Run::of("link", &[Component::Link], args, console).carry_out(root)
}

/// The S3 prefix alone.
pub(crate) fn prefix(root: &Path, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    Run::of("prefix", &[Component::Prefix], args, console).carry_out(root)
}

/// The keys of spark-defaults.conf alone.
pub(crate) fn configure(root: &Path, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    Run::of("configure", &[Component::Configure], args, console).carry_out(root)
}

/// The log gateway alone.
pub(crate) fn gateway(root: &Path, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    Run::of("proxy install", &[Component::Gateway], args, console).carry_out(root)
}

/// What `install` would do.
pub(crate) fn plan(root: &Path, args: &PlanArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    if skips_this_node(&host, &args.install) {
        return Ok(console.not_primary("plan"));
    }
    warn_of_secrets(&args.install, console);
    let job = Installation::prepare(request("install", Component::ALL, host, &args.install)?)?;
    console.plan("plan", &job.plan, &job.missing);
    Ok(if args.check && !job.is_fulfilled() { Exit::Pending } else { Exit::Done })
}

/// Whether `--if-primary` makes the command do nothing here. A bootstrap action that fails ends the instance, so
/// the command asks this before anything that can fail.
fn skips_this_node(host: &Host, args: &ComponentArgs) -> bool {
    args.if_primary && Identity::observe(host).role == Role::Worker
}

/// Warns of secrets in the arguments of this process, which every account of the node can read.
fn warn_of_secrets(args: &ComponentArgs, console: &Console) {
    let keys = args.spark.secrets_on_command_line();
    if !keys.is_empty() {
        console.warn(&format!(
            "--set shows the value of {} to every user of this node while this command runs, and to the log of sudo. To \
             set it without that: EMR_SHS_SET in the environment of root",
            keys.join(", ")
        ));
    }
}

/// The request of a command line, completed by what the receipt remembers.
fn request<'a>(
    command: &'static str,
    components: &'a [Component],
    host: Host,
    args: &ComponentArgs,
) -> Result<Request<'a>> {
    let receipt = Receipt::load(&host)?;
    let settings = args.resolve(&receipt.settings)?;
    Ok(Request { command, components, host, receipt, settings, force: args.force })
}

impl<'a> Run<'a> {
    fn of(command: &'static str, components: &'a [Component], args: &'a ComponentArgs, console: &'a Console) -> Self {
        Self { command, components, args, whole: None, console, begun: Instant::now() }
    }

    fn carry_out(&self, root: &Path) -> Result<Exit> {
        let host = host(root)?;
        if skips_this_node(&host, self.args) {
            return Ok(self.console.not_primary(self.command));
        }
        warn_of_secrets(self.args, self.console);
        if self.args.dry_run {
            let job = Installation::prepare(request(self.command, self.components, host, self.args)?)?;
            self.console.plan(self.command, &job.plan, &job.missing);
            return Ok(Exit::Done);
        }
        must_be_root(&host)?;
        let lock = match self.lock(&host)? {
            WaitOutcome::Ready(lock) => lock,
            WaitOutcome::NotNeeded(why) => {
                self.console.say(why);
                return Ok(Exit::Done);
            }
        };
        if self.is_too_early(&host)? {
            return deferred_install::defer(&host, self.args, self.console);
        }
        self.change_node(host, lock)
    }

    /// Takes the node's lock. The deferred unit's run first waits until the node is ready. Any other run waits for
    /// the deferred unit: the unit starts to install at the moment when EMR starts to run steps.
    fn lock(&self, host: &Host) -> Result<WaitOutcome> {
        if let Some(args) = self.whole.filter(|args| args.in_unit) {
            return deferred_install::wait(host, args.provisioning_timeout, self.console);
        }
        let lock = Lock::wait(host, self.command, || {
            let in_time = self.begun.elapsed() < self.args.restart.timeout && !signals::stop_requested();
            Ok(in_time && DeferredInstall::is_wanted(&Receipt::load(host)?))
        })?;
        Ok(WaitOutcome::Ready(lock))
    }

    /// Whether this run must be left to a unit, because EMR has not installed Spark yet.
    fn is_too_early(&self, host: &Host) -> Result<bool> {
        let may_defer = self.whole.is_some_and(|args| !args.in_unit) && host.is_live();
        Ok(may_defer && is_pending(host, self.args.if_primary)?)
    }

    fn change_node(&self, host: Host, lock: Lock) -> Result<Exit> {
        let Self { console, command, .. } = *self;
        let mut job = Installation::prepare(request(command, self.components, host, self.args)?)?;
        console.say(&format!("emr-shs {} {command} on {}", env!("CARGO_PKG_VERSION"), node_name(&job.node)));
        console.notes(&job.plan.problems);
        let mut ready = None;
        if job.plan.is_done() {
            job.remember_settings()?;
        } else {
            prove_rights(&mut job, console)?;
            ready = run::carry_out(&mut job, self.args.restart.timeout, &|progress| console.show(progress))?;
        }
        let mut outcome = Outcome::of(&job, ready, self.begun.elapsed());
        let (missing, server) = what_is_missing(&job)?;
        outcome.add_missing(missing);
        if let Some(server) = server {
            outcome.url = Some(server.url(&job.node.spark, &BTreeMap::new()));
        }
        outcome.print(console);
        drop(lock);
        if let Some(args) = self.whole.filter(|args| args.verify) {
            outcome.verify = Some(verify::prove(job.host, &args.login, None, console)?);
        }
        if console.is_json() {
            console.data(command, &outcome);
        }
        let proved = outcome.verify.map_or(Ok(Exit::Done), |report| report.end(console))?;
        Ok(if proved == Exit::Done && !outcome.missing.is_empty() { Exit::Incomplete } else { proved })
    }
}

/// Proves before the first change that jobs will be able to write their event logs: if they cannot, every job
/// fails.
fn prove_rights(job: &mut Installation, console: &Console) -> Result<()> {
    let proven = job.prove_rights(&|text| console.say(text))?;
    let uri = job.event_logs.as_ref().map(ToString::to_string).unwrap_or_default();
    match proven {
        Proven::NotNeeded => {}
        Proven::ByEmrShs => console.ok(&uri, "put, list, read, delete"),
        Proven::ByHadoop { accounts } => console.ok(&uri, &format!("allowed to Hadoop's own client, as {accounts}")),
        Proven::Forced { refused } => {
            console.warn(&format!("--force goes on in spite of this: {}", refused.join("; ")))
        }
    }
    Ok(())
}

/// What the user wanted and is missing now, and the history server as it is now, if this run can have changed it.
fn what_is_missing(job: &Installation) -> Result<(Vec<Shortfall>, Option<HistoryServer>)> {
    if job.plan.is_done() {
        // Nothing has changed since the plan was made.
        return Ok((job.missing.clone(), None));
    }
    let receipt = Receipt::load(&job.host)?;
    let has_gateway = job.host.is_live() && matches!(job.gateway, Some(Ok(_)));
    let (server, gateway) = std::thread::scope(|scope| {
        let gateway = scope.spawn(|| if has_gateway { wait_for_gateway(&receipt) } else { Ok(None) });
        (job.node.server.as_ref().map(|_| HistoryServer::observe(&job.node.spark)).transpose(), gateway.join())
    });
    let gateway = gateway.map_err(|_| anyhow!("the thread that asks the log gateway died"))??;
    let server = server?;
    let mut missing = shortfall::observe(&job.host, &receipt, server.as_ref(), gateway)?;
    missing.retain(|shortfall| job.concerns(shortfall));
    // A run that leaves the restart to somebody tells the port of later.
    Ok((missing, server.filter(|server| server.is_alive() && job.plan.restart.is_some())))
}

/// Gives a gateway that has just started time to get credentials and to reach its buckets. Returns how it is then.
fn wait_for_gateway(receipt: &Receipt) -> Result<Option<LogGateway>> {
    let deadline = Instant::now() + GATEWAY_TIMEOUT;
    loop {
        let gateway = LogGateway::observe(receipt)?;
        let is_starting = gateway.as_ref().is_some_and(LogGateway::is_starting);
        let trouble = gateway.as_ref().and_then(LogGateway::trouble);
        let is_silent = matches!(trouble, Some(Trouble::Silent | Trouble::NotReady(_)));
        if !(is_starting || is_silent) || Instant::now() >= deadline {
            return Ok(gateway);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How an installation went.
#[derive(Debug, Serialize)]
struct Outcome {
    result: InstallResult,
    /// The changes that were made.
    changes: Vec<Change>,
    /// Seconds that the history server took to become ready; `None` if it was not restarted.
    ready_after: Option<f64>,
    /// Seconds that the whole run took.
    seconds: f64,
    event_logs: Option<String>,
    /// What the history server reads.
    reads: Option<String>,
    #[serde(rename = "index")]
    has_index: bool,
    /// The tunnel that brings the gateway to a browser.
    tunnel: Option<Tunnel>,
    /// The history server's address.
    url: Option<String>,
    owes_restart: bool,
    /// What was wrong on the node before.
    #[serde(rename = "found")]
    problems: Vec<String>,
    /// What the changes mean for people.
    notes: Vec<String>,
    /// What was wanted and is missing.
    missing: Vec<Shortfall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<verify::VerifyReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum InstallResult {
    Done,
    NothingToDo,
    /// Something that was wanted is missing.
    Incomplete,
}

impl Outcome {
    fn of(job: &Installation, ready: Option<Duration>, took: Duration) -> Self {
        let changes: Vec<Change> = job.plan.effective().cloned().collect();
        Self {
            result: if job.plan.is_done() { InstallResult::NothingToDo } else { InstallResult::Done },
            owes_restart: ready.is_none()
                && (job.receipt.owes_restart || job.node.server.is_some() && changes.iter().any(Change::needs_restart)),
            changes,
            ready_after: ready.map(|d| d.as_secs_f64()),
            seconds: took.as_secs_f64(),
            event_logs: job.event_logs.as_ref().map(ToString::to_string),
            reads: job.history_directory(),
            has_index: job.settings.index,
            tunnel: job.gateway.as_ref().and_then(|g| g.as_ref().ok()).map(|_| Tunnel::of(&job.settings)),
            url: job.node.server.as_ref().map(|server| server.url(&job.node.spark, &job.keys_after())),
            problems: job.plan.problems.clone(),
            notes: job.plan.notes.clone(),
            missing: Vec::new(),
            verify: None,
        }
    }

    fn add_missing(&mut self, missing: Vec<Shortfall>) {
        if !missing.is_empty() {
            self.result = InstallResult::Incomplete;
        }
        self.missing = missing;
    }

    fn print(&self, console: &Console) {
        if self.changes.is_empty() && self.ready_after.is_none() {
            console.say(if self.missing.is_empty() {
                "nothing to do"
            } else {
                "nothing that this command could change"
            });
            console.notes(&self.notes);
            return console.missing(&self.missing);
        }
        let port = self.url.as_deref().and_then(|url| url.rsplit(':').next()).unwrap_or_default();
        if let Some(seconds) = self.ready_after {
            let directory = self.reads.as_deref().unwrap_or("its directory");
            let then = match self.has_index {
                true => "the log gateway lists all applications",
                false => "it lists the event logs there within the next minutes",
            };
            let text = format!("reads {directory} after {seconds:.1} s, on port {port}; {then}");
            console.ok("history server", &text);
        }
        console.notes(&self.notes);
        console.missing(&self.missing);
        let done = if self.missing.is_empty() { "done" } else { "ended incomplete" };
        console.say(&format!("{done} in {:.1} s. Undo everything: sudo emr-shs uninstall", self.seconds));
        if self.owes_restart {
            console.say("To apply these settings: sudo emr-shs restart");
        }
        if let Some(tunnel) = &self.tunnel {
            return console.say(&format!("Open {} after:\n  {}", tunnel.url, tunnel.command));
        }
        if let Some(url) = self.url.as_ref().filter(|_| self.ready_after.is_some()) {
            console.say(&format!(
                "From your own machine: ssh -L {port}:localhost:{port} hadoop@PRIMARY-NODE, then open {url}"
            ));
        }
    }
}
