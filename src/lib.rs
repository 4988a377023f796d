//! emr-shs: the Spark History Server of an EMR primary node, on your own S3 bucket.
//!
//! One idea: a change is `(resource, before, after)`. Everything the product does to a node is a
//! list of changes; the list is printed (`plan`), applied and journaled (`install`), and applied
//! backwards (`uninstall`).

pub mod aws;
pub mod change;
pub mod cli;
pub mod command;
pub mod desired;
pub mod doctor;
pub mod error;
pub mod gateway;
pub mod host;
pub mod http;
pub mod ids;
pub mod install;
pub mod installed;
pub mod node;
pub mod paths;
pub mod properties;
pub mod render;
pub mod settings;
pub mod signals;
pub mod systemd;
pub mod ui;
pub mod verify;
