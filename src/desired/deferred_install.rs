//! The unit that installs once EMR has provisioned the node: a program, its variables, and the unit.

use super::{directory, exactly, file_owner};
use crate::change::desired::Desired;
use crate::change::resource::{Program, Resource, State, short_digest};
use crate::error::Fault;
use crate::host::Host;
use crate::paths::{
    DEFERRED_INSTALL_ENVIRONMENT, DEFERRED_INSTALL_UNIT, IN_UNIT_VARIABLE, PROGRAM_DIR, SETTINGS_DIR,
    STARTED_AS_VARIABLE, UNIT_DIR,
};
use crate::systemd::{quote_argument, quote_value};
use anyhow::Result;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const LOGIN: &str = "EMR_SHS_LOGIN";
const SET: &str = "EMR_SHS_SET";
/// The variables that name proxies, beside their names in small letters.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// The command line of an `install` that runs later: the arguments and the variables of this process.
pub(crate) struct DeferredCommandLine {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl DeferredCommandLine {
    pub(crate) fn of_this_process() -> Result<Self, Fault> {
        let text = |text: OsString| {
            text.into_string().map_err(|text| {
                Fault::usage(format!("{} is not UTF-8", text.display())).hint("a unit file can hold UTF-8 only")
            })
        };
        let mut arguments: Vec<String> = std::env::args_os().skip(1).map(text).collect::<Result<_, _>>()?;
        let ours = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok()?;
            let is_ours = name.starts_with("EMR_SHS_") && name != IN_UNIT_VARIABLE;
            let is_ours = is_ours || PROXIES.contains(&name.to_uppercase().as_str());
            is_ours.then(|| text(value).map(|value| (name, value)))
        };
        let mut variables: Vec<_> = std::env::vars_os().filter_map(ours).collect::<Result<_, _>>()?;
        // `--verify` needs no login as root, so no password lies on the disk.
        take_login(&mut arguments);
        variables.retain(|(name, _)| name != LOGIN);
        move_set_to_arguments(&mut arguments, &mut variables);
        variables.sort();
        Ok(Self { arguments, variables })
    }

    fn unit(&self) -> String {
        let arguments: String =
            self.arguments.iter().map(|argument| format!(" {}", quote_argument(argument))).collect();
        format!(
            "# Written by emr-shs. The unit removes itself when it has installed; `emr-shs uninstall` removes it too.\n\
             [Unit]\n\
             Description=Installation of emr-shs once this node is provisioned\n\
             After=network-online.target spark-history-server.service\n\
             Wants=network-online.target\n\
             \n\
             [Service]\n\
             # Not oneshot: at boot, multi-user.target and every unit behind it would wait for this unit.\n\
             Type=simple\n\
             NotifyAccess=main\n\
             EnvironmentFile={SETTINGS_DIR}/{DEFERRED_INSTALL_ENVIRONMENT}\n\
             ExecStart={PROGRAM_DIR}/emr-shs{arguments}\n\
             # On SIGTERM the installation puts back what it has changed.\n\
             KillMode=mixed\n\
             TimeoutStopSec=300\n\
             # After a kill the next run finishes what the killed run began.\n\
             Restart=on-abnormal\n\
             RestartSec=10\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        )
    }

    fn environment(&self) -> String {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={}\n", quote_value(value)));
        format!("# Written by emr-shs.\n{IN_UNIT_VARIABLE}=\"true\"\n{}", variables.collect::<String>())
    }

    /// The resources of the unit.
    pub(crate) fn desired(&self, host: &Host) -> Result<Vec<Desired>> {
        let owner = file_owner(host);
        let file = |path: PathBuf, content: String, mode: u32, why: &str| {
            exactly(Resource::File { path }, State::File { content, mode, owner }, why)
        };
        let program = Program::this(PROGRAM_DIR)?;
        let (unit, environment) = (self.unit(), self.environment());
        let started_as = short_digest([program.name(), &unit, &environment]);
        let environment = format!("{environment}{STARTED_AS_VARIABLE}=\"{started_as}\"\n");
        let settings = Path::new(SETTINGS_DIR);
        Ok(vec![
            directory(Path::new(PROGRAM_DIR), owner, "holds this program"),
            exactly(Resource::Program { path: program.path() }, State::Exists, "this program"),
            exactly(
                Resource::Link { path: Path::new(PROGRAM_DIR).join("emr-shs") },
                State::Link { target: program.name().into() },
                "this program, for the unit",
            ),
            directory(settings, owner, "holds settings"),
            file(settings.join(DEFERRED_INSTALL_ENVIRONMENT), environment, 0o600, "variables of this run"),
            file(Path::new(UNIT_DIR).join(DEFERRED_INSTALL_UNIT), unit, 0o644, "this run, as a unit"),
            exactly(
                Resource::Unit { name: DEFERRED_INSTALL_UNIT.into() },
                State::Unit { enabled: true, runs: Some(started_as) },
                "waits until the node is provisioned, then installs",
            ),
        ])
    }
}

/// Takes the password out of the arguments: everybody can read a unit file and the list of processes.
fn take_login(arguments: &mut Vec<String>) {
    while let Some(at) = arguments.iter().position(|word| word == "--login" || word.starts_with("--login=")) {
        let has_value = arguments.remove(at) == "--login" && at < arguments.len();
        if has_value {
            arguments.remove(at);
        }
    }
}

/// Turns a variable of several lines into arguments. The systemd of Amazon Linux 2 reads no value of several lines
/// from an environment file. Arguments win over the variable, as they do on the command line.
fn move_set_to_arguments(arguments: &mut Vec<String>, variables: &mut Vec<(String, String)>) {
    let Some(at) = variables.iter().position(|(name, value)| name == SET && value.contains('\n')) else { return };
    let keys = variables.remove(at).1;
    if !arguments.iter().any(|argument| argument == "--set" || argument.starts_with("--set=")) {
        arguments.extend(keys.lines().map(|key| format!("--set={key}")));
    }
}
