//! Reads what a bundle contains: pieces of files, lists of directories, the output of programs. Each within a limit.

use crate::host::Host;
use crate::programs;
use anyhow::{Result, anyhow, bail};
use fs_err as fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest configuration file, unit or script that a bundle contains as a whole.
pub(super) const WHOLE: u64 = 256 << 10;
/// How many entries of a directory are listed.
const ENTRIES: usize = 400;

/// The text of a file; `None` if there is no such file.
pub(super) fn whole(host: &Host, path: &Path) -> Result<Option<String>> {
    match host.metadata(path) {
        Ok(None) => Ok(None),
        _ => head(host, path, WHOLE).map(Some),
    }
}

/// The beginning of a file.
pub(super) fn head(host: &Host, path: &Path, bytes: u64) -> Result<String> {
    let mut found = Vec::new();
    host.target_place(path)?.open()?.take(bytes).read_to_end(&mut found)?;
    Ok(String::from_utf8_lossy(&found).into_owned())
}

/// The end of a file, from the beginning of a line.
pub(super) fn tail(host: &Host, path: &Path, bytes: u64) -> Result<String> {
    let mut file = host.target_place(path)?.open()?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut found = Vec::new();
    file.take(bytes).read_to_end(&mut found)?;
    let text = String::from_utf8_lossy(&found).into_owned();
    Ok(if length > bytes { last_lines(&text, text.len()) } else { text })
}

/// The last whole lines of a text.
pub(super) fn last_lines(text: &str, bytes: usize) -> String {
    let from = text.len().saturating_sub(bytes);
    let line = text.as_bytes()[from..].iter().position(|b| *b == b'\n').map_or(from, |at| from + at + 1);
    text.get(line..).unwrap_or_default().to_string()
}

/// The names in a directory, sorted. Fails if there is no such directory.
pub(super) fn names(host: &Host, dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(host.target(dir)?)?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// The entries of a directory as `ls -l` shows them, those that are wanted.
pub(super) fn listing(host: &Host, dir: &Path, is_wanted: impl Fn(&str) -> bool) -> String {
    let names = match names(host, dir) {
        Ok(names) => names,
        Err(_) if !host.exists(dir) => return format!("{}: there is no such directory\n", dir.display()),
        Err(why) => return format!("{}: {why:#}\n", dir.display()),
    };
    let wanted: Vec<&String> = names.iter().filter(|name| is_wanted(name)).collect();
    let mut text = format!("{}: {} entries, listed {}\n", dir.display(), names.len(), wanted.len().min(ENTRIES));
    for name in wanted.into_iter().take(ENTRIES) {
        text.push_str(&format!("  {}\n", entry(host, &dir.join(name))));
    }
    text
}

/// `-rw-r--r--  0644 root:root 1234 NAME -> TARGET`
pub(super) fn entry(host: &Host, path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match host.metadata(path) {
        Ok(Some(meta)) => {
            let kind = if meta.is_symlink() {
                "link"
            } else if meta.is_dir() {
                "dir "
            } else {
                "file"
            };
            let target = host.place(path).and_then(|place| Ok(place.link_target()?)).ok().filter(|_| meta.is_symlink());
            let target = target.map(|target: PathBuf| format!(" -> {}", target.display())).unwrap_or_default();
            format!("{kind} {} {:>11} {name}{target}", rights(host, &meta), meta.len())
        }
        Ok(None) => format!("gone {name}"),
        Err(why) => format!("???? {name}: {why:#}"),
    }
}

/// `0644 root:root`
pub(super) fn rights(host: &Host, meta: &std::fs::Metadata) -> String {
    let user = host.account_name(meta.uid()).unwrap_or_else(|| meta.uid().to_string());
    let groups = host.read(Path::new("/etc/group")).ok().flatten().unwrap_or_default();
    let group = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(meta.gid())).then(|| name.to_string())
    });
    let group = group.unwrap_or_else(|| meta.gid().to_string());
    format!("{:04o} {user}:{group}", meta.permissions().mode() & 0o7777)
}

/// What a program of the system prints. A program that has not ended within the time is ended.
pub(super) fn output(program: &str, args: &[&str], limit: Duration) -> Result<String> {
    let ended = programs::run(program, args, limit, &mut || ()).map_err(|why| anyhow!("{program} {why}"))?;
    match ended.success || !ended.out.trim().is_empty() {
        true => Ok(ended.out),
        false => {
            bail!("{program} {} failed: {}", args.join(" "), ended.err.lines().next().unwrap_or("no reason given"))
        }
    }
}
