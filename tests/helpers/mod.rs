//! Helpers of both test binaries.

#![allow(dead_code, reason = "each of the two test binaries uses its part")]

pub mod allowed_keys;
pub mod chromium;
pub mod command_output;
pub mod doctor_cases;
pub mod documented_keys;
pub mod emr_scripts;
pub mod history_server;
pub mod index_gateway;
pub mod kept_nodes;
pub mod laptop;
pub mod many_logs;
pub mod node;
pub mod node_files;
pub mod packing;
pub mod ports;
pub mod prometheus;
pub mod python_packages;
pub mod release_files;
pub mod root_dir;
pub mod small_history_server;
pub mod snapshots;
pub mod wait;
