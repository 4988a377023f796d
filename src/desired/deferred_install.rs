//! The unit that installs once a node is provisioned: a program, its variables, and the unit.

use super::log_gateway::{PROGRAM_DIR, SETTINGS_DIR};
use super::{Desired, DesiredState, directory, root_owner};
use crate::change::resource::{DEFERRED_INSTALL_UNIT, Program, Resource, STARTED_AS, State};
use crate::error::Fault;
use crate::host::Host;
use crate::systemd::{quote_argument, quote_value};
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that tells a run of `install` that it is the unit's.
pub const IN_UNIT: &str = "EMR_SHS_IN_UNIT";
/// What the unit has in its environment of ours; may hold a password.
const VARIABLES: &str = "install.env";

const LOGIN: &str = "EMR_SHS_LOGIN";
const SET: &str = "EMR_SHS_SET";

/// Takes a password out of what everybody may read in a unit file and a list of processes.
fn take_login(arguments: &mut Vec<String>) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == "--login" || argument.starts_with("--login="))?;
    let word = arguments.remove(at);
    match word.strip_prefix("--login=") {
        Some(login) => Some(login.into()),
        None => (at < arguments.len()).then(|| arguments.remove(at)),
    }
}

/// An `install` that is to be run later as it was typed: its arguments and its variables.
pub struct DeferredCommandLine {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl DeferredCommandLine {
    /// This very run.
    pub fn this() -> Result<Self, Fault> {
        let text = |text: OsString| {
            text.into_string().map_err(|text| {
                Fault::usage(format!("{} is not UTF-8", text.display())).hint("a unit file can hold UTF-8 only")
            })
        };
        let mut arguments: Vec<String> = std::env::args_os().skip(1).map(text).collect::<Result<_, _>>()?;
        let ours = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("EMR_SHS_") && name != IN_UNIT)?;
            Some(text(value).map(|value| (name, value)))
        };
        let mut variables: Vec<_> = std::env::vars_os().filter_map(ours).collect::<Result<_, _>>()?;
        if let Some(login) = take_login(&mut arguments) {
            variables.retain(|(name, _)| name != LOGIN);
            variables.push((LOGIN.into(), login));
        }
        // The old systemd of Amazon Linux 2 takes no value of several lines from a file.
        if let Some(at) = variables.iter().position(|(name, value)| name == SET && value.contains('\n')) {
            let keys = variables.remove(at).1;
            if !arguments.iter().any(|argument| argument == "--set" || argument.starts_with("--set=")) {
                arguments.extend(keys.lines().map(|key| format!("--set={key}")));
            }
        }
        variables.sort();
        Ok(Self { arguments, variables })
    }

    fn unit(&self) -> String {
        let arguments: String =
            self.arguments.iter().map(|argument| format!(" {}", quote_argument(argument))).collect();
        format!(
            "# Written by emr-shs; it goes when it has done its work, or by `emr-shs uninstall`.\n\
             [Unit]\n\
             Description=Installation of emr-shs once this node is provisioned\n\
             After=network-online.target spark-history-server.service\n\
             Wants=network-online.target\n\
             \n\
             [Service]\n\
             # Not oneshot: at boot multi-user.target would wait for it, and what comes after that.\n\
             Type=simple\n\
             NotifyAccess=main\n\
             EnvironmentFile={SETTINGS_DIR}/{VARIABLES}\n\
             ExecStart={PROGRAM_DIR}/emr-shs{arguments}\n\
             # Told to stop, it puts back what it has begun.\n\
             KillMode=mixed\n\
             TimeoutStopSec=300\n\
             # Killed in the middle, it finishes what it has begun.\n\
             Restart=on-abnormal\n\
             RestartSec=10\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        )
    }

    fn environment(&self) -> String {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={}\n", quote_value(value)));
        format!("# Written by emr-shs.\n{IN_UNIT}=\"true\"\n{}", variables.collect::<String>())
    }

    /// What the node needs for that.
    pub fn wants(&self, host: &Host) -> Result<Vec<Desired>> {
        let owner = root_owner(host);
        let want = |resource, state, why: &str| Desired { resource, wanted: DesiredState::Is(state), why: why.into() };
        let file = |path: PathBuf, content: String, mode: u32, why: &str| {
            want(Resource::File { path }, State::File { content, mode, owner }, why)
        };
        let program = Program::this(PROGRAM_DIR)?;
        let (unit, environment) = (self.unit(), self.environment());
        let mut hash = Sha256::new();
        for part in [program.name(), &unit, &environment] {
            hash.update(part);
        }
        let started_as: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
        let environment = format!("{environment}{STARTED_AS}=\"{started_as}\"\n");
        Ok(vec![
            directory(Path::new(PROGRAM_DIR), owner, "for this program"),
            want(Resource::Program { path: program.path() }, State::Exists, "this program"),
            want(
                Resource::Link { path: Path::new(PROGRAM_DIR).join("emr-shs") },
                State::Link { target: program.name().into() },
                "this program, for the unit",
            ),
            directory(Path::new(SETTINGS_DIR), owner, "for settings"),
            file(Path::new(SETTINGS_DIR).join(VARIABLES), environment, 0o600, "variables of this run"),
            file(Path::new("/etc/systemd/system").join(DEFERRED_INSTALL_UNIT), unit, 0o644, "this run, as a unit"),
            want(
                Resource::Unit { name: DEFERRED_INSTALL_UNIT.into() },
                State::Unit { enabled: true, runs: Some(started_as) },
                "waits until the node is provisioned, then installs",
            ),
        ])
    }
}

/// Whether a file is of this unit.
pub fn is_file_of(path: &Path) -> bool {
    path.ends_with(VARIABLES) && path.starts_with(SETTINGS_DIR) || path.ends_with(DEFERRED_INSTALL_UNIT)
}
