//! Which control group a process is in, as the kernel and systemd know it (`docs/emr.md §3.1`). A process cannot choose
//! its control group as it chooses its arguments.

use fs_err as fs;
use std::path::{Path, PathBuf};

const PROC: &str = "/proc";

/// The control group of a unit, as `/proc/PID/cgroup` spells it for this process.
///
/// `systemctl` names the group from the root that systemd itself sees. Inside a container the kernel puts further
/// elements before that name. The kernel puts the same elements before the group of process 1.
pub(super) struct UnitGroup {
    /// Where the kernel shows processes.
    proc: PathBuf,
    hierarchy: Hierarchy,
    path: String,
}

impl UnitGroup {
    /// `None` if process 1 cannot be seen.
    pub(super) fn new(control_group: &str) -> Option<Self> {
        Self::seen_in(Path::new(PROC), control_group)
    }

    fn seen_in(proc: &Path, control_group: &str) -> Option<Self> {
        let first = groups_of(proc, 1)?;
        let first = first.as_str();
        let hierarchy = if path_in(first, Hierarchy::Named).is_some() { Hierarchy::Named } else { Hierarchy::Unified };
        let path = path_in(first, hierarchy)?;
        // systemd moves itself there since version 226.
        let root = path.strip_suffix("/init.scope").unwrap_or(path).trim_end_matches('/');
        Some(Self { proc: proc.into(), hierarchy, path: format!("{root}{control_group}") })
    }

    pub(super) fn contains(&self, pid: u32) -> bool {
        groups_of(&self.proc, pid).is_some_and(|groups| self.is_in(&groups))
    }

    fn is_in(&self, groups: &str) -> bool {
        path_in(groups, self.hierarchy)
            .and_then(|path| path.strip_prefix(&self.path))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The control groups of a process; `None` for one that is gone, or that this user is not allowed to see.
fn groups_of(proc: &Path, pid: u32) -> Option<String> {
    fs::read_to_string(proc.join(pid.to_string()).join("cgroup")).ok()
}

/// Whether `/proc` hides the processes of others from this user, as it does when it is mounted with `hidepid`. Everybody
/// can read the control groups of a process that is not hidden.
pub(super) fn is_hiding_processes() -> bool {
    groups_of(Path::new(PROC), 1).is_none()
}

/// The hierarchy in which systemd keeps its units.
#[derive(Clone, Copy)]
enum Hierarchy {
    /// Version 1, `name=systemd`. systemd keeps its units there as long as that hierarchy exists.
    Named,
    /// Version 2.
    Unified,
}

fn path_in(groups: &str, wanted: Hierarchy) -> Option<&str> {
    let lines = groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    lines.filter(|line| line.len() == 3).find_map(|line| match wanted {
        Hierarchy::Named => (line[1] == "name=systemd").then_some(line[2]),
        Hierarchy::Unified => (line[0] == "0" && line[1].is_empty()).then_some(line[2]),
    })
}

/// The unit or the session in which systemd keeps a process, such as `acme.service` or `session-3.scope`. That is the outermost: below
/// their own session users make groups, and units of their own, of any name.
pub(super) fn unit_of(pid: u32) -> Option<String> {
    unit_in(&groups_of(Path::new(PROC), pid)?)
}

fn unit_in(groups: &str) -> Option<String> {
    let path = path_in(groups, Hierarchy::Named).or_else(|| path_in(groups, Hierarchy::Unified))?;
    let is_unit = |element: &&str| element.ends_with(".service") || element.ends_with(".scope");
    path.split('/').find(is_unit).map(str::to_string)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what it expects by unwrapping it")]

    use super::{UnitGroup, unit_in};
    use fs_err as fs;

    const UNIT: &str = "/system.slice/spark-history-server.service";

    /// Writes a tree as `/proc` shows it: the control groups of process 1, and those of another process.
    #[track_caller]
    fn is_member(first: &str, of_process: &str) -> bool {
        let proc = tempfile::tempdir().unwrap();
        for (pid, groups) in [(1, first), (42, of_process)] {
            fs::create_dir(proc.path().join(pid.to_string())).unwrap();
            fs::write(proc.path().join(format!("{pid}/cgroup")), groups).unwrap();
        }
        let group = UnitGroup::seen_in(proc.path(), UNIT);
        assert!(!group.as_ref().is_some_and(|group| group.contains(43)), "a process that is gone is in no group");
        group.is_some_and(|group| group.contains(42))
    }

    #[test]
    fn nothing_is_the_unit_s_where_process_1_is_hidden() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("42")).unwrap();
        fs::write(proc.path().join("42/cgroup"), format!("0::{UNIT}\n")).unwrap();
        assert!(UnitGroup::seen_in(proc.path(), UNIT).is_none());
    }

    #[test]
    fn a_unit_s_process_is_known_on_every_layout_of_control_groups() {
        // Version 1 with systemd 219, which stays in the root group.
        let old = "11:memory:/\n1:name=systemd:/\n";
        assert!(is_member(old, "11:memory:/\n1:name=systemd:/system.slice/spark-history-server.service\n"));
        // Version 2, where systemd has moved itself, and where a container hides its own elements.
        assert!(is_member("0::/\n", "0::/system.slice/spark-history-server.service\n"));
        assert!(is_member("0::/init.scope\n", "0::/system.slice/spark-history-server.service\n"));
        assert!(is_member("0::/init.scope\n", "0::/system.slice/spark-history-server.service/server\n"));
        // Both, in a container.
        let both = "9:name=systemd:/box/payload/init.scope\n1:cpu:/\n0::/box/payload/init.scope\n";
        assert!(is_member(both, "9:name=systemd:/box/payload/system.slice/spark-history-server.service\n0::/\n"));
    }

    #[test]
    fn no_user_passes_for_a_unit_of_the_system() {
        let unit = |groups: &str| unit_in(groups).unwrap();
        assert_eq!(unit("0::/system.slice/acme.service\n"), "acme.service");
        assert_eq!(unit("0::/system.slice/system-getty.slice/getty@tty1.service/own\n"), "getty@tty1.service");
        assert_eq!(unit("0::/user.slice/user-1.slice/session-3.scope\n"), "session-3.scope");
        // systemd-run --user --unit=hadoop-hdfs-namenode
        let users = "0::/user.slice/user-1.slice/user@1.service/app.slice/hadoop-hdfs-namenode.service\n";
        assert_eq!(unit(users), "user@1.service");
        assert!(unit_in("0::/init.scope\n").is_some() && unit_in("0::/\n").is_none());
    }

    #[test]
    fn no_other_process_passes_for_the_unit_s() {
        let new = "0::/init.scope\n";
        // Users can make groups of any name below their own session.
        let own = "0::/user.slice/user-1.slice/user@1.service/system.slice/spark-history-server.service\n";
        assert!(!is_member(new, own));
        assert!(!is_member(new, "0::/system.slice/spark-history-server.service.d\n"));
        assert!(!is_member(new, "0::/system.slice/other.service\n"));
        assert!(!is_member(new, "0::/\n"));
        // The second hierarchy does not count where systemd uses the first.
        let old = "1:name=systemd:/\n0::/\n";
        assert!(!is_member(old, "1:name=systemd:/user.slice\n0::/system.slice/spark-history-server.service\n"));
        assert!(!is_member("", "0::/system.slice/spark-history-server.service\n"));
    }
}
