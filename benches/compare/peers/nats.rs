//! NATS JetStream: a stream of three replicas in files, by the server's own synced or unsynced setting.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Cluster, NODES, Site, System, addresses, run_load};
use crate::figures::Figures;
use crate::install::{Cache, go_version};
use crate::process::{Server, pids};
use crate::work::{Kind, Work, flags};

/// Records in flight at full speed.
const IN_FLIGHT: u32 = 4000;

pub(crate) struct Nats {
    name: &'static str,
    sync_interval: Option<&'static str>,
}

impl Nats {
    pub(crate) const DEFAULT: Self = Self {
        name: "nats",
        sync_interval: None,
    };
    pub(crate) const SYNC_ALWAYS: Self = Self {
        name: "nats-always",
        sync_interval: Some("always"),
    };

    fn config(&self, site: &Site, node: usize) -> String {
        let (clients, routes) = (site.ports(0), site.ports(1));
        let sync = self.sync_interval.map_or(String::new(), |interval| {
            format!("sync_interval: {interval}")
        });
        let urls = routes
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .join(", ");
        format!(
            "server_name: n{node}\nlisten: 127.0.0.1:{}\n\
             cluster {{ name: compare, listen: 127.0.0.1:{}, routes: [{urls}] }}\n\
             jetstream {{ store_dir: \"{}\", max_file_store: 8GB, max_memory_store: 1GB\n{sync} }}\n",
            clients[node],
            routes[node],
            site.node(node).display(),
        )
    }
}

impl System for Nats {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> String {
        let version = go_version("github.com/nats-io/nats-server/v2");
        let sync = self.sync_interval.map_or("", |_| ", sync always");
        format!("NATS JetStream {version} R3{sync}")
    }

    fn ack(&self) -> &'static str {
        match self.sync_interval {
            None => "in the memory of a majority (fsync every 2 min)",
            Some(_) => "fsynced on a majority",
        }
    }

    fn sends(&self) -> &'static str {
        "fast-ingest batches, 4,000 records in flight, an ack each 200"
    }

    fn settings(&self) -> &'static str {
        match self.sync_interval {
            None => {
                "file storage, 3 replicas, allow_direct, allow_batched; sync_interval at its default of 2 min"
            }
            Some(_) => {
                "file storage, 3 replicas, allow_direct, allow_batched; sync_interval: always"
            }
        }
    }

    fn lacks(&self, kind: Kind) -> Option<&'static str> {
        let alike = matches!(kind, Kind::Consume | Kind::Failover) && self.sync_interval.is_some();
        alike.then_some("reading and failover: as without sync")
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.go("nats-server", "github.com/nats-io/nats-server/v2")?;
        cache.go("load", ".")
    }

    fn start(&self, cache: &Cache, site: Site) -> Result<Box<dyn Cluster>, String> {
        let mut servers = Vec::new();
        for node in 0..NODES {
            let file = site.dir.join(format!("n{node}.conf"));
            fs::write(&file, self.config(&site, node)).map_err(|error| error.to_string())?;
            let mut command = Command::new(cache.path("nats-server"));
            command.arg("-c").arg(file);
            servers.push(Server::start(&command, &site.log(&format!("n{node}")))?);
        }
        for (server, port) in servers.iter_mut().zip(site.ports(0)) {
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
        command.arg("nats").args(flags(work, seconds, IN_FLIGHT));
        command.args(["--servers", &addresses(self.site.ports(0))]);
        command.args(["--pids", &pids(&self.servers)]);
        if matches!(work.kind, Kind::Produce | Kind::Consume) {
            command.arg("--batches");
        }
        run_load(&command, seconds, &self.site.log("load"))
    }
}
