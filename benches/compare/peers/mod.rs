//! The systems compared: how each is installed, started and put under load.
//!
//! Owns what they have in common. Each file beside this one owns one system: its settings, and the words about it.

mod etcd;
mod hashicorp;
mod in_process;
mod kafka;
mod nats;
mod plimsoll;
mod rabbitmq;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::figures::Figures;
use crate::install::Cache;
use crate::process::run;
use crate::work::{Kind, Work};

/// A system with one set of settings.
pub(crate) trait System {
    /// On the command line and in the file of results.
    fn name(&self) -> &'static str;
    /// In the tables, with its version.
    fn title(&self) -> String;
    /// What an acknowledged record has behind it.
    fn ack(&self) -> &'static str;
    /// How records travel, at full speed.
    fn sends(&self) -> &'static str;
    /// Every setting that is not the default.
    fn settings(&self) -> &'static str;
    /// Why it has no figure for a kind of work, where it has none.
    fn lacks(&self, kind: Kind) -> Option<&'static str>;
    fn install(&self, cache: &Cache) -> Result<(), String>;
    /// Starts three nodes.
    fn start(&self, cache: &Cache, site: Site) -> Result<Box<dyn Cluster>, String>;
}

/// Three nodes that run, until they are dropped.
pub(crate) trait Cluster {
    fn measure(&mut self, work: &Work, seconds: u64) -> Result<Figures, String>;
}

/// Where a cluster may put files and listen.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) port_base: u16,
}

impl Site {
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// Port number `n` of each of the three nodes.
    pub(crate) fn ports(&self, n: u16) -> [u16; 3] {
        [0, 1, 2].map(|node| self.port_base + 10 * n + node)
    }

    /// The folder of a node.
    pub(crate) fn node(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }
}

pub(crate) const NODES: usize = 3;

/// All of them; the first is what the others are compared with.
pub(crate) fn all() -> Vec<Box<dyn System>> {
    vec![
        Box::new(plimsoll::Plimsoll::FSYNC),
        Box::new(plimsoll::Plimsoll::PAGE_CACHE),
        Box::new(nats::Nats::DEFAULT),
        Box::new(nats::Nats::SYNC_ALWAYS),
        Box::new(etcd::Etcd),
        Box::new(hashicorp::Hashicorp),
        Box::new(kafka::Kafka::DEFAULT),
        Box::new(kafka::Kafka::FLUSH_EACH),
        Box::new(rabbitmq::RabbitMq),
        Box::new(in_process::InProcess::OPENRAFT),
        Box::new(in_process::InProcess::TIKV),
    ]
}

/// Addresses on the loopback device, as load programs take them.
fn addresses(ports: [u16; 3]) -> String {
    ports.map(|port| format!("127.0.0.1:{port}")).join(",")
}

/// Time in which a load program must be done: it waits for acks for a minute itself.
fn load_within(seconds: u64) -> Duration {
    Duration::from_secs(100 + 2 * seconds)
}

fn run_load(command: &Command, seconds: u64, log: &Path) -> Result<Figures, String> {
    Figures::parse(&run(command, load_within(seconds), log)?)
}
