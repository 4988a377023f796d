//! `completions` and `man`: completion scripts for shells, and man pages.

use super::own_directory::own_directory;
use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::error::Exit;
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

/// Writes one page for each command.
pub(crate) fn pages(args: &ManArgs, console: &Console) -> Result<Exit> {
    let (host, dir) = own_directory(&args.dir, "emr-shs man ./man")?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&host, &command, &dir)?;
    console.ok("man pages", &args.dir.display().to_string());
    Ok(Exit::Done)
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
