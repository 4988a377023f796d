//! The end of a log, read without what comes before.

use crate::event_log::blocks::{LZ4_MAGIC, LZF_MAGIC};
use crate::event_log::codec::Codec;
use crate::event_log::decoder::{Decoder, Limits};
use crate::event_log::events::Events;
use memchr::memmem;
use std::ops::ControlFlow;

/// The first bytes of a zstd frame.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// From so many places at most a log is taken up. The first that is tried is a true one in nearly every log.
const MOST_ATTEMPTS: usize = 256;
/// So much is unpacked for it at most.
const MOST_UNPACKED: usize = 256 << 20;

/// Whether there are places, after the first byte, at which a log can be taken up.
pub(super) fn has_places(codec: Codec, bytes: &[u8]) -> bool {
    magic(codec).is_none_or(|magic| memmem::rfind(bytes, magic).is_some_and(|place| place > 0))
}

/// The first bytes of what can be unpacked by itself.
fn magic(codec: Codec) -> Option<&'static [u8]> {
    match codec {
        Codec::Plain | Codec::Snappy => None,
        Codec::Zstd => Some(ZSTD_MAGIC),
        Codec::Lz4 => Some(LZ4_MAGIC),
        Codec::Lzf => Some(LZF_MAGIC),
    }
}

/// Reads the last bytes of a log for the end of the application. `None` if it is not in them, or nothing in them can be
/// read without what comes before.
pub(super) fn end_in(codec: Codec, bytes: &[u8]) -> Option<Events> {
    let Some(magic) = magic(codec) else {
        let mut events = Events::within_a_line();
        events.push(bytes);
        events.finish_file();
        return Some(events).filter(|events| events.end.is_some());
    };
    // The same bytes can also lie within a frame or a block. Then what follows does not unpack, or to its end does not.
    let mut left = MOST_UNPACKED;
    let mut attempts = MOST_ATTEMPTS;
    let mut attempt = |from: usize| {
        attempts = attempts.checked_sub(1)?;
        let mut decoder = Decoder::new(codec, Limits::QUICK);
        // A line can begin before the frame.
        let mut events = Events::within_a_line();
        let flow = decoder.push(&bytes[from..], |piece| {
            events.push(piece);
            left = left.saturating_sub(piece.len());
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if !flow.is_ok_and(|flow| flow.is_continue()) {
            return None;
        }
        decoder.finish().ok()?;
        events.finish_file();
        Some(events)
    };
    // From the last place towards the first, and each time twice as far: the end of the application is in the last bytes
    // of nearly every log.
    let mut wanted = 0;
    let mut earliest = None;
    for from in memmem::rfind_iter(bytes, magic) {
        earliest = Some(from);
        if bytes.len() - from < wanted {
            continue;
        }
        if let Some(events) = attempt(from) {
            if events.end.is_some() {
                return Some(events);
            }
            wanted = 2 * (bytes.len() - from);
        }
    }
    attempt(earliest?).filter(|events| events.end.is_some())
}
