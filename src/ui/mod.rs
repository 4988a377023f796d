//! What people and programs read: rows, errors, and the JSON of the same structs.
//!
//! stdout is data (a plan, a status, one JSON object), stderr is talk. Colour marks the verb and
//! nothing else, and only on a terminal.

use crate::change::plan::{Action, Change, Plan};
use crate::change::resource::{Resource, State};
use crate::cli::{Color, Global};
use crate::command::verify;
use crate::error::{Exit, Fault};
use crate::install::prepare::Installation;
use crate::installed::log_gateway::Tunnel;
use crate::node::history_server::{HistoryServer, NotReady, Readiness};
use crate::node::spark::Spark;
use crate::paths::HISTORY_SERVER_UNIT;
use anstream::{stderr, stdout};
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Version of the JSON this program prints.
const SCHEMA: u32 = 1;
const WIDTH: usize = 80;
/// The widest name column; longer names push their row.
const NAME: usize = 46;

/// Where output goes, and how much of it.
pub struct Console {
    json: bool,
    quiet: bool,
    verbose: bool,
}

/// One JSON object: the schema, the command, and its data.
#[derive(Serialize)]
struct Document<'a, T: Serialize> {
    schema: u32,
    command: &'a str,
    #[serde(flatten)]
    data: T,
}

/// How an installation went.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// `done` or `nothing-to-do`.
    pub result: &'static str,
    /// The changes that were made.
    pub changes: Vec<Change>,
    /// Seconds the history server took to become ready, if it was restarted.
    pub ready_after: Option<f64>,
    /// Seconds all of it took.
    pub seconds: f64,
    /// Where event logs are.
    pub event_logs: Option<String>,
    /// The command that brings the gateway to a browser.
    pub tunnel: Option<Tunnel>,
    /// Where the history server answers.
    pub url: Option<String>,
    /// Whether a restart is still owed.
    pub owes_restart: bool,
    /// What was found wrong before.
    pub found: Vec<String>,
    /// What the changes mean.
    pub notes: Vec<String>,
    /// The proof that it works, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<verify::VerifyReport>,
}

impl Outcome {
    /// What an installation came to.
    pub fn of(job: &Installation, ready: Option<Duration>, took: Duration) -> Self {
        let changes: Vec<Change> = job.plan.real().cloned().collect();
        Self {
            result: if job.plan.is_done() { "nothing-to-do" } else { "done" },
            owes_restart: ready.is_none()
                && (job.receipt.owes_restart || job.node.server.is_some() && changes.iter().any(Change::needs_restart)),
            changes,
            ready_after: ready.map(|d| d.as_secs_f64()),
            seconds: took.as_secs_f64(),
            event_logs: job.event_logs.as_ref().map(ToString::to_string),
            tunnel: job.gateway.as_ref().and_then(|g| g.as_ref().ok()).map(|_| Tunnel::of(&job.settings)),
            url: job.node.server.as_ref().map(|server| server.url(&job.node.spark, &job.settings.set)),
            found: job.plan.found.clone(),
            notes: job.plan.notes.clone(),
            verify: None,
        }
    }
}

impl Console {
    /// Set up by the options of every command.
    pub fn new(options: &Global) -> Self {
        match options.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        Self { json: options.json, quiet: options.quiet, verbose: options.verbose }
    }

    /// Talk.
    pub fn say(&self, text: &str) {
        if !self.quiet && !text.is_empty() {
            talk(text);
        }
    }

    /// Something that must be known even if the rest is not read.
    pub fn warn(&self, text: &str) {
        let style = AnsiColor::Yellow.on_default();
        talk(&format!("{style}warning{style:#}: {text}"));
    }

    /// A check that passed.
    pub fn ok(&self, name: &str, text: &str) {
        self.say(&row("ok", AnsiColor::Green.on_default(), name, text));
    }

    /// The one line on a node that is not the primary.
    pub fn not_primary(&self, command: &str) -> Exit {
        if self.json {
            self.data(command, serde_json::json!({ "result": "not-primary" }));
        }
        self.say("not the primary node: nothing to do here");
        Exit::Done
    }

    /// The rows of changes that were made.
    pub fn rows(&self, changes: &[Change]) {
        for change in changes.iter().filter(|c| self.verbose || c.yields || c.is_real() && !is_implied(c)) {
            self.say(&change_row(change));
        }
    }

    /// What was found, or what changes mean: a paragraph each.
    pub fn notes(&self, notes: &[String]) {
        self.say(paragraphs(notes).trim_end());
    }

    /// One row about something that is left as it is.
    pub fn row_left(&self, change: &Change) {
        self.say(&row("left", AnsiColor::Yellow.on_default(), &change.resource.name(), &change.why));
    }

    /// One row of something that was done.
    pub fn row(&self, change: &Change) {
        if self.verbose || !is_implied(change) {
            self.say(&change_row(change));
        }
    }

    /// A plan: stdout, for it is what was asked for.
    pub fn plan(&self, command: &str, plan: &Plan) {
        if self.json {
            return self.data(command, plan);
        }
        let mut text = String::new();
        for change in plan.changes.iter().filter(|c| self.verbose || !is_implied(c)) {
            _ = writeln!(text, "{}", change_row(change));
        }
        if let Some(why) = &plan.restart {
            _ = writeln!(
                text,
                "{}",
                row("restart", AnsiColor::Yellow.on_default(), HISTORY_SERVER_UNIT.trim_end_matches(".service"), why)
            );
        }
        let count = plan.real().filter(|c| !is_implied(c)).count();
        let restarts = usize::from(plan.restart.is_some());
        _ = writeln!(
            text,
            "\n{}",
            if plan.is_done() {
                "Nothing to do.".into()
            } else {
                format!("{}, {}.", counted(count, "change"), counted(restarts, "restart"))
            }
        );
        text.push_str(&paragraphs(&plan.found));
        text.push_str(&paragraphs(&plan.notes));
        if count > 0 {
            _ = writeln!(text, "Undo everything later: emr-shs uninstall");
        }
        data(text.trim_end());
    }

    /// What `plan` is for `uninstall`: the rows, and nothing about what they mean.
    pub fn undo_plan(&self, command: &str, plan: &Plan) {
        if self.json {
            return self.data(command, plan);
        }
        for change in plan.changes.iter().filter(|c| self.verbose || !is_implied(c)) {
            data(&change_row(change));
        }
        if let Some(why) = &plan.restart {
            data(&row(
                "restart",
                AnsiColor::Yellow.on_default(),
                HISTORY_SERVER_UNIT.trim_end_matches(".service"),
                why,
            ));
        }
    }

    /// The last words of an installation.
    pub fn outcome(&self, outcome: &Outcome) {
        if outcome.result == "nothing-to-do" {
            self.say("nothing to do");
            return self.notes(&outcome.notes);
        }
        if let Some(seconds) = outcome.ready_after {
            let port = outcome.url.as_deref().and_then(|url| url.rsplit(':').next()).unwrap_or_default();
            let text = format!(
                "reads {} after {seconds:.1} s, on port {port}; it lists what is there within the next minutes",
                outcome.event_logs.as_deref().unwrap_or("its directory")
            );
            self.ok("history server", &text);
        }
        self.notes(&outcome.notes);
        self.say(&format!("done in {:.1} s. Undo everything: emr-shs uninstall", outcome.seconds));
        if outcome.owes_restart {
            self.say("The history server sees this after: emr-shs restart");
        }
        if let Some(tunnel) = &outcome.tunnel {
            return self.say(&format!("Open {} after:\n  {}", tunnel.url, tunnel.command));
        }
        if let Some(url) = outcome.url.as_ref().filter(|_| outcome.ready_after.is_some()) {
            let port = url.rsplit(':').next().unwrap_or_default();
            self.say(&format!(
                "From your own machine: ssh -L {port}:localhost:{port} hadoop@PRIMARY-NODE, then open {url}"
            ));
        }
    }

    /// Restarts the history server with something to look at while it starts.
    pub fn restart(
        &self,
        spark: &Spark,
        server: &mut HistoryServer,
        readiness: &Readiness,
        timeout: Duration,
    ) -> Result<Result<Duration, NotReady>> {
        let name = HISTORY_SERVER_UNIT.trim_end_matches(".service");
        let bar = self.spinner().unwrap_or_else(|| {
            self.say(&row("restart", AnsiColor::Yellow.on_default(), name, ""));
            ProgressBar::hidden()
        });
        bar.set_message(format!("waiting for {name}"));
        let result = server.restart(spark, readiness, timeout, || bar.tick());
        bar.finish_and_clear();
        result
    }

    /// Something to look at while something is waited for; none where nobody looks.
    pub fn spinner(&self) -> Option<ProgressBar> {
        if !std::io::stderr().is_terminal() || self.quiet {
            return None;
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Some(ProgressBar::new_spinner().with_style(style))
    }

    /// One JSON object on stdout.
    pub fn data(&self, command: &str, data: impl Serialize) {
        let document = Document { schema: SCHEMA, command, data };
        match serde_json::to_string_pretty(&document) {
            Ok(text) => self::data(&text),
            Err(e) => talk(&format!("error: the answer cannot be written as JSON: {e}")),
        }
    }

    /// Whether talk is unwanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether more is wanted.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether stdout is for programs.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// An error: what happened, the facts, and what to type next.
    pub fn fault(&self, fault: &Fault) {
        if self.json {
            let error = serde_json::json!({
                "message": fault.message, "details": fault.lines(), "hint": fault.hint, "exit": fault.exit as u8,
            });
            data(&serde_json::json!({ "schema": SCHEMA, "error": error }).to_string());
        }
        self.fault_in_words(fault);
    }

    /// The same for people alone.
    pub fn fault_in_words(&self, fault: &Fault) {
        let red = AnsiColor::Red.on_default();
        let green = AnsiColor::Green.on_default();
        talk(&format!("{red}error{red:#}: {}", fault.message));
        for line in fault.lines() {
            talk(&format!("  {line}"));
        }
        if let Some(hint) = &fault.hint {
            talk(&format!("{green}hint{green:#}: {hint}"));
        }
    }
}

/// Talk. A terminal that is gone, or a full disk behind it, is no reason to stop half-way.
fn talk(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Data. Whoever closed the pipe has read enough.
pub fn data(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// `println!` that does not panic where stdout is gone.
#[macro_export]
macro_rules! dataln {
    ($($text:tt)*) => { $crate::ui::data(&format!($($text)*)) };
}

/// A directory that comes and goes with what lies in it, a program with the link to it; people are
/// told of that instead.
fn is_implied(change: &Change) -> bool {
    matches!(change.resource, Resource::Dir { .. } | Resource::Program { .. })
}

/// One row about a change.
fn change_row(change: &Change) -> String {
    let (verb, style) = match change.action() {
        Action::Create => ("create", AnsiColor::Green.on_default()),
        Action::Change => ("change", AnsiColor::Yellow.on_default()),
        Action::Remove => ("remove", AnsiColor::Red.on_default()),
        Action::Keep => ("keep", Style::new().dimmed()),
    };
    let text = match (&change.before, &change.after) {
        (before, after) if before == after => match after {
            State::Line { .. } => format!("{after}  {}", change.why),
            _ => change.why.clone(),
        },
        (State::Absent, after @ State::Link { .. }) => format!("{after}  {}", change.why),
        (State::Absent, after @ State::Line { .. }) => format!("{after}  {}", change.why),
        (before @ State::Line { .. }, after @ State::Line { .. }) => format!("{before} → {after}"),
        (before @ State::Line { .. }, State::Absent) => format!("was {before}"),
        (before @ State::Link { .. }, after @ State::Link { .. }) => format!("{before}, now {after}"),
        (_, State::Absent) => change.why.clone(),
        (State::Absent, _) => change.why.clone(),
        (before, after) => format!("{before} → {after}  {}", change.why),
    };
    row(verb, style, &change.resource.name(), &text)
}

/// `verb    name    text`
pub fn row(verb: &str, style: Style, name: &str, text: &str) -> String {
    format!("{style}{verb:<7}{style:#} {name:<NAME$} {text}").trim_end().to_string()
}

/// Notes, one paragraph each, wrapped; lines that begin with a blank are commands and stay whole.
fn paragraphs(notes: &[String]) -> String {
    let mut text = String::new();
    for line in notes.iter().flat_map(|n| n.lines()) {
        if line.starts_with(' ') {
            _ = writeln!(text, "{line}");
            continue;
        }
        for part in textwrap::wrap(line, WIDTH) {
            _ = writeln!(text, "{part}");
        }
    }
    text
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
