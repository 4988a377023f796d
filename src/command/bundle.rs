//! `doctor --bundle`: the checks, and beside them a file for somebody elsewhere.

use super::doctor::{DoctorReport, promise_an_end, word};
use crate::bundle::{ANSWERS, Checks, Collection, Target, Written};
use crate::cli::DoctorArgs;
use crate::doctor::check::CheckReport;
use crate::doctor::gather::Gathered;
use crate::error::{Exit, Fault};
use crate::redact::Kind;
use crate::shown::{Hint, hint};
use crate::signals;
use crate::ui::{Console, data, dataln, wrapped};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;
use std::sync::mpsc;

/// The role that EMR itself makes.
const DEFAULT_ROLE: &str = "EMR_EC2_DefaultRole";

#[derive(Serialize)]
struct BundleReport<'a> {
    #[serde(flatten)]
    report: &'a DoctorReport,
    bundle: &'a Written,
    /// What to type to read the file.
    look: Hint,
}

/// Writes the bundle, also where a check hangs, and prints what is in it.
pub(super) fn run(root: &Path, args: &DoctorArgs, file: &Path, console: &Console) -> Result<Exit> {
    promise_an_end();
    let target = Target::free(file)?;
    let collection = Collection::begin(&root.canonicalize().with_context(|| format!("--root {}", root.display()))?);
    let (sender, examined) = mpsc::channel();
    let (own_root, own_args) = (root.to_path_buf(), args.clone());
    std::thread::spawn(move || {
        let examined = DoctorReport::examine(&own_root, &own_args);
        // This fails if nobody waits any more.
        let _ = sender.send(examined.map(|(report, gathered)| {
            let checks = checks(&report, &gathered);
            (report, checks)
        }));
    });
    let examined = examined.recv_timeout(collection.time_for_checks()).unwrap_or_else(|_| Err(late().into()));
    let (report, checks) = match examined {
        Ok((report, checks)) => (Ok(report), Ok(checks)),
        Err(why) => {
            let fault = Fault::of(why);
            let text = [vec![fault.message.clone()], fault.details.clone()].concat().join("; ");
            (Err(fault), Err(text))
        }
    };
    let written = collection.write(&target, checks)?;
    let look = hint!("sudo tar -xzOf {}", file);
    let report = match report {
        Ok(report) => report,
        Err(fault) => {
            if !console.is_json() {
                print(&written, &look, file);
            }
            return Err(fault.detail(format!("the bundle {} is written without the checks", file.display())).into());
        }
    };
    if console.is_json() {
        console.data("doctor", BundleReport { report: &report, bundle: &written, look });
    } else {
        data(&report.text(console.is_verbose()));
        print(&written, &look, file);
    }
    Ok(report.exit())
}

fn late() -> Fault {
    let hanging = signals::hanging_file().map(|path| format!("{} does not answer", path.display()));
    let fault = Fault::failed("the checks have not finished in time, because something on this node hangs");
    hanging.into_iter().fold(fault, Fault::detail)
}

/// What the bundle needs of a report.
fn checks(report: &DoctorReport, gathered: &Gathered) -> Checks {
    let described = gathered.described().map(|described| match described {
        Ok(emr) => Ok(emr.spelled_log_uri.clone()),
        Err(why) => Err(why.to_string()),
    });
    let cluster = gathered.described().and_then(|described| described.as_ref().ok()).map(|emr| &emr.cluster);
    let mut names: Vec<(Kind, String)> =
        gathered.event_logs().map(|uri| (Kind::Bucket, uri.bucket.clone())).into_iter().collect();
    names.extend(cluster.and_then(|cluster| cluster.public_dns.clone()).map(|name| (Kind::Host, name)));
    names.extend(gathered.role().filter(|role| *role != DEFAULT_ROLE).map(|role| (Kind::Name, role.to_string())));
    Checks {
        text: report.checks().iter().map(lines).collect(),
        json: serde_json::to_value(report).unwrap_or_default(),
        findings: report.checks().iter().map(|check| (check.id.name().to_string(), check.found.clone())).collect(),
        described,
        names,
    }
}

/// A check in whole lines: a name that a line end cuts from the word before it is harder to recognize.
fn lines(check: &CheckReport) -> String {
    let mut text = format!("{}  {:<14} {}\n", word(check.verdict).0, check.id.name(), check.found);
    let fix = check.fix.iter().map(|fix| format!("fix: {fix}"));
    for line in
        check.details.iter().cloned().chain(fix).flat_map(|line| line.lines().map(str::to_string).collect::<Vec<_>>())
    {
        text.push_str(&format!("                     {line}\n"));
    }
    text
}

/// What is in the file, and how to look into it.
fn print(written: &Written, look: &Hint, file: &Path) {
    dataln!("\nBundle {}, {} bytes, readable for its owner alone:", written.file.display(), written.size);
    for entry in &written.files {
        let head = format!("  {:<28} {:>7}  ", entry.name, entry.size);
        data(&wrapped(&head, &" ".repeat(head.len()), entry.purpose));
    }
    if !written.left_out.is_empty() {
        data("Not in it:");
    }
    for left in &written.left_out {
        let head = format!("  {:<28} ", left.name);
        data(&wrapped(&head, &" ".repeat(head.len()), &left.why));
    }
    dataln!("\nSecrets are not in it, and names of buckets, accounts, machines and people are placeholders.");
    dataln!("Log lines can contain more than emr-shs recognizes, so look before you send the file:");
    dataln!("  {}", hint!("{} {}", *look, ANSWERS));
    dataln!("  {} | less", hint!("sudo tar -xzOf {}", file));
}
