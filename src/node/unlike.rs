//! The settings with which S3A or EMRFS asks S3 in another way than emr-shs.
//!
//! emr-shs's own requests show what jobs and the history server are allowed only while they are the requests of S3A or
//! EMRFS. This module does not list the settings with which they are not: there are hundreds, and each release adds some.
//! It lists the settings that emr-shs follows and those that no request shows. Every other setting can make a difference,
//! and Hadoop's own client is asked.

use super::hadoop::Hadoop;
use super::s3a::{ACLS, BucketEncryption, BucketSettings};
use std::fmt;

/// Why S3's answers to emr-shs do not show what Hadoop's clients are allowed.
pub(crate) enum Doubt {
    /// With these settings S3A or EMRFS sends what emr-shs does not send, or refuses the bucket.
    Settings(Vec<String>),
    /// Hadoop has credentials that emr-shs cannot try, or to which S3 refuses something.
    Credentials,
    /// emr-shs does not know what these settings do.
    Unfamiliar(Vec<String>),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(keys) => write!(f, "emr-shs cannot do what Hadoop's settings say ({})", keys.join(", ")),
            Self::Credentials => write!(f, "Hadoop has credentials of its own for S3"),
            Self::Unfamiliar(keys) => write!(f, "Hadoop has settings that emr-shs does not know ({})", keys.join(", ")),
        }
    }
}

/// A setting of which emr-shs knows that it does not share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unlike {
    /// The property, as the configuration names it.
    pub(crate) key: String,
    /// A part of a sentence.
    pub(crate) why: String,
}

/// With which values a setting makes no difference.
enum Shape {
    /// With any: emr-shs follows the setting, or S3A takes a default instead of a value that it does not know.
    Any,
    /// With a number. S3A refuses the bucket for a text that is none, and for a number that is too low.
    Number,
    /// With one of these words.
    Word(&'static [&'static str]),
    /// With `false`.
    Off,
    /// With directories where EMR puts buffers. Hadoop's client tries others.
    Buffer,
}
use Shape::{Any, Buffer, Number, Off, Word};

/// Settings of S3A, without `fs.s3a.`. A name that ends in a dot is the beginning of names.
const S3A: &[(&str, Shape)] = &[
    // emr-shs follows these: `BucketSettings`, `Credentials` and `Proxies` read them.
    ("access.key", Any),
    ("secret.key", Any),
    ("session.token", Any),
    ("aws.credentials.provider", Any),
    ("security.credential.provider.path", Any),
    ("assumed.role.", Any),
    ("endpoint", Any),
    ("endpoint.region", Any),
    ("path.style.access", Any),
    ("connection.ssl.enabled", Any),
    ("encryption.algorithm", Any),
    ("encryption.key", Any),
    ("server-side-encryption-algorithm", Any),
    ("server-side-encryption.key", Any),
    ("acl.default", Any),
    ("requester.pays.enabled", Any),
    ("proxy.port", Number),
    ("proxy.", Any),
    ("accesspoint.arn", Any),
    ("create.checksum.algorithm", Any),
    // S3A reads no such key.
    ("customAWSCredentialsProvider", Any),
    ("impl", Any),
    // How fast, how often, in which pieces.
    ("attempts.maximum", Number),
    ("block.size", Number),
    ("bulk.delete.page.size", Number),
    ("connection.acquisition.timeout", Number),
    ("connection.establish.timeout", Number),
    ("connection.expect.continue", Any),
    ("connection.idle.time", Number),
    ("connection.keepalive", Any),
    ("connection.maximum", Number),
    ("connection.part.upload.timeout", Number),
    ("connection.request.timeout", Number),
    ("connection.timeout", Number),
    ("connection.ttl", Number),
    ("executor.capacity", Number),
    ("fast.buffer.size", Number),
    ("fast.upload", Any),
    ("fast.upload.active.blocks", Number),
    ("fast.upload.buffer", Word(&["disk", "array", "bytebuffer"])),
    ("input.async.drain.threshold", Number),
    ("io.rate.limit", Number),
    ("list.version", Number),
    ("max.total.tasks", Number),
    ("multiobjectdelete.enable", Any),
    ("multipart.purge", Any),
    ("multipart.purge.age", Number),
    ("multipart.size", Number),
    ("multipart.threshold", Number),
    ("multipart.uploads.enabled", Any),
    ("paging.maximum", Number),
    ("prefetch.block.count", Number),
    ("prefetch.block.size", Number),
    ("prefetch.enabled", Any),
    ("readahead.range", Number),
    ("retry.http.5xx.errors", Any),
    ("retry.interval", Any),
    ("retry.limit", Number),
    ("retry.throttle.interval", Any),
    ("retry.throttle.limit", Number),
    ("socket.recv.buffer", Number),
    ("socket.send.buffer", Number),
    ("threads.core", Number),
    ("threads.keepalivetime", Number),
    ("threads.max", Number),
    ("vectored.", Number),
    ("aimd.", Any),
    ("experimental.", Any),
    ("metadata.cache.", Any),
    ("open.", Any),
    ("performance.flags", Any),
    ("positionedRead.", Any),
    ("readFullyIntoBuffers.", Any),
    // What the history server and event logs do not use: output of jobs, renamed directories, S3 Select.
    ("authoritative.path", Any),
    ("committer.", Any),
    ("create.multipart", Any),
    ("create.performance", Any),
    ("create.performance.enabled", Any),
    ("directory.marker.retention", Any),
    ("directory.operations.purge.uploads", Any),
    ("downgrade.syncable.exceptions", Any),
    ("etag.checksum.enabled", Any),
    ("checksum.validation", Any),
    ("classloader.isolation", Any),
    ("optimized.copy.from.local.enabled", Any),
    ("select.", Any),
    // What S3A tells, and what it looks at by itself.
    ("audit.enabled", Any),
    ("audit.referrer.", Any),
    ("audit.reject.out.of.span.operations", Any),
    ("authorization.audit.enabled", Any),
    ("authorization.ugi.groupName.enabled", Any),
    ("bucket.probe", Word(&["0", "1", "2"])),
    ("buffer.dir", Buffer),
    ("change.detection.mode", Word(&["server", "client", "warn", "none"])),
    ("change.detection.source", Word(&["etag"])),
    ("change.detection.version.required", Any),
    ("emrfs.compatibility.enable", Any),
    ("impl.disable.cache", Any),
    ("ssl.channel.mode", Word(&["default", "default_jsse", "default_jsse_with_gcm"])),
    ("user.agent.prefix", Any),
    // What has no effect while it is off.
    ("access.grants.enabled", Off),
    ("access.grants.", Any),
    ("s3accessgrants.enabled", Off),
    ("s3accessgrants.", Any),
    ("accesspoint.required", Off),
    ("endpoint.fips", Off),
    ("encryption.cse.", Any),
    ("cse.", Any),
    ("s3express.create.session", Any),
    ("s3guard.", Any),
];

/// Settings of EMRFS, without `fs.s3.` or `fs.s3n.`.
const EMRFS: &[(&str, Shape)] = &[
    // emr-shs follows these.
    ("customAWSCredentialsProvider", Any),
    ("enableServerSideEncryption", Any),
    ("serverSideEncryption.kms.keyId", Any),
    ("canned.acl", Any),
    ("useRequesterPaysHeader", Any),
    ("cse.", Any),
    ("impl", Any),
    // How fast, how often, in which pieces.
    ("aimd.", Any),
    ("connection.", Any),
    ("delete.", Any),
    ("externalStagedFiles.", Any),
    ("getObject.", Any),
    ("instanceProfile.", Any),
    ("listFiles.", Any),
    ("listFilesInOrder.", Any),
    ("maxConnections", Any),
    ("maxRetries", Any),
    ("metadata.cache.", Any),
    ("multipart.", Any),
    ("block.size", Any),
    ("open.", Any),
    ("positionedRead.", Any),
    ("readFullyIntoBuffers.", Any),
    ("region.", Any),
    ("rename.", Any),
    ("requestStatistics.", Any),
    ("retryPeriodSeconds", Any),
    ("seekStrategy", Any),
    ("threadpool.", Any),
    // What EMRFS looks at by itself.
    ("authorization.audit.enabled", Any),
    ("authorization.ugi.groupName.enabled", Any),
    ("buckets.create.", Any),
    ("buffer.dir", Any),
    ("configuration.load.", Any),
    ("create.allowFileNameEndsWithFolderSuffix", Any),
    ("filestatus.", Any),
    ("filestatuscache.", Any),
    ("folderObject.", Any),
    ("listObjects.encodingType", Any),
    ("sts.", Any),
    ("useDirectoryHeaderAsFolderObject", Any),
    // What has no effect while it is off.
    ("consistent", Off),
    ("consistent.", Any),
    ("s3AccessGrants.enabled", Off),
    ("s3AccessGrants.", Any),
];

/// The settings of EMRFS that EMR's S3A takes for its own and emr-shs does not follow (`docs/emr.md §6.2`).
const TAKEN_BY_S3A: [&str; 8] = [
    "authorization.roleMapping",
    "credentialsResolverClass",
    "serverSideEncryption.kms.customEncryptionContext",
    "signerType",
    "storageClass",
    "s3AccessGrants.enabled",
    "endpoint",
    "ssl.enabled",
];

impl Shape {
    fn fits(&self, value: &str, hadoop: &Hadoop) -> bool {
        let is_number = |text: &str| {
            let digits = text.trim_end_matches(|c: char| "kKmMgG".contains(c));
            text.len() <= digits.len() + 1 && digits.parse::<i32>().is_ok_and(|number| number > 0)
        };
        match self {
            Any => true,
            Number => value.split(',').all(|part| is_number(part.trim())),
            Word(words) => words.iter().any(|word| value.eq_ignore_ascii_case(word)),
            Off => value.eq_ignore_ascii_case("false"),
            Buffer => {
                let of_hadoop = hadoop.text("hadoop.tmp.dir");
                let is_usual = |dir: &str| {
                    ["/mnt", "/tmp", "${hadoop.tmp.dir}"].iter().any(|usual| dir.starts_with(usual))
                        || of_hadoop.as_ref().is_some_and(|usual| dir.starts_with(usual.as_str()))
                };
                value.split(',').all(|dir| is_usual(dir.trim()))
            }
        }
    }
}

/// Whether a setting makes a difference, by its name in a list and its value.
fn matters(list: &[(&str, Shape)], name: &str, value: &str, hadoop: &Hadoop) -> bool {
    let exact = list.iter().find(|(known, _)| *known == name);
    let known = exact.or_else(|| list.iter().find(|(known, _)| known.ends_with('.') && name.starts_with(known)));
    known.is_none_or(|(_, shape)| !shape.fits(value, hadoop))
}

/// The settings of a bucket that emr-shs does not know, or knows with other values.
pub(crate) fn unfamiliar(hadoop: &Hadoop, scheme: &str, bucket: &str) -> Vec<String> {
    let is_s3a = hadoop.is_s3a(scheme);
    let own = hadoop.for_bucket(bucket);
    let takes_emrfs = own.get("fs.s3a.emrfs.compatibility.enable").and_then(|on| on.boolean()) != Some(false);
    let differs = |key: &str| {
        let value = own.text(key)?;
        if let Some(name) = key.strip_prefix("fs.s3a.") {
            let is_of_buckets = name.starts_with("bucket.") && name != "bucket.probe";
            // S3A knows a name of this form for secrets alone, and takes it then.
            let is_long = name.starts_with("fs.s3a.");
            let own_key = own_key(hadoop, bucket, name);
            return (is_s3a && !is_of_buckets && !is_long && matters(S3A, name, &value, &own)).then_some(own_key);
        }
        let name = key.strip_prefix("fs.s3.").or_else(|| key.strip_prefix("fs.s3n."))?;
        let name = match name.strip_prefix("bucket.") {
            Some(rest) => rest.strip_prefix(bucket)?.strip_prefix('.')?,
            None => name,
        };
        let is_read = !is_s3a || takes_emrfs && TAKEN_BY_S3A.contains(&name);
        (is_read && matters(EMRFS, name, &value, &own)).then(|| key.to_string())
    };
    let names: Vec<String> = own.names().map(str::to_string).collect();
    let mut keys: Vec<String> = names.iter().filter_map(|key| differs(key)).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// The settings of a bucket that emr-shs reads and cannot follow. Whoever adds a field to `BucketSettings` says here whether
/// emr-shs's requests follow it.
pub(crate) fn unusable(hadoop: &Hadoop, scheme: &str, bucket: &str) -> Vec<Unlike> {
    let BucketSettings {
        bucket: _,
        is_s3a,
        endpoint: _,
        region: _,
        path_style: _,
        tls: _,
        encryption,
        acl: _,
        unknown_acl,
        proxy: _,
        credentials_provider: _,
        has_access_key: _,
        assumed_role: _,
        requester_pays: _,
        access_point,
        create_checksum,
    } = BucketSettings::read(hadoop, scheme, bucket);
    let key = |s3a: &[&str], emrfs: &str| {
        let of_s3a = s3a.iter().map(|name| own_key(hadoop, bucket, name)).find(|key| hadoop.has(key));
        let of_emrfs = Some(format!("fs.s3.{emrfs}")).filter(|key| hadoop.has(key));
        if is_s3a { of_s3a.or(of_emrfs) } else { of_emrfs.or(of_s3a) }.unwrap_or_default()
    };
    let algorithm = || key(&["encryption.algorithm", "server-side-encryption-algorithm"], "cse.enabled");
    let encryption = match encryption {
        BucketEncryption::OfBucket | BucketEncryption::Server(_) => None,
        BucketEncryption::CustomerKey => Some("emr-shs has no key of a customer, which SSE-C needs".to_string()),
        BucketEncryption::Client(_) => Some("emr-shs does not encrypt objects itself".into()),
        BucketEncryption::Unknown(name) => {
            Some(format!("found {name}; S3A knows AES256, SSE-KMS, DSSE-KMS, SSE-C, CSE-KMS and CSE-CUSTOM"))
        }
    };
    let encryption = encryption.map(|why| Unlike { key: algorithm(), why });
    let acl = unknown_acl.map(|found| {
        let of_s3 = ACLS.iter().find(|(_, name)| *name == found).map(|(java, _)| *java);
        let wanted = of_s3.map_or_else(|| ACLS.map(|(java, _)| java).join(", "), str::to_string);
        Unlike {
            key: key(&["acl.default"], "canned.acl"),
            why: format!("found {found}; the names are those of Java: {wanted}"),
        }
    });
    let of_s3a = |name: &str, value: Option<String>, why: &str| {
        value.filter(|_| is_s3a).map(|_| Unlike { key: own_key(hadoop, bucket, name), why: why.into() })
    };
    let point = of_s3a("accesspoint.arn", access_point, "emr-shs asks the bucket, not its access point");
    let checksum =
        of_s3a("create.checksum.algorithm", create_checksum, "emr-shs's new objects come without such a checksum");
    [encryption, acl, point, checksum].into_iter().flatten().collect()
}

/// The property that gives a bucket one setting of S3A.
fn own_key(hadoop: &Hadoop, bucket: &str, name: &str) -> String {
    let of_bucket = [format!("fs.s3a.bucket.{bucket}.fs.s3a.{name}"), format!("fs.s3a.bucket.{bucket}.{name}")];
    of_bucket.into_iter().find(|key| hadoop.has(key)).unwrap_or_else(|| format!("fs.s3a.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3A_CLASS: (&str, &str) = ("fs.s3.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem");
    const EMRFS_CLASS: (&str, &str) = ("fs.s3.impl", "com.amazon.ws.emr.hadoop.fs.EmrFileSystem");

    fn hadoop(class: (&str, &str), properties: &[(&str, &str)]) -> Hadoop {
        let all = [class].into_iter().chain(properties.iter().copied());
        Hadoop::default().with_spark_keys(all.map(|(key, value)| (format!("spark.hadoop.{key}"), Some(value.into()))))
    }

    #[test]
    fn a_setting_that_emr_shs_does_not_know_can_make_a_difference() {
        for (key, value) in [
            ("fs.s3a.create.storage.class", "GLACIER"),
            ("fs.s3a.signing-algorithm", "S3SignerType"),
            ("fs.s3a.custom.signers", "Other:com.example.Signer"),
            ("fs.s3a.encryption.context", "project=acme"),
            ("fs.s3a.audit.execution.interceptors", "com.example.Interceptor"),
            ("fs.s3a.delegation.token.binding", "com.example.Binding"),
            ("fs.s3a.s3.client.factory.impl", "com.example.Factory"),
            ("fs.s3a.endpoint.fips", "true"),
            ("fs.s3a.access.grants.enabled", "true"),
            ("fs.s3a.authorization.roleMapping", "/etc/roles.json"),
            ("fs.s3a.change.detection.source", "versionid"),
            ("fs.s3a.metadatastore.impl", "org.apache.hadoop.fs.s3a.s3guard.DynamoDBMetadataStore"),
            ("fs.s3a.of.next.year", "on"),
            // S3A refuses the bucket for these values.
            ("fs.s3a.connection.maximum", "many"),
            ("fs.s3a.connection.maximum", "0"),
            ("fs.s3a.connection.timeout", "60s"),
            ("fs.s3a.multipart.size", "99999999999G"),
            ("fs.s3a.fast.upload.buffer", "disc"),
            ("fs.s3a.buffer.dir", "/mnt/s3,/srv/private"),
            // EMR's S3A takes these from EMRFS.
            ("fs.s3.storageClass", "GLACIER"),
            ("fs.s3.authorization.roleMapping", "{}"),
            ("fs.s3n.endpoint", "http://127.0.0.1:9"),
            ("fs.s3.bucket.acme.storageClass", "GLACIER"),
            ("fs.s3a.bucket.acme.create.storage.class", "GLACIER"),
        ] {
            assert_eq!(unfamiliar(&hadoop(S3A_CLASS, &[(key, value)]), "s3", "acme"), [key], "{value}");
        }
        for (key, value) in [
            ("fs.s3.signerType", "S3SignerType"),
            ("fs.s3.requestHandler.classNames", "com.example.Handler"),
            ("fs.s3.consistent", "true"),
            ("fs.s3n.endpoint", "http://127.0.0.1:9"),
            ("fs.s3.of.next.year", "on"),
        ] {
            assert_eq!(unfamiliar(&hadoop(EMRFS_CLASS, &[(key, value)]), "s3", "acme"), [key], "{value}");
        }
    }

    #[test]
    fn settings_that_no_request_shows_ask_nobody() {
        let s3a = [
            ("fs.s3a.endpoint", "http://127.0.0.1:9"),
            ("fs.s3a.access.key", "a"),
            ("fs.s3a.bucket.acme.fs.s3a.secret.key", "b"),
            ("fs.s3a.acl.default", "BucketOwnerRead"),
            ("fs.s3a.bucket.probe", "0"),
            ("fs.s3a.connection.maximum", "200"),
            ("fs.s3a.multipart.size", "64M"),
            ("fs.s3a.vectored.read.min.seek.size", "128K"),
            ("fs.s3a.fast.upload.buffer", "bytebuffer"),
            ("fs.s3a.buffer.dir", "/mnt/s3, ${hadoop.tmp.dir}/s3a"),
            ("fs.s3a.committer.magic.enabled", "true"),
            ("fs.s3a.access.grants.enabled", "False"),
            ("fs.s3a.create.storage.class", ""),
            // About other buckets, or read by nobody.
            ("fs.s3a.bucket.other.create.storage.class", "GLACIER"),
            ("fs.s3.bucket.other.storageClass", "GLACIER"),
            ("fs.s3a.bucket.acme.fs.s3a.create.storage.class", "GLACIER"),
            ("fs.s3.of.next.year", "on"),
            ("fs.s3.buffer.dir", "/mnt/s3"),
            ("fs.s3.consistent", "true"),
        ];
        let nothing: [&str; 0] = [];
        assert_eq!(unfamiliar(&hadoop(S3A_CLASS, &s3a), "s3", "acme"), nothing);
        assert_eq!(unfamiliar(&hadoop(S3A_CLASS, &s3a), "s3", "other").len(), 2);
        let emrfs = [
            ("fs.s3.buffer.dir", "/mnt/s3"),
            ("fs.s3.getObject.initialSocketTimeoutMilliseconds", "2000"),
            ("fs.s3.consistent", "false"),
            ("fs.s3.consistent.retryPeriodSeconds", "60"),
            ("fs.s3n.multipart.uploads.enabled", "true"),
            ("fs.s3.enableServerSideEncryption", "true"),
            // Another file system's.
            ("fs.s3a.create.storage.class", "GLACIER"),
        ];
        assert_eq!(unfamiliar(&hadoop(EMRFS_CLASS, &emrfs), "s3", "acme"), nothing);
        let off = [("fs.s3a.emrfs.compatibility.enable", "false"), ("fs.s3.storageClass", "GLACIER")];
        assert_eq!(unfamiliar(&hadoop(S3A_CLASS, &off), "s3", "acme"), nothing);
    }

    #[test]
    fn what_emr_shs_reads_and_cannot_follow_is_named_with_its_key() {
        let named = |class, properties: &[(&str, &str)]| {
            let found = unusable(&hadoop(class, properties), "s3", "acme");
            found.into_iter().map(|Unlike { key, why }| format!("{key}: {why}")).collect::<Vec<_>>().join("\n")
        };
        for (class, key, value, wanted) in [
            (S3A_CLASS, "fs.s3a.acl.default", "bucket-owner-full-control", "Java: BucketOwnerFullControl"),
            (S3A_CLASS, "fs.s3a.bucket.acme.acl.default", "all", "Private, PublicRead"),
            (S3A_CLASS, "fs.s3.canned.acl", "bucket-owner-read", "Java: BucketOwnerRead"),
            (EMRFS_CLASS, "fs.s3.canned.acl", "bucket-owner-read", "Java: BucketOwnerRead"),
            (S3A_CLASS, "fs.s3a.encryption.algorithm", "aws:kms", "found aws:kms; S3A knows"),
            (S3A_CLASS, "fs.s3a.bucket.acme.fs.s3a.encryption.algorithm", "SSE-C", "no key of a customer"),
            (S3A_CLASS, "fs.s3a.server-side-encryption-algorithm", "cse-kms", "does not encrypt"),
            (EMRFS_CLASS, "fs.s3.cse.enabled", "true", "does not encrypt"),
            (
                S3A_CLASS,
                "fs.s3a.bucket.acme.accesspoint.arn",
                "arn:aws:s3:eu-west-3:111122223333:accesspoint/a",
                "access point",
            ),
            (S3A_CLASS, "fs.s3a.create.checksum.algorithm", "CRC32C", "checksum"),
        ] {
            let text = named(class, &[(key, value)]);
            assert!(
                text.starts_with(&format!("{key}: ")) && text.contains(wanted) && text.lines().count() == 1,
                "{key}: {text}"
            );
        }
        let fine = [("fs.s3a.acl.default", "Private"), ("fs.s3a.bucket.other.acl.default", "all")];
        assert_eq!(named(S3A_CLASS, &fine), "");
    }
}
