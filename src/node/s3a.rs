//! How the node's file systems reach one bucket: the settings of S3A, bucket by bucket, and those of EMRFS.

use super::hadoop::Hadoop;
use crate::aws::endpoint::StoreAddress;
use crate::aws::partition;
use crate::aws::s3::{Encryption, RequestOptions};
use serde::Serialize;

/// The canned ACLs: S3A and EMRFS know them by the names of Java constants, S3 by others.
pub(super) const ACLS: [(&str, &str); 8] = [
    ("Private", "private"),
    ("PublicRead", "public-read"),
    ("PublicReadWrite", "public-read-write"),
    ("AuthenticatedRead", "authenticated-read"),
    ("AwsExecRead", "aws-exec-read"),
    ("BucketOwnerRead", "bucket-owner-read"),
    ("BucketOwnerFullControl", "bucket-owner-full-control"),
    ("LogDeliveryWrite", "log-delivery-write"),
];

/// How S3A or EMRFS serves one bucket. No secret is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BucketSettings {
    pub bucket: String,
    /// Whether S3A serves the scheme, and not EMRFS.
    pub is_s3a: bool,
    /// The URL of a VPC endpoint or of another store; `None` for AWS's public endpoints.
    pub endpoint: Option<String>,
    /// The region that S3A names in its signatures; `None` where S3A finds one itself.
    pub region: Option<String>,
    /// Whether the configuration wants the bucket's name in the path, or does not want it there; `None` if it says
    /// nothing. S3A itself then puts the name into the host's name.
    pub path_style: Option<bool>,
    /// Whether requests to an endpoint without a scheme use TLS.
    pub tls: bool,
    pub encryption: BucketEncryption,
    /// The canned ACL of new objects, by the name that S3 knows.
    pub acl: Option<String>,
    /// An ACL that S3A does not know: S3A refuses to serve the bucket.
    pub unknown_acl: Option<String>,
    pub proxy: Option<Proxy>,
    /// The classes that give credentials, if the configuration names any.
    pub credentials_provider: Option<String>,
    /// Whether the configuration contains an access key.
    pub has_access_key: bool,
    /// The role that S3A assumes.
    pub assumed_role: Option<String>,
    pub requester_pays: bool,
    /// The ARN of the access point that stands for the bucket.
    pub access_point: Option<String>,
    /// The checksum that S3A adds to new objects.
    pub create_checksum: Option<String>,
}

/// How objects are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BucketEncryption {
    /// As the bucket does by default.
    #[default]
    OfBucket,
    /// By S3: SSE-S3, SSE-KMS or DSSE-KMS.
    Server(Encryption),
    /// By S3, with a key that each request contains (SSE-C). emr-shs reads no such key.
    CustomerKey,
    /// By the client: S3A's `CSE-KMS` and `CSE-CUSTOM`, EMRFS's client-side encryption.
    Client(String),
    /// A name that S3A does not know: S3A refuses to serve the bucket.
    Unknown(String),
}

/// The proxy between this node and S3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proxy {
    pub host: String,
    /// `None` for the default port of the proxy's scheme.
    pub port: Option<u16>,
    /// Whether the proxy itself speaks TLS.
    pub tls: bool,
    pub user: Option<String>,
    pub domain: Option<String>,
    /// Whether the configuration contains a password.
    pub has_password: bool,
}

impl BucketSettings {
    /// Reads the settings as S3A reads them: `fs.s3a.bucket.NAME.*` overrides `fs.s3a.*`.
    pub fn read(hadoop: &Hadoop, scheme: &str, bucket: &str) -> Self {
        let own = hadoop.for_bucket(bucket);
        let is_on = |key: &str, default: bool| own.get(key).and_then(|value| value.boolean()).unwrap_or(default);
        let tls = is_on("fs.s3a.connection.ssl.enabled", true);
        let is_s3a = hadoop.is_s3a(scheme);
        let acl = pick(is_s3a, own.text("fs.s3a.acl.default"), own.text("fs.s3.canned.acl"));
        let known_acl = acl.as_deref().and_then(|acl| ACLS.iter().find(|(java, _)| *java == acl));
        Self {
            bucket: bucket.into(),
            is_s3a,
            endpoint: own.text("fs.s3a.endpoint").and_then(|endpoint| endpoint_url(&endpoint, tls)),
            // `sdk` leaves the region to the SDK (S3A of Hadoop 3.4).
            region: own.text("fs.s3a.endpoint.region").filter(|region| region != "sdk"),
            path_style: own.get("fs.s3a.path.style.access").and_then(|value| value.boolean()),
            tls,
            encryption: encryption(hadoop, &own, bucket, is_s3a),
            unknown_acl: acl.clone().filter(|_| known_acl.is_none()),
            acl: known_acl.map(|(_, name)| name.to_string()),
            proxy: own.text("fs.s3a.proxy.host").map(|host| Proxy {
                host,
                port: own.get("fs.s3a.proxy.port").and_then(|port| port.number()),
                tls: is_on("fs.s3a.proxy.ssl.enabled", false),
                user: own.text("fs.s3a.proxy.username"),
                domain: own.text("fs.s3a.proxy.domain"),
                has_password: own.has("fs.s3a.proxy.password"),
            }),
            credentials_provider: pick(
                is_s3a,
                own.text("fs.s3a.aws.credentials.provider"),
                own.text("fs.s3.customAWSCredentialsProvider"),
            ),
            has_access_key: own.has("fs.s3a.access.key"),
            assumed_role: own.text("fs.s3a.assumed.role.arn"),
            requester_pays: is_on("fs.s3a.requester.pays.enabled", false)
                || is_on("fs.s3.useRequesterPaysHeader", false),
            access_point: own.text("fs.s3a.accesspoint.arn"),
            create_checksum: own.text("fs.s3a.create.checksum.algorithm"),
        }
    }

    /// Where the bucket is.
    pub(crate) fn store(&self) -> StoreAddress {
        StoreAddress { endpoint: self.endpoint.clone(), path_style: self.path_style }
    }

    /// What a request of emr-shs has in common with one of the node's file system.
    pub(crate) fn request_options(&self) -> RequestOptions {
        RequestOptions {
            encryption: match &self.encryption {
                BucketEncryption::Server(encryption) => Some(encryption.clone()),
                _ => None,
            },
            acl: self.acl.clone(),
            requester_pays: self.requester_pays,
        }
    }
}

/// The value for the file system that serves the scheme; else the other one. EMR's S3A reads some keys of EMRFS too
/// (`docs/emr.md §6.2`).
fn pick<T>(is_s3a: bool, s3a: Option<T>, emrfs: Option<T>) -> Option<T> {
    if is_s3a { s3a.or(emrfs) } else { emrfs.or(s3a) }
}

/// The URL of an endpoint; `None` for AWS's own.
fn endpoint_url(endpoint: &str, tls: bool) -> Option<String> {
    let is_own = partition::is_aws(endpoint) && !endpoint.contains("vpce");
    let scheme = if tls { "https" } else { "http" };
    match endpoint.contains("://") {
        _ if is_own => None,
        true => Some(endpoint.into()),
        false => Some(format!("{scheme}://{endpoint}")),
    }
}

/// The encryption of new objects (`docs/emr.md §6.2`). Of S3A's two names for a key the newer one wins, and a key for
/// the bucket alone wins over both.
fn encryption(hadoop: &Hadoop, own: &Hadoop, bucket: &str, is_s3a: bool) -> BucketEncryption {
    let named = |new: &str, old: &str| {
        let of_bucket = |name: &str| hadoop.secret_of_bucket(bucket, name);
        let of_all = |name: &str| hadoop.text(&format!("fs.s3a.{name}"));
        of_bucket(new).or_else(|| of_bucket(old)).or_else(|| of_all(new)).or_else(|| of_all(old))
    };
    let key = || named("encryption.key", "server-side-encryption.key").or_else(|| own.emrfs_encryption()?.key);
    let server = |algorithm: &str, key| BucketEncryption::Server(Encryption { algorithm: algorithm.into(), key });
    let s3a = named("encryption.algorithm", "server-side-encryption-algorithm");
    let s3a = s3a.map(|name| match name.to_ascii_uppercase().as_str() {
        "AES256" => server("AES256", None),
        "SSE-KMS" => server("aws:kms", key()),
        "DSSE-KMS" => server("aws:kms:dsse", key()),
        "SSE-C" => BucketEncryption::CustomerKey,
        name if name.starts_with("CSE-") => BucketEncryption::Client(name.into()),
        _ => BucketEncryption::Unknown(name),
    });
    let by_client = own.get("fs.s3.cse.enabled").and_then(|on| on.boolean()) == Some(true);
    let emrfs = own.emrfs_encryption().map(BucketEncryption::Server);
    let emrfs = by_client.then(|| BucketEncryption::Client("CSE".into())).or(emrfs);
    pick(is_s3a, s3a, emrfs).unwrap_or_default()
}
