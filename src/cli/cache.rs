//! Options of the event-log cache.

use super::file_or_none;
use crate::gateway::event_log_cache::CacheConfig;
use crate::paths::GATEWAY_APPLICATIONS;
use crate::settings::GatewaySettings;
use clap::{Args, ValueHint};
use std::path::{Path, PathBuf};

/// Heading of the options of the event-log cache.
pub(super) const EVENT_LOG_CACHE: &str = "Event-log cache";

/// Where `proxy serve` has the cache.
#[derive(Args)]
pub(crate) struct CacheArgs {
    /// Directory into which the gateway fetches the event log of an application when somebody opens it; the directory that the
    /// history server reads [default: the history server reads S3 itself]
    #[arg(long, value_name = "DIR", value_parser = file_or_none(), value_hint = ValueHint::DirPath, env = "EMR_SHS_EVENT_LOG_CACHE", help_heading = EVENT_LOG_CACHE)]
    pub(crate) event_log_cache: Option<PathBuf>,
}

impl CacheArgs {
    /// `None` if the history server reads S3 itself.
    pub(crate) fn config(&self, settings: &GatewaySettings, index: Option<&Path>) -> Option<CacheConfig> {
        let directory = self.event_log_cache.clone().filter(|directory| !directory.as_os_str().is_empty())?;
        Some(CacheConfig {
            directory,
            index: index.unwrap_or(Path::new(GATEWAY_APPLICATIONS)).into(),
            size: settings.cache_size,
            count: settings.cache_count.map(|count| count as usize),
        })
    }
}
