//! The history server behind the gateway.

pub(super) mod api;
mod connections;
pub(super) mod cookies;
pub(super) mod links;
pub(super) mod listener;
pub(super) mod opening;
pub(super) mod proxy;
pub(super) mod run_links;
