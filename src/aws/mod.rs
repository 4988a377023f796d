//! AWS as this node sees it: credentials, S3 and EMR.

pub(crate) mod config;
pub(crate) mod emr;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod http_client;
pub(crate) mod identity;
pub(crate) mod listing;
mod meaning;
pub(crate) mod partition;
pub(crate) mod proxies;
pub(crate) mod s3;
pub(crate) mod uri;
