//! A gateway that keeps an index, before a server that answers every request with the path that it was asked for.

use crate::helpers::many_logs::ManyLogs;
use crate::helpers::ports::unused_port;
use crate::helpers::wait::wait;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use tempfile::TempDir;

/// A gateway before a server that answers every request with the path that it was asked for.
pub struct IndexGateway {
    process: Child,
    pub port: u16,
    directory: TempDir,
    behind: String,
}

impl IndexGateway {
    pub fn start(s3: &ManyLogs, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let behind = http_server(answer);
        let (process, port) = serve(s3, &directory.path().join("index.sqlite"), &behind, options);
        let gateway = Self { process, port, directory, behind };
        wait("the gateway", || (gateway.ask("/-/healthz").0 == 200).then_some(()));
        gateway
    }

    pub fn db(&self) -> PathBuf {
        self.directory.path().join("index.sqlite")
    }

    /// The status and the text of an answer.
    pub fn ask(&self, path: &str) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--noproxy", "*", "--max-time", "60", "-w", "\n%{http_code}"]);
        let out = curl.arg(format!("http://127.0.0.1:{}{path}", self.port)).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let (text, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), text.to_string())
    }

    #[track_caller]
    pub fn applications(&self, query: &str) -> Vec<Value> {
        let (status, text) = self.ask(&format!("/api/v1/applications{query}"));
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The ids of applications, in their order.
    #[track_caller]
    pub fn ids(&self, query: &str) -> Vec<String> {
        self.applications(query).iter().map(|one| one["id"].as_str().unwrap().to_string()).collect()
    }

    #[track_caller]
    pub fn page(&self, query: &str) -> String {
        let (status, text) = self.ask(&format!("/{query}"));
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Ends the gateway as systemd does, and starts another one on the same file.
    pub fn restart(&mut self, s3: &ManyLogs, options: &[&str]) {
        self.stop();
        (self.process, self.port) = serve(s3, &self.db(), &self.behind, options);
        wait("the gateway", || (self.ask("/-/healthz").0 == 200).then_some(()));
    }

    pub fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for IndexGateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(s3: &ManyLogs, db: &Path, behind: &str, options: &[&str]) -> (Child, u16) {
    let port = unused_port();
    let process = command(s3, options)
        .args(["--listen", &format!("127.0.0.1:{port}"), "--history-server", behind, "--insecure", "--quiet"])
        .arg("--index-db")
        .arg(db)
        .spawn()
        .unwrap();
    (process, port)
}

pub fn command(s3: &ManyLogs, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emr-shs"));
    command.args(["proxy", "serve", "--log-uri", "s3://acme/container-logs/", "--endpoint-url", &s3.url()]);
    command.args(["--look-interval", "1"]).args(options);
    command.envs([
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "us-east-1"),
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Serves each connection in a thread of its own. It ends with the test. Returns its URL.
pub fn http_server(answer: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream));
        }
    });
    format!("http://{address}")
}

/// Answers with the path of the request.
fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_string();
    let _ = lines.find(String::is_empty);
    let text = format!("behind: {path}");
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = stream.read(&mut [0; 1]);
}
