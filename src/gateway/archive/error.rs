//! Why the archive cannot give a log or a listing.

use super::budget::OverBudget;
use super::object::{Location, Object};
use crate::aws::error::{S3Error, S3Failure};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) enum LogError {
    /// There is no such log.
    Missing {
        /// The key that the gateway asked for first.
        location: Location,
        /// The objects in the log's directory. `None` if the gateway cannot list them.
        others: Option<Arc<[Object]>>,
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
    /// The log URIs that answer do not have it. It can be below one that does not answer.
    Incomplete(Vec<Unanswered>),
    /// The gateway is still searching the clusters below the log URIs.
    Searching,
    NoCredentials(String),
    /// The gateway has just started, and S3 has not answered yet.
    Unasked,
    /// S3 does not answer, or its answer is of no use.
    Unreachable(String),
    /// The gateway had no thread or no place left, so it has not asked S3.
    Overloaded,
    /// The gateway has sent as many requests to S3 as it may, for this client or for all.
    OverBudget {
        retry_after: Duration,
    },
}

/// A log URI that does not give what is below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Unanswered {
    pub(crate) uri: String,
    /// In a line.
    pub(crate) why: String,
    /// Whether S3 answers, and denies access.
    pub(crate) is_denied: bool,
    /// Whether S3 has not answered yet, because the gateway has just started.
    pub(crate) is_pending: bool,
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
            | S3Failure::Busy
            | S3Failure::Other => Self::Unreachable(match error.foreign {
                Some(server) => format!("not S3 answers, but a server on the way: {server}"),
                None => format!("S3 answers {}", error.answer()),
            }),
        }
    }

    /// A task of the gateway ended before it had an answer.
    pub(super) fn died() -> Self {
        Self::Unreachable("the gateway's own request ended without an answer".into())
    }

    /// The error in a line.
    pub(crate) fn in_a_line(&self) -> String {
        match self {
            Self::Missing { .. } => "S3 has no such object".into(),
            Self::Denied { permission, answer, .. } => format!("S3 denies {permission} ({answer})"),
            Self::Archived { class, .. } => format!("the object is in the storage class {class}"),
            Self::Incomplete(_) => "not every log URI answers".into(),
            Self::Searching => "the gateway is still searching its clusters".into(),
            Self::NoCredentials(why) => format!("no credentials: {why}"),
            Self::Unasked => "S3 has not answered yet".into(),
            Self::Unreachable(why) => why.clone(),
            Self::Overloaded => "the gateway has too much to do, and has not asked S3".into(),
            Self::OverBudget { .. } => "the budget for requests to S3 is spent, or this client's half of it".into(),
        }
    }

    /// Whether the object is there, and cannot be read: S3 asks for its key or its archive class only then.
    pub(super) fn is_about_an_object(&self) -> bool {
        matches!(self, Self::Archived { .. } | Self::Denied { permission: "kms:Decrypt", .. })
    }

    /// Whether the error has nothing to do with a log URI, so that no other one would answer.
    pub(super) fn concerns_all(&self) -> bool {
        matches!(self, Self::NoCredentials(_) | Self::Searching) || self.is_unsent()
    }

    /// Whether S3 was not asked, so that the error says nothing of S3.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(self, Self::OverBudget { .. } | Self::Overloaded)
    }
}

impl From<OverBudget> for LogError {
    fn from(OverBudget { retry_after }: OverBudget) -> Self {
        Self::OverBudget { retry_after }
    }
}
