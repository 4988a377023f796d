//! The checks of executor logs: where EMR archives them, and the gateway that serves them.

use crate::aws::uri::LogUri;
use crate::doctor::gather::{self, Archived};
use crate::doctor::{Facts, Found, Stop, skip};
use crate::error::Fault;
use crate::installed::drift as installed;
use crate::paths::{GATEWAY_UNIT, LOG_LINK_KEY};
use std::time::Duration;

/// A gateway that fetches in time never comes this near to its credentials' end.
const LIFE: Duration = Duration::from_secs(30);

impl Facts<'_> {
    /// Where this cluster's logs are archived, as far as it is known.
    pub fn log_uri(&self) -> Option<LogUri> {
        gather::log_uri(self.settings, self.seen.and_then(|seen| seen.emr.as_ref()))
    }
}

/// Why EMR has said nothing.
fn unasked(f: &Facts<'_>) -> &'static str {
    if f.host.is_live() { "EMR did not answer in time" } else { "below another root nobody is asked" }
}

/// Whether EMR archives logs at all.
pub fn log_uri(f: &Facts<'_>) -> Found {
    if let Some(uri) = f.log_uri() {
        return Ok(uri.to_string());
    }
    match f.seen.and_then(|seen| seen.emr.as_ref()) {
        Some(Ok(_)) => Err(Fault::preflight("this cluster has no log URI, so EMR archives no logs of it")
            .detail("executor logs are gone with their nodes")
            .hint("a cluster gets its log URI when it is created: --log-uri of aws emr create-cluster")
            .into()),
        Some(Err(why)) => skip(format!("EMR could not be asked: {why}")),
        None => skip(unasked(f)),
    }
}

/// Whether container logs are there and can be read.
pub fn logs(f: &Facts<'_>) -> Found {
    let Some(seen) = f.seen else { return skip("not looked at") };
    if let Some(Ok(emr)) = &seen.emr
        && emr.uploads_no_application_logs
    {
        return Err(Fault::preflight("the upload of application logs is switched off for this cluster")
            .detail("its log upload policy has application-logs: disabled")
            .hint("it is set when a cluster is created: LogTypeUploadPolicy in its monitoring configuration")
            .into());
    }
    if f.log_uri().is_none() {
        return skip("the log URI is not known");
    }
    if f.node.identity.cluster_id.is_none() {
        return skip("the cluster's id is not known");
    }
    match &seen.archive {
        None => skip("S3 did not answer in time"),
        Some(Err(refusal)) => Err(refusal.clone().into()),
        Some(Ok(Archived::Nothing)) => skip("no container log yet; EMR uploads them every 5 minutes"),
        Some(Ok(Archived::Logs)) if loses_logs(&f.release().unwrap_or_default()) => {
            // A known issue: applications of three hours and more are concerned.
            Ok("can be read; EMR 7.9 to 7.12 may lose long applications'".into())
        }
        Some(Ok(Archived::Logs)) => Ok("container logs can be listed and read".into()),
    }
}

/// A known issue of those releases (facts 2 §1.4).
fn loses_logs(release: &str) -> bool {
    let numbers: Vec<&str> = release.strip_prefix("emr-").unwrap_or_default().split('.').collect();
    matches!(numbers.as_slice(), ["7", "9" | "10" | "11" | "12", ..])
}

/// Whether log links name only what executors have.
pub fn pattern(f: &Facts<'_>) -> Found {
    let Some(pattern) = f.effective(LOG_LINK_KEY) else {
        return skip("log links lead to NodeManagers: none else is set");
    };
    let wanted: Vec<&str> =
        pattern.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name).collect();
    if f.node.server.as_ref().is_some_and(|server| server.answer.is_none()) {
        return skip("the history server does not answer");
    }
    if !f.store.is_some_and(|store| matches!(store.listing, Some(Ok(_)))) {
        return skip("the sizes of the event logs are not known: none is opened");
    }
    let Some((application, attributes)) = f.seen.and_then(|seen| seen.server.attributes.as_ref()) else {
        return skip("no application of a moderate size has executors to tell");
    };
    let lacking: Vec<&str> =
        wanted.iter().copied().filter(|name| *name != "FILE_NAME" && !attributes.iter().any(|a| a == name)).collect();
    if lacking.is_empty() {
        return Ok(format!(
            "executors have {}",
            wanted.iter().filter(|n| **n != "FILE_NAME").copied().collect::<Vec<_>>().join(", ")
        ));
    }
    Err(Fault::preflight(format!("log links use {}, which executors do not have", lacking.join(", ")))
        .detail(format!("{LOG_LINK_KEY} is {pattern}"))
        .detail(format!("{application} has {}", attributes.join(", ")))
        .detail("where one is missing, Spark keeps the link to the NodeManager")
        .hint(match f.settings.set.contains_key(LOG_LINK_KEY) {
            true => format!("sudo emr-shs install --set {LOG_LINK_KEY}="),
            false => "sudo emr-shs proxy install --force sets one that works; then: sudo emr-shs restart".into(),
        })
        .into())
}

/// Whether the gateway is, or can be, there.
pub fn gateway(f: &Facts<'_>) -> Found {
    if let Some(setup) = f.setup {
        setup.check_files(f.host).map_err(Fault::of)?;
        setup.port_is_free().map_err(Fault::of)?;
        return Ok("can be set up".into());
    }
    let Some(seen) = f.seen else { return skip("not asked for") };
    let gateway = match &seen.gateway {
        Ok(Some(gateway)) => gateway,
        Ok(None) => return skip("it is not installed: sudo emr-shs proxy install"),
        Err(why) => return skip(why.clone()),
    };
    let unit = GATEWAY_UNIT;
    let port = gateway.port;
    match &gateway.says {
        None => {
            let fault = match gateway.unit.active.as_str() {
                "active" => Fault::preflight(format!("the log gateway does not answer on port {port}"))
                    .detail(format!("its unit {unit} is active")),
                active => Fault::preflight(format!("the log gateway does not run; its unit is {active}")),
            };
            let fault =
                fault.hint(format!("sudo systemctl restart {unit}; if it stops again: journalctl -u {unit} -n 20"));
            return Err(installed::behind_drift(fault, installed::lacks_gateway(f)));
        }
        Some(says) if !gateway.is_ready() => {
            let fault = Fault::preflight(format!("the log gateway answers, but logs do not open: {says}"))
                .hint(format!("journalctl -u {unit} -n 20"));
            return Err(Stop::Behind(fault, if says.contains("credentials") { &["credentials"] } else { &[] }));
        }
        Some(_) => {}
    }
    if gateway.unit.active != "active" {
        return Err(Fault::preflight(format!(
            "port {port} answers, and the log gateway's unit is {}",
            gateway.unit.active
        ))
        .detail("a process that systemd does not know is in the way of the next start")
        .hint(format!("ss -ltnp | grep :{port} shows which; end it, then: sudo systemctl restart {unit}"))
        .into());
    }
    if gateway.wants_login() {
        return skip(format!("it answers on port {port} and wants a login; whether logs open cannot be seen"));
    }
    match gateway.credentials_left {
        Some(left) if left < LIFE => {
            let fault = Fault::preflight(format!("the log gateway's credentials end in {} s", left.as_secs()))
                .detail("it fetches new ones before they end, and could not")
                .hint(format!("journalctl -u {unit} -n 20; and see whether the metadata service answers"));
            Err(Stop::Behind(fault, &["credentials"]))
        }
        Some(left) => Ok(format!("ready on port {port}, credentials for {} min", left.as_secs() / 60)),
        None => Ok(format!("ready on port {port}")),
    }
}

/// Whether jobs have roles of their own.
pub fn runtime_roles(f: &Facts<'_>) -> Found {
    let Some(seen) = f.seen else { return skip("not asked") };
    match &seen.emr {
        None => skip(unasked(f)),
        Some(Err(why)) => skip(format!("EMR could not be asked: {why}")),
        Some(Ok(emr)) => match &emr.runtime_roles {
            Err(why) => skip(format!("the security configuration could not be read: {why}")),
            Ok(false) => Ok("none: jobs have the instance profile's permissions".into()),
            Ok(true) if f.settings.gateway.htpasswd.is_none() && matches!(seen.gateway, Ok(Some(_))) => {
                Err(Fault::preflight("jobs have roles of their own, and the log gateway wants no login")
                    .detail("who runs a job or a notebook here reads every executor log with the gateway's role")
                    .hint("htpasswd -nB -C 10 NAME > users; sudo install -m 640 -g emr-shs users /etc/emr-shs/; sudo emr-shs proxy install --tls-self-signed --htpasswd /etc/emr-shs/users")
                    .into())
            }
            Ok(true) => skip("in use; whether each may s3:PutObject and s3:DeleteObject event logs shows from its jobs"),
        },
    }
}
