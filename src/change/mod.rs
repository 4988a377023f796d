//! The engine. A change is `(resource, before, after)`; this folder plans changes, makes them, undoes them and
//! remembers them, and does not know what an installation wants.

pub(crate) mod component;
pub(crate) mod desired;
pub(crate) mod lock;
pub(crate) mod plan;
pub(crate) mod receipt;
pub(crate) mod resource;
pub(crate) mod transaction;
pub(crate) mod undo;
