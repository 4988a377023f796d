//! Unpacks a log piece by piece.

use crate::event_log::blocks::Blocks;
use crate::event_log::codec::Codec;
use crate::event_log::damage::{BOMB_FROM, BOMB_RATIO, Damage, DamageKind};
use std::ops::ControlFlow;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

/// The bytes that zstd gives at once.
const PIECE: usize = 64 * 1024;
const SHORTEST_FRAME_HEADER: usize = 5;
const BLOCK_HEADER: usize = 3;
/// `ZSTD_error_frameParameter_windowTooLarge`; zstd gives its errors as negative numbers.
const WINDOW_TOO_LARGE: usize = 16_usize.wrapping_neg();
/// What a decoder may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The largest window of a zstd frame, as a power of two. zstd allocates it before it gives the first byte.
    window: u32,
    /// The largest block of the other codecs.
    pub(super) block: usize,
    /// The bytes that it gives in all.
    unpacked: u64,
}

impl Limits {
    /// For many logs at once. Level 19 of zstd asks for 2^23.
    pub(super) const QUICK: Self = Self { window: 23, block: 1 << 20, unpacked: 256 << 20 };
    /// Level 22 of zstd asks for 2^27; lz4-java has no larger block than 2^25.
    pub(super) const WHOLE: Self = Self { window: 27, block: 1 << 25, unpacked: u64::MAX };
}

pub(super) struct Decoder {
    codec: Codec,
    limits: Limits,
    packed: u64,
    unpacked: u64,
    kind: Kind,
}

enum Kind {
    Plain,
    Zstd(Box<Zstd>),
    Blocks(Box<Blocks>),
}

struct Zstd {
    context: DCtx<'static>,
    piece: Vec<u8>,
    /// How many bytes it gets next.
    step: usize,
    /// Whether the bytes so far end with a frame.
    at_end: bool,
}

impl Decoder {
    pub(super) fn new(codec: Codec, limits: Limits) -> Self {
        let kind = match codec {
            Codec::Plain => Kind::Plain,
            Codec::Zstd => Kind::Zstd(Box::new(Zstd::new(limits))),
            Codec::Lz4 | Codec::Snappy | Codec::Lzf => Kind::Blocks(Box::new(Blocks::new(codec, limits.block))),
        };
        Self { codec, limits, packed: 0, unpacked: 0, kind }
    }

    /// Unpacks the next bytes of a log. `sink` gets what is in them, in pieces. After `Break` and after damage the
    /// decoder has lost its place.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Damage> {
        self.packed = self.packed.saturating_add(bytes.len() as u64);
        let largest = BOMB_FROM.max(self.packed.saturating_mul(BOMB_RATIO));
        let mut excess = None;
        let mut counting = |piece: &[u8]| {
            self.unpacked = self.unpacked.saturating_add(piece.len() as u64);
            if self.unpacked > largest {
                excess = Some(DamageKind::Bomb);
                return ControlFlow::Break(());
            }
            if self.unpacked > self.limits.unpacked {
                excess = Some(DamageKind::TooLarge);
                return ControlFlow::Break(());
            }
            sink(piece)
        };
        let flow = match &mut self.kind {
            Kind::Plain => Ok(sink(bytes)),
            Kind::Zstd(zstd) => zstd.push(bytes, &mut counting),
            Kind::Blocks(blocks) => blocks.push(bytes, &mut counting),
        };
        let damage = |kind| Damage { codec: self.codec, kind };
        match excess {
            Some(kind) => Err(damage(kind)),
            None => flow.map_err(damage),
        }
    }

    /// The log ends here.
    pub(super) fn finish(&self) -> Result<(), Damage> {
        let at_end = match &self.kind {
            Kind::Plain => true,
            Kind::Zstd(zstd) => zstd.at_end,
            Kind::Blocks(blocks) => blocks.at_end(),
        };
        if at_end { Ok(()) } else { Err(Damage { codec: self.codec, kind: DamageKind::Truncated }) }
    }
}

impl Zstd {
    fn new(limits: Limits) -> Self {
        let mut context = DCtx::create();
        // zstd refuses no number from 10 to 31.
        let _ = context.set_parameter(DParameter::WindowLogMax(limits.window));
        Self { context, piece: vec![0; PIECE], step: SHORTEST_FRAME_HEADER, at_end: true }
    }

    fn push(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DamageKind> {
        // A full piece means that zstd can have more to give.
        let mut is_full = false;
        while !bytes.is_empty() || is_full {
            let step = if is_full { 0 } else { bytes.len().min(self.step) };
            let mut input = InBuffer::around(&bytes[..step]);
            let mut output = OutBuffer::around(&mut self.piece[..]);
            let wanted = self.context.decompress_stream(&mut output, &mut input).map_err(damage)?;
            bytes = &bytes[input.pos()..];
            let written = output.pos();
            // 0 says that a frame is over, and that all of it has been given.
            self.at_end = wanted == 0;
            is_full = written == PIECE && !self.at_end;
            // zstd wants a block and the header after it. Were it given both at once, it would lose what is in the block
            // where the header is damaged.
            self.step = match wanted {
                0 => SHORTEST_FRAME_HEADER,
                1..=BLOCK_HEADER => wanted,
                more => more - BLOCK_HEADER,
            };
            if written > 0 && sink(&self.piece[..written]).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn damage(code: usize) -> DamageKind {
    if code == WINDOW_TOO_LARGE { DamageKind::TooLarge } else { DamageKind::Corrupt(get_error_name(code).into()) }
}
