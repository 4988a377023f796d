//! Hands a node on to the next test if the test before has not changed it.
//!
//! The start of a node takes seconds of processor time, so a test that only reads should not end one. To prove that nothing
//! was changed, `lab/node fingerprint` lists files, processes with their start times, and mounts before and after the test.
//! With EMR_SHS_TEST_EXPLAIN=1 a test that has changed its node shows what it has changed.

use super::node::{Node, Profile, script};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;

/// The number of nodes that are kept at once. Each needs some 300 MB of memory.
const LIMIT: usize = 6;

/// A node's profile, and a name for how it was prepared.
pub type Kind = (Profile, &'static str);

/// A node, and its fingerprint from before the test.
pub struct Kept {
    pub kind: Kind,
    pub name: String,
    pub fingerprint: String,
}

static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
static REAPER: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// Removes a node of that kind from the kept ones.
pub fn take(kind: Kind) -> Option<Kept> {
    let mut kept = KEPT.lock().unwrap();
    let at = kept.iter().position(|node| node.kind == kind)?;
    Some(kept.remove(at))
}

/// Keeps the node if its fingerprint is still the same, else takes it down.
pub fn give_back(node: Kept) {
    let now = fingerprint(&node.name);
    if now != node.fingerprint {
        if std::env::var_os("EMR_SHS_TEST_EXPLAIN").is_some() {
            explain(&node, &now);
        }
        script(&["down", "--kill", &node.name]);
        return;
    }
    let mut kept = KEPT.lock().unwrap();
    kept.push(node);
    let oldest = (kept.len() > LIMIT).then(|| kept.remove(0));
    drop(kept);
    if let Some(oldest) = oldest {
        script(&["down", "--kill", &oldest.name]);
    }
}

pub fn fingerprint(name: &str) -> String {
    let output = script(&["fingerprint", name]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Shows what the test has changed.
fn explain(node: &Kept, now: &str) {
    let differ = |one: &str, other: &str, sign: &str| {
        let known: std::collections::BTreeSet<&str> = other.lines().collect();
        one.lines()
            .filter(|line| !known.contains(line))
            .take(8)
            .map(|line| format!("  {sign} {line}\n"))
            .collect::<String>()
    };
    let (gone, new) = (differ(&node.fingerprint, now, "-"), differ(now, &node.fingerprint, "+"));
    eprintln!("{} ({}) is not kept:\n{gone}{new}", node.name, node.kind.1);
}

/// Starts a process that outlives the tests and then takes down their nodes: the kept ones, and all of a run that was
/// stopped.
pub fn take_down_at_the_end(lab_node: &str, prefix: &str) {
    let mut reaper = REAPER.lock().unwrap();
    if reaper.is_some() {
        return;
    }
    let line =
        r#"cat >/dev/null; "$0" list | cut -f 1 | grep "^$1" | while read -r name; do "$0" down --kill "$name"; done"#;
    let mut command = Command::new("setsid");
    command
        .args(["bash", "-c", line, lab_node, prefix])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // The kernel closes its standard input when this process ends in any way.
    *reaper = command.spawn().unwrap().stdin;
}

impl Node {
    /// A node that `prepare` has prepared. `what` names the preparation: a kept node of the same name is as good.
    pub fn prepared(profile: Profile, what: &'static str, prepare: impl FnOnce(&Self)) -> Self {
        if let Some(kept) = take((profile, what)) {
            return Self::kept(kept);
        }
        let mut node = Self::fresh(profile);
        prepare(&node);
        node.keep_as((profile, what));
        node
    }
}
