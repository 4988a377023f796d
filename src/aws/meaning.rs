//! What the answers of S3 that have no [`S3Failure`](super::error::S3Failure) of their own mean to people, and what people
//! can type.

/// The meaning of an answer.
pub(super) struct Meaning {
    /// S3's codes, or the HTTP statuses of answers without a code.
    codes: &'static [&'static str],
    /// What S3's message contains.
    words: &'static str,
    pub(super) sentence: &'static str,
    pub(super) hint: &'static str,
}

/// From top to bottom, so a more specific row comes first.
const MEANINGS: &[Meaning] = &[
    Meaning {
        codes: &["InvalidRequest"],
        words: "Object Lock",
        sentence: "the bucket keeps objects with Object Lock, so a request that writes needs a checksum",
        hint: "jobs write event logs there only if their S3 client sends a checksum, which depends on the version of Hadoop; else choose a bucket without a default retention",
    },
    Meaning {
        codes: &["SlowDown", "ServiceUnavailable", "503", "InternalError", "500", "RequestTimeout"],
        words: "",
        sentence: "S3 is busy or limits the rate of requests to this prefix",
        hint: "run the same command again in some minutes; if that is frequent, give the event logs a prefix, or a bucket, that other programs do not use",
    },
    Meaning {
        codes: &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"],
        words: "",
        sentence: "the credentials of this node have expired",
        hint: "if the shell sets AWS_SESSION_TOKEN or AWS_PROFILE, take that away; else the metadata service gives old credentials: aws sts get-caller-identity",
    },
    Meaning {
        codes: &["InvalidAccessKeyId", "InvalidToken", "UnrecognizedClientException"],
        words: "",
        sentence: "the store does not know the credentials of this node",
        hint: "credentials belong to one partition of AWS, or to one store: compare them with the endpoint: aws sts get-caller-identity; a store of your own needs keys of its own in fs.s3a.access.key and fs.s3a.secret.key",
    },
    Meaning {
        codes: &["SignatureDoesNotMatch", "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody"],
        words: "",
        sentence: "the signature or the content that arrived is not the one that was sent",
        hint: "the secret key is wrong, or a proxy between this node and S3 changes requests; name the endpoint as the store calls itself",
    },
    Meaning {
        codes: &["AccessControlListNotSupported"],
        words: "",
        sentence: "the bucket does not accept ACLs, because its owner owns every object in it",
        hint: "take fs.s3a.acl.default out of core-site.xml for this bucket; jobs meet the same refusal",
    },
    Meaning {
        codes: &[
            "PermanentRedirect",
            "TemporaryRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "InvalidRegionName",
            "301",
            "307",
        ],
        words: "",
        sentence: "the bucket is in another region than the one that was asked",
        hint: "take back what emr-shs remembers: sudo emr-shs install --region= --endpoint-url=; or name the bucket's own region, which this prints: aws s3api get-bucket-location --bucket BUCKET",
    },
    Meaning {
        codes: &["InvalidBucketName"],
        words: "",
        sentence: "no bucket of this store can have that name",
        hint: "check the name: 3 to 63 lower-case letters, digits, dots and hyphens",
    },
    Meaning {
        codes: &[
            "KMS.DisabledException",
            "KMS.KMSInvalidStateException",
            "KMS.NotFoundException",
            "KMS.InvalidStateException",
        ],
        words: "",
        sentence: "KMS cannot use the key with which the bucket encrypts",
        hint: "the key is disabled, pending deletion or gone: aws kms describe-key --key-id KEY; to use it again: aws kms cancel-key-deletion, then aws kms enable-key",
    },
    Meaning {
        codes: &["InvalidArgument"],
        words: "must be made over a secure connection",
        sentence: "S3 encrypts with KMS only over TLS",
        hint: "use an endpoint that begins with https://",
    },
    Meaning {
        codes: &["InvalidArgument", "InvalidEncryptionAlgorithmError", "InvalidRequest"],
        words: "ncryption",
        sentence: "S3 does not accept the encryption that core-site.xml asks for",
        hint: "compare fs.s3a.encryption.algorithm and fs.s3a.encryption.key with the bucket: aws s3api get-bucket-encryption --bucket BUCKET",
    },
    Meaning {
        codes: &["AllAccessDisabled", "AccountProblem", "NotSignedUp", "InvalidPayer"],
        words: "",
        sentence: "AWS has closed the bucket or the account",
        hint: "ask the owner of the account, who can ask AWS's support",
    },
    Meaning {
        codes: &["MethodNotAllowed", "NotImplemented", "405", "501"],
        words: "",
        sentence: "the store does not know this request",
        hint: "check that the endpoint is one of S3's interface, and not of a web site or of a console",
    },
    Meaning { codes: &["407"], words: "", sentence: "the proxy on the way wants a login", hint: PROXY_LOGIN },
];

/// How to name the login of a proxy so that neither `ps` nor the log of sudo shows the password.
pub(super) const PROXY_LOGIN: &str = "name the login in the proxy's URL, and type the URL where no list of processes, no history and no log of sudo shows it: read -rs HTTPS_PROXY && export HTTPS_PROXY waits for http://USER:PASSWORD@PROXY:PORT; then: sudo --preserve-env=HTTPS_PROXY emr-shs …; for S3A: fs.s3a.proxy.username and fs.s3a.proxy.password";

/// The meaning of an answer, if the table contains it.
pub(super) fn meaning(status: Option<u16>, code: &str, message: &str) -> Option<&'static Meaning> {
    let status = status.map(|status| status.to_string()).unwrap_or_default();
    let code = if code.is_empty() { status.as_str() } else { code };
    MEANINGS.iter().find(|row| row.codes.contains(&code) && message.contains(row.words))
}

/// The kinds of policies that S3 can name in the message of a refusal, and how people call them.
const POLICIES: &[(&str, &str)] = &[
    ("resource-based policy", "the policy of the bucket, of its KMS key or of an access point"),
    ("VPC endpoint policy", "the policy of the VPC endpoint through which the request came"),
    ("service control policy", "a service control policy of the organization"),
    ("resource control policy", "a resource control policy of the organization"),
    ("permissions boundary", "the permissions boundary of the role"),
    ("session policy", "the policy of the session"),
];

/// The policy that denied a request, if S3's message names it.
pub(super) fn denying_policy(message: &str) -> Option<&'static str> {
    POLICIES.iter().find(|(words, _)| message.contains(words)).map(|(_, policy)| *policy)
}

#[cfg(test)]
mod tests {
    use super::{denying_policy, meaning};

    #[test]
    fn each_answer_has_a_sentence_and_something_to_type() {
        let table = [
            (
                400,
                "InvalidRequest",
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
                "Object Lock",
            ),
            (503, "SlowDown", "Please reduce your request rate.", "busy"),
            (503, "", "", "busy"),
            (400, "ExpiredToken", "The provided token has expired.", "expired"),
            (
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
                "does not know the credentials",
            ),
            (403, "SignatureDoesNotMatch", "", "signature"),
            (400, "AccessControlListNotSupported", "The bucket does not allow ACLs", "ACLs"),
            (
                301,
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified endpoint.",
                "another region",
            ),
            (
                400,
                "IllegalLocationConstraintException",
                "The eu-west-3 location constraint is incompatible",
                "another region",
            ),
            (301, "", "", "another region"),
            (400, "InvalidBucketName", "The specified bucket is not valid.", "that name"),
            (400, "KMS.DisabledException", "arn:aws:kms:… is disabled.", "KMS cannot use"),
            (400, "KMS.KMSInvalidStateException", "… is pending deletion.", "KMS cannot use"),
            (
                400,
                "InvalidArgument",
                "Requests specifying Server Side Encryption with AWS KMS managed keys must be made over a secure connection.",
                "over TLS",
            ),
            (
                400,
                "InvalidArgument",
                "The encryption method specified is not supported",
                "does not accept the encryption",
            ),
            (405, "MethodNotAllowed", "", "does not know this request"),
            (407, "", "", "wants a login"),
        ];
        for (status, code, message, wanted) in table {
            let found = meaning(Some(status), code, message).map(|meaning| meaning.sentence).unwrap_or_default();
            assert!(found.contains(wanted), "{status} {code} {message}: {found}");
        }
        assert!(meaning(Some(400), "InvalidRequest", "Missing required header").is_none());
        assert!(meaning(Some(403), "AccessDenied", "Access Denied").is_none());
    }

    #[test]
    fn the_policy_that_denies_is_named() {
        let message = "User: arn:aws:sts::1:assumed-role/R/i-1 is not authorized to perform: s3:PutObject on resource: \"arn:aws:s3:::b/k\" with an explicit deny in a resource-based policy";
        assert!(denying_policy(message).is_some_and(|policy| policy.contains("the policy of the bucket")));
        assert_eq!(denying_policy("Access Denied"), None);
    }
}
