//! The checks, by what they examine. They only judge the facts.

pub(crate) mod drift;
pub(crate) mod listing;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod s3;
pub(crate) mod server;
