//! Reads a log from its first byte to its last, for what cannot be read otherwise.

use crate::event_log::codec::Codec;
use crate::event_log::decoder::{Decoder, Limits};
use crate::event_log::events::Events;
use crate::event_log::facts::Facts;
use crate::event_log::reading::LogFile;
use std::ops::ControlFlow;

pub struct WholeReading {
    files: Vec<LogFile>,
    is_complete: bool,
    /// The file from which it reads on. Of the beginning nothing is read if it is not the first.
    from: usize,
    /// The file that it reads, if any.
    file: Option<usize>,
    decoder: Decoder,
    events: Events,
    facts: Facts,
}

impl WholeReading {
    /// `facts` are what a [`super::LogReading`] of the same files gave: their `whole` says where this one begins.
    pub fn new(files: Vec<LogFile>, is_complete: bool, facts: Facts) -> Self {
        let from = facts.whole.unwrap_or_default();
        let events = if is_complete { Events::default() } else { Events::until_begun() };
        let mut reading = Self {
            files,
            is_complete,
            from,
            file: None,
            decoder: Decoder::new(Codec::Plain, Limits::WHOLE),
            events,
            facts: Facts { whole: None, damage: None, ..facts },
        };
        reading.begin(from);
        reading
    }

    /// The place of the file that is to be read next, from its first byte to its last.
    pub fn file(&self) -> Option<usize> {
        self.file
    }

    /// Takes the next bytes of the file. `Break` says that the rest of it tells nothing.
    pub fn push(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        if self.file.is_none() {
            return ControlFlow::Break(());
        }
        let events = &mut self.events;
        let flow = self.decoder.push(bytes, |piece| {
            events.push(piece);
            if events.is_halted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match flow {
            Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
            Ok(ControlFlow::Break(())) => {
                self.file = None;
                ControlFlow::Break(())
            }
            Err(damage) => {
                // The line that the damage cuts off says nothing.
                self.facts.damage = Some(damage);
                self.file = None;
                ControlFlow::Break(())
            }
        }
    }

    /// The file ends. `is_all` says that it gave as many bytes as it has.
    pub fn end_file(&mut self, is_all: bool) {
        let Some(file) = self.file else { return };
        self.events.finish_file();
        if is_all {
            self.facts.tell_damage(self.decoder.finish(), self.is_complete);
            self.begin(file + 1);
        } else {
            self.facts.is_cut_short = true;
            self.file = None;
        }
    }

    pub fn finish(mut self) -> Facts {
        if self.from == 0 {
            self.facts.is_foreign = self.events.is_foreign();
            self.facts.tell(self.events, self.is_complete);
        } else {
            self.facts.tell_end(self.events);
            // Then the history server reads all files.
            let is_left = self.facts.end.is_none() && self.facts.damage.is_none() && !self.facts.is_cut_short;
            self.facts.whole = is_left.then_some(0);
        }
        self.facts
    }

    fn begin(&mut self, from: usize) {
        self.file = (from..self.files.len()).find(|file| self.files[*file].size > 0);
        if let Some(file) = self.file {
            self.decoder = Decoder::new(self.files[file].codec, Limits::WHOLE);
        }
    }
}
