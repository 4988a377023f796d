//! emr-shs: the Spark History Server of an EMR primary node, on your own S3 bucket.
//!
//! One idea: a change is `(resource, before, after)`. Everything the product does to a node is a
//! list of changes; the list is printed (`plan`), applied and journaled (`install`), and applied
//! backwards (`uninstall`).

pub mod apply;
pub mod aws;
pub mod cli;
pub mod command;
pub mod config;
pub mod doctor;
pub mod fault;
pub mod host;
pub mod installation;
pub mod interrupt;
pub mod node;
pub mod notes;
pub mod plan;
pub mod proxy;
pub mod receipt;
pub mod render;
pub mod report;
pub mod resource;
pub mod s3;
pub mod spark_defaults;
pub mod systemd;
pub mod undo;
pub mod verify;
pub mod wanted;
