//! The two kinds of S3 directories that users name: where event logs go, and where EMR archives logs.

use crate::error::Fault;
use crate::ids::is_cluster;
use crate::shown::hint;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A directory of event logs in S3, with the scheme under which Spark reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventLogs {
    /// `s3` or `s3a`.
    pub(crate) scheme: String,
    pub(crate) bucket: String,
    /// Empty, or ends in exactly one `/`.
    pub(crate) prefix: String,
}

/// The part of a URI that is wrong, and what would be right.
struct Invalid {
    found: String,
    wanted: &'static str,
}

fn invalid(found: impl Into<String>, wanted: &'static str) -> Invalid {
    Invalid { found: found.into(), wanted }
}

impl FromStr for EventLogs {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        parse_event_logs(text).map_err(|Invalid { found, wanted }| {
            Fault::usage(format!("“{text}” is not a directory in S3 for event logs"))
                .detail(format!("found {found}, wanted {wanted}"))
                .hint("--event-logs s3://my-bucket/spark-events/")
        })
    }
}

fn parse_event_logs(text: &str) -> Result<EventLogs, Invalid> {
    let directory = parse_directory(text)?;
    let prefix = &directory.prefix;
    if let Some(odd) = prefix.chars().find(|c| "#?%\\{}^~[]`|<>\"".contains(*c)) {
        let found = format!("the character {odd} in the prefix");
        return Err(invalid(found, "a prefix without characters that Hadoop reads as syntax of a URI"));
    }
    if prefix.contains(',') {
        return Err(invalid(
            "a comma",
            "one directory; Spark reads a list of directories from version 4.2 on, which no EMR release contains yet",
        ));
    }
    Ok(directory)
}

/// What both kinds of directories have in common.
fn parse_directory(text: &str) -> Result<EventLogs, Invalid> {
    if let Some(odd) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid(format!("the character {odd:?}"), "a URI without spaces or control characters"));
    }
    let (scheme, bucket, prefix) = split(text)?;
    let prefix = prefix.trim_end_matches('/');
    if prefix.starts_with('/') || prefix.contains("//") {
        return Err(invalid("an empty name between slashes", "names joined by single slashes"));
    }
    if prefix.split('/').any(|name| name == "." || name == "..") {
        return Err(invalid("“.” or “..”", "a prefix without them, because S3 has no relative paths"));
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    Ok(EventLogs { scheme: scheme.into(), bucket: bucket.into(), prefix })
}

/// The scheme, the bucket and the rest of a URI.
fn split(text: &str) -> Result<(&'static str, &str, &str), Invalid> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("no scheme", "s3://BUCKET/PREFIX/"))?;
    let scheme = match scheme {
        // Hadoop 3 has no s3n. EMR still spells its own log URIs with it.
        "s3" | "s3n" => "s3",
        "s3a" => "s3a",
        other => return Err(invalid(format!("the scheme {other}://"), "s3:// or s3a://")),
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    check_bucket(bucket)?;
    Ok((scheme, bucket, prefix))
}

fn check_bucket(bucket: &str) -> Result<(), Invalid> {
    if bucket.ends_with("--x-s3") {
        return Err(invalid(
            "a directory bucket",
            "a general purpose bucket: directory buckets cannot list the prefixes that the history server lists",
        ));
    }
    if bucket.starts_with("arn:") || bucket.ends_with(".mrap") {
        return Err(invalid(
            "an access point",
            "the name of a bucket, or the alias of an access point in one region; multi-region access points need signatures of another kind",
        ));
    }
    let valid = bucket.len() >= 3
        && bucket.len() <= 63
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b));
    if valid {
        return Ok(());
    }
    Err(invalid(format!("the bucket name “{bucket}”"), "3 to 63 lower-case letters, digits, dots and hyphens"))
}

impl EventLogs {
    /// Whether Java finds a host in this URI. Hadoop's file systems take the bucket from there: a label must neither
    /// begin nor end with a hyphen, an underscore is none, and behind a dot the last label must begin with a letter.
    pub(crate) fn has_java_host(&self) -> bool {
        let ends = |label: &str, at: Option<u8>| at.is_some_and(|b| b.is_ascii_alphanumeric()) && !label.contains('_');
        let is_label = |label: &str| ends(label, label.bytes().next()) && ends(label, label.bytes().next_back());
        let last = self.bucket.rsplit_once('.').map(|(_, last)| last);
        self.bucket.split('.').all(is_label)
            && last.is_none_or(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()))
    }
}

/// The directory in S3 where EMR archives the logs of clusters. EMR accepts a log URI with several slashes in a row, with
/// blanks, and with capital letters in its scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogUri {
    pub(crate) bucket: String,
    /// Empty, or ends in `/`. It begins with `/` if two slashes follow the bucket.
    pub(crate) prefix: String,
}

impl LogUri {
    /// Whether another log URI can mean the same directory.
    pub(crate) fn is_same_directory(&self, other: &Self) -> bool {
        self.spellings().last() == other.spellings().last()
    }

    /// The directories that the log URI can mean. It is not known whether EMR keeps several slashes in a row in the keys
    /// of its objects, so there are two directories in that case.
    pub(crate) fn spellings(&self) -> Vec<Self> {
        let names = self.prefix.split('/').filter(|name| !name.is_empty());
        let plain = Self { bucket: self.bucket.clone(), prefix: names.map(|name| format!("{name}/")).collect() };
        if plain == *self { vec![plain] } else { vec![self.clone(), plain] }
    }
}

impl FromStr for LogUri {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        parse_log_uri(text).map_err(|Invalid { found, wanted }| {
            Fault::usage(format!("“{text}” is not a log URI"))
                .detail(format!("found {found}, wanted {wanted}"))
                .hint("--log-uri s3://my-bucket/elasticmapreduce/")
        })
    }
}

/// A log URI that a person names. People paste the directory of one cluster, and below that the gateway would look for the cluster's
/// directory once more.
pub(crate) fn named_log_uri(text: &str) -> Result<LogUri, Fault> {
    let uri: LogUri = text.parse()?;
    let parts: Vec<&str> = uri.prefix.split_terminator('/').collect();
    let of_cluster = match parts.as_slice() {
        [above @ .., id, "containers" | "node" | "steps"] if is_cluster(id) => Some((above, id)),
        [above @ .., id] if is_cluster(id) => Some((above, id)),
        _ => None,
    };
    let Some((above, id)) = of_cluster else { return Ok(uri) };
    let above = LogUri { bucket: uri.bucket.clone(), prefix: above.iter().map(|part| format!("{part}/")).collect() };
    Err(Fault::usage(format!("“{text}” is no log URI, but a directory of the cluster {id} below one"))
        .detail("found a cluster's id at its end, wanted the URI below which EMR makes a directory for each cluster")
        .hint(hint!("--log-uri {}", above.to_string())))
}

fn parse_log_uri(text: &str) -> Result<LogUri, Invalid> {
    let text = text.trim();
    // The gateway's settings separate log URIs by commas.
    if text.contains(',') {
        return Err(invalid("a comma", "one log URI; for another one, repeat --log-uri"));
    }
    if let Some(odd) = text.chars().find(|c| c.is_control()) {
        return Err(invalid(format!("the character {odd:?}"), "a URI without control characters"));
    }
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let (_, bucket, prefix) = split(&text.replacen(scheme, &scheme.to_lowercase(), 1))
        .map(|(scheme, bucket, prefix)| (scheme, bucket.to_string(), prefix.to_string()))?;
    if prefix.split('/').any(|name| name == "." || name == "..") {
        return Err(invalid("“.” or “..”", "a prefix without them, because browsers take them out of a URL"));
    }
    let ends = prefix.is_empty() || prefix.ends_with('/');
    Ok(LogUri { bucket, prefix: if ends { prefix } else { prefix + "/" } })
}

impl TryFrom<String> for LogUri {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<LogUri> for EventLogs {
    /// The same directory, for requests to S3.
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{LogUri, named_log_uri};

    #[test]
    fn the_directory_of_a_cluster_is_no_log_uri() {
        for below in ["", "containers/", "node/", "steps"] {
            let text = format!("s3n://acme-logs/elasticmapreduce/j-3H6EATEWWRWS/{below}");
            let fault = named_log_uri(&text).unwrap_err();
            assert!(fault.message.contains("j-3H6EATEWWRWS"), "{}", fault.message);
            assert_eq!(fault.hint.unwrap().to_string(), "--log-uri s3://acme-logs/elasticmapreduce/");
        }
        let root = named_log_uri("s3://acme-logs/j-3H6EATEWWRWS").unwrap_err();
        assert_eq!(root.hint.unwrap().to_string(), "--log-uri s3://acme-logs/");
        for text in ["s3://acme-logs/j-3H6EATEWWRWS/copies/", "s3://acme-logs/containers/", "s3://acme-logs/j-small/"] {
            assert!(named_log_uri(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn log_uris_are_read_as_emr_accepts_them() {
        let table: &[(&str, &[&str])] = &[
            ("s3://acme-logs/emr/", &["s3://acme-logs/emr/"]),
            ("s3n://acme-logs/emr", &["s3://acme-logs/emr/"]),
            ("  S3N://acme-logs/emr/ \n", &["s3://acme-logs/emr/"]),
            ("s3://acme-logs", &["s3://acme-logs/"]),
            ("s3://acme-logs/", &["s3://acme-logs/"]),
            ("s3n://acme-logs//emr/", &["s3://acme-logs//emr/", "s3://acme-logs/emr/"]),
            ("s3://acme-logs/a//b//", &["s3://acme-logs/a//b//", "s3://acme-logs/a/b/"]),
            ("s3://acme-logs//", &["s3://acme-logs//", "s3://acme-logs/"]),
            ("s3://acme-logs/our logs/emr", &["s3://acme-logs/our logs/emr/"]),
        ];
        for (text, wanted) in table {
            let uri: LogUri = text.parse().unwrap();
            let found: Vec<String> = uri.spellings().iter().map(ToString::to_string).collect();
            assert_eq!(found, *wanted, "{text}");
            // The receipt keeps the text.
            assert_eq!(uri.to_string().parse::<LogUri>().unwrap(), uri);
        }
        for wrong in
            ["", "acme-logs", "http://acme-logs/", "s3://a\tb/", "s3://acme-logs/../x/", "s3://acme-logs/a,s3://b"]
        {
            assert!(wrong.parse::<LogUri>().is_err(), "{wrong:?}");
        }
    }
}
