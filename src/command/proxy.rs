//! `proxy serve`: runs the log gateway in the foreground. `proxy prepare-cache`: what its unit does before, as root.

use super::{host, must_be_root};
use crate::change::receipt::Receipt;
use crate::cli::options::given;
use crate::cli::{PrepareCacheArgs, ServeArgs};
use crate::desired::event_log_cache::EventLogCache;
use crate::error::{Exit, Fault};
use crate::gateway::server::listen::{self, GatewayConfig};
use crate::ids::is_cluster;
use crate::settings::GatewaySettings;
use crate::ui::Console;
use anyhow::Result;
use std::path::Path;

/// Runs the gateway until SIGTERM or SIGINT.
pub(crate) fn serve(args: &ServeArgs, console: &Console) -> Result<Exit> {
    if let Some(id) = args.cluster_id.as_deref().filter(|id| !is_cluster(id)) {
        return Err(Fault::usage(format!("--cluster-id: “{id}” is not a cluster ID"))
            .detail("wanted j- and capital letters and digits")
            .hint("--cluster-id j-3H6EATEWWRWS")
            .into());
    }
    let settings = args.gateway.resolve(&GatewaySettings::default())?;
    listen::run(GatewayConfig {
        event_log_cache: args.cache.config(&settings, args.list.index_db.as_deref()),
        settings,
        cluster_id: given(&args.cluster_id).map(Into::into),
        region: args.s3.region.given().map(Into::into),
        endpoint_url: args.s3.endpoint()?,
        bucket_endpoints: args.bucket_endpoints()?,
        bucket_regions: args.bucket_regions()?,
        bucket_path_styles: args.bucket_path_styles()?,
        history_server: args.history_server.clone(),
        history_server_user: given(&args.history_server_user).map(Into::into),
        proxy_base: given(&args.proxy_base).map(Into::into),
        event_logs: args.list.event_logs()?,
        index_db: args.list.index_db.clone(),
        look_interval: args.list.look_interval,
        listing_interval: args.list.listing_interval,
        quiet: console.is_quiet(),
    })?;
    Ok(Exit::Done)
}

/// Makes the event-log cache anew, if its disk has lost it.
pub(crate) fn prepare_cache(root: &Path, args: &PrepareCacheArgs) -> Result<Exit> {
    let host = host(root)?;
    must_be_root(&host)?;
    let cache = EventLogCache { directory: args.directory.clone(), reader: args.reader.clone() };
    cache.prepare(&host, &Receipt::load(&host)?)?;
    Ok(Exit::Done)
}
