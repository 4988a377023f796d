//! The checks of executor logs: their archive in S3, and the log gateway that serves them.

use super::drift::{caused_by_drift, lacks_gateway};
use super::s3::ASK_METADATA_SERVICE;
use crate::aws::uri::{EventLogs, LogUri};
use crate::change::receipt::{LeftOut, Part};
use crate::desired::log_gateway::how_to_make_users;
use crate::doctor::check::{CheckId, CheckResult, NotPassed, skip};
use crate::doctor::event_logs::event_logs;
use crate::doctor::facts::{ContainerLogs, Facts, Mode};
use crate::error::Fault;
use crate::installed::log_gateway::{LogGateway, LogUriTrouble, Trouble};
use crate::installed::shortfall::{closed_hint, log_uris_hint, sources_hint};
use crate::paths::{EVENT_LOG_DIR_KEY, GATEWAY_ACCOUNT, GATEWAY_SOCKET, GATEWAY_UNIT, LOG_LINK_KEY, SETTINGS_DIR};
use crate::shown::{Hint, hint};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The gateway renews its credentials long before they have only this time left.
const RENEWED_BEFORE: Duration = Duration::from_secs(30);
/// The attribute of a log link that Spark itself fills in.
const FILE_NAME: &str = "FILE_NAME";

fn no_answer_of_emr(f: &Facts<'_>) -> &'static str {
    if f.host.is_live() { "EMR did not answer in time" } else { "EMR is not asked about a directory given with --root" }
}

pub(crate) fn log_uri(f: &Facts<'_>) -> CheckResult {
    if let Some(uri) = f.log_uri() {
        let described = f.observations()?.emr.as_ref().and_then(|emr| emr.as_ref().ok()?.cluster.log_uri.as_deref());
        let of_cluster = described.and_then(|uri| uri.parse::<LogUri>().ok());
        if let Some((typed, own)) = of_cluster.and_then(|own| Some((f.settings.add_log_uri(&own)?, own))) {
            return skip(format!(
                "--log-uri names {uri}, and EMR writes the logs of this cluster below {own}, so the log gateway does not open \
                 them; to open them, too: {typed}"
            ));
        }
        return Ok(uri.to_string());
    }
    match &f.observations()?.emr {
        Some(Ok(emr)) if let Some(uri) = &emr.cluster.log_uri => {
            let why = uri.parse::<LogUri>().err().map(|fault| fault.details).unwrap_or_default();
            let fault = Fault::preflight(format!("emr-shs cannot read this cluster's log URI {uri}"));
            Err(why.into_iter().fold(fault, Fault::detail)
                .hint("name the place of the logs yourself: sudo emr-shs proxy install --log-uri s3://my-bucket/elasticmapreduce/")
                .into())
        }
        Some(Ok(_)) => Err(Fault::preflight("this cluster has no log URI, so EMR does not archive its logs")
            .detail("executor logs are lost with their nodes")
            .hint("create clusters with a log URI: aws emr create-cluster --log-uri s3://my-bucket/elasticmapreduce/")
            .into()),
        Some(Err(why)) => skip(format!("EMR could not be asked: {why}")),
        None => skip(no_answer_of_emr(f)),
    }
}

pub(crate) fn archive(f: &Facts<'_>) -> CheckResult {
    let observations = f.observations()?;
    if let Some(Ok(emr)) = &observations.emr
        && emr.uploads_no_application_logs
    {
        return Err(Fault::preflight("this cluster does not upload application logs")
            .detail("its log upload policy disables application-logs")
            .hint("create clusters without that policy: LogTypeUploadPolicy in the monitoring configuration")
            .into());
    }
    if f.log_uri().is_none() {
        return skip("the log URI is not known");
    }
    if f.node.identity.cluster_id.is_none() {
        return skip("the cluster's id is not known");
    }
    match &observations.container_logs {
        None => skip("S3 did not answer in time"),
        Some(Err(refusal)) => Err(refusal.clone().into()),
        Some(Ok(ContainerLogs::None)) => skip("there is no container log yet; EMR uploads them every 5 minutes"),
        // doctor asked as root.
        Some(Ok(ContainerLogs::Readable)) if let Some((own, root)) = roles_differ(f) => skip(format!(
            "the role {root} of root can read container logs; the log gateway has the role {own}; to see what that role can read: \
             sudo emr-shs verify"
        )),
        Some(Ok(ContainerLogs::Readable)) if loses_logs(&f.release().unwrap_or_default()) => {
            Ok("readable; EMR 7.9 to 7.12 can lose logs of long jobs".into())
        }
        Some(Ok(ContainerLogs::Readable)) => Ok("the node's role can list and read container logs".into()),
    }
}

/// A known issue of those releases with applications of three hours and more (`docs/emr.md §1.3`).
fn loses_logs(release: &str) -> bool {
    let numbers: Vec<&str> = release.strip_prefix("emr-").unwrap_or_default().split('.').collect();
    matches!(numbers.as_slice(), ["7", "9" | "10" | "11" | "12", ..])
}

pub(crate) fn pattern(f: &Facts<'_>) -> CheckResult {
    let Some(pattern) = f.effective(LOG_LINK_KEY) else {
        return skip(format!("{LOG_LINK_KEY} is not set, so log links lead to NodeManagers"));
    };
    let Some(listing) = f.listing() else { return skip("not known: the prefix could not be listed") };
    if event_logs(listing, &BTreeMap::new(), f.node.spark.version.as_ref()).is_empty() {
        return skip("there is no event log yet, which would show what executors have");
    }
    let Some(s3) = f.s3 else { return skip("S3 was not asked") };
    let listed = f.observations()?.server.listed.as_deref().unwrap_or_default();
    let old = listed.iter().find(|attempt| attempt.is_old()).and_then(|attempt| attempt.spark.clone());
    let old = s3.event_logs.old.clone().or(old);
    let Some((event_log, attributes)) = &s3.event_logs.executors else {
        return skip(match old {
            Some(old) => format!("executors of Spark {old} have no attributes, so their links lead to NodeManagers"),
            None => {
                "doctor finds no executor at the beginning of an uncompressed event log, so it cannot compare log links"
                    .into()
            }
        });
    };
    let used: Vec<&str> = pattern
        .text()
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}"))
        .map(|(name, _)| name)
        .filter(|name| *name != FILE_NAME)
        .collect();
    let missing: Vec<&str> = used.iter().copied().filter(|name| !attributes.iter().any(|a| a == name)).collect();
    if missing.is_empty() {
        let found = format!("executors have {}", used.join(", "));
        return Ok(match old {
            Some(old) => format!("{found}; those of Spark {old} have none, and keep links to NodeManagers"),
            None => found,
        });
    }
    Err(Fault::preflight(format!("log links use {}, which executors do not have", missing.join(", ")))
        .detail(format!("found {LOG_LINK_KEY} {pattern}"))
        .detail(format!("executors in the event log {event_log} have {}", listed_names(attributes)))
        .detail("without the attribute, Spark keeps the link to the NodeManager")
        .hint(match f.settings.set.contains_key(LOG_LINK_KEY) {
            true => hint!("sudo emr-shs install --set {}=", LOG_LINK_KEY),
            false => {
                Hint::from("set a pattern that works: sudo emr-shs proxy install --force; then: sudo emr-shs restart")
            }
        })
        .into())
}

fn listed_names(attributes: &[String]) -> String {
    if attributes.is_empty() { "no attribute".into() } else { attributes.join(", ") }
}

pub(crate) fn gateway(f: &Facts<'_>) -> CheckResult {
    match &f.mode {
        Mode::Preflight { gateway: None, .. } => skip("no log gateway is wanted"),
        Mode::Preflight { gateway: Some(setup), .. } => {
            setup.check_files(f.host).map_err(Fault::of)?;
            setup.has_one_path()?;
            setup.port_is_free().map_err(Fault::of)?;
            Ok("the log gateway can be installed".into())
        }
        Mode::Live(observations) => match &observations.gateway {
            Ok(Some(gateway)) => judge_gateway(f, gateway),
            Ok(None) => match f.receipt.left_out.iter().find(|left_out| left_out.part == Part::LogGateway) {
                Some(LeftOut { why, hint, .. }) => {
                    Err(Fault::preflight("the log gateway is wanted, but could not be installed")
                        .detail(why.as_str())
                        .hint(Hint::printed_before(hint))
                        .into())
                }
                None => skip("the log gateway is not installed: sudo emr-shs proxy install"),
            },
            Err(why) => skip(why.clone()),
        },
    }
}

fn judge_gateway(f: &Facts<'_>, gateway: &LogGateway) -> CheckResult {
    let port = gateway.port;
    let root_has_credentials = matches!(f.s3.and_then(|s3| s3.credentials.as_ref()), Some(Ok(_)));
    if gateway.lacks_credentials() && root_has_credentials {
        return Err(Fault::preflight(format!(
            "root gets credentials for AWS, and {GATEWAY_ACCOUNT}, the account of the log gateway, gets none"
        ))
        .detail("an agent on this node, or a firewall before the metadata service, gives credentials to root and not to this account")
        .hint(hint!(
            "allow the account {} what root is allowed; to see what it gets: sudo -u {} {}; why the gateway has none: sudo journalctl -u {} -n 20",
            GATEWAY_ACCOUNT,
            GATEWAY_ACCOUNT,
            Hint::from(ASK_METADATA_SERVICE),
            GATEWAY_UNIT
        ))
        .into());
    }
    match gateway.trouble() {
        None => {}
        Some(Trouble::Silent) => return Err(caused_by_drift(silent_gateway(gateway), lacks_gateway(f))),
        Some(Trouble::NotReady(says)) => {
            let fault = Fault::preflight(format!("the log gateway answers, but it cannot open logs: {says}"))
                .hint(hint!("sudo journalctl -u {} -n 20", GATEWAY_UNIT));
            return Err(match gateway.lacks_credentials() {
                true => NotPassed::CausedBy(&[CheckId::Credentials], fault),
                false => NotPassed::CausedBy(&[CheckId::Bucket, CheckId::Archive], fault),
            });
        }
        Some(Trouble::NotTheUnit) => {
            let active = &gateway.unit.active;
            return Err(Fault::preflight(format!("port {port} answers, but the log gateway's unit is {active}"))
                .detail("a process that does not belong to the unit keeps the unit from starting")
                .hint(hint!(
                    "find the process: sudo ss -ltnp | grep :{}; end it, then: sudo systemctl restart {}",
                    port,
                    GATEWAY_UNIT
                ))
                .into());
        }
        Some(Trouble::LogUris(troubles)) => {
            let fault = Fault::preflight("the log gateway runs, but does not open all logs below each of its log URIs");
            let detail =
                |fault: Fault, trouble: &LogUriTrouble| fault.detail(format!("{}: {}", trouble.uri, trouble.why));
            return Err(troubles.iter().fold(fault, detail).hint(log_uris_hint()).into());
        }
        // The check of the index tells.
        Some(Trouble::Sources(_)) => {}
        Some(Trouble::Closed(why)) => {
            let fault =
                Fault::preflight("the log gateway runs, but a browser does not reach it in every way").detail(why);
            let fault = gateway.closed_ways.iter().skip(1).fold(fault, Fault::detail);
            return Err(fault.hint(closed_hint()).into());
        }
    }
    if gateway.is_behind_login() {
        return skip(format!(
            "the log gateway on port {port} requires a login, so doctor cannot see whether logs open"
        ));
    }
    let of_role = roles_differ(f).map(|(own, root)| format!(" of the role {own}, while root has {root}"));
    let of_role = of_role.unwrap_or_default();
    match gateway.credentials_left {
        Some(left) if left < RENEWED_BEFORE => {
            let fault = Fault::preflight(format!("the log gateway's credentials expire in {} s", left.as_secs()))
                .detail("the gateway renews credentials before they expire, and failed to")
                .hint(hint!("sudo journalctl -u {} -n 20; and check that the metadata service answers", GATEWAY_UNIT));
            Err(NotPassed::CausedBy(&[CheckId::Credentials], fault))
        }
        Some(left) => Ok(format!("ready on {}, credentials for {} min{of_role}", gateway.ports(), left.as_secs() / 60)),
        None => Ok(format!("ready on {}{of_role}", gateway.ports())),
    }
}

/// The role of the log gateway's account and that of root, where what gives credentials tells accounts apart.
fn roles_differ<'a>(f: &Facts<'a>) -> Option<(&'a str, &'a str)> {
    let gateway = f.observations().ok()?.gateway.as_ref().ok()?.as_ref()?;
    let (own, root) = (gateway.role.as_deref()?, f.s3?.role.as_deref()?);
    (own != root).then_some((own, root))
}

fn silent_gateway(gateway: &LogGateway) -> Fault {
    let fault = match gateway.unit.active.as_str() {
        "active" => Fault::preflight(format!("the log gateway does not answer on port {}", gateway.port))
            .detail(format!("its unit {GATEWAY_UNIT} is active")),
        active => Fault::preflight(format!("the log gateway does not run; its unit is {active}")),
    };
    let fault = match gateway.socket_that_fails() {
        None => fault,
        Some(active) => fault.detail(format!("{GATEWAY_SOCKET}, which has the port, is {active}")),
    };
    fault.hint(hint!(
        "sudo systemctl restart {}; if it stops again: sudo journalctl -u {} -n 20",
        GATEWAY_UNIT,
        GATEWAY_UNIT
    ))
}

/// Before an installation: `spark.eventLog.dir` is for the jobs of every role. A job whose role must not write there
/// fails, so only the user can say that all of them may.
fn may_make_jobs_log(f: &Facts<'_>) -> CheckResult {
    let is_written = |uri: &EventLogs| f.node.spark.defaults.text(EVENT_LOG_DIR_KEY) == Some(uri.to_string().as_str());
    let Some(uri) = f.event_logs.filter(|uri| !is_written(uri)) else { return skip("jobs log where they did before") };
    let mapping = f.node.role_mapping();
    if f.settings.runtime_roles() != Some(true) && mapping.is_none() || f.settings.history_only || f.force() {
        return Ok("nothing stops the installation".into());
    }
    Err(Fault::preflight("jobs of this cluster have roles of their own (runtime roles, or role mappings of EMRFS)")
        .detail(match mapping {
            Some(key) => format!("found {key} in Hadoop's configuration (core-site.xml, emrfs-site.xml, spark-defaults.conf)"),
            None => {
                "the cluster's security configuration has EnableApplicationScopedIAMRole, or RoleMappings of EMRFS".into()
            }
        })
        .detail(format!(
            "spark.eventLog.dir would apply to all jobs, and a job whose role is not allowed to write to {uri} would fail"
        ))
        .detail(format!("the policy that each role needs: emr-shs render iam-policy --for jobs --event-logs {uri}"))
        .unchanged()
        .hint("to leave spark.eventLog.* to the jobs: add --history-only; if every role is allowed to write there: add --force")
        .into())
}

pub(crate) fn runtime_roles(f: &Facts<'_>) -> CheckResult {
    if f.is_preflight() {
        return may_make_jobs_log(f);
    }
    let observations = f.observations()?;
    let emr = match &observations.emr {
        _ if f.node.role_mapping().is_some() => return judge_roles(f),
        None => return skip(no_answer_of_emr(f)),
        Some(Err(why)) => return skip(format!("EMR could not be asked: {why}")),
        Some(Ok(emr)) => emr,
    };
    match &emr.runtime_roles {
        Err(why) => skip(format!("the security configuration could not be read: {why}")),
        Ok(false) => Ok("none: jobs have the instance profile's permissions".into()),
        Ok(true) => judge_roles(f),
    }
}

/// Judges the log gateway of a cluster whose jobs have roles of their own.
fn judge_roles(f: &Facts<'_>) -> CheckResult {
    if f.settings.gateway.htpasswd.is_some() || !matches!(f.observations()?.gateway, Ok(Some(_))) {
        return skip(
            "jobs have roles of their own; only a job shows whether its role has s3:PutObject and s3:DeleteObject",
        );
    }
    Err(Fault::preflight("jobs have roles of their own, but the log gateway requires no login")
        .detail("anyone who runs a job or a notebook on this cluster can read every executor log through the gateway")
        .hint(hint!(
            "{}; sudo emr-shs proxy install --tls-self-signed --htpasswd {}/users",
            how_to_make_users(),
            SETTINGS_DIR
        ))
        .into())
}

/// How old the last look of the gateway may be: the gateway looks every 30 seconds, and a first look reads every event log.
const STALE: Duration = Duration::from_secs(600);

/// Whether the log gateway lists all applications.
pub(crate) fn index(f: &Facts<'_>) -> CheckResult {
    if !f.settings.index {
        return Ok("off: the history server lists the applications itself".into());
    }
    if let Some(key) = f.hides_applications() {
        return Err(Fault::preflight(
            "the log gateway lists applications that the history server hides from some users",
        )
        .detail(format!("found {key} among the settings of the history server, set since the installation"))
        .detail("the log gateway lists all applications to everybody whom it serves")
        .hint(hint!(
            "remove {}, or let the history server list the applications: sudo emr-shs install --index=false",
            key
        ))
        .into());
    }
    let gateway = match &f.observations()?.gateway {
        Ok(Some(gateway)) => gateway,
        Ok(None) => return skip("the log gateway is not installed: see gateway"),
        Err(why) => return skip(why.clone()),
    };
    if gateway.is_behind_login() {
        return skip("the log gateway wants a login: see gateway");
    }
    let Some(index) = &gateway.index else {
        let fault = Fault::preflight("the log gateway does not tell how its index is");
        return Err(NotPassed::CausedBy(&[CheckId::Gateway], fault.hint(f.install_again())));
    };
    if !index.failing.is_empty() {
        let fault = Fault::preflight("the log gateway does not list the applications of every prefix");
        let detail = |fault: Fault, trouble: &LogUriTrouble| fault.detail(format!("{}: {}", trouble.uri, trouble.why));
        let fault = index.failing.iter().fold(fault, detail);
        return Err(NotPassed::CausedBy(&[CheckId::Credentials], fault.hint(sources_hint())));
    }
    let age = |time: Option<i64>| {
        SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(u64::try_from(time?).ok()?)).ok()
    };
    if index.looked.is_some() && age(index.looked).is_some_and(|age| age > STALE) && index.unread == 0 {
        return Err(Fault::preflight("the log gateway has not looked for new event logs for more than ten minutes")
            .hint(hint!("sudo journalctl -u {} -n 20; sudo systemctl restart {}", GATEWAY_UNIT, GATEWAY_UNIT))
            .into());
    }
    let mut found = match index.looked {
        Some(_) => format!("{} attempts of applications", index.attempts),
        None => format!(
            "the index has not looked below every prefix yet; {} attempts of applications so far",
            index.attempts
        ),
    };
    if index.unread > 0 {
        found += &format!("; {} event logs are not completely read yet", index.unread);
    }
    if index.unreadable > 0 {
        found += &format!("; {} event logs show no application: sudo emr-shs index status says why", index.unreadable);
    }
    Ok(found)
}
