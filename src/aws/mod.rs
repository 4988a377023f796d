//! AWS as this node sees it: credentials, S3 and EMR.

pub mod config;
pub mod emr;
pub mod endpoint;
pub mod error;
pub mod identity;
pub mod s3;
pub mod uri;
