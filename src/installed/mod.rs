//! What of ours stands on the node now.

pub(crate) mod deferred_install;
pub(crate) mod drift;
pub(crate) mod log_gateway;
