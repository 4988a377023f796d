//! The bucket that holds the event logs: its URI, whether the prefix exists, and the proof that
//! this node may write there.
//!
//! The installer is synchronous; the SDK runs on one small runtime that lives here.

use crate::aws;
use crate::fault::Fault;
use anyhow::{Context, Result};
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
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

/// How objects must be encrypted when the cluster says so; a bucket policy may insist on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Encryption {
    /// `AES256` or `aws:kms`.
    pub algorithm: String,
    /// The KMS key, if one is named.
    pub key: Option<String>,
}

/// What the probe found out about a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// The region the bucket lies in, where the store tells.
    pub region: Option<String>,
}

/// A connection to the store.
pub struct S3 {
    runtime: tokio::runtime::Runtime,
    config: SdkConfig,
    client: Client,
    own_endpoint: Option<String>,
    region: Option<String>,
    /// How objects are to be encrypted.
    pub encryption: Option<Encryption>,
}

impl S3 {
    /// A connection with this node's credentials. `endpoint` is for stores other than AWS's and
    /// for VPC endpoints; with one, buckets are addressed by path.
    pub fn new(runtime: tokio::runtime::Runtime, config: SdkConfig, endpoint: Option<String>) -> Self {
        let region = config.region().map(ToString::to_string);
        let client = client(&config, endpoint.as_deref(), None);
        Self { runtime, config, client, own_endpoint: endpoint, region, encryption: None }
    }

    /// Finds the bucket and its region, and signs for that region from now on.
    pub fn find_bucket(&mut self, uri: &EventLogs) -> Result<Bucket> {
        let answer = self.runtime.block_on(self.client.head_bucket().bucket(&uri.bucket).send());
        let told = match &answer {
            Ok(found) => found.bucket_region().map(str::to_string),
            Err(e) => e.raw_response().and_then(|r| r.headers().get("x-amz-bucket-region")).map(str::to_string),
        };
        let elsewhere = told.as_ref().is_some_and(|r| Some(r) != self.region.as_ref());
        match answer {
            Ok(_) => {}
            // 403 says nothing of the bucket: the probe will name the missing right.
            Err(e) if elsewhere || status(&e) == Some(403) => {}
            Err(e) if status(&e) == Some(404) => {
                return Err(Fault::preflight(format!("there is no bucket {}", uri.bucket))
                    .detail(format!("{uri}: HeadBucket answered 404"))
                    .detail("nothing was changed on this node")
                    .hint(format!("check the name, or make it: aws s3 mb s3://{}", uri.bucket))
                    .into());
            }
            Err(e) => return Err(self.explain(uri, "s3:ListBucket", "list", &e).into()),
        }
        if elsewhere {
            self.region.clone_from(&told);
            self.client = client(&self.config, self.own_endpoint.as_deref(), told.clone());
        }
        Ok(Bucket { region: told })
    }

    /// Whether anything lies under the prefix. The root of a bucket always exists.
    pub fn prefix_exists(&self, uri: &EventLogs) -> Result<bool> {
        if uri.prefix.is_empty() {
            return Ok(true);
        }
        let listing = self.client.list_objects_v2().bucket(&uri.bucket).prefix(&uri.prefix).max_keys(1).send();
        match self.runtime.block_on(listing) {
            Ok(page) => Ok(!page.contents().is_empty()),
            Err(e) => Err(self.explain(uri, "s3:ListBucket", "list", &e).into()),
        }
    }

    /// Makes the zero-byte object that file systems on S3 take for a directory.
    pub fn create_prefix(&self, uri: &EventLogs) -> Result<()> {
        self.put(uri, &uri.prefix, &[])
    }

    /// Puts, lists, reads and deletes one object under the prefix, as jobs and the history server
    /// will. The name begins with a dot: the history server passes such names over.
    pub fn probe(&self, uri: &EventLogs) -> Result<()> {
        let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let key = format!("{}.emr-shs-probe-{nonce:x}-{}", uri.prefix, std::process::id());
        let body = b"written by emr-shs to see whether it may; safe to delete\n";
        let bucket = &uri.bucket;
        self.put(uri, &key, body)?;

        let rest = (|| -> Result<()> {
            let listing = self.client.list_objects_v2().bucket(bucket).prefix(&key).send();
            let page = self.runtime.block_on(listing).map_err(|e| self.explain(uri, "s3:ListBucket", "list", &e))?;
            if page.contents().len() != 1 {
                return Err(Fault::preflight(format!("{uri} does not list what was just written there"))
                    .detail(format!("found {} objects under {key}, wanted 1", page.contents().len()))
                    .into());
            }
            let read = self
                .runtime
                .block_on(async {
                    let answer = self.client.get_object().bucket(bucket).key(&key).send().await;
                    match answer {
                        Ok(object) => {
                            Ok(object.body.collect().await.map(aws_sdk_s3::primitives::AggregatedBytes::into_bytes))
                        }
                        Err(e) => Err(e),
                    }
                })
                .map_err(|e| self.explain(uri, "s3:GetObject", "read", &e))?
                .context("reading the probe object")?;
            if read[..] != body[..] {
                return Err(Fault::preflight(format!("{uri} does not give back what was written there")).into());
            }
            Ok(())
        })();

        let deleted = self.runtime.block_on(self.client.delete_object().bucket(bucket).key(&key).send());
        rest?;
        deleted.map_err(|e| {
            self.explain(uri, "s3:DeleteObject", "delete", &e)
                .detail(format!("one object is left behind: s3://{bucket}/{key}"))
                .detail("Spark renames a finished event log, which S3 does by copy and delete")
        })?;
        Ok(())
    }

    fn put(&self, uri: &EventLogs, key: &str, body: &[u8]) -> Result<()> {
        let mut request = self.client.put_object().bucket(&uri.bucket).key(key).body(ByteStream::from(body.to_vec()));
        if let Some(wanted) = &self.encryption {
            request = request
                .server_side_encryption(ServerSideEncryption::from(wanted.algorithm.as_str()))
                .set_ssekms_key_id(wanted.key.clone());
        }
        match self.runtime.block_on(request.send()) {
            Ok(_) => Ok(()),
            Err(e) => Err(self
                .explain(uri, "s3:PutObject", "write to", &e)
                .detail("every Spark job of the cluster would fail with this setting")
                .into()),
        }
    }

    fn place(&self) -> &str {
        self.own_endpoint.as_deref().unwrap_or("AWS's own endpoint")
    }

    /// Says what an S3 error means for the person who chose the URI.
    fn explain<E>(&self, uri: &EventLogs, action: &str, verb: &str, error: &SdkError<E>) -> Fault
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let unchanged = "nothing was changed on this node";
        let code = error.code().unwrap_or_default();
        let said = error.message().unwrap_or_default();
        match (status(error), code) {
            (Some(403), _) | (_, "AccessDenied") if !matches!(code, "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "RequestTimeTooSkewed" | "ExpiredToken") => {
                let who = match aws::instance_role(&self.runtime) {
                    Some(role) => format!("the role {role}"),
                    None => "this node's credentials".into(),
                };
                let reason = if code.is_empty() { "403".into() } else { format!("{code} {said}") };
                Fault::preflight(format!("{who} may not {verb} {uri} ({action})"))
                    .detail(format!("S3 answered {}", reason.trim_end()))
                    .detail(unchanged)
                    .hint(format!("allow {action} on this prefix to the cluster's instance profile (and kms:Decrypt, kms:GenerateDataKey if the bucket uses a KMS key)"))
            }
            (_, "NoSuchBucket") => Fault::preflight(format!("there is no bucket {}", uri.bucket))
                .detail(unchanged)
                .hint(format!("check the name, or make it: aws s3 mb s3://{}", uri.bucket)),
            (_, "RequestTimeTooSkewed") => Fault::preflight("this node's clock is wrong, so S3 refuses its signatures")
                .detail(said)
                .detail(unchanged)
                .hint("timedatectl status; systemctl restart chronyd"),
            (Some(status), _) => Fault::preflight(format!("S3 refused to {verb} {uri} ({action})"))
                .detail(format!("it answered {status} {code} {said}").trim_end().to_string())
                .detail(format!("asked as region {}, at {}", self.region.as_deref().unwrap_or("unknown"), self.place()))
                .detail(unchanged)
                .hint("check the bucket's name, and --region and --endpoint-url if you gave them"),
            (None, _) => Fault::preflight(format!("S3 could not be asked about {uri}"))
                .detail(root_causes(error))
                .detail(format!("region {}, endpoint {}", self.region.as_deref().unwrap_or("unknown"), self.place()))
                .detail(unchanged)
                .hint(match self.own_endpoint {
                    Some(_) => "see whether that endpoint answers: --endpoint-url, or fs.s3a.endpoint in core-site.xml",
                    None => "the credentials are the instance profile's, the way out is a NAT or an S3 VPC endpoint; see what `aws s3 ls` says on this node",
                }),
        }
    }
}

/// A client for a store: AWS's own, or the one at `endpoint`.
pub fn client(config: &SdkConfig, endpoint: Option<&str>, region: Option<String>) -> Client {
    let mut builder = aws_sdk_s3::config::Builder::from(config)
        // Stores other than AWS's do not know the newer checksums.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = endpoint {
        builder = builder.endpoint_url(endpoint).force_path_style(by_path(endpoint));
    }
    if let Some(region) = region {
        builder = builder.region(aws_config::Region::new(region));
    }
    Client::from_conf(builder.build())
}

/// Whether a store has no host name for each bucket.
pub fn by_path(endpoint: &str) -> bool {
    !endpoint.contains(".amazonaws.com")
}

/// The HTTP status an error came with; `None` if nothing answered.
pub fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|r| r.status().as_u16())
}

/// The innermost reasons of an error that never reached the service.
pub fn root_causes(error: &dyn std::error::Error) -> String {
    let mut parts = Vec::new();
    let mut at = Some(error);
    while let Some(e) = at {
        let text = e.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        at = e.source();
    }
    parts.join(": ")
}
