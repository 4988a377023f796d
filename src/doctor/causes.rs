//! Which checks explain a cause that the history server's log names.

use super::check::CheckId;
use crate::node::log_diagnosis::Cause;

/// The checks that examine a cause itself. If one of them fails, it says more than the log.
pub(super) fn explained_by(cause: &Cause) -> &'static [CheckId] {
    match cause {
        Cause::NoDirectory => &[CheckId::Bucket, CheckId::Prefix],
        Cause::DirectoryIsFile => &[CheckId::Prefix],
        Cause::MissingClass(_) | Cause::NoFileSystem | Cause::TwoVersions => &[CheckId::Drift, CheckId::ClassPath],
        Cause::NoBucket => &[CheckId::Bucket],
        Cause::KeyDenied => &[CheckId::Kms],
        Cause::WrongClock => &[CheckId::Clock],
        Cause::ExpiredCredentials | Cause::NoCredentials => &[CheckId::Credentials],
        Cause::WrongRegion => &[CheckId::Drift, CheckId::Bucket, CheckId::List],
        Cause::AccessDenied => &[CheckId::Credentials, CheckId::Clock, CheckId::List, CheckId::Kms, CheckId::Get],
        Cause::NoAnswer => &[CheckId::Credentials, CheckId::Bucket],
        Cause::BufferNotWritable => &[CheckId::Buffer],
        Cause::OutOfMemory | Cause::InvalidHeap | Cause::HeapTooLarge => &[CheckId::Heap],
        Cause::WrongFileSystem => &[CheckId::Drift, CheckId::Defaults],
        Cause::InvalidDefaults => &[CheckId::Defaults],
        Cause::PortTaken => &[CheckId::Port],
        Cause::DiskFull => &[CheckId::Disk],
        Cause::HdfsDenied | Cause::Silenced => &[],
    }
}
