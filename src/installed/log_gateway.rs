//! The log gateway that is installed on this node: its unit, and whether it answers.

use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::host::Host;
use crate::http::local_client;
use crate::paths::GATEWAY_UNIT;
use crate::settings::Settings;
use crate::systemd::{self, Unit};
use anyhow::Result;
use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// What [`LogGateway::says`] is for a gateway that wants a login.
const WANTS_LOGIN: &str = "answers, wants a login";
/// What `/-/readyz` answers while the gateway has no credentials.
const NO_CREDENTIALS: &str = "no credentials";

/// The log gateway.
#[derive(Debug, Serialize)]
pub(crate) struct LogGateway {
    pub unit: Unit,
    pub port: u16,
    /// `ready`, or why the gateway is not ready; `None` if nothing answers.
    pub says: Option<String>,
    /// How long the gateway's credentials remain valid; `None` if they do not expire or the gateway does not tell.
    pub credentials_left: Option<Duration>,
    /// The tunnel that brings the gateway to a browser.
    pub tunnel: Tunnel,
}

impl LogGateway {
    /// Reads the unit of an installed gateway and asks the gateway itself. `None` if the receipt has no gateway.
    pub(crate) fn observe(receipt: &Receipt) -> Result<Option<Self>> {
        if !receipt.entries.iter().any(|e| matches!(&e.resource, Resource::Unit { name } if name == GATEWAY_UNIT)) {
            return Ok(None);
        }
        let settings = &receipt.settings.gateway;
        let at = settings.address();
        let scheme = if settings.has_tls() { "https" } else { "http" };
        let base = format!("{scheme}://{}/-/", reachable(at));
        let get = |path: &str| local_client(Duration::from_secs(2)).get(format!("{base}{path}")).call().ok();
        let says = get("readyz").and_then(|mut answer| {
            // Without a login the gateway tells nothing more than 401.
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

    pub(crate) fn wants_login(&self) -> bool {
        self.says.as_deref() == Some(WANTS_LOGIN)
    }

    /// Whether the gateway cannot open logs because it has no credentials.
    pub(crate) fn lacks_credentials(&self) -> bool {
        self.says.as_deref() == Some(NO_CREDENTIALS)
    }

    /// Whether logs open, as far as the gateway tells.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.says.as_deref(), Some("ready" | WANTS_LOGIN))
    }
}

/// A tunnel to the gateway. The gateway passes on the history server's pages too.
#[derive(Debug, Serialize)]
pub(crate) struct Tunnel {
    /// What to type on one's own machine.
    pub command: String,
    /// What to open in the browser then.
    pub url: String,
}

impl Tunnel {
    pub(crate) fn of(settings: &Settings) -> Self {
        let (at, tls) = (settings.gateway.address(), settings.gateway.has_tls());
        let public = settings.cluster.as_ref().and_then(|cluster| cluster.public_dns.clone());
        let node = public.or_else(|| Host::this().name());
        let scheme = if tls { "https" } else { "http" };
        Self {
            command: settings.gateway.tunnel_command(node.as_deref()),
            url: format!("{scheme}://localhost:{}", at.port()),
        }
    }
}

/// The address at which this node itself reaches a listener on `at`.
pub(crate) fn reachable(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if *v6.ip() == Ipv6Addr::UNSPECIFIED => (Ipv4Addr::LOCALHOST, v6.port()).into(),
        at => at,
    }
}
