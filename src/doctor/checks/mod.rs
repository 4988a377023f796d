//! The checks, by what they look at.

pub mod listing;
pub mod logs;
pub mod node;
pub mod s3;
pub mod server;
