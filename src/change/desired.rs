//! The desired state of a resource.

use super::resource::{Resource, State};
use crate::host::Owner;

/// A resource and the state that an installation wants for it.
pub(crate) struct Desired {
    pub resource: Resource,
    pub state: DesiredState,
    /// The reason, in words for a row of the plan.
    pub why: String,
}

/// The state that an installation wants for a resource.
pub(crate) enum DesiredState {
    /// Exactly this state.
    Is(State),
    /// A directory. A directory that exists already keeps its mode and its owner.
    Directory { mode: u32, owner: Owner },
    /// A key with this value. With `yields`, a value that somebody else set stays.
    Value { value: String, yields: bool },
}
