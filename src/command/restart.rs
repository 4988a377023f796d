//! `restart`: restarts the history server and waits until it reads the configured directory.

use super::{host, must_be_root, server_reads};
use crate::change::lock::Lock;
use crate::change::receipt::Receipt;
use crate::change::undo as undo_plan;
use crate::cli::options::RestartArgs;
use crate::doctor::checks::node::require_service;
use crate::doctor::checks::server::{require_log, require_port};
use crate::error::{Exit, Fault};
use crate::install::{restart, undo};
use crate::node::Node;
use crate::node::history_server::Readiness;
use crate::paths::{LOG_DIRECTORY_KEY, TAKEN_PORT_SOCKET};
use crate::signals;
use crate::systemd;
use crate::ui::Console;
use anyhow::Result;
use std::path::Path;

/// If a server that ran does not start with settings that an earlier run wrote but never activated, `restart` undoes
/// those settings.
pub(crate) fn run(root: &Path, args: &RestartArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    must_be_root(&host)?;
    let _lock = Lock::take(&host, "restart")?;
    let mut receipt = Receipt::load(&host)?;
    let node = Node::observe(&host, &|path| receipt.created_link(path))?;
    require_service(&node)?;
    require_port(&node)?;
    require_log(&node.spark)?;
    let Some(mut server) = node.server.clone() else {
        return Err(Fault::usage("a directory given with --root has no service to restart").into());
    };
    let was_alive = server.process.is_some();
    signals::end_with(1, "interrupted; systemd goes on restarting the history server");
    let directory = node.spark.defaults.known_text(LOG_DIRECTORY_KEY).map(str::to_string);
    let readiness = Readiness { directory: directory.clone(), class_path: None };
    let show = |progress: crate::install::Progress<'_>| console.show(progress);
    let outcome = restart::restart(&node.spark, &mut server, &readiness, args.timeout, &show)?;
    let took = match outcome.ready_after(&host, receipt.settings.event_logs.as_ref()) {
        Ok(took) => took,
        Err(fault) => {
            if !(was_alive && receipt.owes_restart) {
                return Err(fault.into());
            }
            console.warn("the history server does not start with the settings of emr-shs; restoring the earlier ones");
            let rows = undo_plan::plan_of_server(&host, &receipt)?;
            // Settings that are half put back help nobody.
            signals::ignore();
            return match undo::carry_out(&host, &mut receipt, &rows, args.timeout, &show) {
                Ok(restarted) => {
                    server_reads(restarted, console);
                    Err(fault.detail("put back: the settings that the history server reads").into())
                }
                Err(e) => Err(fault.detail(format!("not every change could be put back: {e:#}")).into()),
            };
        }
    };
    if receipt.owes_restart {
        receipt.owes_restart = false;
        receipt.save(&host)?;
    }
    if receipt.taken_port().is_some() && systemd::show(TAKEN_PORT_SOCKET)?.listens_on().is_none() {
        console.warn(
            "the log gateway does not listen on the port that the history server has left; to make the log gateway listen there: sudo emr-shs install",
        );
    }
    let directory = directory.unwrap_or_else(|| "its default directory".into());
    if console.is_json() {
        console.data(
            "restart",
            serde_json::json!({ "result": "done", "ready_after": took.as_secs_f64(), "reads": directory }),
        );
    }
    server_reads(Some((took, directory)), console);
    Ok(Exit::Done)
}
