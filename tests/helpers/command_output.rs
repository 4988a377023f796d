//! The output and exit code of a command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;

pub struct CommandOutput(pub Output);

impl CommandOutput {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }
    pub fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }
    pub fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }
    /// Fails, and shows the output, unless the command exited with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.out(), self.err());
        self
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.0.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.out()))
    }
}

/// Fails, and names the paths that differ, unless two trees are equal.
#[track_caller]
pub fn assert_same_tree(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>) {
    let differ: Vec<&PathBuf> = before.keys().chain(after.keys()).filter(|p| before.get(*p) != after.get(*p)).collect();
    assert!(differ.is_empty(), "these paths differ: {differ:?}");
}
