//! `verify`: proof from end to end that what is installed works; what fails is explained by the
//! checks that concern it.

use super::{doctor, host};
use crate::change::receipt::Receipt;
use crate::cli::VerifyArgs;
use crate::cli::options::LoginArgs;
use crate::doctor::CheckReport;
use crate::doctor::gather::Gathered;
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::node::Node;
use crate::signals;
use crate::ui::{Console, data};
use crate::verify::{Failure, News, Proof, Step};
use anyhow::Result;
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// What it came to.
#[derive(Debug, Serialize)]
pub struct VerifyReport {
    /// `done` or `failed`.
    result: &'static str,
    /// The stages, in their order.
    stages: Vec<Step>,
    /// Seconds all of it took.
    seconds: f64,
    /// The checks that concern the stage that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckReport>,
    #[serde(skip)]
    fault: Option<Fault>,
}

/// Proves it.
pub fn run(root: &Path, args: &VerifyArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let report = prove(host, &args.login, args.timeout, console)?;
    if console.is_json() {
        console.data("verify", &report);
    }
    report.end(console)
}

/// Goes through all stages, each printed when it has ended. `timeout` is how long the history
/// server may take to list what is new; none means as long as two of its scans and a minute.
pub fn prove(host: Host, who: &LoginArgs, timeout: Option<Duration>, console: &Console) -> Result<VerifyReport> {
    let begun = Instant::now();
    if !host.is_live() {
        return Err(Fault::usage("below another root there is no history server to prove anything of")
            .hint("run it on the node itself: sudo emr-shs verify")
            .into());
    }
    let receipt = Receipt::load(&host)?;
    let Some(event_logs) = receipt.settings.event_logs.as_ref().filter(|_| !receipt.is_empty()) else {
        return Err(Fault::preflight("emr-shs is not installed here, so there is nothing to prove")
            .detail("what is wrong with a node without it, doctor tells")
            .hint("sudo emr-shs install --event-logs s3://my-bucket/spark-events/; or: sudo emr-shs doctor")
            .into());
    };
    let node = Node::read(&host)?;
    let timeout =
        timeout.unwrap_or(node.spark.scan_interval().saturating_mul(2).saturating_add(Duration::from_secs(60)));
    let proof = Proof { node: &node, receipt: &receipt, login: who.login.as_deref(), timeout };
    let mut stages: Vec<Step> = Vec::new();
    let bar = console.spinner().unwrap_or_else(ProgressBar::hidden);
    let result = proof.carry_out(event_logs, &mut |news| match news {
        News::Waits(what) => {
            bar.set_message(what.to_string());
            bar.tick();
        }
        News::Step(step) => {
            if !console.is_json() {
                bar.suspend(|| data(&row(&step)));
            }
            stages.push(step);
        }
    });
    bar.finish_and_clear();
    let mut report = VerifyReport {
        result: "done",
        stages,
        seconds: begun.elapsed().as_secs_f64(),
        checks: Vec::new(),
        fault: None,
    };
    if let Err(Failure { stage, mut fault }) = result {
        fault.unchanged = false;
        report.result = "failed";
        report.fault = Some(fault);
        // Who ends it by Ctrl-C knows why it ended.
        if !signals::asked() {
            let settings = receipt.settings.clone();
            // Without them what happened is told all the same.
            if let Ok(examination) = Gathered::make(host, receipt, settings) {
                let lines = examination.report(|name| stage.checks.contains(&name));
                report.checks = lines.into_iter().filter(|line| line.result == "fail").collect();
            }
        }
    }
    Ok(report)
}

impl VerifyReport {
    /// Says how it ended: the fault, and what explains it.
    pub fn end(self, console: &Console) -> Result<Exit> {
        let Some(fault) = self.fault else {
            console.say(&format!("proved in {:.1} s", self.seconds));
            return Ok(Exit::Done);
        };
        console.fault_in_words(&fault);
        if self.checks.is_empty() && !signals::asked() {
            console.say("no check that concerns it fails; all of them: sudo emr-shs doctor");
        }
        let more: Vec<CheckReport> = self.checks.into_iter().filter(|line| line.found != fault.message).collect();
        if !console.is_json() && !more.is_empty() {
            data(&doctor::text(&more, false));
        }
        Ok(if signals::asked() { Exit::Failed } else { Exit::Preflight })
    }
}

fn row(step: &Step) -> String {
    let (word, style) = doctor::word(step.result);
    let head = format!("{word}  {:<15} {:>6.1} s  ", step.stage, step.seconds);
    let text = doctor::wrapped(&head, &" ".repeat(head.len()), &step.found);
    format!("{style}{word}{style:#}{}", &text[word.len()..])
}
