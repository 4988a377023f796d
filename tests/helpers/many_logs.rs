//! The stand-in for a bucket with many event logs, `lab/stand-ins/many-logs`, on this machine's loopback.

use crate::helpers::command_output::CommandOutput;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct ManyLogs {
    server: Child,
    address: String,
}

/// The path of the stand-in's program, which is built if it is not there.
pub fn program() -> String {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/stand-ins/many-logs/build");
    let built = Command::new(build).stderr(Stdio::inherit()).output().unwrap();
    assert!(built.status.success());
    String::from_utf8(built.stdout).unwrap().trim().to_string()
}

impl ManyLogs {
    /// Starts it with options such as `["-flat", "200"]`, on a free port.
    pub fn start(options: &[&str]) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yarn/eventlogs");
        let mut server = Command::new(program());
        server.arg("serve").arg(fixtures).args(["-listen", "127.0.0.1:0"]);
        let mut server = server.args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").unwrap().1.to_string();
        Self { server, address }
    }

    /// The URL of the stand-in.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks for a path below `/_/`, as `lab/stand-ins/many-logs/control.go` lists them.
    pub fn control(&self, path: &str) -> String {
        self.send(
            if ["counters", "rows", "ranges"].contains(&path) { "GET" } else { "POST" },
            &format!("_/{path}"),
            None,
        )
    }

    /// Writes an object.
    pub fn put(&self, key: &str, body: &[u8]) {
        self.send("PUT", &format!("acme/{key}"), Some(body));
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) {
        self.send("DELETE", &format!("acme/{key}"), None);
    }

    /// Reads an object.
    pub fn get(&self, key: &str) -> Vec<u8> {
        let out = Command::new("curl").args(["-sSf", &format!("{}/acme/{key}", self.url())]).output().unwrap();
        assert!(out.status.success(), "{key}");
        out.stdout
    }

    fn send(&self, method: &str, path: &str, body: Option<&[u8]>) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "-X", method, &format!("{}/{path}", self.url())]);
        let file = tempfile::NamedTempFile::new().unwrap();
        if let Some(body) = body {
            std::fs::write(file.path(), body).unwrap();
            curl.arg("--data-binary").arg(format!("@{}", file.path().display()));
        }
        CommandOutput(curl.output().unwrap()).expect(0).out()
    }

    /// How many requests came since the last reset, by kind: `LIST`, `GET`, `PUT`, ….
    pub fn requests(&self, kind: &str) -> u64 {
        serde_json::from_str::<Value>(&self.control("counters")).unwrap()[kind].as_u64().unwrap()
    }

    /// Runs `emr-shs index` on a prefix of the bucket, with this database.
    pub fn index(&self, db: &Path, words: &[&str]) -> CommandOutput {
        CommandOutput(self.command(db, words).output().unwrap())
    }

    /// The same started by another program, whose first arguments are given.
    pub fn command_through(&self, program: &[&str], db: &Path, words: &[&str]) -> Command {
        let command = self.command(db, words);
        let mut through = Command::new(program[0]);
        through.args(&program[1..]).arg(command.get_program()).args(command.get_args());
        through.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        through
    }

    pub fn command(&self, db: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
        command.arg("index").args(words).arg("--db").arg(db).args(["--endpoint-url", &self.url()]);
        command.envs([
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("AWS_REGION", "us-east-1"),
            ("TZ", "UTC"),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What is true of each log below a prefix.
    pub fn rows(&self, prefix: &str) -> Vec<Value> {
        let rows = self.control("rows");
        let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.filter(|row| row["key"].as_str().unwrap().starts_with(prefix)).collect()
    }
}

impl Drop for ManyLogs {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
