//! Errors that a person can act on: what happened, where, what was found, what was wanted, and what to type.

use crate::shown::{Hint, shell_word};
use serde::Serialize;
use std::fmt;

/// How a command ends. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command has done its work, or there was nothing to do.
    Done = 0,
    /// The command failed. The node was put back, or the message lists what could not be put back.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A check failed. `install` checks before it changes anything.
    CheckFailed = 3,
    /// `plan --check` found changes to make, or something that is wanted and missing.
    Pending = 4,
    /// The command has done what it could, and something that was wanted is missing.
    Incomplete = 5,
}

/// How a check of `doctor` or a stage of `verify` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    Skip,
}

/// An error for a person: one sentence, the facts below it, and the way out.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The exit code with which this error ends the command.
    pub exit: Exit,
    /// What went wrong: one sentence without a full stop.
    pub message: String,
    /// What was found and what was wanted, one fact a line.
    pub details: Vec<String>,
    /// Whether the error says that the node is unchanged. Only commands that change a node claim that.
    pub unchanged: bool,
    /// What to type next, if anything helps.
    pub hint: Option<Hint>,
}

impl Fault {
    /// A check that failed before the command changed anything.
    pub fn preflight(message: impl Into<String>) -> Self {
        Self::new(Exit::CheckFailed, message)
    }

    /// A command line that cannot be carried out.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failure while the command was at work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), unchanged: false, hint: None }
    }

    /// Adds one fact.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Says that the command has changed nothing on the node.
    #[must_use]
    pub fn unchanged(mut self) -> Self {
        self.unchanged = true;
        self
    }

    /// Says what to type next. Words that are not part of this program come in through [`hint!`](crate::shown::hint).
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The lines below the message, as people and JSON get them.
    pub fn lines(&self) -> Vec<&str> {
        let unchanged = self.unchanged.then_some("nothing was changed on this node");
        self.details.iter().map(String::as_str).chain(unchanged).collect()
    }

    /// Makes any error presentable. A `Fault` stays as it is. Any other error becomes a failure whose
    /// message is its chain of causes.
    pub fn of(error: anyhow::Error) -> Self {
        match error.downcast::<Fault>() {
            Ok(fault) => fault,
            Err(other) => Self::failed(format!("{other:#}")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// What to type where root is needed: this command line with sudo.
pub(crate) fn sudo_hint() -> Hint {
    let words = std::env::args_os().skip(1).map(|word| shell_word(word.as_encoded_bytes()));
    Hint::printed_before(&format!("sudo emr-shs {}", words.collect::<Vec<_>>().join(" ")))
}
