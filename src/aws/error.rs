//! The meaning of an error of the S3 client. Only this module classifies errors of the S3 client by S3's
//! status, code and message. To support a new answer of S3: add its meaning here, and its words to the
//! module that shows it.

use super::identity::why_no_credentials;
use super::meaning::{Meaning, denying_policy, meaning};
use crate::dns::NotResolved;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::types::StorageClass;
use aws_sdk_s3::types::error::InvalidObjectState;
use rustls::CertificateError;
use std::error::Error;

/// Why S3 did not do what a request asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum S3Failure {
    /// The credentials do not allow `action`. It is the request's own action, or the action of KMS that
    /// S3 needs for the request and calls in the name of the credentials; then `kms` is true.
    Denied {
        action: &'static str,
        kms: bool,
    },
    /// KMS cannot use the object's key for any caller: the key is disabled, pending deletion, …
    KmsKey,
    /// This node's clock differs from S3's by more than 15 minutes, so that S3 refuses its signatures.
    ClockSkew,
    NoSuchBucket,
    /// There is no such object. HeadBucket answers the same for a bucket that does not exist.
    NotFound,
    /// The object must be restored before it can be read. `class` is its storage class and, if S3 names
    /// one, its access tier.
    Archived {
        class: String,
    },
    /// The requested range lies outside the object. Every range lies outside an empty object.
    InvalidRange,
    /// The request was signed for another region than the bucket's.
    WrongRegion,
    /// The bucket has Object Lock, so that a request that writes needs a checksum.
    ObjectLock,
    /// S3 has too many requests, or fails by itself. A later request can succeed.
    Busy,
    /// S3 gave no answer: the text says why.
    NoAnswer(String),
    /// The request was not sent for lack of credentials: the text says why.
    NoCredentials(String),
    /// S3 refused the request for another reason.
    Other,
}

/// A failure beside the answer of S3 that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct S3Error {
    pub(crate) failure: S3Failure,
    /// The status of the HTTP answer. `None` if there was no answer.
    status: Option<u16>,
    code: String,
    message: String,
    /// The bucket's region, if the answer names it.
    pub(crate) region: Option<String>,
    /// Why there was no answer.
    pub(crate) obstacle: Obstacle,
    /// What answered, if that was not S3 but a server on the way.
    pub(crate) foreign: Option<String>,
}

/// What stands between this node and a server that gives no answer, as far as the error tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The server's name has no address.
    Dns,
    /// No certificate authority that this node trusts has signed the server's certificate.
    UnknownAuthority,
    /// The server's certificate is that of an authority itself.
    AuthorityAsServer,
    /// The server's certificate has expired, or is not valid yet.
    NotValidNow,
    /// The server's certificate is for another name.
    OtherName,
    /// The proxy wants a login.
    ProxyLogin,
    /// The proxy opens no connection to the server.
    Proxy,
    #[default]
    Unknown,
}

impl Obstacle {
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        for cause in chain(error) {
            if cause.is::<NotResolved>() {
                return Self::Dns;
            }
            // The SDK's client keeps the error's type to itself.
            match cause.to_string().as_str() {
                "tunnel error: proxy authorization required" => return Self::ProxyLogin,
                "tunnel error: unsuccessful" | "tunnel error: unexpected end of file" => return Self::Proxy,
                _ => {}
            }
            match cause.downcast_ref() {
                Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                    return Self::UnknownAuthority;
                }
                Some(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => return Self::OtherName,
                Some(rustls::Error::InvalidCertificate(
                    CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. },
                )) => return Self::NotValidNow,
                // rustls keeps the type of this one to itself.
                Some(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                    if other.0.to_string() == "CaUsedAsEndEntity" =>
                {
                    return Self::AuthorityAsServer;
                }
                _ => {}
            }
        }
        Self::Unknown
    }

    /// What is wrong with the certificate of a host, and what to do; `None` if it is another obstacle.
    pub(super) fn certificate(&self, host: &str) -> Option<(String, &'static str)> {
        let (wrong, fix) = match self {
            Self::UnknownAuthority => (
                "is signed by an unknown authority",
                "a proxy that opens TLS connections, or a store of your own, shows such a certificate; if you trust it, put the certificate of its authority into /etc/pki/ca-trust/source/anchors/, then: sudo update-ca-trust; Java has a store of its own",
            ),
            Self::AuthorityAsServer => (
                "is that of an authority itself (CA:TRUE)",
                "emr-shs does not accept such a certificate for a server, whoever trusts it, although Java does: give the server a certificate without CA:TRUE",
            ),
            Self::NotValidNow => (
                "has expired, or is not valid yet",
                "compare the dates of the certificate with the clock of this node: timedatectl status; curl -vI https://HOST",
            ),
            Self::OtherName => (
                "is for other names",
                "a bucket name with dots does not fit AWS's wildcard, and an endpoint must be named as in its certificate",
            ),
            Self::Dns | Self::ProxyLogin | Self::Proxy | Self::Unknown => return None,
        };
        Some((format!("the certificate of {host} {wrong}"), fix))
    }
}

impl S3Error {
    /// Classifies an error. `action` is the IAM action that the request needs.
    pub(crate) fn new<E>(error: &SdkError<E>, action: &'static str) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        let code = error.code().unwrap_or_default().to_string();
        let message = error.message().unwrap_or_default().to_string();
        let foreign = error.raw_response().and_then(foreign_server);
        let failure = match status {
            Some(_) if foreign.is_some() => S3Failure::Other,
            Some(status) => match classify(status, &code, &message, action) {
                S3Failure::Archived { class } => S3Failure::Archived { class: storage_class(error).unwrap_or(class) },
                failure => failure,
            },
            None => match credentials_failure(error) {
                Some(why) => S3Failure::NoCredentials(why),
                None => S3Failure::NoAnswer(root_causes(error)),
            },
        };
        let region = error.raw_response().and_then(|answer| answer.headers().get("x-amz-bucket-region"));
        let obstacle = Obstacle::of(error);
        Self { failure, status, code, message, region: region.map(str::to_string), obstacle, foreign }
    }

    /// S3's message, without its code.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// S3's code and message, or the status if S3 gave neither: `AccessDenied Access Denied`.
    pub(crate) fn words(&self) -> String {
        match (self.status, format!("{} {}", self.code, self.message).trim()) {
            (Some(status), "") => status.to_string(),
            (_, words) => words.to_string(),
        }
    }

    /// What the answer means, if it is one of the answers that need no failure of their own.
    pub(super) fn meaning(&self) -> Option<&'static Meaning> {
        meaning(self.status, &self.code, &self.message)
    }

    /// Whether the object is encrypted with a key that the request has to bring (SSE-C), and did not.
    pub(crate) fn lacks_customer_key(&self) -> bool {
        self.status == Some(400) && self.code == "InvalidRequest" && self.message.contains("Server Side Encryption")
    }

    /// The policy that denied the request, if S3 names it.
    pub(super) fn denying_policy(&self) -> Option<&'static str> {
        denying_policy(&self.message)
    }

    /// S3's status, code and message: `503 SlowDown Please reduce your request rate.`
    pub(crate) fn answer(&self) -> String {
        let status = self.status.map(|status| status.to_string()).unwrap_or_default();
        [status.as_str(), &self.code, &self.message].join(" ").trim().to_string()
    }
}

/// The server that sent a page for people. S3 answers in XML, and proxies, firewalls and login pages in HTML.
fn foreign_server(answer: &HttpResponse) -> Option<String> {
    let header = |name| answer.headers().get(name).map(str::to_string);
    if !header("content-type")?.to_ascii_lowercase().starts_with("text/html") {
        return None;
    }
    let page = String::from_utf8_lossy(answer.body().bytes().unwrap_or_default()).into_owned();
    let title = page.split("<title>").nth(1).and_then(|rest| rest.split('<').next());
    let title = title.map(|title| format!(" “{}”", title.trim())).unwrap_or_default();
    let by = header("via").or(header("server")).map(|by| format!(" by {by}")).unwrap_or_default();
    Some(format!("{}, a page in HTML{title}{by}", answer.status().as_u16()))
}

/// Reads an answer. The storage class of an archived object is not known here.
fn classify(status: u16, code: &str, message: &str, action: &'static str) -> S3Failure {
    match (status, code, kms_action(message)) {
        (_, "RequestTimeTooSkewed", _) => S3Failure::ClockSkew,
        // Also answered with 403, but no policy helps.
        (_, "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "ExpiredToken" | "InvalidToken", _) => S3Failure::Other,
        (_, "AllAccessDisabled" | "AccountProblem" | "XAmzContentSHA256Mismatch", _) => S3Failure::Other,
        (_, _, Some(action)) => S3Failure::Denied { action, kms: true },
        (_, "InvalidObjectState", _) => S3Failure::Archived { class: "archived".into() },
        (_, code, _) if code.starts_with("KMS.") => S3Failure::KmsKey,
        (403, _, _) | (_, "AccessDenied", _) => S3Failure::Denied { action, kms: false },
        (_, "NoSuchBucket", _) => S3Failure::NoSuchBucket,
        (404, _, _) => S3Failure::NotFound,
        (416, _, _) => S3Failure::InvalidRange,
        (400, "InvalidRequest", _) if message.contains("Object Lock") => S3Failure::ObjectLock,
        (429 | 500 | 503, _, _) | (_, "SlowDown" | "RequestTimeout", _) => S3Failure::Busy,
        // The answer to a HEAD request has no code.
        (301 | 307, _, _) | (400, "" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _) => {
            S3Failure::WrongRegion
        }
        _ => S3Failure::Other,
    }
}

/// The action that KMS refused, if S3's message is about one.
fn kms_action(message: &str) -> Option<&'static str> {
    let named = ["kms:Decrypt", "kms:GenerateDataKey"].into_iter().find(|action| message.contains(action));
    // KMS does not tell other accounts whether the key exists.
    named.or(message.contains("ciphertext refers to a customer master key").then_some("kms:Decrypt"))
}

/// `GLACIER`, `DEEP_ARCHIVE`, `INTELLIGENT_TIERING, ARCHIVE_ACCESS`, …
fn storage_class<E: Error + 'static>(error: &SdkError<E>) -> Option<String> {
    let error: &(dyn Error + 'static) = error.as_service_error()?;
    let GetObjectError::InvalidObjectState(state) = error.downcast_ref()? else { return None };
    let InvalidObjectState { storage_class, access_tier, .. } = state;
    let class = storage_class.as_ref().map_or("archived", StorageClass::as_str);
    let tier = access_tier.as_ref().map(|tier| format!(", {}", tier.as_str())).unwrap_or_default();
    Some(format!("{class}{tier}"))
}

/// Why a request lacked credentials, in one line. `None` if that is not why it failed.
pub(crate) fn credentials_failure(error: &(dyn Error + 'static)) -> Option<String> {
    let text = root_causes(error);
    let short = why_no_credentials(&text);
    let is_cause = short.is_some() || chain(error).any(|cause| cause.is::<CredentialsError>());
    is_cause.then(|| short.unwrap_or(text))
}

/// Whether a request was not sent because this process had no thread left. Then the error says nothing of the server.
pub(crate) fn lacks_a_thread(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|cause| cause.downcast_ref().is_some_and(NotResolved::lacks_a_thread))
}

/// An error and all its causes, in one line. Where a name has no address, that says it all.
pub(crate) fn root_causes(error: &(dyn Error + 'static)) -> String {
    if let Some(cause) = chain(error).find(|cause| cause.is::<NotResolved>()) {
        return cause.to_string();
    }
    let mut texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // An I/O error is the wrapper of another error, and gives only the cause of that one as its own.
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => (*error).source(),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{Obstacle, S3Error, S3Failure, classify};
    use crate::aws::endpoint::StoreAddress;
    use aws_config::SdkConfig;
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
    use aws_sdk_s3::config::http::HttpResponse;
    use aws_sdk_s3::error::{ErrorMetadata, SdkError};
    use aws_sdk_s3::operation::get_object::GetObjectError;
    use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Error;
    use aws_sdk_s3::primitives::SdkBody;
    use aws_sdk_s3::types::error::InvalidObjectState;
    use aws_sdk_s3::types::{IntelligentTieringAccessTier, StorageClass};
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use rustls::CertificateError;

    #[test]
    fn each_answer_has_one_meaning() {
        let denied = |action| S3Failure::Denied { action, kms: false };
        let kms = |action| S3Failure::Denied { action, kms: true };
        let decrypt =
            "User: arn:aws:sts::1:assumed-role/R/i-1 is not authorized to perform: kms:Decrypt on resource: k";
        let encrypt =
            "User: arn:aws:sts::1:assumed-role/R/i-1 is not authorized to perform: kms:GenerateDataKey on resource: k";
        let hidden = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.";
        let table = [
            (403, "AccessDenied", "Access Denied", denied("s3:PutObject")),
            (403, "", "", denied("s3:PutObject")),
            (403, "AllAccessDisabled", "All access to this object has been disabled.", S3Failure::Other),
            (400, "InvalidRequest", "… with Object Lock parameters", S3Failure::ObjectLock),
            (400, "InvalidRequest", "Missing required header", S3Failure::Other),
            (400, "IllegalLocationConstraintException", "", S3Failure::WrongRegion),
            (503, "SlowDown", "Please reduce your request rate.", S3Failure::Busy),
            (500, "InternalError", "We encountered an internal error. Please try again.", S3Failure::Busy),
            (
                400,
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to.",
                S3Failure::Busy,
            ),
            (403, "AccessDenied", decrypt, kms("kms:Decrypt")),
            (403, "AccessDenied", encrypt, kms("kms:GenerateDataKey")),
            (400, "AccessDenied", hidden, kms("kms:Decrypt")),
            (400, "KMS.DisabledException", "arn:aws:kms:… is disabled.", S3Failure::KmsKey),
            (400, "KMS.KMSInvalidStateException", "… is pending deletion.", S3Failure::KmsKey),
            (403, "RequestTimeTooSkewed", "The difference … is too large.", S3Failure::ClockSkew),
            (403, "SignatureDoesNotMatch", "", S3Failure::Other),
            (403, "InvalidAccessKeyId", "", S3Failure::Other),
            (400, "ExpiredToken", "The provided token has expired.", S3Failure::Other),
            (403, "InvalidObjectState", "", S3Failure::Archived { class: "archived".into() }),
            (404, "NoSuchBucket", "The specified bucket does not exist", S3Failure::NoSuchBucket),
            (404, "NoSuchKey", "The specified key does not exist.", S3Failure::NotFound),
            (404, "", "", S3Failure::NotFound),
            (416, "InvalidRange", "", S3Failure::InvalidRange),
            (301, "PermanentRedirect", "", S3Failure::WrongRegion),
            (307, "TemporaryRedirect", "", S3Failure::WrongRegion),
            (400, "AuthorizationHeaderMalformed", "", S3Failure::WrongRegion),
            (400, "", "", S3Failure::WrongRegion),
            (400, "InvalidBucketName", "", S3Failure::Other),
        ];
        for (status, code, message, wanted) in table {
            assert_eq!(classify(status, code, message, "s3:PutObject"), wanted, "{status} {code} {message}");
        }
    }

    fn answer(status: u16) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::empty())
    }

    #[test]
    fn an_error_carries_the_words_of_s3() {
        let slow = ErrorMetadata::builder().code("SlowDown").message("Please reduce your request rate.").build();
        let mut response = answer(503);
        response.headers_mut().insert("x-amz-bucket-region", "eu-west-3");
        let error = SdkError::service_error(ListObjectsV2Error::generic(slow), response);
        let error = S3Error::new(&error, "s3:ListBucket");
        assert_eq!(error.failure, S3Failure::Busy);
        assert_eq!(error.words(), "SlowDown Please reduce your request rate.");
        assert_eq!(error.answer(), "503 SlowDown Please reduce your request rate.");
        assert_eq!(error.region.as_deref(), Some("eu-west-3"));
        let bare = SdkError::service_error(GetObjectError::generic(ErrorMetadata::builder().build()), answer(403));
        let bare = S3Error::new(&bare, "s3:GetObject");
        assert_eq!((bare.words(), bare.answer()), ("403".into(), "403".into()));
    }

    #[test]
    fn a_page_in_html_is_no_answer_of_s3() {
        let page = "<html><head><title>Access Denied by policy</title></head></html>";
        let mut response = HttpResponse::new(403.try_into().unwrap(), SdkBody::from(page));
        response.headers_mut().insert("content-type", "text/html; charset=utf-8");
        response.headers_mut().insert("via", "1.1 proxy.corp (squid)");
        let error = SdkError::service_error(GetObjectError::generic(ErrorMetadata::builder().build()), response);
        let error = S3Error::new(&error, "s3:GetObject");
        assert_eq!(error.failure, S3Failure::Other);
        let wanted = "403, a page in HTML “Access Denied by policy” by 1.1 proxy.corp (squid)";
        assert_eq!(error.foreign.as_deref(), Some(wanted));
    }

    #[test]
    fn a_certificate_of_an_unknown_authority_is_told_from_other_obstacles() {
        let obstacle = |error: CertificateError| {
            let io = std::io::Error::other(rustls::Error::InvalidCertificate(error));
            Obstacle::of(&SdkError::<GetObjectError>::dispatch_failure(ConnectorError::io(io.into())))
        };
        assert_eq!(obstacle(CertificateError::UnknownIssuer), Obstacle::UnknownAuthority);
        assert_eq!(obstacle(CertificateError::NotValidForName), Obstacle::OtherName);
        assert_eq!(obstacle(CertificateError::Expired), Obstacle::NotValidNow);
        assert_eq!(obstacle(CertificateError::Revoked), Obstacle::Unknown);
        let (says, fix) = Obstacle::UnknownAuthority.certificate("s3.corp").unwrap();
        assert_eq!(says, "the certificate of s3.corp is signed by an unknown authority");
        assert!(fix.contains("update-ca-trust"));
        let host = crate::aws::endpoint::host;
        assert_eq!(host(Some("https://store.example.com:9000/"), None), "store.example.com:9000");
        assert_eq!(host(None, Some("cn-north-1")), "s3.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn an_archived_object_has_its_storage_class() {
        let class = |state: InvalidObjectState| {
            let error = SdkError::service_error(GetObjectError::InvalidObjectState(state), answer(403));
            S3Error::new(&error, "s3:GetObject").failure
        };
        let meta = || ErrorMetadata::builder().code("InvalidObjectState").build();
        let deep = InvalidObjectState::builder().storage_class(StorageClass::DeepArchive).meta(meta()).build();
        assert_eq!(class(deep), S3Failure::Archived { class: "DEEP_ARCHIVE".into() });
        let tiered = InvalidObjectState::builder()
            .storage_class(StorageClass::IntelligentTiering)
            .access_tier(IntelligentTieringAccessTier::ArchiveAccess)
            .meta(meta());
        assert_eq!(class(tiered.build()), S3Failure::Archived { class: "INTELLIGENT_TIERING, ARCHIVE_ACCESS".into() });
    }

    #[derive(Debug)]
    struct Without(&'static str);

    impl ProvideCredentials for Without {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(Err(CredentialsError::not_loaded(self.0)))
        }
    }

    /// The failure of a request with this provider of credentials. Nothing listens at the endpoint.
    fn sent(provider: Option<Without>) -> S3Failure {
        let runtime = crate::aws::config::runtime().unwrap();
        let mut config = SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("eu-west-3"))
            .retry_config(aws_config::retry::RetryConfig::disabled());
        config = match provider {
            Some(provider) => config.credentials_provider(SharedCredentialsProvider::new(provider)),
            None => config.credentials_provider(SharedCredentialsProvider::new(
                aws_credential_types::Credentials::new("id", "secret", None, None, "test"),
            )),
        };
        let config =
            crate::aws::endpoint::builder(&config.build(), &StoreAddress::at(Some("http://127.0.0.1:1")), None).build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let error = runtime.block_on(client.list_objects_v2().bucket("b").send()).unwrap_err();
        S3Error::new(&error, "s3:ListBucket").failure
    }

    #[test]
    fn a_request_that_was_not_answered_says_why() {
        let why = |failure| match failure {
            S3Failure::NoCredentials(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(sent(Some(Without("no profile")))).contains("no profile"));
        let chain = "Ec2InstanceMetadata: the credential provider was not enabled: could not communicate with IMDS: a: timed out";
        assert_eq!(why(sent(Some(Without(chain)))), "the metadata service does not answer: timed out");
        let unanswered = sent(None);
        assert!(matches!(&unanswered, S3Failure::NoAnswer(why) if why.contains("refused")), "{unanswered:?}");
    }
}
