//! Hadoop's configuration on the node: the class that serves each scheme, and how to connect to S3.

use crate::aws::partition;
use crate::aws::s3::Encryption;
use crate::host::Host;
use crate::properties::SparkDefaults;
use anyhow::{Context, Result};
use quick_xml::Reader;
use quick_xml::events::Event;
use std::collections::BTreeMap;
use std::path::Path;

/// The file system class of EMRFS (`docs/emr.md §6.1`).
pub(crate) const EMRFS: &str = "com.amazon.ws.emr.hadoop.fs.EmrFileSystem";
/// The file system class of S3A, which serves `s3a://` without any configuration.
pub(crate) const S3A: &str = "org.apache.hadoop.fs.s3a.S3AFileSystem";

const EMRFS_SITE: &str = "/usr/share/aws/emr/emrfs/conf/emrfs-site.xml";

/// The Hadoop properties of Spark's daemons on this node. The `spark.hadoop.*` keys of spark-defaults.conf
/// override Hadoop's files.
#[derive(Clone, Debug, Default)]
pub struct Hadoop {
    properties: BTreeMap<String, String>,
}

impl Hadoop {
    pub fn observe(host: &Host, conf_dir: &Path, spark: &SparkDefaults) -> Result<Self> {
        let mut properties = BTreeMap::new();
        for file in [Path::new(EMRFS_SITE), &conf_dir.join("core-site.xml")] {
            if let Some(text) = host.read(file)? {
                properties.extend(parse(&text).with_context(|| format!("reading {}", file.display()))?);
            }
        }
        for (key, value) in spark.iter() {
            if let Some(key) = key.strip_prefix("spark.hadoop.") {
                properties.insert(key.into(), value.trim().into());
            }
        }
        Ok(Self { properties })
    }

    /// A configuration of which only the class of one scheme is known.
    pub fn serving(scheme: &str, class: &str) -> Self {
        Self { properties: [(format!("fs.{scheme}.impl"), class.to_string())].into() }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// The names of the properties that are set.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.properties.keys().map(String::as_str)
    }

    /// The class that serves a scheme. Without one Hadoop reports “No FileSystem for scheme”.
    pub fn file_system(&self, scheme: &str) -> Option<&str> {
        self.get(&format!("fs.{scheme}.impl")).or((scheme == "s3a").then_some(S3A))
    }

    /// The schemes of S3 that a class serves.
    pub fn s3_schemes(&self) -> Vec<(&'static str, &str)> {
        ["s3", "s3n", "s3a"].into_iter().filter_map(|s| Some((s, self.file_system(s)?))).collect()
    }

    /// The S3 endpoint of the history server's configuration; `None` for AWS's public endpoint.
    pub fn endpoint(&self) -> Option<String> {
        let endpoint = self.get("fs.s3a.endpoint")?;
        let own = partition::is_aws(endpoint) && !endpoint.contains("vpce");
        if endpoint.is_empty() || own {
            return None;
        }
        if endpoint.contains("://") {
            return Some(endpoint.into());
        }
        let plain = self.get("fs.s3a.connection.ssl.enabled") == Some("false");
        Some(format!("{}://{endpoint}", if plain { "http" } else { "https" }))
    }

    /// How the cluster encrypts what it writes to S3 (`docs/emr.md §6.2`).
    pub fn encryption(&self) -> Option<Encryption> {
        let s3a = self
            .get("fs.s3a.encryption.algorithm")
            .or_else(|| self.get("fs.s3a.server-side-encryption-algorithm"))
            .map(|algorithm| match algorithm {
                "SSE-KMS" => "aws:kms",
                "SSE-S3" => "AES256",
                other => other,
            });
        let emrfs_key = self.get("fs.s3.serverSideEncryption.kms.keyId");
        let emrfs = match self.get("fs.s3.enableServerSideEncryption") {
            Some("true") if emrfs_key.is_some() => Some("aws:kms"),
            Some("true") => Some("AES256"),
            _ => None,
        };
        let algorithm = s3a.or(emrfs).filter(|a| matches!(*a, "aws:kms" | "AES256"))?;
        let key = self
            .get("fs.s3a.encryption.key")
            .or_else(|| self.get("fs.s3a.server-side-encryption.key"))
            .or(emrfs_key)
            .filter(|_| algorithm == "aws:kms");
        Some(Encryption { algorithm: algorithm.into(), key: key.map(str::to_string) })
    }
}

fn parse(xml: &str) -> Result<BTreeMap<String, String>> {
    let mut reader = Reader::from_str(xml);
    let mut properties = BTreeMap::new();
    let (mut name, mut value, mut text) = (String::new(), String::new(), String::new());
    loop {
        match reader.read_event()? {
            Event::Start(_) => text.clear(),
            Event::Text(t) => text.push_str(&t),
            Event::CData(t) => text.push_str(&t),
            Event::GeneralRef(r) => match (r.resolve_char_ref()?, &*r) {
                (Some(c), _) => text.push(c),
                (None, entity) => {
                    text.push_str(quick_xml::escape::resolve_predefined_entity(entity).unwrap_or_default())
                }
            },
            Event::End(end) => match end.name().as_ref() {
                "name" => name = text.trim().to_string(),
                "value" => value = text.trim().to_string(),
                "property" => {
                    properties.insert(std::mem::take(&mut name), std::mem::take(&mut value));
                }
                _ => {}
            },
            Event::Eof => return Ok(properties),
            _ => {}
        }
    }
}
