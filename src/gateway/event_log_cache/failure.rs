//! Why an application does not come into the cache, and how far it is.

use crate::gateway::archive::LogError;

#[derive(Clone, Debug)]
pub(in crate::gateway) enum Failure {
    /// The index cannot be read: why.
    Index(String),
    /// The name of an object cannot be the name of a file.
    Name { name: String, why: &'static str },
    /// S3 does not give an object, or the list of a directory.
    S3 { uri: String, error: LogError },
    /// The log changes faster than it can be fetched.
    Changing { uri: String },
    /// The cache is too small for it, in bytes.
    TooLarge { bytes: u64, limit: u64 },
    /// The disk has no room for it, in bytes. `kept` is what must stay free.
    NoDisk { bytes: u64, free: u64, kept: u64 },
    /// The cache's directory cannot be written: why.
    Directory(String),
    /// This history server cannot read rolling logs: its version of Spark.
    Rolling { spark: String },
    /// The history server does not show it, although its log lies in the directory.
    NotListed { names: Vec<String> },
}

/// How far an application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Stage {
    /// The index and S3 are asked for its logs.
    Looking,
    /// The cache is full of applications that are in use.
    Waiting,
    /// So many bytes of so many are here.
    Fetching { done: u64, all: u64 },
    /// The history server has not seen it yet.
    Listing,
}

impl Failure {
    /// The failure in a line, for the journal.
    pub(super) fn in_a_line(&self) -> String {
        match self {
            Self::Index(why) => format!("the index cannot be read: {why}"),
            Self::Name { name, why } => format!("no file can have the name {name:?}: {why}"),
            Self::S3 { uri, error } => format!("{uri}: {}", error.in_a_line()),
            Self::Changing { uri } => format!("{uri} changes faster than it can be fetched"),
            Self::TooLarge { bytes, limit } => format!("{bytes} bytes are more than --cache-size, {limit} bytes"),
            Self::NoDisk { bytes, free, kept } => {
                format!("the disk has no room for {bytes} bytes: {free} are free beside the {kept} that must stay free")
            }
            Self::Directory(why) => format!("the event-log cache cannot be written: {why}"),
            Self::Rolling { spark } => format!("Spark {spark} cannot read rolling event logs"),
            Self::NotListed { names } => format!("the history server does not show {}", names.join(" and ")),
        }
    }
}
