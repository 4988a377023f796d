//! emr-shs: the Spark History Server of an EMR primary node, on your own S3 bucket.
//!
//! One idea carries the product: a change is `(resource, before, after)`. Everything that emr-shs does to a node is a
//! list of changes. `plan` prints the list, `install` applies and journals it, and `uninstall` applies it backwards.
//! ARCHITECTURE.md draws the levels of the modules.

#![warn(unreachable_pub)]

mod aws;
mod bundle;
mod change;
pub mod cli;
mod command;
mod desired;
mod dns;
mod doctor;
mod error;
mod event_log;
mod files;
mod gateway;
mod hadoop_client;
mod host;
mod http;
mod ids;
mod index;
mod install;
mod installed;
mod node;
mod paths;
mod programs;
mod properties;
mod redact;
mod render;
mod settings;
mod shown;
mod signals;
mod systemd;
mod test_objects;
mod ui;
mod values;
mod verify;

pub use command::run;

/// What tests, the fuzz targets and benchmarks call directly. It is no interface for others.
#[doc(hidden)]
pub mod testing {
    pub use crate::aws::endpoint::{StoreAddress, by_path};
    pub use crate::aws::s3::Listing;
    pub use crate::doctor::checks::listing::{requests, scanning};
    pub use crate::event_log::{
        Broken, Codec, Damage, DamageKind, Facts, LogFile, LogReading, Start, Wanted, WholeReading,
    };
    pub use crate::gateway::foreign::{
        is_host, is_of_another_site, is_relayed, login, onward_headers, relinked, relinked_run, stored_certificate,
        stored_clusters, wrapped_cookies,
    };
    pub use crate::gateway::presign::{BucketAddress, Signer};
    pub use crate::gateway::route::{
        LogDirectory, LogRequest, Route, RouteError, container_directory, route, route_of_source, stored_name,
    };
    pub use crate::gateway::server::in_memory::InMemoryGateway;
    pub use crate::host::Host;
    pub use crate::node::Node;
    pub use crate::node::event_logs::{Attempt, EventLogName};
    pub use crate::node::hadoop::Hadoop;
    pub use crate::node::log_diagnosis::{Cause, diagnose, known_errors, unreadable_event_logs};
    pub use crate::node::s3a::{BucketEncryption, BucketSettings, Proxy};
    pub use crate::node::spark::Version;
    pub use crate::node::spark_conf::SparkConf;
    pub use crate::properties::{SparkDefaults, line_with};
    pub use crate::redact::{Kind, Redactor, protobuf_shape, shape};
    pub use crate::settings::Settings;
    pub use crate::values::{HadoopValue, SparkValue, TimeUnit};
    pub use crate::verify::synthetic::SyntheticApplication;

    /// Number, text and command of each open question about EMR.
    pub fn open_questions() -> Vec<(u8, &'static str, &'static str)> {
        crate::bundle::questions::QUESTIONS.iter().map(|q| (q.number, q.text, q.how)).collect()
    }
}
