//! Names from S3, before they become names of files.

use super::failure::Failure;

/// Checks a name that comes from S3, before it becomes the name of a file here.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    /// Linux allows one byte more, which a log takes that is set aside.
    const MAX_NAME: usize = 254;
    let why = match name {
        "" | "." | ".." => "it names a directory above",
        _ if name.starts_with('.') => "it begins with a dot, and the history server passes over such names",
        _ if name.contains('/') || name.contains('\\') => "it contains a slash",
        _ if name.contains(char::is_control) => "it contains a control character",
        _ if name.len() > MAX_NAME => "it is longer than 254 bytes",
        _ => return Ok(()),
    };
    Err(Failure::Name { name: name.into(), why })
}
