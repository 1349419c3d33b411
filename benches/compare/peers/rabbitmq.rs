//! RabbitMQ Streams: a stream with a replica on each of three nodes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Cluster, NODES, Site, System, addresses, run_load};
use crate::figures::Figures;
use crate::install::Cache;
use crate::process::{Server, pids};
use crate::work::{Kind, Work, flags};

/// Records in flight at full speed.
const IN_FLIGHT: u32 = 10_000;

pub(crate) struct RabbitMq;

impl RabbitMq {
    /// The first node is alone at first, the others join it.
    fn config(site: &Site, node: usize) -> String {
        let (queues, streams) = (site.ports(0)[node], site.ports(1)[node]);
        format!(
            "listeners.tcp.1 = 127.0.0.1:{queues}\nstream.listeners.tcp.1 = 127.0.0.1:{streams}\n\
             stream.advertised_host = 127.0.0.1\nstream.advertised_port = {streams}\n\
             cluster_formation.peer_discovery_backend = classic_config\n\
             cluster_formation.classic_config.nodes.1 = compare0@localhost\n\
             log.console = true\nlog.console.level = warning\n"
        )
    }

    /// A command that runs on the Erlang unpacked beside the system's.
    fn command(program: PathBuf, root: &Root, site: &Site) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env(
            "PATH",
            format!("{}:{}:{path}", root.bin.display(), root.runtime.display()),
        );
        command.env("ERL_EPMD_PORT", site.ports(3)[0].to_string());
        // Where the secret lies that the nodes share.
        command.env("HOME", &site.dir);
        command
    }
}

/// What was unpacked.
struct Root {
    bin: PathBuf,
    runtime: PathBuf,
    server: PathBuf,
}

impl Root {
    fn find(cache: &Cache) -> Result<Self, String> {
        let root = cache.debian_root();
        let erlang = root.join("usr/lib/erlang");
        Ok(Self {
            bin: erlang.join("bin"),
            runtime: the_one(&erlang, "erts-")?.join("bin"),
            server: the_one(&root.join("usr/lib/rabbitmq/lib"), "rabbitmq_server-")?,
        })
    }
}

/// The only entry whose name begins so: what follows is a version.
fn the_one(dir: &PathBuf, begins: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begins)
    };
    paths
        .find(named)
        .ok_or_else(|| format!("{} holds no {begins}*", dir.display()))
}

impl System for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn title(&self) -> String {
        "RabbitMQ Streams 3.10.8".to_owned()
    }

    fn ack(&self) -> &'static str {
        "in the page cache of a majority (never fsynced)"
    }

    fn sends(&self) -> &'static str {
        "sub-entries of 100 records, 10,000 records in flight; the client packs what waits into one frame"
    }

    fn settings(&self) -> &'static str {
        "Debian's package on Debian's Erlang 25; default but for ports; sub-entries only in the first two tables"
    }

    fn lacks(&self, kind: Kind) -> Option<&'static str> {
        (kind == Kind::Consume).then_some(
            "reading: of 40,000 records the Go client 1.8.3 gets some 4,000 from this server, and then no more",
        )
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.debian()?;
        cache.go("load", ".")
    }

    fn start(&self, cache: &Cache, site: Site) -> Result<Box<dyn Cluster>, String> {
        let root = Root::find(cache)?;
        let mut names = Self::command(root.runtime.join("epmd"), &root, &site);
        names.args(["-address", "127.0.0.1"]);
        let mut name_server = Server::start(&names, &site.log("epmd"))?;
        name_server.wait_for_port(site.ports(3)[0])?;
        let mut servers = Vec::new();
        for node in 0..NODES {
            let dir = site.node(node);
            fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
            let (config, plugins) = (dir.join("rabbitmq.conf"), dir.join("plugins"));
            fs::write(&config, Self::config(&site, node)).map_err(|error| error.to_string())?;
            fs::write(&plugins, "[rabbitmq_stream].\n").map_err(|error| error.to_string())?;
            let mut command = Self::command(root.server.join("sbin/rabbitmq-server"), &root, &site);
            command.env("RABBITMQ_NODENAME", format!("compare{node}@localhost"));
            command.env("RABBITMQ_CONFIG_FILE", config);
            command.env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins);
            command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
            command.env("RABBITMQ_MNESIA_BASE", dir.join("data"));
            command.env("RABBITMQ_LOG_BASE", dir.join("log"));
            command.env("RABBITMQ_PID_FILE", dir.join("pid"));
            command.env("RABBITMQ_LOGS", "-");
            command.env("RABBITMQ_DIST_PORT", site.ports(2)[node].to_string());
            // The script becomes the server, instead of waiting for one.
            command.env("RUNNING_UNDER_SYSTEMD", "true");
            let mut server = Server::start(&command, &site.log(&format!("n{node}")))?;
            server.wait_for_port(site.ports(1)[node])?;
            servers.push(server);
        }
        Ok(Box::new(Running {
            load: cache.path("load"),
            servers,
            _name_server: name_server,
            site,
        }))
    }
}

struct Running {
    load: PathBuf,
    servers: Vec<Server>,
    /// Nodes find each other by it.
    _name_server: Server,
    site: Site,
}

impl Cluster for Running {
    fn measure(&mut self, work: &Work, seconds: u64) -> Result<Figures, String> {
        let mut command = Command::new(&self.load);
        command
            .arg("rabbitmq")
            .args(flags(work, seconds, IN_FLIGHT));
        command.args(["--servers", &addresses(self.site.ports(1))]);
        command.args(["--pids", &pids(&self.servers)]);
        if work.kind == Kind::Produce {
            command.arg("--batches");
        }
        run_load(&command, seconds, &self.site.log("load"))
    }
}
