//! What a check is called, and how it ends.

use crate::aws::error::S3Failure;
use crate::aws::s3::Refusal;
use crate::error::{Fault, Verdict};
use crate::shown::Hint;
use serde::{Serialize, Serializer};
use std::fmt;

/// The checks, in the order in which `doctor` runs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckId {
    Primary,
    Provisioning,
    Release,
    Systemd,
    Drift,
    Defaults,
    ClassPath,
    JobUploads,
    Disk,
    Buffer,
    Heap,
    Port,
    Credentials,
    Clock,
    Bucket,
    Prefix,
    List,
    Kms,
    Get,
    Put,
    Delete,
    Cleaner,
    Service,
    ServerLog,
    Pages,
    Reads,
    Cost,
    LogUri,
    Archive,
    LogPattern,
    Gateway,
    Index,
    RuntimeRoles,
    Primaries,
}

impl CheckId {
    /// The name that people and programs read.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Provisioning => "provisioning",
            Self::Release => "release",
            Self::Systemd => "systemd",
            Self::Drift => "drift",
            Self::Defaults => "defaults",
            Self::ClassPath => "class path",
            Self::JobUploads => "job uploads",
            Self::Disk => "disk",
            Self::Buffer => "buffer",
            Self::Heap => "heap",
            Self::Port => "port",
            Self::Credentials => "credentials",
            Self::Clock => "clock",
            Self::Bucket => "bucket",
            Self::Prefix => "prefix",
            Self::List => "list",
            Self::Kms => "kms",
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Cleaner => "cleaner",
            Self::Service => "service",
            Self::ServerLog => "server log",
            Self::Pages => "pages",
            Self::Reads => "reads",
            Self::Cost => "cost",
            Self::LogUri => "log URI",
            Self::Archive => "archive",
            Self::LogPattern => "log pattern",
            Self::Gateway => "gateway",
            Self::Index => "index",
            Self::RuntimeRoles => "runtime roles",
            Self::Primaries => "primaries",
        }
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for CheckId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Why a check does not pass.
pub(crate) enum NotPassed {
    Fail(Fault),
    /// A failure that may be the effect of another one. If one of the listed checks has failed before, the
    /// report names that check as the cause.
    CausedBy(&'static [CheckId], Fault),
    /// The check does not apply, or nothing on the node tells. The text says why.
    Skip(String),
}

impl From<Fault> for NotPassed {
    fn from(fault: Fault) -> Self {
        Self::Fail(fault)
    }
}

impl From<Refusal> for NotPassed {
    fn from(refusal: Refusal) -> Self {
        match refusal.failure {
            S3Failure::ClockSkew => Self::CausedBy(&[CheckId::Clock], refusal.fault),
            S3Failure::NoAnswer(_) | S3Failure::NoCredentials(_) => {
                Self::CausedBy(&[CheckId::Credentials, CheckId::Bucket], refusal.fault)
            }
            _ => Self::Fail(refusal.fault),
        }
    }
}

/// How a check ends: with a text that says what it found to be well, or with the reason why it does not
/// pass.
pub(crate) type CheckResult = Result<String, NotPassed>;

/// Ends a check that does not apply, or that lacks a fact.
pub(crate) fn skip<T>(why: impl Into<String>) -> Result<T, NotPassed> {
    Err(NotPassed::Skip(why.into()))
}

/// One line of a report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CheckReport {
    #[serde(rename = "name")]
    pub id: CheckId,
    /// What the check examines, and why that matters.
    pub why: &'static str,
    #[serde(rename = "result")]
    pub verdict: Verdict,
    pub found: String,
    /// The facts behind a failure.
    pub details: Vec<String>,
    /// What to type against a failure.
    pub fix: Option<Hint>,
}
