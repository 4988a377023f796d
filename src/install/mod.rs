//! An installation: prepare it, carry it out, or put everything back.
//!
//! Nothing in this folder prints. A caller that wants to show what happens passes a [`Show`].

mod index;
mod missing;
pub(crate) mod notes;
pub(crate) mod prepare;
pub(crate) mod restart;
pub(crate) mod rights;
pub(crate) mod run;
mod taken_port;
pub(crate) mod undo;

use crate::change::plan::Change;

/// What happens while a node is being changed.
pub(crate) enum Progress<'a> {
    /// These changes were made.
    Changed(&'a [Change]),
    /// This resource is back in its earlier state.
    PutBack(&'a Change),
    /// This resource stays as somebody else left it.
    Left(&'a Change),
    /// The history server is about to restart.
    Restarting,
    /// The history server is not ready yet.
    Waiting,
    /// The restart has ended, well or not.
    RestartEnded,
    /// Something worth a line.
    Note(&'a str),
    /// Something that the user must know even if nobody reads the rest.
    Warning(&'a str),
}

/// Shows what happens.
pub(crate) type Show<'a> = &'a dyn Fn(Progress<'_>);
