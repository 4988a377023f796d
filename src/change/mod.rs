//! The engine. A change is `(resource, before, after)`; this folder plans changes, makes them, undoes them and
//! remembers them, and does not know what an installation wants.

pub mod component;
pub mod desired;
pub mod lock;
pub mod plan;
pub mod receipt;
pub mod resource;
pub mod transaction;
pub mod undo;
