//! The log gateway that is installed on this node: its unit, and whether it answers.

use crate::change::receipt::Receipt;
use crate::change::resource::Resource;
use crate::host::Host;
use crate::http::{local_client, why_no_answer};
use crate::paths::{
    GATEWAY_ENVIRONMENT, GATEWAY_SOCKET, GATEWAY_TOKEN, GATEWAY_UNIT, LOG_LINK_KEY, SETTINGS_DIR, TAKEN_PORT_SOCKET,
};
use crate::settings::{GatewaySettings, Settings};
use crate::systemd::{self, Unit};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// What [`LogGateway::says`] is for a gateway that opens logs.
const READY: &str = "ready";
/// What [`LogGateway::says`] is for a gateway that wants a login.
const WANTS_LOGIN: &str = "answers, wants a login";
/// What `/-/readyz` answers while the gateway has no credentials.
const NO_CREDENTIALS: &str = "no credentials";

type Answer = ureq::http::Response<ureq::Body>;

/// The path that answers without a login as long as the gateway runs.
const HEALTH: &str = "/-/healthz";
/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a gateway that a question starts may take until it knows what S3 says.
const START_TIMEOUT: Duration = Duration::from_secs(8);

/// The log gateway.
#[derive(Debug, Serialize)]
pub(crate) struct LogGateway {
    pub unit: Unit,
    /// The unit that has the port.
    pub socket: Unit,
    pub port: u16,
    /// The port on which the gateway looks for the history server.
    #[serde(skip)]
    pub history_server_port: Option<u16>,
    /// The history server's port, while the gateway has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_port: Option<u16>,
    /// `ready`, or why the gateway is not ready; `None` if nothing answers.
    pub says: Option<String>,
    /// How long the gateway's credentials remain valid; `None` if they do not expire or the gateway does not tell.
    pub credentials_left: Option<Duration>,
    /// The role whose credentials the gateway has, if they come from the metadata service and the gateway tells.
    #[serde(skip)]
    pub role: Option<String>,
    /// Whether this process saw what lies behind the gateway's login.
    #[serde(skip)]
    passed_login: bool,
    /// The tunnel that brings the gateway to a browser.
    pub tunnel: Tunnel,
    /// The log URIs below which the gateway does not open all logs.
    pub log_uris: Vec<LogUriTrouble>,
    /// The ways on which a browser does not reach the gateway, each with the reason.
    pub closed_ways: Vec<String>,
    /// What the user limits or allows besides the defaults.
    pub serves: Vec<String>,
    /// The SHA-256 fingerprint of the certificate that the gateway has signed itself.
    pub fingerprint: Option<String>,
    /// `None` where the gateway keeps no index, or does not tell.
    pub index: Option<IndexStatus>,
}

/// As the gateway's settings name it.
fn history_server_port() -> Option<u16> {
    let settings = Host::this().read(&Path::new(SETTINGS_DIR).join(GATEWAY_ENVIRONMENT)).ok()??;
    let url = settings.lines().find_map(|line| line.strip_prefix("EMR_SHS_HISTORY_SERVER="))?;
    url.trim_matches(['"', '\'']).parse::<ureq::http::Uri>().ok()?.port_u16()
}

/// A log URI below which the gateway does not open all logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogUriTrouble {
    pub uri: String,
    pub why: String,
    /// Whether S3 has not answered yet, because the gateway has just started.
    #[serde(default, skip_serializing)]
    pub is_pending: bool,
}

/// How the gateway's index is, as `/-/index` tells it. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexStatus {
    /// Attempts of applications that the list shows.
    pub attempts: u64,
    /// Event logs that are not completely read yet.
    pub unread: u64,
    /// Event logs that show no application.
    pub unreadable: u64,
    /// When the last look began that reached all sources.
    pub looked: Option<i64>,
    /// When the last complete listing of all sources began.
    pub listed: Option<i64>,
    /// The sources that cannot be listed.
    pub failing: Vec<LogUriTrouble>,
}

/// Why the log gateway does not open logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing answers.
    Silent,
    /// The gateway answers, and says why it opens no logs.
    NotReady(String),
    /// Something answers on the port that does not belong to the unit.
    NotTheUnit,
    /// A browser does not reach the gateway in a way that the gateway is for.
    Closed(String),
    /// The gateway opens logs, but not below each of its log URIs.
    LogUris(Vec<LogUriTrouble>),
    /// The gateway does not list the applications of these places.
    Sources(Vec<LogUriTrouble>),
}

/// The first question of an observation that gets no answer in time is asked again, because on a busy node an answer is late now and
/// then. No other is, so a gateway that hangs costs one more timeout, and not one for each question.
#[derive(Default)]
struct SecondTry {
    is_used: Cell<bool>,
}

impl SecondTry {
    fn ask(&self, url: &str, header: Option<(&str, &str)>) -> Result<Answer, ureq::Error> {
        match get(url, header) {
            Err(ureq::Error::Timeout(_)) if !self.is_used.replace(true) => get(url, header),
            answer => answer,
        }
    }
}

fn get(url: &str, header: Option<(&str, &str)>) -> Result<Answer, ureq::Error> {
    let request = local_client(TIMEOUT).get(url);
    match header {
        Some((name, value)) => request.header(name, value).call(),
        None => request.call(),
    }
}

impl LogGateway {
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        match &self.says {
            None => Some(Trouble::Silent),
            Some(_) if self.unit.active != "active" => Some(Trouble::NotTheUnit),
            Some(says) if !self.is_ready() => Some(Trouble::NotReady(says.clone())),
            Some(_) => {
                let closed = self.closed_ways.first().cloned().map(Trouble::Closed);
                let log_uris = Some(&self.log_uris).filter(|troubles| !troubles.is_empty());
                let sources = self.index.as_ref().map(|index| &index.failing).filter(|troubles| !troubles.is_empty());
                closed
                    .or_else(|| log_uris.cloned().map(Trouble::LogUris))
                    .or_else(|| sources.cloned().map(Trouble::Sources))
            }
        }
    }

    /// Reads the unit of an installed gateway and asks the gateway itself. `None` if the receipt has no gateway.
    pub(crate) fn observe(receipt: &Receipt) -> Result<Option<Self>> {
        let (begun, second_try) = (Instant::now(), SecondTry::default());
        let mut found = Self::ask(receipt, &second_try)?;
        // systemd starts a stopped gateway for the first question, so the gateway does not know yet what S3 says.
        let was_started = |gateway: &Self| gateway.unit.active != "active" && gateway.socket.listens_on().is_some();
        if found.as_ref().is_some_and(was_started) {
            let has_to_wait =
                |gateway: &Self| was_started(gateway) || gateway.log_uris.iter().any(|uri| uri.is_pending);
            while begun.elapsed() < START_TIMEOUT && found.as_ref().is_some_and(has_to_wait) {
                thread::sleep(Duration::from_millis(200));
                found = Self::ask(receipt, &second_try)?;
            }
        }
        Ok(found)
    }

    fn ask(receipt: &Receipt, second_try: &SecondTry) -> Result<Option<Self>> {
        if !receipt.entries.iter().any(|e| e.resource.is_unit(GATEWAY_UNIT)) {
            return Ok(None);
        }
        let settings = &receipt.settings.gateway;
        let at = settings.address();
        let scheme = if settings.has_tls() { "https" } else { "http" };
        let base = format!("{scheme}://{}/-/", reachable(at));
        let unit = systemd::show(GATEWAY_UNIT)?;
        let socket = systemd::show(GATEWAY_SOCKET)?;
        let taken = match receipt.taken_port() {
            Some(_) => systemd::show(TAKEN_PORT_SOCKET)?.listens_on(),
            None => None,
        };
        // A server that does not belong to the unit must not get the token.
        let token = || Host::this().read(Path::new(GATEWAY_TOKEN)).ok().flatten().filter(|_| unit.active == "active");
        let token = token().map(|token| format!("Bearer {}", token.trim()));
        let token = token.as_deref();
        let ask = |path: &str, token: Option<&str>| {
            second_try.ask(&format!("{base}{path}"), token.map(|token| ("authorization", token))).ok()
        };
        let text = |mut answer: Answer| Some(answer.body_mut().read_to_string().ok()?.trim().to_string());
        // For root the gateway asks S3 for this, so what it says afterwards is how it is now.
        // This question has no second try: the gateway waits for S3 here.
        let log_uris = get(&format!("{base}log-uris"), token.map(|token| ("authorization", token))).ok();
        let log_uris = log_uris.filter(|answer| answer.status() == 200).and_then(text);
        let log_uris = log_uris.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        let (mut says, mut passed_login) = (None, false);
        if let Some(answer) = ask("readyz", None) {
            // Without a login the gateway tells nothing more than 401.
            let wants_login = answer.status() == 401;
            let behind = token.filter(|_| wants_login).and_then(|token| ask("readyz", Some(token)));
            let behind = behind.filter(|answer| answer.status() != 401);
            passed_login = behind.is_some();
            let is_ready = behind.as_ref().is_none_or(|answer| answer.status() == 200);
            says = if wants_login && is_ready {
                Some(WANTS_LOGIN.into())
            } else {
                let answer = behind.unwrap_or(answer);
                // `log_uris` names those that fail.
                if answer.status() == 200 { Some(READY.into()) } else { text(answer) }
            };
        }
        let login = token.filter(|_| passed_login);
        let metrics = says.as_ref().and_then(|_| text(ask("metrics", login)?));
        // The gateway has stopped answering, and each further question would take two seconds.
        if metrics.is_none() && unit.active == "active" {
            says = None;
        }
        let index = says.as_ref().filter(|_| receipt.settings.index).and_then(|_| ask("index", login));
        let index = index.filter(|answer| answer.status() == 200).and_then(text);
        let index = index.and_then(|json| serde_json::from_str(&json).ok());
        let metric = |name: &str| metrics.as_ref()?.lines().find_map(|line| line.strip_prefix(name));
        let credentials_left = metric("emr_shs_gateway_credentials_left_seconds ")
            .and_then(|left| left.parse().ok())
            .map(Duration::from_secs);
        let role = metric("emr_shs_gateway_credentials_info{role=\"").and_then(|rest| rest.split('"').next());
        let role = role.map(str::to_string);
        let fingerprint = metric("emr_shs_gateway_self_signed_certificate_info{sha256=\"");
        let fingerprint = fingerprint.and_then(|rest| rest.split('"').next()).filter(|text| is_fingerprint(text));
        let fingerprint = fingerprint.map(str::to_string);
        let tunnel = Tunnel::of(&receipt.settings);
        let closed_ways = if says.is_some() { closed_ways(receipt, second_try) } else { Vec::new() };
        let (port, serves) = (at.port(), settings.allowed());
        Ok(Some(Self {
            unit,
            socket,
            port,
            history_server_port: history_server_port(),
            taken_port: taken.map(|address| address.port()),
            says,
            credentials_left,
            role,
            passed_login,
            tunnel,
            log_uris,
            closed_ways,
            serves,
            fingerprint,
            index,
        }))
    }

    /// The ports on which the gateway answers, for people.
    pub(crate) fn ports(&self) -> String {
        match self.taken_port {
            Some(taken) => format!("ports {} and {taken}", self.port),
            None => format!("port {}", self.port),
        }
    }

    /// The state of a socket unit that does not listen: `inactive`, `failed`. `None` also where an earlier version installed a
    /// gateway that listens by itself.
    pub(crate) fn socket_that_fails(&self) -> Option<&str> {
        Some(self.socket.active.as_str()).filter(|active| self.socket.exists && *active != "active")
    }

    fn wants_login(&self) -> bool {
        self.says.as_deref() == Some(WANTS_LOGIN)
    }

    /// Whether the gateway wants a login, and told this process nothing else.
    pub(crate) fn is_behind_login(&self) -> bool {
        self.wants_login() && !self.passed_login
    }

    /// Whether the gateway cannot open logs because it has no credentials.
    pub(crate) fn lacks_credentials(&self) -> bool {
        self.says.as_deref() == Some(NO_CREDENTIALS)
    }

    /// Whether the gateway has just started, and has not yet got an answer from S3 about each log URI.
    pub(crate) fn is_starting(&self) -> bool {
        self.log_uris.iter().any(|trouble| trouble.is_pending)
    }

    /// Whether logs open, as far as the gateway tells.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.says.as_deref(), Some(READY | WANTS_LOGIN))
    }
}

/// Whether a text is hexadecimal digits with colons.
fn is_fingerprint(text: &str) -> bool {
    text.len() == 95 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
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
        let node = settings.public_name().map(str::to_string).or_else(|| Host::this().name());
        let scheme = if tls { "https" } else { "http" };
        Self {
            command: settings.gateway.tunnel_command(node.as_deref()),
            url: format!("{scheme}://localhost:{}", at.port()),
        }
    }
}

/// The names by which browsers address the gateway: through a tunnel, through SSH's SOCKS proxy or a VPN, and from
/// the Internet.
pub(crate) fn names(settings: &Settings) -> Vec<String> {
    let mut names = vec!["localhost".to_string()];
    let more = Host::this().name().into_iter().chain(settings.public_name().map(str::to_string));
    for name in more.chain(settings.gateway.host_names.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The ways on which a browser does not reach the gateway that answers on this node.
fn closed_ways(receipt: &Receipt, second_try: &SecondTry) -> Vec<String> {
    let settings = &receipt.settings;
    let port = settings.gateway.address().port();
    let authorities = names(settings).into_iter().map(|name| format!("{name}:{port}"));
    let refused = authorities.filter_map(|authority| why_refused(&settings.gateway, &authority, second_try));
    let link = receipt.entries.iter().find_map(|entry| match &entry.resource {
        Resource::Key { key, .. } if key == LOG_LINK_KEY => entry.ours.last()?.value(),
        _ => None,
    });
    refused.chain(link.and_then(|link| why_link_fails(&settings.gateway, &link))).collect()
}

/// Why the gateway does not answer a browser that addresses it in this way: `name:port`.
fn why_refused(gateway: &GatewaySettings, authority: &str, second_try: &SecondTry) -> Option<String> {
    let scheme = if gateway.has_tls() { "https" } else { "http" };
    let url = format!("{scheme}://{}{HEALTH}", reachable(gateway.address()));
    match second_try.ask(&url, Some(("host", authority))) {
        Ok(answer) if answer.status() == 421 => {
            Some(format!("the log gateway does not answer to the name {authority} (421)"))
        }
        Ok(answer) if answer.status() == 200 => None,
        Ok(answer) => Some(format!("the log gateway answers {} to a browser at {authority}", answer.status().as_u16())),
        Err(e) => Some(format!("the log gateway does not answer a browser at {authority}: {}", why_no_answer(&e))),
    }
}

/// Why a log link does not lead a browser to the gateway of this node. The link may be a pattern, because only its
/// beginning counts.
///
/// SSH's SOCKS proxy looks names up on this node, so a name that leads nowhere here leads nowhere for a browser. An
/// address that the user chose may belong to a server before the gateway, which this node need not reach.
pub(crate) fn why_link_fails(gateway: &GatewaySettings, link: &str) -> Option<String> {
    if link.starts_with('/') {
        return None;
    }
    let Some((scheme, authority)) = address_of(link) else {
        return Some(format!("log links begin with {link}, which is no URL of a server"));
    };
    if gateway.public_url.is_some() || gateway.address().ip().is_loopback() {
        return why_refused(gateway, authority, &SecondTry::default());
    }
    let shown = format!("{scheme}://{authority}");
    match local_client(TIMEOUT).get(format!("{shown}{HEALTH}")).call() {
        Ok(answer) if answer.status() == 421 => {
            Some(format!("log links lead to {shown}, and the log gateway does not answer to that name (421)"))
        }
        Ok(answer) if answer.status() == 200 => None,
        Ok(answer) => Some(format!("log links lead to {shown}, which answers {}", answer.status().as_u16())),
        Err(e) => Some(format!("log links lead to {shown}, which does not answer on this node: {}", why_no_answer(&e))),
    }
}

/// The scheme, and `host` or `host:port`, of an absolute URL for a browser.
pub(crate) fn address_of(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let parsed: ureq::http::uri::Authority = authority.parse().ok()?;
    let is_address = !parsed.host().is_empty() && !authority.contains('@');
    (matches!(scheme, "http" | "https") && is_address).then_some((scheme, authority))
}

/// The address at which this node itself reaches a listener on `at`.
pub(crate) fn reachable(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if *v6.ip() == Ipv6Addr::UNSPECIFIED => (Ipv4Addr::LOCALHOST, v6.port()).into(),
        at => at,
    }
}
