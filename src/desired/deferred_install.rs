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
        // `--verify` needs no login as root, so no password lies on the disk. The receipt keeps the keys of `--set` for the
        // unit's run, and only root can read the receipt.
        for option in ["--login", "--set"] {
            take_option(&mut arguments, option);
        }
        variables.retain(|(name, _)| ![LOGIN, SET].contains(&name.as_str()));
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

/// Takes an option that can contain a secret out of the arguments: everybody can read a unit file and the list of
/// processes.
fn take_option(arguments: &mut Vec<String>, option: &str) {
    let names = |word: &String| word.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    while let Some(at) = arguments.iter().position(names) {
        let has_value = arguments.remove(at) == option && at < arguments.len();
        if has_value {
            arguments.remove(at);
        }
    }
}
