//! Errors that a person can act on: what happened, where, what was found, what was wanted, and what to type.

use crate::shown::{Hint, hint, shell_word};
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::PathBuf;

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
            Err(other) => {
                let fault = Self::failed(format!("{other:#}"));
                match ForbiddenToRoot::among(&other) {
                    Some(forbidden) => fault
                        .detail("the file or its directory can be immutable (chattr +i), also for root")
                        .hint(hint!("{}; then run the command again", forbidden.hint())),
                    None => fault,
                }
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The inner error of an `io::Error`: the kernel refuses a change with EPERM, although root asks for it.
#[derive(Debug)]
pub(crate) struct ForbiddenToRoot {
    /// The text of the `io::Error`.
    pub(crate) message: String,
    /// What can be immutable: the entry, if it exists, and its directory.
    pub(crate) paths: Vec<PathBuf>,
}

impl ForbiddenToRoot {
    /// The first one among the causes of an error.
    pub(crate) fn among(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Self>())
    }

    /// How to find and remove the attribute.
    pub(crate) fn hint(&self) -> Hint {
        hint!(
            "lsattr -d {} shows an i for what is immutable; sudo chattr -i {} removes it",
            self.paths.as_slice(),
            self.paths.as_slice()
        )
    }
}

impl fmt::Display for ForbiddenToRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ForbiddenToRoot {}

/// What to type where root is needed: this command line with sudo.
pub(crate) fn sudo_hint() -> Hint {
    let words = std::env::args_os().skip(1).map(|word| shell_word(word.as_encoded_bytes()));
    Hint::printed_before(&format!("sudo emr-shs {}", words.collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_change_that_is_forbidden_to_root_names_lsattr_and_chattr() {
        let message = "/etc/spark/a b: Operation not permitted (os error 1)";
        let paths = vec![PathBuf::from("/etc/spark/a b"), PathBuf::from("/etc/spark")];
        let inner = ForbiddenToRoot { message: message.into(), paths };
        let error = Err::<(), _>(io::Error::new(io::ErrorKind::PermissionDenied, inner)).context("writing it");
        let fault = Fault::of(error.unwrap_err());
        assert_eq!(fault.message, format!("writing it: {message}"));
        assert!(fault.details[0].contains("immutable"), "{:?}", fault.details);
        assert_eq!(
            fault.hint.unwrap().to_string(),
            "lsattr -d '/etc/spark/a b' /etc/spark shows an i for what is immutable; sudo chattr -i '/etc/spark/a b' \
             /etc/spark removes it; then run the command again"
        );
        assert!(Fault::of(io::Error::other("something else").into()).hint.is_none());
    }
}
