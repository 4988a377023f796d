//! Parses the command line, runs the command, and returns its exit code.

use clap::Parser;
use emr_shs::cli::{Cli, Command, Proxy};
use emr_shs::command::{discover, doctor, install, manual, proxy, render, restart, status, uninstall, verify};
use emr_shs::error::{Exit, Fault};
use emr_shs::signals;
use emr_shs::ui::Console;
use std::process::ExitCode;

/// musl's allocator has one lock for all threads. With it the log gateway answers a tenth fewer requests, and `plan`
/// takes half as long again.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::new(&cli.global);
    // `proxy serve` handles signals itself.
    let listening = if matches!(cli.command, Command::Proxy(Proxy::Serve(_))) { Ok(()) } else { signals::listen() };
    let exit = listening.and_then(|()| run(&cli, &console)).unwrap_or_else(|error| {
        let fault = Fault::of(error);
        console.fault(&fault);
        fault.exit
    });
    ExitCode::from(exit as u8)
}

fn run(cli: &Cli, console: &Console) -> anyhow::Result<Exit> {
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
        Command::Restart(args) => restart::run(root, args, console),
        Command::Doctor(args) => doctor::run(root, args, console),
        Command::Verify(args) => verify::run(root, args, console),
        Command::Status => status::run(root, console),
        Command::Uninstall(args) => uninstall::run(root, args, console),
        Command::Render(what) => render::run(root, what, console),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::pages(args, console),
    }
}
