//! The log gateway as it is on this node: its unit, and whether it answers.

use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::http::agent;
use crate::paths::GATEWAY_UNIT;
use crate::settings::Settings;
use crate::systemd::{self, Unit};
use anyhow::Result;
use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// What a gateway says to whoever has not logged in.
const WANTS_LOGIN: &str = "answers, wants a login";

/// The log gateway.
#[derive(Debug, Serialize)]
pub struct LogGateway {
    /// Its unit.
    pub unit: Unit,
    /// Where it listens.
    pub port: u16,
    /// `ready`, or why it is not; `None` if nothing answers.
    pub says: Option<String>,
    /// How long its credentials are good for; `None` if they do not end or it does not tell.
    pub credentials_left: Option<Duration>,
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
        let base = format!("{scheme}://{}/-/", reachable(at));
        let get = |path: &str| agent(Duration::from_secs(2)).get(format!("{base}{path}")).call().ok();
        let says = get("readyz").and_then(|mut answer| {
            // Whoever may not see more is told so by the gateway itself.
            let login = answer.status() == 401;
            let text = answer.body_mut().read_to_string().ok()?;
            Some(if login { WANTS_LOGIN.into() } else { text.trim().into() })
        });
        let credentials_left = says.as_ref().and_then(|_| {
            let metrics = get("metrics")?.body_mut().read_to_string().ok()?;
            let left = metrics.lines().find_map(|l| l.strip_prefix("emr_shs_gateway_credentials_left_seconds "))?;
            left.parse().ok().map(Duration::from_secs)
        });
        let tunnel = Tunnel::of(&receipt.settings);
        let unit = systemd::show(GATEWAY_UNIT)?;
        Ok(Some(Self { unit, port: at.port(), says, credentials_left, tunnel }))
    }

    /// Whether it tells only who logs in.
    pub fn wants_login(&self) -> bool {
        self.says.as_deref() == Some(WANTS_LOGIN)
    }

    /// Whether logs open, as far as it tells.
    pub fn is_ready(&self) -> bool {
        matches!(self.says.as_deref(), Some("ready" | WANTS_LOGIN))
    }
}

/// A tunnel to the gateway, which is the history server, too.
#[derive(Debug, Serialize)]
pub struct Tunnel {
    /// What to type.
    pub command: String,
    /// What to open then.
    pub url: String,
}

impl Tunnel {
    /// To the gateway of a node that is set up so.
    pub fn of(settings: &Settings) -> Self {
        let (at, tls) = (settings.gateway.address(), settings.gateway.has_tls());
        let public = settings.cluster.as_ref().and_then(|cluster| cluster.public_dns.clone());
        let own = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_string());
        let node = public.or_else(|| own().ok()).unwrap_or("PRIMARY-NODE".into());
        let (port, scheme) = (at.port(), if tls { "https" } else { "http" });
        // What listens on one address is not on the node's loopback.
        let to = if at.ip().is_unspecified() { "localhost".into() } else { SocketAddr::new(at.ip(), 0).to_string() };
        let to = to.trim_end_matches(":0");
        Self {
            command: format!("ssh -L {port}:{to}:{port} hadoop@{node}"),
            url: format!("{scheme}://localhost:{port}"),
        }
    }
}

/// Where a listener on `at` is reached from this node itself.
pub fn reachable(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if *v6.ip() == Ipv6Addr::UNSPECIFIED => (Ipv4Addr::LOCALHOST, v6.port()).into(),
        at => at,
    }
}
