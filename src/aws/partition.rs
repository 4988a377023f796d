//! AWS's partitions: the names of their regions, of their hosts, and in ARNs.

/// The partition of a region, as ARNs and the names of hosts in that region spell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// As ARNs spell it.
    pub(crate) name: String,
    /// The end of the names of AWS's hosts.
    pub(crate) domain: String,
    /// Whether nothing tells it: emr-shs does not know the region, and takes the partition of most regions.
    pub(crate) is_guess: bool,
}

impl Default for Partition {
    fn default() -> Self {
        of(None)
    }
}

/// A partition that emr-shs knows.
struct Known {
    name: &'static str,
    /// How the names of its regions begin.
    regions: &'static [&'static str],
    /// The ends of its hosts' names. The first one is the usual one.
    domains: &'static [&'static str],
}

const PARTITIONS: &[Known] = &[
    Known { name: "aws-cn", regions: &["cn-"], domains: &["amazonaws.com.cn", "api.amazonwebservices.com.cn"] },
    Known { name: "aws-us-gov", regions: &["us-gov-"], domains: &["amazonaws.com", "api.aws"] },
    Known { name: "aws-eusc", regions: &["eusc-"], domains: &["amazonaws.eu", "api.amazonwebservices.eu"] },
    Known { name: "aws-iso", regions: &["us-iso-"], domains: &["c2s.ic.gov"] },
    Known { name: "aws-iso-b", regions: &["us-isob-"], domains: &["sc2s.sgov.gov"] },
    Known { name: "aws-iso-e", regions: &["eu-isoe-"], domains: &["cloud.adc-e.uk"] },
    Known { name: "aws-iso-f", regions: &["us-isof-", "eu-isof-"], domains: &["csp.hci.ic.gov"] },
    COMMERCIAL,
];

/// The partition of most regions. Their names have three parts: a continent, a direction, a number.
const COMMERCIAL: Known = Known { name: "aws", regions: &[], domains: &["amazonaws.com", "api.aws"] };
const CONTINENTS: [&str; 9] = ["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"];

fn known(region: &str) -> Option<&'static Known> {
    let found = PARTITIONS.iter().find(|partition| partition.regions.iter().any(|begin| region.starts_with(begin)));
    let is_commercial = match region.split('-').collect::<Vec<_>>().as_slice() {
        [continent, _, number] => CONTINENTS.contains(continent) && number.parse::<u8>().is_ok(),
        _ => false,
    };
    found.or_else(|| is_commercial.then_some(&COMMERCIAL))
}

/// The partition of a region. Without a region, that of most regions.
pub(crate) fn of(region: Option<&str>) -> Partition {
    let known = region.map(known);
    let Known { name, domains, .. } = known.flatten().unwrap_or(&COMMERCIAL);
    Partition { name: (*name).into(), domain: domains[0].into(), is_guess: known.is_some_and(|known| known.is_none()) }
}

/// The end of the names of AWS's hosts in a region.
pub(crate) fn domain(region: &str) -> &'static str {
    known(region).unwrap_or(&COMMERCIAL).domains[0]
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
    use super::{domain, is_aws, is_name, of};

    #[test]
    fn regions_have_partitions() {
        let table = [
            ("eu-west-3", "aws", "amazonaws.com"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
            ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
            ("mx-central-1", "aws", "amazonaws.com"),
        ];
        for (region, partition, suffix) in table {
            let found = of(Some(region));
            assert_eq!((found.name.as_str(), domain(region)), (partition, suffix), "{region}");
            assert_eq!((found.domain.as_str(), found.is_guess), (suffix, false), "{region}");
        }
        assert_eq!((of(None).name.as_str(), of(None).is_guess), ("aws", false));
        for unknown in ["xx-next-1", "eu-isog-west-1", "us-next-gov-1", "moon"] {
            assert_eq!((of(Some(unknown)).name.as_str(), of(Some(unknown)).is_guess), ("aws", true), "{unknown}");
        }
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
