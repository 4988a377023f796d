//! Whose credentials this node uses.

use super::partition::{self, Partition};
use super::{config, http_client};
use crate::files;
use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use std::env;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Where credentials come from if not from the instance profile: the sources that the SDK's default
/// chain asks before it.
pub(crate) fn configured_credentials() -> Option<&'static str> {
    let variables =
        ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    if variables.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return Some("the environment's credentials");
    }
    let home = env::var_os("HOME").map(PathBuf::from)?;
    // HOME can be the directory of somebody else, who can put a pipe there.
    let read = |path: PathBuf| files::open(&path).and_then(|file| files::read_all(&file, &path)).unwrap_or_default();
    let read = |name: &str| String::from_utf8_lossy(&read(home.join(".aws").join(name))).into_owned();
    let files = read("credentials") + &read("config");
    let keys = ["aws_access_key_id", "credential_process", "role_arn"];
    keys.iter().any(|key| files.contains(key)).then_some("the credentials in ~/.aws")
}

/// The name by which the Internet reaches this node, from the metadata service. `None` if the node has none, or the
/// metadata service does not answer.
pub(crate) fn public_name() -> Option<String> {
    metadata(["public-hostname"]).map(|[name]| name).filter(|name| is_host_name(name))
}

/// The partition of this node's region, from the metadata service. `None` if the node is in another region, or the metadata
/// service does not answer.
pub(crate) fn partition_of_node(region: &str) -> Option<Partition> {
    let [own, name, domain] = metadata(["placement/region", "services/partition", "services/domain"])?;
    let is_told = own == region && partition::is_name(&name) && is_host_name(&domain);
    is_told.then_some(Partition { name, domain, is_guess: false })
}

/// What the metadata service has at these paths, if it has all.
fn metadata<const N: usize>(paths: [&str; N]) -> Option<[String; N]> {
    if is_metadata_disabled() {
        return None;
    }
    let direct = ProviderConfig::without_region().with_http_client(http_client::direct());
    let client = imds::Client::builder().configure(&direct).max_attempts(1).connect_timeout(Duration::from_secs(1));
    let client = client.read_timeout(Duration::from_secs(1)).build();
    let runtime = config::runtime().ok()?;
    let get = |path: &str| runtime.block_on(client.get(format!("/latest/meta-data/{path}"))).ok();
    let mut texts = Vec::with_capacity(N);
    for path in paths {
        texts.push(get(path)?.as_ref().trim().to_string());
    }
    texts.try_into().ok()
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
}

fn is_metadata_disabled() -> bool {
    env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The role of the node's instance profile, for messages. `None` if the credentials come from
/// elsewhere or the metadata service does not answer.
pub(crate) fn instance_role(runtime: &Runtime) -> Option<String> {
    if configured_credentials().is_some() || is_metadata_disabled() {
        return None;
    }
    let direct = ProviderConfig::without_region().with_http_client(http_client::direct());
    let client = imds::Client::builder().configure(&direct).max_attempts(1).connect_timeout(Duration::from_secs(1));
    let client = client.build();
    let role = runtime.block_on(client.get("/latest/meta-data/iam/security-credentials/")).ok()?;
    role.as_ref().lines().next().map(str::to_string)
}

/// Shortens the SDK's text about a default chain without credentials to one line about its last source,
/// the metadata service. On a node only that source counts. `None` if the text is about something else.
pub(crate) fn why_no_credentials(text: &str) -> Option<String> {
    let (_, metadata) = text.split_once("Ec2InstanceMetadata: ")?;
    let said = metadata.lines().next()?.trim();
    let said = said.strip_prefix("the credential provider was not enabled: ").unwrap_or(said);
    Some(match said.strip_prefix("could not communicate with IMDS: ") {
        _ if said.contains("received 404") => {
            "the metadata service knows no role: this node has no instance profile".into()
        }
        Some(why) => format!("the metadata service does not answer: {}", why.rsplit(": ").next().unwrap_or(why)),
        None => format!("the metadata service gives none: {said}"),
    })
}
