//! The commands. Each function reads top to bottom in the order in which the command works.

mod bundle;
mod deferred_install;
mod discover;
mod doctor;
mod index;
mod install;
mod manual;
mod own_directory;
mod passwd;
mod proxy;
mod render;
mod restart;
mod status;
mod uninstall;
mod verify;

use crate::cli::{Cli, Command, Proxy};
use crate::error::{Exit, Fault, sudo_hint};
use crate::host::Host;
use crate::node::Node;
use crate::node::identity::Role;
use crate::shown::hint;
use crate::signals;
use crate::test_objects;
use crate::ui::{self, Console};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the command and prints its error, if it fails.
pub fn run(cli: &Cli) -> ExitCode {
    let console = Console::new(&cli.global);
    // The caller's mask must not make files of emr-shs writable for others.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // `proxy serve` handles signals itself.
    let listening = if matches!(cli.command, Command::Proxy(Proxy::Serve(_))) {
        Ok(())
    } else {
        signals::listen(console.is_json())
    };
    signals::end_with_warning(|| left_in_s3(&test_objects::left()));
    let exit = listening.and_then(|()| dispatch(cli, &console)).unwrap_or_else(|error| {
        let fault = Fault::of(error);
        console.fault(&fault);
        fault.exit
    });
    if let Some(warning) = left_in_s3(&test_objects::left_at_the_end()) {
        console.warn(&warning);
    }
    let lost = ui::lost().filter(|_| exit == Exit::Done);
    if let Some(fault) = &lost {
        console.fault(fault);
    }
    ExitCode::from(lost.map_or(exit, |fault| fault.exit) as u8)
}

fn dispatch(cli: &Cli, console: &Console) -> Result<Exit> {
    let root = &cli.global.root;
    match &cli.command {
        Command::Discover(args) => discover::run(root, args, console),
        Command::Plan(args) => install::plan(root, args, console),
        Command::Install(args) => install::install(root, args, console),
        Command::Link(args) => install::link(root, args, console),
        Command::Prefix(args) => install::prefix(root, args, console),
        Command::Configure(args) => install::configure(root, args, console),
        Command::Proxy(Proxy::Install(args)) => install::gateway(root, args, console),
        Command::Proxy(Proxy::Serve(args)) => proxy::serve(args, console),
        Command::Proxy(Proxy::PrepareCache(args)) => proxy::prepare_cache(root, args),
        Command::Proxy(Proxy::Passwd(args)) => passwd::run(root, args, console),
        Command::Restart(args) => restart::run(root, args, console),
        Command::Doctor(args) => match &args.bundle {
            Some(file) => bundle::run(root, args, file, console),
            None => doctor::run(root, args, console),
        },
        Command::Verify(args) => verify::run(root, args, console),
        Command::Status => status::run(root, console),
        Command::Index(what) => index::run(root, what, console),
        Command::Uninstall(args) => uninstall::run(root, args, console),
        Command::Render(what) => render::run(root, what, console),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::pages(args, console),
    }
}

/// Names the objects that the command wrote for a test, and that may still be there.
fn left_in_s3(objects: &[String]) -> Option<String> {
    let [first, others @ ..] = objects else { return None };
    let (object, it) = match others.len() + 1 {
        1 => ("one object".to_string(), "it"),
        more => (format!("{more} objects"), "them"),
    };
    let remove = others.iter().fold(hint!("aws s3 rm {}", first), |all, next| hint!("{}; aws s3 rm {}", all, next));
    Some(format!(
        "{object} may be left in S3: emr-shs wrote {it} for a test, and deleting {it} failed or was cut short. To delete \
         {it}: {remove}"
    ))
}

/// The host below `--root`.
fn host(root: &Path) -> Result<Host> {
    let root = root.canonicalize().with_context(|| format!("--root {}", root.display()))?;
    Ok(Host::new(&root))
}

/// Refuses to change a node as anybody but root.
fn must_be_root(host: &Host) -> Result<(), Fault> {
    if host.is_live() && !nix::unistd::geteuid().is_root() {
        return Err(Fault::preflight("this command changes the node, and only root may do that").hint(sudo_hint()));
    }
    Ok(())
}

/// `j-3H6EATEWWRWS (emr-7.12.0, primary)`
fn node_name(node: &Node) -> String {
    let id = &node.identity;
    let cluster = id.cluster_id.as_deref().unwrap_or("this node");
    let release = id.release.as_deref().unwrap_or("unknown release");
    let role = match id.role {
        Role::Primary => ", primary",
        Role::Worker => ", core or task node",
        Role::Unknown => "",
    };
    format!("{cluster} ({release}{role})")
}

/// Says what a restarted history server reads.
fn server_reads(restarted: Option<(Duration, String)>, console: &Console) {
    if let Some((took, directory)) = restarted {
        console.ok("history server", &format!("reads {directory} after {:.1} s", took.as_secs_f64()));
    }
}
