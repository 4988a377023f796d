//! What follows from the label of an EMR release alone: the Spark version, and the file system for `s3://`.

use crate::error::Fault;
use crate::node::hadoop::{EMRFS, S3A};
use crate::node::spark::Version;

/// `emr-7.12.0` or `emr-spark-8.0-preview`, in numbers.
#[derive(Clone, Copy)]
pub(super) struct Release {
    series: Series,
    pub(super) major: u32,
    pub(super) minor: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Series {
    /// `emr-7.12.0`
    Emr,
    /// `emr-spark-8.1.0`, which comes without EMRFS
    EmrSpark,
}

impl Release {
    pub(super) fn parse(label: &str) -> Option<Self> {
        let (series, numbers) = match label.strip_prefix("emr-spark-") {
            Some(numbers) => (Series::EmrSpark, numbers),
            None => (Series::Emr, label.strip_prefix("emr-")?),
        };
        let mut numbers = numbers.split(['.', '-']).map(str::parse);
        Some(Self { series, major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    }

    /// The Spark version, as exact as the rendered keys need it (`docs/emr.md §1.1`).
    fn spark_version(self) -> Option<&'static str> {
        Some(match (self.series, self.major, self.minor) {
            (Series::Emr, 5, _) | (Series::Emr, 6, 0) => "2.4",
            (Series::Emr, 6, 1 | 2) => "3.0",
            (Series::Emr, 6, 3..=5) => "3.1",
            // These releases contain Spark 3.2 to 3.4, for which the keys are the same.
            (Series::Emr, 6, 6..=15) => "3.2",
            (Series::Emr, 7, 0..=14) => "3.5",
            (Series::EmrSpark, 8, 0) => "4.0",
            (Series::EmrSpark, 8, 1) => "4.1",
            _ => return None,
        })
    }

    /// S3A serves `s3://` from EMR 7.10 on (`docs/emr.md §6.1`).
    fn uses_s3a(self) -> bool {
        self.series == Series::EmrSpark || (self.major, self.minor) >= (7, 10)
    }
}

/// The class of the file system that serves `s3://`.
pub(super) fn s3_file_system(label: Option<&str>, spark: &Version) -> &'static str {
    let uses_s3a = label.and_then(Release::parse).is_some_and(Release::uses_s3a) || spark.at_least(4, 0);
    if uses_s3a { S3A } else { EMRFS }
}

/// The Spark version that the user names, or else the one that the release contains.
pub(super) fn spark_version(named: Option<&str>, label: Option<&str>) -> Result<Version, Fault> {
    let parse = |text: &str| {
        Version::parse(text).ok_or_else(|| {
            Fault::usage(format!("“{text}” is not a version of Spark"))
                .detail("wanted numbers, such as 3.5 or 3.5.6-amzn-0")
                .hint("--spark-version 3.5")
        })
    };
    if let Some(text) = named {
        return parse(text);
    }
    let label = label.ok_or_else(|| {
        Fault::usage("--release is missing")
            .detail("this machine is not an EMR node, and which keys the cluster needs depends on its version of Spark")
            .hint("add the release, such as --release emr-7.12.0, or the version, such as --spark-version 3.5")
    })?;
    match Release::parse(label).and_then(Release::spark_version) {
        Some(version) => parse(version),
        None => Err(Fault::usage(format!("emr-shs does not know which version of Spark {label} contains"))
            .detail("wanted a label such as emr-7.12.0, or the version of Spark itself")
            .hint("add the version that the release notes of EMR name, such as --spark-version 3.5")),
    }
}
