//! `plimsoll init DIR --add-node`: certificate and settings of one more node, for a cluster that runs.
//!
//! Owns which number and ports it gets: the next ones that no file in the folder speaks of. Must not change a file that is there.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use plimsoll::config::{ClientConfig, Config, NodeAddress, NodeConfig, TlsConfig};
use transport::pki::Authority;

use super::{CLIENT_FILE, PORT_STEP, Secrecy, node_file, write, write_issued};
use crate::cli::output::Failure;

/// Writes the files of one more node; gives its number and the address it is dialed at. `host` is the one of the other nodes unless
/// given, and so is `port_base`.
pub(super) fn add_node(
    dir: &Path,
    host: Option<&str>,
    port_base: Option<u16>,
) -> Result<NodeAddress, Failure> {
    let client = ClientConfig::load(&dir.join(CLIENT_FILE)).map_err(|error| {
        Failure::Message(format!(
            "{} is not the folder of a cluster, as `plimsoll init` makes it: {error}",
            dir.display()
        ))
    })?;
    let there = nodes_in(dir)?;
    let Some(first) = there.first() else {
        return Err(Failure::Message(format!(
            "{} has no settings of any node: its cluster's identity is not known",
            dir.display()
        )));
    };
    let model = Config::load(&dir.join(node_file(*first)), &[])?;
    let named = client.nodes.iter().map(|node| node.id).chain(there);
    let id = named.max().unwrap_or(0) + 1;
    let config = settings(&client, &model, id, host, port_base)?;
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(Failure::doing(format!("cannot read {}", path.display())))
    };
    let authority = Authority::load(&client.cluster, &read("ca.pem")?, &read("ca.key")?)?;
    write_issued(dir, &format!("node-{id}"), &authority.issue_node(id)?)?;
    write(dir, &node_file(id), &config.to_toml(), Secrecy::Public)?;
    let own = config.nodes.into_iter().find(|node| node.id == id);
    Ok(own.expect("it was put there"))
}

/// Numbers of the nodes that have a certificate or settings in the folder, also of those that have left, ascending.
fn nodes_in(dir: &Path) -> Result<Vec<u64>, Failure> {
    let entries = fs::read_dir(dir);
    let entries = entries.map_err(Failure::doing(format!("cannot read {}", dir.display())))?;
    let mut nodes = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let rest = name.strip_prefix("node-")?;
            rest.split('.').next()?.parse::<u64>().ok()
        });
        nodes.extend(number);
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

fn settings(
    client: &ClientConfig,
    model: &Config,
    id: u64,
    host: Option<&str>,
    port_base: Option<u16>,
) -> Result<Config, Failure> {
    let place = (id - 1).saturating_mul(u64::from(PORT_STEP));
    let model_place = (model.node.id - 1).saturating_mul(u64::from(PORT_STEP));
    let base = match port_base {
        Some(base) => u64::from(base),
        None => u64::from(model.node.listen.port()).saturating_sub(model_place),
    };
    let port = u16::try_from(base.saturating_add(place))
        .ok()
        .filter(|port| *port > 0 && *port < u16::MAX)
        .ok_or_else(|| {
            Failure::Message(format!(
                "port {} of node {id} does not exist: give another --port-base",
                base.saturating_add(place)
            ))
        })?;
    let beside = model.nodes.iter().find(|node| node.id == model.node.id);
    let beside = beside.and_then(|node| node.address.rsplit_once(':'));
    let host = host
        .or(beside.map(|(host, _)| host.trim_matches(['[', ']'])))
        .unwrap_or("127.0.0.1");
    let ip: IpAddr = host.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let address = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    };
    let mut nodes = client.nodes.clone();
    nodes.push(NodeAddress { id, address });
    let config = Config {
        node: NodeConfig {
            id,
            cluster: model.node.cluster.clone(),
            cluster_id: model.node.cluster_id.clone(),
            data_dir: format!("node-{id}").into(),
            listen: SocketAddr::new(ip, port),
            admin: SocketAddr::new(ip, port + 1),
            joins: true,
        },
        tls: TlsConfig {
            ca: "ca.pem".into(),
            cert: format!("node-{id}.pem").into(),
            key: format!("node-{id}.key").into(),
        },
        nodes,
        ..model.clone()
    };
    config.validate()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::init::make_cluster;

    #[test]
    fn each_further_node_gets_the_next_number_and_ports_and_founds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("sea");
        make_cluster(&home, 3, "127.0.0.1", 7700).unwrap();
        for (id, address) in [(4, "127.0.0.1:7730"), (5, "127.0.0.1:7740")] {
            let added = add_node(&home, None, None).unwrap();
            assert_eq!((added.id, added.address.as_str()), (id, address));
            let config = Config::load(&home.join(node_file(id)), &[]).unwrap();
            assert_eq!(config.founders(), [1, 2, 3]);
        }
        let founder = Config::load(&home.join(node_file(1)), &[]).unwrap();
        let fifth = Config::load(&home.join(node_file(5)), &[]).unwrap();
        assert_eq!(founder.node.cluster_id, fifth.node.cluster_id);
        let elsewhere = add_node(&home, Some("log.example.com"), Some(9000)).unwrap();
        assert_eq!(elsewhere.address, "log.example.com:9050");
    }

    #[test]
    fn a_folder_that_is_none_and_one_without_its_key_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let Err(Failure::Message(said)) = add_node(dir.path(), None, None) else {
            panic!("must be refused")
        };
        assert!(said.contains("not the folder of a cluster"), "{said}");
        let home = dir.path().join("sea");
        make_cluster(&home, 1, "127.0.0.1", 7700).unwrap();
        fs::remove_file(home.join("ca.key")).unwrap();
        let Err(Failure::Message(said)) = add_node(&home, None, None) else {
            panic!("must be refused")
        };
        assert!(said.contains("ca.key"), "{said}");
        assert!(!home.join("node-2.toml").exists());
    }
}
