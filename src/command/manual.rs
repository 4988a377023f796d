//! `completions` and `man`: completion scripts for shells, and man pages.

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::error::{Exit, Fault};
use crate::host::Host;
use crate::ui::Console;
use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use std::io::Write;
use std::path::Path;

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "emr-shs", &mut script);
    std::io::stdout().write_all(&script).context("writing to stdout")?;
    Ok(Exit::Done)
}

/// Writes one page for each command. Root may name a directory such as `/tmp`, where others can put links in the way.
pub(crate) fn pages(args: &ManArgs, console: &Console) -> Result<Exit> {
    let dir = std::path::absolute(&args.dir)?;
    let root = Path::new("/");
    let host = Host::new(root);
    let made = make_dirs(&host, &dir).and_then(|()| Ok(host.target_place(&dir)?.path()));
    let dir = made.with_context(|| format!("making {}", dir.display()))?;
    if host.metadata(&dir)?.is_some_and(|meta| host.others_may_change(&meta)) {
        return Err(Fault::failed(format!("others than you can change what is in {}", dir.display()))
            .detail("a page could end in another file than its own")
            .hint("name a directory that is yours alone: emr-shs man ./man")
            .into());
    }
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&host, &command, &dir)?;
    console.ok("man pages", &args.dir.display().to_string());
    Ok(Exit::Done)
}

fn make_dirs(host: &Host, dir: &Path) -> Result<()> {
    if host.metadata(dir)?.is_some() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dirs(host, parent)?;
    }
    let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Ok(host.place(dir)?.create_dir(0o755, owner)?)
}

fn write_pages(host: &Host, command: &Command, dir: &Path) -> Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(host, command, dir)?;
    }
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    host.write_atomic(&dir.join(page.get_filename()), &text, 0o644, None)
}
