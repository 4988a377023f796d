//! Rows: one line about one thing, in columns.

use crate::change::plan::{Action, Change};
use crate::change::resource::{Resource, State};
use crate::shown::visible_line;
use anstyle::{AnsiColor, Style};
use std::fmt::Write;

const WIDTH: usize = 80;
/// The width of the name column. A longer name moves the text of its row to the right.
const NAME: usize = 46;

/// `verb    name    text`
pub(crate) fn row(verb: &str, style: Style, name: &str, text: &str) -> String {
    let (name, text) = (visible_line(name), visible_line(text));
    format!("{style}{verb:<7}{style:#} {name:<NAME$} {text}").trim_end().to_string()
}

/// Whether another row already tells this change: a directory comes and goes with its content, a program with the
/// link to it.
pub(crate) fn is_implied(change: &Change) -> bool {
    change.action() != Action::Change && matches!(change.resource, Resource::Dir { .. } | Resource::Program { .. })
}

/// The row of a change.
pub(crate) fn change_row(change: &Change) -> String {
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
        (State::Absent, after @ (State::Link { .. } | State::Line { .. })) => format!("{after}  {}", change.why),
        (before @ State::Line { .. }, after @ State::Line { .. }) => format!("{before} → {after}"),
        (before @ State::Line { .. }, State::Absent) => format!("was {before}"),
        (before @ State::Link { .. }, after @ State::Link { .. }) => format!("{before}, now {after}"),
        (_, State::Absent) | (State::Absent, _) => change.why.clone(),
        (before @ (State::File { .. } | State::Dir { .. }), after @ (State::File { .. } | State::Dir { .. })) => {
            format!("{}  {}", before.difference(after), change.why)
        }
        (before, after) => format!("{before} → {after}  {}", change.why),
    };
    row(verb, style, &change.resource.name(), &text)
}

/// Notes, wrapped. A line that begins with a blank is a command and stays whole.
pub(crate) fn paragraphs(notes: &[String]) -> String {
    let mut text = String::new();
    for line in notes.iter().flat_map(|n| n.lines()) {
        if line.starts_with(' ') {
            _ = writeln!(text, "{line}");
            continue;
        }
        _ = writeln!(text, "{}", wrapped("", "", line));
    }
    text
}

/// Text wrapped at blanks only, so that a path stays whole. `head` begins the first line, `indent` the others.
pub(crate) fn wrapped(head: &str, indent: &str, text: &str) -> String {
    let options = textwrap::Options::new(WIDTH).initial_indent(head).subsequent_indent(indent);
    textwrap::fill(text, options.break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation))
}

/// `1 change`, `2 changes`
pub(crate) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
