//! What an event log tells about its application, whatever its codec and its size, and which bytes of it are read for that.

mod any_bytes;
mod requests;
mod written_by_spark;

use crate::helpers::packing::packed;
use emr_shs::testing::{Codec, Facts, LogFile, LogReading, WholeReading};
use std::ops::Range;
use std::sync::LazyLock;

pub(crate) const COMPLETE: bool = true;
pub(crate) const IN_PROGRESS: bool = false;

pub(crate) const LOG_START: &str = r#"{"Event":"SparkListenerLogStart","Spark Version":"3.5.8"}"#;
pub(crate) const START: &str = r#"{"Event":"SparkListenerApplicationStart","App Name":"étude \"1\"","App ID":"application_1_0001","Timestamp":1000,"User":"ana","App Attempt ID":"2"}"#;
pub(crate) const END: &str = r#"{"Event":"SparkListenerApplicationEnd","Timestamp":2000}"#;

/// The files of one event log.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) files: Vec<(Codec, Vec<u8>)>,
    pub(crate) is_complete: bool,
}

impl Log {
    pub(crate) fn single(codec: Codec, bytes: Vec<u8>) -> Self {
        Self { files: vec![(codec, bytes)], is_complete: COMPLETE }
    }

    pub(crate) fn in_progress(self) -> Self {
        Self { is_complete: IN_PROGRESS, ..self }
    }

    fn sizes(&self) -> Vec<LogFile> {
        self.files.iter().map(|(codec, bytes)| LogFile { size: bytes.len() as u64, codec: *codec }).collect()
    }

    /// The facts of a reading by ranges, and the ranges.
    pub(crate) fn read(&self) -> (Facts, Vec<(usize, Range<u64>)>) {
        self.read_with(LogReading::new(self.sizes(), self.is_complete))
    }

    pub(crate) fn read_with_head(&self, bytes: u64) -> (Facts, Vec<(usize, Range<u64>)>) {
        self.read_with(LogReading::new(self.sizes(), self.is_complete).with_head(bytes))
    }

    fn read_with(&self, mut reading: LogReading) -> (Facts, Vec<(usize, Range<u64>)>) {
        let mut ranges = Vec::new();
        while let Some(wanted) = reading.wants() {
            let bytes = &self.files[wanted.file].1;
            assert!(wanted.range.start < wanted.range.end && wanted.range.end <= bytes.len() as u64, "{wanted:?}");
            assert!(ranges.len() < 20, "a log takes {ranges:?}");
            reading.give(&bytes[wanted.range.start as usize..wanted.range.end as usize]);
            ranges.push((wanted.file, wanted.range));
        }
        (reading.finish(), ranges)
    }

    /// The facts of a reading of all files, each in pieces of these lengths, over and over.
    pub(crate) fn read_whole(&self, facts: Facts, lengths: &[usize]) -> Facts {
        let mut reading = WholeReading::new(self.sizes(), self.is_complete, facts);
        while let Some(file) = reading.file() {
            let mut rest = &self.files[file].1[..];
            let mut lengths = lengths.iter().cycle();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(lengths.next().copied().unwrap_or(usize::MAX).clamp(1, rest.len()));
                rest = after;
                if reading.push(piece).is_break() {
                    break;
                }
            }
            reading.end_file(true);
        }
        reading.finish()
    }

    /// By ranges, and then as a whole what cannot be read so.
    pub(crate) fn facts(&self) -> Facts {
        let (mut facts, _) = self.read();
        for _ in 0..2 {
            if facts.whole.is_some() {
                facts = self.read_whole(facts, &[64 * 1024]);
            }
        }
        assert_eq!(facts.whole, None);
        facts
    }
}

pub(crate) fn environment(padding: usize) -> String {
    let path = noise(0, padding);
    format!(
        r#"{{"Event":"SparkListenerEnvironmentUpdate","JVM Information":{{"Java Home":"/j"}},"Spark Properties":{{"spark.app.name":"x","spark.yarn.queue":"etl"}},"Classpath Entries":{{"{path}":"System Classpath"}}}}"#
    )
}

/// Text that no codec makes much smaller, and always the same.
pub(crate) fn noise(seed: usize, length: usize) -> String {
    static NOISE: LazyLock<String> = LazyLock::new(|| {
        let mut state = 88_172_645_463_325_252_u64;
        let mut digit = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"[(state % 64) as usize])
        };
        (0..8 << 20).map(|_| digit()).collect()
    });
    let from = seed * 5003 % (NOISE.len() - length);
    NOISE[from..from + length].into()
}

pub(crate) fn task(number: usize, padding: usize) -> String {
    format!(r#"{{"Event":"SparkListenerTaskEnd","Stage ID":0,"Task Info":{{"Host":"{}"}}}}"#, noise(number, padding))
}

/// A log of so many bytes at least, a line a piece.
pub(crate) fn lines(environment_size: usize, tasks_size: usize) -> Vec<String> {
    let mut lines = vec![LOG_START.to_string(), environment(environment_size), START.into()];
    lines.extend((0..tasks_size.div_ceil(5000)).map(|number| task(number, 5000)));
    lines.extend([r#"{"Event":"SparkListenerJobEnd","Job ID":0}"#.into(), END.into()]);
    lines.push(r#"{"Event":"SparkListenerStageCompleted"}"#.into());
    lines.iter().map(|line| format!("{line}\n")).collect()
}

pub(crate) fn log_of(codec: Codec, lines: &[String]) -> Log {
    Log::single(codec, packed(codec, &lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>()))
}

/// What every log of `lines` tells.
#[track_caller]
pub(crate) fn assert_told(facts: &Facts, end: Option<i64>) {
    let start = facts.start.as_ref().unwrap_or_else(|| panic!("{facts:?}"));
    assert_eq!((start.name.as_str(), start.user.as_str(), start.time), ("étude \"1\"", "ana", 1000));
    assert_eq!((start.id.as_deref(), start.attempt.as_deref()), (Some("application_1_0001"), Some("2")));
    assert_eq!((facts.spark.as_deref(), facts.queue.as_deref()), (Some("3.5.8"), Some("etl")));
    assert_eq!(facts.end, end, "{facts:?}");
    assert_eq!((&facts.broken, &facts.damage, facts.is_foreign, facts.is_cut_short), (&None, &None, false, false));
}
