//! Whatever lies where an event log should: a fact says so, and memory and time stay bounded.

use super::*;
use crate::helpers::packing::{SNAPPY_HEADER, lz4_header, packed};
use emr_shs::testing::DamageKind;
use proptest::prelude::*;
use std::process::Command;
use std::time::Instant;

/// A log that is read as a whole, because nothing is known of it.
fn whole(codec: Codec, bytes: &[u8]) -> Facts {
    Log::single(codec, bytes.to_vec()).read_whole(Facts::default(), &[64 * 1024])
}

#[test]
fn the_codec_is_what_the_name_says() {
    for (name, codec) in [
        ("application_1_0001_1", Ok(Codec::Plain)),
        ("application_1_0001.inprogress", Ok(Codec::Plain)),
        ("application_1_0001.zstd", Ok(Codec::Zstd)),
        ("application_1_0001.lz4.inprogress", Ok(Codec::Lz4)),
        ("events_2_local-1.snappy.compact", Ok(Codec::Snappy)),
        ("events_2_local-1.compact", Ok(Codec::Plain)),
        ("app-2026.LZF", Ok(Codec::Lzf)),
        ("trailing.", Ok(Codec::Plain)),
        ("", Ok(Codec::Plain)),
        ("part-0000.parquet", Err("parquet")),
        ("application_1_0001.zstd.gz", Err("gz")),
        ("application_1_0001.none", Err("none")),
    ] {
        assert_eq!(Codec::of_name(name), codec, "{name}");
    }
}

#[test]
fn what_is_no_event_log_is_told_after_one_request() {
    let parquet = [b"PAR1", noise(1, 3 << 20).as_bytes()].concat();
    let text = "{\"time\":1,\"level\":\"info\"}\n".repeat(100_000).into_bytes();
    let gz = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", noise(2, 3 << 20).as_bytes()].concat();
    for bytes in [parquet, text, gz, vec![0; 3 << 20], b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec(), b"\n".to_vec()] {
        let (facts, ranges) = Log::single(Codec::Plain, bytes.clone()).read();
        assert!(facts.is_foreign && facts.start.is_none() && facts.whole.is_none());
        assert_eq!(ranges.len(), 1);
        assert!(whole(Codec::Plain, &bytes).is_foreign);
        for codec in Codec::ALL.into_iter().skip(1) {
            let (facts, ranges) = Log::single(codec, bytes.clone()).read();
            // The first block of snappy and a frame of zstd have not begun after one byte.
            let kind = facts.damage.as_ref().unwrap_or_else(|| panic!("{codec}: {facts:?}")).kind.clone();
            assert!(matches!(kind, DamageKind::Corrupt(_) | DamageKind::Truncated), "{codec}: {kind:?}");
            assert_eq!((ranges.len(), facts.start.is_none()), (1, true));
        }
        // And packed, as a foreign file with the name of a log.
        for codec in Codec::ALL {
            assert!(Log::single(codec, packed(codec, &[&bytes])).read().0.is_foreign, "{codec}");
        }
    }
}

#[test]
fn a_log_without_bytes_tells_nothing() {
    for codec in Codec::ALL {
        for files in [vec![], vec![(codec, vec![])], vec![(codec, vec![]); 3]] {
            let log = Log { files, is_complete: COMPLETE };
            let (facts, ranges) = log.read();
            assert_eq!((&facts, ranges.len()), (&Facts::default(), 0));
            assert_eq!(log.read_whole(Facts::default(), &[1]).start, None);
        }
    }
}

#[test]
fn a_broken_line_is_named() {
    let broken = |lines: &[&str]| {
        let log = log_of(Codec::Plain, &lines.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>());
        (log.facts(), log.in_progress().facts())
    };
    let environment = environment(10);
    let cut = &END[..END.len() - 3];
    let (complete, in_progress) = broken(&[LOG_START, &environment, START, cut]);
    let said = complete.broken.as_ref().unwrap();
    assert!(said.to_string().contains("SparkListenerApplicationEnd") && !said.is_json, "{said}");
    assert!(!said.to_string().contains("line 1"), "{said}");
    assert_eq!((complete.end, in_progress.broken), (None, None));
    // Not the last one: the history server forgives it nowhere.
    let (_, in_progress) = broken(&[LOG_START, &environment[..100], &environment, START]);
    assert!(!in_progress.broken.unwrap().is_json);
    // The last line of a log that is not complete.
    let (complete, in_progress) = broken(&[LOG_START, &environment, &START[..60]]);
    assert_eq!((complete.broken.is_some(), in_progress.broken), (true, None));
    // JSON without what must be there.
    let (complete, _) = broken(&[LOG_START, r#"{"Event":"SparkListenerApplicationStart","App Name":"x"}"#]);
    assert!(complete.broken.unwrap().is_json);
    // What Java reads as text, and Rust does not.
    let (complete, _) = broken(&[LOG_START, &environment, &START.replace("étude", "\\ud800"), END]);
    assert_eq!((complete.start.unwrap().name.contains('\u{fffd}'), complete.broken), (true, None));
    // No id, as Spark wrote it before 1.2: the history server does not list it.
    let (complete, _) = broken(&[&START.replace("\"App ID\":\"application_1_0001\",", ""), &environment, END]);
    assert_eq!(complete.start.unwrap().id, None);
}

#[test]
fn damage_within_a_log_is_told_and_what_came_before_stays() {
    for codec in Codec::ALL.into_iter().skip(1) {
        let mut log = log_of(codec, &lines(10 * 1024, 1000 * 1024));
        let middle = log.files[0].1.len() / 2;
        log.files[0].1[middle..middle + 10_000].fill(0xff);
        let facts = log.read_whole(Facts::default(), &[5000]);
        // LZF and snappy have no checksum.
        if matches!(codec, Codec::Zstd | Codec::Lz4) {
            assert!(matches!(facts.damage.as_ref().unwrap().kind, DamageKind::Corrupt(_)), "{codec}");
            assert_eq!((facts.start.unwrap().time, facts.end), (1000, None), "{codec}");
        }
        // By ranges its middle is not read.
        if codec != Codec::Snappy {
            assert_told(&log.read().0, Some(2000));
        }
    }
}

#[test]
fn sizes_that_headers_state_are_not_believed() {
    let huge = u32::MAX;
    let snappy = |length: u32, content: &[u8]| [SNAPPY_HEADER, &length.to_be_bytes(), content].concat();
    let cases = [
        (Codec::Lz4, lz4_header(0x20, huge, huge, 0, &[])),
        (Codec::Lz4, lz4_header(0x20, 10, 30 << 20, 0, &[0; 10])),
        (Codec::Lz4, lz4_header(0x10, 10, 11, 0, &[0; 10])),
        (Codec::Lz4, lz4_header(0x30, 1, 1, 0, &[0; 1])),
        (Codec::Lz4, lz4_header(0x10, 3, 3, 0, b"abc")),
        (Codec::Snappy, snappy(huge, &[0; 10])),
        (Codec::Snappy, snappy(5, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        (Codec::Snappy, snappy(6, &[0xff, 0xff, 0xff, 0x0e, 0, 0])),
        (Codec::Lzf, b"ZV\x02\0\x01a".to_vec()),
        (Codec::Lzf, b"ZV\x01\0\x03\xff\xff\xe0\xff\xff".to_vec()),
        // A window of 2^31.
        (Codec::Zstd, vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]),
    ];
    for (codec, bytes) in cases {
        let facts = whole(codec, &bytes);
        assert!(facts.damage.is_some(), "{codec}: {bytes:x?}");
        let (facts, _) = Log::single(codec, bytes).read();
        assert!(facts.damage.is_some() || facts.whole == Some(0), "{codec}: {facts:?}");
    }
}

#[test]
fn frames_as_large_as_spark_can_write_them_are_read_with_the_whole_log() {
    let text = lines(10 * 1024, 1000 * 1024).concat();
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    let log = Log::single(Codec::Zstd, encoder.finish().unwrap());
    assert_eq!(log.read().0.whole, Some(0));
    assert_told(&log.facts(), Some(2000));
}

#[test]
fn a_log_that_unpacks_to_far_too_much_is_refused() {
    let beginning = lines(10 * 1024, 0)[..3].concat();
    let mut bomb = packed(Codec::Zstd, &[beginning.as_bytes()]);
    let frame = zstd::bulk::compress(&vec![b' '; 64 << 20], 1).unwrap();
    (0..40).for_each(|_| bomb.extend(&frame));
    assert!(bomb.len() < 256 << 10);
    let begun = Instant::now();
    for facts in [Log::single(Codec::Zstd, bomb.clone()).facts(), whole(Codec::Zstd, &bomb)] {
        assert_eq!((facts.damage.unwrap().kind, facts.start.unwrap().time), (DamageKind::Bomb, 1000));
    }
    // Minutes, if each byte were looked at again and again.
    assert!(begun.elapsed().as_secs() < 60);
}

#[test]
fn places_that_look_like_frames_do_not_cost_their_square() {
    let begun = Instant::now();
    let text = lines(10 * 1024, 0)[..3].concat();
    for codec in [Codec::Zstd, Codec::Lz4, Codec::Lzf] {
        // The end of the log is broken, so no place before it is a good one.
        let empty = match codec {
            Codec::Zstd => vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00],
            Codec::Lz4 => lz4_header(0x10, 0, 0, 0, &[]),
            _ => b"ZV\0\0\0".to_vec(),
        };
        let mut bytes = packed(codec, &[text.as_bytes()]);
        bytes.extend(empty.repeat((2 << 20) / empty.len()));
        let unended = [&bytes[..], b"\xff"].concat();
        assert!(Log::single(codec, unended).facts().damage.is_some(), "{codec}");
        assert!(Log::single(codec, bytes).facts().end.is_none());
    }
    assert!(begun.elapsed().as_secs() < 60);
}

/// What the process has needed at most, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn memory_stays_bounded() {
    // In a process of its own, where no other test needs memory.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "event_log::any_bytes::memory_of_hostile_logs", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "memory_stays_bounded runs it"]
fn memory_of_hostile_logs() {
    let line = [br#"{"Event":"SparkListenerEnvironmentUpdate","x":""#.to_vec(), vec![b'x'; 1 << 20]].concat();
    let stored = lz4_header(0x10, 1 << 25, 1 << 25, 0, &[]);
    let before = peak();
    // A line of 400 MiB of an event that counts, and of one that does not.
    for beginning in [&line[..], &line[60..]] {
        let mut reading =
            WholeReading::new(vec![LogFile { size: u64::MAX, codec: Codec::Plain }], true, Facts::default());
        let _ = reading.push(b"{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"3\"}\n");
        for _ in 0..400 {
            let _ = reading.push(beginning);
        }
        reading.end_file(true);
        assert!(reading.finish().spark.is_some());
    }
    assert!(peak() - before < 40 << 20, "lines: {}", peak() - before);
    // A block that never ends, of every codec that has blocks.
    for (codec, header) in [(Codec::Lz4, &stored[..]), (Codec::Snappy, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x02\0\0\0")] {
        let mut reading = WholeReading::new(vec![LogFile { size: u64::MAX, codec }], true, Facts::default());
        let _ = reading.push(header);
        for _ in 0..400 {
            if reading.push(&line).is_break() {
                break;
            }
        }
        reading.end_file(true);
        assert!(reading.finish().damage.is_some());
    }
    assert!(peak() - before < 140 << 20, "blocks: {}", peak() - before);
}

fn any_codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(Codec::ALL.to_vec())
}

/// The lines of a log, some of them more than once, missing or damaged.
fn any_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let line = prop_oneof![
        Just(LOG_START.to_string()),
        (0usize..5000).prop_map(environment),
        Just(START.to_string()),
        Just(END.to_string()),
        (0usize..100, 0usize..3000).prop_map(|(number, padding)| task(number, padding)),
        Just(START.replace("application_1", "application_2")),
        Just(END.replace("2000", "3000")),
        Just(END[..40].to_string()),
        Just(String::new()),
    ];
    let line = (line, any::<bool>()).prop_map(|(line, is_ended)| {
        let mut line = line.into_bytes();
        line.extend(is_ended.then_some(b'\n'));
        line
    });
    proptest::collection::vec(line, 0..12)
}

static LARGE: LazyLock<Vec<Log>> =
    LazyLock::new(|| Codec::ALL.iter().map(|codec| log_of(*codec, &lines(1000, 500 * 1024))).collect());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_log_tells_the_same_in_whatever_pieces(
        codec in any_codec(),
        lines in any_lines(),
        is_complete: bool,
        lengths in proptest::collection::vec(1usize..5000, 1..5),
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let pieces: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let mut bytes = packed(codec, &pieces);
        if let (Some((at, byte)), false) = (damage, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let log = Log { files: vec![(codec, bytes)], is_complete };
        let at_once = log.read_whole(Facts::default(), &[usize::MAX]);
        for lengths in [&lengths[..], &[1]] {
            let in_pieces = log.read_whole(Facts::default(), lengths);
            prop_assert_eq!(&in_pieces.damage, &at_once.damage);
            // How much zstd gives before the damage depends on the pieces.
            if at_once.damage.is_none() || codec != Codec::Zstd {
                prop_assert_eq!(&in_pieces, &at_once);
            }
        }
        let by_ranges = log.facts();
        if at_once.damage.is_none() {
            prop_assert_eq!(&by_ranges, &at_once);
        }
    }

    #[test]
    fn any_bytes_give_facts(codec in any_codec(), bytes in proptest::collection::vec(any::<u8>(), 0..2000), is_complete: bool) {
        let log = Log { files: vec![(codec, bytes)], is_complete };
        log.facts();
        log.read_whole(Facts::default(), &[1]);
    }

    #[test]
    fn a_large_log_with_a_damaged_end_gives_facts(
        codec in any_codec(),
        at in 0usize..80_000,
        garbage in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut log = LARGE.iter().find(|log| log.files[0].0 == codec).unwrap().clone();
        let bytes = &mut log.files[0].1;
        let at = bytes.len() - 1 - at;
        bytes.splice(at.., garbage);
        let facts = log.facts();
        prop_assert!(facts.end.is_none_or(|end| end == 2000));
    }
}
