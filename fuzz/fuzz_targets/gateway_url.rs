//! Sends any bytes through the gateway as a path and a query: they lead to the key of a log and its presigned URL, or
//! to nothing.

#![no_main]

#[path = "../../tests/helpers/allowed_keys.rs"]
mod allow;

use allow::{Bucket, assert_harmless};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// Prefixes of log URIs.
const PREFIXES: [&str; 5] = ["", "elasticmapreduce/", "logs/emr/", "teams/data eng/x%20y/é/", "logs/"];

static BUCKETS: LazyLock<[Bucket; 2]> = LazyLock::new(Bucket::both);

fuzz_target!(|data: &[u8]| {
    // Each bit of the first byte chooses a log URI. A question mark ends the path.
    let Some((choice, url)) = data.split_first() else { return };
    let chosen: Vec<&str> =
        PREFIXES.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1).map(|(_, prefix)| *prefix).collect();
    let prefixes = if chosen.is_empty() { &PREFIXES[..1] } else { &chosen };
    let url = String::from_utf8_lossy(url);
    let (path, query) = url.split_once('?').map_or((&*url, None), |(path, query)| (path, Some(query)));
    assert_harmless(path, query, prefixes, &*BUCKETS);
});
