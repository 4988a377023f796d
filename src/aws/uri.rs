//! Places in S3 as people write them: where event logs go, and where EMR archives logs.

use crate::error::Fault;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where event logs go: an S3 directory, spelled with the scheme Spark shall use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventLogs {
    /// `s3` or `s3a`.
    pub scheme: String,
    /// The bucket's name.
    pub bucket: String,
    /// The key prefix: empty, or ending in exactly one `/`.
    pub prefix: String,
}

impl FromStr for EventLogs {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bad = |found: &str, wanted: &str| {
            Fault::usage(format!("“{text}” is no place for event logs"))
                .detail(format!("found {found}, wanted {wanted}"))
                .hint("--event-logs s3://my-bucket/spark-events/")
        };
        if let Some(odd) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad(&format!("the character {odd:?}"), "none in a URI"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("no scheme", "s3://BUCKET/PREFIX/"));
        };
        // s3n is gone since Hadoop 3; EMR's own log URIs still spell it so.
        let scheme = match scheme {
            "s3" | "s3n" => "s3",
            "s3a" => "s3a",
            other => return Err(bad(&format!("the scheme {other}://"), "s3:// or s3a://")),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        check_bucket(bucket).map_err(|(found, wanted)| bad(&found, wanted))?;
        if let Some(odd) = prefix.chars().find(|c| "#?%\\{}^~[]`|<>\"".contains(*c)) {
            return Err(bad(
                &format!("the character {odd} in the prefix"),
                "none that Hadoop reads as part of a URI's syntax",
            ));
        }
        if prefix.contains(',') {
            return Err(bad(
                "a comma",
                "one directory; a list of them is understood from Spark 4.2 on, and by no EMR release yet",
            ));
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.starts_with('/') || prefix.contains("//") {
            return Err(bad("an empty name between slashes", "names joined by single slashes"));
        }
        if prefix.split('/').any(|name| name == "." || name == "..") {
            return Err(bad("“.” or “..”", "names; S3 has no relative paths"));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { scheme: scheme.into(), bucket: bucket.into(), prefix })
    }
}

/// What is wrong with a bucket's name: found, wanted.
fn check_bucket(bucket: &str) -> Result<(), (String, &'static str)> {
    if bucket.ends_with("--x-s3") {
        return Err((
            "a directory bucket".into(),
            "a general purpose bucket; these are listed by prefixes, which directory buckets do not have",
        ));
    }
    if bucket.starts_with("arn:") || bucket.ends_with(".mrap") {
        return Err((
            "an access point".into(),
            "a bucket's name, or the alias of an access point in one region; multi-region ones need signatures of another kind",
        ));
    }
    let valid = bucket.len() >= 3
        && bucket.len() <= 63
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b));
    if valid {
        return Ok(());
    }
    Err((format!("the bucket name “{bucket}”"), "3 to 63 lower-case letters, digits, dots and hyphens"))
}

/// Where EMR archives the logs of clusters: a cluster's log URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogUri {
    /// The bucket's name.
    pub bucket: String,
    /// The key prefix: empty, or ending in exactly one `/`.
    pub prefix: String,
}

impl FromStr for LogUri {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bad = |found: &str, wanted: &str| {
            Fault::usage(format!("“{text}” is no log URI"))
                .detail(format!("found {found}, wanted {wanted}"))
                .hint("--log-uri s3://my-bucket/elasticmapreduce/")
        };
        if let Some(odd) = text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == ',') {
            return Err(bad(&format!("the character {odd:?}"), "none in a URI"));
        }
        let rest = ["s3://", "s3n://", "s3a://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| bad("another scheme, or none", "s3://BUCKET/PREFIX/"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        check_bucket(bucket).map_err(|(found, wanted)| bad(&found, wanted))?;
        let prefix = prefix.trim_end_matches('/');
        if prefix.split('/').any(|name| name == "." || name == ".." || name.is_empty() && !prefix.is_empty()) {
            return Err(bad("“.”, “..” or an empty name", "names joined by single slashes"));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket: bucket.into(), prefix })
    }
}

impl TryFrom<String> for LogUri {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<LogUri> for EventLogs {
    /// The same place, for whoever asks S3 about it.
    fn from(LogUri { bucket, prefix }: LogUri) -> Self {
        Self { scheme: "s3".into(), bucket, prefix }
    }
}

impl From<LogUri> for String {
    fn from(uri: LogUri) -> String {
        uri.to_string()
    }
}

impl fmt::Display for LogUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

impl TryFrom<String> for EventLogs {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<EventLogs> for String {
    fn from(uri: EventLogs) -> String {
        uri.to_string()
    }
}

impl fmt::Display for EventLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.bucket, self.prefix)
    }
}
