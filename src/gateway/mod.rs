//! The log gateway: a click on *stderr* in the history server leads to the gateway, and the gateway
//! leads to the log that EMR archived in S3.
//!
//! Start reading at handler.rs: a request passes through it from top to bottom.

pub(crate) mod access;
mod applications;
mod archive;
mod base;
pub(crate) mod callers;
mod credentials;
mod cross_site;
pub(crate) mod event_log_cache;
pub(crate) mod foreign;
mod forwarded;
mod handler;
mod handshakes;
mod history_server;
mod http;
mod job_runs;
mod limits;
mod listing;
mod logins;
mod metrics;
mod own_pages;
mod page_memory;
mod pages;
pub(crate) mod presign;
pub(crate) mod route;
mod self_signed;
pub(crate) mod served;
pub(crate) mod server;
mod shares;
mod sockets;
mod stream;
pub(crate) mod tls;
mod token_bucket;
