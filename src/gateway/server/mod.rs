//! `proxy serve`: the gateway as a process that listens on a port.

mod access_log;
mod connection;
pub(crate) mod listen;
mod startup;
