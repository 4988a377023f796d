//! `proxy serve`: runs the log gateway in the foreground.

use crate::cli::ServeArgs;
use crate::cli::options::given;
use crate::error::{Exit, Fault};
use crate::gateway::server::listen::{self, GatewayConfig};
use crate::ids::is_cluster;
use crate::settings::GatewaySettings;
use crate::ui::Console;
use anyhow::Result;

/// Runs the gateway until SIGTERM or SIGINT.
pub(crate) fn serve(args: &ServeArgs, console: &Console) -> Result<Exit> {
    if let Some(id) = args.cluster_id.as_deref().filter(|id| !is_cluster(id)) {
        return Err(Fault::usage(format!("--cluster-id: “{id}” is not a cluster ID"))
            .detail("wanted j- and capital letters and digits")
            .hint("--cluster-id j-3H6EATEWWRWS")
            .into());
    }
    listen::run(GatewayConfig {
        settings: args.gateway.resolve(&GatewaySettings::default())?,
        cluster_id: given(&args.cluster_id).map(Into::into),
        region: args.s3.region.given().map(Into::into),
        endpoint_url: args.s3.endpoint()?,
        bucket_endpoints: args.bucket_endpoints()?,
        bucket_regions: args.bucket_regions()?,
        bucket_path_styles: args.bucket_path_styles()?,
        history_server: args.history_server.clone(),
        history_server_user: given(&args.history_server_user).map(Into::into),
        proxy_base: given(&args.proxy_base).map(Into::into),
        quiet: console.is_quiet(),
    })?;
    Ok(Exit::Done)
}
