//! Apache Kafka in KRaft mode: three brokers that are controllers too, a topic of three replicas, `acks=all`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{Cluster, NODES, Site, System, addresses, run_load};
use crate::figures::Figures;
use crate::install::Cache;
use crate::process::{Server, pids, run};
use crate::work::{Kind, WARM_UP_SECONDS, Work, flags};

/// Bytes under way at full speed: five requests of a batch each, and what is being filled.
const BYTES_IN_FLIGHT: u32 = 8 << 20;
/// Formatting a folder starts a virtual machine.
const FORMAT_WITHIN: Duration = Duration::from_secs(60);
const CLUSTER_ID: &str = "cGxpbXNvbGxjb21wYXJlMQ";
/// As Kafka's own scripts start a broker.
const JVM: [&str; 6] = [
    "-Xms1g",
    "-Xmx1g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
];
/// More to warm up than others have: the client's code is compiled anew in each run, and the brokers' in each round.
const MORE_WARM_UP_SECONDS: u64 = 2;

pub(crate) struct Kafka {
    name: &'static str,
    flush_messages: Option<&'static str>,
}

impl Kafka {
    pub(crate) const DEFAULT: Self = Self {
        name: "kafka",
        flush_messages: None,
    };
    pub(crate) const FLUSH_EACH: Self = Self {
        name: "kafka-flush",
        flush_messages: Some("1"),
    };

    fn config(site: &Site, node: usize) -> String {
        let (clients, controllers) = (site.ports(0), site.ports(1));
        let voters: Vec<String> = (0..NODES)
            .map(|node| format!("{}@127.0.0.1:{}", node + 1, controllers[node]))
            .collect();
        format!(
            "process.roles=broker,controller\nnode.id={}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\nmin.insync.replicas=2\ndefault.replication.factor=3\n",
            node + 1,
            voters.join(","),
            clients[node],
            controllers[node],
            site.node(node).display(),
        )
    }
}

impl System for Kafka {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> String {
        let flush = self.flush_messages.map_or("", |_| ", flush.messages=1");
        format!("Apache Kafka {}, KRaft, acks=all{flush}", version())
    }

    fn ack(&self) -> &'static str {
        match self.flush_messages {
            None => "in the page cache of all replicas in sync (never fsynced)",
            Some(_) => "fsynced on all replicas in sync",
        }
    }

    fn sends(&self) -> &'static str {
        "batches to 1 MiB, linger 5 ms, 5 requests in flight, 8 MiB under way, idempotent"
    }

    fn settings(&self) -> &'static str {
        "brokers: heap 1 GiB, G1, min.insync.replicas=2; client: compression none, acks=all; alone: batch.size=0, 1,000 requests in flight, not idempotent; latency: linger 0, batches to 1 MiB where records wait; reading: max.partition.fetch.bytes 16 MiB; 3 s of work after each start and 2 s more before each measurement to warm up the virtual machines"
    }

    fn lacks(&self, kind: Kind) -> Option<&'static str> {
        let alike = matches!(kind, Kind::Consume | Kind::Failover) && self.flush_messages.is_some();
        alike.then_some("reading and failover: as without flush")
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.java()
    }

    fn start(&self, cache: &Cache, site: Site) -> Result<Box<dyn Cluster>, String> {
        let class_path = cache.kafka_class_path();
        let java = |heap: &[&str]| {
            let mut command = Command::new("java");
            command.args(heap).args(["-cp", &class_path]);
            command
        };
        let mut servers = Vec::new();
        for node in 0..NODES {
            let file = site.dir.join(format!("n{node}.properties"));
            fs::write(&file, Self::config(&site, node)).map_err(|error| error.to_string())?;
            let mut format = java(&[]);
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]);
            format.arg(&file);
            run(&format, FORMAT_WITHIN, &site.log("format"))?;
            let mut broker = java(&JVM);
            broker.arg("kafka.Kafka").arg(file);
            servers.push(Server::start(&broker, &site.log(&format!("n{node}")))?);
        }
        for (server, port) in servers.iter_mut().zip(site.ports(0)) {
            server.wait_for_port(port)?;
        }
        let mut running = Running {
            class_path,
            flush_messages: self.flush_messages,
            servers,
            site,
        };
        let warm_up = Work {
            name: "warm-up",
            title: "not told",
            kind: Kind::Produce,
            record_bytes: 1024,
        };
        running.measure(&warm_up, WARM_UP_SECONDS)?;
        Ok(Box::new(running))
    }
}

struct Running {
    class_path: String,
    flush_messages: Option<&'static str>,
    servers: Vec<Server>,
    site: Site,
}

impl Cluster for Running {
    fn measure(&mut self, work: &Work, seconds: u64) -> Result<Figures, String> {
        let mut command = Command::new("java");
        command.args([
            "-Xms1g",
            "-Xmx1g",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        ]);
        command.args(["-cp", &self.class_path, "Load"]);
        command.args(flags(work, seconds, BYTES_IN_FLIGHT / work.record_bytes));
        let warm_up = WARM_UP_SECONDS + MORE_WARM_UP_SECONDS;
        command.args(["--warm-up", &warm_up.to_string()]);
        command.args(["--servers", &addresses(self.site.ports(0))]);
        command.args(["--pids", &pids(&self.servers)]);
        if let Some(messages) = self.flush_messages {
            command.args(["--flush-messages", messages]);
        }
        command.args(match work.kind {
            Kind::Produce | Kind::Consume => &["--batch.size", "1048576", "--linger.ms", "5"][..],
            Kind::Alone => &[
                "--batch.size",
                "0",
                "--linger.ms",
                "0",
                "--enable.idempotence",
                "false",
                "--max.in.flight.requests.per.connection",
                "1000",
            ],
            Kind::OneInFlight | Kind::Rate(_) | Kind::Failover => {
                &["--batch.size", "1048576", "--linger.ms", "0"]
            }
        });
        run_load(&command, seconds, &self.site.log("load"))
    }
}

/// The version that the pom here pins.
fn version() -> &'static str {
    let pom = include_str!("../java/pom.xml");
    let rest = pom
        .split_once("<version>")
        .and_then(|(_, rest)| rest.split_once("<version>"));
    rest.and_then(|(_, rest)| rest.split_once('<'))
        .map_or("?", |(version, _)| version)
}
