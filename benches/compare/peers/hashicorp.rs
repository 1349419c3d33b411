//! hashicorp/raft: a library, in three processes over TCP with the vendor's log on disk; the load is made inside the leader.

use std::path::PathBuf;
use std::process::Command;

use super::{Cluster, NODES, Site, System, addresses, run_load};
use crate::figures::Figures;
use crate::install::{Cache, go_version};
use crate::process::Server;
use crate::work::{Kind, Work, flags};

/// Entries in flight at full speed: as many as an append takes.
const IN_FLIGHT: u32 = 1024;

pub(crate) struct Hashicorp;

impl System for Hashicorp {
    fn name(&self) -> &'static str {
        "hashicorp"
    }

    fn title(&self) -> String {
        let raft = go_version("github.com/hashicorp/raft");
        let wal = go_version("github.com/hashicorp/raft-wal");
        format!("hashicorp/raft {raft}, raft-wal {wal} (a library)")
    }

    fn ack(&self) -> &'static str {
        "fsynced on a majority"
    }

    fn sends(&self) -> &'static str {
        "from inside the leader's process, 1,024 entries in flight, batched by the library"
    }

    fn settings(&self) -> &'static str {
        "three processes over plain TCP; BatchApplyCh, MaxAppendEntries 1,024, LogCache of 4,096 entries, no snapshots; state machine keeps nothing; no client and no hop from one"
    }

    fn lacks(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::Consume => Some("a library has no readers"),
            Kind::Failover => Some("the load runs in the leader's process"),
            _ => None,
        }
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.go("load", ".")
    }

    fn start(&self, cache: &Cache, site: Site) -> Result<Box<dyn Cluster>, String> {
        Ok(Box::new(Group {
            load: cache.path("load"),
            site,
            run: 0,
        }))
    }
}

/// Its nodes live as long as a measurement: the one that leads makes the load.
struct Group {
    load: PathBuf,
    site: Site,
    run: usize,
}

impl Group {
    fn node(&self, node: usize, ports: [u16; 3]) -> Command {
        let mut command = Command::new(&self.load);
        command.args(["hashicorp", "--servers", &addresses(ports)]);
        command.args(["--node", &node.to_string(), "--dir"]);
        command.arg(self.site.node(node).join(self.run.to_string()));
        command
    }
}

impl Cluster for Group {
    fn measure(&mut self, work: &Work, seconds: u64) -> Result<Figures, String> {
        self.run += 1;
        let ports = self.site.ports(0);
        let mut followers = Vec::new();
        for (node, port) in ports.into_iter().enumerate().skip(1) {
            let log = self.site.log(&format!("n{node}"));
            let mut follower = Server::start(&self.node(node, ports), &log)?;
            follower.wait_for_port(port)?;
            followers.push(follower);
        }
        let mut leader = self.node(0, ports);
        leader.args(flags(work, seconds, IN_FLIGHT));
        let figures = run_load(&leader, seconds, &self.site.log("load"));
        drop(followers);
        for node in 0..NODES {
            let _ = std::fs::remove_dir_all(self.site.node(node));
        }
        figures
    }
}
