//! Observing and setting what lives in the file system.

use super::State;
use crate::error::Fault;
use crate::files::{Place, kind};
use crate::host::{Host, Owner, is_absence};
use crate::node::spark::{parse_defaults, read_defaults};
use crate::properties::{self, SparkDefaults};
use crate::shown::hint;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The largest file whose text the receipt keeps as `before`, in bytes.
const MAX_TEXT: u64 = 1 << 20;
/// The mode of a directory into which only its owner can look.
const PRIVATE: u32 = 0o700;
/// The mode of a directory that a group may read. What is made there belongs to the group.
const READ_BY_GROUP: u32 = 0o2750;

pub(super) fn observe_dir(host: &Host, path: &Path) -> Result<State> {
    let Some(meta) = host.metadata(path)? else { return Ok(State::Absent) };
    if !meta.is_dir() {
        return Err(in_the_way(path, kind(&meta), "a directory").into());
    }
    Ok(State::Dir { mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()) })
}

/// [`State::Exists`] is a directory that belongs to the account, and into which only the reader's group can look besides.
pub(super) fn observe_account_dir(host: &Host, path: &Path, account: &str, reader: Option<&str>) -> Result<State> {
    let found = observe_dir(host, path)?;
    let wanted = account_dir(host, account, reader).ok();
    Ok(if wanted.is_some_and(|(mode, owner)| found == State::Dir { mode, owner }) { State::Exists } else { found })
}

pub(super) fn make_account_dir(
    host: &Host,
    path: &Path,
    before: &State,
    account: &str,
    reader: Option<&str>,
) -> Result<()> {
    let (mode, owner) = account_dir(host, account, reader)?;
    make_dir(host, path, before, mode, owner)
}

fn account_dir(host: &Host, account: &str, reader: Option<&str>) -> Result<(u32, Owner)> {
    let find = |name: &str| host.account(name).with_context(|| format!("there is no account {name}"));
    let owner = find(account)?;
    Ok(match reader {
        None => (PRIVATE, owner),
        Some(reader) => (READ_BY_GROUP, (owner.0, find(reader)?.1)),
    })
}

pub(super) fn observe_link(host: &Host, path: &Path) -> Result<State> {
    let Some(meta) = host.metadata(path)? else { return Ok(State::Absent) };
    if !meta.is_symlink() {
        return Ok(State::Occupied { by: kind(&meta).into() });
    }
    Ok(State::Link { target: host.place(path)?.link_target()? })
}

pub(super) fn observe_file(host: &Host, path: &Path) -> Result<State> {
    let Some(meta) = host.metadata(path)? else { return Ok(State::Absent) };
    if !meta.is_file() {
        return Err(in_the_way(path, kind(&meta), "a regular file").into());
    }
    if meta.len() > MAX_TEXT {
        let found = format!("a file of {} bytes", meta.len());
        return Err(in_the_way(path, &found, "a small text file").into());
    }
    let Ok(content) = String::from_utf8(host.place(path)?.read()?) else {
        return Err(in_the_way(path, "a file that is not text", "a text file").into());
    };
    Ok(State::File { content, mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()) })
}

/// A crash leaves only a draft, which has another name, so a program at this path is complete.
pub(super) fn observe_program(host: &Host, path: &Path) -> Result<State> {
    let exists = host.metadata(path)?.is_some_and(|m| m.is_file() && m.len() > 0);
    Ok(if exists { State::Exists } else { State::Absent })
}

pub(super) fn observe_key(host: &Host, path: &Path, key: &str) -> Result<State> {
    let file = read_defaults(host, path)?;
    Ok(file.line(key).map_or(State::Absent, |raw| State::Line { raw }))
}

/// Makes a directory, or gives one that is there its mode and its owner. What appears where nothing was is somebody
/// else's.
pub(super) fn make_dir(host: &Host, path: &Path, before: &State, mode: u32, owner: Owner) -> Result<()> {
    let place = host.place(path)?;
    let made = match before {
        State::Absent => create_dir(&place, mode, owner),
        _ => place.adopt_dir(mode, owner),
    };
    made.with_context(|| format!("making {}", path.display()))
}

/// Waits a moment for the name to be free: somebody may make and remove something of that name again and again.
fn create_dir(place: &Place, mode: u32, owner: Owner) -> std::io::Result<()> {
    const ATTEMPTS: u32 = 100;
    for _ in 1..ATTEMPTS {
        match place.create_dir(mode, owner) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => std::thread::sleep(Duration::from_millis(7)),
            done => return done,
        }
    }
    place.create_dir(mode, owner)
}

/// Removes a directory that is empty. Somebody else's files keep it.
pub(super) fn remove_empty_dir(host: &Host, path: &Path) -> Result<()> {
    unless_absent(host.place(path).and_then(|place| Ok(place.remove_empty_dir().map(drop)?)))
}

pub(super) fn remove_dir_with_content(host: &Host, path: &Path) -> Result<()> {
    unless_absent(host.place(path).and_then(|place| Ok(place.remove_dir_all()?)))
}

/// Writes a file of emr-shs. Another content than `before` is somebody else's, and stays.
pub(super) fn write_file(
    host: &Host,
    path: &Path,
    before: &State,
    content: &[u8],
    mode: u32,
    owner: Owner,
) -> Result<()> {
    if *before == State::Absent {
        return host.write_new(path, content, mode, Some(owner));
    }
    require_unchanged(&observe_file(host, path)?, before, path)?;
    host.write_atomic(path, content, mode, Some(owner))
}

/// Removes a file that is as it was seen before.
pub(super) fn remove_file(host: &Host, path: &Path, before: &State) -> Result<()> {
    require_unchanged(&observe_file(host, path)?, before, path)?;
    remove(host, path)
}

fn require_unchanged(now: &State, before: &State, path: &Path) -> Result<()> {
    if now != before && *now != State::Absent {
        bail!("somebody has changed {} meanwhile: {}", path.display(), now.difference(before));
    }
    Ok(())
}

/// Removes a link or a file.
pub(super) fn remove(host: &Host, path: &Path) -> Result<()> {
    unless_absent(host.place(path).and_then(|place| {
        place.remove_file()?;
        Ok(place.sync()?)
    }))
}

/// Makes a link. Something else in its place is put aside, which only `--force` allows.
pub(super) fn make_link(host: &Host, path: &Path, before: &State, target: &Path) -> Result<()> {
    let place = host.place(path)?;
    if place.metadata()?.is_some_and(|m| !m.is_symlink()) {
        if !matches!(before, State::Occupied { .. }) {
            bail!("somebody has put something in the place of {} meanwhile", path.display());
        }
        let aside = aside(&place)?;
        place.rename_to_free_name(&aside).with_context(|| {
            format!("{} contains what was put aside earlier; move it away first", aside.path().display())
        })?;
    }
    let draft = place.draft()?;
    draft.remove_file()?;
    draft.create_link(target).with_context(|| format!("linking {}", path.display()))?;
    match before {
        State::Link { .. } => draft.rename(&place)?,
        _ => draft.rename_to_free_name(&place)?,
    }
    Ok(place.sync()?)
}

/// Brings back what [`make_link`] put aside.
pub(super) fn bring_back(host: &Host, path: &Path) -> Result<()> {
    let place = host.place(path)?;
    let aside = aside(&place)?;
    if aside.metadata()?.is_some() {
        place.remove_file()?;
        aside.rename_to_free_name(&place)?;
    }
    Ok(())
}

/// Sets or removes the line of a key. The other bytes of the file, its mode and its owner stay, and what others write
/// meanwhile.
pub(super) fn write_line(host: &Host, path: &Path, key: &str, before: &State, line: Option<&str>) -> Result<()> {
    let exists = host.target_place(path).and_then(|place| Ok(place.metadata()?.is_some()));
    if !exists.or_else(|e| if is_no_file(&e) { Ok(false) } else { Err(e) })? {
        let Some(line) = line else { return Ok(()) };
        let mut file = SparkDefaults::default();
        file.set_line(key, Some(line));
        return host.write_new(path, &file.to_bytes(), 0o644, None);
    }
    let known = before.value();
    host.edit(path, &mut |bytes| {
        let mut file = parse_defaults(path, bytes)?;
        let now = file.line(key);
        let is_known = now.as_deref().and_then(properties::value_of) == known;
        if !is_known && now.as_deref() != line {
            bail!("somebody has changed {key} in {} meanwhile", path.display());
        }
        file.set_line(key, line);
        let after = file.to_bytes();
        Ok((after != bytes).then_some(after))
    })
}

fn unless_absent(done: Result<()>) -> Result<()> {
    done.or_else(|e| if is_no_file(&e) { Ok(()) } else { Err(e) })
}

fn is_no_file(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(is_absence)
}

/// Where [`make_link`] puts something aside. The name does not end in `.jar`, so no Java class path picks the file
/// up.
fn aside(place: &Place) -> Result<Place> {
    let mut name = place.name().to_os_string();
    name.push(".before-emr-shs");
    Ok(place.sibling(name)?)
}

fn in_the_way(path: &Path, found: &str, wanted: &str) -> Fault {
    Fault::preflight(format!(
        "{} is not what emr-shs would write there, and emr-shs does not replace it",
        path.display()
    ))
    .detail(format!("found {found}, wanted {wanted}"))
    .hint(hint!("move it away: sudo mv {} {}.old", path, path))
}
