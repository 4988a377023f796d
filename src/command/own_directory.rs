//! A directory that the user names for files of emr-shs.

use crate::error::Fault;
use crate::host::Host;
use crate::shown::{Hint, hint};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Makes the directory, if it is not there. Refuses one in which others can put links in the way, such as `/tmp`: root can
/// name any. `instead` is the command with a directory that will do.
pub(super) fn own_directory(dir: &Path, instead: &'static str) -> Result<(Host, PathBuf)> {
    let dir = std::path::absolute(dir)?;
    let host = Host::new(Path::new("/"));
    let made = make_dirs(&host, &dir).and_then(|()| Ok(host.target_place(&dir)?.path()));
    let dir = made.with_context(|| format!("making {}", dir.display()))?;
    if host.metadata(&dir)?.is_some_and(|meta| host.others_may_change(&meta)) {
        return Err(Fault::failed(format!("others than you can change what is in {}", dir.display()))
            .detail("what emr-shs writes could end in another file than its own")
            .hint(hint!("name a directory that is yours alone: {}", Hint::from(instead)))
            .into());
    }
    Ok((host, dir))
}

fn make_dirs(host: &Host, dir: &Path) -> Result<()> {
    if host.metadata(dir)?.is_some() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dirs(host, parent)?;
    }
    let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Ok(host.place(dir)?.create_dir(0o755, owner)?)
}
