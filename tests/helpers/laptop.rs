//! A user's own machine, which reaches the node by ssh or in its VPN.

use super::node::{Node, SCRIPT};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// What the laptop can reach.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Laptop {
    /// The node's ssh alone.
    Ssh,
    /// The node by its private name, as in a VPN.
    Vpn,
}

impl Node {
    /// A command that runs on the node's laptop. The returned process is the command's own.
    pub fn laptop(&self, kind: Laptop, command: &[&str]) -> Command {
        let mut laptop = Command::new(SCRIPT);
        laptop.args(["laptop", &self.name]);
        if kind == Laptop::Vpn {
            laptop.arg("--vpn");
        }
        laptop.arg("--").args(command).stdin(Stdio::null());
        laptop
    }

    /// Starts `ssh -N` on the laptop with options such as `-L 18080:localhost:18080` or `-D 1080`. Returns when ssh listens.
    #[track_caller]
    pub fn tunnel(&self, options: &[&str]) -> Tunnel {
        // ssh runs its local command when it listens. LogLevel hides errors of forwarded connections, which the browser reports.
        let said =
            ["ssh", "-N", "-o", "LogLevel=ERROR", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo open"];
        let mut ssh =
            self.laptop(Laptop::Ssh, &[&said, options, &["primary"]].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(ssh.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let tunnel = Tunnel(ssh);
        assert_eq!(line, "open\n", "ssh -N {} opens its ports", options.join(" "));
        tunnel
    }
}

/// A running `ssh -N`. It ends when dropped.
pub struct Tunnel(Child);

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
