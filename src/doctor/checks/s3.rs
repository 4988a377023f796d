//! The checks of the bucket: what S3 answers to this node's role.

use crate::aws::config::TimeoutProfile;
use crate::aws::error::S3Failure;
use crate::aws::identity::configured_credentials;
use crate::aws::s3::{Bucket, Listing, Probe, Refusal, S3};
use crate::aws::uri::EventLogs;
use crate::doctor::{Facts, Found, Stop, skip};
use crate::error::Fault;
use crate::installed::drift as installed;
use crate::node::hadoop::S3A;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// S3 refuses signatures of a clock that is 15 minutes off; one that is a third of that off is
/// not being kept right.
const CLOCK: i64 = 300;
/// What shows whether the metadata service answers.
const METADATA: &str =
    "curl -s -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token";
/// How many rolling event logs are measured.
const SIZED: usize = 3;
/// How late an object may still be written.
const LATE: Duration = Duration::from_secs(6);
/// How many pages of a thousand names are listed.
const PAGES: usize = 10;

/// What S3 answered, as far as it was asked.
#[derive(Clone, Debug, Default)]
pub struct S3Observations {
    /// How long the credentials are good for, if they end; or why there are none.
    pub credentials: Option<Result<Option<Duration>, String>>,
    /// The instance profile's role.
    pub role: Option<String>,
    /// The bucket.
    pub bucket: Option<Result<Bucket, Refusal>>,
    /// How far this node's clock is ahead of S3's, in seconds.
    pub clock_ahead: Option<i64>,
    /// What lies under the prefix.
    pub listing: Option<Result<Listing, Refusal>>,
    /// How large some of the rolling event logs are, by their names below the prefix.
    pub rolling: BTreeMap<String, i64>,
    /// Reading the first byte of the newest event log.
    pub sample: Option<Result<(), Refusal>>,
    /// Writing, listing, reading and deleting an object.
    pub probe: Probe,
    /// The fields above are what there will be: nothing is under way any more.
    pub complete: bool,
}

impl S3Observations {
    /// Asks S3, step by step, into `into`: whoever waits may stop and take what is there. `writes`
    /// says whether an object may be written.
    pub fn ask(into: &Mutex<Self>, s3: &mut S3, uri: &EventLogs, writes: bool) {
        let begun = Instant::now();
        let store = || into.lock().unwrap_or_else(PoisonError::into_inner);
        let (credentials, role) = s3.credentials();
        let usable = credentials.is_ok();
        (store().credentials, store().role) = (Some(credentials), role);
        if usable {
            let bucket = s3.find_bucket(uri);
            let found = bucket.is_ok();
            (store().bucket, store().clock_ahead) = (Some(bucket), s3.clock_ahead());
            if found {
                let listing = s3.list(uri, PAGES);
                let newest =
                    listing.as_ref().ok().and_then(Listing::newest).map(|log| format!("{}{}", uri.prefix, log.name));
                let rolling: Vec<String> =
                    listing.iter().flat_map(|l| l.directories.iter().rev()).take(SIZED).cloned().collect();
                store().listing = Some(listing);
                // Not within the lock: it takes as long as S3 does.
                let sample = newest.map(|key| s3.get(uri, &key, Some(1)).map(drop));
                store().sample = sample;
                for name in rolling {
                    let place = EventLogs { prefix: format!("{}{name}", uri.prefix), ..uri.clone() };
                    if let Ok(parts) = s3.list(&place, 1) {
                        store().rolling.insert(name, parts.objects.iter().map(|part| part.size).sum());
                    }
                }
            }
            // What is begun has to be deleted, too, before nobody waits any more.
            if found && writes && begun.elapsed() < LATE {
                let probe = s3.probe(uri);
                store().probe = probe;
            }
        }
        store().complete = true;
    }
}

/// The place that is asked about, and what came of it.
fn asked<'a>(f: &Facts<'a>) -> Result<(&'a EventLogs, &'a S3Observations), Stop> {
    let Some(uri) = f.event_logs else {
        let dir = f.node.spark.defaults.get("spark.history.fs.logDirectory").unwrap_or("no directory");
        return skip(format!("event logs are in {dir}, not in S3"));
    };
    match f.store {
        Some(store) => Ok((uri, store)),
        None => skip("S3 was not asked"),
    }
}

/// What is there, or why it is not: S3 gave up before, or takes too long.
fn so_far<'a, T>(store: &S3Observations, answer: Option<&'a T>) -> Result<&'a T, Stop> {
    match (answer, store.complete) {
        (Some(answer), _) => Ok(answer),
        (None, _) if matches!(store.credentials, Some(Err(_))) => skip("not asked: see credentials"),
        (None, true) if matches!(store.bucket, Some(Err(_))) => skip("not asked: see bucket"),
        (None, true) => skip("not asked"),
        (None, false) => skip("S3 did not answer in time"),
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal.failure {
            S3Failure::ClockSkew => Stop::Behind(refusal.fault, &["clock"]),
            S3Failure::NoAnswer(_) | S3Failure::NoCredentials(_) => {
                Stop::Behind(refusal.fault, &["credentials", "bucket"])
            }
            _ => Stop::Fail(refusal.fault),
        }
    }
}

/// Whether there are credentials.
pub fn credentials(f: &Facts<'_>) -> Found {
    let (_, store) = asked(f)?;
    let of = store.role.as_ref().map_or("of this node".into(), |role| format!("of the role {role}"));
    if let (Some(Ok(_)), Some(whose)) = (&store.credentials, configured_credentials()) {
        return skip(format!("S3 is asked with {whose}, not with the node's role as the server does"));
    }
    match so_far(store, store.credentials.as_ref())? {
        Ok(None) => Ok(format!("{of}, without an end")),
        Ok(Some(left)) if left.is_zero() => Err(Fault::preflight(format!("the credentials {of} have ended"))
            .hint(format!("see whether the metadata service answers: {METADATA}"))
            .into()),
        Ok(Some(left)) => Ok(format!("{of}, good for {}", minutes(*left))),
        Err(why) => Err(Fault::preflight("this node has no credentials for AWS")
            .detail(why)
            .hint(format!(
                "give the cluster an instance profile, and see whether the metadata service answers: {METADATA}"
            ))
            .into()),
    }
}

fn minutes(left: Duration) -> String {
    match left.as_secs() / 60 {
        0 => format!("{} s", left.as_secs()),
        minutes if minutes < 120 => format!("{minutes} min"),
        minutes => format!("{} h", minutes / 60),
    }
}

/// Whether this node's clock and S3's agree.
pub fn clock(f: &Facts<'_>) -> Found {
    let (_, store) = asked(f)?;
    let ahead = *so_far(store, store.clock_ahead.as_ref())?;
    if ahead.abs() < CLOCK {
        return Ok(format!("{} s from S3's", ahead.abs()));
    }
    let which = if ahead > 0 { "ahead of" } else { "behind" };
    Err(Fault::preflight(format!("this node's clock is {} s {which} S3's", ahead.abs()))
        .detail("at 15 minutes S3 refuses signatures, presigned log links among them")
        .hint("timedatectl status; systemctl restart chronyd")
        .into())
}

/// Whether the bucket is there, and the server asks for it in its region.
pub fn bucket(f: &Facts<'_>) -> Found {
    let (uri, store) = asked(f)?;
    let bucket = so_far(store, store.bucket.as_ref())?.as_ref().map_err(Clone::clone)?;
    let Some(region) = &bucket.region else { return Ok(format!("{} is there", uri.bucket)) };
    let hadoop = &f.node.hadoop;
    let told = hadoop
        .get(&format!("fs.s3a.bucket.{}.endpoint.region", uri.bucket))
        .or_else(|| hadoop.get("fs.s3a.endpoint.region"))
        .or(f.node.identity.region.as_deref());
    // EMRFS finds a bucket's region itself, and `install` names it to S3A.
    let named = f.seen.is_none() || hadoop.file_system(&uri.scheme) != Some(S3A);
    // Newer S3A follows the bucket to its region; a server that lists what is there has done so.
    let reads = f.seen.is_some_and(|seen| seen.server.listed.as_ref().is_some_and(|listed| !listed.is_empty()));
    match told {
        Some(told) if told != region && !named && !reads => {
            let key = format!("spark.hadoop.fs.s3a.bucket.{}.endpoint.region", uri.bucket);
            let fault =
                Fault::preflight(format!("the bucket is in {region}, and the history server asks for it in {told}"))
                    .detail(format!("wanted {key} {region}"))
                    .hint(f.install_again());
            Err(installed::behind_drift(fault, installed::lacks_keys(f)))
        }
        _ => Ok(format!("{} is in {region}", uri.bucket)),
    }
}

/// Whether anything lies under the prefix.
pub fn prefix(f: &Facts<'_>) -> Found {
    let (uri, store) = asked(f)?;
    let Ok(listing) = so_far(store, store.listing.as_ref())? else { return skip("not known: see list") };
    let count = listing.objects.len() + listing.directories.len();
    if count > 0 || uri.prefix.is_empty() {
        return Ok(format!("{uri} is there"));
    }
    Err(Fault::preflight(format!("nothing lies under {uri}, so Spark finds no directory there"))
        .detail("the next start of the history server fails, and every job that logs there")
        .detail("a lifecycle rule that expires what is under the prefix takes its marker, too")
        .hint(match f.node.server.as_ref().is_some_and(|server| server.process.is_none()) {
            true => format!("sudo emr-shs prefix --event-logs {uri}; then: sudo emr-shs restart"),
            false => format!("sudo emr-shs prefix --event-logs {uri}"),
        })
        .into())
}

/// The first refusal of an action, by whichever request.
fn refused<'a>(store: &'a S3Observations, action: &str) -> Option<&'a Refusal> {
    let Probe { put, list, get, delete } = &store.probe;
    let listing = store.listing.as_ref().and_then(|l| l.as_ref().err());
    let others = [put, list, get, delete, &store.sample].into_iter().filter_map(|r| r.as_ref()?.as_ref().err());
    listing
        .into_iter()
        .chain(others)
        .find(|refusal| matches!(refusal.failure, S3Failure::Denied { action: denied, .. } if denied == action))
}

/// The one thing a request was for: refused by its own action, by another one, or not tried.
fn judge(store: &S3Observations, action: &str, answers: &[&Option<Result<(), Refusal>>]) -> Found {
    if let Some(refusal) = refused(store, action) {
        return Err(refusal.clone().into());
    }
    for answer in answers {
        match answer {
            Some(Ok(())) => return Ok(format!("{action}: allowed")),
            Some(Err(Refusal { failure: S3Failure::Denied { action: other, .. }, .. })) => {
                return skip(format!("S3 refuses for want of {other}"));
            }
            Some(Err(refusal)) => return Err(refusal.clone().into()),
            None => {}
        }
    }
    if matches!(store.listing, Some(Err(_))) {
        return skip("not asked: see list");
    }
    so_far::<()>(store, None).map(|()| String::new())
}

/// `s3:ListBucket`
pub fn list(f: &Facts<'_>) -> Found {
    let (_, store) = asked(f)?;
    let listed = store.listing.as_ref().map(|listing| listing.as_ref().map(drop).map_err(Clone::clone));
    judge(store, "s3:ListBucket", &[&listed, &store.probe.list])
}

/// `s3:GetObject`
pub fn get(f: &Facts<'_>) -> Found {
    let (_, store) = asked(f)?;
    judge(store, "s3:GetObject", &[&store.sample, &store.probe.get])
}

/// `s3:PutObject`
pub fn put(f: &Facts<'_>) -> Found {
    let (_, store) = asked(f)?;
    only_shown(f)?;
    judge(store, "s3:PutObject", &[&store.probe.put])
}

/// `s3:DeleteObject`
pub fn delete(f: &Facts<'_>) -> Found {
    let (_, store) = asked(f)?;
    only_shown(f)?;
    match &store.probe.put {
        Some(Err(_)) => skip("nothing could be written to be deleted: see put or kms"),
        _ => judge(store, "s3:DeleteObject", &[&store.probe.delete]),
    }
}

/// A node that only shows history needs to write nothing.
fn only_shown(f: &Facts<'_>) -> Result<(), Stop> {
    match f.seen.is_some() && f.settings.history_only {
        true => skip("this node only shows history; the jobs write"),
        false => Ok(()),
    }
}

/// `kms:Decrypt` and `kms:GenerateDataKey`
pub fn kms(f: &Facts<'_>) -> Found {
    let (_, store) = asked(f)?;
    for action in ["kms:GenerateDataKey", "kms:Decrypt"] {
        if let Some(refusal) = refused(store, action) {
            return Err(refusal.clone().into());
        }
    }
    match (&store.probe.get, &store.sample) {
        (Some(Ok(())), Some(Ok(()))) => Ok("event logs and new objects can be read".into()),
        (Some(Ok(())), None) => Ok("new objects can be read".into()),
        (_, Some(Ok(()))) => Ok("event logs can be read".into()),
        (_, Some(Err(_))) | (Some(Err(_)), _) => skip("no object could be read: see get"),
        (None, None) if matches!(store.probe.put, Some(Err(_))) => skip("not known: nothing could be written or read"),
        (None, None) if matches!(store.listing, Some(Err(_))) => skip("not asked: see list"),
        _ => so_far::<()>(store, None).map(|()| String::new()),
    }
}

/// What S3 is asked with.
pub const PATIENCE: TimeoutProfile = TimeoutProfile::Short;
