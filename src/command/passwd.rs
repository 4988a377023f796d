//! `proxy passwd`: adds a user to the password file of the log gateway, or gives one another password.

use super::host;
use crate::cli::PasswdArgs;
use crate::error::{Exit, Fault};
use crate::gateway::access::{Users, hash_password};
use crate::host::Host;
use crate::paths::GATEWAY_ACCOUNT;
use crate::shown::hint;
use crate::signals;
use crate::ui::Console;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use serde_json::json;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// The longest password, in bytes: bcrypt ignores what comes behind.
const MAX_PASSWORD: usize = 72;
/// The longest name, in bytes.
const MAX_NAME: usize = 255;
/// How long a signal waits until this command looks for it, in milliseconds. After 600 the process would end with a silent
/// terminal (`src/signals.rs`).
const POLL: u8 = 100;

/// The password never comes from an argument: other users of the node can read command lines.
pub(crate) fn run(root: &Path, args: &PasswdArgs, console: &Console) -> Result<Exit> {
    let host = host(root)?;
    let (file, name) = (std::path::absolute(&args.file)?, args.name.as_str());
    check_name(name)?;
    let password = if io::stdin().is_terminal() { ask_twice(name)? } else { first_line_of_stdin()? };
    check_password(&password)?;
    let line = format!("{name}:{}", hash_password(&password)?);
    let mut replaced = false;
    if host.metadata(&file)?.is_some() {
        let mut edit = |known: &[u8]| -> Result<Option<Vec<u8>>> {
            let (new, has_replaced) = with_line(known, name, &line);
            // The gateway would not take a file with another bad line.
            Users::of(&new, &file).map_err(|e| {
                Fault::failed(format!("{} is no password file that the log gateway can use", file.display()))
                    .detail(format!("{e:#}"))
                    .hint("correct or delete that line; the file is as it was")
            })?;
            replaced = has_replaced;
            Ok(Some(new))
        };
        host.edit(&file, &mut edit)?;
    } else {
        make(&host, &file, &line, console)?;
    }
    if console.is_json() {
        console.data("proxy passwd", json!({ "file": file, "name": name, "replaced": replaced }));
    } else {
        let what = if replaced { "has another password in" } else { "is in" };
        let text =
            format!("{name} {what} {}; a gateway that uses the file reads it within ten seconds", file.display());
        console.ok("login", &text);
    }
    Ok(Exit::Done)
}

/// Makes the file, so that only its owner and the gateway can read it.
fn make(host: &Host, file: &Path, line: &str, console: &Console) -> Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    let group = host.group(GATEWAY_ACCOUNT).filter(|_| is_root);
    let (mode, owner) = group.map_or((0o600, None), |group| (0o640, Some((0, group))));
    let content = format!("{line}\n");
    host.write_new(file, content.as_bytes(), mode, owner).map_err(|error| {
        let fault = Fault::failed(format!("{} cannot be made", file.display())).detail(format!("{error:#}"));
        match file.parent().filter(|parent| !parent.is_dir()) {
            Some(parent) => fault.hint(hint!("make the directory first: sudo install -d {}", parent)),
            None => fault.hint("choose a directory in which you can write"),
        }
    })?;
    if group.is_none() {
        let hint = hint!("sudo chgrp {} {} && sudo chmod 640 {}", GATEWAY_ACCOUNT, file, file);
        console.warn(&format!(
            "only you can read the file; once the log gateway is installed, let it read the file: {hint}"
        ));
    }
    Ok(())
}

/// The file with this line in the place of the name's own, or at its end. Says whether the name had a line.
fn with_line(known: &[u8], name: &str, line: &str) -> (Vec<u8>, bool) {
    let mut new: Vec<u8> = Vec::with_capacity(known.len() + line.len() + 2);
    let mut replaced = false;
    for old in known.split_inclusive(|byte| *byte == b'\n') {
        let is_its = old.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b":"));
        if !is_its {
            new.extend(old);
        } else if !replaced {
            new.extend(line.as_bytes());
            new.push(b'\n');
            replaced = true;
        }
    }
    if !replaced {
        if new.last().is_some_and(|byte| *byte != b'\n') {
            new.push(b'\n');
        }
        new.extend(line.as_bytes());
        new.push(b'\n');
    }
    (new, replaced)
}

fn check_name(name: &str) -> Result<(), Fault> {
    let is_odd = |c: char| c.is_control() || c == ':';
    let is_name = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(is_odd);
    if is_name && !name.starts_with('#') && name.trim() == name {
        return Ok(());
    }
    Err(Fault::usage(format!("“{name}” cannot be the name of a user"))
        .detail(
            "wanted a name without colons and control characters, without a # at its beginning and blanks around it",
        )
        .hint("emr-shs proxy passwd /etc/emr-shs/users alice"))
}

fn check_password(password: &str) -> Result<(), Fault> {
    let why = match password {
        "" => "is empty",
        long if long.len() > MAX_PASSWORD => "is longer than 72 bytes, which is all that bcrypt looks at",
        odd if odd.contains(char::is_control) => "contains control characters, which browsers cannot send",
        _ => return Ok(()),
    };
    Err(Fault::failed(format!("the password {why}")).hint("choose another password; the file is as it was"))
}

fn first_line_of_stdin() -> Result<String> {
    let mut line = Vec::new();
    // No password is that long.
    io::stdin().lock().take(4096).read_until(b'\n', &mut line).context("reading the password from stdin")?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    text_of(line.strip_suffix(b"\r").unwrap_or(line))
}

fn text_of(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        Fault::failed("the password is not UTF-8").hint("browsers send passwords in UTF-8: set LANG=C.UTF-8")
    })?;
    Ok(text.to_string())
}

fn ask_twice(name: &str) -> Result<String> {
    let terminal = Terminal::silent()?;
    let first = terminal.ask(&format!("Password for {name}: "))?;
    check_password(&first)?;
    if terminal.ask("The same again: ")? != first {
        return Err(Fault::failed("the two passwords differ").hint("try again; the file is as it was").into());
    }
    Ok(first)
}

/// The terminal of stdin, which shows nothing that is typed until this is dropped.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn silent() -> Result<Self> {
        let before = termios::tcgetattr(io::stdin()).context("asking the terminal for its settings")?;
        let mut silent = before.clone();
        // Ctrl-C arrives as a key, so that it cannot end this process while the terminal is silent.
        silent.local_flags &= !(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent).context("making the terminal silent")?;
        Ok(Self { before })
    }

    fn ask(&self, prompt: &str) -> Result<String> {
        let mut err = io::stderr();
        write!(err, "{prompt}")?;
        err.flush()?;
        let typed = Self::line();
        writeln!(err)?;
        text_of(&typed?)
    }

    /// The next key; `None` at the end of the input, and an error if a signal ends this command.
    fn key() -> Result<Option<u8>> {
        let stdin = io::stdin();
        loop {
            if signals::stop_requested() {
                return Err(interrupted());
            }
            let mut waited = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waited, PollTimeout::from(POLL)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                ready => ready.context("waiting for the password")?,
            };
            let mut key = [0];
            // Not through the buffer of the standard library, which would hide keys from `poll`.
            match nix::unistd::read(stdin.as_fd(), &mut key) {
                Err(Errno::EINTR) => {}
                read => return Ok((read.context("reading the password")? > 0).then_some(key[0])),
            }
        }
    }

    fn line() -> Result<Vec<u8>> {
        const END_OF_TEXT: u8 = 3;
        const END_OF_FILE: u8 = 4;
        const KILL: u8 = 21;
        let mut line = Vec::new();
        loop {
            let Some(key) = Self::key()? else { return Ok(line) };
            match key {
                END_OF_TEXT => return Err(interrupted()),
                b'\n' | b'\r' | END_OF_FILE => return Ok(line),
                // Backspace takes a character, which can be several bytes.
                8 | 127 => while line.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {},
                KILL => line.clear(),
                byte if line.len() < 4096 => line.push(byte),
                _ => {}
            }
        }
    }
}

fn interrupted() -> anyhow::Error {
    Fault::failed("interrupted").hint("the file is as it was").into()
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before);
    }
}
