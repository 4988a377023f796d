//! The codecs that write a block after the other: what lz4-java, snappy-java and Ning's LZF put around each block.
//!
//! The blocks of lz4 and of LZF begin with letters, so the end of a log can be read without its beginning.

use crate::event_log::codec::Codec;
use crate::event_log::damage::DamageKind;
use std::ops::ControlFlow;

/// What lies at the beginning of some bytes.
enum Next {
    /// More bytes are needed to tell.
    Incomplete,
    /// A header without content, or a block: the bytes that it takes.
    Block(usize),
}

pub(super) struct Blocks {
    codec: Codec,
    /// The largest block, packed or not.
    largest: usize,
    /// Bytes that are not unpacked yet: less than one block, once `push` has ended.
    pending: Vec<u8>,
    unpacked: Vec<u8>,
    /// Snappy streams begin with a header, and say nothing but lengths after it.
    is_begun: bool,
}

impl Blocks {
    pub(super) fn new(codec: Codec, largest: usize) -> Self {
        Self { codec, largest, pending: Vec::new(), unpacked: Vec::new(), is_begun: false }
    }

    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DamageKind> {
        self.pending.extend_from_slice(bytes);
        let mut used = 0;
        let mut flow = ControlFlow::Continue(());
        while used < self.pending.len() && flow.is_continue() {
            self.unpacked.clear();
            let rest = &self.pending[used..];
            let next = match self.codec {
                Codec::Snappy => snappy(rest, self.is_begun, self.largest, &mut self.unpacked)?,
                Codec::Lzf => lzf(rest, &mut self.unpacked)?,
                _ => lz4(rest, self.largest, &mut self.unpacked)?,
            };
            match next {
                Next::Incomplete => break,
                Next::Block(length) => used += length,
            }
            self.is_begun = true;
            if !self.unpacked.is_empty() {
                flow = sink(&self.unpacked);
            }
        }
        self.pending.drain(..used);
        Ok(flow)
    }

    pub(super) fn at_end(&self) -> bool {
        self.pending.is_empty()
    }
}

fn corrupt(what: impl Into<String>) -> DamageKind {
    DamageKind::Corrupt(what.into())
}

/// A length that a header states.
fn size(stated: u32, largest: usize) -> Result<usize, DamageKind> {
    usize::try_from(stated).ok().filter(|size| *size <= largest).ok_or(DamageKind::TooLarge)
}

// --- lz4-java's LZ4BlockOutputStream ------------------------------------------------------------------------------
//
// "LZ4Block"; a byte whose upper half is the method and whose lower half the size of the blocks; the lengths packed and
// unpacked and the checksum, each of four bytes with the lowest first; the content. A block without content ends a stream.

pub(super) const LZ4_MAGIC: &[u8] = b"LZ4Block";
const LZ4_HEADER: usize = 21;
const LZ4_STORED: u8 = 0x10;
const LZ4_PACKED: u8 = 0x20;
const LZ4_SEED: u32 = 0x9747_b28c;
/// lz4-java keeps 28 bits of the checksum.
const LZ4_CHECKSUM: u32 = 0x0fff_ffff;

fn lz4(bytes: &[u8], largest: usize, unpacked: &mut Vec<u8>) -> Result<Next, DamageKind> {
    let magic = &bytes[..bytes.len().min(LZ4_MAGIC.len())];
    if magic != &LZ4_MAGIC[..magic.len()] {
        return Err(corrupt("a block does not begin with \"LZ4Block\""));
    }
    let Some(header) = bytes.get(..LZ4_HEADER) else { return Ok(Next::Incomplete) };
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (method, checksum) = (header[8] & 0xf0, number(17));
    let (packed, length) = (size(number(9), largest)?, size(number(13), largest)?);
    // The lower half of the byte is log2 of the block size, less 10.
    if length > 1 << (10 + u32::from(header[8] & 0x0f)) {
        return Err(corrupt(format!("a block of {length} bytes is larger than its stream allows")));
    }
    let Some(content) = bytes.get(LZ4_HEADER..LZ4_HEADER + packed) else { return Ok(Next::Incomplete) };
    match method {
        LZ4_STORED if packed == length => unpacked.extend_from_slice(content),
        // A byte of lz4 gives 255 bytes at most.
        LZ4_PACKED if length <= packed.saturating_mul(255) => {
            unpacked.resize(length, 0);
            let given =
                lz4_flex::block::decompress_into(content, unpacked).map_err(|error| corrupt(error.to_string()))?;
            if given != length {
                return Err(corrupt(format!("a block has {given} bytes in place of {length}")));
            }
        }
        _ => return Err(corrupt("a block's header contradicts itself")),
    }
    let wanted = twox_hash::XxHash32::oneshot(LZ4_SEED, unpacked) & LZ4_CHECKSUM;
    // A block that ends a stream has no checksum.
    if length > 0 && wanted != checksum {
        return Err(corrupt("a block's checksum does not fit"));
    }
    Ok(Next::Block(LZ4_HEADER + packed))
}

// --- snappy-java's SnappyOutputStream -----------------------------------------------------------------------------
//
// A header of 16 bytes: a magic number of eight and two versions of four. Then for each block its length in four bytes,
// the highest first, and its content. The header comes again where streams were put one after the other.

const SNAPPY_MAGIC: &[u8] = b"\x82SNAPPY\0";
const SNAPPY_HEADER: usize = 16;

fn snappy(bytes: &[u8], is_begun: bool, largest: usize, unpacked: &mut Vec<u8>) -> Result<Next, DamageKind> {
    let magic = &bytes[..bytes.len().min(SNAPPY_MAGIC.len())];
    if magic == &SNAPPY_MAGIC[..magic.len()] {
        return Ok(if bytes.len() < SNAPPY_HEADER { Next::Incomplete } else { Next::Block(SNAPPY_HEADER) });
    }
    if !is_begun {
        return Err(corrupt("the header of snappy-java is not at the beginning"));
    }
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(Next::Incomplete) };
    let packed = size(u32::from_be_bytes(*length), largest)?;
    let Some(content) = bytes.get(4..4 + packed) else { return Ok(Next::Incomplete) };
    let length = snap::raw::decompress_len(content).map_err(|error| corrupt(error.to_string()))?;
    if length > largest {
        return Err(DamageKind::TooLarge);
    }
    // Three bytes of snappy give 64 bytes at most.
    if length > packed.saturating_mul(22) + 64 {
        return Err(corrupt(format!("a block of {packed} bytes says that {length} are in it")));
    }
    unpacked.resize(length, 0);
    snap::raw::Decoder::new().decompress(content, unpacked).map_err(|error| corrupt(error.to_string()))?;
    Ok(Next::Block(4 + packed))
}

// --- Ning's LZFOutputStream ---------------------------------------------------------------------------------------
//
// "ZV"; a byte that is 0 for a block as it is and 1 for a packed one; the length in two bytes, the highest first; if
// packed, the length unpacked in two more; the content.

pub(super) const LZF_MAGIC: &[u8] = b"ZV";

fn lzf(bytes: &[u8], unpacked: &mut Vec<u8>) -> Result<Next, DamageKind> {
    let magic = &bytes[..bytes.len().min(LZF_MAGIC.len())];
    if magic != &LZF_MAGIC[..magic.len()] {
        return Err(corrupt("a block does not begin with \"ZV\""));
    }
    let number = |at: usize| Some(usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)));
    let header = match bytes.get(2) {
        Some(0) => 5,
        Some(1) => 7,
        Some(kind) => return Err(corrupt(format!("a block is of the unknown kind {kind}"))),
        None => return Ok(Next::Incomplete),
    };
    let Some(packed) = number(3) else { return Ok(Next::Incomplete) };
    let Some(content) = bytes.get(header..header + packed) else { return Ok(Next::Incomplete) };
    if header == 5 {
        unpacked.extend_from_slice(content);
    } else {
        let length = number(5).unwrap_or_default();
        unpack_lzf(content, length, unpacked).ok_or_else(|| corrupt("a block's content does not fit its length"))?;
    }
    Ok(Next::Block(header + packed))
}

/// Unpacks the content of one block. A control byte below 32 is followed by as many bytes and one more; another one
/// repeats what came before: its upper three bits are the length less 2 (7: a byte is added to it), and its lower five
/// with the next byte the distance less 1.
fn unpack_lzf(mut content: &[u8], length: usize, unpacked: &mut Vec<u8>) -> Option<()> {
    while unpacked.len() < length {
        let (control, rest) = content.split_first()?;
        let control = usize::from(*control);
        if control < 32 {
            unpacked.extend_from_slice(rest.get(..=control)?);
            content = &rest[control + 1..];
            continue;
        }
        let (more, rest) = if control >> 5 == 7 { rest.split_first()? } else { (&0, rest) };
        let (low, rest) = rest.split_first()?;
        content = rest;
        let from = unpacked.len().checked_sub(((control & 31) << 8 | usize::from(*low)) + 1)?;
        // What is repeated can contain what it adds: then it repeats it again.
        let mut left = (control >> 5) + usize::from(*more) + 2;
        while left > 0 {
            let run = left.min(unpacked.len() - from);
            unpacked.extend_from_within(from..from + run);
            left -= run;
        }
    }
    (unpacked.len() == length && content.is_empty()).then_some(())
}
