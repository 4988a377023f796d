//! The node's credentials, with the expiry that their source gives.
//!
//! The SDK's own provider extends expired credentials of an instance profile by some minutes when
//! the metadata service fails. S3 does not accept them, and a URL expires with the credentials that
//! signed it (docs/emr.md §9.1). So the gateway asks the metadata service itself, and never signs
//! with expired credentials.

use crate::aws::error::root_causes;
use crate::aws::{http_client, proxies};
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use serde::Deserialize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

/// How long requests share a failure, so that they do not each call a metadata service that is down.
const FAILURE_FRESH: Duration = Duration::from_secs(1);
/// EC2 offers new credentials five minutes before the old ones expire.
const ROTATION: Duration = Duration::from_secs(300);
/// How long to wait before the next attempt if there are credentials, but the last attempt failed.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(10);
/// How long to wait before the next attempt if there are no credentials.
const RETRY_PAUSE_WITHOUT: Duration = Duration::from_secs(2);
/// How often credentials that do not expire are read again: their file can change.
const PERMANENT_PAUSE: Duration = Duration::from_secs(300);
/// How long the metadata service can take. It answers within milliseconds, and a browser waits.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Session {
    pub(super) credentials: Credentials,
}

impl Session {
    /// The time from `now` until the credentials expire; `None` if they do not expire.
    pub(super) fn time_left(&self, now: SystemTime) -> Option<Duration> {
        self.credentials.expiry().map(|end| end.duration_since(now).unwrap_or_default())
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.time_left(now).is_none_or(|left| left > Duration::from_secs(1))
    }
}

/// Fetches credentials before they are needed, and never returns expired ones.
#[derive(Debug)]
pub(super) struct CredentialsCache {
    chain: CredentialsProviderChain,
    current: RwLock<Option<Arc<Session>>>,
    role: Arc<RwLock<Option<String>>>,
    /// When and why the last attempt failed. An attempt holds the lock, so that there is one at a time.
    failure: Mutex<Option<(Instant, String)>>,
}

impl CredentialsCache {
    /// Reads the SDK's usual sources in the SDK's order. The instance profile comes last.
    pub(super) async fn new() -> Arc<Self> {
        let client = http_client::client(&proxies::in_force());
        let config = ProviderConfig::without_region().with_http_client(client);
        let role = Arc::new(RwLock::new(None));
        let chain = CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("profile", ProfileFileCredentialsProvider::builder().configure(&config).build())
            .or_else("web identity", WebIdentityTokenCredentialsProvider::builder().configure(&config).build())
            .or_else("container", EcsCredentialsProvider::builder().configure(&config).build())
            .or_else("instance profile", InstanceProfile::new(&config, role.clone()));
        Arc::new(Self { chain, current: RwLock::new(None), role, failure: Mutex::new(None) })
    }

    /// The cached credentials, if they are valid.
    pub(super) fn current(&self) -> Option<Arc<Session>> {
        let cached = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        cached.filter(|session| session.is_valid(SystemTime::now()))
    }

    /// The role of the instance profile, if the credentials are its credentials.
    pub(super) fn role(&self) -> Option<String> {
        self.role.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Valid credentials: cached, or fetched now. The error says why there are none.
    pub(super) async fn session(&self) -> Result<Arc<Session>, String> {
        match self.current() {
            Some(session) => Ok(session),
            None => self.fetch(true).await,
        }
    }

    /// With `only_if_needed`, shares the result of a request that fetched, or failed to fetch, meanwhile.
    async fn fetch(&self, only_if_needed: bool) -> Result<Arc<Session>, String> {
        let mut failure = self.failure.lock().await;
        if only_if_needed {
            if let Some(session) = self.current() {
                return Ok(session);
            }
            if let Some((_, reason)) = failure.as_ref().filter(|(when, _)| when.elapsed() < FAILURE_FRESH) {
                return Err(reason.clone());
            }
        }
        let provided = self.chain.provide_credentials().await.map_err(|e| root_causes(&e));
        let fetched = provided.and_then(|credentials| {
            let session = Session { credentials };
            match session.credentials.expiry() {
                Some(end) if !session.is_valid(SystemTime::now()) => {
                    Err(format!("the credentials expired at {}", rfc3339(end)))
                }
                _ => Ok(Arc::new(session)),
            }
        });
        match fetched {
            Ok(session) => {
                *failure = None;
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
                Ok(session)
            }
            Err(reason) => {
                *failure = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    /// Replaces the cached credentials well before they expire.
    pub(super) async fn refresh_forever(self: Arc<Self>) {
        loop {
            let fetched = self.fetch(false).await;
            let left = self.current().map(|session| session.time_left(SystemTime::now()));
            let pause = match (left, &fetched) {
                (Some(None), _) => PERMANENT_PAUSE,
                (Some(Some(left)), Ok(_)) => refresh_pause(left),
                (Some(Some(left)), Err(_)) => refresh_pause(left).min(MAX_RETRY_PAUSE),
                (None, _) => RETRY_PAUSE_WITHOUT,
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// The pause until EC2 offers new credentials. If that is soon, half of the time that is left: the
/// credentials are short-lived, or the metadata service still serves the old ones.
fn refresh_pause(left: Duration) -> Duration {
    left.checked_sub(ROTATION).filter(|pause| *pause > ROTATION).unwrap_or(left / 2).max(Duration::from_secs(1))
}

/// `2026-11-22T18:00:00Z`
fn rfc3339(time: SystemTime) -> String {
    DateTime::from_secs(DateTime::from(time).secs()).fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

/// A [`CredentialsCache`] for the SDK's own clients.
#[derive(Debug)]
pub(super) struct CachedProvider(pub(super) Arc<CredentialsCache>);

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

/// The instance profile's credentials, with the expiry that the metadata service gives.
#[derive(Debug)]
struct InstanceProfile {
    client: imds::Client,
    /// The role of the last credentials.
    role: Arc<RwLock<Option<String>>>,
}

/// The metadata service's answer for a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleCredentials {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: String,
}

impl InstanceProfile {
    fn new(config: &ProviderConfig, role: Arc<RwLock<Option<String>>>) -> Self {
        let client = imds::Client::builder().configure(config).max_attempts(2);
        Self { client: client.connect_timeout(METADATA_TIMEOUT).read_timeout(METADATA_TIMEOUT).build(), role }
    }

    async fn fetch(&self) -> provider::Result {
        const PATH: &str = "/latest/meta-data/iam/security-credentials/";
        if std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|v| v.eq_ignore_ascii_case("true")) {
            return Err(CredentialsError::not_loaded("AWS_EC2_METADATA_DISABLED is true"));
        }
        let get = async |path: String| self.client.get(path).await.map_err(CredentialsError::provider_error);
        let roles = get(PATH.into()).await?;
        let role = roles.as_ref().lines().next().unwrap_or_default();
        let text = get(format!("{PATH}{role}")).await?;
        let answer: RoleCredentials = serde_json::from_str(text.as_ref()).map_err(|_| {
            CredentialsError::provider_error(format!("the metadata service gives no credentials of the role {role}"))
        })?;
        let expiry = DateTime::from_str(&answer.expiration, DateTimeFormat::DateTime)
            .ok()
            .and_then(|expiry| SystemTime::try_from(expiry).ok())
            .ok_or_else(|| {
                let found = &answer.expiration;
                CredentialsError::provider_error(format!("the Expiration of the credentials is not a time: {found}"))
            })?;
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = Some(role.to_string());
        Ok(Credentials::new(
            answer.access_key_id,
            answer.secret_access_key,
            Some(answer.token),
            Some(expiry),
            "InstanceProfile",
        ))
    }
}

impl ProvideCredentials for InstanceProfile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.fetch())
    }
}
