//! AWS's partitions: the names of their regions, of their hosts, and in ARNs.

/// A partition, as far as emr-shs must know it.
struct Partition {
    /// As ARNs spell it.
    name: &'static str,
    /// How the names of its regions begin.
    regions: &'static [&'static str],
    /// The ends of its hosts' names. The first one is the usual one.
    domains: &'static [&'static str],
}

/// The last row is the partition of every other region.
const PARTITIONS: &[Partition] = &[
    Partition { name: "aws-cn", regions: &["cn-"], domains: &["amazonaws.com.cn", "api.amazonwebservices.com.cn"] },
    Partition { name: "aws-us-gov", regions: &["us-gov-"], domains: &["amazonaws.com", "api.aws"] },
    Partition { name: "aws-eusc", regions: &["eusc-"], domains: &["amazonaws.eu", "api.amazonwebservices.eu"] },
    Partition { name: "aws-iso", regions: &["us-iso-"], domains: &["c2s.ic.gov"] },
    Partition { name: "aws-iso-b", regions: &["us-isob-"], domains: &["sc2s.sgov.gov"] },
    Partition { name: "aws-iso-e", regions: &["eu-isoe-"], domains: &["cloud.adc-e.uk"] },
    Partition { name: "aws-iso-f", regions: &["us-isof-", "eu-isof-"], domains: &["csp.hci.ic.gov"] },
    Partition { name: "aws", regions: &[""], domains: &["amazonaws.com", "api.aws"] },
];

fn of(region: &str) -> &'static Partition {
    let found = PARTITIONS.iter().find(|partition| partition.regions.iter().any(|begin| region.starts_with(begin)));
    found.unwrap_or(&PARTITIONS[PARTITIONS.len() - 1])
}

/// The name of a region's partition in ARNs. Without a region, that of most regions.
pub(crate) fn name(region: Option<&str>) -> &'static str {
    of(region.unwrap_or_default()).name
}

/// The end of the names of AWS's hosts in a region.
pub(crate) fn domain(region: &str) -> &'static str {
    of(region).domains[0]
}

/// Whether an ARN can name this partition. Partitions that emr-shs does not know yet are called so, too.
pub(crate) fn is_name(partition: &str) -> bool {
    partition == "aws" || partition.strip_prefix("aws-").is_some_and(|rest| !rest.is_empty())
}

/// Whether a URL or a host names one of AWS's own hosts. `false` for the hosts of a partition that emr-shs does not know:
/// they are then asked as any other store is, with the bucket in the path, which S3 understands everywhere.
pub(crate) fn is_aws(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let mut domains = PARTITIONS.iter().flat_map(|partition| partition.domains);
    domains.any(|domain| host.strip_suffix(domain).is_some_and(|before| before.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::{domain, is_aws, is_name, name};

    #[test]
    fn regions_have_partitions() {
        let table = [
            ("eu-west-3", "aws", "amazonaws.com"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
            ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
        ];
        for (region, partition, suffix) in table {
            assert_eq!((name(Some(region)), domain(region)), (partition, suffix), "{region}");
        }
        assert_eq!(name(None), "aws");
        assert!(is_name("aws-eusc") && is_name("aws-next") && !is_name("aws-") && !is_name("azure"));
    }

    #[test]
    fn hosts_of_aws_are_told_from_other_stores() {
        for own in [
            "https://s3.eu-west-3.amazonaws.com",
            "s3.cn-north-1.amazonaws.com.cn",
            "https://bucket.vpce-1.s3.eu-west-3.vpce.amazonaws.com/",
            "https://s3.eusc-de-east-1.amazonaws.eu:443",
            "https://s3.dualstack.us-east-1.api.aws",
            "S3.US-ISO-EAST-1.C2S.IC.GOV",
        ] {
            assert!(is_aws(own), "{own}");
        }
        for other in [
            "http://127.0.0.1:7070",
            "https://minio.example.com",
            "https://amazonaws.com.example.com",
            "https://notamazonaws.com",
            "https://store.example.com/?x=.amazonaws.com",
        ] {
            assert!(!is_aws(other), "{other}");
        }
    }
}
