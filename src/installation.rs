//! An installation that was thought through: everything read, everything checked, nothing written.

use crate::cli::InstallArgs;
use crate::config::Settings;
use crate::fault::Fault;
use crate::host::Host;
use crate::node::Node;
use crate::node::history_server::Target;
use crate::node::identity::Role;
use crate::notes;
use crate::plan::{self, Change, LINK_DIR, Plan};
use crate::receipt::Receipt;
use crate::resource::{Resource, State};
use crate::s3::{Bucket, EventLogs};
use crate::wanted::{self, Context, Piece};
use anyhow::Result;

/// An installation, or a piece of one, that can begin.
pub struct Installation {
    /// The machine.
    pub host: Host,
    /// What is on it.
    pub node: Node,
    /// What we did to it before.
    pub receipt: Receipt,
    /// What is asked for.
    pub settings: Settings,
    /// Where event logs go.
    pub event_logs: EventLogs,
    /// What will change.
    pub plan: Plan,
    bucket: Bucket,
    pieces: Vec<Piece>,
    force: bool,
}

impl Installation {
    /// Reads and checks. `None` on a node that is not the primary, with `--if-primary`.
    pub fn prepare(command: &str, pieces: &[Piece], mut host: Host, args: &InstallArgs) -> Result<Option<Self>> {
        let receipt = Receipt::load(&host)?;
        let settings = Settings::merge(&host, args, &receipt.settings)?;
        let event_logs = settings.event_logs(command)?.clone();
        let node = Node::observe(&host, &receipt)?;
        if args.if_primary && node.identity.role == Role::Worker {
            return Ok(None);
        }
        node.must_be_primary(&host, args.force)?;
        node.must_have_service()?;
        let mut bucket = Bucket::default();
        if host.is_live() {
            let mut s3 = node.connect(&settings)?;
            bucket = s3.find_bucket(&event_logs)?;
            host.s3 = Some(s3);
        }
        let plan = Plan { changes: Vec::new(), restart: None, notes: Vec::new() };
        let pieces = pieces.to_vec();
        let mut this = Self { host, node, receipt, settings, event_logs, plan, bucket, pieces, force: args.force };
        this.plan.changes = this.changes(&this.receipt, &this.settings)?;
        if !args.force {
            wanted::refuse_foreign(&this.receipt, &this.plan.changes)?;
        }
        this.plan.restart = this.restart_reason();
        this.plan.notes = notes::mistakes(&this.host, &this.node, &this.receipt);
        if this.is_whole() {
            this.plan.notes.extend(notes::server_is_down(&this.host, &this.node));
        }
        this.plan.notes.extend(notes::consequences(&this.host, &this.node, &this.settings, &this.plan.changes));
        Ok(Some(this))
    }

    /// What has to change for these settings: first what goes, then what comes.
    pub fn changes(&self, receipt: &Receipt, settings: &Settings) -> Result<Vec<Change>> {
        let context = Context {
            host: &self.host,
            node: &self.node,
            receipt,
            settings,
            event_logs: &self.event_logs,
            bucket: &self.bucket,
            force: self.force,
        };
        let wants = context.wants(&self.pieces)?;
        let mut changes = plan::releases(&self.host, receipt, &wants, |r| self.pieces.contains(&Piece::of(r)))?;
        changes.extend(plan::changes(&self.host, receipt, &wants)?);
        Ok(changes)
    }

    /// Whether this is `install`, which restarts the server, and not a piece of it.
    pub fn is_whole(&self) -> bool {
        self.pieces.len() == Piece::ALL.len()
    }

    /// Whether this writes to the prefix, or makes others write there.
    pub fn concerns_s3(&self) -> bool {
        self.pieces != [Piece::Link]
    }

    /// What the restarted server must be.
    pub fn target(&self) -> Target {
        let linked = self.plan.changes.iter().any(|c| {
            matches!(&c.resource, Resource::Link { path } if path.starts_with(LINK_DIR)) && c.after != State::Absent
        });
        Target { directory: Some(self.event_logs.to_string()), class_path: linked.then(|| format!("{LINK_DIR}/*")) }
    }

    fn restart_reason(&self) -> Option<String> {
        let server = self.node.server.as_ref().filter(|_| self.is_whole())?;
        let reason = if self.plan.changes.iter().any(Change::needs_restart) {
            "it reads its settings only when it starts"
        } else if self.receipt.owes_restart {
            "an earlier run changed its settings and did not restart it"
        } else if server.process.is_none() {
            "it does not run"
        } else if !server.is_ready(&self.target()) {
            "it does not read that directory"
        } else {
            return None;
        };
        Some(reason.into())
    }

    /// Notes arguments that changed nothing on the node; only where there is a receipt already.
    pub fn remember_settings(&mut self) -> Result<(), Fault> {
        if self.receipt.is_empty() || self.receipt.settings == self.settings {
            return Ok(());
        }
        self.receipt.settings = self.settings.clone();
        self.receipt.save(&self.host).map_err(Fault::of)
    }
}
