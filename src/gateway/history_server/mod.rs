//! The history server behind the gateway.

pub mod api;
pub mod proxy;
