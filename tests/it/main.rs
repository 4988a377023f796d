//! Tests that need neither root nor a node.
//!
//!     cargo test --test it
//!
//! Tests of a release's binaries are ignored unless asked for: they need a release.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test panics with the place in the source, which says more than a path"
)]

#[path = "../helpers/mod.rs"]
mod helpers;

mod architecture;
mod bundle;
mod doctor;
mod documents;
mod engine;
mod event_log;
mod event_log_cache;
mod event_log_names;
mod gateway_costs;
mod gateway_list;
mod gateway_routes;
mod gateway_tls;
mod help;
mod index;
mod index_attackers;
mod index_command;
mod index_faults;
mod log_diagnosis;
mod monitoring;
mod passwd;
mod presign;
mod redaction;
mod release;
mod remembered_settings;
mod render;
mod role_mappings;
mod scale;
mod secrets;
mod serverless_in_place;
mod slow_readers;
mod spark_defaults;
mod strangers;
mod synthetic_application;
mod take_port;
mod values;
