//! Errors a person can act on: what, where, found, wanted, and what to type next.

use std::fmt;

/// How the command ends; the numbers are part of the command's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed; the node was put back, or the message lists what could not be.
    Failed = 1,
    /// The command line does not make sense.
    Usage = 2,
    /// A check found an error before anything was changed.
    Preflight = 3,
    /// `plan --check` found changes to make.
    Pending = 4,
}

/// An error written for its reader: one sentence, the facts below it, and the way out.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The exit code this error ends the command with.
    pub exit: Exit,
    /// What went wrong, in one sentence without a full stop.
    pub message: String,
    /// What was found and what was wanted, one fact a line.
    pub details: Vec<String>,
    /// What to type next, if anything helps.
    pub hint: Option<String>,
}

impl Fault {
    /// A check that failed before anything was changed.
    pub fn preflight(message: impl Into<String>) -> Self {
        Self::new(Exit::Preflight, message)
    }

    /// A command line that cannot be carried out.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failure on the way.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), hint: None }
    }

    /// Adds one line of facts.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Says what to type next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Turns any error into one that can be shown: a `Fault` stays what it is, everything else
    /// becomes a failure with its chain of causes.
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
