//! Which checks explain a cause that the history server's log names.

use super::check::CheckId;
use crate::node::log_diagnosis::Cause;

/// The checks that examine a cause itself. If one of them fails, it says more than the log.
pub(super) fn explained_by(cause: &Cause) -> &'static [CheckId] {
    match cause {
        Cause::NoDirectory => &[CheckId::Bucket, CheckId::Prefix],
        Cause::DirectoryIsFile => &[CheckId::Prefix],
        Cause::MissingClass(_) | Cause::NoFileSystem | Cause::TwoVersions => &[CheckId::Drift, CheckId::ClassPath],
        Cause::NoMainClass => &[CheckId::Release, CheckId::ClassPath],
        Cause::NoBucket | Cause::NoHostInUri => &[CheckId::Bucket],
        Cause::KeyDenied | Cause::KeyUnusable => &[CheckId::Kms],
        Cause::WrongClock => &[CheckId::Clock],
        Cause::ExpiredCredentials | Cause::NoCredentials => &[CheckId::Credentials],
        Cause::WrongRegion | Cause::NoRegion => &[CheckId::Drift, CheckId::Bucket, CheckId::List],
        Cause::BadRequest => &[CheckId::Drift, CheckId::Credentials, CheckId::Bucket, CheckId::List],
        Cause::AccessDenied | Cause::EndpointDenied => {
            &[CheckId::Credentials, CheckId::Clock, CheckId::List, CheckId::Kms, CheckId::Get]
        }
        Cause::NoAnswer | Cause::UnknownHost | Cause::NoTls => &[CheckId::Credentials, CheckId::Bucket],
        Cause::BufferNotWritable => &[CheckId::Buffer],
        Cause::OutOfMemory | Cause::InvalidHeap | Cause::HeapTooLarge => &[CheckId::Heap],
        Cause::WrongFileSystem => &[CheckId::Drift, CheckId::Defaults],
        Cause::InvalidDefaults | Cause::InvalidSetting => &[CheckId::Defaults],
        Cause::PortTaken => &[CheckId::Port],
        Cause::DiskFull => &[CheckId::Disk],
        Cause::ObjectLock => &[CheckId::Put],
        Cause::NativeLibrary
        | Cause::OldJava
        | Cause::NewJava
        | Cause::InvalidJvmOption
        | Cause::WrongCertificate
        | Cause::UntrustedCertificate
        | Cause::Throttled
        | Cause::NoConnectionLeft
        | Cause::RoleDenied
        | Cause::WrongKeys
        | Cause::Archived
        | Cause::LocalDenied
        | Cause::HdfsDenied
        | Cause::NoHdfs
        | Cause::Kerberos
        | Cause::NoLocalDirectory
        | Cause::NoThread
        | Cause::OtherMemory
        | Cause::WrongAddress
        | Cause::TooManyFiles
        | Cause::ReadOnly
        | Cause::StoreLocked
        | Cause::StoreFormat
        | Cause::StoreMiscounted
        | Cause::LongText
        | Cause::UnknownCodec
        | Cause::DamagedEventLog
        | Cause::Silenced
        | Cause::Unknown => &[],
    }
}
