//! `proxy serve`: the gateway as a process that listens on a port.

pub(in crate::gateway) mod access_log;
mod connection;
pub(in crate::gateway) mod connections;
pub(crate) mod in_memory;
pub(crate) mod listen;
mod sockets;
mod startup;
mod watched;
