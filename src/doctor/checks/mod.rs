//! The checks, by what they examine. They only judge the facts.

pub mod drift;
pub mod listing;
pub mod logs;
pub mod node;
pub mod s3;
pub mod server;
