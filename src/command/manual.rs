//! `completions` and `man`: completion scripts for shells, and man pages.

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::error::Exit;
use crate::ui::Console;
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::io::Write;

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "emr-shs", &mut script);
    std::io::stdout().write_all(&script).context("writing to stdout")?;
    Ok(Exit::Done)
}

/// Writes one page for each command.
pub(crate) fn pages(args: &ManArgs, console: &Console) -> Result<Exit> {
    fs_err::create_dir_all(&args.dir)?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .with_context(|| format!("writing man pages into {}", args.dir.display()))?;
    console.ok("man pages", &args.dir.display().to_string());
    Ok(Exit::Done)
}
