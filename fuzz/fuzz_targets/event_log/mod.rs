//! Reads any bytes as an event log: by ranges, and as a whole in whatever pieces.

#![allow(dead_code, reason = "each target uses its part")]

#[path = "../../../tests/helpers/packing.rs"]
pub mod packing;

use emr_shs::testing::{Codec, Facts, LogFile, LogReading, WholeReading};

pub struct Log {
    pub files: Vec<Vec<u8>>,
    pub codec: Codec,
    pub is_complete: bool,
}

impl Log {
    fn sizes(&self) -> Vec<LogFile> {
        self.files.iter().map(|bytes| LogFile { size: bytes.len() as u64, codec: self.codec }).collect()
    }

    pub fn whole(&self, facts: Facts, length: usize) -> Facts {
        let mut reading = WholeReading::new(self.sizes(), self.is_complete, facts);
        let mut files = 0;
        while let Some(file) = reading.file() {
            files += 1;
            assert!(files <= self.files.len());
            for piece in self.files[file].chunks(length) {
                if reading.push(piece).is_break() {
                    break;
                }
            }
            reading.end_file(true);
        }
        reading.finish()
    }

    /// By ranges, and then as a whole what is left.
    pub fn facts(&self) -> Facts {
        let mut reading = LogReading::new(self.sizes(), self.is_complete);
        let mut requests = 0;
        while let Some(wanted) = reading.wants() {
            requests += 1;
            assert!(requests < 20);
            let range = wanted.range.start as usize..wanted.range.end as usize;
            assert!(!range.is_empty());
            reading.give(&self.files[wanted.file][range]);
        }
        let mut facts = reading.finish();
        assert!(!facts.is_cut_short);
        for _ in 0..2 {
            if facts.whole.is_some() {
                facts = self.whole(facts, 4096);
            }
        }
        assert_eq!(facts.whole, None);
        facts
    }
}

/// Reads the bytes as a log of the codec. The first byte says how.
pub fn check(codec: Codec, data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let bytes = if choice & 1 == 0 { data.to_vec() } else { blocks(codec, data) };
    let log = Log { files: vec![bytes], codec, is_complete: choice & 2 == 0 };
    let at_once = log.whole(Facts::default(), usize::MAX);
    let (in_pieces, by_ranges) = (log.whole(Facts::default(), usize::from(choice >> 2) + 1), log.facts());
    // How much zstd gives before the damage depends on the pieces.
    assert_eq!(in_pieces.damage, at_once.damage);
    if at_once.damage.is_none() {
        assert_eq!((in_pieces, by_ranges), (at_once.clone(), at_once));
    }
}

/// Puts what the codec puts around its blocks around pieces of the data, so that not all of it ends at the first header.
fn blocks(codec: Codec, mut data: &[u8]) -> Vec<u8> {
    let mut bytes = if codec == Codec::Snappy { packing::SNAPPY_HEADER.to_vec() } else { Vec::new() };
    while let Some((length, rest)) = data.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*length) * 4));
        data = rest;
        match codec {
            Codec::Lz4 => {
                let mut unpacked = vec![0; 4096];
                let length = lz4_flex::block::decompress_into(piece, &mut unpacked).unwrap_or(0);
                let checksum = twox_hash::XxHash32::oneshot(0x9747_b28c, &unpacked[..length]) & 0x0fff_ffff;
                bytes.extend(packing::lz4_header(0x20, piece.len() as u32, length as u32, checksum, piece));
            }
            Codec::Snappy => {
                bytes.extend((piece.len() as u32).to_be_bytes());
                bytes.extend(piece);
            }
            Codec::Lzf => {
                bytes.extend(b"ZV\x01");
                bytes.extend((piece.len().saturating_sub(2) as u16).to_be_bytes());
                bytes.extend(piece);
            }
            Codec::Zstd | Codec::Plain => bytes.extend(packing::packed(codec, &[piece])),
        }
    }
    bytes
}
