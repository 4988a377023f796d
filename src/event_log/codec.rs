//! The codecs of `spark.io.compression.codec` and `spark.eventLog.compression.codec`.

use std::fmt;

/// How an event log is compressed. Spark ends the name of the file with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    Plain,
    Zstd,
    Lz4,
    Snappy,
    Lzf,
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::Plain, Self::Zstd, Self::Lz4, Self::Snappy, Self::Lzf];

    /// Reads the name of a file, as `EventLogFileWriter.codecName` does. Spark takes what follows the last dot for the
    /// codec, and does not read a log whose codec it does not know: then this is `Err` with that word.
    pub fn of_name(name: &str) -> Result<Self, &str> {
        let name = name.strip_suffix(".compact").unwrap_or(name);
        let name = name.strip_suffix(".inprogress").unwrap_or(name);
        // Java drops what is empty at the end when it splits a text.
        let Some((_, word)) = name.trim_end_matches('.').rsplit_once('.') else { return Ok(Self::Plain) };
        let codec = Self::ALL.into_iter().skip(1).find(|codec| codec.word().eq_ignore_ascii_case(word));
        codec.ok_or(word)
    }

    /// Whether a log can be read from within, without what comes before.
    pub(super) fn can_be_taken_up(self) -> bool {
        // A snappy block begins with its length alone: nothing tells a block from what is in one.
        self != Self::Snappy
    }

    fn word(self) -> &'static str {
        match self {
            Self::Plain => "none",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Lzf => "lzf",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
