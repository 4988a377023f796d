//! Which bytes of a log are read.

use super::*;
use crate::helpers::packing::{lz4_block, packed};

const KIB: usize = 1024;

#[test]
fn a_small_log_takes_one_request_and_a_large_one_two() {
    for codec in Codec::ALL {
        let small = log_of(codec, &lines(90 * KIB, 20 * KIB));
        let (facts, ranges) = small.read();
        assert_told(&facts, Some(2000));
        assert_eq!(ranges, [(0, 0..small.files[0].1.len() as u64)], "{codec}");

        let large = log_of(codec, &lines(90 * KIB, 1500 * KIB));
        let size = large.files[0].1.len() as u64;
        let (facts, ranges) = large.read();
        if codec == Codec::Snappy {
            assert_eq!((facts.whole, ranges.len()), (Some(0), 1));
            assert_told(&large.facts(), Some(2000));
        } else {
            assert_told(&facts, Some(2000));
            assert_eq!(ranges, [(0, 0..128 << 10), (0, size - (64 << 10)..size)], "{codec}");
        }
        assert_eq!(facts.head, None);
    }
}

#[test]
fn a_log_of_snappy_or_of_one_frame_that_is_not_large_takes_two_requests() {
    let text = lines(90 * KIB, 600 * KIB).concat();
    for log in [Codec::Snappy, Codec::Zstd].map(|codec| Log::single(codec, packed(codec, &[text.as_bytes()]))) {
        let (facts, ranges) = log.read();
        assert_told(&facts, Some(2000));
        assert_eq!(ranges, [(0, 0..128 << 10), (0, 128 << 10..log.files[0].1.len() as u64)]);
    }
    // A large one is read as a whole, and its end is not looked for before.
    let text = lines(90 * KIB, 3000 * KIB).concat();
    for log in [Codec::Snappy, Codec::Zstd].map(|codec| Log::single(codec, packed(codec, &[text.as_bytes()]))) {
        let (facts, ranges) = log.read();
        assert_told(&facts, None);
        assert_eq!((facts.whole, ranges.len()), (Some(0), 1));
        assert_told(&log.facts(), Some(2000));
    }
}

#[test]
fn a_large_environment_takes_one_request_more_the_first_time() {
    for codec in [Codec::Plain, Codec::Zstd, Codec::Lz4, Codec::Lzf] {
        let log = log_of(codec, &lines(400 * KIB, 1500 * KIB));
        let (facts, ranges) = log.read();
        assert_told(&facts, Some(2000));
        let head = facts.head.unwrap();
        assert_eq!(ranges[..2], [(0, 0..128 << 10), (0, 128 << 10..256 << 10)], "{codec}");
        let (facts, ranges) = log.read_with_head(head);
        assert_told(&facts, Some(2000));
        assert_eq!((ranges.len(), facts.head), (2, None), "{codec}");
    }
    // One of many megabytes is read with the whole log.
    let log = log_of(Codec::Plain, &lines(5000 * KIB, 0));
    let (facts, ranges) = log.read();
    assert_eq!((facts.whole, facts.start.is_none()), (Some(0), true));
    assert_eq!(ranges.last().unwrap().1.end, 2048 << 10);
    assert_told(&log.facts(), Some(2000));
}

#[test]
fn of_a_log_in_progress_the_beginning_alone_is_read() {
    for codec in Codec::ALL {
        // The history server does not look for the end of it, either, although this log has one.
        for size in [10 * KIB, 1500 * KIB] {
            let log = log_of(codec, &lines(90 * KIB, size)).in_progress();
            let (facts, ranges) = log.read();
            assert_told(&facts, None);
            assert_eq!((ranges.len(), facts.whole), (1, None));
            assert_told(&log.read_whole(Facts::default(), &[1000]), None);
        }
    }
    // Without an environment the history server reads on, and then the end counts.
    let log = log_of(Codec::Plain, &[START.to_string() + "\n", END.to_string() + "\n"]).in_progress();
    assert_eq!(log.facts().end, Some(2000));
}

#[test]
fn an_end_that_is_not_in_the_last_bytes_is_found() {
    for codec in [Codec::Plain, Codec::Zstd, Codec::Lz4, Codec::Lzf] {
        let mut log = lines(90 * KIB, 500 * KIB);
        log.extend((0..40).map(|number| task(number, 5000) + "\n"));
        let (facts, ranges) = log_of(codec, &log).read();
        assert_told(&facts, Some(2000));
        assert_eq!(ranges.len(), 3, "{codec}");

        log.extend((0..400).map(|number| task(number, 5000) + "\n"));
        let log = log_of(codec, &log);
        let (facts, ranges) = log.read();
        assert_told(&facts, None);
        assert_eq!((ranges.len(), facts.whole), (3, Some(0)), "{codec}");
        assert_told(&log.facts(), Some(2000));

        // No end at all.
        let unended: Vec<String> = lines(90 * KIB, 1700 * KIB).into_iter().filter(|line| !line.contains(END)).collect();
        let log = log_of(codec, &unended);
        assert_eq!(log.read().0.whole, Some(0));
        assert_told(&log.facts(), None);
    }
}

#[test]
fn a_line_that_contains_an_end_is_none() {
    let nested = format!(r#"{{"Event":"SparkListenerJobStart","Properties":{END}}}"#);
    let prefixed = format!("x{END}");
    let in_array = format!("[{END}]");
    for line in [nested, prefixed, in_array, format!(" {END}")] {
        for codec in [Codec::Plain, Codec::Zstd] {
            let mut log = lines(90 * KIB, 400 * KIB);
            log.truncate(log.len() - 2);
            log.push(line.clone() + "\n");
            assert_eq!(log_of(codec, &log).facts().end, None, "{line}");
        }
        // The last bytes begin with what looks like an end.
        let at = line.find(END).unwrap();
        for shift in 0..2 {
            let after = 64 * KIB - (line.len() - at) - 1;
            let mut log = lines(90 * KIB, 400 * KIB);
            log.truncate(log.len() - 2);
            log.push(line.clone() + "\n");
            let filler = task(0, 100);
            log.push(format!("{filler}{}\n", " ".repeat(after - filler.len() - 1 - shift)));
            assert_eq!(log_of(Codec::Plain, &log).facts().end, None, "{line}");
        }
    }
    // A true one at every place around the first of the last bytes.
    let mut log = lines(90 * KIB, 300 * KIB);
    log.pop();
    for shift in 0..END.len() + 4 {
        let mut log = log.clone();
        log.push(" ".repeat(64 * KIB - shift - 1) + "\n");
        assert_told(&log_of(Codec::Plain, &log).facts(), Some(2000));
    }
}

#[test]
fn of_a_rolling_log_the_first_and_the_last_file_are_read() {
    for codec in Codec::ALL {
        let text = lines(90 * KIB, 6000 * KIB);
        let (first, rest) = text.split_at(300);
        let (second, third) = rest.split_at(300);
        let pack = |lines: &[String]| log_of(codec, lines).files.remove(0);
        let log = Log { files: vec![pack(first), pack(second), pack(third)], is_complete: COMPLETE };
        let (facts, ranges) = log.read();
        let files: Vec<usize> = ranges.iter().map(|(file, _)| *file).collect();
        if codec == Codec::Snappy {
            assert_eq!(facts.whole, Some(2));
        } else {
            assert_told(&facts, Some(2000));
            assert_eq!(files, [0, 2]);
        }
        assert_told(&log.facts(), Some(2000));

        // The last file is small, or empty, or has no end: then the history server reads all.
        let small = Log { files: vec![pack(first), pack(second), pack(&third[third.len() - 3..])], ..log.clone() };
        assert_told(&small.read().0, Some(2000));
        let empty = Log { files: vec![pack(&text), (codec, Vec::new())], ..log.clone() };
        assert_eq!(empty.read().0.whole, Some(0));
        assert_told(&empty.facts(), Some(2000));
        let earlier = Log { files: vec![pack(&text), pack(&[task(0, 100) + "\n"])], ..log.clone() };
        assert_eq!(earlier.read().0.whole, Some(0));
        assert_told(&earlier.facts(), Some(2000));
        let large = Log {
            files: vec![pack(&text), pack(&(0..600).map(|number| task(number, 5000) + "\n").collect::<Vec<_>>())],
            ..log.clone()
        };
        if codec != Codec::Snappy {
            assert_eq!(large.read().0.whole, Some(1));
        }
        assert_told(&large.facts(), Some(2000));
        // In progress: the first file alone.
        let (facts, ranges) = log.clone().in_progress().read();
        assert_told(&facts, None);
        assert_eq!(ranges.iter().map(|(file, _)| *file).collect::<Vec<_>>(), [0]);
        // The beginning is in the second file.
        let late = Log { files: vec![pack(&[task(0, 100) + "\n"]), pack(&text)], ..log };
        assert_told(&late.facts(), Some(2000));
    }
}

#[test]
fn bytes_that_look_like_a_frame_within_another_are_none() {
    // Stored as they are, because nothing makes them smaller: each has beginnings of all codecs, some with a whole block.
    let inner = packed(Codec::Lz4, &[format!("x\n{}\n", END.replace("2000", "666")).as_bytes()]);
    let fakes = [b"ZV\0\x00\x03abc", &[0x28, 0xb5, 0x2f, 0xfd, 0x20][..], b"LZ4Block\x25", &inner, &lz4_block(b"abc")];
    for codec in [Codec::Zstd, Codec::Lz4, Codec::Lzf] {
        let mut text: Vec<Vec<u8>> = lines(90 * KIB, 1500 * KIB).into_iter().map(String::into_bytes).collect();
        for i in 0..2000 {
            let line = [noise(i, 20 + i % 7).as_bytes(), &fakes.concat(), b"\n"].concat();
            text.insert(text.len() - 3, line);
        }
        let pieces: Vec<&[u8]> = text.iter().map(Vec::as_slice).collect();
        let log = Log::single(codec, packed(codec, &pieces));
        assert_told(&log.facts(), Some(2000));
    }
}

#[test]
fn a_file_that_gives_another_number_of_bytes_ends_the_reading() {
    let log = log_of(Codec::Plain, &lines(90 * KIB, 1500 * KIB));
    let bytes = &log.files[0].1;
    for (first, second) in [(0, None), (1000, None), (128 * KIB, Some(10)), (128 * KIB, Some(65 * KIB))] {
        let file = LogFile { size: bytes.len() as u64, codec: Codec::Plain };
        let mut reading = LogReading::new(vec![file], COMPLETE);
        reading.give(&bytes[..first]);
        if let Some(second) = second {
            assert!(reading.wants().is_some());
            reading.give(&bytes[bytes.len() - second..]);
        }
        assert_eq!(reading.wants(), None);
        reading.give(b"more");
        let facts = reading.finish();
        assert!(facts.is_cut_short && facts.end.is_none());
        assert_eq!(facts.start.is_some(), second.is_some());
    }
    let mut whole = WholeReading::new(vec![LogFile { size: 10, codec: Codec::Plain }; 2], COMPLETE, Facts::default());
    let _ = whole.push(b"abc");
    whole.end_file(false);
    assert_eq!(whole.file(), None);
    assert!(whole.finish().is_cut_short);
}
