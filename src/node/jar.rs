//! Finds classes in a jar by the jar's zip directory, without a JVM.
//!
//! The bundle of SDK v2 has 342,000 entries and a directory of 45 MB. So this reads the directory in chunks
//! and searches them for whole entry names, without a table of all entries. It does not map the file into
//! memory: if somebody truncates a mapped file, SIGBUS ends the process.

use crate::files;
use memchr::memmem::Finder;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes of a directory header before the entry's name.
const HEADER: usize = 46;
const CHUNK: usize = 1 << 20;
/// A comment of at most 65,535 bytes can follow the end record.
const END_RECORD: u64 = 22;
const LONGEST_TAIL: u64 = END_RECORD + 65_535;

/// The position of an entry's data in a jar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    method: u16,
    packed: u32,
    header_at: u32,
}

/// The entry name of a class: `org/example/A.class` for `org.example.A`.
pub(crate) fn entry_name(class: &str) -> String {
    format!("{}.class", class.replace('.', "/"))
}

/// Opens a jar. Every caller names the jar in its own message.
fn open(jar: &Path) -> io::Result<File> {
    files::open(jar)
}

/// The entries with these names. Fails for a file that cannot be read or is not a zip archive.
pub(crate) fn find(jar: &Path, names: &[&str]) -> io::Result<Vec<Option<Entry>>> {
    let file = open(jar)?;
    let (start, size) = directory(&file)?;
    let finders: Vec<Finder<'_>> = names.iter().map(|n| Finder::new(n.as_bytes())).collect();
    let overlap = HEADER + names.iter().map(|n| n.len()).max().unwrap_or(0);
    let mut found = vec![None; names.len()];
    let mut chunk = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK)) + overlap];
    let mut kept = 0;
    let mut read = 0;
    while read < size && found.iter().any(Option::is_none) {
        let room = chunk.len() - kept;
        let n = room.min(usize::try_from(size - read).unwrap_or(room));
        file.read_exact_at(&mut chunk[kept..kept + n], start + read)?;
        read += n as u64;
        let view = &chunk[..kept + n];
        for (slot, finder) in found.iter_mut().zip(&finders) {
            if slot.is_none() {
                *slot = finder.find_iter(view).find_map(|at| header_before(view, at, finder.needle().len()));
            }
        }
        let keep = overlap.min(view.len());
        let from = view.len() - keep;
        chunk.copy_within(from..from + keep, 0);
        kept = keep;
    }
    Ok(found)
}

/// The header before a match. A match inside a longer name has none: the header contains the length of the
/// name.
fn header_before(view: &[u8], at: usize, len: usize) -> Option<Entry> {
    let header = view.get(at.checked_sub(HEADER)?..at)?;
    let matches = header.starts_with(b"PK\x01\x02") && usize::from(u16_at(header, 28)) == len;
    matches.then(|| Entry { method: u16_at(header, 10), packed: u32_at(header, 20), header_at: u32_at(header, 42) })
}

/// The unpacked bytes of an entry.
pub(crate) fn read(jar: &Path, entry: Entry) -> io::Result<Vec<u8>> {
    const LOCAL: usize = 30;
    const LARGEST: u64 = 16 << 20;
    let file = open(jar)?;
    let at = u64::from(entry.header_at);
    let mut local = [0; LOCAL];
    file.read_exact_at(&mut local, at)?;
    if !local.starts_with(b"PK\x03\x04") {
        return Err(invalid("the directory gives a wrong position for an entry"));
    }
    let data = at + LOCAL as u64 + u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
    if u64::from(entry.packed) > LARGEST {
        return Err(invalid("an entry is larger than any class"));
    }
    let mut packed = vec![0; entry.packed as usize];
    file.read_exact_at(&mut packed, data)?;
    match entry.method {
        0 => Ok(packed),
        8 => {
            let mut out = Vec::new();
            flate2::read::DeflateDecoder::new(&packed[..]).take(LARGEST).read_to_end(&mut out)?;
            Ok(out)
        }
        _ => Err(invalid("an entry uses a compression that Java cannot read either")),
    }
}

/// The offset and the size of the directory.
fn directory(file: &File) -> io::Result<(u64, u64)> {
    let len = file.metadata()?.len();
    for tail in [1024, LONGEST_TAIL] {
        let tail = tail.min(len);
        let mut bytes = vec![0; usize::try_from(tail).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, len - tail)?;
        let end = memchr::memmem::rfind(&bytes, b"PK\x05\x06")
            .filter(|at| bytes.len() - at >= usize::try_from(END_RECORD).unwrap_or(0));
        let Some(at) = end else { continue };
        let (size, start) = (u32_at(&bytes, at + 12), u32_at(&bytes, at + 16));
        let (start, size) = if size == u32::MAX || start == u32::MAX || u16_at(&bytes, at + 10) == u16::MAX {
            zip64(file, len - tail + at as u64)?.unwrap_or((u64::from(start), u64::from(size)))
        } else {
            (u64::from(start), u64::from(size))
        };
        if start.checked_add(size).is_none_or(|end| end > len) {
            return Err(invalid("the directory lies outside the file"));
        }
        return Ok((start, size));
    }
    Err(invalid("the file is not a zip archive, or it is truncated"))
}

/// The offset and the size of the 64-bit directory that an archive with more than 65,534 entries has.
fn zip64(file: &File, end_at: u64) -> io::Result<Option<(u64, u64)>> {
    let Some(at) = end_at.checked_sub(20) else { return Ok(None) };
    let mut locator = [0; 20];
    file.read_exact_at(&mut locator, at)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let mut record = [0; 56];
    file.read_exact_at(&mut record, u64_at(&locator, 8))?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(invalid("the 64-bit directory is not at its position"));
    }
    Ok(Some((u64_at(&record, 48), u64_at(&record, 40))))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
