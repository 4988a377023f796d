//! Unpacks any bytes as an event log of lzf.

#![no_main]

mod event_log;

use emr_shs::testing::Codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| event_log::check(Codec::Lzf, data));
