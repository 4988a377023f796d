//! `status`: what is installed, what has drifted, and whether the history server and the log gateway answer.

use super::{host, node_name};
use crate::change::receipt::{Part, Receipt};
use crate::desired::local_store;
use crate::error::Exit;
use crate::host::Host;
use crate::installed::deferred_install::DeferredInstall;
use crate::installed::drift::{self, Condition, ResourceStatus};
use crate::installed::log_gateway::{LogGateway, Trouble};
use crate::installed::shortfall::{Present, Shortfall, Subject, closed_hint, shortfalls};
use crate::node::Node;
use crate::node::history_server::{HistoryServer, Readiness};
use crate::paths::DEFERRED_INSTALL_UNIT;
use crate::ui::{Console, data, dataln, missing_row, row};
use anstyle::{AnsiColor, Style};
use anyhow::{Result, anyhow};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default();

#[derive(Serialize)]
struct Status {
    node: String,
    installed: bool,
    event_logs: Option<String>,
    /// The further sources of the index.
    further_event_logs: Vec<String>,
    /// The installation that waits until EMR has provisioned the node.
    waiting: Option<DeferredInstall>,
    owes_restart: bool,
    /// Why the history server has no local store. Without one it reads every event log again at each start.
    no_local_store: Option<String>,
    /// What was wanted and is missing.
    missing: Vec<Shortfall>,
    server: Option<HistoryServer>,
    server_reads_event_logs: bool,
    gateway: Option<LogGateway>,
    rows: Vec<ResourceStatus>,
    /// What a later version of emr-shs made, and this one does not know.
    unknown: Vec<Unknown>,
}

/// An entry of the receipt that this version does not know.
#[derive(Serialize)]
struct Unknown {
    kind: String,
    name: Option<String>,
    /// The version that wrote the receipt.
    written_by: String,
}

/// How many times `status` begins again because another run wrote the receipt meanwhile. Then it shows what it has.
const MAX_RESTARTS: usize = 3;

/// The exit code says only whether the status could be found out.
pub(crate) fn run(root: &Path, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let mut receipt = Receipt::load(&host)?;
    let (mut status, mut node) = Status::observe(&host, &receipt)?;
    for _ in 0..MAX_RESTARTS {
        let later = Receipt::load(&host)?;
        if later == receipt {
            break;
        }
        receipt = later;
        (status, node) = Status::observe(&host, &receipt)?;
    }
    if console.is_json() {
        console.data("status", &status);
    } else {
        status.print(&node, console.is_verbose());
    }
    Ok(Exit::Done)
}

fn unknown(receipt: &Receipt) -> Vec<Unknown> {
    let entry = |(kind, name): (&str, Option<&str>)| Unknown {
        kind: kind.into(),
        name: name.map(str::to_string),
        written_by: receipt.written_by.clone(),
    };
    receipt.unknown_entries().map(entry).collect()
}

fn no_local_store(host: &Host, node: &Node, receipt: &Receipt) -> Option<String> {
    if receipt.is_empty() || local_store::is_managed(receipt) {
        return None;
    }
    let reads = receipt.history_directory();
    let choice = local_store::choose(host, node, receipt, &receipt.settings, reads.as_deref());
    choice.err().map(|why| why.to_string())
}

impl Status {
    fn observe(host: &Host, receipt: &Receipt) -> Result<(Self, Node)> {
        // Both at the same time, because each may hang.
        let (node, gateway) = std::thread::scope(|scope| {
            let gateway = scope.spawn(|| LogGateway::observe(receipt));
            (Node::observe(host, &|path| receipt.created_link(path)), gateway.join())
        });
        let (node, gateway) = (node?, gateway.map_err(|_| anyhow!("the thread that asks the log gateway died"))??);
        let rows = drift::compare(host, receipt);
        let waiting = DeferredInstall::observe(host, receipt)?;
        let event_logs = receipt.settings.event_logs.as_ref().map(ToString::to_string);
        let readiness = Readiness { directory: receipt.history_directory(), class_path: None };
        let present = Present {
            resources: &rows,
            gateway: gateway.as_ref(),
            deferred_install: waiting.as_ref(),
            server: node.server.as_ref(),
        };
        let mut missing = shortfalls(receipt, &present);
        let no_local_store = if waiting.is_none() { no_local_store(host, &node, receipt) } else { None };
        // The reason may have changed since the last run.
        let store = missing.iter_mut().find(|shortfall| shortfall.subject == Subject::Part(Part::LocalStore));
        if let (Some(store), Some(why)) = (store, &no_local_store) {
            store.found.clone_from(why);
        }
        let status = Self {
            node: node_name(&node),
            installed: !receipt.is_empty() && waiting.is_none(),
            no_local_store,
            missing,
            waiting,
            owes_restart: receipt.owes_restart,
            server_reads_event_logs: event_logs.is_some()
                && node.server.as_ref().is_some_and(|s| s.is_ready(&readiness)),
            event_logs,
            further_event_logs: receipt.settings.further_event_logs.iter().map(ToString::to_string).collect(),
            server: node.server.clone(),
            gateway,
            rows,
            unknown: unknown(receipt),
        };
        Ok((status, node))
    }

    fn print(&self, node: &Node, verbose: bool) {
        data(&row("node", Style::new(), &self.node, ""));
        self.print_installation();
        if let Some(server) = self.server.as_ref().filter(|server| self.waiting.is_none() || server.unit.exists) {
            self.print_server(server, node);
        }
        if let Some(gateway) = &self.gateway {
            print_gateway(gateway);
        }
        for shortfall in self.missing.iter().filter(|shortfall| self.is_told_nowhere_else(shortfall)) {
            data(missing_row(shortfall).trim_end());
        }
        let is_missing = self.missing.iter().any(|shortfall| shortfall.subject == Subject::Part(Part::LocalStore));
        if let Some(why) = self.no_local_store.as_ref().filter(|_| !is_missing) {
            data(&row("none", YELLOW, "local store", why));
        }
        self.print_resources(verbose);
        for Unknown { kind, name, written_by } in &self.unknown {
            let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            let text = format!("this version does not know it and leaves it alone; {written_by} wrote the receipt");
            data(&row("unknown", YELLOW, &format!("{kind}{name}"), &text));
        }
        self.print_next_steps();
    }

    fn unfinished_uninstall(&self) -> Option<&Shortfall> {
        self.missing.iter().find(|shortfall| shortfall.subject == Subject::Uninstall)
    }

    /// Resources, the gateway and the deferred installation have rows of their own.
    fn is_told_nowhere_else(&self, shortfall: &Shortfall) -> bool {
        match shortfall.subject {
            Subject::Part(_) | Subject::Overridden | Subject::Elsewhere => true,
            Subject::Resource(_) | Subject::Gateway | Subject::DeferredInstall | Subject::Uninstall => false,
        }
    }

    fn print_installation(&self) {
        if let Some(waiting) = &self.waiting {
            return match &waiting.failure {
                None => data(&row("waits", YELLOW, "installation", &waiting.status())),
                Some(failure) => data(&row("failed", RED, "installation", &failure.message)),
            };
        }
        if let Some(unfinished) = self.unfinished_uninstall() {
            let text = format!("{}: {}", unfinished.found, unfinished.hint);
            return data(&row("part", RED, "uninstall", &text));
        }
        match &self.event_logs {
            Some(uri) if self.installed && self.missing.is_empty() => {
                let all: Vec<&str> =
                    [uri.as_str()].into_iter().chain(self.further_event_logs.iter().map(String::as_str)).collect();
                data(&row("ok", GREEN, "installed", &format!("event logs in {}", all.join(" and "))));
            }
            Some(uri) if self.installed => {
                data(&row("part", RED, "installed", &format!("event logs in {uri}; not all that was wanted is there")));
            }
            _ if self.gateway.is_some() => data(&row("ok", GREEN, "installed", "the log gateway alone")),
            _ => data(&row("none", YELLOW, "not installed", "sudo emr-shs plan --event-logs s3://…")),
        }
    }

    fn print_server(&self, server: &HistoryServer, node: &Node) {
        let port = server.port;
        let directory = server.directory(&node.spark).unwrap_or_else(|| "no directory".into());
        let (verb, style, text) = match &server.answer {
            None if let Some(barrier) = &server.barrier => {
                ("hidden", YELLOW, format!("it runs, but port {port} {barrier}; configured for {directory}"))
            }
            Some(answer) if self.event_logs.is_none() || self.server_reads_event_logs => {
                ("ok", GREEN, format!("Spark {} answers on port {port}, reads {directory}", answer.version))
            }
            Some(_) => ("drift", RED, format!("answers on port {port}, but reads {directory}")),
            None => ("down", RED, format!("unit {}, its server does not answer on port {port}", server.unit.active)),
        };
        data(&row(verb, style, "history server", &text));
        for other in &server.others {
            data(&row("other", YELLOW, "history server", &format!("{}, left alone", other.description())));
        }
    }

    /// Counts the resources that are as installed; `-v` lists them. Lists the others always, except a stopped unit of the
    /// gateway: the gateway's own row tells what that means.
    fn print_resources(&self, verbose: bool) {
        let is_own_unit = |r: &ResourceStatus| self.waiting.is_some() && r.name == DEFERRED_INSTALL_UNIT;
        let rows: Vec<&ResourceStatus> = self.rows.iter().filter(|r| !is_own_unit(r)).collect();
        let is_told = |r: &ResourceStatus| r.is_told_by(self.gateway.as_ref());
        let has_drifted = |r: &ResourceStatus| r.condition != Condition::Ours && !is_told(r);
        let drifted = rows.iter().filter(|r| has_drifted(r)).count();
        let ours = rows.iter().filter(|r| r.condition == Condition::Ours).count();
        let is_unfinished = self.unfinished_uninstall().is_some();
        if !verbose && ours > 0 {
            let (verb, style, text) = match ours {
                n if is_unfinished => ("left", YELLOW, format!("{n} still as installed; -v lists them")),
                n if n == rows.len() => ("ok", GREEN, format!("all {n} as installed; -v lists them")),
                n => ("ok", GREEN, format!("{n} as installed; -v lists them")),
            };
            data(&row(verb, style, "files, keys and units", &text));
        }
        for r in rows.iter().filter(|r| verbose || has_drifted(r)) {
            let (verb, style, text) = match r.condition {
                _ if is_told(r) => ("stopped", YELLOW, r.found.clone()),
                Condition::Ours => ("ok", GREEN, r.found.clone()),
                Condition::Lost => ("lost", RED, r.differs.clone()),
                Condition::Changed => ("changed", RED, r.differs.clone()),
            };
            data(&row(verb, style, &r.name, &text));
        }
        if drifted > 0 && !is_unfinished {
            dataln!(
                "\n{drifted} of {} are not as installed. To see what an install would change: sudo emr-shs plan",
                self.rows.len()
            );
        }
    }

    fn print_next_steps(&self) {
        if let Some(gateway) = self.gateway.as_ref().filter(|gateway| gateway.is_ready()) {
            dataln!("\nOpen {} after:\n  {}", gateway.tunnel.url, gateway.tunnel.command);
        }
        if let Some(failure) = self.waiting.as_ref().and_then(|waiting| waiting.failure.as_ref()) {
            dataln!("\nThe installation failed: {}", failure.message);
            failure.details.iter().for_each(|line| dataln!("  {line}"));
            dataln!("hint: {}", failure.hint);
            dataln!("It is tried again at the next boot. To try it now: sudo emr-shs install");
            dataln!("Its whole output: sudo journalctl -u {DEFERRED_INSTALL_UNIT}");
        }
        if self.owes_restart {
            dataln!("\nThe history server has not restarted since a change. To restart it: sudo emr-shs restart");
        }
    }
}

fn print_gateway(gateway: &LogGateway) {
    let (port, active) = (gateway.port, &gateway.unit.active);
    let (verb, style, text) = match gateway.trouble() {
        None => ("ok", GREEN, format!("{} on {}", gateway.says.as_deref().unwrap_or_default(), gateway.ports())),
        Some(Trouble::Silent) => ("down", RED, format!("unit {active}, nothing answers on port {port}")),
        Some(Trouble::NotReady(says)) => ("down", RED, format!("answers on port {port}, but: {says}")),
        Some(Trouble::NotTheUnit) => ("down", RED, format!("unit {active}, something else answers on port {port}")),
        Some(Trouble::LogUris(troubles)) => {
            let told: Vec<String> = troubles.iter().map(|t| format!("{}: {}", t.uri, t.why)).collect();
            (
                "partly",
                RED,
                format!("answers on port {port}, but does not open all logs below {}", told.join("; below ")),
            )
        }
        Some(Trouble::Sources(troubles)) => {
            let told: Vec<String> = troubles.iter().map(|t| format!("{}: {}", t.uri, t.why)).collect();
            let told = told.join("; below ");
            ("partly", RED, format!("answers on port {port}, but does not list the applications below {told}"))
        }
        Some(Trouble::Closed(why)) => ("closed", RED, format!("{why}; {}", closed_hint())),
    };
    data(&row(verb, style, "log gateway", &text));
    if let Some(index) = &gateway.index {
        let mut text = format!("{} attempts of applications", index.attempts);
        if index.unread > 0 {
            text += &format!(", {} event logs are not completely read yet", index.unread);
        }
        if index.unreadable > 0 {
            text += &format!(", {} event logs show no application", index.unreadable);
        }
        let looked =
            index.looked.and_then(|time| u64::try_from(time).ok()).map(|time| UNIX_EPOCH + Duration::from_millis(time));
        match looked.and_then(|time| SystemTime::now().duration_since(time).ok()) {
            Some(age) => text += &format!("; looked for new ones {} s ago", age.as_secs()),
            None => text += "; the first look has not ended",
        }
        data(&row("lists", Style::new(), "index", &text));
    }
    if let Some(fingerprint) = &gateway.fingerprint {
        data(&row("tls", Style::new(), "log gateway", &format!("self-signed certificate, SHA-256 {fingerprint}")));
    }
    if !gateway.serves.is_empty() {
        data(&row("serves", Style::new(), "log gateway", &gateway.serves.join("; ")));
    }
}
