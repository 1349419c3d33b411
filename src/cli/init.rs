//! `plimsoll init`: certificates and settings for a new cluster, or for one more node of a cluster that runs.
//!
//! Owns the names and the layout of the files in a cluster's folder, which `dev` uses too. Must not overwrite anything: a
//! folder that is not empty is refused. Private keys are readable by their owner alone.

mod add_node;

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use plimsoll::config::{
    ClientConfig, Config, LimitsConfig, LogConfig, NetworkConfig, NodeAddress, NodeConfig,
    RaftConfig, TlsConfig, new_cluster_id,
};
use serde_json::json;
use transport::pki::{Authority, Issued};

use super::output::{Failure, Format, Out};

/// Settings of a client, in a cluster's folder. Written last: where it is, all other files are.
pub(crate) const CLIENT_FILE: &str = "client.toml";
/// Port of node 1 unless another base is asked for.
pub(crate) const PORT_BASE: u16 = 7600;
/// Ports between one node and the next.
const PORT_STEP: u16 = 10;
/// Name of a cluster whose folder's name cannot be one.
const CLUSTER_NAME: &str = "plimsoll";

/// Make certificates and settings for a cluster of separate processes, or for one more node
#[derive(Args)]
pub(crate) struct Init {
    /// Folder to fill; made if it does not exist, refused if it is not empty. With --add-node, the folder of a cluster
    dir: PathBuf,
    /// Number of nodes; an even number survives no more failures than the odd one below
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=9), required_unless_present = "add_node", conflicts_with = "add_node")]
    nodes: Option<u16>,
    /// Make one more node, for `plimsoll cluster add-node` or `replace-node`
    #[arg(long)]
    add_node: bool,
    /// Host that peers and clients dial [default: 127.0.0.1, or that of the other nodes]; edit the files for nodes on several machines
    #[arg(long)]
    host: Option<String>,
    /// Node n uses port P+10*(n-1) for QUIC (UDP) and the next one for admin HTTP (TCP) [default: 7600, or that of the other nodes]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..=65_000))]
    port_base: Option<u16>,
}

impl Init {
    pub(crate) fn run(self, format: Format) -> Result<(), Failure> {
        let dir = &self.dir;
        let Some(nodes) = self.nodes else {
            let added = add_node::add_node(dir, self.host.as_deref(), self.port_base)?;
            return tell_added(dir, &added, format);
        };
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        let client = make_cluster(dir, nodes, host, self.port_base.unwrap_or(PORT_BASE))?;
        let mut out = Out::new();
        match format {
            Format::Json => {
                let settings = client.nodes.iter().map(|node| dir.join(node_file(node.id)));
                out.json(&json!({
                    "cluster": client.cluster,
                    "client": dir.join(CLIENT_FILE),
                    "nodes": settings.collect::<Vec<_>>(),
                }))?;
            }
            Format::Human => {
                let dir = dir.display();
                out.line(format!("{dir} holds the cluster {:?}: settings and certificates for {nodes} node(s) and a client.\n", client.cluster))?;
                out.line("Start each node, in a terminal of its own:")?;
                for node in &client.nodes {
                    out.line(format!("    plimsoll serve {dir}/{}", node_file(node.id)))?;
                }
                out.line("\nThen:")?;
                out.line(format!("    export PLIMSOLL_CLIENT={dir}/{CLIENT_FILE}"))?;
                out.line("    plimsoll cluster status")?;
                out.line("    plimsoll topic create greetings --partitions 3")?;
                out.line("\nca.key can make new nodes and clients: keep it where no node runs.")?;
            }
        }
        out.flush()
    }
}

/// What to type next for a node whose files were made.
fn tell_added(dir: &Path, added: &NodeAddress, format: Format) -> Result<(), Failure> {
    let mut out = Out::new();
    let (id, address) = (added.id, &added.address);
    let settings = dir.join(node_file(id));
    match format {
        Format::Json => {
            out.json(&json!({ "node": id, "address": address, "settings": settings }))?;
        }
        Format::Human => {
            out.line(format!(
                "Settings and certificate of node {id} are made. Start it:"
            ))?;
            out.line(format!("    plimsoll serve {}", settings.display()))?;
            out.line("\nand take it in, as one more node or in the place of another:")?;
            out.line(format!(
                "    plimsoll cluster add-node {id} --address {address}"
            ))?;
            out.line(format!(
                "    plimsoll cluster replace-node OLD {id} --address {address}"
            ))?;
        }
    }
    out.flush()
}

/// Name of the settings file of a node.
pub(crate) fn node_file(node: u64) -> String {
    format!("node-{node}.toml")
}

/// Fills `dir` with the files of a new cluster of `nodes` nodes; gives the settings of its client.
pub(crate) fn make_cluster(
    dir: &Path,
    nodes: u16,
    host: &str,
    port_base: u16,
) -> Result<ClientConfig, Failure> {
    let plan = plan(dir, nodes, host, port_base)?;
    check_empty(dir)?;
    fs::create_dir_all(dir).map_err(Failure::doing(format!("cannot make {}", dir.display())))?;
    let authority = Authority::create(&plan.client.cluster)?;
    write(dir, "ca.pem", authority.cert_pem(), Secrecy::Public)?;
    write(dir, "ca.key", &authority.key_pem(), Secrecy::Private)?;
    for config in &plan.nodes {
        let id = config.node.id;
        write_issued(dir, &format!("node-{id}"), &authority.issue_node(id)?)?;
        write(dir, &node_file(id), &config.to_toml(), Secrecy::Public)?;
    }
    write_issued(dir, "client", &authority.issue_client("default")?)?;
    write(dir, CLIENT_FILE, &plan.client.to_toml(), Secrecy::Public)?;
    Ok(plan.client)
}

/// The settings of a new cluster, nothing written yet.
struct Plan {
    nodes: Vec<Config>,
    client: ClientConfig,
}

fn plan(dir: &Path, nodes: u16, host: &str, port_base: u16) -> Result<Plan, Failure> {
    let cluster = cluster_name(dir);
    let cluster_id = new_cluster_id();
    let last_port = u32::from(port_base) + u32::from(PORT_STEP) * u32::from(nodes - 1) + 1;
    if last_port > u32::from(u16::MAX) {
        return Err(Failure::Message(format!(
            "port {last_port} of node {nodes} is too high: lower --port-base"
        )));
    }
    // A name is for others to dial; the node listens on all addresses, as it may not own the one behind the name.
    let ip: IpAddr = host.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let port = |node: u16| port_base + PORT_STEP * (node - 1);
    let address = |node: u16| match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port(node)).to_string(),
        Err(_) => format!("{host}:{}", port(node)),
    };
    let addresses: Vec<NodeAddress> = (1..=nodes)
        .map(|node| NodeAddress {
            id: u64::from(node),
            address: address(node),
        })
        .collect();
    let node = |node: u16| Config {
        node: NodeConfig {
            id: u64::from(node),
            cluster: cluster.clone(),
            cluster_id: cluster_id.clone(),
            data_dir: format!("node-{node}").into(),
            listen: SocketAddr::new(ip, port(node)),
            admin: SocketAddr::new(ip, port(node) + 1),
            joins: false,
        },
        tls: TlsConfig {
            ca: "ca.pem".into(),
            cert: format!("node-{node}.pem").into(),
            key: format!("node-{node}.key").into(),
        },
        nodes: addresses.clone(),
        raft: RaftConfig::default(),
        log: LogConfig::default(),
        limits: LimitsConfig::default(),
        network: NetworkConfig::default(),
    };
    let nodes: Vec<Config> = (1..=nodes).map(node).collect();
    let client = ClientConfig {
        cluster,
        ca: "ca.pem".into(),
        cert: "client.pem".into(),
        key: "client.key".into(),
        nodes: addresses,
        mtu_max: None,
    };
    nodes.iter().try_for_each(Config::validate)?;
    client.validate()?;
    Ok(Plan { nodes, client })
}

/// The folder's own name where it can be a cluster's.
fn cluster_name(dir: &Path) -> String {
    let name = dir.file_name().and_then(|name| name.to_str());
    let fits = |name: &&str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        name.len() <= 40 && name.bytes().all(allowed)
    };
    name.filter(fits).unwrap_or(CLUSTER_NAME).to_owned()
}

fn check_empty(dir: &Path) -> Result<(), Failure> {
    let used = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => {
            return Err(Failure::doing(format!("cannot use {}", dir.display()))(
                error,
            ));
        }
    };
    if used {
        return Err(Failure::Message(format!(
            "{} is not empty: give a new folder, as a cluster's files are never overwritten",
            dir.display()
        )));
    }
    Ok(())
}

fn write_issued(dir: &Path, name: &str, issued: &Issued) -> Result<(), Failure> {
    write(
        dir,
        &format!("{name}.pem"),
        &issued.cert_pem,
        Secrecy::Public,
    )?;
    write(
        dir,
        &format!("{name}.key"),
        &issued.key_pem,
        Secrecy::Private,
    )
}

#[derive(Clone, Copy)]
enum Secrecy {
    Public,
    Private,
}

fn write(dir: &Path, name: &str, text: &str, secrecy: Secrecy) -> Result<(), Failure> {
    let path = dir.join(name);
    let mode = match secrecy {
        Secrecy::Public => 0o644,
        Secrecy::Private => 0o600,
    };
    let written = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    written().map_err(Failure::doing(format!("cannot write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(dir: &str, nodes: u16, host: &str, port_base: u16) -> Plan {
        plan(Path::new(dir), nodes, host, port_base).unwrap()
    }

    #[test]
    fn ports_follow_the_base_ten_apart() {
        let plan = planned("c", 3, "127.0.0.1", 7600);
        let ports: Vec<(u16, u16)> = plan
            .nodes
            .iter()
            .map(|config| (config.node.listen.port(), config.node.admin.port()))
            .collect();
        assert_eq!(ports, [(7600, 7601), (7610, 7611), (7620, 7621)]);
        assert_eq!(plan.client.nodes[2].address, "127.0.0.1:7620");
    }

    #[test]
    fn host_name_is_dialled_and_all_addresses_are_listened_on() {
        let plan = planned("c", 1, "log.example.com", 7600);
        assert_eq!(plan.nodes[0].node.listen.to_string(), "0.0.0.0:7600");
        assert_eq!(plan.client.nodes[0].address, "log.example.com:7600");
        let plan = planned("c", 1, "::1", 7600);
        assert_eq!(plan.client.nodes[0].address, "[::1]:7600");
    }

    #[test]
    fn ports_that_do_not_exist_are_refused() {
        let Err(Failure::Message(said)) = plan(Path::new("c"), 9, "127.0.0.1", 65_500) else {
            panic!("port 65581 does not exist");
        };
        assert!(said.contains("--port-base"), "{said}");
    }

    #[test]
    fn cluster_is_named_after_its_folder_where_that_can_be_a_name() {
        assert_eq!(cluster_name(Path::new("/data/sea-1")), "sea-1");
        for not_a_name in ["/data/Sea", "/data/..", "/", "/data/sea_1"] {
            assert_eq!(cluster_name(Path::new(not_a_name)), CLUSTER_NAME);
        }
    }

    #[test]
    fn folder_that_is_not_empty_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("precious"), "data").unwrap();
        let refused = make_cluster(dir.path(), 1, "127.0.0.1", 7600);
        let Err(Failure::Message(said)) = refused else {
            panic!("must be refused")
        };
        assert!(said.contains("not empty"), "{said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
