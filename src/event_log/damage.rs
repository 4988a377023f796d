//! What is wrong with bytes that should be an event log.

use crate::event_log::codec::Codec;
use std::fmt;

/// A log that unpacks to more than so many times its size, and to more than `BOMB_FROM`, is refused. An event log is
/// some 10 to 30 times as large.
pub(super) const BOMB_RATIO: u64 = 1000;
pub(super) const BOMB_FROM: u64 = 64 << 20;

/// The bytes are not what the codec writes, or too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub codec: Codec,
    pub kind: DamageKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// What the decoder says.
    Corrupt(String),
    /// The log ends within a frame or a block.
    Truncated,
    Bomb,
    /// A frame or a block asks for more memory than is allowed.
    TooLarge,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codec = self.codec;
        match &self.kind {
            DamageKind::Corrupt(what) => write!(f, "the bytes are not {codec} as Spark writes it: {what}"),
            DamageKind::Truncated => write!(f, "the log ends within a part that is compressed as a whole ({codec})"),
            DamageKind::Bomb => {
                write!(f, "the log unpacks to more than {BOMB_RATIO} times its size ({codec}), which no event log does")
            }
            DamageKind::TooLarge => {
                write!(f, "a part of the log needs more memory than {codec} of Spark ever asks for")
            }
        }
    }
}

impl std::error::Error for Damage {}
