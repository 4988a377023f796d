//! `verify`: proves from end to end that the installation works. If a stage fails, it reports the checks of
//! `doctor` that explain the failure.

use super::{doctor, host};
use crate::change::receipt::Receipt;
use crate::cli::VerifyArgs;
use crate::cli::options::LoginArgs;
use crate::doctor::check::{CheckId, CheckReport};
use crate::doctor::gather::Gathered;
use crate::error::{Exit, Fault, Verdict};
use crate::host::Host;
use crate::node::Node;
use crate::shown::visible_line;
use crate::signals;
use crate::ui::{Console, data, wrapped};
use crate::verify::{Failure, Proof, ProofEvent, Stage, StageReport};
use anyhow::Result;
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// The width of the column of stage names.
const NAME: usize = 15;

/// How the proof ended.
#[derive(Debug, Serialize)]
pub(super) struct VerifyReport {
    /// `done` or `failed`.
    result: &'static str,
    stages: Vec<StageReport>,
    seconds: f64,
    /// The failed checks that explain the failed stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckReport>,
    #[serde(skip)]
    fault: Option<Fault>,
}

pub(super) fn run(root: &Path, args: &VerifyArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let report = prove(host, &args.login, args.timeout, console)?;
    if console.is_json() {
        console.data("verify", &report);
    }
    report.end(console)
}

/// Runs all stages, and prints each when it has ended. `timeout` is how long the history server may take to list
/// the synthetic application: by default two scans and a minute.
pub(super) fn prove(
    host: Host,
    login: &LoginArgs,
    timeout: Option<Duration>,
    console: &Console,
) -> Result<VerifyReport> {
    if login.is_on_command_line() {
        console.warn(
            "--login shows the password to every user of this node, and to the log of sudo. verify needs none: as root \
             it proves itself to the log gateway. To try a login: EMR_SHS_LOGIN in the environment of root",
        );
    }
    let begun = Instant::now();
    if !host.is_live() {
        return Err(Fault::usage("a directory given with --root has no history server to verify")
            .hint("run verify on the node itself: sudo emr-shs verify")
            .into());
    }
    let receipt = Receipt::load(&host)?;
    let Some(event_logs) = receipt.settings.event_logs.as_ref().filter(|_| !receipt.is_empty()) else {
        return Err(Fault::preflight("emr-shs is not installed on this node, so there is nothing to verify")
            .detail("doctor examines nodes without an installation")
            .hint("sudo emr-shs install --event-logs s3://my-bucket/spark-events/; or: sudo emr-shs doctor")
            .into());
    };
    let node = Node::read(&host)?;
    let timeout =
        timeout.unwrap_or(node.spark.scan_interval().saturating_mul(2).saturating_add(Duration::from_secs(60)));
    let proof = Proof { host: &host, node: &node, receipt: &receipt, login: login.login.as_deref(), timeout };
    let mut stages: Vec<StageReport> = Vec::new();
    let bar = console.spinner().unwrap_or_else(ProgressBar::hidden);
    let result = proof.run(event_logs, &mut |event| match event {
        ProofEvent::Waiting(text) => {
            bar.set_message(visible_line(text).into_owned());
            bar.tick();
        }
        ProofEvent::StageEnded(stage) => {
            if !console.is_json() {
                bar.suspend(|| data(&row(&stage)));
            }
            stages.push(stage);
        }
    });
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let Err(Failure { stage, mut fault }) = result else {
        return Ok(VerifyReport { result: "done", stages, seconds, checks: Vec::new(), fault: None });
    };
    // The proof itself has written objects.
    fault.unchanged = false;
    let checks = if signals::stop_requested() { Vec::new() } else { failed_checks(host, receipt, stage) };
    Ok(VerifyReport { result: "failed", stages, seconds, checks, fault: Some(fault) })
}

/// The failed checks that explain why a stage fails. If nothing can be gathered, the stage's own error has to do.
fn failed_checks(host: Host, receipt: Receipt, stage: Stage) -> Vec<CheckReport> {
    let settings = receipt.settings.clone();
    let Ok(gathered) = Gathered::gather(host, receipt, settings) else { return Vec::new() };
    let mut checks = gathered.report(|id| explained_by(stage).contains(&id));
    checks.retain(|check| check.verdict == Verdict::Fail);
    checks
}

/// The checks that can explain why a stage fails.
fn explained_by(stage: Stage) -> &'static [CheckId] {
    use CheckId::*;
    match stage {
        Stage::WriteEventLog => &[Credentials, Clock, Bucket, List, Kms, Get, Put, Delete],
        Stage::WriteContainerLog => &[Credentials, Clock, LogUri, Archive],
        Stage::Listed => &[Drift, Defaults, ClassPath, Disk, Heap, Port, Prefix, Kms, Get, Service, ServerLog, Reads],
        Stage::Executors => &[Heap, Disk, Service, ServerLog],
        Stage::Link => &[Drift, Defaults, LogPattern, CheckId::Gateway],
        Stage::Gateway => &[Drift, CheckId::Gateway, LogUri, Archive, Clock],
        Stage::Log => &[Clock, Credentials, Archive, CheckId::Gateway],
        Stage::Complete => &[Drift, CheckId::Gateway],
        Stage::Removed => &[Delete, Credentials],
    }
}

impl VerifyReport {
    /// Which stages the proof skipped or did not reach, as the end of a sentence.
    fn unproved(&self) -> String {
        let passed = |stage: &Stage| self.stages.iter().any(|s| s.stage == *stage && s.verdict == Verdict::Pass);
        let names: Vec<&str> = Stage::ALL.into_iter().filter(|stage| !passed(stage)).map(Stage::name).collect();
        if names.is_empty() { String::new() } else { format!(", without these stages: {}", names.join(", ")) }
    }

    /// Prints how the proof ended.
    pub(super) fn end(self, console: &Console) -> Result<Exit> {
        let Some(fault) = self.fault else {
            console.say(&format!("proved in {:.1} s{}", self.seconds, self.unproved()));
            return Ok(Exit::Done);
        };
        console.fault_in_words(&fault);
        if self.checks.is_empty() && !signals::stop_requested() {
            console.say("none of the checks that could explain this fails; to run all checks: sudo emr-shs doctor");
        }
        // A check can repeat the error itself.
        let more: Vec<CheckReport> = self.checks.into_iter().filter(|check| check.found != fault.message).collect();
        if !console.is_json() && !more.is_empty() {
            data(&doctor::text(&more, false));
        }
        Ok(if signals::stop_requested() { Exit::Failed } else { Exit::CheckFailed })
    }
}

fn row(stage: &StageReport) -> String {
    let (word, style) = doctor::word(stage.verdict);
    let head = format!("{word}  {:<NAME$} {:>6.1} s  ", stage.stage.name(), stage.seconds);
    let text = wrapped(&head, &" ".repeat(head.len()), &stage.found);
    format!("{style}{word}{style:#}{}", &text[word.len()..])
}
