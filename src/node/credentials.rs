//! With which credentials the node's file systems ask S3 for one bucket.

use super::Node;
use super::hadoop::Hadoop;
use super::unlike::{self, Doubt};
use crate::aws::config::{Keys, TimeoutProfile};
use crate::aws::uri::EventLogs;
use std::collections::BTreeMap;

/// The providers that S3A asks without a setting, in this order.
const DEFAULT_PROVIDERS: &str = "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider,\
    org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider,\
    software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider,\
    org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider";
/// Providers that give the credentials of the instance profile, where no variable of the environment contains others.
const OF_INSTANCE_PROFILE: [&str; 7] = [
    "org.apache.hadoop.fs.s3a.auth.IAMInstanceCredentialsProvider",
    "com.amazonaws.auth.InstanceProfileCredentialsProvider",
    "com.amazonaws.auth.EC2ContainerCredentialsProviderWrapper",
    "com.amazonaws.auth.DefaultAWSCredentialsProviderChain",
    "software.amazon.awssdk.auth.credentials.InstanceProfileCredentialsProvider",
    "software.amazon.awssdk.auth.credentials.ContainerCredentialsProvider",
    "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
];

/// Variables of spark-env.sh with which providers find other credentials.
const VARIABLES: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];

/// Whose credentials Hadoop uses.
pub(crate) enum Credentials {
    /// Those of the instance profile, as emr-shs does.
    InstanceProfile,
    /// Keys of the configuration.
    Keys(Keys),
    /// Others, such as those of an assumed role. Only Hadoop's own client can tell what they are allowed.
    Others,
}

impl Credentials {
    fn of(hadoop: &Hadoop, scheme: &str, bucket: &str, env: &BTreeMap<String, String>) -> Self {
        let own = hadoop.for_bucket(bucket);
        let is_on = |key: &str| own.get(key).and_then(|value| value.boolean()) == Some(true);
        let has_variables = VARIABLES.iter().any(|name| env.contains_key(*name));
        if !hadoop.is_s3a(scheme) {
            let provider = own.text("fs.s3.customAWSCredentialsProvider");
            let is_other = provider.is_some_and(|class| !OF_INSTANCE_PROFILE.contains(&class.as_str()))
                || role_mapping(&own, false).is_some()
                || own.text("fs.s3.credentialsResolverClass").is_some()
                || is_on("fs.s3.s3AccessGrants.enabled")
                || has_variables;
            return if is_other { Self::Others } else { Self::InstanceProfile };
        }
        // Keys can lie in encrypted files.
        let stores = ["hadoop.security.credential.provider.path", "fs.s3a.security.credential.provider.path"];
        let knows_emrfs_keys = reads_emrfs_keys(&own);
        let has_grants = is_on("fs.s3a.access.grants.enabled") || is_on("fs.s3a.s3accessgrants.enabled");
        let has_resolver = own.text("fs.s3a.credentials.resolver").is_some()
            || knows_emrfs_keys && own.text("fs.s3.credentialsResolverClass").is_some();
        if has_variables
            || has_grants
            || knows_emrfs_keys && is_on("fs.s3.s3AccessGrants.enabled")
            || has_resolver
            || role_mapping(&own, true).is_some()
            || stores.iter().any(|key| own.text(key).is_some())
        {
            return Self::Others;
        }
        let keys = |token: Option<String>| {
            Some(Self::Keys(Keys { id: own.text("fs.s3a.access.key")?, secret: own.text("fs.s3a.secret.key")?, token }))
        };
        let providers = own.text("fs.s3a.aws.credentials.provider").unwrap_or_else(|| DEFAULT_PROVIDERS.into());
        // The first that has credentials counts.
        for provider in providers.split(',').map(str::trim) {
            let found = match provider {
                "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider" => {
                    own.text("fs.s3a.session.token").and_then(|token| keys(Some(token)))
                }
                "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider" => keys(None),
                // `has_variables` is about these.
                "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"
                | "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider" => None,
                provider if OF_INSTANCE_PROFILE.contains(&provider) => Some(Self::InstanceProfile),
                _ => Some(Self::Others),
            };
            if let Some(found) = found {
                return found;
            }
        }
        Self::Others
    }
}

/// Whether EMR's S3A takes over what EMRFS is told to do (`docs/emr.md §6.2`).
fn reads_emrfs_keys(hadoop: &Hadoop) -> bool {
    hadoop.get("fs.s3a.emrfs.compatibility.enable").and_then(|value| value.boolean()) != Some(false)
}

/// The key that makes the file system act under other roles, depending on who asks and for which object.
fn role_mapping(hadoop: &Hadoop, is_s3a: bool) -> Option<&'static str> {
    let keys: &[&str] = match is_s3a {
        true if reads_emrfs_keys(hadoop) => &["fs.s3a.authorization.roleMapping", "fs.s3.authorization.roleMapping"],
        true => &["fs.s3a.authorization.roleMapping"],
        false => &["fs.s3.authorization.roleMapping"],
    };
    keys.iter().copied().find(|key| hadoop.text(key).is_some())
}

impl Node {
    /// The key of Hadoop's configuration that gives jobs other roles than that of the instance profile, depending on who
    /// asks and for which object.
    pub(crate) fn role_mapping(&self) -> Option<&'static str> {
        role_mapping(&self.hadoop, self.hadoop.is_s3a("s3"))
    }

    /// Why S3's answers to emr-shs do not show what Hadoop's clients are allowed in the directory, as far as this shows
    /// without Hadoop's own client; `None` if they show it. emr-shs tries keys of the configuration; other credentials, and
    /// settings that it does not follow, show nothing. `hadoop` is the configuration that the clients will have. Without `timeouts`,
    /// S3 is not asked, and keys show nothing either.
    pub(crate) fn doubt(
        &self,
        hadoop: &Hadoop,
        uri: &EventLogs,
        overridden: (Option<&str>, Option<&str>),
        timeouts: Option<TimeoutProfile>,
        only_reads: bool,
    ) -> Option<Doubt> {
        let unusable = unlike::unusable(hadoop, &uri.scheme, &uri.bucket);
        if !unusable.is_empty() {
            return Some(Doubt::Settings(unusable.into_iter().map(|unlike| unlike.key).collect()));
        }
        let credentials = Credentials::of(hadoop, &uri.scheme, &uri.bucket, &self.spark.env);
        let unfamiliar = unlike::unfamiliar(hadoop, &uri.scheme, &uri.bucket);
        match credentials {
            Credentials::Others => Some(Doubt::Credentials),
            _ if !unfamiliar.is_empty() => Some(Doubt::Unfamiliar(unfamiliar)),
            Credentials::InstanceProfile => None,
            Credentials::Keys(keys) => {
                let are_allowed = |timeouts| self.are_allowed(keys, uri, overridden, timeouts, only_reads);
                (!timeouts.is_some_and(are_allowed)).then_some(Doubt::Credentials)
            }
        }
    }

    /// Whether S3 allows keys of the configuration what Hadoop's clients need in the directory.
    fn are_allowed(
        &self,
        keys: Keys,
        uri: &EventLogs,
        (region, endpoint): (Option<&str>, Option<&str>),
        timeouts: TimeoutProfile,
        only_reads: bool,
    ) -> bool {
        let connection = self.s3_connection(uri, region, endpoint).with_keys(keys);
        let Ok(mut s3) = connection.open(timeouts) else { return false };
        if s3.find_bucket(uri).is_err() || s3.first_object(uri).is_err() {
            return false;
        }
        let probe = if only_reads { return true } else { s3.probe(uri) };
        [probe.put, probe.list, probe.get, probe.delete].iter().all(|answer| matches!(answer, Some(Ok(()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3A: &str = "org.apache.hadoop.fs.s3a.";

    /// What a configuration of S3A comes to: `profile`, the key and its token, or `others`.
    fn of(properties: &[(&str, &str)]) -> String {
        let class = format!("{S3A}S3AFileSystem");
        let all = [("fs.s3.impl", class.as_str())].into_iter().chain(properties.iter().copied());
        let all = all.map(|(key, value)| (format!("spark.hadoop.{key}"), Some(value.to_string())));
        let hadoop = Hadoop::default().with_spark_keys(all);
        match Credentials::of(&hadoop, "s3", "acme", &BTreeMap::new()) {
            Credentials::InstanceProfile => "profile".into(),
            Credentials::Keys(Keys { id, token, .. }) => format!("{id} {}", token.unwrap_or_default()),
            Credentials::Others => "others".into(),
        }
    }

    #[test]
    fn the_first_provider_that_has_credentials_counts() {
        let key = [("fs.s3a.access.key", "a"), ("fs.s3a.secret.key", "b")];
        let token = ("fs.s3a.session.token", "t");
        let provider = |classes: &'static str| [("fs.s3a.aws.credentials.provider", classes)];
        assert_eq!(of(&[]), "profile");
        assert_eq!(of(&key), "a ");
        assert_eq!(of(&[&key[..], &[token]].concat()), "a t");
        assert_eq!(of(&[token, key[0]]), "profile", "a key without its secret is none");
        let simple = "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider";
        assert_eq!(of(&[&key[..], &[token], &provider(simple)].concat()), "a ");
        assert_eq!(of(&provider(simple)), "others", "nobody has credentials");
        for class in [
            "org.apache.hadoop.fs.s3a.auth.AssumedRoleCredentialProvider",
            "org.apache.hadoop.fs.s3a.AnonymousAWSCredentialsProvider",
            "com.example.SimpleAWSCredentialsProvider",
        ] {
            assert_eq!(of(&[&key[..], &provider(class)].concat()), "others", "{class}");
        }
        let first = "com.amazonaws.auth.InstanceProfileCredentialsProvider, com.example.Other";
        assert_eq!(of(&[&key[..], &provider(first)].concat()), "profile");
        // What is said of one bucket counts for this bucket alone.
        assert_eq!(of(&[("fs.s3a.bucket.acme.access.key", "own"), key[0], key[1]]), "own ");
        assert_eq!(of(&[("fs.s3a.bucket.other.aws.credentials.provider", "com.example.Other")]), "profile");
        assert_eq!(of(&[("fs.s3a.bucket.acme.aws.credentials.provider", "com.example.Other")]), "others");
        // A role that no provider assumes has no effect.
        assert_eq!(of(&[("fs.s3a.assumed.role.arn", "arn:aws:iam::111122223333:role/x")]), "profile");
        assert_eq!(
            of(&[&key[..], &[("fs.s3a.security.credential.provider.path", "jceks://file/x")]].concat()),
            "others"
        );
    }
}
