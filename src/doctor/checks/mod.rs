//! The checks, one file for each subject. They judge the facts, and read a local file where a fact is cheap.

pub(crate) mod drift;
pub(crate) mod listing;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod s3;
pub(crate) mod server;
