//! Objects of the archive, and where they are.

use crate::aws::listing;
use aws_sdk_s3::primitives::DateTime;

/// An object in a listing.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The object's name below the prefix that was listed.
    pub(crate) name: String,
    /// The size of the stored object, in bytes.
    pub(crate) size: u64,
    pub(crate) modified: Option<DateTime>,
}

impl Object {
    /// `None` for an object that is not below the prefix, or whose name no log has.
    pub(super) fn new(key: &str, object: &aws_sdk_s3::types::Object, prefix: &str) -> Option<Self> {
        let name = key.strip_prefix(prefix).filter(|name| !listing::is_odd(name))?.to_string();
        let size = u64::try_from(object.size().unwrap_or(0)).ok()?;
        Some(Self { name, size, modified: object.last_modified().copied() })
    }
}

/// The place of a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Location {
    /// Which of `Archive::buckets`.
    pub(crate) bucket: usize,
    /// The whole key.
    pub(crate) key: String,
}
