//! What an installation with the index needs, checked before the first change: a log gateway whose account may read every
//! source, a history server that shows everything to everybody, and a place for the event-log cache.

use super::prepare::Installation;
use crate::aws::config::TimeoutProfile;
use crate::aws::error::S3Failure;
use crate::aws::s3::S3;
use crate::aws::uri::EventLogs;
use crate::change::component::Component;
use crate::doctor::facts::S3Observations;
use crate::error::Fault;
use crate::node::s3a::BucketEncryption;
use crate::paths::CLEANER_KEY;
use crate::shown::{Hint, hint};
use crate::values::SparkValue;

fn without_index() -> Hint {
    "install without the index: --index=false".into()
}

impl Installation {
    /// Refuses an index that could not work here, or that would show more than the history server does.
    pub(super) fn check_index(&self) -> Result<(), Fault> {
        if !self.settings.index {
            return Ok(());
        }
        let without = without_index();
        if self.components().contains(&Component::Gateway) && self.host.is_live() {
            let why = match &self.gateway {
                Some(Ok(_)) => None,
                Some(Err(why)) => Some((why.to_string(), hint!("{}; or {}", why.hint(self.command), without.clone()))),
                None => {
                    Some(("--no-proxy leaves it out".into(), hint!("add --no-proxy=false; or {}", without.clone())))
                }
            };
            if let Some((why, hint)) = why {
                let fault = Fault::preflight(format!("--index needs the log gateway, and there is none: {why}"));
                return Err(fault
                    .detail("the log gateway keeps the index and lists the applications")
                    .unchanged()
                    .hint(hint));
            }
        }
        match self.host.is_live() {
            true => self.settings.sources().try_for_each(|uri| self.gateway_may_read(uri)),
            false => Ok(()),
        }
    }

    /// Refuses an index because of settings: the list of the gateway must not show what the history server hides. Before other
    /// checks, because a filter hides the history server's pages, too, and the check of the pages names `--force` as a way out.
    pub(super) fn check_index_settings(&self) -> Result<(), Fault> {
        if !self.settings.index {
            return Ok(());
        }
        let without = without_index();
        let s3 = S3Observations::default();
        let facts = self.facts_with(&s3, self.force);
        if let Some(key) = facts.hides_applications() {
            return Err(Fault::preflight(
                "--index would show applications that the history server hides from some users",
            )
            .detail(format!("found {key} among the settings of the history server"))
            .detail("the log gateway lists all applications to everybody whom it serves")
            .unchanged()
            .hint(hint!(
                "remove {}, and let the log gateway ask for a login: --htpasswd; or {}",
                key,
                without
            )));
        }
        if self.settings.set.get(CLEANER_KEY).is_some_and(|set| SparkValue::new(set).boolean() != Some(false)) {
            return Err(Fault::usage(format!("--index excludes --set {CLEANER_KEY}=true"))
                .detail("Spark's cleaner would remove event logs from the cache while somebody opens them, and none from S3")
                .hint(hint!("--set {}= takes it back; an S3 lifecycle rule deletes old event logs", CLEANER_KEY)));
        }
        if let Some(key) = self.node.role_mapping() {
            return Err(Fault::preflight("--index cannot use roles that depend on who asks")
                .detail(format!("found {key}: EMRFS reads event logs under other roles than the instance profile's"))
                .detail("the log gateway reads all event logs with the instance profile")
                .unchanged()
                .hint(without));
        }
        Ok(())
    }

    /// The gateway reads with the instance profile, whatever Hadoop's settings are.
    fn gateway_may_read(&self, uri: &EventLogs) -> Result<(), Fault> {
        let settings = &self.settings;
        let connection = self.node.s3_connection(uri, settings.region.as_deref(), settings.endpoint_url.as_deref());
        let mut s3 = connection.open(TimeoutProfile::Usual).map_err(Fault::of)?;
        let read = |s3: &mut S3| {
            s3.find_bucket(uri)?;
            // Of an empty place only the right to list shows.
            match s3.first_object(uri)? {
                // Every range lies outside an empty object, such as the one that makes the prefix.
                Some(key) => match s3.get(uri, &key, Some(1)) {
                    Err(refusal) if refusal.failure == S3Failure::InvalidRange => Ok(()),
                    answer => answer.map(drop),
                },
                None => Ok(()),
            }
        };
        let by_client = match self.node.bucket_settings(uri).encryption {
            BucketEncryption::Client(_) => Some("Hadoop's client encrypts them"),
            BucketEncryption::CustomerKey => Some("each request must contain the key that encrypts them (SSE-C)"),
            _ => None,
        };
        if let Some(why) = by_client {
            return Err(Fault::preflight(format!("--index cannot read event logs in {uri}: {why}"))
                .detail("the log gateway has no such key")
                .unchanged()
                .hint(without_index()));
        }
        read(&mut s3).map_err(|refusal| {
            let fault = refusal.fault;
            let mut told =
                Fault::preflight(format!("--index needs the right to list and to read {uri}: {}", fault.message));
            told.details = fault.details;
            told = told.detail("the log gateway reads event logs with the instance profile").unchanged();
            told.hint(fault.hint.unwrap_or_else(|| "emr-shs render iam-policy prints the policy".into()))
        })
    }
}
