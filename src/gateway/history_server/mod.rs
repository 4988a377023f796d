//! The history server behind the gateway.

pub(super) mod api;
mod cookies;
mod links;
pub(super) mod listener;
pub(super) mod opening;
pub(super) mod proxy;
