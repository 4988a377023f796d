//! `install` on a node that EMR is still provisioning, as a bootstrap action finds it. `install` leaves its work to
//! a unit, and the unit's run waits until the node is ready.

use super::node_name;
use crate::change::component::Component;
use crate::change::lock::Lock;
use crate::change::plan::{self, Change};
use crate::change::receipt::Receipt;
use crate::change::transaction::Transaction;
use crate::cli::ComponentArgs;
use crate::desired::deferred_install::DeferredCommandLine;
use crate::doctor;
use crate::doctor::checks::node::require_systemd;
use crate::doctor::facts::Facts;
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::installed::deferred_install::DeferredInstall;
use crate::node::Node;
use crate::node::provisioning::{Missing, missing};
use crate::paths::DEFERRED_INSTALL_UNIT;
use crate::signals;
use crate::ui::Console;
use anyhow::Result;
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// How often the unit looks for a part of Spark on the disk.
const PART_POLL: Duration = Duration::from_millis(500);
/// How often the unit asks whether provisioning has finished. Asking EMR costs a request.
const FINISHED_POLL: Duration = Duration::from_secs(5);

/// Leaves this command line to a unit. A bootstrap action holds up the cluster, so this takes no longer than writing
/// a few files.
pub(crate) fn defer(host: &Host, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    let receipt = Receipt::load(host)?;
    let settings = args.resolve(&receipt.settings)?;
    settings.event_logs("install")?;
    let node = Node::read(host)?;
    doctor::preflight(&Facts::of_files(host, &node, &receipt, &settings, None), &[Component::DeferredInstall])?;
    require_systemd()?;
    let changes = plan::changes(host, &receipt, &DeferredCommandLine::of_this_process()?.desired(host)?)?;
    if !args.force {
        plan::refuse_foreign(&receipt, &changes)?;
    }
    console.say(&format!("emr-shs {} install on {}", env!("CARGO_PKG_VERSION"), node_name(&node)));
    let mut transaction = Transaction::begin(host, receipt);
    transaction.remember(&settings, false);
    let made = transaction.apply(&changes, false).and_then(|()| transaction.keep(false));
    if let Err(error) = made {
        let mut errors = transaction.roll_back();
        transaction.finish_rollback(&mut errors);
        let mut fault = Fault::of(error);
        if errors.is_empty() {
            fault = fault.detail("put back: every change of this run");
        }
        return Err(errors.into_iter().fold(fault, Fault::detail).into());
    }
    if console.is_json() {
        let changes: Vec<&Change> = changes.iter().filter(|c| c.has_effect()).collect();
        console.data(
            "install",
            serde_json::json!({ "result": "waiting", "unit": DEFERRED_INSTALL_UNIT, "changes": changes }),
        );
    }
    console.changed(&changes);
    console.say(
        "Not installed yet: EMR is still provisioning this node. A unit waits for it and then installs. \
         To see how far it is: sudo emr-shs status",
    );
    Ok(Exit::Done)
}

/// Whether this run may begin to change the node.
pub(crate) enum WaitOutcome {
    /// The node is ready, and this process has the lock.
    Ready(Lock),
    /// There is nothing to install any more; the text says why.
    NotNeeded(&'static str),
}

/// Waits until the node is ready, at most for `timeout`.
pub(crate) fn wait(host: &Host, timeout: Duration, console: &Console) -> Result<WaitOutcome> {
    signals::end_with(0, "stopped by a signal before the installation began");
    let begun = Instant::now();
    let mut told = None;
    while let Some(part) = what_is_missing(host) {
        if told != Some(part) {
            told = Some(part);
            say(&format!("waiting for {}", part.awaited()), console);
        }
        if begun.elapsed() > timeout {
            give_up_waiting_for(part, timeout, console)?;
            break;
        }
        if !sleep(if part.is_confirmation() { FINISHED_POLL } else { PART_POLL }) {
            return Ok(WaitOutcome::NotNeeded("stopped by a signal before the installation began"));
        }
    }
    say("installing", console);
    // A step, or a person, may be installing at this moment.
    match Lock::wait(host, "install", || Ok(begun.elapsed() < timeout && !signals::stop_requested())) {
        Ok(lock) if DeferredInstall::is_wanted(&Receipt::load(host)?) => {
            signals::end_with(1, "interrupted");
            Ok(WaitOutcome::Ready(lock))
        }
        Ok(_) => Ok(WaitOutcome::NotNeeded("somebody else has installed meanwhile")),
        Err(_) if signals::stop_requested() => {
            Ok(WaitOutcome::NotNeeded("stopped by a signal before the installation began"))
        }
        Err(held) => Err(held),
    }
}

/// What the node still lacks. systemd may be too busy to answer while EMR provisions the node; then the answer is
/// what is missing.
fn what_is_missing(host: &Host) -> Option<Missing> {
    missing(host).unwrap_or(Some(Missing::Part("an answer from systemd")))
}

/// After the timeout: without a part of Spark nothing can be installed. If only EMR's word is missing, install.
fn give_up_waiting_for(part: Missing, timeout: Duration, console: &Console) -> Result<(), Fault> {
    if part.is_confirmation() {
        console.warn(&format!("waited {} for {}; installing without it", minutes(timeout), part.awaited()));
        return Ok(());
    }
    Err(Fault::failed(format!("EMR has not provisioned this node within {}", minutes(timeout)))
        .detail(format!("{} is still missing, so nothing is installed", part.awaited()))
        .hint("make sure that the cluster's applications include Spark; once it is installed: sudo emr-shs install"))
}

/// Sleeps. Returns false when somebody tells the process to stop.
fn sleep(time: Duration) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if signals::stop_requested() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

fn say(what: &str, console: &Console) {
    let _ = sd_notify::notify(&[NotifyState::Status(what)]);
    console.say(what);
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        s if s < 120 => format!("{s} seconds"),
        s => format!("{} minutes", s / 60),
    }
}
