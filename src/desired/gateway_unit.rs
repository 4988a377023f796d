//! The texts of the log gateway's units, for the systemd that is there.

use super::event_log_cache::EventLogCache;
use crate::paths::PROGRAM_DIR;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// For systemd 252, which is Amazon Linux 2023's.
const TEXT: &str = include_str!("../../assets/emr-shs-gateway.service");

/// The unit that listens; every version of systemd since 219 knows its directives.
const SOCKET: &str = include_str!("../../assets/emr-shs-gateway.socket");

/// The line of [`SOCKET`] with the address.
const LISTENS: &str = "ListenStream=9977";

/// The unit that listens on the port that the gateway takes from the history server.
const TAKEN_PORT: &str = include_str!("../../assets/emr-shs-taken-port.socket");

/// The line of [`TAKEN_PORT`] with the address.
const TAKEN_PORT_LISTENS: &str = "ListenStream=18080";

/// The first version that knows every directive of [`TEXT`]; Amazon Linux 2 has 219.
const KNOWS_ALL: u32 = 247;

/// What systemd 219 has instead of lines that it does not know. Its other directives for sandboxes and limits came later.
const COUNTERPARTS: [(&str, &str); 4] = [
    ("MemoryMax=1G", "MemoryLimit=1G"),
    ("TasksMax=512", "LimitNPROC=512"),
    ("CPUWeight=50", "CPUShares=512"),
    ("ProtectSystem=strict", "ProtectSystem=full"),
];

/// How a command before the start runs as root. Where it fails, the gateway itself says what it lacks.
const AS_ROOT: &str = "ExecStartPre=-+";
/// The same for systemd 219, which applies it to each command but that of the gateway itself.
const AS_ROOT_219: &str = "PermissionsStartOnly=yes\nExecStartPre=-";

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

/// The line of [`TEXT`] with the mode of what the gateway makes; its group may read an event log that the gateway fetches.
const UMASK: &str = "UMask=0077";
const UMASK_WITH_CACHE: &str = "UMask=0027";

/// The line of [`TEXT`] behind which the cache's lines stand.
const BEFORE_CACHE: &str = "ReadWritePaths=-/var/lib/emr-shs-gateway";

/// The unit's text. `systemd` is its version; `None` if systemd does not run here, as in an image that is being made.
pub(super) fn text(systemd: Option<u32>, cache: Option<&EventLogCache>) -> String {
    let mut text = TEXT.to_string();
    if let Some(cache) = cache {
        text = text
            .replace(UMASK, UMASK_WITH_CACHE)
            .replace(BEFORE_CACHE, &format!("{BEFORE_CACHE}\n{}", lines_of(cache)));
    }
    for_systemd(systemd, text)
}

/// Root makes the event-log cache before each start of the gateway, because its disk can be empty then.
fn lines_of(cache: &EventLogCache) -> String {
    let path = cache.directory.display();
    format!(
        "# Event logs that somebody opens. A disk at /mnt is empty after a stop of the machine.\n\
         ReadWritePaths=-{path}\n\
         ExecStartPre=-+{PROGRAM_DIR}/emr-shs proxy prepare-cache {path} --reader {}",
        cache.reader
    )
}

fn for_systemd(systemd: Option<u32>, text: String) -> String {
    if systemd.is_none_or(|version| version >= KNOWS_ALL) {
        return text;
    }
    let lines = text.lines().flat_map(|line| {
        if let Some((_, counterpart)) = COUNTERPARTS.iter().find(|(new, _)| *new == line) {
            return Some(counterpart.to_string());
        }
        if let Some(command) = line.strip_prefix(AS_ROOT) {
            return Some(format!("{AS_ROOT_219}{command}"));
        }
        let directive = line.split('=').next().unwrap_or_default();
        (!UNKNOWN_TO_219.contains(&directive)).then(|| line.to_string())
    });
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

/// A socket unit, and the address on which systemd listens for it.
pub(super) struct Socket {
    pub(super) text: String,
    pub(super) listens: String,
}

impl Socket {
    /// `None` for an address that systemd cannot spell: one that holds on a single interface only.
    pub(super) fn on(address: SocketAddr) -> Option<Self> {
        Self::of(SOCKET, LISTENS, address)
    }

    /// The same for the port that the gateway takes from the history server.
    pub(super) fn on_taken_port(address: SocketAddr) -> Option<Self> {
        Self::of(TAKEN_PORT, TAKEN_PORT_LISTENS, address)
    }

    fn of(unit: &str, line: &str, address: SocketAddr) -> Option<Self> {
        if matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0) {
            return None;
        }
        let port = address.port();
        let (spelled, listens) = if address.ip() == Ipv6Addr::UNSPECIFIED {
            // systemd, too, takes a port alone for IPv4 where the kernel has no IPv6.
            let has_ipv6 = Path::new("/proc/net/if_inet6").exists();
            (port.to_string(), if has_ipv6 { address } else { (Ipv4Addr::UNSPECIFIED, port).into() })
        } else {
            (address.to_string(), address)
        };
        let text = unit.replace(line, &format!("ListenStream={spelled}"));
        Some(Self { text, listens: listens.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What systemd 219 knows of the directives that units of emr-shs could use: its `load-fragment-gperf.gperf.m4`.
    const KNOWN_TO_219: [&str; 38] = [
        "After",
        "Backlog",
        "BindIPv6Only",
        "CPUShares",
        "CapabilityBoundingSet",
        "Description",
        "EnvironmentFile",
        "ExecStart",
        "ExecStartPre",
        "FreeBind",
        "LimitCORE",
        "LimitNOFILE",
        "LimitNPROC",
        "ListenStream",
        "MemoryLimit",
        "NoNewPrivileges",
        "OOMScoreAdjust",
        "PermissionsStartOnly",
        "PrivateDevices",
        "PrivateTmp",
        "ProtectHome",
        "ProtectSystem",
        "Restart",
        "RestartSec",
        "RestrictAddressFamilies",
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "Service",
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
        let cache = EventLogCache { directory: "/mnt/emr-shs/event-log-cache".into(), reader: "spark".into() };
        let old = text(Some(219), Some(&cache));
        let all = directives(&old).into_iter().chain(directives(SOCKET)).chain(directives(TAKEN_PORT));
        let unknown: Vec<_> = all.filter(|(name, _)| !KNOWN_TO_219.contains(name)).collect();
        assert_eq!(unknown, []);
        for (name, value) in [("MemoryLimit", "1G"), ("CPUShares", "512"), ("ProtectSystem", "full")] {
            assert!(directives(&old).contains(&(name, value)), "{name} in {old}");
        }
    }

    #[test]
    fn the_socket_listens_where_the_settings_say() {
        let line = |address: &str| {
            let socket = Socket::on(address.parse().unwrap_or_else(|_| unreachable!()))?;
            socket.text.lines().find(|line| line.starts_with("ListenStream=")).map(str::to_string)
        };
        let table = [
            ("[::]:9977", "9977"),
            ("[::]:9978", "9978"),
            ("0.0.0.0:9977", "0.0.0.0:9977"),
            ("[::1]:80", "[::1]:80"),
            ("10.1.2.3:9977", "10.1.2.3:9977"),
        ];
        for (address, spelled) in table {
            assert_eq!(line(address), Some(format!("ListenStream={spelled}")));
        }
        assert_eq!(line("[fe80::1%2]:9977"), None);
        let taken = Socket::on_taken_port("[::]:18090".parse().unwrap_or_else(|_| unreachable!()));
        assert!(taken.is_some_and(|taken| taken.text.contains("\nListenStream=18090\n")));
    }

    #[test]
    fn the_document_lists_what_219_lacks() {
        let document = include_str!("../../docs/security.md");
        let (_, table) = document.split_once("## systemd 219 and 252").unwrap_or_default();
        let counterparts = COUNTERPARTS.iter().flat_map(|(new, old)| [*new, *old]);
        for name in counterparts.chain(UNKNOWN_TO_219) {
            assert!(table.contains(&format!("`{name}")), "{name}");
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
