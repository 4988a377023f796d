//! Lets a request to S3 pass if the budget and its client's account allow it, and charges both.

use super::budget::{Budget, Share};
use super::payer;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use std::sync::Arc;
use std::time::Instant;

/// Counts each attempt of a client at a request, and lets it pass or not.
#[derive(Debug)]
pub(super) struct Spending {
    pub(super) budget: Arc<Budget>,
    pub(super) share: Share,
}

impl Intercept for Spending {
    fn name(&self) -> &'static str {
        "budget"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("", Metadata::name);
        let now = Instant::now();
        if self.share == Share::Own {
            self.budget.spend(self.share, operation, now)?;
            return Ok(());
        }
        payer::check(now)?;
        let price = self.budget.spend(self.share, operation, now)?;
        payer::pay(price, now);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
mod tests {
    use super::{Budget, Share, Spending};
    use crate::gateway::archive::budget::OverBudget;
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use std::time::{Duration, Instant};

    #[test]
    fn a_client_does_not_send_what_the_budget_lacks() {
        let budget = Budget::new(Instant::now());
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-3"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .endpoint_url("http://127.0.0.1:1")
            .interceptor(Spending { budget: budget.clone(), share: Share::Visitors })
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let runtime = crate::aws::config::runtime().unwrap();
        let list = || runtime.block_on(client.list_objects_v2().bucket("b").send()).unwrap_err();
        assert_eq!(OverBudget::of(&list()), None, "nothing listens there");
        // Nothing comes back before that time.
        let later = Instant::now() + Duration::from_secs(3600);
        while budget.spend(Share::Visitors, "ListObjectsV2", later).is_ok() {}
        let refused = list();
        assert!(OverBudget::of(&refused).is_some(), "{refused:?}");
    }
}
