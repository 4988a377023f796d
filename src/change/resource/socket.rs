//! Socket units. systemd listens, and hands the listening socket to the service of the same name whenever that starts.

use super::State;
use crate::node::process;
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
    let Some(address) = listens else { return systemd::switch(name, enabled, false) };
    // Otherwise systemd would tell the address that the unit's file named before.
    systemd::read_unit_files()?;
    let unit = systemd::show(name)?;
    if unit.enabled != enabled {
        systemd::enable(&[name], enabled)?;
    }
    if matches!(state_of(&unit), State::Unit { runs: Some(now), .. } if now == *address) {
        return Ok(());
    }
    systemd::listen(&unit, name)
}
