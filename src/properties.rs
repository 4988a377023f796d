//! `spark-defaults.conf`, read as `java.util.Properties` reads it and changed without loss.
//!
//! Spark loads the file with `Properties.load` over UTF-8 and trims each value. This module keeps the file as a list
//! of segments that cover all its bytes. A change replaces the bytes of one segment, so comments, order, duplicates
//! and line ends stay. The module reads and writes no files.

use std::borrow::Cow;

/// The parsed file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparkDefaults {
    segments: Vec<Segment>,
}

/// One logical line with its continuation lines, or a comment, or a blank line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    raw: Vec<u8>,
    /// The length of `raw` without its line terminator.
    body: usize,
    entry: Option<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    value: String,
    /// The index in `raw` at which the value begins.
    value_at: usize,
    /// Whether something stands between key and value. Behind a bare key no value can be written.
    separated: bool,
}

/// `java.util.Properties` refuses to load the file, so Spark cannot start.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Line number, from 1.
    pub line: usize,
    /// The text that cannot be read.
    pub found: String,
}

impl SparkDefaults {
    /// Reads a whole file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut segments = Vec::new();
        let mut rest = bytes;
        let mut line = 1;
        while !rest.is_empty() {
            let segment = Segment::read(rest).map_err(|found| Malformed { line, found })?;
            rest = &rest[segment.raw.len()..];
            line += count_lines(&segment.raw);
            segments.push(segment);
        }
        Ok(Self { segments })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.segments.iter().flat_map(|p| p.raw.iter().copied()).collect()
    }

    /// The text of the last line with this key, trimmed as Spark trims it. What Spark makes of the text is a matter of
    /// `SparkConf`.
    pub fn trimmed(&self, key: &str) -> Option<&str> {
        self.entries().rfind(|e| e.key == key).map(|e| spark_trim(&e.value))
    }

    /// The keys and untrimmed values of all lines, duplicates included, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries().map(|e| (e.key.as_str(), e.value.as_str()))
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.segments.iter().filter_map(|p| p.entry.as_ref())
    }

    /// The line that Spark uses for this key, without its line end, as [`text_of`] writes it; `None` if no line
    /// contains the key.
    pub fn line(&self, key: &str) -> Option<String> {
        self.find(key).map(|i| text_of(self.segments[i].body()))
    }

    /// Replaces the line that Spark uses for this key, or appends the line to the file. `None` removes the line, and
    /// what an earlier call added for it. `line` has no line end, and is written as [`text_of`] writes it.
    pub fn set_line(&mut self, key: &str, line: Option<&str>) {
        match (self.find(key), line) {
            (Some(i), Some(line)) => {
                let old = &self.segments[i];
                self.segments[i] = Segment::of(line, &old.raw[old.body..]);
            }
            (Some(i), None) => {
                let gone = self.segments.remove(i);
                // `append` gave the line before a line end, if the file had none at its end.
                if gone.body == gone.raw.len() && i == self.segments.len() && i > 0 {
                    let last = &mut self.segments[i - 1];
                    last.raw.truncate(last.body);
                }
            }
            (None, Some(line)) => self.append(line),
            (None, None) => {}
        }
    }

    fn append(&mut self, line: &str) {
        let end: &[u8] = match self.segments.first() {
            Some(first) if first.raw.ends_with(b"\r\n") => b"\r\n",
            _ => b"\n",
        };
        // Behind a last line that ends in a continuation mark, the new line would become part of the old one's value.
        let swallows = self.segments.last().is_some_and(Segment::is_open);
        let at = self.segments.len() - usize::from(swallows);
        match at.checked_sub(1).map(|i| &mut self.segments[i]) {
            Some(last) if last.body == last.raw.len() => {
                last.raw.extend_from_slice(end);
                self.segments.push(Segment::of(line, b""));
            }
            _ => self.segments.insert(at, Segment::of(line, end)),
        }
    }

    fn find(&self, key: &str) -> Option<usize> {
        self.segments.iter().rposition(|p| p.entry.as_ref().is_some_and(|e| e.key == key))
    }
}

/// The line to write for a key: the old line with another value, or a new line, aligned as EMR aligns this file.
pub fn line_with(old: Option<&str>, key: &str, value: &str) -> String {
    let value = escape(value, false);
    if let Some(old) = old.map(bytes_of)
        && let Ok(segment) = Segment::read(&old)
        && let Some(entry) = &segment.entry
        && let Some(head) = old.get(..entry.value_at)
        && entry.separated
    {
        return format!("{}{value}", text_of(head));
    }
    format!("{:<32} {value}", escape(key, true))
}

/// The trimmed value of a line that [`SparkDefaults::line`] gave.
pub(crate) fn value_of(line: &str) -> Option<String> {
    let segment = Segment::read(&bytes_of(line)).ok()?;
    segment.entry.map(|e| spark_trim(&e.value).to_string())
}

/// The key that a line sets.
pub(crate) fn key_of(line: &str) -> Option<String> {
    Segment::read(&bytes_of(line)).ok()?.entry.map(|e| e.key.to_string())
}

/// The private characters that stand for the bytes 0x80 to 0xFF where those are not UTF-8.
const FOREIGN: std::ops::RangeInclusive<char> = '\u{10f780}'..='\u{10f7ff}';
/// The distance between a byte and its character in [`FOREIGN`].
const FOREIGN_OFFSET: u32 = 0x10_f700;

/// Writes the bytes of a line as text that [`bytes_of`] turns back into the same bytes. The receipt keeps lines as
/// text, and `uninstall` must restore a comment or a value in Latin-1 as it was.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match FOREIGN.contains(&c) {
                // The character itself occurs in the line.
                true => text.extend(c.encode_utf8(&mut [0; 4]).bytes().filter_map(foreign)),
                false => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().copied().filter_map(foreign));
    }
    text
}

fn foreign(byte: u8) -> Option<char> {
    char::from_u32(FOREIGN_OFFSET + u32::from(byte))
}

/// The bytes that [`text_of`] wrote as text.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c).wrapping_sub(FOREIGN_OFFSET)) {
            Ok(byte) if FOREIGN.contains(&c) => bytes.push(byte),
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Trims a value as Spark does: every character up to U+0020, except line ends.
fn spark_trim(s: &str) -> &str {
    s.trim_matches(|c| c <= ' ' && c != '\r' && c != '\n')
}

impl Segment {
    fn of(line: &str, end: &[u8]) -> Self {
        let mut raw = bytes_of(line);
        raw.extend_from_slice(end);
        // The line is either escaped by this module or was read before, so it contains no malformed escape.
        Segment::read(&raw).unwrap_or(Segment { body: line.len(), raw, entry: None })
    }

    fn body(&self) -> &[u8] {
        &self.raw[..self.body]
    }

    /// Whether the segment ends in a continuation mark and no line follows.
    fn is_open(&self) -> bool {
        let marks = self.body().iter().rev().take_while(|b| **b == b'\\').count();
        self.entry.is_some() && marks % 2 == 1
    }

    /// Reads the first segment of `bytes`. The error is the text of a malformed `\u` escape.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let start = bytes.iter().position(|b| !is_blank(*b)).unwrap_or(bytes.len());
        let plain = |end: usize, body: usize| Segment { raw: bytes[..end].to_vec(), body, entry: None };
        match bytes.get(start) {
            None => return Ok(plain(bytes.len(), bytes.len())),
            Some(b'\r' | b'\n') => return Ok(plain(start + newline(&bytes[start..]), start)),
            Some(b'#' | b'!') => {
                let body = start + line_len(&bytes[start..]);
                return Ok(plain(body + newline(&bytes[body..]), body));
            }
            Some(_) => {}
        }

        let Some((logical, body)) = logical_line(bytes, start) else {
            let body = start + line_len(&bytes[start..]);
            return Ok(plain(body + newline(&bytes[body..]), body));
        };
        let raw = bytes[..body + newline(&bytes[body..])].to_vec();
        Ok(Segment { raw, body, entry: Some(Entry::read(bytes, &logical, body)?) })
    }
}
/// The logical line at `start`: for each of its bytes the index in `bytes`, and the end of the line. `None` for a lone
/// continuation mark, behind which Java begins a new logical line.
fn logical_line(bytes: &[u8], start: usize) -> Option<(Vec<usize>, usize)> {
    let mut logical: Vec<usize> = Vec::new();
    let mut at = start;
    loop {
        let end = at + line_len(&bytes[at..]);
        let marks = bytes[at..end].iter().rev().take_while(|b| **b == b'\\').count();
        let next = end + newline(&bytes[end..]);
        if marks % 2 == 0 {
            logical.extend(at..end);
            return Some((logical, end));
        }
        logical.extend(at..end - 1);
        let is_last = next >= bytes.len();
        if logical.is_empty() && (!is_last || next - end == 2) {
            return None;
        }
        if is_last {
            // No line follows, so Java drops the mark.
            return Some((logical, end));
        }
        at = next + bytes[next..].iter().take_while(|b| is_blank(**b)).count();
    }
}

impl Entry {
    /// Splits a logical line into key and value. `body` is the end of the line in `bytes`.
    fn read(bytes: &[u8], logical: &[usize], body: usize) -> Result<Self, String> {
        let byte = |i: usize| bytes[logical[i]];
        let mut i = 0;
        while i < logical.len() && !is_blank(byte(i)) && !matches!(byte(i), b'=' | b':') {
            i += if byte(i) == b'\\' { 2 } else { 1 };
        }
        let key_end = i.min(logical.len());
        let mut value = key_end;
        let mut separator = false;
        while value < logical.len() {
            match byte(value) {
                b if is_blank(b) => {}
                b'=' | b':' if !separator => separator = true,
                _ => break,
            }
            value += 1;
        }
        let text = |range: std::ops::Range<usize>| -> Result<String, String> {
            unescape(&range.map(byte).collect::<Vec<u8>>())
        };
        // An empty value begins behind the separator, before any continuation mark.
        let value_at = logical.get(value).copied().or(logical.last().map(|last| last + 1)).unwrap_or(body);
        Ok(Entry { key: text(0..key_end)?, value: text(value..logical.len())?, value_at, separated: value > key_end })
    }
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | 0x0c)
}

/// The number of bytes up to the end of the natural line.
fn line_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len())
}

/// The length of the line terminator at the beginning of `bytes`: 0, 1, or 2 for CRLF.
fn newline(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    }
}

fn count_lines(raw: &[u8]) -> usize {
    let mut n = 0;
    let mut at = 0;
    while at < raw.len() {
        at += line_len(&raw[at..]);
        let end = newline(&raw[at..]);
        n += usize::from(end > 0);
        at += end;
    }
    n
}

fn unescape(raw: &[u8]) -> Result<String, String> {
    let text: Cow<'_, str> = String::from_utf8_lossy(raw);
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                None => break,
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let valid = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                    match u16::from_str_radix(&digits, 16) {
                        Ok(unit) if valid => units.push(unit),
                        _ => return Err(format!("\\u{digits}")),
                    }
                    continue;
                }
                Some(other) => other,
            },
            c => c,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

fn escape(text: &str, is_key: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, c) in text.chars().enumerate() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{c}' => out.push_str("\\f"),
            ' ' if is_key || i == 0 => out.push_str("\\ "),
            '=' | ':' | '#' | '!' if is_key => {
                out.push('\\');
                out.push(c);
            }
            '=' | ':' if i == 0 => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
