//! `index status`

use super::format::{bytes, span};
use super::{Named, OpenIndex};
use crate::aws::uri::EventLogs;
use crate::cli::index::IndexArgs;
use crate::error::Exit;
use crate::host::Host;
use crate::index::{Sent, Store, Summary, missing_permission, now, source_name};
use crate::shown::number;
use crate::shown::{hint, visible_line};
use crate::ui::{Console, try_data, wrapped};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

#[derive(Serialize)]
struct StatusReport {
    db: String,
    exists: bool,
    db_bytes: u64,
    sources: Vec<SourceReport>,
    /// When this machine last wrote the snapshot, in UTC.
    snapshot_written: Option<String>,
    /// The requests of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Sent>,
}

#[derive(Default, Serialize)]
struct SourceReport {
    uri: String,
    /// Attempts of applications that a search finds.
    attempts: u64,
    logs: u64,
    /// Event logs that show nothing yet.
    unread: u64,
    /// Event logs that show what they told before.
    to_read_again: u64,
    end_unread: u64,
    failed: u64,
    without_application: u64,
    newest: Option<String>,
    listed: Option<String>,
    looked: Option<String>,
    problems: Vec<Problem>,
    other_objects: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_object: Option<String>,
}

#[derive(Serialize)]
struct Problem {
    why: String,
    logs: u64,
    example: String,
    /// What to do, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Problem {
    fn of(why: String, logs: u64, example: String, uri: &str) -> Self {
        let hint = missing_permission(&why).map(|action| match action.starts_with("kms:") {
            true => {
                format!("allow {action} on the KMS key of these objects, in the key's policy or in that of your role")
            }
            false => {
                let policy = hint!("emr-shs render iam-policy --for history-server --event-logs {}", uri);
                format!("allow {action} below the prefix; to print the policy: {policy}")
            }
        });
        Self { why, logs, example, hint }
    }
}

pub(super) fn run(host: &Host, args: &IndexArgs, console: &Console) -> Result<Exit> {
    let Named { path, uris, connections } = Named::by(host, args)?;
    match Store::look(&path)? {
        Some(store) => {
            report(&OpenIndex { store, uris, connections, is_distrusted: false }, None, "index status", console)?;
        }
        None => print(&StatusReport::of_nothing(&path, &uris), "index status", console)?,
    }
    Ok(Exit::Done)
}

pub(super) fn report(index: &OpenIndex, summary: Option<&Summary>, command: &str, console: &Console) -> Result<()> {
    print(&StatusReport::of(index, summary)?, command, console)
}

fn print(report: &StatusReport, command: &str, console: &Console) -> Result<()> {
    if console.is_json() {
        console.data(command, report);
    } else {
        try_data(&[report.text().trim_end().to_string()]).context("cannot write the report to stdout")?;
    }
    Ok(())
}

impl StatusReport {
    /// The report of a file that does not exist.
    fn of_nothing(path: &Path, uris: &[EventLogs]) -> Self {
        let unknown = |uri| SourceReport { uri: source_name(uri), ..SourceReport::default() };
        Self {
            db: path.display().to_string(),
            exists: false,
            db_bytes: 0,
            sources: uris.iter().map(unknown).collect(),
            snapshot_written: None,
            requests: None,
        }
    }

    fn of(index: &OpenIndex, summary: Option<&Summary>) -> Result<Self> {
        let path = index.store.path();
        let size = |end: &str| fs_err::metadata(format!("{}{end}", path.display())).map_or(0, |meta| meta.len());
        let written = index.store.fact("snapshot_written")?.and_then(|text| text.parse().ok());
        Ok(Self {
            db: path.display().to_string(),
            exists: true,
            db_bytes: size("") + size("-wal"),
            sources: index.uris.iter().map(|uri| SourceReport::of(index, source_name(uri))).collect::<Result<_>>()?,
            snapshot_written: written.and_then(super::times::iso),
            requests: summary.map(|summary| summary.sent),
        })
    }

    fn text(&self) -> String {
        let size = if self.exists { bytes(self.db_bytes) } else { "does not exist yet".into() };
        let mut text = format!("index     {} ({size})\n", visible_line(&self.db));
        for source in &self.sources {
            text += &source.text();
        }
        if let Some(Sent { list, get, put }) = self.requests {
            text += &format!("requests  {} LIST, {} GET, {} PUT\n", number(list), number(get), number(put));
        }
        text
    }
}

impl SourceReport {
    fn of(index: &OpenIndex, uri: String) -> Result<Self> {
        let store = &index.store;
        let Some(id) = store.known_source(&uri)? else {
            return Ok(Self { uri, ..Self::default() });
        };
        let counts = store.counts(id)?;
        let (attempts, newest) = store.shown(id)?;
        let (listed, looked) = store.listed(id)?;
        let (other_objects, other_object) = store.foreign(id)?;
        let iso = |time: Option<i64>| time.and_then(super::times::iso);
        let problems = store.problems(id)?;
        let of = |(why, logs, example)| Problem::of(why, logs, example, &uri);
        let problems = problems.into_iter().map(of).collect();
        Ok(Self {
            uri,
            attempts,
            logs: store.logs(id)?,
            unread: counts.unread,
            to_read_again: counts.to_read_again,
            end_unread: counts.end_unread,
            failed: counts.failed,
            without_application: counts.without_application,
            newest: iso(newest),
            listed: iso(listed),
            looked: iso(looked),
            problems,
            other_objects,
            other_object,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("source    {}\n", visible_line(&self.uri));
        let row = |name: &str, found: &str| wrapped(&format!("  {name:<8}"), "          ", &visible_line(found)) + "\n";
        let Some(_) = &self.listed else {
            let so_far = match self.logs {
                0 => "never listed: emr-shs index search lists it".to_string(),
                logs => format!("no complete listing yet; {} event logs are known", number(logs)),
            };
            return text + &row("listed", &so_far);
        };
        text += &row(
            "shows",
            &format!("{} attempts of applications, from {} event logs", number(self.attempts), number(self.logs)),
        );
        let ago = |time: &Option<String>| {
            let then =
                time.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(|t| t.as_millisecond());
            then.map(|then| format!("{} ago", span(Duration::from_millis((now() - then).max(0).unsigned_abs()))))
        };
        let listed = ago(&self.listed).unwrap_or_default();
        text += &row(
            "listed",
            &match ago(&self.looked).filter(|_| self.looked > self.listed) {
                Some(looked) => format!("completely {listed}; looked for new logs {looked}"),
                None => listed,
            },
        );
        if self.unread > 0 {
            text += &row("unread", &format!("{} event logs", number(self.unread)));
        }
        if self.to_read_again > 0 {
            let logs = number(self.to_read_again);
            text += &row("again", &format!("{logs} event logs are to be read again, and show what they told before"));
        }
        if self.end_unread > 0 {
            text += &row(
                "no end",
                &format!(
                    "{} event logs: their compression hides the end until all of them is read",
                    number(self.end_unread)
                ),
            );
        }
        for problem in &self.problems {
            let logs = if problem.logs == 1 { "event log" } else { "event logs" };
            text += &row(
                "problem",
                &format!("{} {logs}: {}; for example {}", number(problem.logs), problem.why, problem.example),
            );
            if let Some(hint) = &problem.hint {
                // One line, because people copy the command.
                text += &format!("  hint    {}\n", visible_line(hint));
            }
        }
        if let Some(example) = &self.other_object {
            text += &row(
                "others",
                &format!("{} objects that are no event logs, for example {example}", number(self.other_objects)),
            );
        }
        text
    }
}
