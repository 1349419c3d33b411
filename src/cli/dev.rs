//! `plimsoll dev`: a whole cluster in one process, to begin with and to develop against.
//!
//! Owns the first impression: it makes whatever is missing, starts every node on threads, disk folder, port and certificate of
//! its own, and says what to type next. Nothing is simulated: the nodes talk QUIC and sync their disks as separate processes would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use plimsoll::config::{ClientConfig, Config};
use serde_json::json;
use tracing_subscriber::filter::LevelFilter;

use super::init::{self, CLIENT_FILE};
use super::output::{Failure, Format, Out};
use super::serve::Running;

/// Where `dev` keeps its cluster unless told otherwise; client commands look here too.
pub(crate) const DATA_DIR: &str = "plimsoll-data";
/// Longest wait for the first leader before the greeting.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Run a whole cluster in this process; everything it needs is made on the first run
#[derive(Args)]
pub(crate) struct Dev {
    /// Number of nodes of a new cluster [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Folder of the cluster, kept from run to run
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    data: PathBuf,
}

impl Dev {
    pub(crate) fn run(self, format: Format) -> Result<(), Failure> {
        // Between threads of one process, a link goes down only when the cluster stops.
        super::log_to_stderr(LevelFilter::WARN, LevelFilter::ERROR);
        let client = self.cluster()?;
        let configs: Vec<Config> = client
            .nodes
            .iter()
            .map(|node| Config::load(&self.data.join(init::node_file(node.id)), &[]))
            .collect::<Result<_, _>>()?;
        let shown = configs.clone();
        let running = Running::start(configs)?;
        let ready = running
            .nodes()
            .iter()
            .all(|node| node.wait_ready(READY_LIMIT));
        if !ready {
            tracing::warn!("not every node is ready yet; its /readyz says what is missing");
        }
        greet(format, &self.data, &client, &shown)?;
        running.until_stopped()
    }

    /// The cluster in the folder, made now if the folder is new.
    fn cluster(&self) -> Result<ClientConfig, Failure> {
        let file = self.data.join(CLIENT_FILE);
        if !file.exists() {
            init::make_cluster(
                &self.data,
                self.nodes.unwrap_or(3),
                "127.0.0.1",
                init::PORT_BASE,
            )?;
        }
        let client = ClientConfig::load(&file)?;
        let there = client.nodes.len();
        if self.nodes.is_some_and(|nodes| usize::from(nodes) != there) {
            return Err(Failure::Message(format!(
                "the cluster in {} has {there} nodes: leave --nodes out, or give another folder with --data",
                self.data.display()
            )));
        }
        Ok(client)
    }
}

/// What is there, and what to type next. A reader of ours that has gone away is no reason to stop.
fn greet(
    format: Format,
    data: &Path,
    client: &ClientConfig,
    configs: &[Config],
) -> Result<(), Failure> {
    let mut out = Out::new();
    let told = match format {
        Format::Json => out.json(&json!({
            "cluster": client.cluster,
            "client": data.join(CLIENT_FILE),
            "nodes": configs.iter().map(|config| json!({
                "id": config.node.id,
                "address": config.node.listen,
                "admin": config.node.admin,
            })).collect::<Vec<_>>(),
        })),
        Format::Human => tell(&mut out, data, configs),
    };
    match told.and_then(|()| out.flush()) {
        Err(Failure::OutputClosed) => Ok(()),
        told => told,
    }
}

fn tell(out: &mut Out, data: &Path, configs: &[Config]) -> Result<(), Failure> {
    let nodes = configs.len();
    out.line(format!(
        "A cluster of {nodes} runs in this process; its data is in {}.\n",
        data.display()
    ))?;
    for config in configs {
        let node = &config.node;
        out.line(format!(
            "    node {}  {}  metrics at http://{}/metrics",
            node.id, node.listen, node.admin
        ))?;
    }
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "plimsoll".to_owned());
    let client = if data == Path::new(DATA_DIR) {
        String::new()
    } else {
        format!(" --client {}", data.join(CLIENT_FILE).display())
    };
    out.line("\nIn another terminal, from the same folder:\n")?;
    for command in [
        "plimsoll topic create greetings --partitions 3",
        "echo 'hello, sea' | plimsoll produce greetings",
        "plimsoll consume greetings --follow",
        "plimsoll cluster status",
        "plimsoll bench produce",
    ] {
        let command = command.replace("plimsoll", &format!("{program}{client}"));
        out.line(format!("    {command}"))?;
    }
    out.line("\nCtrl-C stops it; what was acked stays.")
}
