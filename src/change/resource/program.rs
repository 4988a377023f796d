//! Copies of this program. A copy's name contains a digest of its content, so an upgrade puts a new copy beside the
//! old one, and a rollback only turns a link.

use crate::host::Host;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file of the running program, even after somebody replaced the file.
const SELF: &str = "/proc/self/exe";

/// A copy of this program.
pub(crate) struct Program {
    dir: PathBuf,
    name: String,
}

impl Program {
    /// This program's copy in `dir`: `emr-shs-<version>-<beginning of the SHA-256>`.
    pub(crate) fn this(dir: impl Into<PathBuf>) -> Result<Self> {
        let mut file = fs::File::open(SELF)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                n => hash.update(&chunk[..n]),
            }
        }
        Ok(Self { dir: dir.into(), name: format!("emr-shs-{}-{}", env!("CARGO_PKG_VERSION"), beginning(hash)) })
    }

    /// This program, for a path that names it. A path that names another build is an error.
    pub(crate) fn this_at(path: &Path) -> Result<Self> {
        let this = Self::this(path.parent().context("a program lies in a directory")?)?;
        if this.path() != path {
            bail!("{} is a different build of emr-shs, and only that build can restore it", path.display());
        }
        Ok(this)
    }

    /// The file name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Writes the copy in one step that survives a crash.
    pub(crate) fn install(&self, host: &Host) -> Result<()> {
        let place = host.place(&self.path())?;
        let draft = place.draft()?;
        draft.remove_file()?;
        let mut program = fs::File::open(SELF)?;
        let written = draft.create_file(0o755, None, &mut program).and_then(|()| draft.rename(&place));
        if written.is_err() {
            draft.remove_file()?;
        }
        written.with_context(|| format!("writing {}", self.path().display()))?;
        Ok(place.sync()?)
    }
}

/// The beginning of a SHA-256 over some parts.
pub(crate) fn short_digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    beginning(hash)
}

fn beginning(hash: Sha256) -> String {
    hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect()
}
