//! Reads logs of any lines by ranges: what is known of them is what a reading of all their bytes tells.

#![no_main]

mod event_log;

use emr_shs::testing::{Codec, Facts};
use event_log::{Log, packing};
use libfuzzer_sys::fuzz_target;

const LINES: [&str; 10] = [
    r#"{"Event":"SparkListenerLogStart","Spark Version":"4.1.1"}"#,
    r#"{"Event":"SparkListenerEnvironmentUpdate","Spark Properties":{"spark.yarn.queue":"etl"}}"#,
    r#"{"Event":"SparkListenerApplicationStart","App Name":"a","App ID":"i","Timestamp":1,"User":"u"}"#,
    r#"{"Event":"SparkListenerApplicationEnd","Timestamp":2}"#,
    r#"{"Event":"SparkListenerApplicationEnd","Timestamp":3}"#,
    r#"{"Event":"SparkListenerApplicationEnd","Timesta"#,
    r#"{"Event":"SparkListenerJobEnd","x":{"Event":"SparkListenerApplicationEnd","Timestamp":4}}"#,
    r#"x{"Event":"SparkListenerApplicationEnd","Timestamp":5}"#,
    "\u{fffd}(\u{b5}/\u{fd}LZ4BlockZV\0",
    "",
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let codec = Codec::ALL[usize::from(choice >> 2) % 5];
    let mut files = vec![Vec::new()];
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut size = 0;
    let pack = |pieces: &[Vec<u8>]| packing::packed(codec, &pieces.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for pair in data.chunks_exact(2) {
        match usize::from(pair[0]) {
            kind @ ..10 => pieces.push([LINES[kind].as_bytes(), b"\n"].concat()),
            // A long line that does not get much smaller.
            10..200 => {
                let length = usize::from(pair[0]) * usize::from(pair[1]);
                let mut state = u64::from(pair[1]) << 8 | u64::from(pair[0]);
                let mut line: Vec<u8> = b"{\"Event\":\"".to_vec();
                line.extend((0..length).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    b'0' + (state >> 58) as u8
                }));
                line.push(b'\n');
                size += line.len();
                pieces.push(line);
            }
            200..220 if files.len() < 5 => {
                *files.last_mut().unwrap() = pack(&pieces);
                pieces.clear();
                files.push(Vec::new());
            }
            _ => pieces.push(vec![pair[1]]),
        }
        if size > 3 << 20 {
            break;
        }
    }
    *files.last_mut().unwrap() = pack(&pieces);
    let log = Log { files, codec, is_complete: choice & 1 == 0 };
    let (told, known) = (log.facts(), log.whole(Facts::default(), usize::MAX));
    if !told.is_foreign {
        assert_eq!((&told.start, told.end), (&known.start, known.end));
        assert_eq!(told.queue, known.queue);
        // Spark writes it first. Where it comes later, it is not looked for.
        assert!(told.spark.is_none() || told.spark == known.spark);
    }
});
