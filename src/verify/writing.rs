//! How a proof writes its event log and its container log: as emr-shs, or with Hadoop's own client as jobs do it.

use super::Proof;
use super::cleanup::{NotWritten, Writer, Written};
use crate::aws::config::TimeoutProfile;
use crate::aws::error::S3Failure;
use crate::aws::s3::{Encryption, Refusal};
use crate::aws::uri::EventLogs;
use crate::error::Fault;
use crate::hadoop_client::No;
use crate::node::hadoop_client::{About, HadoopClients, LIMIT, Planned, limit};
use crate::node::unlike::{self, Doubt, Unlike};
use crate::paths::JOBS_ACCOUNT;
use crate::shown::hint;
use crate::signals;
use std::sync::Arc;
use std::time::Instant;

/// What a stage says about an object that Hadoop's client has written, before it says why.
const BY_HADOOP: &str = ", written by Hadoop's own client as user hadoop";
const AS_REFUSED: &str = ", because emr-shs's own request fails";

impl Proof<'_> {
    /// Writes the event log as emr-shs, or else as jobs do it. Returns what is unusual about the way.
    pub(super) fn write_event_log(
        &self,
        uri: &EventLogs,
        written: &mut Written,
        parts: &[(String, Vec<u8>)],
    ) -> Result<String, Fault> {
        // The history server cannot read what is not written by Hadoop's settings, such as a key of a customer.
        let unusable = unlike::unusable(&self.node.hadoop, &uri.scheme, &uri.bucket);
        if !unusable.is_empty() {
            let why = Doubt::Settings(unusable.iter().map(|unlike| unlike.key.clone()).collect());
            let written = written.put(&self.hadoop(uri, false), uri, parts);
            return written.map(|()| format!("{BY_HADOOP}, because {why}")).map_err(|no| {
                let fault =
                    Fault::failed(format!("verify cannot write an event log that the history server can read: {why}"));
                let fault = fault.detail(no.fault.message);
                let fault =
                    unusable.iter().fold(fault, |fault, Unlike { key, why }| fault.detail(format!("{key}: {why}")));
                fault.hint(hint!(
                    "look at these settings in {}, and try what jobs do: sudo -u {} hadoop fs -ls {}",
                    self.node.spark.hadoop_conf().join("core-site.xml"),
                    JOBS_ACCOUNT,
                    uri.to_string()
                ))
            });
        }
        let own = self.s3(uri).map_err(unreachable);
        let own = own.and_then(|s3| written.put(&Writer::EmrShs(Arc::new(s3)), uri, parts));
        let Err(NotWritten { fault, is_busy, .. }) = own else {
            return self.jobs_may_write(uri).map(str::to_string);
        };
        signals::check().map_err(Fault::of)?;
        let by_hadoop = written.put(&self.hadoop(uri, is_busy), uri, parts);
        by_hadoop.map(|()| format!("{BY_HADOOP}{AS_REFUSED}")).map_err(|no| fault.detail(no.fault.message))
    }

    /// Proves that jobs may write, too, where Hadoop has credentials or settings of its own.
    fn jobs_may_write(&self, uri: &EventLogs) -> Result<&'static str, Fault> {
        let settings = &self.receipt.settings;
        let overridden = (settings.region.as_deref(), settings.endpoint_url.as_deref());
        if settings.history_only
            || self.node.doubt(&self.node.hadoop, uri, overridden, Some(TimeoutProfile::Usual), false).is_none()
        {
            return Ok("");
        }
        signals::check().map_err(Fault::of)?;
        let clients = HadoopClients::of(self.host, self.node, uri, Planned::default());
        let opinion = clients.ask(uri, About::Writing, Instant::now() + LIMIT);
        match opinion.jobs.as_ref().and_then(|jobs| jobs.write.as_ref()) {
            Some(Ok(())) => Ok("; Hadoop's own client, as user hadoop, is allowed to write there, too"),
            Some(Err(No::Refused { .. })) => {
                let fault = Fault::failed(format!(
                    "Hadoop's own client is not allowed to write to {uri}, and neither are jobs"
                ));
                Err(opinion.lines().into_iter().fold(fault, Fault::detail).hint(
                    "allow it to the credentials that Hadoop uses there; a policy with all permissions: emr-shs render iam-policy",
                ))
            }
            _ => Ok(
                "; whether jobs are allowed to write there is not known, because Hadoop's own client could not be asked",
            ),
        }
    }

    /// Writes a container log: as the bucket encrypts by itself; with the cluster's key for logs; as Hadoop does it.
    pub(super) fn write_log(
        &self,
        uri: &EventLogs,
        written: &mut Written,
        objects: &[(String, Vec<u8>)],
    ) -> Result<String, NotWritten> {
        let put = |written: &mut Written, encryption: Option<Encryption>| {
            let mut s3 = self.s3(uri).map_err(unreachable)?;
            s3.options.encryption = encryption;
            written.put(&Writer::EmrShs(Arc::new(s3)), uri, objects)
        };
        let Err(first) = put(written, None) else { return Ok(String::new()) };
        if !first.is_refused {
            return Err(first);
        }
        let key = self.node.describe_log_key(self.receipt.settings.region.as_deref());
        if let Some(key) = key {
            let encryption = Encryption { algorithm: "aws:kms".into(), key: Some(key) };
            if put(written, Some(encryption)).is_ok() {
                return Ok(", encrypted with the cluster's key for logs".into());
            }
        }
        let by_hadoop = written.put(&self.hadoop(uri, false), uri, objects);
        by_hadoop.map(|()| format!("{BY_HADOOP}{AS_REFUSED}")).map_err(|_| first)
    }

    /// Hadoop's own client for a bucket, and whether S3 was busy when emr-shs asked.
    fn hadoop(&self, uri: &EventLogs, is_busy: bool) -> Writer {
        let clients = HadoopClients::of(self.host, self.node, uri, Planned::default());
        Writer::Hadoop(Arc::new(clients), limit(is_busy))
    }
}

/// The bucket does not answer as it should.
fn unreachable(refusal: Refusal) -> NotWritten {
    NotWritten { is_busy: refusal.failure == S3Failure::Busy, fault: refusal.fault, is_refused: false }
}
