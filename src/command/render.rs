//! `render`: what users paste elsewhere, on stdout; what to know about it, on stderr.

use super::host;
use crate::aws::config;
use crate::aws::identity::instance_role;
use crate::aws::uri::LogUri;
use crate::change::receipt::Receipt;
use crate::cli::render::{IamPolicyArgs, Render};
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::node::describe_cluster;
use crate::node::identity::Identity;
use crate::render::iam::{self, Needs, Side};
use crate::render::{Rendered, cluster_config, serverless, step};
use crate::settings::Settings;
use crate::ui::{self, Console};
use anyhow::{Context, Result};
use std::path::Path;

/// Renders one of them.
pub fn run(root: &Path, what: &Render, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let here = Identity::observe(&host);
    let (command, rendered) = match what {
        Render::ClusterConfig(args) => ("render cluster-config", cluster_config::render(host, args)?),
        Render::Step(args) => ("render step", step::step(args, here.region.as_deref())?),
        Render::BootstrapAction(args) => ("render bootstrap-action", step::bootstrap_action(args)?),
        Render::IamPolicy(args) => ("render iam-policy", iam_policy(&host, &here, args)?),
        Render::Serverless(args) => ("render serverless", serverless::render(args, here.region.as_deref())?),
    };
    show(command, &rendered, console)
}

fn show(command: &str, rendered: &Rendered, console: &Console) -> Result<Exit> {
    let notes: Vec<String> = rendered.notes.iter().filter(|note| !note.is_empty()).cloned().collect();
    if console.is_json() {
        let document = match rendered.is_json {
            true => serde_json::from_str(&rendered.text).context("reading what was rendered")?,
            false => serde_json::Value::from(rendered.text.as_str()),
        };
        console.data(command, serde_json::json!({ "document": document, "notes": notes }));
        return Ok(Exit::Done);
    }
    ui::data(&rendered.text);
    console.notes(&notes);
    Ok(Exit::Done)
}

/// What was installed here; without root only what nobody needs to be asked for.
fn remembered(host: &Host) -> Result<Settings, Fault> {
    Receipt::load(host).map(|receipt| receipt.settings).map_err(Fault::of)
}

fn iam_policy(host: &Host, here: &Identity, args: &IamPolicyArgs) -> Result<Rendered> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let before = remembered(host);
    let known = || before.as_ref().ok();
    let event_logs = match args.event_logs.parse()? {
        Some(uri) => Some(uri),
        None => match &before {
            Ok(settings) => settings.event_logs.clone(),
            Err(fault) => return Err(fault.clone().into()),
        },
    };
    if event_logs.is_none() && args.log_uris.log_uri.is_empty() {
        return Err(Fault::usage("a policy for which event logs?")
            .detail("nothing is installed here that could tell")
            .hint("emr-shs render iam-policy --event-logs s3://my-bucket/spark-events/ --log-uri s3://my-bucket/elasticmapreduce/")
            .into());
    }
    let region = given(&args.region.region).or_else(|| known()?.region.clone()).or_else(|| here.region.clone());
    if let Some(name) = &region {
        crate::render::region(name)?;
    }
    let account = given(&args.account);
    if let Some(id) = &account {
        crate::render::account(id)?;
    }
    let uris = args.log_uris.log_uri.iter().filter(|uri| !uri.is_empty());
    let mut log_uris: Vec<LogUri> = uris.map(|uri| uri.parse()).collect::<Result<_, _>>()?;
    if log_uris.is_empty() {
        log_uris = known().map(|settings| settings.gateway.log_uris.clone()).unwrap_or_default();
    }
    let on_node = host.is_live() && here.is_emr();
    if log_uris.is_empty() {
        log_uris.extend(known().and_then(Settings::log_uri));
    }
    if log_uris.is_empty() && on_node {
        let described = describe_cluster(here.cluster_id.as_deref(), region.clone());
        log_uris.extend(described.ok().and_then(|cluster| cluster.log_uri?.parse().ok()));
    }
    let binaries = given(&args.binaries).map(|uri| step::directory(&uri)).transpose()?;
    let role = if on_node { instance_role(&config::runtime()?) } else { None };
    let needs = Needs {
        sides: args.sides.clone(),
        event_logs: event_logs.as_ref(),
        log_uris: &log_uris,
        kms_keys: &args.kms_keys.kms_key,
        binaries: binaries.as_deref(),
        region: region.as_deref(),
        account: account.as_deref(),
        serverless: false,
    };
    let only_jobs = args.sides == [Side::Jobs];
    iam::render(&needs, role.as_deref().filter(|_| !only_jobs))
}
