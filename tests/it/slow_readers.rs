//! Clients that do not read what the history server answers. The history server keeps a thread for each of them.

use crate::helpers::index_gateway::http_server;
use crate::helpers::ports::unused_port;
use crate::helpers::wait::wait;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// `MAX_HISTORY_REQUESTS` and `KEPT_REQUESTS` of src/gateway/limits.rs.
const PLACES: (usize, usize) = (192, 8);
/// More than all buffers on the way have.
const LARGE: usize = 32 << 20;

struct Gateway {
    process: Child,
    port: u16,
}

impl Gateway {
    fn start() -> Self {
        let port = unused_port();
        let process = Command::new(env!("CARGO_BIN_EXE_emr-shs"))
            .args(["proxy", "serve", "--log-uri", "s3://acme/logs/", "--endpoint-url", "http://127.0.0.1:9"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--history-server", &http_server(answer)])
            .args(["--region", "eu-west-3", "--insecure", "--quiet"])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Self { process, port };
        wait("the gateway", || TcpStream::connect(("127.0.0.1", port)).ok());
        gateway
    }

    /// Asks, and reads nothing.
    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut text = String::new();
        self.ask(path).read_to_string(&mut text).unwrap();
        text
    }

    fn metric(&self, name: &str) -> usize {
        let text = self.get("/-/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("emr_shs_gateway_{name} ")));
        value.unwrap().parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A history server with one large page.
fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let length = if lines.next().unwrap_or_default().contains("/large") { LARGE } else { 5 };
    let _ = lines.find(String::is_empty);
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let chunk = [b'x'; 4096];
    for begun in (0..length).step_by(chunk.len()) {
        if stream.write_all(&chunk[..chunk.len().min(length - begun)]).is_err() {
            return;
        }
    }
    let _ = stream.read(&mut [0; 1]);
}

#[test]
fn whoever_does_not_read_makes_room_for_others_before_the_history_server_has_no_thread_left() {
    let gateway = Gateway::start();
    let places = PLACES.0 + if nix::unistd::geteuid().is_root() { PLACES.1 } else { 0 };
    let readers: Vec<_> = (0..places).map(|_| gateway.ask("/large")).collect();
    wait("all places", || (gateway.metric("waiting_requests") == places).then_some(()));
    // As soon as one has read nothing for longer than a client may where others wait, there is a place.
    let answered = wait("a place", || Some(gateway.get("/small")).filter(|answer| answer.starts_with("HTTP/1.1 200")));
    assert!(answered.ends_with("xxxxx"), "{answered}");
    assert_eq!(gateway.metric("closed_connections_total{reason=\"no_room\"}"), 1);
    // The others' connections, and the one that asks.
    wait("the others", || (gateway.metric("connections") == places).then_some(()));
    drop(readers);
    wait("no place to be taken", || (gateway.metric("waiting_requests") == 0).then_some(()));
}
