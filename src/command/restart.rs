//! `restart`: pays a restart that is owed, or makes one.

use super::{host, must_be_root};
use crate::cli::RestartArgs;
use crate::fault::{Exit, Fault};
use crate::node::Node;
use crate::node::history_server::Target;
use crate::receipt::{Lock, Receipt};
use crate::report::Console;
use anyhow::Result;
use std::path::Path;

/// Restarts the history server and waits until it reads the directory that is configured.
pub fn run(root: &Path, args: &RestartArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    must_be_root(&host)?;
    let _lock = Lock::take(&host, "restart")?;
    let mut receipt = Receipt::load(&host)?;
    let node = Node::observe(&host, &receipt)?;
    node.must_have_service()?;
    let Some(server) = node.server.clone() else {
        return Err(Fault::usage("there is no service to restart below another root").into());
    };
    let directory = node.spark.defaults.get("spark.history.fs.logDirectory").map(str::to_string);
    let target = Target { directory: directory.clone(), class_path: None };
    let answer = console.restart(&host, &node.spark, server, &target, args.timeout)?;
    let took = answer.map_err(|e| {
        let fault = e.fault(&host, receipt.settings.event_logs.as_ref());
        if receipt.is_empty() { fault } else { fault.detail("emr-shs uninstall puts its old settings back") }
    })?;
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
