//! Copies of this very program. Their names tell their content, so that an upgrade puts a new one
//! beside the old one and a roll-back only turns a link.

use crate::host::{Host, draft, remove_if_there, sync_dir};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The running program's own file, even after it was replaced.
const SELF: &str = "/proc/self/exe";

/// A copy of this program.
pub struct Program {
    dir: PathBuf,
    name: String,
}

impl Program {
    /// This program, as it is kept in `dir`: `emr-shs-<version>-<the beginning of its SHA-256>`.
    pub fn this(dir: impl Into<PathBuf>) -> Result<Self> {
        let mut file = fs::File::open(SELF)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                n => hash.update(&chunk[..n]),
            }
        }
        let digest: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
        Ok(Self { dir: dir.into(), name: format!("emr-shs-{}-{digest}", env!("CARGO_PKG_VERSION")) })
    }

    /// This program for a path that was named after it; an error if it was named after another.
    pub fn this_at(path: &Path) -> Result<Self> {
        let this = Self::this(path.parent().context("a program lies in a directory")?)?;
        if this.path() != path {
            bail!("{} is another build of emr-shs than this one, and cannot be brought back", path.display());
        }
        Ok(this)
    }

    /// Its name without the directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Copies it there in one step that survives a crash.
    pub fn install(&self, host: &Host) -> Result<()> {
        let real = host.path(&self.path())?;
        let new = draft(&real);
        remove_if_there(&new)?;
        let written = (|| -> Result<()> {
            let mut from = fs::File::open(SELF)?;
            let mut to = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&new)?;
            std::io::copy(&mut from, &mut to).context("copying this program")?;
            to.flush()?;
            to.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            to.sync_all()?;
            Ok(fs::rename(&new, &real)?)
        })();
        if written.is_err() {
            remove_if_there(&new)?;
        }
        written.with_context(|| format!("writing {}", self.path().display()))?;
        sync_dir(real.parent().unwrap_or(&real))
    }
}
