//! How a client addresses a store: AWS's own S3, a VPC endpoint, or another store.

use super::partition;
use aws_config::{Region, SdkConfig};
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};

/// The configuration of a client for AWS's own S3, or for the store at `endpoint`. A caller can add further settings to it.
pub(crate) fn builder(config: &SdkConfig, endpoint: Option<&str>, region: Option<String>) -> Builder {
    let mut builder = Builder::from(config)
        // Other stores than AWS's do not know the newer checksums.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = endpoint {
        builder = builder.endpoint_url(endpoint).force_path_style(by_path(endpoint));
    }
    if let Some(region) = region {
        builder = builder.region(Region::new(region));
    }
    builder
}

/// Whether requests name the bucket in the path, because the store has no host name for each bucket.
pub fn by_path(endpoint: &str) -> bool {
    !partition::is_aws(endpoint)
}

/// The host that is asked, for messages.
pub(super) fn host(endpoint: Option<&str>, region: Option<&str>) -> String {
    let rest = endpoint.map(|endpoint| endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest));
    match (rest.and_then(|rest| rest.split(['/', '?']).next()), region) {
        (Some(host), _) => host.into(),
        (None, Some(region)) => format!("s3.{region}.{}", partition::domain(region)),
        (None, None) => "S3".into(),
    }
}
