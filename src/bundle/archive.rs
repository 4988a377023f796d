//! The file of a bundle: a compressed tar archive, under a name that nothing had before.

use crate::error::Fault;
use crate::files::Place;
use crate::host::Host;
use crate::shown::hint;
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A name for a bundle under which there is nothing yet.
pub(crate) struct Target(PathBuf);

impl Target {
    /// Refuses a name that exists, be it a file, a directory or a link, and a directory that does not exist.
    pub(crate) fn free(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path)?;
        let refused = |why: String| {
            Fault::usage(format!("the bundle cannot be written to {}", path.display()))
                .detail(why)
                .hint(hint!("name a new file: sudo emr-shs doctor --bundle {}", "/tmp/emr-shs-bundle.tar.gz"))
        };
        if absolute.file_name().is_none() || path.as_os_str().to_string_lossy().ends_with('/') {
            return Err(refused("a directory has this name; wanted the name of a new file".into()).into());
        }
        let place = Place::find(Path::new("/"), &absolute, false).map_err(|why| refused(why.to_string()))?;
        match place.metadata().map_err(|why| refused(why.to_string()))? {
            None => Ok(Self(absolute)),
            Some(meta) => {
                let kind = if meta.is_symlink() {
                    "a link"
                } else if meta.is_dir() {
                    "a directory"
                } else {
                    "a file"
                };
                Err(refused(format!("found {kind} with this name; emr-shs replaces nothing and follows no link there"))
                    .into())
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the archive as a whole, or not at all. Only its owner can read it.
    pub(crate) fn write(&self, files: &[(String, String)]) -> Result<u64> {
        let bytes = packed(files).context("packing the bundle")?;
        Host::this().write_new(&self.0, &bytes, 0o600, None)?;
        Ok(bytes.len() as u64)
    }
}

fn packed(files: &[(String, String)]) -> Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in files {
        // No owner and no name of this machine.
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(now);
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    Ok(archive.into_inner()?.finish()?)
}
