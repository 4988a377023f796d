//! The text of the log gateway's unit, for the systemd that is there.

/// For systemd 252, which is Amazon Linux 2023's.
const TEXT: &str = include_str!("../../assets/emr-shs-gateway.service");

/// The first version that knows every directive of [`TEXT`]; Amazon Linux 2 has 219.
const KNOWS_ALL: u32 = 247;

/// What systemd 219 has instead of lines that it does not know. Its other directives for sandboxes and limits came later.
const COUNTERPARTS: [(&str, &str); 4] = [
    ("MemoryMax=1G", "MemoryLimit=1G"),
    ("TasksMax=512", "LimitNPROC=512"),
    ("CPUWeight=50", "CPUShares=512"),
    ("ProtectSystem=strict", "ProtectSystem=full"),
];

/// Directives of [`TEXT`] that systemd 219 does not know; it would write a line about each of them to the journal
/// (systemd's NEWS names the versions, from 227 to 247).
const UNKNOWN_TO_219: [&str; 16] = [
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ReadWritePaths",
    "RemoveIPC",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    // Known, but not with a group of calls.
    "SystemCallFilter",
    "SystemCallErrorNumber",
    "ProtectProc",
];

/// The unit's text. `systemd` is its version; `None` if systemd does not run here, as in an image that is being made.
pub(super) fn text(systemd: Option<u32>) -> String {
    if systemd.is_none_or(|version| version >= KNOWS_ALL) {
        return TEXT.into();
    }
    let lines = TEXT.lines().filter_map(|line| {
        if let Some((_, counterpart)) = COUNTERPARTS.iter().find(|(new, _)| *new == line) {
            return Some(*counterpart);
        }
        let directive = line.split('=').next().unwrap_or_default();
        (!UNKNOWN_TO_219.contains(&directive)).then_some(line)
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What systemd 219 knows of the directives that units of emr-shs could use: its `load-fragment-gperf.gperf.m4`.
    const KNOWN_TO_219: [&str; 31] = [
        "After",
        "CPUShares",
        "CapabilityBoundingSet",
        "Description",
        "EnvironmentFile",
        "ExecStart",
        "LimitCORE",
        "LimitNOFILE",
        "LimitNPROC",
        "MemoryLimit",
        "NoNewPrivileges",
        "OOMScoreAdjust",
        "PrivateDevices",
        "PrivateTmp",
        "ProtectHome",
        "ProtectSystem",
        "Restart",
        "RestartSec",
        "RestrictAddressFamilies",
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "StartLimitBurst",
        "StartLimitInterval",
        "SystemCallArchitectures",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "Type",
        "UMask",
        "User",
        "WantedBy",
        "Wants",
    ];

    fn directives(text: &str) -> Vec<(&str, &str)> {
        text.lines().filter(|line| !line.starts_with(['#', '['])).filter_map(|line| line.split_once('=')).collect()
    }

    #[test]
    fn systemd_219_gets_only_directives_that_it_knows() {
        let old = text(Some(219));
        let unknown: Vec<_> = directives(&old).into_iter().filter(|(name, _)| !KNOWN_TO_219.contains(name)).collect();
        assert_eq!(unknown, []);
        for (name, value) in [("MemoryLimit", "1G"), ("CPUShares", "512"), ("ProtectSystem", "full")] {
            assert!(directives(&old).contains(&(name, value)), "{name} in {old}");
        }
    }

    #[test]
    fn every_line_that_depends_on_the_version_is_in_the_unit() {
        let new = directives(TEXT);
        assert!(COUNTERPARTS.iter().all(|(line, _)| TEXT.lines().any(|of_unit| of_unit == *line)));
        let missing: Vec<_> =
            UNKNOWN_TO_219.iter().filter(|name| !new.iter().any(|(known, _)| known == *name)).collect();
        assert_eq!(missing, Vec::<&&str>::new());
    }
}
