//! Reads any password file and any `Authorization` header: the gateway refuses the file, or each of its lines is a user, and nobody
//! logs in by a name that is in no line.

#![no_main]

use base64::prelude::{BASE64_STANDARD, Engine};
use emr_shs::testing::login;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

/// Hashes that cost little: a number stands for one. All are of the password "p".
const HASHES: [&str; 2] = [
    "$2b$04$NSDPQYTdKDPBZWWGnkbUzO7AeXYRs49dkothyfbL.vrj.Hy/Syu3G",
    "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$USqLEgKlsm4am1QLS1IU1y/7n1YbZTsOcWPCUUlEYAo",
];

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (file, authorization) = (&data[..at], &data[(at + 1).min(data.len())..]);
    let file: Vec<u8> = file
        .iter()
        .flat_map(|byte| match byte {
            1 | 2 => HASHES[usize::from(*byte) - 1].as_bytes().to_vec(),
            other => vec![*other],
        })
        .collect();
    let text = String::from_utf8_lossy(&file);
    // What takes long to check is not checked here.
    let is_dear = |line: &str| {
        ["$05", "$06", "$07", "$08", "$09", "$1"].iter().any(|cost| line.contains(cost))
            || line.contains("$argon2") && !line.contains("m=8,t=1,p=1$")
    };
    if text.lines().any(is_dear) {
        return;
    }
    let authorization = String::from_utf8_lossy(authorization);
    let Ok(result) = login(&file, &authorization) else { return };
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let names: Vec<&str> =
        lines.map(|line| line.split_once(':').expect("a line without a hash is refused").0).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a name twice");
    let Some((is_right, is_remembered)) = result else { return };
    assert_eq!(is_right, is_remembered);
    let (_, encoded) = authorization.split_once(' ').unwrap();
    let sent = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).unwrap()).unwrap();
    let (name, password) = sent.split_once(':').unwrap();
    assert!(!is_right || names.contains(&name) && password == "p", "{sent:?}");
});
