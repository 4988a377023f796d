//! Why the archive cannot give a log or a listing.

use super::object::{Location, Object};
use crate::aws::error::{S3Error, S3Failure};

#[derive(Debug)]
pub(crate) enum LogError {
    /// There is no such log.
    Missing {
        /// The key that the gateway asked for first.
        location: Location,
        /// The objects in the log's directory. `None` if the gateway cannot list them.
        others: Option<Vec<Object>>,
    },
    Denied {
        location: Location,
        /// The permissions that the gateway's role lacks: `s3:GetObject`, `kms:Decrypt`, …
        permission: &'static str,
        /// S3's code and message.
        answer: String,
    },
    /// The log must be restored before it can be read.
    Archived {
        location: Location,
        /// `GLACIER`, `DEEP_ARCHIVE`, …
        class: String,
    },
    /// The gateway is still searching the clusters below the log URIs.
    Searching,
    NoCredentials(String),
    /// S3 does not answer, or its answer is of no use.
    Unreachable(String),
}

impl LogError {
    /// The meaning of S3's answer for a request about `location`.
    pub(super) fn new(error: S3Error, location: Location) -> Self {
        match error.failure {
            S3Failure::Denied { action, .. } => Self::Denied { location, permission: action, answer: error.words() },
            S3Failure::KmsKey => Self::Denied { location, permission: "kms:Decrypt", answer: error.words() },
            S3Failure::NotFound | S3Failure::NoSuchBucket => Self::Missing { location, others: None },
            S3Failure::Archived { class } => Self::Archived { location, class },
            S3Failure::NoCredentials(why) => Self::NoCredentials(why),
            S3Failure::NoAnswer(why) => Self::Unreachable(why),
            S3Failure::ClockSkew
            | S3Failure::InvalidRange
            | S3Failure::WrongRegion
            | S3Failure::ObjectLock
            | S3Failure::Other => Self::Unreachable(match error.foreign {
                Some(server) => format!("not S3 answers, but a server on the way: {server}"),
                None => format!("S3 answers {}", error.answer()),
            }),
        }
    }
}
