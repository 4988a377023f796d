//! What `--take-port` needs, checked before the first change: a history server that one key moves, and a port that nobody else
//! uses.

use super::prepare::Installation;
use crate::change::component::Component;
use crate::desired::taken_port::TakenPort;
use crate::doctor::facts::S3Observations;
use crate::error::Fault;
use crate::node::process;
use crate::paths::{GATEWAY_UNIT, HISTORY_PORT_KEY, TAKEN_PORT_SOCKET};
use crate::shown::{Hint, hint};
use crate::systemd::{self, SYSTEMD};
use anyhow::Result;
use std::collections::BTreeMap;

/// Keys that give the history server TLS.
const TLS: [&str; 2] = ["spark.ssl.historyServer.enabled", "spark.ssl.enabled"];

/// What to type instead.
const WITHOUT: &str = "leave the history server its port: --take-port=false";

impl Installation {
    /// The keys that decide the history server's port after this run.
    pub(crate) fn keys_after(&self) -> BTreeMap<String, String> {
        TakenPort::keys_after(self.taken.as_ref(), &self.node, &self.receipt, &self.settings)
    }

    /// Refuses to take a port from a history server that would not leave it, or that others would lose.
    pub(super) fn check_taken_port(&self) -> Result<()> {
        let Some(taken) = self.taken else { return Ok(()) };
        let concerned = [Component::Configure, Component::Gateway];
        if !concerned.iter().any(|component| self.components().contains(component)) {
            return Ok(());
        }
        self.moves_by_key(taken)?;
        self.belongs_to_server(taken.of_gateway)
    }

    fn moves_by_key(&self, taken: TakenPort) -> Result<(), Fault> {
        let s3 = S3Observations::default();
        let facts = self.facts_with(&s3, self.force);
        let mention = facts.feared_option(HISTORY_PORT_KEY, |_| true).filter(|_| !self.force);
        let option = match (mention, facts.system_property(HISTORY_PORT_KEY)) {
            (Some(mention), _) => Some(format!("in {}", mention.place)),
            (None, Some(value)) => {
                Some(format!("with the value {value}, in SPARK_HISTORY_OPTS or SPARK_DAEMON_JAVA_OPTS"))
            }
            (None, None) => None,
        };
        if let Some(place) = option {
            return Err(Fault::preflight(
                "--take-port cannot move the history server: an option of its JVM decides the port",
            )
            .detail(format!("found -D{HISTORY_PORT_KEY} {place}"))
            .detail("such an option wins over spark-defaults.conf, where emr-shs writes the new port")
            .unchanged()
            .hint(hint!(
                "write the port into spark-defaults.conf instead of -D{}; or {}",
                HISTORY_PORT_KEY,
                Hint::from(WITHOUT)
            )));
        }
        let has_tls = TLS.iter().find_map(|key| facts.effective(key)).and_then(|value| value.boolean()) == Some(true);
        if has_tls || self.node.server.as_ref().is_some_and(|server| server.https) {
            return Err(Fault::preflight("--take-port cannot take the port of a history server with TLS")
                .detail("such a server has two ports, one with TLS and one that redirects there; links lead to the one with TLS")
                .detail(format!("the log gateway would take port {}, the one that redirects", taken.of_gateway))
                .unchanged()
                .hint(WITHOUT));
        }
        Ok(())
    }

    /// Whether the port is the history server's, or the gateway's since an earlier run, or nobody's.
    fn belongs_to_server(&self, port: u16) -> Result<()> {
        let is_servers = self.node.server.as_ref().is_none_or(|server| server.listens_on(port));
        if is_servers && self.host.is_live() && !self.is_whole() && self.node.server.is_some() {
            return Err(Fault::preflight(format!(
                "the history server still has port {port}, which the log gateway is to take"
            ))
            .detail("the history server must restart on its new port first, and this command does not restart it")
            .unchanged()
            .hint("sudo emr-shs install")
            .into());
        }
        if is_servers || !self.host.is_live() {
            return Ok(());
        }
        // Only root sees whose the port is.
        let Some((other, pid)) = process::listener(port).and_then(|other| other.pid.map(|pid| (other, pid))) else {
            return Ok(());
        };
        // The gateway keeps the socket after systemd has closed its own.
        if systemd::show(GATEWAY_UNIT)?.main_pid == Some(pid) {
            return Ok(());
        }
        let socket = systemd::show(TAKEN_PORT_SOCKET)?.listens_on();
        if pid == SYSTEMD && socket.is_some_and(|address| address.port() == port) {
            return Ok(());
        }
        Err(Fault::preflight(format!("--take-port: another process than the history server listens on port {port}"))
            .detail(format!("found {}", other.description()))
            .unchanged()
            .hint(hint!("end that process, and type this command again; or {}", Hint::from(WITHOUT)))
            .into())
    }
}
