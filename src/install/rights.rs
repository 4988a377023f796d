//! The proof, before the first change, that S3 allows what jobs and the history server will have to do.
//!
//! emr-shs asks S3 itself: that takes four requests. Where S3 refuses, or does not answer, and where these requests are not
//! those of Hadoop (`src/node/unlike.rs`), this node's own Hadoop is asked, because jobs and the history server can have
//! another way to S3 (`src/node/hadoop_client.rs`).

use super::prepare::Installation;
use crate::aws::config::TimeoutProfile;
use crate::aws::error::S3Failure;
use crate::aws::s3::Probe;
use crate::aws::uri::EventLogs;
use crate::change::component::Component;
use crate::change::desired::DesiredState;
use crate::change::resource::Resource;
use crate::doctor;
use crate::doctor::facts::S3Observations;
use crate::error::Fault;
use crate::host::HadoopWay;
use crate::node::hadoop::Hadoop;
use crate::node::hadoop_client::{About, HadoopClients, Opinion, Planned, limit};
use crate::node::jars::Scheme;
use crate::node::unlike::Doubt;
use crate::paths::JOBS_ACCOUNT;
use crate::shown::hint;
use crate::signals;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the proof ended that did not fail.
pub(crate) enum Proven {
    /// Nothing had to be proved.
    NotNeeded,
    /// S3 allows emr-shs what jobs and the history server need.
    ByEmrShs,
    /// S3 allows it to Hadoop's own client, as these accounts.
    ByHadoop { accounts: String },
    /// S3 refuses it, and `--force` goes on.
    Forced { refused: Vec<String> },
}

impl Installation {
    /// Prepares Hadoop's own clients for the moment when a request of emr-shs to S3 fails. Starts nothing.
    pub(super) fn prepare_hadoop(&mut self) {
        let Some(uri) = self.event_logs.as_ref().filter(|_| self.host.s3.is_some()) else { return };
        let clients = Arc::new(self.hadoop_clients(uri, self.scheme.as_ref().and_then(|scheme| scheme.as_ref().ok())));
        let (finds, makes) = (clients.clone(), clients.clone());
        let only_server = self.settings.history_only;
        self.host.hadoop = Some(HadoopWay {
            comes_first: clients.has_settings_of_its_own(),
            exists: Box::new(move |uri| finds.exists(uri, only_server)),
            make: Box::new(move |uri| makes.make_directory(uri, only_server)),
        });
        self.hadoop = Some(clients);
    }

    fn hadoop_clients(&self, uri: &EventLogs, scheme: Option<&Scheme>) -> HadoopClients {
        let (jars, keys) = (self.planned_jars(scheme), self.planned_keys());
        HadoopClients::of(&self.host, &self.node, uri, Planned { jars: &jars, keys: Some(&keys) })
    }

    /// The jars that the history server's class path will get.
    fn planned_jars(&self, scheme: Option<&Scheme>) -> Vec<PathBuf> {
        let links = scheme.and_then(|scheme| scheme.links(&self.host, &self.settings.jars, self.force).ok());
        links.into_iter().flatten().map(|link| link.jar).collect()
    }

    /// The keys that spark-defaults.conf will get.
    fn planned_keys(&self) -> BTreeMap<String, String> {
        let context = self.context(&self.receipt, &self.settings);
        let desired = context.desired(&[Component::Configure]).unwrap_or_default();
        let planned = desired.into_iter().filter_map(|desired| match (desired.resource, desired.state) {
            (Resource::Key { key, .. }, DesiredState::Value { value, yields: false }) => Some((key, value)),
            _ => None,
        });
        planned.collect()
    }

    /// Hadoop's configuration as it will be.
    fn planned_hadoop(&self) -> Hadoop {
        self.node.hadoop.with_spark_keys(self.planned_keys().into_iter().map(|(key, value)| (key, Some(value))))
    }

    /// Asks Hadoop's own client whether the history server may read the bucket, if S3 did not tell emr-shs. A second
    /// opinion that writes waits until the installation begins.
    pub(super) fn ask_hadoop_for_bucket(&mut self) {
        let (Some(clients), Some(uri), Some(Err(_))) = (&self.hadoop, &self.event_logs, &self.s3.bucket) else {
            return;
        };
        self.s3.hadoop = Some(clients.ask(uri, About::Reading, Instant::now() + self.limit(&self.s3.probe)));
    }

    /// Proves that S3 allows what this installation needs. `tell` gets a line before something that takes seconds.
    pub(crate) fn prove_rights(&mut self, tell: &dyn Fn(&str)) -> Result<Proven> {
        let (Some(s3), Some(clients), Some(uri)) = (&self.host.s3, self.hadoop.clone(), self.event_logs.clone()) else {
            return Ok(Proven::NotNeeded);
        };
        let makes_prefix = self.plan.effective().any(|c| matches!(c.resource, Resource::Prefix { .. }));
        let only_reads = self.settings.history_only && !makes_prefix;
        if !self.concerns_s3() {
            return Ok(Proven::NotNeeded);
        }
        let is_reachable = matches!(self.s3.bucket, Some(Ok(_)));
        let probe = if is_reachable && !only_reads { s3.probe(&uri) } else { Probe::default() };
        let is_allowed = match only_reads {
            // A node that only reads an existing prefix needs to list it, which emr-shs has done by now.
            true => !clients.were_asked(),
            false => is_reachable && self.check_rights(&probe, None, false).is_ok(),
        };
        signals::check()?;
        let overridden = (self.settings.region.as_deref(), self.settings.endpoint_url.as_deref());
        let own = if only_reads { Proven::NotNeeded } else { Proven::ByEmrShs };
        let doubt = match is_allowed {
            true => {
                match self.node.doubt(&self.planned_hadoop(), &uri, overridden, Some(TimeoutProfile::Usual), only_reads)
                {
                    None => return Ok(own),
                    doubt => doubt,
                }
            }
            false => None,
        };
        signals::check()?;
        let why = doubt.as_ref().map_or_else(|| "emr-shs's own requests to S3 fail".into(), ToString::to_string);
        tell(&format!("{why}; asking Hadoop's own client, as jobs and the history server use it"));
        let clients = match &self.scheme {
            Some(_) => clients,
            // A command that makes no links has not looked for the jars that the server's class path lacks.
            None => {
                let scheme = self.node.scheme(&self.host, &uri.scheme, &self.settings.jars).ok();
                Arc::new(self.hadoop_clients(&uri, scheme.as_ref()))
            }
        };
        let about = if self.settings.history_only { About::Reading } else { About::Writing };
        let opinion = clients.ask(&uri, about, Instant::now() + self.limit(&probe));
        signals::check()?;
        let judged = self.check_rights(&probe, Some(&opinion), false);
        let judged = judged.and_then(|()| match doubt {
            Some(Doubt::Credentials | Doubt::Settings(_)) => refuse_unknown(&uri, &opinion),
            // emr-shs's own requests succeed, and few settings make others of Hadoop's.
            Some(Doubt::Unfamiliar(_)) | None => Ok(()),
        });
        if let Err(fault) = judged {
            if !self.force {
                return Err(fault.into());
            }
            let refused = [fault.message].into_iter().chain(fault.details).collect();
            return Ok(Proven::Forced { refused });
        }
        if let (Some(doubt), true) = (&doubt, opinion.is_unknown()) {
            let note = format!("{doubt}, and Hadoop's own client could not be asked. emr-shs's own requests succeed.");
            self.plan.notes.insert(0, note);
            return Ok(own);
        }
        if !is_allowed {
            let note = self.other_way(&uri, &opinion);
            self.plan.notes.insert(0, note);
        }
        let accounts = opinion.accounts().join(" and ");
        Ok(Proven::ByHadoop { accounts })
    }

    /// How long Hadoop's client may take.
    fn limit(&self, probe: &Probe) -> Duration {
        let bucket = self.s3.bucket.as_ref().and_then(|answer| answer.as_ref().err());
        let probed = [&probe.put, &probe.list, &probe.get, &probe.delete].into_iter().flatten();
        let mut refusals = bucket.into_iter().chain(probed.filter_map(|answer| answer.as_ref().err()));
        limit(refusals.any(|refusal| refusal.failure == S3Failure::Busy))
    }

    /// Refuses a bucket in which this node is not allowed to do what jobs and the history server need.
    fn check_rights(&self, probe: &Probe, hadoop: Option<&Opinion>, force: bool) -> Result<(), Fault> {
        let s3 = S3Observations { probe: probe.clone(), hadoop: hadoop.cloned(), ..self.s3.clone() };
        doctor::preflight(&self.facts_with(&s3, force), self.components())
    }

    /// Says that jobs and the history server have another way to S3 than emr-shs, and what that means for logs.
    fn other_way(&self, uri: &EventLogs, opinion: &Opinion) -> String {
        let mut text = format!(
            "emr-shs's own requests for {uri} fail, and those of Hadoop's own client, which jobs and the history server \
             use, succeed."
        );
        if !opinion.differs.is_empty() {
            text += &format!(
                " With these settings, Hadoop can reach S3 in another way than emr-shs: {}.",
                opinion.differs.join(", ")
            );
        }
        if opinion.jobs.is_some() {
            text += " Hadoop's client was asked as user hadoop. Jobs of other accounts, as through Livy, and jobs under \
                     runtime roles can have other rights, which this node cannot show.";
        }
        text + &self.rights_of_gateway()
    }

    /// What the log gateway may read: it has the instance profile's rights, whatever Hadoop's settings are.
    fn rights_of_gateway(&self) -> String {
        let Some(log_uri) = self.settings.log_uri().filter(|_| matches!(self.gateway, Some(Ok(_)))) else {
            return String::new();
        };
        let directory = EventLogs::from(log_uri);
        let connection =
            self.node.s3_connection(&directory, self.settings.region.as_deref(), self.settings.endpoint_url.as_deref());
        let answer = connection.open(TimeoutProfile::Short).map_err(Fault::of).and_then(|mut s3| {
            let found = s3.find_bucket(&directory).and_then(|_| s3.first_object(&directory));
            found.map(drop).map_err(|refusal| refusal.fault)
        });
        let own = " The log gateway does not use Hadoop's credentials: it reads logs with the instance profile";
        match answer {
            Ok(()) => format!("{own}, which is allowed to list {directory}."),
            Err(fault) => format!(
                "{own}, and no log opens until S3 allows the instance profile to list {directory}: {}.",
                fault.message
            ),
        }
    }
}

/// Refuses a bucket for which Hadoop has credentials or settings of its own, and Hadoop's client cannot be asked what it is
/// allowed with them.
fn refuse_unknown(uri: &EventLogs, opinion: &Opinion) -> Result<(), Fault> {
    if !opinion.is_unknown() {
        return Ok(());
    }
    let fault = Fault::preflight(format!("nothing shows whether jobs and the history server can use {uri}"));
    let fault = opinion.lines().into_iter().fold(fault, Fault::detail).unchanged();
    Err(fault.hint(hint!(
        "try it as jobs do: sudo -u {} hadoop fs -ls {}; if that succeeds, add --force",
        JOBS_ACCOUNT,
        uri.to_string()
    )))
}
