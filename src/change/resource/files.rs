//! Observing and setting what lives in the file system.

use super::State;
use crate::error::Fault;
use crate::host::{Host, Owner, draft, remove_if_there, sync_dir};
use crate::node::spark::read_defaults;
use crate::shown::hint;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest file whose text the receipt keeps as `before`, in bytes.
const MAX_TEXT: u64 = 1 << 20;

pub(super) fn observe_dir(host: &Host, path: &Path) -> Result<State> {
    let Some(meta) = metadata(&host.path(path)?)? else { return Ok(State::Absent) };
    if !meta.is_dir() {
        return Err(in_the_way(path, kind(&meta), "a directory").into());
    }
    Ok(State::Dir { mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()) })
}

pub(super) fn observe_link(host: &Host, path: &Path) -> Result<State> {
    let real = host.path(path)?;
    let Some(meta) = metadata(&real)? else { return Ok(State::Absent) };
    if !meta.is_symlink() {
        return Ok(State::Occupied { by: kind(&meta).into() });
    }
    Ok(State::Link { target: fs::read_link(&real)? })
}

pub(super) fn observe_file(host: &Host, path: &Path) -> Result<State> {
    let real = host.path(path)?;
    let Some(meta) = metadata(&real)? else { return Ok(State::Absent) };
    if !meta.is_file() {
        return Err(in_the_way(path, kind(&meta), "a regular file").into());
    }
    if meta.len() > MAX_TEXT {
        let found = format!("a file of {} bytes", meta.len());
        return Err(in_the_way(path, &found, "a small text file").into());
    }
    let Ok(content) = String::from_utf8(fs::read(&real)?) else {
        return Err(in_the_way(path, "a file that is not text", "a text file").into());
    };
    Ok(State::File { content, mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()) })
}

/// A crash leaves only a [`draft`], which has another name, so a program at this path is complete.
pub(super) fn observe_program(host: &Host, path: &Path) -> Result<State> {
    let exists = metadata(&host.path(path)?)?.is_some_and(|m| m.is_file() && m.len() > 0);
    Ok(if exists { State::Exists } else { State::Absent })
}

pub(super) fn observe_key(host: &Host, path: &Path, key: &str) -> Result<State> {
    let file = read_defaults(host, path)?;
    Ok(file.line(key).map_or(State::Absent, |raw| State::Line { raw }))
}

pub(super) fn make_dir(host: &Host, path: &Path, mode: u32, owner: Owner) -> Result<()> {
    let real = host.path(path)?;
    match fs::create_dir(&real) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e.into()),
        _ => {}
    }
    fs::set_permissions(&real, PermissionsExt::from_mode(mode))?;
    let meta = fs::metadata(&real)?;
    if (meta.uid(), meta.gid()) != owner {
        std::os::unix::fs::chown(&real, Some(owner.0), Some(owner.1))
            .with_context(|| format!("changing the owner of {}", path.display()))?;
    }
    sync_dir(real.parent().unwrap_or(&real))
}

/// Removes a directory that is empty. Somebody else's files keep it.
pub(super) fn remove_empty_dir(host: &Host, path: &Path) -> Result<()> {
    match fs::remove_dir(host.path(path)?) {
        Err(e) if e.kind() != ErrorKind::NotFound && e.kind() != ErrorKind::DirectoryNotEmpty => Err(e.into()),
        _ => Ok(()),
    }
}

pub(super) fn remove_dir_with_content(host: &Host, path: &Path) -> Result<()> {
    match fs::remove_dir_all(host.path(path)?) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Removes a link or a file.
pub(super) fn remove(host: &Host, path: &Path) -> Result<()> {
    let real = host.path(path)?;
    remove_if_there(&real)?;
    match real.parent() {
        Some(dir) if dir.is_dir() => sync_dir(dir),
        _ => Ok(()),
    }
}

/// Makes a link. Something else in its place is put aside, which only `--force` allows.
pub(super) fn make_link(host: &Host, path: &Path, target: &Path) -> Result<()> {
    let real = host.path(path)?;
    if metadata(&real)?.is_some_and(|m| !m.is_symlink()) {
        if fs::symlink_metadata(aside(&real)).is_ok() {
            bail!("{} contains what was put aside earlier; move it away first", aside(path).display());
        }
        fs::rename(&real, aside(&real))?;
    }
    let new = draft(&real);
    remove_if_there(&new)?;
    fs::os::unix::fs::symlink(target, &new).with_context(|| format!("linking {}", path.display()))?;
    fs::rename(&new, &real)?;
    sync_dir(real.parent().unwrap_or(&real))
}

/// Brings back what [`make_link`] put aside.
pub(super) fn bring_back(host: &Host, path: &Path) -> Result<()> {
    let real = host.path(path)?;
    if fs::symlink_metadata(aside(&real)).is_ok() {
        remove_if_there(&real)?;
        fs::rename(aside(&real), &real)?;
    }
    Ok(())
}

/// Sets or removes the line of a key. The other bytes of the file, its mode and its owner stay.
pub(super) fn write_line(host: &Host, path: &Path, key: &str, line: Option<&str>) -> Result<()> {
    let real = host.target(path)?;
    let (mode, owner) = match metadata(&real)? {
        Some(meta) => (meta.mode() & 0o7777, Some((meta.uid(), meta.gid()))),
        None if line.is_none() => return Ok(()),
        None => (0o644, None),
    };
    let mut file = read_defaults(host, path)?;
    let before = file.to_bytes();
    file.set_line(key, line);
    let after = file.to_bytes();
    if after == before { Ok(()) } else { host.write_atomic(path, &after, mode, owner) }
}

/// The name of what [`make_link`] puts aside. The name does not end in `.jar`, so no Java class path picks the file
/// up.
fn aside(real: &Path) -> PathBuf {
    let mut name = real.file_name().unwrap_or_default().to_os_string();
    name.push(".before-emr-shs");
    real.with_file_name(name)
}

fn metadata(real: &Path) -> Result<Option<std::fs::Metadata>> {
    match fs::symlink_metadata(real) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn kind(meta: &std::fs::Metadata) -> &'static str {
    match meta {
        m if m.is_dir() => "a directory",
        m if m.is_symlink() => "a symbolic link",
        m if m.is_file() => "a regular file",
        _ => "a special file",
    }
}

fn in_the_way(path: &Path, found: &str, wanted: &str) -> Fault {
    Fault::preflight(format!(
        "{} is not what emr-shs would write there, and emr-shs does not replace it",
        path.display()
    ))
    .detail(format!("found {found}, wanted {wanted}"))
    .hint(hint!("move it away: sudo mv {} {}.old", path, path))
}
