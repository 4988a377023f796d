//! The bucket that holds the event logs: its URI, whether the prefix exists, and the proof that
//! this node may write there.
//!
//! The installer is synchronous; the SDK runs on one small runtime that lives here.

pub use super::{EventLogs, LogUri};

use crate::aws;
use crate::error::Fault;
use anyhow::Result;
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::ServerSideEncryption;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// What lies directly under a prefix.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Objects, by their names below the prefix.
    pub objects: Vec<Object>,
    /// Directories, by their names with the slash at the end.
    pub directories: Vec<String>,
    /// Whether this is all.
    pub whole: bool,
}

impl Listing {
    /// The object that was written last and is not empty.
    pub fn newest(&self) -> Option<&Object> {
        self.objects.iter().filter(|object| object.size > 0).max_by_key(|object| object.modified)
    }
}

/// One object of a listing.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name below the prefix.
    pub name: String,
    /// In bytes.
    pub size: i64,
    /// When it was written, in seconds since 1970.
    pub modified: i64,
}

/// Why S3 did not do what it was asked for.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Of what kind.
    pub kind: RefusalKind,
    /// In words.
    pub fault: Fault,
}

/// What kinds of refusals there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// This IAM action is not allowed.
    Denied(&'static str),
    /// This node's clock is wrong.
    Clock,
    /// There was no answer.
    Silence,
    /// Something else.
    Other,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { kind: RefusalKind::Other, fault }
    }
}

impl From<Refusal> for anyhow::Error {
    fn from(refusal: Refusal) -> Self {
        refusal.fault.into()
    }
}

/// What came of writing, listing, reading and deleting one object; `None` where it was not tried.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Writing it.
    pub put: Option<Result<(), Refusal>>,
    /// Listing it.
    pub list: Option<Result<(), Refusal>>,
    /// Reading it.
    pub get: Option<Result<(), Refusal>>,
    /// Deleting it.
    pub delete: Option<Result<(), Refusal>>,
}

/// Compares S3's clock with this node's, at each answer.
#[derive(Clone, Debug, Default)]
struct Clock {
    ahead: Arc<Mutex<Option<i64>>>,
}

impl Clock {
    /// A client whose answers are looked at.
    fn watch(&self, config: &SdkConfig, endpoint: Option<&str>, region: Option<String>) -> Client {
        Client::from_conf(builder(config, endpoint, region).interceptor(self.clone()).build())
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(Ok(theirs)) = date.map(|date| DateTime::from_str(date, DateTimeFormat::HttpDate)) {
            let ours = DateTime::from(SystemTime::now()).secs();
            *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ours - theirs.secs());
        }
        Ok(())
    }
}

/// A connection to the store.
pub struct S3 {
    runtime: tokio::runtime::Runtime,
    config: SdkConfig,
    client: Client,
    clock: Clock,
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
        let clock = Clock::default();
        let client = clock.watch(&config, endpoint.as_deref(), None);
        Self { runtime, config, client, clock, own_endpoint: endpoint, region, encryption: None }
    }

    /// Finds the bucket and its region, and signs for that region from now on.
    pub fn find_bucket(&mut self, uri: &EventLogs) -> Result<Bucket, Refusal> {
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
                    .unchanged()
                    .hint(format!("check the name, or make it: aws s3 mb s3://{}", uri.bucket))
                    .into());
            }
            Err(e) => return Err(self.explain(uri, "s3:ListBucket", "list", &e)),
        }
        if elsewhere {
            self.region.clone_from(&told);
            self.client = self.clock.watch(&self.config, self.own_endpoint.as_deref(), told.clone());
        }
        Ok(Bucket { region: told })
    }

    /// How far this node's clock is ahead of S3's, in seconds, by the last answer; `None` before
    /// the first one.
    pub fn clock_ahead(&self) -> Option<i64> {
        *self.clock.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything lies under the prefix. The root of a bucket always exists.
    pub fn prefix_exists(&self, uri: &EventLogs) -> Result<bool, Refusal> {
        if uri.prefix.is_empty() {
            return Ok(true);
        }
        self.first_object(uri).map(|first| first.is_some())
    }

    /// Makes the zero-byte object that file systems on S3 take for a directory.
    pub fn create_prefix(&self, uri: &EventLogs) -> Result<(), Refusal> {
        self.put(uri, &uri.prefix, &[])
    }

    /// What lies directly under the prefix, in the order of the names: at most so many pages of a
    /// thousand.
    pub fn list(&self, uri: &EventLogs, pages: usize) -> Result<Listing, Refusal> {
        let mut found = Listing { objects: Vec::new(), directories: Vec::new(), whole: true };
        let mut next = None;
        for _ in 0..pages {
            let request = self.client.list_objects_v2().bucket(&uri.bucket).prefix(&uri.prefix).delimiter("/");
            let page = self.runtime.block_on(request.set_continuation_token(next).send());
            let page = page.map_err(|e| self.explain(uri, "s3:ListBucket", "list", &e))?;
            let name = |key: &str| key.strip_prefix(&uri.prefix).unwrap_or(key).to_string();
            found.objects.extend(page.contents().iter().filter_map(|object| {
                let modified = object.last_modified().map_or(0, DateTime::secs);
                Some(Object { name: name(object.key()?), size: object.size().unwrap_or(0), modified })
            }));
            found.directories.extend(page.common_prefixes().iter().filter_map(|d| Some(name(d.prefix()?))));
            next = page.next_continuation_token().map(str::to_string);
            if next.is_none() {
                return Ok(found);
            }
        }
        found.whole = false;
        Ok(found)
    }

    /// Reads one object, or its first bytes.
    pub fn get(&self, uri: &EventLogs, key: &str, first: Option<u64>) -> Result<Vec<u8>, Refusal> {
        let range = first.map(|n| format!("bytes=0-{}", n.saturating_sub(1)));
        let request = self.client.get_object().bucket(&uri.bucket).key(key).set_range(range);
        // What is wrong is explained outside: that asks for the role, on the same runtime.
        let body = self.runtime.block_on(async { Ok(request.send().await?.body.collect().await) });
        let body = body.map_err(|e: SdkError<_>| self.explain(uri, "s3:GetObject", "read", &e))?;
        body.map(|bytes| bytes.to_vec()).map_err(|e| {
            Fault::preflight(format!("s3://{}/{key} cannot be read to its end", uri.bucket))
                .detail(root_causes(&e))
                .into()
        })
    }

    /// Writes one object, encrypted as the cluster does it.
    pub fn put(&self, uri: &EventLogs, key: &str, body: &[u8]) -> Result<(), Refusal> {
        let mut request = self.client.put_object().bucket(&uri.bucket).key(key).body(ByteStream::from(body.to_vec()));
        if let Some(wanted) = &self.encryption {
            request = request
                .server_side_encryption(ServerSideEncryption::from(wanted.algorithm.as_str()))
                .set_ssekms_key_id(wanted.key.clone());
        }
        let answer = self.runtime.block_on(request.send());
        answer.map(drop).map_err(|e| self.explain(uri, "s3:PutObject", "write to", &e))
    }

    /// Deletes one object.
    pub fn delete(&self, uri: &EventLogs, key: &str) -> Result<(), Refusal> {
        let answer = self.runtime.block_on(self.client.delete_object().bucket(&uri.bucket).key(key).send());
        answer.map(drop).map_err(|e| self.explain(uri, "s3:DeleteObject", "delete", &e))
    }

    /// Puts, lists, reads and deletes one object under the prefix, as jobs and the history server
    /// will. The name begins with a dot: the history server passes such names over.
    pub fn probe(&self, uri: &EventLogs) -> Probe {
        let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let key = format!("{}.emr-shs-probe-{nonce:x}-{}", uri.prefix, std::process::id());
        let body = b"written by emr-shs to see whether it may; safe to delete\n";
        let put = self.put(uri, &key, body).map_err(|mut refusal| {
            refusal.fault = refusal.fault.detail("every Spark job of the cluster would fail with this setting");
            refusal
        });
        if let Err(refusal) = &put {
            if refusal.kind == RefusalKind::Silence {
                // It may have arrived all the same.
                let _ = self.delete(uri, &key);
            }
            return Probe { put: Some(put), ..Probe::default() };
        }
        let listed = EventLogs { prefix: key.clone(), ..uri.clone() };
        let list = self.prefix_exists(&listed).and_then(|there| match there {
            true => Ok(()),
            false => Err(Fault::preflight(format!("{uri} does not list what was just written there"))
                .detail(format!("found no object under {key}, wanted 1"))
                .into()),
        });
        let get = self.get(uri, &key, None).and_then(|read| match read == body {
            true => Ok(()),
            false => Err(Fault::preflight(format!("{uri} does not give back what was written there")).into()),
        });
        let delete = self.delete(uri, &key).map_err(|mut refusal| {
            refusal.fault = refusal
                .fault
                .detail(format!("one object is left behind: s3://{}/{key}", uri.bucket))
                .detail("Spark renames a finished event log, which S3 does by copy and delete");
            refusal
        });
        Probe { put: Some(put), list: Some(list), get: Some(get), delete: Some(delete) }
    }

    /// The first object under a prefix, at any depth.
    pub fn first_object(&self, uri: &EventLogs) -> Result<Option<String>, Refusal> {
        let listing = self.client.list_objects_v2().bucket(&uri.bucket).prefix(&uri.prefix).max_keys(1).send();
        match self.runtime.block_on(listing) {
            Ok(page) => Ok(page.contents().first().and_then(|object| object.key()).map(str::to_string)),
            Err(e) => Err(self.explain(uri, "s3:ListBucket", "list", &e)),
        }
    }

    /// How long this node's credentials are good for, if they end, or why there are none; and the
    /// instance profile's role.
    pub fn credentials(&self) -> (Result<Option<Duration>, String>, Option<String>) {
        let Some(provider) = self.config.credentials_provider() else {
            return (Err("no place where they could come from".into()), None);
        };
        let got = self.runtime.block_on(provider.provide_credentials());
        let got = got.map_err(|e| aws::no_credentials(&root_causes(&e)).unwrap_or_else(|| root_causes(&e)));
        let left = |end: SystemTime| end.duration_since(SystemTime::now()).unwrap_or_default();
        (got.map(|got| got.expiry().map(left)), aws::instance_role(&self.runtime))
    }

    fn place(&self) -> &str {
        self.own_endpoint.as_deref().unwrap_or("AWS's own endpoint")
    }

    /// Says what an S3 error means for the person who chose the URI.
    fn explain<E>(&self, uri: &EventLogs, action: &'static str, verb: &str, error: &SdkError<E>) -> Refusal
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let said = error.message().unwrap_or_default();
        // S3 asks KMS in the caller's name, and passes on that KMS refused.
        let of_kms = ["kms:Decrypt", "kms:GenerateDataKey"].into_iter().find(|of_kms| said.contains(of_kms));
        let hidden = said.contains("ciphertext refers to a customer master key");
        let action = of_kms.or(hidden.then_some("kms:Decrypt")).unwrap_or(action);
        let archived = error.code() == Some("InvalidObjectState");
        let denied = status(error) == Some(403) && !archived || of_kms.is_some() || hidden;
        let kind = match (status(error), error.code()) {
            (_, Some("RequestTimeTooSkewed")) => RefusalKind::Clock,
            (_, Some("SignatureDoesNotMatch" | "InvalidAccessKeyId" | "ExpiredToken")) => RefusalKind::Other,
            _ if denied => RefusalKind::Denied(action),
            (None, _) => RefusalKind::Silence,
            _ => RefusalKind::Other,
        };
        Refusal { kind, fault: self.fault(uri, action, verb, error) }
    }

    fn fault<E>(&self, uri: &EventLogs, action: &str, verb: &str, error: &SdkError<E>) -> Fault
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let code = error.code().unwrap_or_default();
        let said = error.message().unwrap_or_default();
        match (status(error), code) {
            (status, _) if (status == Some(403) || code == "AccessDenied" || action.starts_with("kms:")) && !matches!(code, "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "RequestTimeTooSkewed" | "ExpiredToken") => {
                let who = match aws::instance_role(&self.runtime) {
                    Some(role) => format!("the role {role}"),
                    None => "this node's credentials".into(),
                };
                let reason = if code.is_empty() { "403".into() } else { format!("{code} {said}") };
                Fault::preflight(format!("{who} may not {verb} {uri} ({action})"))
                    .detail(format!("S3 answered {}", reason.trim_end()))
                    .unchanged()
                    .hint(match action.starts_with("kms:") {
                        true => format!("allow {action} on the bucket's KMS key to the cluster's instance profile, in the key's policy too; the role's: emr-shs render iam-policy --kms-key ARN"),
                        false => format!("allow {action} on this prefix to the cluster's instance profile; all that it needs: emr-shs render iam-policy"),
                    })
            }
            (_, "NoSuchBucket") => Fault::preflight(format!("there is no bucket {}", uri.bucket))
                .unchanged()
                .hint(format!("check the name, or make it: aws s3 mb s3://{}", uri.bucket)),
            (_, "RequestTimeTooSkewed") => Fault::preflight("this node's clock is wrong, so S3 refuses its signatures")
                .detail(said)
                .unchanged()
                .hint("timedatectl status; systemctl restart chronyd"),
            (Some(status), _) => Fault::preflight(format!("S3 refused to {verb} {uri} ({action})"))
                .detail(format!("it answered {status} {code} {said}").trim_end().to_string())
                .detail(format!("asked as region {}, at {}", self.region.as_deref().unwrap_or("unknown"), self.place()))
                .unchanged()
                .hint("check the bucket's name, and --region and --endpoint-url if you gave them"),
            (None, _) => Fault::preflight(format!("S3 could not be asked about {uri}"))
                .detail(aws::no_credentials(&root_causes(error)).unwrap_or_else(|| root_causes(error)))
                .detail(format!("region {}, endpoint {}", self.region.as_deref().unwrap_or("unknown"), self.place()))
                .unchanged()
                .hint(match self.own_endpoint {
                    Some(_) => "see whether that endpoint answers: --endpoint-url, or fs.s3a.endpoint in core-site.xml",
                    None => "the credentials are the instance profile's, the way out is a NAT or an S3 VPC endpoint; see what `aws s3 ls` says on this node",
                }),
        }
    }
}

/// A client for a store: AWS's own, or the one at `endpoint`.
pub fn client(config: &SdkConfig, endpoint: Option<&str>, region: Option<String>) -> Client {
    Client::from_conf(builder(config, endpoint, region).build())
}

fn builder(config: &SdkConfig, endpoint: Option<&str>, region: Option<String>) -> aws_sdk_s3::config::Builder {
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
    builder
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
