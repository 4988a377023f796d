//! What of ours stands on the node now.

pub mod deferred_install;
pub mod drift;
pub mod log_gateway;
