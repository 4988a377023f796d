//! What people and programs read: rows, errors, and JSON of the same structs.
//!
//! stdout carries data: a plan, a status, one JSON object. stderr carries everything else. Colour marks only the
//! first word of a line.

mod rows;

pub(crate) use rows::{row, wrapped};

use crate::change::plan::{Change, Plan};
use crate::cli::{Color, Global};
use crate::error::{Exit, Fault};
use crate::install::Progress;
use crate::installed::shortfall::Shortfall;
use crate::paths::HISTORY_SERVER_UNIT;
use crate::shown::{visible, visible_json, visible_line};
use crate::test_objects;
use anstream::{stderr, stdout};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use rows::{change_row, counted, is_implied, paragraphs};
use serde::Serialize;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

/// The version of the JSON that this program prints.
const SCHEMA: u32 = 1;

/// The styles that mark the first word of a line, and what ends each of them.
const STYLES: [Style; 4] =
    [AnsiColor::Green.on_default(), AnsiColor::Yellow.on_default(), AnsiColor::Red.on_default(), Style::new().dimmed()];
const RESET: &str = "\u{1b}[0m";

/// Where output goes, and how much of it.
pub(crate) struct Console {
    json: bool,
    quiet: bool,
    verbose: bool,
    /// The spinner of a restart that is under way.
    spinner: RefCell<Option<ProgressBar>>,
}

/// One JSON object: the schema, the command, and the command's data.
#[derive(Serialize)]
struct Document<'a, T: Serialize> {
    schema: u32,
    command: &'a str,
    #[serde(flatten)]
    data: T,
    /// What the command wrote to S3 for a test, and what may still be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_in_s3: Vec<String>,
}

/// A plan as JSON, with what the plan does not bring about.
#[derive(Serialize)]
struct PlanDocument<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    missing: &'a [Shortfall],
}

impl Console {
    /// Sets colour for the whole process.
    pub(crate) fn new(options: &Global) -> Self {
        match options.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        Self { json: options.json, quiet: options.quiet, verbose: options.verbose, spinner: RefCell::new(None) }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line on stderr, unless `--quiet`.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet && !text.is_empty() {
            talk(text);
        }
    }

    /// A line on stderr that `--quiet` does not suppress.
    pub(crate) fn warn(&self, text: &str) {
        let style = AnsiColor::Yellow.on_default();
        talk(&format!("{style}warning{style:#}: {text}"));
    }

    /// A row about something that is well.
    pub(crate) fn ok(&self, name: &str, text: &str) {
        self.say(&row("ok", AnsiColor::Green.on_default(), name, text));
    }

    /// The answer on a node that is not the primary, with `--if-primary`.
    pub(crate) fn not_primary(&self, command: &str) -> Exit {
        if self.json {
            self.data(command, serde_json::json!({ "result": "not-primary" }));
        }
        self.say("not the primary node: nothing to do here");
        Exit::Done
    }

    /// Shows what happens while a node is being changed.
    pub(crate) fn show(&self, progress: Progress<'_>) {
        match progress {
            Progress::Changed(changes) => self.changed(changes),
            Progress::PutBack(change) if self.verbose || !is_implied(change) => self.say(&change_row(change)),
            Progress::PutBack(_) => {}
            Progress::Left(change) => {
                self.say(&row("left", AnsiColor::Yellow.on_default(), &change.resource.name(), &change.why));
            }
            Progress::Restarting => self.restart_begins(),
            Progress::Waiting => {
                if let Some(spinner) = &*self.spinner.borrow() {
                    spinner.tick();
                }
            }
            Progress::RestartEnded => {
                if let Some(spinner) = self.spinner.take() {
                    spinner.finish_and_clear();
                }
            }
            Progress::Note(text) => self.say(text),
            Progress::Warning(text) => self.warn(text),
        }
    }

    /// The rows of changes that were made.
    pub(crate) fn changed(&self, changes: &[Change]) {
        for change in changes.iter().filter(|c| self.verbose || c.yields || c.has_effect() && !is_implied(c)) {
            self.say(&change_row(change));
        }
    }

    fn restart_begins(&self) {
        let name = HISTORY_SERVER_UNIT.trim_end_matches(".service");
        let spinner = self.spinner();
        match &spinner {
            Some(spinner) => spinner.set_message(format!("waiting for {name}")),
            None => self.say(&row("restart", AnsiColor::Yellow.on_default(), name, "")),
        }
        self.spinner.replace(spinner);
    }

    /// A spinner, where somebody looks at a terminal.
    pub(crate) fn spinner(&self) -> Option<ProgressBar> {
        if !std::io::stderr().is_terminal() || self.quiet {
            return None;
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Some(ProgressBar::new_spinner().with_style(style))
    }

    /// Paragraphs on stderr.
    pub(crate) fn notes(&self, notes: &[String]) {
        self.say(paragraphs(notes).trim_end());
    }

    /// What was wanted and is missing, on stderr. `--quiet` does not suppress it.
    pub(crate) fn missing(&self, missing: &[Shortfall]) {
        missing.iter().for_each(|shortfall| talk(missing_row(shortfall).trim_end()));
    }

    /// A plan, on stdout.
    pub(crate) fn plan(&self, command: &str, plan: &Plan, missing: &[Shortfall]) {
        if self.json {
            return self.data(command, PlanDocument { plan, missing });
        }
        let mut text: String = self.plan_rows(plan).iter().map(|row| format!("{row}\n")).collect();
        let count = plan.effective().filter(|c| !is_implied(c)).count();
        let restarts = usize::from(plan.restart.is_some());
        _ = writeln!(
            text,
            "\n{}",
            if plan.is_done() && !missing.is_empty() {
                "Nothing that an installation could change.".into()
            } else if plan.is_done() {
                "Nothing to do.".into()
            } else {
                format!("{}, {}.", counted(count, "change"), counted(restarts, "restart"))
            }
        );
        missing.iter().for_each(|shortfall| text.push_str(&missing_row(shortfall)));
        text.push_str(&paragraphs(&plan.problems));
        text.push_str(&paragraphs(&plan.notes));
        if count > 0 {
            _ = writeln!(text, "Undo everything later: sudo emr-shs uninstall");
        }
        data(text.trim_end());
    }

    /// The plan of `uninstall`, on stdout: the rows alone.
    pub(crate) fn undo_plan(&self, command: &str, plan: &Plan) {
        if self.json {
            return self.data(command, plan);
        }
        self.plan_rows(plan).iter().for_each(|row| data(row));
    }

    fn plan_rows(&self, plan: &Plan) -> Vec<String> {
        let changes = plan.changes.iter().filter(|c| self.verbose || !is_implied(c)).map(change_row);
        let name = HISTORY_SERVER_UNIT.trim_end_matches(".service");
        let restart = plan.restart.iter().map(|why| row("restart", AnsiColor::Yellow.on_default(), name, why));
        changes.chain(restart).collect()
    }

    /// One JSON object on stdout.
    pub(crate) fn data(&self, command: &str, data: impl Serialize) {
        let document = Document { schema: SCHEMA, command, data, left_in_s3: test_objects::left_at_the_end() };
        match serde_json::to_string_pretty(&document) {
            Ok(text) => self::data(&visible_json(&text)),
            Err(e) => talk(&format!("error: the answer cannot be written as JSON: {e}")),
        }
    }

    /// An error: what happened, the facts, and what to type next. With `--json` stdout gets the same as an object.
    pub(crate) fn fault(&self, fault: &Fault) {
        if self.json {
            let error = serde_json::json!({
                "message": fault.message, "details": fault.lines(), "hint": fault.hint, "exit": fault.exit as u8,
            });
            let mut document = serde_json::json!({ "schema": SCHEMA, "error": error });
            let left = test_objects::left_at_the_end();
            if !left.is_empty() {
                document["left_in_s3"] = left.into();
            }
            data(&visible_json(&document.to_string()));
        }
        self.fault_in_words(fault);
    }

    /// An error for people alone.
    pub(crate) fn fault_in_words(&self, fault: &Fault) {
        let red = AnsiColor::Red.on_default();
        let green = AnsiColor::Green.on_default();
        talk(&format!("{red}error{red:#}: {}", visible_line(&fault.message)));
        for line in fault.lines() {
            talk(&format!("  {}", visible_line(line)));
        }
        if let Some(hint) = &fault.hint {
            talk(&format!("{green}hint{green:#}: {hint}"));
        }
    }
}

/// A row about something that was wanted and is missing, and below it what to type.
pub(crate) fn missing_row(shortfall: &Shortfall) -> String {
    let head = row("missing", AnsiColor::Red.on_default(), &shortfall.name, &shortfall.found);
    let green = AnsiColor::Green.on_default();
    format!("{head}\n{green}hint{green:#}: {}\n", shortfall.hint)
}

/// Writes a line to stderr. A closed terminal or a full disk must not stop an installation half-way.
fn talk(text: &str) {
    let _ = writeln!(stderr(), "{}", shown(text));
}

/// Why a line could not be written to stdout, the first one.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// Writes a line to stdout. A closed pipe is no error: the reader has read enough. Any other error is kept for [`lost`], because it
/// must not stop an installation half-way.
pub(crate) fn data(text: &str) {
    if let Err(error) = writeln!(stdout(), "{}", shown(text))
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error);
    }
}

/// The error of a command whose output did not arrive; `None` if it did.
pub(crate) fn lost() -> Option<Fault> {
    let error = LOST.get()?;
    Some(
        Fault::failed(format!("the output of this command is incomplete: writing to stdout: {error}"))
            .detail("everything else that the command does is done")
            .hint("make room where stdout goes, and type the command again"),
    )
}

/// Writes lines to stdout, for a command whose only work that is.
pub(crate) fn try_data(lines: &[String]) -> std::io::Result<()> {
    let mut stdout = std::io::BufWriter::new(stdout());
    for line in lines {
        writeln!(stdout, "{}", shown(line))?;
    }
    stdout.flush()
}

/// The text as it reaches a terminal: names, log lines and answers of servers in it must not control the terminal.
/// Only the colour that marks the first word of a line passes.
fn shown(text: &str) -> String {
    text.split('\n').map(shown_line).collect::<Vec<_>>().join("\n")
}

fn shown_line(line: &str) -> Cow<'_, str> {
    let coloured = STYLES.iter().find_map(|style| {
        let (word, rest) = line.strip_prefix(&style.render().to_string())?.split_once(RESET)?;
        Some(format!("{style}{}{style:#}{}", visible(word), visible(rest)))
    });
    coloured.map_or_else(|| visible(line), Cow::Owned)
}

/// `println!` that does not panic when stdout is closed.
macro_rules! dataln {
    ($($text:tt)*) => { $crate::ui::data(&format!($($text)*)) };
}
pub(crate) use dataln;
