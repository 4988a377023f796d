//! Lets the gateway find any bytes in its state directory: it uses them, or makes the files anew.

#![no_main]

use emr_shs::testing::{stored_certificate, stored_clusters};
use libfuzzer_sys::fuzz_target;
use regex::Regex;
use std::sync::LazyLock;

static CLUSTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\Aj-[A-Z0-9]{5,32}\z").unwrap());

fuzz_target!(|data: &[u8]| {
    let Some((timestamp, file)) = data.split_first_chunk::<8>() else { return };
    for name in stored_clusters(file, u64::from_le_bytes(*timestamp)).unwrap_or_default() {
        assert!(CLUSTER.is_match(&name), "{name:?}");
    }
    assert!(!stored_certificate(file, &["localhost".to_string()]), "only the gateway makes one");
});
