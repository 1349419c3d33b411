//! Plimsoll: three `plimsoll serve` processes, measured by `plimsoll bench`, encrypted and authenticated as always.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll::client::{Client, Producer, Record};
use plimsoll::config::ClientConfig;
use tokio::sync::watch;

use super::{Cluster, NODES, Site, System, run_load};
use crate::figures::Figures;
use crate::install::Cache;
use crate::process::{Server, run};
use crate::work::{ALONE_IN_FLIGHT, Kind, WARM_UP_SECONDS, Work};

const PROGRAM: &str = env!("CARGO_BIN_EXE_plimsoll");
const BATCH_BYTES: &str = "1048576";
/// As much as the other systems are given to read, where they take it in time.
const FILL_BYTES: &str = "536870912";
/// Time for a start, an election, a gap without leader.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const TOPIC: &str = "failover";

pub(crate) struct Plimsoll {
    name: &'static str,
    title: &'static str,
    ack: &'static str,
    settings: &'static str,
    /// As `serve --set` takes them.
    set: &'static [&'static str],
}

impl Plimsoll {
    pub(crate) const FSYNC: Self = Self {
        name: "plimsoll",
        title: "Plimsoll",
        ack: "fsynced on a majority",
        settings: "default; TLS 1.3 over QUIC on every hop",
        set: &[],
    };
    pub(crate) const PAGE_CACHE: Self = Self {
        name: "plimsoll-page-cache",
        title: "Plimsoll, log.durability = page-cache",
        ack: "in the page cache of a majority",
        settings: "log.durability = page-cache; TLS 1.3 over QUIC on every hop",
        set: &["log.durability=page-cache"],
    };
}

impl System for Plimsoll {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> String {
        self.title.to_owned()
    }

    fn ack(&self) -> &'static str {
        self.ack
    }

    fn sends(&self) -> &'static str {
        "batches to 1 MiB"
    }

    fn settings(&self) -> &'static str {
        self.settings
    }

    fn lacks(&self, _: Kind) -> Option<&'static str> {
        None
    }

    fn install(&self, _: &Cache) -> Result<(), String> {
        Ok(())
    }

    fn start(&self, _: &Cache, site: Site) -> Result<Box<dyn Cluster>, String> {
        let home = site.dir.join("cluster");
        let mut init = Command::new(PROGRAM);
        init.arg("init")
            .arg(&home)
            .args(["--nodes", &NODES.to_string()]);
        init.args(["--port-base", &site.port_base.to_string()]);
        run(&init, PATIENCE, &site.log("init"))?;
        let mut servers = Vec::new();
        for node in 1..=NODES {
            let mut command = Command::new(PROGRAM);
            command
                .arg("serve")
                .arg(home.join(format!("node-{node}.toml")));
            for setting in self.set {
                command.args(["--set", setting]);
            }
            servers.push(Server::start(&command, &site.log(&format!("n{node}")))?);
        }
        for (server, port) in servers.iter_mut().zip(admin_ports(site.port_base)) {
            server.wait_for_port(port)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let running = Running {
            client: home.join("client.toml"),
            servers,
            site,
            runtime,
        };
        running.wait_until_ready()?;
        Ok(Box::new(running))
    }
}

/// Of each node's HTTP, as `plimsoll init` lays them out.
fn admin_ports(port_base: u16) -> [u16; NODES] {
    [1, 11, 21].map(|port| port_base + port)
}

struct Running {
    client: PathBuf,
    servers: Vec<Server>,
    site: Site,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    /// A topic of three replicas can be made once all nodes are there.
    fn wait_until_ready(&self) -> Result<(), String> {
        let config = ClientConfig::load(&self.client).map_err(|error| error.to_string())?;
        self.runtime.block_on(async {
            let began = Instant::now();
            loop {
                let made = match Client::connect(&config).await {
                    Ok(client) => client
                        .admin()
                        .create_topic(TOPIC, 1, NODES as u32)
                        .await
                        .map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                match made {
                    Ok(()) => return Ok(()),
                    Err(why) if began.elapsed() > PATIENCE => return Err(why),
                    Err(_) => tokio::time::sleep(POLL).await,
                }
            }
        })
    }

    fn bench(&self, work: &Work, seconds: u64) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("--client")
            .arg(&self.client)
            .args(["-o", "json", "bench"]);
        let (in_flight, rate) = (ALONE_IN_FLIGHT.to_string(), |rate: u32| rate.to_string());
        match work.kind {
            Kind::Produce => command.args(["produce", "--batch-bytes", BATCH_BYTES]),
            Kind::Alone => command.args([
                "produce",
                "--in-flight",
                &in_flight,
                "--batch-bytes",
                "1",
                "--linger-ms",
                "0",
            ]),
            Kind::OneInFlight => command.args(["latency", "--in-flight", "1"]),
            Kind::Rate(records) => command.args(["latency", "--rate", &rate(records)]),
            Kind::Consume | Kind::Failover => command.args([
                "consume",
                "--batch-bytes",
                BATCH_BYTES,
                "--fill-bytes",
                FILL_BYTES,
            ]),
        };
        command.args(["--record-bytes", &work.record_bytes.to_string()]);
        command.args(["--seconds", &seconds.to_string()]);
        command.args(["--warm-up", &WARM_UP_SECONDS.to_string()]);
        command
    }

    async fn failover(client: &Client, servers: &mut [Server]) -> Result<Duration, String> {
        let producer = client
            .producer(TOPIC)
            .linger(Duration::ZERO)
            .build()
            .await
            .map_err(|error| error.to_string())?;
        // The newest send time of a record that is acknowledged.
        let (acked, mut newest) = watch::channel(Instant::now());
        let sender = tokio::spawn(send(producer, acked));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let topic = client.admin().describe_topic(TOPIC).await;
        let leader = topic.map_err(|error| error.to_string())?.partitions[0].leader;
        let leader = leader.ok_or("the partition has no leader")?;
        servers[leader as usize - 1].kill();
        let killed = Instant::now();
        let resumed = async {
            while *newest.borrow_and_update() < killed {
                newest.changed().await.map_err(|error| error.to_string())?;
            }
            Ok(killed.elapsed())
        };
        let gap = tokio::time::timeout(PATIENCE, resumed).await;
        sender.abort();
        gap.map_err(|_| format!("no ack within {} s of the kill", PATIENCE.as_secs()))?
    }
}

/// A record each millisecond.
async fn send(producer: Producer, acked: watch::Sender<Instant>) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let sent = Instant::now();
        let Ok(delivery) = producer.send(Record::value(&[b'x'; 1024])).await else {
            return;
        };
        let acked = acked.clone();
        tokio::spawn(async move {
            if delivery.await.is_ok() {
                acked.send_if_modified(|newest| {
                    let newer = sent > *newest;
                    *newest = sent.max(*newest);
                    newer
                });
            }
        });
    }
}

impl Cluster for Running {
    fn measure(&mut self, work: &Work, seconds: u64) -> Result<Figures, String> {
        if work.kind != Kind::Failover {
            return run_load(&self.bench(work, seconds), seconds, &self.site.log("load"));
        }
        let config = ClientConfig::load(&self.client).map_err(|error| error.to_string())?;
        let servers = &mut self.servers;
        self.runtime.block_on(async {
            let client = Client::connect(&config)
                .await
                .map_err(|error| error.to_string())?;
            let gap = Self::failover(&client, servers).await?;
            Ok(Figures::gap(gap.as_secs_f64() * 1e3))
        })
    }
}
