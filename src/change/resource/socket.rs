//! Socket units of the log gateway. systemd listens, and hands the listening sockets to the gateway whenever that starts.

use super::State;
use crate::node::process;
use crate::paths::{GATEWAY_UNIT, TAKEN_PORT_SOCKET};
use crate::systemd::{self, Unit};
use anyhow::Result;

pub(super) fn observe(name: &str) -> Result<State> {
    Ok(state_of(&systemd::show(name)?))
}

fn state_of(unit: &Unit) -> State {
    let address = unit.listens_on().filter(|address| {
        // A unit whose address has changed since its start is active and has no socket.
        process::has_systemd_listening(address.port()).unwrap_or(true)
    });
    State::Unit { enabled: unit.enabled, runs: address.map(|address| address.to_string()) }
}

/// Enables or disables a socket unit, and makes systemd listen on the address in the unit's file, or listen no more.
pub(super) fn switch(name: &str, enabled: bool, listens: Option<&String>) -> Result<()> {
    let Some(address) = listens else {
        systemd::switch(name, enabled, false)?;
        let service = systemd::show(GATEWAY_UNIT)?;
        // The service keeps the taken port as long as it runs, so it stops. The next connection to the gateway's own port starts it
        // again. A start here would run `proxy prepare-cache`, which makes directories before this run makes them.
        let holds = name == TAKEN_PORT_SOCKET && service.main_pid.is_some();
        return if holds { systemd::stop(GATEWAY_UNIT) } else { Ok(()) };
    };
    // Otherwise systemd would tell the address that the unit's file named before.
    systemd::read_unit_files()?;
    let unit = systemd::show(name)?;
    if unit.enabled != enabled {
        systemd::enable(&[name], enabled)?;
    }
    if matches!(state_of(&unit), State::Unit { runs: Some(now), .. } if now == *address) {
        return Ok(());
    }
    systemd::listen(&unit, name, GATEWAY_UNIT)
}
