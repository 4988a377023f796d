//! The port that the log gateway takes from the history server: links of YARN and of EMR's console lead there, and the
//! gateway opens every application. The history server moves to the next port.

use super::gateway_unit::Socket;
use super::{Context, exactly, file_owner};
use crate::change::desired::Desired;
use crate::change::receipt::{Receipt, ReceiptEntry};
use crate::change::resource::{Resource, State};
use crate::error::Fault;
use crate::node::Node;
use crate::paths::{DEFAULT_HISTORY_PORT, HISTORY_PORT_KEY, TAKEN_PORT_SOCKET, UNIT_DIR};
use crate::settings::Settings;
use crate::shown::{Hint, hint};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// The two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TakenPort {
    /// The one that the history server had before emr-shs.
    pub(crate) of_gateway: u16,
    /// The one to which the history server moves.
    pub(crate) of_server: u16,
}

impl TakenPort {
    /// `None` if the settings leave the history server its port. The error names a port that cannot be one.
    pub(crate) fn of(node: &Node, receipt: &Receipt, settings: &Settings) -> Result<Option<Self>, Fault> {
        if !settings.take_port {
            return Ok(None);
        }
        let of_gateway = port_before(node, receipt);
        let without = Hint::from("leave the history server its port: --take-port=false");
        if of_gateway == 0 {
            return Err(Fault::preflight("--take-port cannot take the history server's port: it has no fixed one")
                .detail(format!("found {HISTORY_PORT_KEY} 0, with which each start chooses another port"))
                .unchanged()
                .hint(hint!("remove {} from spark-defaults.conf; or {}", HISTORY_PORT_KEY, without)));
        }
        let set = settings.set.get(HISTORY_PORT_KEY);
        let of_server = match set {
            Some(text) => node.spark.defaults.value(text).number::<u16>(),
            None => of_gateway.checked_add(1),
        };
        match of_server.filter(|port| *port != 0 && *port != of_gateway) {
            Some(of_server) => Ok(Some(Self { of_gateway, of_server })),
            None => Err(Fault::usage(match set {
                Some(set) => format!("--set {HISTORY_PORT_KEY}={set} is no port for the history server to move to"),
                None => format!("no port follows {of_gateway}, so the history server cannot move to the next one"),
            })
            .detail(format!(
                "with --take-port, the log gateway takes port {of_gateway}; wanted another port for the history server"
            ))
            .hint(hint!(
                "--set {}={}; or {}",
                HISTORY_PORT_KEY,
                of_gateway.checked_add(1).unwrap_or(of_gateway - 1),
                without
            ))),
        }
    }

    /// The keys that decide the history server's port after this run: those of `--set`, and what taking or giving back the
    /// port makes of them.
    pub(crate) fn keys_after(
        taken: Option<&Self>,
        node: &Node,
        receipt: &Receipt,
        settings: &Settings,
    ) -> BTreeMap<String, String> {
        let mut set = settings.set.clone();
        let port = match taken {
            Some(taken) => Some(taken.of_server),
            None => key_entry(receipt).map(|entry| port_without(node, receipt, entry)),
        };
        if let Some(port) = port {
            set.entry(HISTORY_PORT_KEY.into()).or_insert_with(|| port.to_string());
        }
        set
    }
}

/// The receipt's entry for `spark.history.ui.port`; `None` if emr-shs does not own the key.
fn key_entry(receipt: &Receipt) -> Option<&ReceiptEntry> {
    receipt.entries.iter().find(|entry| entry.resource.is_key(HISTORY_PORT_KEY))
}

/// The history server's port before emr-shs.
fn port_before(node: &Node, receipt: &Receipt) -> u16 {
    let defaults = &node.spark.defaults;
    let value = match key_entry(receipt) {
        Some(entry) => entry.before.value().map(|text| defaults.value(&text)),
        None => defaults.get(HISTORY_PORT_KEY).cloned(),
    };
    value.and_then(|value| value.number()).unwrap_or(DEFAULT_HISTORY_PORT)
}

/// The history server's port once emr-shs no longer sets the key: the port before emr-shs, unless somebody else has changed the key
/// since.
fn port_without(node: &Node, receipt: &Receipt, entry: &ReceiptEntry) -> u16 {
    let now = node.spark.defaults.get(HISTORY_PORT_KEY);
    let number = |state: &State| node.spark.defaults.value(&state.value()?).number::<u16>();
    let is_ours = entry.ours.iter().any(|ours| number(ours) == now.and_then(|now| now.number()));
    match now.and_then(|now| now.number()) {
        Some(port) if !is_ours => port,
        None if !is_ours => DEFAULT_HISTORY_PORT,
        _ => port_before(node, receipt),
    }
}

impl Context<'_> {
    /// The socket on the port, at the address of the gateway's own.
    pub(super) fn taken_port_socket(&self, own: SocketAddr) -> Vec<Desired> {
        let Some(taken) = self.taken else { return Vec::new() };
        let Some(Socket { text, listens }) = Socket::on_taken_port(SocketAddr::new(own.ip(), taken.of_gateway)) else {
            return Vec::new();
        };
        let path = Path::new(UNIT_DIR).join(TAKEN_PORT_SOCKET);
        let file = State::File { content: text, mode: 0o644, owner: file_owner(self.host) };
        let port = taken.of_gateway;
        vec![
            exactly(Resource::File { path }, file, &format!("port {port} as a second socket of the log gateway")),
            exactly(
                Resource::Unit { name: TAKEN_PORT_SOCKET.into() },
                State::Unit { enabled: true, runs: Some(listens) },
                &format!(
                    "port {port}, once the history server has left it: links of YARN and of the EMR console lead to the log gateway"
                ),
            ),
        ]
    }
}
