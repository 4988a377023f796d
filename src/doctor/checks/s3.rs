//! The checks of S3: credentials, clock, bucket, and the permissions of this node's role.

use super::drift::{caused_by_drift, lacks_keys};
use crate::aws::error::S3Failure;
use crate::aws::identity::configured_credentials;
use crate::aws::s3::{Probe, Refusal};
use crate::aws::uri::EventLogs;
use crate::doctor::check::{CheckId, CheckResult, NotPassed, skip};
use crate::doctor::facts::{Facts, Mode, S3Observations};
use crate::error::Fault;
use crate::hadoop_client::No;
use crate::node::hadoop_client::{Answers, Opinion};
use crate::node::jars::Sdk;
use crate::node::unlike::Unlike;
use crate::paths::LOG_DIRECTORY_KEY;
use crate::shown::{Hint, hint};
use std::time::Duration;

/// S3 refuses signatures when the clock is wrong by 15 minutes. doctor reports a clock that is wrong by a
/// third of that, in seconds: no time service can be correcting such a clock.
const CLOCK_TOLERANCE: i64 = 300;
/// Shows whether the metadata service answers.
pub(super) const ASK_METADATA_SERVICE: &str =
    "curl -s -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token";

/// The URI of the event logs, and the answers of S3 about it.
fn answers<'a>(f: &Facts<'a>) -> Result<(&'a EventLogs, &'a S3Observations), NotPassed> {
    let Some(uri) = f.event_logs else {
        let dir = f.node.spark.defaults.text(LOG_DIRECTORY_KEY).unwrap_or("no directory");
        return skip(format!("the event logs are in {dir}, not in S3"));
    };
    match f.s3 {
        Some(s3) => Ok((uri, s3)),
        None => skip("S3 was not asked"),
    }
}

/// An answer, or why there is none: a request before it failed, or S3 is too slow.
fn answered<'a, T>(s3: &S3Observations, answer: Option<&'a T>) -> Result<&'a T, NotPassed> {
    match answer {
        Some(answer) => Ok(answer),
        None if matches!(s3.credentials, Some(Err(_))) => skip("not asked: see credentials"),
        None if s3.complete && matches!(s3.bucket, Some(Err(_))) => skip("not asked: see bucket"),
        None if s3.complete => skip("not asked"),
        None => skip("S3 did not answer in time"),
    }
}

/// What Hadoop's client answered as one account.
type Asked<'a> = (&'a Answers, &'a Option<Result<(), No>>);

/// Lets Hadoop's own client have the last word where emr-shs's own requests were refused or came to nothing. `needs`
/// gives the answers that the check is about.
fn last_word(f: &Facts<'_>, first: CheckResult, needs: impl Fn(&Opinion) -> Vec<Asked<'_>>) -> CheckResult {
    let only_hadoop_tells = f.s3.is_some_and(|s3| s3.only_hadoop_tells);
    let untold = |found: &str, why: &str| {
        skip(format!("{found} to emr-shs, but only Hadoop's own client can tell whether Hadoop may do it: {why}"))
    };
    let Some(opinion) = f.s3.and_then(|s3| s3.hadoop.as_ref()) else {
        return match first {
            Ok(found) if only_hadoop_tells => untold(
                &found,
                "doctor did not ask that client, because other answers came too late; try again: sudo emr-shs doctor",
            ),
            first => first,
        };
    };
    let needs = needs(opinion);
    let asked: Vec<(&Answers, &Result<(), No>)> =
        needs.iter().filter_map(|(answers, answer)| Some((*answers, answer.as_ref()?))).collect();
    let is_refused = asked.iter().any(|(_, answer)| matches!(answer, Err(No::Refused { .. })));
    let is_allowed = !asked.is_empty() && asked.iter().all(|(_, answer)| answer.is_ok());
    let accounts = || asked.iter().map(|(answers, _)| answers.account.as_str()).collect::<Vec<_>>().join(", ");
    let nothing_to_ask = asked.is_empty() && opinion.jobs.is_none() && opinion.server.list == Some(Ok(()));
    let last = match first {
        Err(NotPassed::Fail(fault) | NotPassed::CausedBy(_, fault)) if is_allowed => Ok(format!(
            "allowed to Hadoop's own client (as {}); emr-shs's own request fails: {}",
            accounts(),
            fault.message
        )),
        Err(_) if nothing_to_ask => skip("no job of this node writes there, and there is nothing to read"),
        Err(NotPassed::Skip(_)) if is_allowed => Ok(format!("allowed to Hadoop's own client (as {})", accounts())),
        Err(NotPassed::Fail(fault)) => Err(with_opinion(f, fault, opinion, &asked).into()),
        Err(NotPassed::CausedBy(causes, fault)) => {
            Err(NotPassed::CausedBy(causes, with_opinion(f, fault, opinion, &asked)))
        }
        Err(NotPassed::Skip(_)) | Ok(_) if is_refused => {
            let causes = &[
                CheckId::Credentials,
                CheckId::Clock,
                CheckId::Bucket,
                CheckId::List,
                CheckId::Kms,
                CheckId::Get,
                CheckId::Put,
            ];
            Err(NotPassed::CausedBy(causes, with_opinion(f, refused_hadoop(f, opinion), opinion, &asked)))
        }
        Ok(found) if only_hadoop_tells => {
            match asked.iter().find_map(|(answers, answer)| Some((answers, answer.as_ref().err()?))) {
                Some((answers, no)) => untold(&found, &answers.detail(no)),
                None if asked.is_empty() && opinion.is_unknown() => {
                    untold(&found, "it was not asked, see put and list")
                }
                None => Ok(found),
            }
        }
        first => first,
    };
    match last {
        Err(NotPassed::Fail(fault) | NotPassed::CausedBy(_, fault)) if f.force() => {
            skip(format!("{}; --force goes on", fault.message))
        }
        last => last,
    }
}

/// The same for a check of which Hadoop's answers are only a part.
fn last_word_on_failure(f: &Facts<'_>, first: CheckResult, needs: impl Fn(&Opinion) -> Vec<Asked<'_>>) -> CheckResult {
    match first {
        Err(NotPassed::Fail(_) | NotPassed::CausedBy(..)) => last_word(f, first, needs),
        first => first,
    }
}

/// Hadoop's client is refused where emr-shs's own request is not, or was not sent.
fn refused_hadoop(f: &Facts<'_>, opinion: &Opinion) -> Fault {
    let uri = f.event_logs.map(ToString::to_string).unwrap_or_default();
    let fault = Fault::preflight(format!("Hadoop's own client cannot use {uri}")).unchanged();
    const ALLOW: &str =
        "allow it to the credentials that Hadoop uses there; a policy with all permissions: emr-shs render iam-policy";
    let Some(Unlike { key, why }) = opinion.unusable.first() else { return fault.hint(ALLOW) };
    let fault = if f.is_preflight() { fault } else { fault.detail(format!("{key}: {why}")) };
    let file = f.node.spark.hadoop_conf().join("core-site.xml");
    fault.hint(hint!("look at {} in {}; if the value is right, {}", key, file, Hint::from(ALLOW)))
}

/// Adds to emr-shs's own refusal what Hadoop's client was told, and what follows from that.
fn with_opinion(f: &Facts<'_>, fault: Fault, opinion: &Opinion, asked: &[(&Answers, &Result<(), No>)]) -> Fault {
    let lines = match f.is_preflight() {
        true => opinion.lines(),
        // A check of doctor tells of its own requests alone.
        false => asked.iter().filter_map(|(answers, answer)| Some(answers.detail(answer.as_ref().err()?))).collect(),
    };
    let mut fault = lines.into_iter().fold(fault, Fault::detail);
    let write = opinion.jobs.as_ref().and_then(|jobs| jobs.write.as_ref());
    let is_about_write = asked.iter().any(|(_, answer)| Some(*answer) == write);
    if !matches!(write, Some(Err(No::Refused { .. }))) || !f.is_preflight() && !is_about_write {
        return fault;
    }
    let place = f.event_logs.map(ToString::to_string).unwrap_or_default();
    fault = fault.detail(format!("with spark.eventLog.dir {place}, every Spark job of the cluster would fail"));
    if opinion.server.list == Some(Ok(())) && f.is_preflight() {
        let only = Hint::from("to show the history there without jobs that write it, add --history-only");
        let hint = fault.hint.take().map_or_else(|| only.clone(), |hint| hint!("{}; or, {}", hint, only));
        fault = fault.hint(hint);
    }
    fault
}

/// The history server's listing.
fn lists(opinion: &Opinion) -> Vec<Asked<'_>> {
    let jobs = opinion.jobs.as_ref().map(|jobs| (jobs, &jobs.list));
    [(&opinion.server, &opinion.server.list)].into_iter().chain(jobs).collect()
}

/// Reading, as both accounts.
fn reads(opinion: &Opinion) -> Vec<Asked<'_>> {
    let jobs = opinion.jobs.as_ref().map(|jobs| (jobs, &jobs.read));
    [(&opinion.server, &opinion.server.read)].into_iter().chain(jobs).collect()
}

/// Writing, as the jobs' account.
fn writes(opinion: &Opinion) -> Vec<Asked<'_>> {
    opinion.jobs.iter().map(|jobs| (jobs, &jobs.write)).collect()
}

pub(crate) fn credentials(f: &Facts<'_>) -> CheckResult {
    last_word_on_failure(f, own_credentials(f), lists)
}

fn own_credentials(f: &Facts<'_>) -> CheckResult {
    let (_, s3) = answers(f)?;
    let owner = s3.role.as_ref().map_or("of this node".into(), |role| format!("of the role {role}"));
    if let (Some(Ok(_)), Some(source)) = (&s3.credentials, configured_credentials()) {
        return skip(format!("doctor uses {source}, but the history server uses the role of this node"));
    }
    match answered(s3, s3.credentials.as_ref())? {
        Ok(None) => Ok(format!("{owner}, without an expiry")),
        Ok(Some(left)) if left.is_zero() => Err(Fault::preflight(format!("the credentials {owner} have expired"))
            .hint(hint!("check that the metadata service answers: {}", Hint::from(ASK_METADATA_SERVICE)))
            .into()),
        Ok(Some(left)) => Ok(format!("{owner}, valid for {}", rounded(*left))),
        Err(why) => Err(Fault::preflight("this node has no credentials for AWS")
            .detail(why)
            .hint(hint!(
                "give the cluster an instance profile, and check that the metadata service answers: {}",
                Hint::from(ASK_METADATA_SERVICE)
            ))
            .into()),
    }
}

fn rounded(left: Duration) -> String {
    match left.as_secs() / 60 {
        0 => format!("{} s", left.as_secs()),
        minutes if minutes < 120 => format!("{minutes} min"),
        minutes => format!("{} h", minutes / 60),
    }
}

pub(crate) fn clock(f: &Facts<'_>) -> CheckResult {
    let (_, s3) = answers(f)?;
    let ahead = *answered(s3, s3.clock_ahead.as_ref())?;
    if ahead.abs() < CLOCK_TOLERANCE {
        return Ok(format!("within {} s of S3's", ahead.abs()));
    }
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    Err(Fault::preflight(format!("this node's clock is {} s {direction} S3's", ahead.abs()))
        .detail("from 15 minutes on, S3 refuses all signatures, also those of log links")
        .hint("timedatectl status; sudo systemctl restart chronyd")
        .into())
}

pub(crate) fn bucket(f: &Facts<'_>) -> CheckResult {
    refuse_name_without_host(f)?;
    let (_, s3) = answers(f)?;
    match s3.bucket {
        Some(Err(_)) => last_word_on_failure(f, own_bucket(f), lists),
        // The region says something that Hadoop's client does not know.
        _ => own_bucket(f),
    }
}

fn own_bucket(f: &Facts<'_>) -> CheckResult {
    let (uri, s3) = answers(f)?;
    let bucket = answered(s3, s3.bucket.as_ref())?.as_ref().map_err(Clone::clone)?;
    let Some(region) = &bucket.region else { return Ok(format!("{} exists", uri.bucket)) };
    if let Some(asked) = wrong_region(f, uri, region) {
        let key = format!("spark.hadoop.fs.s3a.bucket.{}.endpoint.region", uri.bucket);
        let fault =
            Fault::preflight(format!("the bucket is in {region}, but the history server asks for it in {asked}"))
                .detail(format!("wanted {key} {region}"))
                .hint(f.install_again());
        return Err(caused_by_drift(fault, lacks_keys(f)));
    }
    Ok(format!("{} is in {region}", uri.bucket))
}

/// Refuses a bucket whose name Java does not take for the name of a host: Hadoop's file systems then find no bucket in
/// the URI. A server that lists something proves that its file system does.
fn refuse_name_without_host(f: &Facts<'_>) -> Result<(), NotPassed> {
    let lists = match f.mode {
        Mode::Preflight { force, .. } => force,
        Mode::Live(observations) => observations.server.listed.as_ref().is_some_and(|listed| !listed.is_empty()),
    };
    match f.event_logs {
        Some(uri) if !uri.has_java_host() && !lists => {
            Err(Fault::preflight(format!("Hadoop finds no bucket in {uri}"))
                .detail(format!("found the bucket name {}, in which Java sees no host name", uri.bucket))
                .detail("wanted a name without underscores whose last part begins with a letter, if the name has dots")
                .unchanged()
                .hint("use a bucket with another name")
                .into())
        }
        _ => Ok(()),
    }
}

/// The region in which the history server asks for the bucket, if that is the wrong one.
fn wrong_region(f: &Facts<'_>, uri: &EventLogs, region: &str) -> Option<String> {
    // An installation sets the region.
    let Mode::Live(observations) = f.mode else { return None };
    // EMRFS finds a bucket's region itself. So does a newer S3A with a way to the internet, which shows in that it lists
    // something.
    let lists = observations.server.listed.as_ref().is_some_and(|listed| !listed.is_empty());
    let settings = f.node.bucket_settings(uri);
    if !settings.is_s3a || lists {
        return None;
    }
    // S3A on SDK v2 asks that region without a setting.
    let is_v2 = f.scheme.and_then(|scheme| scheme.as_ref().ok()?.sdk()) == Some(Sdk::V2);
    let default = || if is_v2 { Some("us-east-2".to_string()) } else { f.node.identity.region.clone() };
    settings.region.or_else(default).filter(|asked| asked != region)
}

pub(crate) fn prefix(f: &Facts<'_>) -> CheckResult {
    let (uri, s3) = answers(f)?;
    let Ok(listing) = answered(s3, s3.listing.as_ref())? else { return skip("not known: see list") };
    if listing.objects.len() + listing.directories.len() > 0 || uri.prefix.is_empty() {
        return Ok(format!("{uri} exists"));
    }
    let is_down = f.node.server.as_ref().is_some_and(|server| server.process.is_none());
    Err(Fault::preflight(format!("no object lies under {uri}, so Spark finds no directory there"))
        .detail("the history server fails at its next start, and so does every job that logs there")
        .detail(
            "a lifecycle rule that expires the objects under the prefix also removes the prefix's own marker object",
        )
        .hint(match is_down {
            true => hint!("sudo emr-shs prefix --event-logs {}; then: sudo emr-shs restart", uri.to_string()),
            false => hint!("sudo emr-shs prefix --event-logs {}", uri.to_string()),
        })
        .into())
}

/// The first refusal of an action, by whichever request.
fn refusal_of<'a>(s3: &'a S3Observations, action: &str) -> Option<&'a Refusal> {
    let Probe { put, list, get, delete } = &s3.probe;
    let listing = s3.listing.as_ref().and_then(|l| l.as_ref().err());
    let others = [put, list, get, delete, &s3.sample].into_iter().filter_map(|r| r.as_ref()?.as_ref().err());
    listing
        .into_iter()
        .chain(others)
        .find(|refusal| matches!(refusal.failure, S3Failure::Denied { action: denied, .. } if denied == action))
}

/// Judges one action by the answers to the requests that need it. S3 may also have refused them because
/// of another action.
fn judge(s3: &S3Observations, action: &str, answers: &[&Option<Result<(), Refusal>>]) -> CheckResult {
    if let Some(refusal) = refusal_of(s3, action) {
        return Err(refusal.clone().into());
    }
    for answer in answers {
        match answer {
            Some(Ok(())) => return Ok(format!("{action}: allowed")),
            Some(Err(Refusal { failure: S3Failure::Denied { action: other, .. }, .. })) => {
                return skip(format!("S3 denies {other}, which this needs too"));
            }
            Some(Err(refusal)) => return Err(refusal.clone().into()),
            None => {}
        }
    }
    if matches!(s3.listing, Some(Err(_))) {
        return skip("not asked: see list");
    }
    answered::<()>(s3, None).map(|()| String::new())
}

pub(crate) fn list(f: &Facts<'_>) -> CheckResult {
    let (_, s3) = answers(f)?;
    let listed = s3.listing.as_ref().map(|listing| listing.as_ref().map(drop).map_err(Clone::clone));
    let own = judge(s3, "s3:ListBucket", &[&listed, &s3.probe.list]);
    last_word(f, own, lists)
}

pub(crate) fn get(f: &Facts<'_>) -> CheckResult {
    let (_, s3) = answers(f)?;
    last_word(f, judge(s3, "s3:GetObject", &[&s3.sample, &s3.probe.get]), reads)
}

pub(crate) fn put(f: &Facts<'_>) -> CheckResult {
    let (_, s3) = answers(f)?;
    skip_if_history_only(f)?;
    last_word(f, judge(s3, "s3:PutObject", &[&s3.probe.put]), writes)
}

pub(crate) fn delete(f: &Facts<'_>) -> CheckResult {
    let (_, s3) = answers(f)?;
    skip_if_history_only(f)?;
    let own = match &s3.probe.put {
        Some(Err(_)) => skip("doctor could not write an object to delete: see put or kms"),
        _ => judge(s3, "s3:DeleteObject", &[&s3.probe.delete]),
    };
    last_word(f, own, |opinion| opinion.jobs.iter().map(|jobs| (jobs, &jobs.delete)).collect())
}

/// A node that only shows history needs no permission to write.
fn skip_if_history_only(f: &Facts<'_>) -> Result<(), NotPassed> {
    match !f.is_preflight() && f.settings.history_only {
        true => skip("installed with --history-only: this node does not write event logs"),
        false => Ok(()),
    }
}

pub(crate) fn kms(f: &Facts<'_>) -> CheckResult {
    last_word_on_failure(f, own_kms(f), |opinion| reads(opinion).into_iter().chain(writes(opinion)).collect())
}

fn own_kms(f: &Facts<'_>) -> CheckResult {
    let (_, s3) = answers(f)?;
    for action in ["kms:GenerateDataKey", "kms:Decrypt"] {
        if let Some(refusal) = refusal_of(s3, action) {
            return Err(refusal.clone().into());
        }
    }
    match (&s3.probe.get, &s3.sample) {
        (Some(Ok(())), Some(Ok(()))) => Ok("event logs and new objects are readable".into()),
        (Some(Ok(())), None) => Ok("new objects are readable".into()),
        (_, Some(Ok(()))) => Ok("event logs are readable".into()),
        (_, Some(Err(_))) | (Some(Err(_)), _) => skip("no object could be read: see get"),
        (None, None) if matches!(s3.probe.put, Some(Err(_))) => skip("not known: no object could be written or read"),
        (None, None) if matches!(s3.listing, Some(Err(_))) => skip("not asked: see list"),
        _ => answered::<()>(s3, None).map(|()| String::new()),
    }
}
