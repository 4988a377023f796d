//! Tests on EMR-like nodes: a real systemd, a real Spark History Server, a real S3 server.
//!
//!     scripts/test node [FILTER]
//!
//! `lab/node` makes the nodes and needs root, so every test here is ignored unless asked for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test panics with the place in the source, which says more than a path"
)]

#[path = "../helpers/mod.rs"]
mod helpers;
#[macro_use]
mod profiles;

mod bootstrap;
mod browser;
mod bundle;
mod clients;
mod doctor;
mod doctor_kinds;
mod failures;
mod gateway;
mod hadoop_client;
mod hardened;
mod iam;
mod index;
mod index_answers;
mod index_install;
mod index_load;
mod lifecycle;
mod local_store;
mod missing_parts;
mod networks;
mod provisioning;
mod readme;
mod releases;
mod runtime_roles;
mod scale;
mod serverless_in_place;
mod static_binary;
mod step;
mod strangers;
mod strict_buckets;
mod take_port;
mod values;
mod verify;
