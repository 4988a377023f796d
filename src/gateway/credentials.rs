//! The node's credentials, with their end as it was served.
//!
//! The SDK's own provider stretches expired credentials of an instance profile by some minutes
//! when the metadata service fails. S3 does not, and a URL dies with the credentials that signed
//! it (second facts §6): so the metadata service is asked here, and what has ended signs nothing.

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use serde::Deserialize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

/// Credentials, and when they end.
#[derive(Debug)]
pub struct Session {
    /// Key id, secret and token.
    pub credentials: Credentials,
}

impl Session {
    /// How long they are good for, from `now` on; `None` if they do not end.
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.credentials.expiry().map(|end| end.duration_since(now).unwrap_or_default())
    }

    fn is_good(&self, now: SystemTime) -> bool {
        self.left(now).is_none_or(|left| left > Duration::from_secs(1))
    }
}

/// Fetches credentials before they are needed, and never gives any that have ended.
#[derive(Debug)]
pub struct CredentialsCache {
    chain: CredentialsProviderChain,
    current: RwLock<Option<Arc<Session>>>,
    /// When and why fetching failed last. Held while fetching, so that one request does it.
    failure: Mutex<Option<(Instant, String)>>,
}

impl CredentialsCache {
    /// Credentials from the usual places: environment, profile, web identity, container, and last
    /// the instance profile.
    pub async fn new() -> Arc<Self> {
        let chain = CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("profile", ProfileFileCredentialsProvider::builder().build())
            .or_else("web identity", WebIdentityTokenCredentialsProvider::builder().build())
            .or_else("container", EcsCredentialsProvider::builder().build())
            .or_else("instance profile", InstanceProfile::new());
        Arc::new(Self { chain, current: RwLock::new(None), failure: Mutex::new(None) })
    }

    /// What is at hand and has not ended.
    pub fn current(&self) -> Option<Arc<Session>> {
        let held = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        held.filter(|session| session.is_good(SystemTime::now()))
    }

    /// What is at hand, or fetched now. The error says why there is nothing.
    pub async fn session(&self) -> Result<Arc<Session>, String> {
        match self.current() {
            Some(session) => Ok(session),
            None => self.fetch(true).await,
        }
    }

    async fn fetch(&self, only_if_needed: bool) -> Result<Arc<Session>, String> {
        // A crowd that waits must not ask a metadata service that is down once each.
        const PAUSE: Duration = Duration::from_secs(1);
        let mut failure = self.failure.lock().await;
        if only_if_needed {
            if let Some(session) = self.current() {
                return Ok(session);
            }
            if let Some((when, why)) = failure.as_ref().filter(|(when, _)| when.elapsed() < PAUSE) {
                let _ = when;
                return Err(why.clone());
            }
        }
        let found = self.chain.provide_credentials().await.map_err(|e| crate::aws::s3::root_causes(&e));
        let fresh = found.and_then(|credentials| {
            let session = Session { credentials };
            match session.credentials.expiry() {
                Some(end) if !session.is_good(SystemTime::now()) => Err(format!("they ended at {}", clock(end))),
                _ => Ok(Arc::new(session)),
            }
        });
        match fresh {
            Ok(session) => {
                *failure = None;
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
                Ok(session)
            }
            Err(why) => {
                *failure = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    /// Fetches anew, well before what is at hand ends. Never returns.
    pub async fn keep(self: Arc<Self>) {
        loop {
            let fetched = self.fetch(false).await;
            let left = self.current().map(|session| session.left(SystemTime::now()));
            let pause = match (left, &fetched) {
                (Some(None), _) => Duration::from_secs(300),
                (Some(Some(left)), Ok(_)) => until_next(left),
                (Some(Some(left)), Err(_)) => until_next(left).min(Duration::from_secs(10)),
                (None, _) => Duration::from_secs(2),
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// EC2 offers new credentials five minutes before the old ones end. Where they live for less, or
/// the old ones are still served, half of what is left is waited each time.
fn until_next(left: Duration) -> Duration {
    const AHEAD: Duration = Duration::from_secs(300);
    left.checked_sub(AHEAD).filter(|pause| *pause > AHEAD).unwrap_or(left / 2).max(Duration::from_secs(1))
}

/// `2026-11-22T18:00:00Z`
pub fn clock(time: SystemTime) -> String {
    DateTime::from_secs(DateTime::from(time).secs()).fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

/// A [`CredentialsCache`] for the SDK's own clients.
#[derive(Debug)]
pub struct CachedProvider(pub Arc<CredentialsCache>);

impl ProvideCredentials for CachedProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let session = self.0.session().await.map_err(CredentialsError::provider_error)?;
            Ok(session.credentials.clone())
        })
    }
}

/// The instance profile's credentials, their end as the metadata service gives it.
#[derive(Debug)]
struct InstanceProfile(imds::Client);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

impl InstanceProfile {
    fn new() -> Self {
        let wait = Duration::from_secs(1);
        Self(imds::Client::builder().max_attempts(2).connect_timeout(wait).read_timeout(wait).build())
    }

    async fn ask(&self) -> provider::Result {
        if std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|v| v.eq_ignore_ascii_case("true")) {
            return Err(CredentialsError::not_loaded("AWS_EC2_METADATA_DISABLED is true"));
        }
        const PATH: &str = "/latest/meta-data/iam/security-credentials/";
        let get = async |path: String| self.0.get(path).await.map_err(CredentialsError::provider_error);
        let roles = get(PATH.into()).await?;
        let role = roles.as_ref().lines().next().unwrap_or_default();
        let text = get(format!("{PATH}{role}")).await?;
        let found: Document = serde_json::from_str(text.as_ref())
            .map_err(|_| CredentialsError::provider_error(format!("the role {role} has no credentials")))?;
        let end = DateTime::from_str(&found.expiration, DateTimeFormat::DateTime)
            .ok()
            .and_then(|end| SystemTime::try_from(end).ok())
            .ok_or_else(|| CredentialsError::provider_error("their Expiration is no time"))?;
        Ok(Credentials::new(
            found.access_key_id,
            found.secret_access_key,
            Some(found.token),
            Some(end),
            "InstanceProfile",
        ))
    }
}

impl ProvideCredentials for InstanceProfile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}
