//! `install` on a node that is still being provisioned, as a bootstrap action finds it: the run is left
//! to a unit of its own, and that unit waits first.

use super::node_name;
use crate::apply::Transaction;
use crate::cli::InstallArgs;
use crate::config::Settings;
use crate::doctor::node::has_systemd;
use crate::doctor::{self, Facts};
use crate::fault::{Exit, Fault};
use crate::host::Host;
use crate::interrupt;
use crate::node::Node;
use crate::node::provisioning::{Lack, Waiting, lack};
use crate::plan::{self, Change};
use crate::receipt::{Lock, Receipt};
use crate::report::Console;
use crate::resource::WAITING_UNIT;
use crate::systemd;
use crate::wanted::waiting::Later;
use crate::wanted::{self, Piece};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Leaves this very run to a unit. Takes no longer than writing a few files: a bootstrap action holds
/// up the cluster.
pub fn leave(host: &Host, args: &InstallArgs, console: &Console) -> Result<Exit> {
    let receipt = Receipt::load(host)?;
    let settings = Settings::merge(args, &receipt.settings)?;
    settings.event_logs("install")?;
    let node = Node::read(host)?;
    doctor::preflight(&Facts::of_files(host, &node, &receipt, &settings, None), &[Piece::Waiting])?;
    has_systemd()?;
    let changes = plan::changes(host, &receipt, &Later::this()?.wants(host)?)?;
    if !args.force {
        wanted::refuse_foreign(&receipt, &changes)?;
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
        console.data("install", serde_json::json!({ "result": "waiting", "unit": WAITING_UNIT, "changes": changes }));
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
    let lack = |host: &Host| lack(host).unwrap_or(Some(Lack::Part("an answer of systemd")));
    let mut lacked = lack(host);
    while let Some(lacking) = lacked {
        if told != Some(lacking) {
            told = Some(lacking);
            say(&format!("waiting for {}", lacking.name()), console);
        }
        if begun.elapsed() > patience {
            if lacking.is_a_word() {
                console.warn(&format!(
                    "{} has not come within {}; installing all the same",
                    lacking.name(),
                    minutes(patience)
                ));
                break;
            }
            return Err(Fault::failed(format!("this node was not provisioned within {}", minutes(patience)))
                .detail(format!("{} is not there; nothing is installed", lacking.name()))
                .hint("is Spark among the cluster's applications? Once it is there: sudo emr-shs install")
                .into());
        }
        let next = Instant::now() + if lacking.is_a_word() { TICK_OF_A_WORD } else { TICK };
        while Instant::now() < next {
            if interrupt::asked() {
                return Ok(Waited::NotNeeded("told to stop"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        lacked = lack(host);
    }
    say("installing", console);
    // A step, or a person, who does the same is heard out.
    match Lock::wait(host, "install", || Ok(begun.elapsed() < patience && !interrupt::asked())) {
        Ok(lock) if Waiting::is_wanted(&Receipt::load(host)?) => Ok(Waited::Ready(lock)),
        Ok(_) => Ok(Waited::NotNeeded("somebody else has installed meanwhile")),
        Err(_) if interrupt::asked() => Ok(Waited::NotNeeded("told to stop")),
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
