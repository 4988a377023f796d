//! `restart`: pays a restart that is owed, or makes one.

use super::{host, must_be_root, uninstall};
use crate::change::receipt::{Lock, Receipt};
use crate::change::undo;
use crate::cli::options::RestartArgs;
use crate::doctor::checks::node::has_service;
use crate::error::{Exit, Fault};
use crate::node::Node;
use crate::node::history_server::Readiness;
use crate::ui::Console;
use anyhow::Result;
use std::path::Path;

/// Restarts the history server and waits until it reads the directory that is configured. If it
/// lived, and does not live with settings of ours that it has never been seen with, those go.
pub fn run(root: &Path, args: &RestartArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    must_be_root(&host)?;
    let _lock = Lock::take(&host, "restart")?;
    let mut receipt = Receipt::load(&host)?;
    let node = Node::observe(&host, &receipt)?;
    has_service(&node)?;
    let Some(mut server) = node.server.clone() else {
        return Err(Fault::usage("there is no service to restart below another root").into());
    };
    let lived = server.process.is_some();
    let directory = node.spark.defaults.get("spark.history.fs.logDirectory").map(str::to_string);
    let readiness = Readiness { directory: directory.clone(), class_path: None };
    let took = match console.restart(&node.spark, &mut server, &readiness, args.timeout)? {
        Ok(took) => took,
        Err(e) => {
            let fault = e.fault(&host, receipt.settings.event_logs.as_ref());
            if !(lived && receipt.owes_restart) {
                return Err(fault.into());
            }
            console.warn("the history server does not live with what emr-shs changed; putting that back");
            let rows = undo::plan_of_server(&host, &receipt)?;
            return match uninstall::carry_out(&host, &mut receipt, &rows, args.timeout, console) {
                Ok(()) => Err(fault
                    .detail("put back: everything that emr-shs changed; the history server lives again")
                    .into()),
                Err(e) => Err(fault.detail(format!("and not everything could be put back: {e:#}")).into()),
            };
        }
    };
    if receipt.owes_restart {
        receipt.owes_restart = false;
        receipt.save(&host)?;
    }
    let directory = directory.unwrap_or_else(|| "its default directory".into());
    if console.is_json() {
        console.data(
            "restart",
            serde_json::json!({ "result": "done", "ready_after": took.as_secs_f64(), "reads": directory }),
        );
    }
    console.ok("history server", &format!("reads {directory} after {:.1} s", took.as_secs_f64()));
    Ok(Exit::Done)
}
