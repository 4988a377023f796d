//! How a client addresses a store: AWS's own S3, a VPC endpoint, or another store.

use super::partition;
use aws_config::{Region, SdkConfig};
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};

/// Where a bucket is, as far as the node's configuration tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreAddress {
    /// The URL of a VPC endpoint, or of a store other than AWS's S3; `None` for AWS's own endpoints.
    pub endpoint: Option<String>,
    /// Whether requests name the bucket in the path, and not in the host's name. `None` leaves it to [`by_path`].
    pub path_style: Option<bool>,
}

impl StoreAddress {
    /// The address of the store at an endpoint.
    pub fn at(endpoint: Option<&str>) -> Self {
        Self { endpoint: endpoint.map(str::to_string), path_style: None }
    }

    /// Whether requests name the bucket in the path.
    pub fn is_by_path(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.as_deref().is_some_and(by_path))
    }
}

/// The configuration of a client for a store. A caller can add further settings to it.
pub(crate) fn builder(config: &SdkConfig, store: &StoreAddress, region: Option<String>) -> Builder {
    let mut builder = Builder::from(config)
        // Other stores than AWS's do not know the newer checksums.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    builder = builder.force_path_style(store.is_by_path());
    if let Some(endpoint) = &store.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    if let Some(region) = region {
        builder = builder.region(Region::new(region));
    }
    builder
}

/// Whether requests name the bucket in the path where nobody says it, because the store has no host name for each bucket.
pub fn by_path(endpoint: &str) -> bool {
    !partition::is_aws(endpoint)
}

/// Whether a name of the bucket's own would not fit the certificate of a store: certificates cover no names with dots.
pub(crate) fn is_dotted_with_tls(bucket: &str, endpoint: Option<&str>) -> bool {
    bucket.contains('.') && endpoint.is_none_or(|url| url.starts_with("https:"))
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
