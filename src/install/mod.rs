//! An installation.

pub mod notes;
pub mod prepare;
