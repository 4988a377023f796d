//! `install` on a node that is still being provisioned, as a bootstrap action finds it: the run is left
//! to a unit of its own, and that unit waits first.

use super::node_name;
use crate::change::component::Component;
use crate::change::plan::{self, Change};
use crate::change::receipt::{Lock, Receipt};
use crate::change::transaction::Transaction;
use crate::cli::ComponentArgs;
use crate::desired::deferred_install::DeferredCommandLine;
use crate::doctor::checks::node::has_systemd;
use crate::doctor::{self, Facts};
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::node::Node;
use crate::node::provisioning::{DeferredInstall, Missing, missing};
use crate::paths::DEFERRED_INSTALL_UNIT;
use crate::signals;
use crate::systemd;
use crate::ui::Console;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Leaves this very run to a unit. Takes no longer than writing a few files: a bootstrap action holds
/// up the cluster.
pub fn defer(host: &Host, args: &ComponentArgs, console: &Console) -> Result<Exit> {
    let receipt = Receipt::load(host)?;
    let settings = args.resolve(&receipt.settings)?;
    settings.event_logs("install")?;
    let node = Node::read(host)?;
    doctor::preflight(&Facts::of_files(host, &node, &receipt, &settings, None), &[Component::DeferredInstall])?;
    has_systemd()?;
    let changes = plan::changes(host, &receipt, &DeferredCommandLine::of_this_process()?.desired(host)?)?;
    if !args.force {
        plan::refuse_foreign(&receipt, &changes)?;
    }
    console.say(&format!("emr-shs {} install on {}", env!("CARGO_PKG_VERSION"), node_name(&node)));
    let mut transaction = Transaction::begin(host, receipt);
    transaction.remember(&settings, false);
    let made = transaction.apply(&changes, false).and_then(|()| transaction.keep(false));
    if let Err(error) = made {
        let mut trouble = transaction.roll_back();
        transaction.end(&mut trouble);
        let fault = Fault::of(error).detail("put back: what it had changed");
        return Err(trouble.into_iter().fold(fault, Fault::detail).into());
    }
    if console.is_json() {
        let changes: Vec<&Change> = changes.iter().filter(|c| c.is_real()).collect();
        console.data(
            "install",
            serde_json::json!({ "result": "waiting", "unit": DEFERRED_INSTALL_UNIT, "changes": changes }),
        );
    }
    console.rows(&changes);
    console.say("Not installed yet. How it stands: sudo emr-shs status");
    Ok(Exit::Done)
}

/// How the unit's waiting ended.
pub enum Waited {
    /// The node can be installed on, and nobody else is at it.
    Ready(Lock),
    /// It is not needed any more.
    NotNeeded(&'static str),
}

/// Waits until this node can be installed on, for a while.
pub fn wait(host: &Host, patience: Duration, console: &Console) -> Result<Waited> {
    const TICK: Duration = Duration::from_millis(500);
    const TICK_OF_A_WORD: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    let mut told = None;
    // systemd may be busy while a node is provisioned: what cannot be told is asked again.
    let missing = |host: &Host| missing(host).unwrap_or(Some(Missing::Part("an answer of systemd")));
    let mut missing_now = missing(host);
    while let Some(missing_part) = missing_now {
        if told != Some(missing_part) {
            told = Some(missing_part);
            say(&format!("waiting for {}", missing_part.name()), console);
        }
        if begun.elapsed() > patience {
            if missing_part.is_a_word() {
                console.warn(&format!(
                    "{} has not come within {}; installing all the same",
                    missing_part.name(),
                    minutes(patience)
                ));
                break;
            }
            return Err(Fault::failed(format!("this node was not provisioned within {}", minutes(patience)))
                .detail(format!("{} is not there; nothing is installed", missing_part.name()))
                .hint("is Spark among the cluster's applications? Once it is there: sudo emr-shs install")
                .into());
        }
        let next = Instant::now() + if missing_part.is_a_word() { TICK_OF_A_WORD } else { TICK };
        while Instant::now() < next {
            if signals::asked() {
                return Ok(Waited::NotNeeded("told to stop"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        missing_now = missing(host);
    }
    say("installing", console);
    // A step, or a person, who does the same is heard out.
    match Lock::wait(host, "install", || Ok(begun.elapsed() < patience && !signals::asked())) {
        Ok(lock) if DeferredInstall::is_wanted(&Receipt::load(host)?) => Ok(Waited::Ready(lock)),
        Ok(_) => Ok(Waited::NotNeeded("somebody else has installed meanwhile")),
        Err(_) if signals::asked() => Ok(Waited::NotNeeded("told to stop")),
        Err(held) => Err(held),
    }
}

fn say(what: &str, console: &Console) {
    systemd::notify(&format!("STATUS={what}"));
    console.say(what);
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        s if s < 120 => format!("{s} seconds"),
        s => format!("{} minutes", s / 60),
    }
}
