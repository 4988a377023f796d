//! The history server behind the gateway.

pub(super) mod api;
pub(super) mod proxy;
