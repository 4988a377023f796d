//! How the SDK is set up: its runtime, region, timeouts and retries.

use super::http_client;
use super::proxies::Proxies;
use anyhow::{Context, Result};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How long a call to AWS may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutProfile {
    /// For an installation: one retry, at most 20 seconds.
    Usual,
    /// For a diagnosis, where a slow answer is itself a finding: no retry, at most 6 seconds.
    Short,
    /// For work that goes on for minutes: three retries, at most a minute.
    Patient,
}

/// An access key of Hadoop's configuration. Nothing prints it.
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl Keys {
    pub(crate) fn instead_of_those_in(self, config: SdkConfig) -> SdkConfig {
        let keys = Credentials::new(self.id, self.secret, self.token, None, "Hadoop's configuration");
        config.into_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build()
    }
}

/// A runtime of one thread, on which synchronous code waits for calls to AWS.
pub(crate) fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime for calls to AWS")
}

/// A runtime with a thread for each processor, for many calls to AWS at once.
pub(crate) fn parallel_runtime() -> Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().context("cannot start the runtime for calls to AWS")
}

/// The SDK's default chains for credentials and, where `region` is `None`, for the region.
pub(crate) fn load(
    runtime: &Runtime,
    region: Option<String>,
    timeouts: TimeoutProfile,
    proxies: &Proxies,
) -> SdkConfig {
    let (attempt, operation, attempts) = match timeouts {
        TimeoutProfile::Usual => (8, 20, 2),
        TimeoutProfile::Short => (4, 6, 1),
        TimeoutProfile::Patient => (12, 60, 4),
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(attempt))
        .operation_timeout(Duration::from_secs(operation))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client::client(proxies))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(attempts));
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    runtime.block_on(loader.load())
}
