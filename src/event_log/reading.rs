//! Reads the beginning and the end of a log, and says which bytes it wants for that.

use crate::event_log::codec::Codec;
use crate::event_log::damage::DamageKind;
use crate::event_log::decoder::{Decoder, Limits};
use crate::event_log::events::Events;
use crate::event_log::facts::Facts;
use crate::event_log::tail;
use std::ops::{ControlFlow, Range};

const KIB: u64 = 1 << 10;
/// A file that is not larger is read by one request.
const ONE_REQUEST: u64 = 256 * KIB;
/// A compressed file that is larger can be some megabytes when it is unpacked.
const READ_AT_ONCE: u64 = 64 * KIB;
/// The first request for a beginning. `SparkListenerApplicationStart` comes after the environment, which takes some
/// 90 KB where nothing is compressed.
const HEAD: u64 = 128 * KIB;
/// A caller that knows better may ask for so many bytes instead.
const LARGEST_HEAD: u64 = 1024 * KIB;
/// A beginning that takes more is left to whoever reads the whole log.
const LONGEST_BEGINNING: u64 = 2048 * KIB;
/// So many files are read for the beginning at most, which the first one has.
const MOST_FILES: usize = 3;
/// The first request for the end.
const TAIL: u64 = 64 * KIB;
/// The second one. The history server looks for the end in as many bytes (`spark.history.fs.endEventReparseChunkSize`).
const LONGEST_TAIL: u64 = 1024 * KIB;

/// One file of an event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub size: u64,
    pub codec: Codec,
}

/// Bytes that a [`LogReading`] wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The place of the file among the files of the log.
    pub file: usize,
    /// Never empty, and never beyond the size of the file.
    pub range: Range<u64>,
}

/// Reads as much of a log as tells what the history server lists.
pub struct LogReading {
    files: Vec<LogFile>,
    is_complete: bool,
    first_request: u64,
    stage: Stage,
    /// The first bytes of the file in which the beginning is looked for.
    head: Vec<u8>,
    /// The last bytes of the last file.
    tail: Vec<u8>,
    /// The bytes in which the beginning has been looked for, of all files.
    beginning: u64,
    decoder: Decoder,
    events: Events,
    facts: Facts,
}

enum Stage {
    /// Looks for the beginning, in this file.
    Head(usize),
    /// Looks for the end in the last file. The beginning has been found in this one.
    Tail(usize),
    Over,
}

impl LogReading {
    /// `files` are the files of the log, in the order in which Spark reads them; `is_complete` is what their names say.
    pub fn new(files: Vec<LogFile>, is_complete: bool) -> Self {
        let codec = files.first().map_or(Codec::Plain, |file| file.codec);
        let mut reading = Self {
            files,
            is_complete,
            first_request: HEAD,
            stage: Stage::Over,
            head: Vec::new(),
            tail: Vec::new(),
            beginning: 0,
            decoder: Decoder::new(codec, Limits::QUICK),
            events: Events::until_begun(),
            facts: Facts::default(),
        };
        reading.begin_head(0);
        reading
    }

    /// Asks for so many bytes first. What other logs of the same cluster took is what this one takes, too.
    pub fn with_head(mut self, bytes: u64) -> Self {
        self.first_request = bytes.clamp(HEAD, LARGEST_HEAD);
        self
    }

    /// The bytes that are wanted next, if any.
    pub fn wants(&self) -> Option<Wanted> {
        match self.stage {
            Stage::Head(file) => {
                let (have, size) = (self.head.len() as u64, self.files[file].size);
                let more = if have == 0 { self.first_request } else { have };
                let end = if size <= ONE_REQUEST { size } else { size.min(have + more) };
                Some(Wanted { file, range: have..end })
            }
            Stage::Tail(_) => {
                let LogFile { size, codec } = self.last()?;
                let (known, have) = (self.known_of_last(), self.tail.len() as u64);
                let length = if !self.can_be_taken_up(codec) || have > 0 { LONGEST_TAIL } else { TAIL };
                // A small file is read from its first byte on: nothing of it has been read.
                let start = if known == 0 && size <= ONE_REQUEST { 0 } else { known.max(size.saturating_sub(length)) };
                Some(Wanted { file: self.files.len() - 1, range: start..size - have })
            }
            Stage::Over => None,
        }
    }

    /// Takes the bytes that [`LogReading::wants`] names. Another number of bytes ends the reading.
    pub fn give(&mut self, bytes: &[u8]) {
        let Some(wanted) = self.wants() else { return };
        let length = usize::try_from(wanted.range.end - wanted.range.start).unwrap_or(usize::MAX);
        self.facts.is_cut_short |= bytes.len() != length;
        let bytes = &bytes[..bytes.len().min(length)];
        match self.stage {
            Stage::Head(file) => self.give_head(file, bytes),
            Stage::Tail(file) if !self.facts.is_cut_short => self.give_tail(file, bytes),
            _ => {}
        }
        if self.facts.is_cut_short {
            self.stage = Stage::Over;
        }
    }

    /// What has been learned so far.
    pub fn finish(mut self) -> Facts {
        if matches!(self.stage, Stage::Head(_)) {
            self.tell_head();
        }
        self.facts
    }

    fn last(&self) -> Option<LogFile> {
        self.files.last().copied()
    }

    /// Whether the end of the last file can be read without what comes before, as far as what is known of it tells.
    fn can_be_taken_up(&self, codec: Codec) -> bool {
        // Spark 2.4 writes one frame, Spark 3 ends one at each flush, and has ended some before the application starts.
        let is_one_frame = || self.known_of_last() > 0 && !tail::has_places(codec, &self.head);
        codec.can_be_taken_up() && !is_one_frame()
    }

    /// Whether it takes much less time to unpack the beginning and the end of a file that is here than all of it.
    fn is_worth_skipping(&self, file: usize) -> bool {
        let LogFile { size, codec } = self.files[file];
        let held = if self.tail.is_empty() { &self.head } else { &self.tail };
        size > READ_AT_ONCE && codec != Codec::Plain && codec.can_be_taken_up() && tail::has_places(codec, held)
    }

    /// How many bytes of the last file are known, from its first on.
    fn known_of_last(&self) -> u64 {
        match self.stage {
            Stage::Tail(file) if file + 1 == self.files.len() => self.head.len() as u64,
            _ => 0,
        }
    }

    /// Looks for the beginning in the next file that has bytes, if there is one.
    fn begin_head(&mut self, from: usize) -> bool {
        let Some(file) = (from..self.files.len()).find(|file| self.files[*file].size > 0) else { return false };
        self.head.clear();
        self.decoder = Decoder::new(self.files[file].codec, Limits::QUICK);
        self.stage = Stage::Head(file);
        true
    }

    fn give_head(&mut self, file: usize, bytes: &[u8]) {
        let is_first = self.head.is_empty();
        self.head.extend_from_slice(bytes);
        self.beginning += bytes.len() as u64;
        let is_covered = self.head.len() as u64 == self.files[file].size;
        if is_covered && self.is_complete && file + 1 == self.files.len() && !self.is_worth_skipping(file) {
            self.events.never_halt();
        }
        let events = &mut self.events;
        let flow = self.decoder.push(bytes, |piece| {
            events.push(piece);
            if events.is_halted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match flow {
            Err(damage) => {
                match damage.kind {
                    DamageKind::TooLarge => self.facts.whole = Some(0),
                    _ => self.facts.damage = Some(damage),
                }
                return self.end_head();
            }
            Ok(ControlFlow::Break(())) => {}
            Ok(ControlFlow::Continue(())) if is_covered => {
                self.events.finish_file();
                self.facts.tell_damage(self.decoder.finish(), self.is_complete);
            }
            Ok(ControlFlow::Continue(())) => {}
        }
        if self.events.has_beginning() && !is_first {
            self.facts.head = Some(self.head.len() as u64);
        }
        if self.events.is_halted() && self.is_complete {
            self.tell_head();
            return self.begin_tail(file);
        }
        if self.events.is_halted() || self.facts.is_cut_short {
            return self.end_head();
        }
        if is_first && self.events.is_foreign() {
            self.facts.is_foreign = true;
            return self.end_head();
        }
        let is_last = is_covered && !self.begin_head(file + 1);
        if !is_last && (self.beginning >= LONGEST_BEGINNING || file >= MOST_FILES) {
            self.facts.whole = Some(0);
        }
        if is_last || self.facts.whole.is_some() {
            self.end_head();
        }
    }

    fn end_head(&mut self) {
        self.tell_head();
        self.stage = Stage::Over;
    }

    fn tell_head(&mut self) {
        let events = std::mem::take(&mut self.events);
        self.facts.tell(events, self.is_complete);
    }

    fn begin_tail(&mut self, file: usize) {
        self.stage = Stage::Tail(file);
        let Some(LogFile { size, codec }) = self.last() else { return };
        let unknown = size - self.known_of_last();
        if size == 0 {
            // The history server reads all files then.
            self.leave_to_whole_reading(true);
        } else if unknown == 0 {
            self.read_last(file);
        } else if !self.can_be_taken_up(codec) && unknown > LONGEST_TAIL {
            self.leave_to_whole_reading(false);
        }
    }

    fn leave_to_whole_reading(&mut self, is_last_known: bool) {
        self.facts.whole = Some(if is_last_known { 0 } else { self.files.len() - 1 });
        self.stage = Stage::Over;
    }

    fn give_tail(&mut self, file: usize, bytes: &[u8]) {
        let Some(LogFile { size, codec }) = self.last() else { return };
        self.tail.splice(..0, bytes.iter().copied());
        let known = self.known_of_last();
        if known + self.tail.len() as u64 == size {
            self.read_last(file);
        } else if let Some(events) = tail::end_in(codec, &self.tail) {
            self.facts.tell_end(events);
            self.stage = Stage::Over;
        } else if self.tail.len() as u64 >= LONGEST_TAIL {
            self.leave_to_whole_reading(false);
        }
    }

    /// All of the last file is here.
    fn read_last(&mut self, file: usize) {
        let Some(LogFile { codec, .. }) = self.last() else { return };
        if self.is_worth_skipping(self.files.len() - 1) {
            let held = if self.tail.is_empty() { &self.head } else { &self.tail };
            if let Some(events) = tail::end_in(codec, held) {
                self.facts.tell_end(events);
                self.stage = Stage::Over;
                return;
            }
        }
        let known = self.known_of_last();
        let mut decoder = Decoder::new(codec, Limits::QUICK);
        let mut events = Events::default();
        let mut sink = |piece: &[u8]| {
            events.push(piece);
            ControlFlow::Continue(())
        };
        let head = if known > 0 { &self.head[..] } else { &[] };
        let flow = decoder.push(head, &mut sink).and_then(|_| decoder.push(&self.tail, &mut sink));
        let damage = flow.and_then(|_| decoder.finish());
        events.finish_file();
        if let Err(DamageKind::TooLarge) = damage.as_ref().map_err(|damage| &damage.kind) {
            return self.leave_to_whole_reading(false);
        }
        self.facts.tell_damage(damage, true);
        self.stage = Stage::Over;
        if file + 1 == self.files.len() && self.files[..file].iter().all(|file| file.size == 0) {
            // It is all of the log.
            self.facts.tell(events, true);
            return;
        }
        self.facts.tell_end(events);
        if self.facts.end.is_none() && self.facts.damage.is_none() {
            self.leave_to_whole_reading(true);
        }
    }
}
