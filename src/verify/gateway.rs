//! Asking the log gateway for a log, as a browser does.

use super::synthetic::SyntheticApplication;
use super::{TIMEOUT, stderr_link_in};
use crate::aws::proxies::{Proxies, ProxyUrl};
use crate::error::Fault;
use crate::host::Host;
use crate::http::{local_client, remote_client, why_no_answer};
use crate::installed::log_gateway::{self, reachable};
use crate::installed::shortfall::closed_hint;
use crate::paths::{GATEWAY_SOCKET, GATEWAY_TOKEN, GATEWAY_UNIT};
use crate::settings::{Mode, Settings};
use crate::shown::{Hint, hint};
use crate::systemd;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

/// An answer of the gateway: a redirect, or the log itself.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) location: Option<String>,
    format: Format,
    body: Vec<u8>,
}

/// What the headers say of a body.
#[derive(Default)]
struct Format {
    content_type: String,
    is_gzip: bool,
}

impl Format {
    fn of<B>(answer: &ureq::http::Response<B>) -> Self {
        let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
        Self { content_type: header("content-type"), is_gzip: header("content-encoding") == "gzip" }
    }
}

/// Follows links to the gateway as browsers do.
pub(super) struct Browser<'a> {
    settings: &'a Settings,
    /// The value of the header that logs in: as a user, else as root.
    authorization: Option<String>,
    /// Whether that is a user's login.
    has_login: bool,
}

impl<'a> Browser<'a> {
    /// `login` is `name:password`.
    pub(super) fn new(host: &Host, settings: &'a Settings, login: Option<&str>) -> Self {
        let token =
            || host.read(Path::new(GATEWAY_TOKEN)).ok().flatten().map(|token| format!("Bearer {}", token.trim()));
        let authorization = login.map(|login| format!("Basic {}", STANDARD.encode(login))).or_else(token);
        Self { settings, authorization, has_login: login.is_some() }
    }

    /// Opens a log link of the history server's page, exactly as the page shows it. A page of the gateway has
    /// relative links; so has one of the history server with `--public-url /`.
    pub(super) fn follow(&self, link: &str) -> Result<Answer, Fault> {
        let gateway = &self.settings.gateway;
        if let Some(path) = link.strip_prefix('/') {
            return self.ask(&format!("localhost:{}", gateway.address().port()), &format!("/{path}"));
        }
        if let Some(why) = log_gateway::why_link_fails(gateway, link) {
            return Err(Fault::failed("a browser that follows the log link does not reach the log gateway")
                .detail(why)
                .detail(format!("the link is {link}"))
                .hint(closed_hint()));
        }
        let (_, authority) = log_gateway::address_of(link).unwrap_or_default();
        let path = link.split_once(authority).map_or("/", |(_, path)| path);
        // A name leads where others say. So the login goes to this node's own address, under the link's name.
        self.ask(authority, path)
    }

    /// Opens the log as users of each further way do: they open the executors' page through the gateway, under the
    /// name that the way has, and follow the link in it. Returns the ways.
    pub(super) fn try_every_way(&self, synthetic: &SyntheticApplication, link: &str) -> Result<Vec<String>, Fault> {
        let port = self.settings.gateway.address().port();
        let ways: Vec<String> =
            log_gateway::names(self.settings).into_iter().map(|name| format!("{name}:{port}")).collect();
        for authority in &ways {
            let path = format!("/api/v1/applications/{}/allexecutors", synthetic.id());
            let page = self.ask(authority, &path)?;
            let shown = serde_json::from_slice(&page.body).ok().and_then(|json| stderr_link_in(&json));
            // Spark before 3.0 has no links to the gateway.
            let begin = format!("{}/logs/", self.settings.gateway.base_path());
            let shown = shown.filter(|_| !link.starts_with(&begin));
            match shown.as_deref() {
                Some(shown) if shown.starts_with(&begin) => drop(self.ask(authority, shown)?),
                Some(shown) => {
                    return Err(Fault::failed(format!(
                        "the page of executors at {authority} has a log link that leads away from there"
                    ))
                    .detail(format!("found {shown}, wanted a link that begins with {begin}"))
                    .hint("sudo emr-shs proxy install; then: sudo emr-shs restart"));
                }
                None => {}
            }
        }
        Ok(ways)
    }

    /// The gateway's answer to a program, as JSON.
    pub(super) fn json(&self, path: &str) -> Result<serde_json::Value, Fault> {
        self.json_at(self.settings.gateway.address(), path)
    }

    /// The same on another address of the gateway.
    pub(super) fn json_at(&self, at: SocketAddr, path: &str) -> Result<serde_json::Value, Fault> {
        let authority = format!("localhost:{}", at.port());
        let answer = self.ask_at(at, &authority, &format!("{}{path}", self.settings.gateway.base_path()))?;
        serde_json::from_slice(&answer.body)
            .map_err(|e| Fault::failed(format!("the log gateway does not answer {path} with JSON: {e}")))
    }

    /// Asks the gateway for a path as a browser does that addresses it as `host:port`, by whatever way its request
    /// arrives here.
    fn ask(&self, authority: &str, path: &str) -> Result<Answer, Fault> {
        self.ask_at(self.settings.gateway.address(), authority, path)
    }

    fn ask_at(&self, at: SocketAddr, authority: &str, path: &str) -> Result<Answer, Fault> {
        let scheme = if self.settings.gateway.has_tls() { "https" } else { "http" };
        let url = format!("{scheme}://{}{path}", reachable(at));
        read(self.get(&url).header("host", authority), &format!("{url} (Host: {authority})"), self.has_login)
    }

    fn get(&self, url: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        let request = local_client(TIMEOUT).get(url).header("accept-encoding", "identity");
        // Without a unit that has the port, any account of this node can listen there, and would get a password.
        let has_port =
            |unit| systemd::show(unit).is_ok_and(|unit| !["inactive", "failed"].contains(&unit.active.as_str()));
        let is_gateways = || [GATEWAY_UNIT, GATEWAY_SOCKET].into_iter().any(has_port);
        match self.authorization.as_ref().filter(|_| is_gateways()) {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }
}

/// Sends a request to the gateway, and reads the answer.
fn read(
    request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    shown: &str,
    has_login: bool,
) -> Result<Answer, Fault> {
    let failed = |message: String| Fault::failed(message).detail(format!("asked {shown}"));
    let mut answer = request.call().map_err(|e| {
        failed(format!("the log gateway does not answer: {}", why_no_answer(&e))).hint(hint!(
            "sudo systemctl restart {}; if it stops again: sudo journalctl -u {} -n 20",
            GATEWAY_UNIT,
            GATEWAY_UNIT
        ))
    })?;
    let status = answer.status().as_u16();
    let location = answer.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_string);
    let format = Format::of(&answer);
    let body = answer.body_mut().read_to_vec().unwrap_or_default();
    match (status, &location) {
        (302, Some(_)) | (200, None) => Ok(Answer { location, format, body }),
        (401, _) => {
            let fault = failed("the log gateway requires a login".into());
            Err(match has_login {
                true => fault
                    .detail("the gateway refuses the login in EMR_SHS_LOGIN")
                    .hint("without a login, because root needs none: sudo emr-shs verify"),
                false => fault
                    .detail(format!("root needs none, but {GATEWAY_TOKEN} does not contain the gateway's token"))
                    .hint(hint!("sudo systemctl restart {}; then: sudo emr-shs verify", GATEWAY_UNIT)),
            })
        }
        _ => {
            let page = String::from_utf8_lossy(&body).into_owned();
            let heading = page.split("<h1>").nth(1).and_then(|rest| rest.split("</h1>").next()).unwrap_or_default();
            Err(failed(format!("the log gateway answers {status}: {heading}"))
                .hint(hint!("sudo emr-shs doctor; what the gateway says: sudo journalctl -u {} -n 20", GATEWAY_UNIT)))
        }
    }
}

/// What to type where something between the browser and S3 changes a log.
const STREAM: &str =
    "let logs pass through the log gateway: sudo emr-shs proxy install --mode stream; then: sudo emr-shs verify";

/// What to type where another log arrives than the one that was written.
pub(super) fn hint_for_changed_log(settings: &Settings) -> Hint {
    match settings.gateway.mode {
        Some(Mode::Stream) => hint!("read what the gateway says: sudo journalctl -u {} -n 20", GATEWAY_UNIT),
        _ => STREAM.into(),
    }
}

/// The text that a browser shows for an answer. It follows a redirect, through a proxy if requests to S3 need one.
pub(super) fn log_as_browser_shows_it(answer: &mut Answer, proxies: &Proxies) -> Result<Vec<u8>, Fault> {
    match &answer.location {
        Some(location) => fetch(location, proxies),
        None => decode(std::mem::take(&mut answer.body), &answer.format),
    }
}

/// The log at a presigned URL.
fn fetch(location: &str, proxies: &Proxies) -> Result<Vec<u8>, Fault> {
    // The query contains the signature, which must not be printed.
    let shown = location.split('?').next().unwrap_or_default();
    let failed = |message: String| Fault::failed(message).detail(format!("asked {shown}"));
    let mut answer = remote_client(TIMEOUT, proxies.proxy_for(location).map(ProxyUrl::secret))
        .get(location)
        .header("accept-encoding", "identity")
        .call()
        .map_err(|e| {
            failed(format!("S3 does not answer to the presigned URL: {}", why_no_answer(&e)))
                .hint(hint!("see whether this node reaches S3: curl -sSI {}", shown))
        })?;
    let status = answer.status().as_u16();
    let format = Format::of(&answer);
    let body = answer.body_mut().read_to_vec().unwrap_or_default();
    if status == 200 {
        return decode(body, &format);
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    let element = |tag: &str| text.split(&format!("<{tag}>")).nth(1)?.split("</").next().map(str::to_string);
    let (code, message) = (element("Code").unwrap_or_default(), element("Message").unwrap_or_default());
    let fault = failed(format!("S3 answers {status} to the presigned URL")).detail(format!("{code} {message}"));
    // A bucket's policy can refuse presigned URLs alone (`docs/emr.md §9.2`).
    Err(match status {
        403 => fault.hint("if the bucket's policy refuses presigned URLs: sudo emr-shs proxy install --mode stream"),
        _ => fault.hint(
            "sudo emr-shs doctor; to let logs pass through the gateway: sudo emr-shs proxy install --mode stream",
        ),
    })
}

fn decode(body: Vec<u8>, format: &Format) -> Result<Vec<u8>, Fault> {
    if !format.content_type.starts_with("text/plain") {
        return Err(Fault::failed("a browser would save the log as a file instead of showing it")
            .detail(format!("found the type “{}”, wanted text/plain", format.content_type))
            .hint(STREAM));
    }
    if !format.is_gzip {
        return Ok(body);
    }
    let mut text = Vec::new();
    GzDecoder::new(body.as_slice())
        .read_to_end(&mut text)
        .map_err(|e| Fault::failed("the log cannot be unpacked").detail(e.to_string()).hint(STREAM))?;
    Ok(text)
}
