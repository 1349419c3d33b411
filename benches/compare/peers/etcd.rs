//! etcd: a key a record.

use std::path::PathBuf;
use std::process::Command;

use super::{Cluster, NODES, Site, System, addresses, run_load};
use crate::figures::Figures;
use crate::install::{Cache, go_version};
use crate::process::{Server, pids};
use crate::work::{Kind, Work, flags};

/// Calls under way at full speed.
const IN_FLIGHT: u32 = 1000;

pub(crate) struct Etcd;

impl System for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn title(&self) -> String {
        format!("etcd {}", go_version("go.etcd.io/etcd/client/v3"))
    }

    fn ack(&self) -> &'static str {
        "fsynced on a majority"
    }

    fn sends(&self) -> &'static str {
        "a call a record (no client batching), 1,000 calls in flight on 8 connections to the leader"
    }

    fn settings(&self) -> &'static str {
        "quota-backend-bytes 8 GiB; keys in ascending order; read by serializable ranges of 1,000 keys from the leader"
    }

    fn lacks(&self, _: Kind) -> Option<&'static str> {
        None
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.go("etcd", "go.etcd.io/etcd/server/v3")?;
        cache.go("load", ".")
    }

    fn start(&self, cache: &Cache, site: Site) -> Result<Box<dyn Cluster>, String> {
        let (clients, peers) = (site.ports(0), site.ports(1));
        let members: Vec<String> = (0..NODES)
            .map(|node| format!("n{node}=http://127.0.0.1:{}", peers[node]))
            .collect();
        let mut servers = Vec::new();
        for node in 0..NODES {
            let client = format!("http://127.0.0.1:{}", clients[node]);
            let peer = format!("http://127.0.0.1:{}", peers[node]);
            let mut command = Command::new(cache.path("etcd"));
            command.args(["--name", &format!("n{node}")]);
            command.arg("--data-dir").arg(site.node(node));
            command.args(["--listen-client-urls", &client]);
            command.args(["--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer]);
            command.args(["--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &members.join(",")]);
            command.args(["--quota-backend-bytes", "8589934592"]);
            command.args(["--log-level", "warn"]);
            servers.push(Server::start(&command, &site.log(&format!("n{node}")))?);
        }
        for (server, port) in servers.iter_mut().zip(clients) {
            server.wait_for_port(port)?;
        }
        Ok(Box::new(Running {
            load: cache.path("load"),
            servers,
            site,
        }))
    }
}

struct Running {
    load: PathBuf,
    servers: Vec<Server>,
    site: Site,
}

impl Cluster for Running {
    fn measure(&mut self, work: &Work, seconds: u64) -> Result<Figures, String> {
        let mut command = Command::new(&self.load);
        command.arg("etcd").args(flags(work, seconds, IN_FLIGHT));
        command.args(["--servers", &addresses(self.site.ports(0))]);
        command.args(["--pids", &pids(&self.servers)]);
        run_load(&command, seconds, &self.site.log("load"))
    }
}
