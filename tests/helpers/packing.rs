//! Packs event logs as Spark's codecs do, and from pieces that no Spark writes.

use emr_shs::testing::Codec;

/// The size of a block of Spark's codecs.
const BLOCK: usize = 32 * 1024;

/// Packs a log as Spark 3 does: it ends a frame of zstd after each of the pieces.
pub fn packed(codec: Codec, pieces: &[&[u8]]) -> Vec<u8> {
    let whole = || pieces.concat();
    match codec {
        Codec::Plain => whole(),
        Codec::Zstd => pieces.iter().flat_map(|piece| zstd::bulk::compress(piece, 1).unwrap()).collect(),
        Codec::Lz4 => lz4(&whole()),
        Codec::Snappy => snappy(&whole()),
        Codec::Lzf => lzf(&whole()),
    }
}

/// One block of lz4-java. What does not get smaller is stored as it is.
pub fn lz4_block(content: &[u8]) -> Vec<u8> {
    let small = lz4_flex::block::compress(content);
    let is_smaller = small.len() < content.len();
    let (method, packed) = if is_smaller { (0x20, &small[..]) } else { (0x10, content) };
    let checksum = twox_hash::XxHash32::oneshot(0x9747_b28c, content) & 0x0fff_ffff;
    lz4_header(method, packed.len() as u32, content.len() as u32, checksum, packed)
}

pub fn lz4_header(method: u8, packed: u32, length: u32, checksum: u32, content: &[u8]) -> Vec<u8> {
    // 15 allows blocks of 32 MiB.
    let numbers = [packed, length, checksum].map(u32::to_le_bytes).concat();
    [b"LZ4Block", &[method | 15][..], &numbers, content].concat()
}

fn lz4(content: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = content.chunks(BLOCK).flat_map(lz4_block).collect();
    bytes.extend(lz4_header(0x10, 0, 0, 0, &[]));
    bytes
}

pub const SNAPPY_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

fn snappy(content: &[u8]) -> Vec<u8> {
    let mut bytes = SNAPPY_HEADER.to_vec();
    for block in content.chunks(BLOCK) {
        let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
        bytes.extend((packed.len() as u32).to_be_bytes());
        bytes.extend(packed);
    }
    bytes
}

/// Blocks as they are: real ones that are packed lie among the fixtures.
fn lzf(content: &[u8]) -> Vec<u8> {
    let block = |block: &[u8]| [b"ZV\0", &(block.len() as u16).to_be_bytes()[..], block].concat();
    content.chunks(BLOCK).flat_map(block).collect()
}
