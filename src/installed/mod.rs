//! What emr-shs has installed on this node, as it is now.

pub(crate) mod deferred_install;
pub(crate) mod drift;
pub(crate) mod log_gateway;
pub(crate) mod shortfall;
