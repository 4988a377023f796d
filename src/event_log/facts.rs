//! What a log tells about its application.

use crate::event_log::damage::Damage;
use crate::event_log::events::{Broken, Events, Start};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `None` if the log does not say it, as far as it was read.
    pub start: Option<Start>,
    /// `spark.yarn.queue` of the first environment.
    pub queue: Option<String>,
    /// The version of Spark that wrote the log.
    pub spark: Option<String>,
    /// When the application ended, in milliseconds since 1970. As for the history server, an application of which
    /// this is known is completed, and every other one is not.
    pub end: Option<i64>,
    /// Whether the beginning has no line that begins like an event.
    pub is_foreign: bool,
    pub broken: Option<Broken>,
    pub damage: Option<Damage>,
    /// Whether a file gave another number of bytes than it has: it changes, or is gone.
    pub is_cut_short: bool,
    /// How many applications begin in what was read. More than one: somebody has put logs one after the other.
    pub starts: u32,
    /// How many bytes to ask for first, because the beginning takes more than the first request has: other logs of the
    /// same cluster have as large an environment.
    pub head: Option<u64>,
    /// What is left to do: read the files from this one on, each as a whole.
    pub whole: Option<usize>,
}

impl Facts {
    /// What the events say; the rest stays.
    pub(super) fn tell(&mut self, events: Events, is_complete: bool) {
        self.start = events.start.clone();
        self.starts = events.starts;
        self.queue = events.queue.clone();
        self.spark = events.spark.clone();
        self.end = events.end;
        self.broken = events.broken(is_complete);
    }

    /// What the events of the last file say of the end.
    pub(super) fn tell_end(&mut self, events: Events) {
        self.end = events.end;
        self.broken = self.broken.take().or(events.broken(true));
    }

    /// What the codec says at the end of a file. A log that is not complete can end anywhere.
    pub(super) fn tell_damage(&mut self, damage: Result<(), Damage>, is_complete: bool) {
        if let (Err(damage), true) = (damage, is_complete) {
            self.damage.get_or_insert(damage);
        }
    }
}
