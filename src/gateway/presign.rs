//! Presigned URLs: Signature Version 4 in the query.
//!
//! aws-sigv4 derives the key and signs. This module builds the text that it signs, and keeps the
//! parts that are the same in all URLs of a day (the signing key, the encoded token), because signing
//! is most of the work of a redirect.

use super::credentials::Session;
use crate::aws::endpoint::StoreAddress;
use anyhow::{Context, Result, anyhow};
use aws_credential_types::Credentials;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// The characters that SigV4 percent-encodes in a query.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The characters that SigV4 percent-encodes in an object's key: slashes stay.
const KEY: &AsciiSet = &VALUE.remove(b'/');

/// Encodes a value for a query, as SigV4 requires.
pub(super) fn encode_value(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}

/// The address of a bucket for a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketAddress {
    /// `https://bucket.s3.eu-west-3.amazonaws.com`, or `https://s3.eu-west-3.amazonaws.com/bucket`.
    pub base: String,
    /// The `Host` header that a browser sends.
    host: String,
    /// The beginning of the path: empty or `/bucket`.
    path: String,
}

impl BucketAddress {
    /// Uses the SDK's endpoint rules: they know every partition, bucket names with dots, VPC endpoints.
    pub async fn of(bucket: &str, region: &str, store: &StoreAddress) -> Result<Self> {
        let params = Params::builder()
            .bucket(bucket)
            .region(region)
            .set_endpoint(store.endpoint.clone())
            .force_path_style(store.is_by_path())
            .build()
            .with_context(|| format!("the bucket {bucket} has no address"))?;
        let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.map_err(|e| anyhow!("{e}"))?;
        Self::from_url(endpoint.url()).with_context(|| format!("“{}” is not the URL of a bucket", endpoint.url()))
    }

    fn from_url(url: &str) -> Option<Self> {
        let base = url.trim_end_matches('/');
        let (scheme, rest) = base.split_once("://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // A browser does not send the default port, and the Host header is signed.
        let default_port = match scheme {
            "https" => ":443",
            _ => ":80",
        };
        let host = host.strip_suffix(default_port).unwrap_or(host);
        Some(Self { base: base.into(), host: host.into(), path: path.into() })
    }
}

/// Signs URLs of one bucket with one session's credentials, on one day.
pub struct Signer {
    address: BucketAddress,
    /// Days since 1970.
    day: u64,
    /// `20261122/eu-west-3/s3/aws4_request`
    scope: String,
    signing_key: Vec<u8>,
    /// The encoded parameters that sort before the date.
    credential: String,
    /// `&X-Amz-Security-Token=…`; empty for credentials without a token.
    token: String,
}

impl Signer {
    /// Signs on the day (UTC) of `time`.
    pub fn new(address: BucketAddress, region: &str, credentials: &Credentials, time: SystemTime) -> Self {
        let scope = format!("{}/{region}/s3/aws4_request", date(time));
        let signing_key = generate_signing_key(credentials.secret_access_key(), time, region, "s3");
        let id = encode_value(&format!("{}/{scope}", credentials.access_key_id()));
        Self {
            address,
            day: day(time),
            scope,
            signing_key: signing_key.as_ref().to_vec(),
            credential: format!("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={id}"),
            token: credentials
                .session_token()
                .map(|t| format!("&X-Amz-Security-Token={}", encode_value(t)))
                .unwrap_or_default(),
        }
    }

    fn can_sign_at(&self, time: SystemTime) -> bool {
        day(time) == self.day
    }

    /// The URL of an object (`GET`) or of its headers (`HEAD`), valid from `time` on for `lifetime`.
    /// `overrides` are the response headers that S3 shall send, sorted by name; each name begins with
    /// `response-`.
    pub fn url(
        &self,
        method: &str,
        key: &str,
        overrides: &[(&str, &str)],
        time: SystemTime,
        lifetime: Duration,
    ) -> String {
        let Self { address, scope, credential, token, .. } = self;
        let stamp = self.stamp(time);
        let seconds = lifetime.as_secs().to_string();
        // Allocates once and formats nothing, because this is most of the work of a redirect.
        let mut url = String::with_capacity(address.base.len() + key.len() + credential.len() + token.len() + 400);
        push(&mut url, &[&address.base, "/"]);
        url.extend(utf8_percent_encode(key, KEY));
        let path = address.base.len() - address.path.len()..url.len();
        push(&mut url, &["?", credential, "&X-Amz-Date=", &stamp, "&X-Amz-Expires=", &seconds, token]);
        url.push_str("&X-Amz-SignedHeaders=host");
        for (name, value) in overrides {
            push(&mut url, &["&", name, "="]);
            url.extend(utf8_percent_encode(value, VALUE));
        }
        let query = &url[path.end + 1..];
        let mut request = Sha256::new();
        for part in [method, "\n", &url[path], "\n", query, "\nhost:", &address.host, "\n\nhost\nUNSIGNED-PAYLOAD"] {
            request.update(part);
        }
        let mut text = String::with_capacity(256);
        push(&mut text, &["AWS4-HMAC-SHA256\n", &stamp, "\n", scope, "\n"]);
        for byte in request.finalize() {
            text.extend([byte >> 4, byte & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)])));
        }
        push(&mut url, &["&X-Amz-Signature=", &calculate_signature(&self.signing_key, text.as_bytes())]);
        url
    }

    /// `20261122T180000Z`, for a time on the signer's day.
    fn stamp(&self, time: SystemTime) -> String {
        let second = seconds(time) % 86_400;
        let (day, hour, minute, second) = (&self.scope[..8], second / 3600, second / 60 % 60, second % 60);
        format!("{day}T{hour:02}{minute:02}{second:02}Z")
    }
}

fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
}

/// Caches the signer for the current credentials.
#[derive(Default)]
pub(super) struct LatestSigner(RwLock<Option<(Arc<Session>, Arc<Signer>)>>);

impl LatestSigner {
    /// The cached signer, or a new one if the credentials or the day changed.
    pub(super) fn get(
        &self,
        session: &Arc<Session>,
        now: SystemTime,
        address: &BucketAddress,
        region: &str,
    ) -> Arc<Signer> {
        if let Some((signed_for, signer)) = &*self.0.read().unwrap_or_else(PoisonError::into_inner)
            && Arc::ptr_eq(signed_for, session)
            && signer.can_sign_at(now)
        {
            return signer.clone();
        }
        let signer = Arc::new(Signer::new(address.clone(), region, &session.credentials, now));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((session.clone(), signer.clone()));
        signer
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn day(time: SystemTime) -> u64 {
    seconds(time) / 86_400
}

/// `20261122`
fn date(time: SystemTime) -> String {
    let mut text = DateTime::from(time).fmt(DateTimeFormat::DateTime).unwrap_or_default();
    text.truncate(10);
    text.retain(|c| c != '-');
    text
}
