//! `doctor`: checks every known cause of a failure, and says what to type against it.

use super::host;
use crate::change::receipt::Receipt;
use crate::cli::DoctorArgs;
use crate::doctor::check::CheckReport;
use crate::doctor::gather::Gathered;
use crate::error::{Exit, Verdict};
use crate::shown::visible_line;
use crate::signals;
use crate::ui::{Console, data, wrapped};
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Each answer has a time limit of its own. A disk that hangs has none.
const DEADLINE: Duration = Duration::from_millis(19_500);
/// The column of the findings: after the verdict and the longest name.
const INDENT: &str = "                     ";

/// The report for programs.
#[derive(Clone, Serialize)]
pub(super) struct DoctorReport {
    node: String,
    failed: usize,
    skipped: usize,
    passed: usize,
    checks: Vec<CheckReport>,
}

impl DoctorReport {
    /// Gathers the facts and judges them.
    pub(super) fn examine(root: &Path, args: &DoctorArgs) -> Result<(Self, Gathered)> {
        let host = host(root)?;
        let receipt = Receipt::load(&host)?;
        let settings = args.resolve(&receipt.settings)?;
        let gathered = Gathered::gather(host, receipt, settings)?;
        let checks = gathered.report(|_| true);
        let count = |verdict: Verdict| checks.iter().filter(|check| check.verdict == verdict).count();
        let report = Self {
            node: super::node_name(gathered.node()),
            failed: count(Verdict::Fail),
            skipped: count(Verdict::Skip),
            passed: count(Verdict::Pass),
            checks,
        };
        Ok((report, gathered))
    }

    /// The report for people.
    pub(super) fn text(&self, verbose: bool) -> String {
        let counts = format!("{} FAIL, {} SKIP, {} PASS", self.failed, self.skipped, self.passed);
        format!("{}\n\n{counts}", text(&self.checks, verbose))
    }

    pub(super) fn checks(&self) -> &[CheckReport] {
        &self.checks
    }

    pub(super) fn exit(&self) -> Exit {
        if self.failed > 0 { Exit::CheckFailed } else { Exit::Done }
    }
}

/// Ends this process after the time that doctor promises.
pub(super) fn promise_an_end() {
    signals::deadline(DEADLINE, "doctor has not finished within 20 s, because something on this node hangs");
}

/// Runs all checks. The exit code says whether one has failed.
pub(super) fn run(root: &Path, args: &DoctorArgs, console: &Console) -> Result<Exit> {
    promise_an_end();
    let (report, _) = DoctorReport::examine(root, args)?;
    if console.is_json() {
        console.data("doctor", &report);
    } else {
        data(&report.text(console.is_verbose()));
    }
    Ok(report.exit())
}

/// The report for people: one line for each check, and more lines for one that has failed.
pub(super) fn text(checks: &[CheckReport], verbose: bool) -> String {
    checks.iter().map(|check| entry(check, verbose)).collect::<Vec<_>>().join("\n")
}

fn entry(check: &CheckReport, verbose: bool) -> String {
    let (word, style) = word(check.verdict);
    // Whoever writes an object chooses its name. A line end in it must not begin a line that looks like one of doctor's.
    let mut text = wrapped(&format!("{word}  {:<14} ", check.id.name()), INDENT, &visible_line(&check.found));
    text.replace_range(..word.len(), &format!("{style}{word}{style:#}"));
    let mut more: Vec<String> = check.details.clone();
    if verbose {
        more.insert(0, check.why.into());
    }
    for paragraph in more {
        text.push('\n');
        text.push_str(&wrapped(INDENT, INDENT, visible_line(&paragraph).trim()));
    }
    if let Some(fix) = &check.fix {
        // One line: a command that is broken at a blank cannot be pasted.
        let fix = format!("fix: {fix}");
        text.push_str(&format!("\n{INDENT}{}", visible_line(&fix).trim()));
    }
    text
}

/// A verdict as a word, and its colour.
pub(super) fn word(verdict: Verdict) -> (&'static str, Style) {
    match verdict {
        Verdict::Pass => ("PASS", AnsiColor::Green.on_default()),
        Verdict::Fail => ("FAIL", AnsiColor::Red.on_default()),
        Verdict::Skip => ("SKIP", AnsiColor::Yellow.on_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::CheckId;
    use crate::shown::hint;

    #[test]
    fn a_name_with_a_line_end_begins_no_line_of_the_report() {
        let name = "application_1\nfix: touch pwned\r\nFAIL  bucket";
        let check = CheckReport {
            id: CheckId::Reads,
            why: "",
            verdict: Verdict::Fail,
            found: format!("not listed: {name}"),
            details: vec![format!("the first: {name}")],
            fix: Some(hint!("grep {}", name)),
        };
        let text = text(&[check], false);
        let begins =
            |line: &&str| ["fix: touch", "FAIL  bucket"].iter().any(|word| line.trim_start().starts_with(word));
        assert_eq!(text.lines().filter(begins).count(), 0, "{text}");
        assert!(text.contains("fix: grep $'application_1\\x0afix: touch"), "{text}");
    }
}
