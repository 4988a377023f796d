//! What of ours stands on the node now.

pub mod drift;
pub mod log_gateway;
