//! The log gateway as it is on this node: its unit, and whether it answers.

use super::history_server::agent;
use crate::receipt::Receipt;
use crate::report::Tunnel;
use crate::resource::{GATEWAY_UNIT, Resource};
use crate::systemd::{self, Unit};
use anyhow::Result;
use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The log gateway.
#[derive(Debug, Serialize)]
pub struct LogGateway {
    /// Its unit.
    pub unit: Unit,
    /// Where it listens.
    pub port: u16,
    /// `ready`, or why it is not; `None` if nothing answers.
    pub says: Option<String>,
    /// The tunnel that brings it to a browser.
    pub tunnel: Tunnel,
}

impl LogGateway {
    /// Looks at the gateway that the receipt knows of; `None` if there is none.
    pub fn observe(receipt: &Receipt) -> Result<Option<Self>> {
        if !receipt.entries.iter().any(|e| matches!(&e.resource, Resource::Unit { name } if name == GATEWAY_UNIT)) {
            return Ok(None);
        }
        let settings = &receipt.settings.gateway;
        let at = settings.address();
        let scheme = if settings.has_tls() { "https" } else { "http" };
        let url = format!("{scheme}://{}/-/readyz", reachable(at));
        let says = agent(Duration::from_secs(2)).get(&url).call().ok().and_then(|mut answer| {
            // Whoever may not see more is told so by the gateway itself.
            let login = answer.status() == 401;
            let text = answer.body_mut().read_to_string().ok()?;
            Some(if login { "ready, wants a login".into() } else { text.trim().into() })
        });
        let tunnel = Tunnel::new(at.port(), settings.has_tls(), &receipt.settings);
        Ok(Some(Self { unit: systemd::show(GATEWAY_UNIT)?, port: at.port(), says, tunnel }))
    }

    /// Whether logs open.
    pub fn is_ready(&self) -> bool {
        self.says.as_deref().is_some_and(|says| says.starts_with("ready"))
    }
}

/// Where a listener on `at` is reached from this node itself.
fn reachable(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if *v6.ip() == Ipv6Addr::UNSPECIFIED => (Ipv4Addr::LOCALHOST, v6.port()).into(),
        at => at,
    }
}
