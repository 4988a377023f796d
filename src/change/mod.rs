//! The engine.

pub mod plan;
pub mod receipt;
pub mod resource;
pub mod transaction;
pub mod undo;
