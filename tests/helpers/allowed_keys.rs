//! Which keys and presigned URLs the gateway may give. The rules are stated as regular expressions, apart from the parser
//! that they check. A fuzz target uses them, too.

use aws_credential_types::Credentials;
use emr_shs::testing::{BucketAddress, Signer, StoreAddress};
use emr_shs::testing::{LogDirectory, LogRequest, container_directory, route, stored_name};
use regex::Regex;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// The cluster of containers whose path names none.
pub const CLUSTER: &str = "j-FOUND0CLUSTER";

/// What may follow the prefix of a log URI. The groups `application` and `container` must name the same application.
static ALLOWED: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    let file = r"(?<file>[^/]+)";
    let id = "[a-z0-9]{8,64}";
    let label = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?";
    let label_of_spark = "spark(?:-+[a-z0-9]+)+";
    [
        format!(
            r"\Aj-[A-Z0-9]{{5,32}}/containers/application_(?<application>[1-9][0-9]{{0,18}}_[0-9]{{4,10}})/container_(?:e[0-9]{{1,10}}_)?(?<container>[0-9]+_[0-9]+)_[0-9]{{1,6}}_[0-9]{{1,10}}/{file}\z"
        ),
        format!(
            r"\Aapplications/{id}/jobs/{id}/(?:attempts/[0-9]{{1,6}}/)?(?:SPARK_DRIVER|SPARK_EXECUTOR/[0-9]{{1,10}})/{file}\z"
        ),
        format!(
            r"\A{id}/jobs/{id}/containers/(?:(?<spark>{label_of_spark}(?:\.{label})*)/)?(?<pod>{label}(?:\.{label})*)/{file}\z"
        ),
    ]
    .map(|pattern| Regex::new(&pattern).unwrap())
});

/// Fails unless the key is that of a log below the prefix.
pub fn assert_key(key: &str, prefix: &str) {
    let below = key.strip_prefix(prefix).unwrap_or_else(|| panic!("{key:?} is not below {prefix:?}"));
    let found = ALLOWED.iter().find_map(|pattern| pattern.captures(below));
    let found = found.unwrap_or_else(|| panic!("{key:?} has none of the shapes"));
    let group = |name| found.name(name).map(|group| group.as_str());
    assert_eq!(group("application"), group("container"), "{key:?}");
    for pod in [group("spark"), group("pod")].into_iter().flatten() {
        assert!(pod.len() <= 253, "{key:?}");
    }
    let file = group("file").unwrap();
    assert!(file.len() <= 255 + ".gz".len(), "{key:?}");
    assert!(!file.starts_with(char::is_whitespace) && !file.ends_with(char::is_whitespace), "{key:?}");
    for name in below.split('/') {
        assert!(!matches!(name, "" | "." | ".."), "{key:?}");
    }
    for c in below.chars() {
        assert!(c >= ' ' && !('\u{7f}'..='\u{9f}').contains(&c) && c != '\\', "{key:?}");
        // The characters of Bidi_Control, the separators of lines and paragraphs, and the byte order mark.
        let odd = [0x61c, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e];
        let odd = odd.into_iter().chain([0x2066, 0x2067, 0x2068, 0x2069, 0xfeff]);
        assert!(!odd.into_iter().any(|odd| odd == u32::from(c)), "{key:?}");
    }
}

/// A bucket and the signer of its URLs.
pub struct Bucket {
    /// The scheme and host of its URLs.
    origin: &'static str,
    /// Empty or `/bucket`.
    path: &'static str,
    signer: Signer,
}

impl Bucket {
    /// A bucket whose name is in the host of its URLs, and one whose name is in their paths.
    pub fn both() -> [Self; 2] {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(TIME);
        let credentials = Credentials::new("ASIAEXAMPLE", "secret", Some("to/ken=".into()), None, "test");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        [
            ("acme-logs", "https://acme-logs.s3.eu-west-3.amazonaws.com", ""),
            ("acme.logs", "https://s3.eu-west-3.amazonaws.com", "/acme.logs"),
        ]
        .map(|(bucket, origin, path)| {
            let address = runtime.block_on(BucketAddress::of(bucket, "eu-west-3", &StoreAddress::default())).unwrap();
            Self { origin, path, signer: Signer::new(address, "eu-west-3", &credentials, time) }
        })
    }
}

/// 2026-11-22T18:00:00Z
const TIME: u64 = 1_795_370_400;
const OVERRIDES: &[(&str, &str)] =
    &[("response-content-encoding", "gzip"), ("response-content-type", "text/plain; charset=utf-8")];
/// The query of a presigned URL without its signature. Nothing in it comes from a request.
const QUERY: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
    &X-Amz-Credential=ASIAEXAMPLE%2F20261122%2Feu-west-3%2Fs3%2Faws4_request\
    &X-Amz-Date=20261122T180000Z\
    &X-Amz-Expires=300\
    &X-Amz-Security-Token=to%2Fken%3D\
    &X-Amz-SignedHeaders=host\
    &response-content-encoding=gzip\
    &response-content-type=text%2Fplain%3B%20charset%3Dutf-8\
    &X-Amz-Signature=";

/// Fails unless the URL is that of exactly this object, with exactly this query.
pub fn assert_url(bucket: &Bucket, key: &str) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(TIME);
    let url = bucket.signer.url("GET", key, OVERRIDES, time, Duration::from_secs(300));
    let rest = url.strip_prefix(bucket.origin).unwrap_or_else(|| panic!("{url} is not at {}", bucket.origin));
    let (path, query) = rest.split_once('?').unwrap();
    assert_eq!(decoded_once(path), format!("{}/{key}", bucket.path), "{url}");
    let signature = query.strip_prefix(QUERY).unwrap_or_else(|| panic!("another query in {url}"));
    assert!(signature.len() == 64 && signature.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{url}");
}

/// Decodes a path. Fails at a character that must be encoded, and at a name that a browser takes for a step to the parent.
fn decoded_once(path: &str) -> String {
    for name in path.split('/') {
        assert!(!matches!(name.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."), "{path}");
    }
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap();
                u8::try_from(digit() * 16 + digit()).unwrap()
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => byte,
            _ => panic!("{path}"),
        });
    }
    String::from_utf8(decoded).unwrap()
}

/// Routes and signs a request. Fails if the result is more than the rules allow. Returns the key if the request is one for
/// a log.
pub fn assert_harmless(path: &str, query: Option<&str>, prefixes: &[&str], buckets: &[Bucket]) -> Option<String> {
    let route = route(path, query, prefixes)?.ok()?;
    let LogRequest::Log(place, file) = route.request else { return None };
    let directory = match place {
        LogDirectory::Container(container) => container_directory(CLUSTER, &container),
        LogDirectory::Directory(directory) => directory,
    };
    let mut first = None;
    for (i, prefix) in prefixes.iter().enumerate() {
        // If the path names no log URI, the gateway searches all of them.
        if route.log_uri.is_some_and(|under| under != i) {
            continue;
        }
        // A log that is stored without `.gz` is served, too.
        for name in [stored_name(&file), file.clone()] {
            let key = format!("{prefix}{directory}{name}");
            assert_key(&key, prefix);
            if first.is_none() {
                for bucket in buckets {
                    assert_url(bucket, &key);
                }
                first = Some(key);
            }
        }
    }
    Some(first.expect("a log is below one of the prefixes"))
}
