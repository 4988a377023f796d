//! `doctor`: every known cause of trouble, checked, and what mends it.

use super::host;
use crate::change::receipt::Receipt;
use crate::cli::DoctorArgs;
use crate::doctor::CheckReport;
use crate::doctor::gather::Gathered;
use crate::error::Exit;
use crate::ui::{Console, data};
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

const WIDTH: usize = 80;
/// Where what was found begins: after the result and the longest name.
const INDENT: &str = "                     ";

#[derive(Serialize)]
struct DoctorReport<'a> {
    node: String,
    failed: usize,
    skipped: usize,
    passed: usize,
    checks: &'a [CheckReport],
}

/// Runs all checks; the exit code says whether one failed.
pub fn run(root: &Path, args: &DoctorArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let receipt = Receipt::load(&host)?;
    let settings = args.resolve(&receipt.settings)?;
    let examination = Gathered::make(host, receipt, settings)?;
    let lines = examination.report(|_| true);
    let count = |result: &str| lines.iter().filter(|line| line.result == result).count();
    let report = DoctorReport {
        node: super::node_name(examination.node()),
        failed: count("fail"),
        skipped: count("skip"),
        passed: count("pass"),
        checks: &lines,
    };
    if console.is_json() {
        console.data("doctor", &report);
    } else {
        data(&text(&lines, console.is_verbose()));
        data(&format!("\n{} FAIL, {} SKIP, {} PASS", report.failed, report.skipped, report.passed));
    }
    Ok(if report.failed > 0 { Exit::Preflight } else { Exit::Done })
}

/// A report for people: a line a check, more only where something is wrong.
pub fn text(lines: &[CheckReport], verbose: bool) -> String {
    lines.iter().map(|line| entry(line, verbose)).collect::<Vec<_>>().join("\n")
}

fn entry(line: &CheckReport, verbose: bool) -> String {
    let (word, style) = word(line.result);
    let mut text = wrapped(&format!("{word}  {:<14} ", line.name), INDENT, &line.found);
    text.replace_range(..word.len(), &format!("{style}{word}{style:#}"));
    let mut more: Vec<String> = line.details.clone();
    more.extend(line.fix.as_ref().map(|fix| format!("fix: {fix}")));
    if verbose {
        more.insert(0, line.why.into());
    }
    for paragraph in more.iter().flat_map(|text| text.lines()) {
        text.push('\n');
        text.push_str(&wrapped(INDENT, INDENT, paragraph.trim()));
    }
    text
}

/// The word for `pass`, `fail` and `skip`, and its colour.
pub fn word(result: &str) -> (&'static str, Style) {
    match result {
        "pass" => ("PASS", AnsiColor::Green.on_default()),
        "fail" => ("FAIL", AnsiColor::Red.on_default()),
        _ => ("SKIP", AnsiColor::Yellow.on_default()),
    }
}

/// Wrapped, but never within a word: a path stays whole.
pub fn wrapped(head: &str, indent: &str, text: &str) -> String {
    let options = textwrap::Options::new(WIDTH).initial_indent(head).subsequent_indent(indent);
    textwrap::fill(text, options.break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation))
}
