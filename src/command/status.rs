//! `status`: what is installed, what drifted, and whether the history server answers.

use super::{host, node_name};
use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::dataln;
use crate::desired;
use crate::error::Exit;
use crate::host::Host;
use crate::installed::drift::{self, Condition, ResourceStatus};
use crate::installed::log_gateway::LogGateway;
use crate::node::Node;
use crate::node::history_server::{HistoryServer, Readiness};
use crate::node::provisioning::DeferredInstall;
use crate::paths::DEFERRED_INSTALL_UNIT;
use crate::ui::{Console, data, row};
use anstyle::AnsiColor;
use anyhow::{Result, anyhow};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Status {
    node: String,
    installed: bool,
    event_logs: Option<String>,
    /// The installation that waits until the node is provisioned.
    waiting: Option<DeferredInstall>,
    owes_restart: bool,
    /// Why the history server has no store on disk; it reads everything anew at each start then.
    no_local_store: Option<String>,
    server: Option<HistoryServer>,
    server_reads_event_logs: bool,
    /// The log gateway, if it is installed.
    gateway: Option<LogGateway>,
    rows: Vec<ResourceStatus>,
}

/// Prints it; the exit code says only whether it could be found out.
pub fn run(root: &Path, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let receipt = Receipt::load(&host)?;
    // Either may hang, and this is for people who want to know at once.
    let (node, gateway) = std::thread::scope(|scope| {
        let gateway = scope.spawn(|| LogGateway::observe(&receipt));
        (Node::observe(&host, &receipt), gateway.join())
    });
    let (node, gateway) = (node?, gateway.map_err(|_| anyhow!("the thread that asks the log gateway died"))??);
    let rows = drift::rows(&host, &receipt);
    let waiting = DeferredInstall::observe(&receipt)?;
    let event_logs = receipt.settings.event_logs.as_ref().map(ToString::to_string);
    let readiness = Readiness { directory: event_logs.clone(), class_path: None };
    let status = Status {
        node: node_name(&node),
        installed: !receipt.is_empty() && waiting.is_none(),
        no_local_store: if waiting.is_none() { no_local_store(&host, &node, &receipt) } else { None },
        waiting,
        owes_restart: receipt.owes_restart,
        server_reads_event_logs: event_logs.is_some() && node.server.as_ref().is_some_and(|s| s.is_ready(&readiness)),
        event_logs,
        server: node.server.clone(),
        gateway,
        rows,
    };
    if console.is_json() {
        console.data("status", &status);
    } else {
        print(&status, &node);
    }
    Ok(Exit::Done)
}

fn no_local_store(host: &Host, node: &Node, receipt: &Receipt) -> Option<String> {
    if receipt.is_empty() || receipt.entries.iter().any(|e| matches!(e.resource, Resource::Cache { .. })) {
        return None;
    }
    desired::local_store::choose(host, node, receipt, &receipt.settings).err()
}

fn print(status: &Status, node: &Node) {
    let (green, yellow, red) =
        (AnsiColor::Green.on_default(), AnsiColor::Yellow.on_default(), AnsiColor::Red.on_default());
    data(&row("node", anstyle::Style::new(), &status.node, ""));
    if let Some(waiting) = &status.waiting {
        match &waiting.failure {
            None => data(&row("waits", yellow, "installation", &waiting.doing())),
            Some(failure) => data(&row("failed", red, "installation", &failure.message)),
        }
    }
    match &status.event_logs {
        _ if status.waiting.is_some() => {}
        Some(uri) if status.installed => data(&row("ok", green, "installed", &format!("event logs in {uri}"))),
        _ if status.gateway.is_some() => data(&row("ok", green, "installed", "the log gateway alone")),
        _ => data(&row("none", yellow, "not installed", "emr-shs plan --event-logs s3://…")),
    }
    if let Some(server) = status.server.as_ref().filter(|server| status.waiting.is_none() || server.unit.exists) {
        let directory = server.directory(&node.spark).unwrap_or_else(|| "no directory".into());
        match &server.answer {
            Some(answer) if status.event_logs.is_none() || status.server_reads_event_logs => {
                dataln!(
                    "{}",
                    row(
                        "ok",
                        green,
                        "history server",
                        &format!("Spark {} answers on port {}, reads {directory}", answer.version, server.port)
                    )
                );
            }
            Some(_) => dataln!(
                "{}",
                row("drift", red, "history server", &format!("answers on port {}, but reads {directory}", server.port))
            ),
            None => dataln!(
                "{}",
                row(
                    "down",
                    red,
                    "history server",
                    &format!("unit {}, nothing answers on port {}", server.unit.active, server.port)
                )
            ),
        }
    }
    if let Some(gateway) = &status.gateway {
        let (verb, style, text) = match &gateway.says {
            Some(says) if gateway.is_ready() => ("ok", green, format!("{says} on port {}", gateway.port)),
            Some(says) => ("down", red, format!("answers on port {}, but: {says}", gateway.port)),
            None => ("down", red, format!("unit {}, nothing answers on port {}", gateway.unit.active, gateway.port)),
        };
        data(&row(verb, style, "log gateway", &text));
    }
    if let Some(why) = &status.no_local_store {
        data(&row("none", yellow, "local store", why));
    }
    let mut drifted = 0;
    let is_waiting_unit = |r: &ResourceStatus| status.waiting.is_some() && r.name == DEFERRED_INSTALL_UNIT;
    for r in status.rows.iter().filter(|r| !is_waiting_unit(r)) {
        let (verb, style) = match r.condition {
            Condition::Ours => ("ok", green),
            Condition::Lost => ("lost", red),
            Condition::Changed => ("changed", yellow),
        };
        drifted += usize::from(r.condition != Condition::Ours);
        let text = if r.condition == Condition::Ours {
            r.found.clone()
        } else {
            format!("found {}, wanted {}", r.found, r.wanted)
        };
        data(&row(verb, style, &r.name, &text));
    }
    if drifted > 0 {
        dataln!(
            "\n{drifted} of {} are not as installed. What an install would do about it: emr-shs plan",
            status.rows.len()
        );
    }
    if let Some(gateway) = status.gateway.as_ref().filter(|gateway| gateway.is_ready()) {
        dataln!("\nOpen {} after:\n  {}", gateway.tunnel.url, gateway.tunnel.command);
    }
    if let Some(failure) = status.waiting.as_ref().and_then(|waiting| waiting.failure.as_ref()) {
        dataln!("\nThe installation failed: {}", failure.message);
        failure.details.iter().for_each(|line| dataln!("  {line}"));
        dataln!("hint: {}", failure.hint);
        dataln!("It is tried again at the next boot, or now: sudo emr-shs install");
        dataln!("All that it said: journalctl -u {DEFERRED_INSTALL_UNIT}");
    }
    if status.owes_restart {
        dataln!("\nThe history server has not been restarted since a change: emr-shs restart");
    }
}
