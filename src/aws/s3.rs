//! A blocking client for the bucket of event logs or archived logs, and a probe of this node's permissions
//! in that bucket.
//!
//! emr-shs calls S3 from synchronous code, so each call blocks until the runtime that [`S3`] owns has the
//! answer.

use super::endpoint::{self, StoreAddress};
use super::error::{Obstacle, S3Error, S3Failure, credentials_failure, root_causes};
use super::identity::instance_role;
use super::listing::{self, Names};
use super::meaning::PROXY_LOGIN;
use super::proxies::Proxies;
use super::uri::EventLogs;
use crate::error::Fault;
use crate::shown::hint;
use crate::signals::Tidying;
use crate::test_objects::TestObject;
use anyhow::Result;
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{ChecksumAlgorithm, ObjectCannedAcl, RequestPayer, ServerSideEncryption};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// How this node must encrypt objects. A bucket policy can insist on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub(crate) algorithm: String,
    /// The KMS key, if the configuration names one.
    pub(crate) key: Option<String>,
}

/// What the requests of this node's file systems contain. A bucket policy can insist on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestOptions {
    /// How new objects are encrypted. `None` leaves it to the bucket.
    pub(crate) encryption: Option<Encryption>,
    /// The canned ACL of new objects, such as `bucket-owner-full-control`.
    pub(crate) acl: Option<String>,
    /// Whether this account pays for the requests, and not the bucket's owner.
    pub(crate) requester_pays: bool,
}

impl RequestOptions {
    /// Adds what every new object gets: its encryption, its ACL, and who pays.
    pub(crate) fn of_new_object(&self, request: PutObjectFluentBuilder) -> PutObjectFluentBuilder {
        let request = request.set_acl(self.acl.as_deref().map(ObjectCannedAcl::from)).set_request_payer(self.payer());
        let Some(wanted) = &self.encryption else { return request };
        request
            .server_side_encryption(ServerSideEncryption::from(wanted.algorithm.as_str()))
            .set_ssekms_key_id(wanted.key.clone())
    }

    pub(crate) fn payer(&self) -> Option<RequestPayer> {
        self.requester_pays.then_some(RequestPayer::Requester)
    }
}

/// A bucket that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Bucket {
    /// The bucket's region, if the store tells.
    pub(crate) region: Option<String>,
}

/// The objects and directories directly below a prefix.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub objects: Vec<Object>,
    /// The directories' names below the prefix, each with a slash at the end.
    pub directories: Vec<String>,
    /// Whether the listing reached its end.
    pub complete: bool,
}

#[derive(Clone, Debug)]
pub struct Object {
    /// The object's name below the prefix.
    pub name: String,
    /// In bytes.
    pub size: i64,
    /// When the object was written, in seconds since 1970.
    pub modified: i64,
}

/// A failure of S3, and the error that explains it to the person who chose the URI.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub(crate) failure: S3Failure,
    pub(crate) fault: Fault,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { failure: S3Failure::Other, fault }
    }
}

impl From<Refusal> for anyhow::Error {
    fn from(refusal: Refusal) -> Self {
        refusal.fault.into()
    }
}

/// The results of writing, listing, reading and deleting one object. `None` for a step that was not tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    pub(crate) put: Option<Result<(), Refusal>>,
    pub(crate) list: Option<Result<(), Refusal>>,
    pub(crate) get: Option<Result<(), Refusal>>,
    pub(crate) delete: Option<Result<(), Refusal>>,
}

/// Compares this node's clock with the date of each answer of S3.
#[derive(Clone, Debug, Default)]
struct Clock {
    ahead: Arc<Mutex<Option<i64>>>,
}

impl Clock {
    /// A client whose answers this clock compares.
    fn client(&self, config: &SdkConfig, store: &StoreAddress, region: Option<String>) -> Client {
        Client::from_conf(endpoint::builder(config, store, region).interceptor(self.clone()).build())
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

/// A connection to S3, or to another store with S3's interface.
pub struct S3 {
    runtime: Runtime,
    config: SdkConfig,
    client: Client,
    clock: Clock,
    store: StoreAddress,
    region: Option<String>,
    proxies: Proxies,
    /// What the requests contain beside their subject.
    pub(crate) options: RequestOptions,
}

impl S3 {
    /// A client with this node's credentials.
    pub(crate) fn new(runtime: Runtime, config: SdkConfig, store: StoreAddress, proxies: Proxies) -> Self {
        let region = config.region().map(ToString::to_string);
        let clock = Clock::default();
        let client = clock.client(&config, &store, None);
        Self { runtime, config, client, clock, store, region, proxies, options: RequestOptions::default() }
    }

    /// Another client for the bucket that was found, for as long as this one lives: they share connections. The interceptor
    /// sees each attempt of each request.
    pub(crate) fn client_with(&self, interceptor: impl Intercept + 'static) -> Client {
        let builder = endpoint::builder(&self.config, &self.store, self.region.clone());
        Client::from_conf(builder.interceptor(interceptor).build())
    }

    /// Finds the bucket and its region. All later requests are signed for that region.
    pub(crate) fn find_bucket(&mut self, uri: &EventLogs) -> Result<Bucket, Refusal> {
        const ACTION: &str = "s3:ListBucket";
        let answer = self.runtime.block_on(self.client.head_bucket().bucket(&uri.bucket).send());
        let answer = answer.map_err(|e| S3Error::new(&e, ACTION));
        let region = match &answer {
            Ok(found) => found.bucket_region().map(str::to_string),
            Err(error) => error.region.clone(),
        };
        let is_elsewhere = region.is_some() && region != self.region;
        match answer {
            Ok(_) => {}
            Err(_) if is_elsewhere => {}
            // A bucket that exists answers this, too. The probe names the action that is not allowed.
            Err(S3Error { failure: S3Failure::Denied { .. }, .. }) => {}
            Err(S3Error { failure: S3Failure::NotFound | S3Failure::NoSuchBucket, .. }) => {
                let fault = no_such_bucket(uri).detail(format!("{uri}: HeadBucket answered 404"));
                return Err(fault.unchanged().into());
            }
            Err(error) => return Err(self.explain(uri, ACTION, "list", error)),
        }
        if is_elsewhere {
            self.region.clone_from(&region);
            self.client = self.clock.client(&self.config, &self.store, region.clone());
        }
        Ok(Bucket { region })
    }

    /// How many seconds this node's clock is ahead of S3's, by the last answer. `None` before the first
    /// answer.
    pub(crate) fn clock_ahead(&self) -> Option<i64> {
        *self.clock.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is an object below the prefix. The root of a bucket always exists.
    pub(crate) fn prefix_exists(&self, uri: &EventLogs) -> Result<bool, Refusal> {
        if uri.prefix.is_empty() {
            return Ok(true);
        }
        self.first_object(uri).map(|first| first.is_some())
    }

    /// Writes the empty object that Hadoop's file systems on S3 take for a directory.
    pub(crate) fn create_prefix(&self, uri: &EventLogs) -> Result<(), Refusal> {
        self.put(uri, &uri.prefix, &[])
    }

    /// Lists the objects and directories directly below the prefix, ordered by name: at most `pages`
    /// pages of a thousand names.
    pub(crate) fn list(&self, uri: &EventLogs, pages: usize) -> Result<Listing, Refusal> {
        let mut found = Listing { objects: Vec::new(), directories: Vec::new(), complete: true };
        let mut next = None;
        for _ in 0..pages {
            let request = self.listing(uri).delimiter("/");
            let page = self.runtime.block_on(request.set_continuation_token(next).send());
            let page = page.map_err(|e| self.refusal(uri, "s3:ListBucket", "list", &e))?;
            let name = |key: &str| key.strip_prefix(&uri.prefix).unwrap_or(key).to_string();
            found.objects.extend(page.objects().map(|(key, object)| {
                let modified = object.last_modified().map_or(0, DateTime::secs);
                Object { name: name(&key), size: object.size().unwrap_or(0), modified }
            }));
            found.directories.extend(page.directories().map(|directory| name(&directory)));
            next = page.next_continuation_token().map(str::to_string);
            if next.is_none() {
                return Ok(found);
            }
        }
        found.complete = false;
        Ok(found)
    }

    /// Reads one object, or its first `bytes` bytes.
    pub(crate) fn get(&self, uri: &EventLogs, key: &str, bytes: Option<u64>) -> Result<Vec<u8>, Refusal> {
        let range = bytes.map(|n| format!("bytes=0-{}", n.saturating_sub(1)));
        let request = self
            .client
            .get_object()
            .bucket(&uri.bucket)
            .key(key)
            .set_range(range)
            .set_request_payer(self.options.payer());
        // Only receive here: explaining an error waits for the metadata service on the same runtime.
        let body = self.runtime.block_on(async { Ok(request.send().await?.body.collect().await) });
        let body = body.map_err(|e: SdkError<_>| self.refusal(uri, "s3:GetObject", "read", &e))?;
        body.map(|bytes| bytes.to_vec()).map_err(|e| {
            Fault::preflight(format!("reading s3://{}/{key} stopped before its end", uri.bucket))
                .detail(root_causes(&e))
                .into()
        })
    }

    /// The content type and the encoding of one object.
    pub(crate) fn types(&self, uri: &EventLogs, key: &str) -> Result<(Option<String>, Option<String>), Refusal> {
        let request = self.client.head_object().bucket(&uri.bucket).key(key).set_request_payer(self.options.payer());
        let found = self.runtime.block_on(request.send());
        let found = found.map_err(|e| self.refusal(uri, "s3:GetObject", "read", &e))?;
        Ok((found.content_type().map(str::to_string), found.content_encoding().map(str::to_string)))
    }

    /// Writes one object with [`S3::options`], and with a checksum if the bucket demands one.
    pub(crate) fn put(&self, uri: &EventLogs, key: &str, body: &[u8]) -> Result<(), Refusal> {
        match self.put_with(uri, key, body, None) {
            Err(refusal) if refusal.failure == S3Failure::ObjectLock => {
                self.put_with(uri, key, body, Some(ChecksumAlgorithm::Crc32))
            }
            written => written,
        }
    }

    fn put_with(
        &self,
        uri: &EventLogs,
        key: &str,
        body: &[u8],
        checksum: Option<ChecksumAlgorithm>,
    ) -> Result<(), Refusal> {
        let request = self.client.put_object().bucket(&uri.bucket).key(key).body(ByteStream::from(body.to_vec()));
        let request = self.options.of_new_object(request.set_checksum_algorithm(checksum));
        let answer = self.runtime.block_on(request.send());
        answer.map(drop).map_err(|e| self.refusal(uri, "s3:PutObject", "write to", &e))
    }

    pub(crate) fn delete(&self, uri: &EventLogs, key: &str) -> Result<(), Refusal> {
        let answer = self.runtime.block_on(
            self.client.delete_object().bucket(&uri.bucket).key(key).set_request_payer(self.options.payer()).send(),
        );
        answer.map(drop).map_err(|e| self.refusal(uri, "s3:DeleteObject", "delete objects in", &e))
    }

    /// Writes, lists, reads and deletes one object below the prefix, as Spark's jobs and the history
    /// server do. The object's name begins with a dot, so that the history server ignores it.
    pub(crate) fn probe(&self, uri: &EventLogs) -> Probe {
        let _tidying = Tidying::begin();
        let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let key = format!("{}.emr-shs-probe-{nonce:x}-{}", uri.prefix, std::process::id());
        let body = b"emr-shs wrote this to test its permissions; you can delete it\n";
        let object = TestObject::about_to_be_written(&uri.bucket, &key);
        // Without a checksum of its own accord: it is not known whether Spark's S3 client sends one.
        let put = self.put_with(uri, &key, body, None);
        if let Err(refusal) = &put {
            // S3 may have written the object although its answer is missing.
            let is_gone = match refusal.failure {
                S3Failure::NoAnswer(_) => self.delete(uri, &key).is_ok(),
                _ => true,
            };
            if is_gone {
                object.gone();
            }
            return Probe { put: Some(put), ..Probe::default() };
        }
        let listed = EventLogs { prefix: key.clone(), ..uri.clone() };
        let list = self.prefix_exists(&listed).and_then(|there| match there {
            true => Ok(()),
            false => {
                Err(Fault::preflight(format!("{uri} does not list the object that emr-shs has just written there"))
                    .detail(format!("found no object below {key}, wanted one"))
                    .into())
            }
        });
        let get = self.get(uri, &key, None).and_then(|read| match read == body {
            true => Ok(()),
            false => Err(Fault::preflight(format!("{uri} returns other bytes than emr-shs has just written there"))
                .detail(format!("read the object {key}"))
                .into()),
        });
        let delete = self.delete(uri, &key).map(|()| object.gone()).map_err(|mut refusal| {
            refusal.fault = refusal
                .fault
                .detail("Spark renames each finished event log, and file systems on S3 rename by copying and deleting");
            refusal
        });
        Probe { put: Some(put), list: Some(list), get: Some(get), delete: Some(delete) }
    }

    fn listing(&self, uri: &EventLogs) -> ListObjectsV2FluentBuilder {
        listing::request(&self.client, &uri.bucket, &uri.prefix).set_request_payer(self.options.payer())
    }

    /// The key of the first object below the prefix, at any depth.
    pub(crate) fn first_object(&self, uri: &EventLogs) -> Result<Option<String>, Refusal> {
        let listing = self.listing(uri).max_keys(1).send();
        match self.runtime.block_on(listing) {
            Ok(page) => Ok(page.objects().next().map(|(key, _)| key)),
            Err(e) => Err(self.refusal(uri, "s3:ListBucket", "list", &e)),
        }
    }

    /// For how long this node's credentials are valid (`None` if they do not expire), or why there are
    /// none; and the role of the instance profile.
    pub(crate) fn credentials(&self) -> (Result<Option<Duration>, String>, Option<String>) {
        let Some(provider) = self.config.credentials_provider() else {
            return (Err("the SDK has no source of credentials".into()), None);
        };
        let found = self.runtime.block_on(provider.provide_credentials());
        let found = found.map_err(|e| credentials_failure(&e).unwrap_or_else(|| root_causes(&e)));
        let left = |end: SystemTime| end.duration_since(SystemTime::now()).unwrap_or_default();
        (found.map(|credentials| credentials.expiry().map(left)), instance_role(&self.runtime))
    }

    /// Explains an error of S3 to the person who chose the URI. `verb` says what this node wanted to do.
    fn refusal<E>(&self, uri: &EventLogs, action: &'static str, verb: &str, error: &SdkError<E>) -> Refusal
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.explain(uri, action, verb, S3Error::new(error, action))
    }

    pub(crate) fn explain(&self, uri: &EventLogs, action: &'static str, verb: &str, error: S3Error) -> Refusal {
        let fault = match &error.failure {
            S3Failure::Denied { action, kms } => self.denied(uri, action, *kms, verb, &error),
            S3Failure::NoSuchBucket => no_such_bucket(uri),
            S3Failure::ClockSkew => {
                Fault::preflight("this node's clock is wrong, so S3 refuses the signatures that this node makes")
                    .detail(error.message())
                    .hint("timedatectl status; sudo systemctl restart chronyd")
            }
            S3Failure::Archived { class } => {
                Fault::preflight(format!("an object below {uri} is archived and must be restored before it can be read"))
                    .detail(format!("found the storage class {class}, wanted one that S3 can read at once"))
                    .detail(format!("S3 answered {}", error.words()))
                    .hint("take the lifecycle rule that archives these objects off the bucket, and restore them: aws s3api restore-object")
            }
            S3Failure::NoAnswer(why) => self.unanswered(uri, why, &error.obstacle),
            S3Failure::NoCredentials(why) => self.without_credentials(uri, why),
            S3Failure::KmsKey
            | S3Failure::NotFound
            | S3Failure::InvalidRange
            | S3Failure::WrongRegion
            | S3Failure::ObjectLock
            | S3Failure::Busy
            | S3Failure::Other => self.refused(uri, action, verb, &error),
        };
        Refusal { failure: error.failure, fault: fault.unchanged() }
    }

    fn denied(&self, uri: &EventLogs, action: &str, kms: bool, verb: &str, error: &S3Error) -> Fault {
        let who = match instance_role(&self.runtime) {
            Some(role) => format!("the role {role} is"),
            None => "the credentials of this machine are".into(),
        };
        let mut fault = Fault::preflight(format!("{who} not allowed to {verb} {uri} ({action})"))
            .detail(format!("S3 answered {}", error.words()));
        if let Some(policy) = error.denying_policy() {
            fault = fault.detail(format!("what denies it: {policy}"));
        }
        if action == "s3:PutObject" && self.options.encryption.is_none() {
            fault = fault.detail("emr-shs's request had no encryption headers, which a bucket's policy can demand; S3A sends them if fs.s3a.encryption.algorithm is set");
        }
        if matches!(action, "s3:ListBucket" | "s3:GetObject") && self.is_requester_pays(uri) {
            return fault
                .detail("the bucket answers only to those who pay for requests: with x-amz-request-payer it lists its objects")
                .hint(hint!("let S3A pay: fs.s3a.bucket.{}.requester.pays.enabled true (EMRFS: fs.s3.useRequesterPaysHeader true); the log gateway does not pay, so choose another bucket for logs", uri.bucket));
        }
        fault.hint(match kms {
                true => hint!("allow {} on the bucket's KMS key to the cluster's instance profile, in the key's policy too; the policy for the role: emr-shs render iam-policy --kms-key ARN", action),
                false => hint!("allow {} on this prefix to the cluster's instance profile; a policy with all permissions that emr-shs needs: emr-shs render iam-policy", action),
            })
    }

    /// Whether the prefix can be listed by those who pay for requests, and not without paying.
    fn is_requester_pays(&self, uri: &EventLogs) -> bool {
        let request = || listing::request(&self.client, &uri.bucket, &uri.prefix).max_keys(1);
        let lists = |request: ListObjectsV2FluentBuilder| self.runtime.block_on(request.send()).is_ok();
        lists(request().request_payer(RequestPayer::Requester)) && !lists(request())
    }

    /// Explains an answer that is neither about permissions nor about the object.
    fn refused(&self, uri: &EventLogs, action: &str, verb: &str, error: &S3Error) -> Fault {
        let asked = format!("the request was for region {}, endpoint {}", self.region_name(), self.endpoint_name());
        if let Some(server) = &error.foreign {
            let fault = Fault::preflight(format!("not S3 answered about {uri}, but a server on the way"))
                .detail(format!("found {server}"))
                .detail(asked);
            let fault = self.way().into_iter().fold(fault, Fault::detail);
            return fault.hint(match error.meaning() {
                Some(meaning) => meaning.hint,
                None => "a proxy, a firewall or a login page lies between this node and S3, or the endpoint is a web site's: check --endpoint-url and fs.s3a.endpoint, and whether the proxy lets this node reach S3",
            });
        }
        let fault = Fault::preflight(format!("S3 did not let this node {verb} {uri} ({action})"));
        let meaning = error.meaning();
        let fault = meaning.iter().fold(fault, |fault, meaning| fault.detail(meaning.sentence));
        let fault = fault.detail(format!("S3 answered {}", error.answer())).detail(asked);
        let fault = match &error.region {
            Some(region) => fault.detail(format!("the bucket is in {region}")),
            None => fault,
        };
        fault.hint(match meaning {
            Some(meaning) => meaning.hint,
            None => "check the bucket's name, and --region and --endpoint-url if you gave them",
        })
    }

    /// How requests go to the store, where a proxy is set.
    fn way(&self) -> Option<String> {
        self.proxies.way_to(self.store.endpoint.as_deref().unwrap_or("https://s3.amazonaws.com"))
    }

    fn unanswered(&self, uri: &EventLogs, why: &str, obstacle: &Obstacle) -> Fault {
        let host = endpoint::host(self.store.endpoint.as_deref(), self.region.as_deref());
        let certificate = obstacle.certificate(&host);
        let fault = Fault::preflight(format!("S3 could not be asked about {uri}"));
        let fault = certificate.iter().fold(fault, |fault, (says, _)| fault.detail(says.as_str()));
        let mut fault =
            fault.detail(why).detail(format!("region {}, endpoint {}", self.region_name(), self.endpoint_name()));
        let way = self.way();
        let is_proxied = way.is_some();
        if let Some(way) = way {
            fault = fault.detail(way);
        }
        if let Some((_, fix)) = certificate {
            return fault.hint(fix);
        }
        fault.hint(match (obstacle, &self.store.endpoint) {
            (Obstacle::Dns, _) => "the name server of this node gives no address of that name; ask it yourself: getent hosts NAME; the name servers are in /etc/resolv.conf",
            (Obstacle::ProxyLogin, _) => PROXY_LOGIN,
            (Obstacle::Proxy, _) => "the proxy answers, but opens no connection to S3: let it open connections to this host, or exempt the host: NO_PROXY",
            (_, _) if is_proxied => "check that the proxy lets this node reach S3; what the shell sets for this run alone: sudo env HTTPS_PROXY=http://PROXY:PORT NO_PROXY=HOSTS emr-shs …; an empty HTTPS_PROXY takes a remembered proxy back",
            (_, Some(_)) => "check that this endpoint answers; it comes from --endpoint-url, or from fs.s3a.endpoint in core-site.xml",
            (_, None) => "check that a NAT gateway, a VPC endpoint or a proxy leads from this node to S3; on this node, try: aws s3 ls; a proxy: sudo env HTTPS_PROXY=http://PROXY:PORT emr-shs …",
        })
    }

    fn without_credentials(&self, uri: &EventLogs, why: &str) -> Fault {
        Fault::preflight(format!("S3 could not be asked about {uri}"))
            .detail(why)
            .detail(format!("region {}, endpoint {}", self.region_name(), self.endpoint_name()))
            .hint("check that the cluster has an instance profile, and that the metadata service answers on this node; try: aws sts get-caller-identity")
    }

    fn region_name(&self) -> &str {
        self.region.as_deref().unwrap_or("unknown")
    }

    fn endpoint_name(&self) -> &str {
        self.store.endpoint.as_deref().unwrap_or("AWS's own endpoint")
    }
}

fn no_such_bucket(uri: &EventLogs) -> Fault {
    Fault::preflight(format!("there is no bucket {}", uri.bucket))
        .hint(hint!("check the name, or create the bucket: aws s3 mb s3://{}", uri.bucket))
}
