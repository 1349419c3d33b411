//! What the settings accept, what they refuse, and with which words.

use std::ffi::OsString;
use std::path::PathBuf;

use super::*;

const NODE: &str = r#"
nodes = [{ id = 1, address = "127.0.0.1:7600" }, { id = 2, address = "localhost:7610" }]

[node]
id = 1
cluster = "sea"
cluster_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
data_dir = "node-1"
listen = "127.0.0.1:7600"
admin = "127.0.0.1:7601"

[tls]
ca = "ca.pem"
cert = "node-1.pem"
key = "/etc/keys/node-1.key"
"#;

struct File {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    std::fs::write(&path, text).unwrap();
    File { folder, path }
}

fn load_with(
    text: &str,
    environment: &[(&str, &str)],
    flags: &[&str],
) -> Result<Config, ConfigError> {
    let file = file(text);
    let environment = environment
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    load::node(&file.path, environment, &flags)
}

fn refusal(text: &str, environment: &[(&str, &str)], flags: &[&str]) -> String {
    load_with(text, environment, flags).unwrap_err().to_string()
}

#[test]
fn file_without_optional_sections_gets_the_defaults() {
    let config = load_with(NODE, &[], &[]).unwrap();
    assert_eq!(config.raft, RaftConfig::default());
    assert_eq!(config.log, LogConfig::default());
    assert_eq!(config.limits, LimitsConfig::default());
    assert_eq!(config.network, NetworkConfig::default());
}

#[test]
fn relative_paths_are_relative_to_the_folder_of_the_file() {
    let file = file(NODE);
    let config = load::node(&file.path, std::iter::empty(), &[]).unwrap();
    assert_eq!(config.node.data_dir, file.folder.path().join("node-1"));
    assert_eq!(config.tls.ca, file.folder.path().join("ca.pem"));
    assert_eq!(config.tls.key, PathBuf::from("/etc/keys/node-1.key"));
}

#[test]
fn what_is_written_is_read_back_the_same() {
    let config: Config = toml::from_str(NODE).unwrap();
    let again: Config = toml::from_str(&config.to_toml()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn environment_overrides_the_file_and_the_flag_overrides_both() {
    let environment = [
        ("PLIMSOLL_RAFT_HEARTBEAT_MS", "20"),
        ("PLIMSOLL_NODE_LISTEN", "0.0.0.0:9000"),
    ];
    let config = load_with(NODE, &environment, &[]).unwrap();
    assert_eq!(config.raft.heartbeat_ms, 20);
    assert_eq!(
        config.node.listen,
        "0.0.0.0:9000".parse::<std::net::SocketAddr>().unwrap()
    );
    let config = load_with(NODE, &environment, &["raft.heartbeat_ms=30"]).unwrap();
    assert_eq!(config.raft.heartbeat_ms, 30);
}

#[test]
fn variables_of_another_meaning_are_left_alone() {
    let environment = [("PLIMSOLL_CLIENT", "c.toml"), ("PLIMSOLL_SEEDS_MAX", "5")];
    load_with(NODE, &environment, &[]).unwrap();
}

#[test]
fn unknown_keys_are_refused_wherever_they_come_from() {
    let said = refusal(&format!("{NODE}\n[raft]\nhart_beat = 3\n"), &[], &[]);
    assert!(
        said.contains("hart_beat") && said.contains("heartbeat_ms"),
        "{said}"
    );
    let said = refusal(&format!("{NODE}\n[rafft]\nheartbeat_ms = 3\n"), &[], &[]);
    assert!(said.contains("rafft"), "{said}");
    let said = refusal(NODE, &[], &["raft.hart_beat=3"]);
    assert!(
        said.contains("hart_beat") && said.contains("--set"),
        "{said}"
    );
    let said = refusal(NODE, &[("PLIMSOLL_RAFT_HART_BEAT", "3")], &[]);
    assert!(said.contains("PLIMSOLL_RAFT_HART_BEAT"), "{said}");
    let said = refusal(NODE, &[], &["rafft.heartbeat_ms=3"]);
    assert!(said.contains("rafft") && said.contains("limits"), "{said}");
}

#[test]
fn override_without_section_or_value_says_how_to_write_it() {
    for wrong in ["heartbeat_ms=3", "raft.heartbeat_ms", "="] {
        let said = refusal(NODE, &[], &[wrong]);
        assert!(said.contains("section.key=value"), "{said}");
    }
}

#[test]
fn impossible_values_are_refused_with_key_value_and_range() {
    for (flag, words) in [
        ("raft.heartbeat_ms=0", "1 to 10000"),
        ("raft.heartbeat_ms=100", "twice raft.heartbeat_ms"),
        (
            "raft.election_timeout_max_ms=150",
            "more than raft.election_timeout_min_ms",
        ),
        ("raft.in_flight_bytes_max=1", "65536 to"),
        ("raft.catch_up_lag_bytes=1", "65536 to"),
        ("raft.catch_up_in_flight_bytes_max=1", "1048576 to"),
        ("raft.catch_up_bytes_per_s=0", "65536 to"),
        ("log.segment_bytes_max=1048577", "multiple of 1048576"),
        ("log.segment_bytes_first=268435456", "to 134217728"),
        ("log.segment_bytes_first=65537", "multiple of 65536"),
        ("limits.batch_bytes_max=99999999999", "65536 to 67108864"),
        ("limits.produce_in_flight_bytes_max=1", "8388608 to"),
        ("limits.peer_queue_bytes_max=1", "8388608 to"),
        ("limits.connections_max=0", "8 to"),
        ("limits.partitions_max=0", "1 to"),
        ("node.id=7", "one of [[nodes]]"),
        ("node.cluster=Sea", "a-z, 0-9"),
        ("node.cluster=../sea", "a-z, 0-9"),
        ("node.cluster_id=77", "UUID"),
        ("node.listen=127.0.0.1:0", "port"),
    ] {
        let said = refusal(NODE, &[], &[flag]);
        let (key, value) = flag.split_once('=').unwrap();
        assert!(said.contains(words), "{flag}: {said}");
        let named = said.contains(key) || said.contains("raft.election_timeout_min_ms");
        assert!(named, "{flag}: {said}");
        assert!(
            said.contains(value) || flag.contains("heartbeat_ms=100"),
            "{said}"
        );
    }
}

#[test]
fn negative_and_mistyped_values_are_refused() {
    for flag in [
        "raft.heartbeat_ms=-1",
        "raft.heartbeat_ms=fast",
        "node.listen=nowhere",
        "limits.connections_max=4294967296",
    ] {
        let said = refusal(NODE, &[], &[flag]);
        assert!(said.contains(flag), "{said}");
    }
}

#[test]
fn node_list_must_be_sound() {
    let with = |list: &str| {
        let (_, rest) = NODE.trim_start().split_once('\n').unwrap();
        refusal(&format!("nodes = {list}\n{rest}"), &[], &[])
    };
    assert!(with("[]").contains("1 to 32 entries"));
    assert!(with("[{ id = 0, address = 'a:1' }]").contains("from 1"));
    let twice = "[{ id = 1, address = 'a:1' }, { id = 1, address = 'a:2' }]";
    assert!(with(twice).contains("each id once"));
    let shared = "[{ id = 1, address = 'a:1' }, { id = 2, address = 'a:1' }]";
    assert!(with(shared).contains("each address once"));
    for address in ["a", "a:", ":7600", "a:0", "a:70000"] {
        let said = with(&format!("[{{ id = 1, address = '{address}' }}]"));
        assert!(said.contains("host:port"), "{said}");
    }
}

#[test]
fn file_that_is_absent_binary_or_not_toml_is_refused_by_name() {
    let absent = Config::load(&PathBuf::from("/nonexistent/node.toml"), &[]).unwrap_err();
    assert!(absent.to_string().contains("/nonexistent/node.toml"));
    let said = refusal("node = = 3", &[], &[]);
    assert!(
        said.contains("settings.toml") && said.contains("line 1"),
        "{said}"
    );
    let binary = file("");
    std::fs::write(&binary.path, [0xff, 0xfe, 0, 1]).unwrap();
    let said = Config::load(&binary.path, &[]).unwrap_err().to_string();
    assert!(said.contains("settings.toml"), "{said}");
}

#[test]
fn client_settings_are_read_and_refused_alike() {
    let text = "cluster = 'sea'\nca = 'ca.pem'\ncert = 'c.pem'\nkey = 'c.key'\nnodes = [{ id = 1, address = 'localhost:7600' }]\n";
    let good = file(text);
    let config = ClientConfig::load(&good.path).unwrap();
    assert_eq!(config.ca, good.folder.path().join("ca.pem"));
    let again: ClientConfig = toml::from_str(&config.to_toml()).unwrap();
    assert_eq!(again, config);
    let unknown = file(&format!("colour = 'red'\n{text}"));
    let said = ClientConfig::load(&unknown.path).unwrap_err().to_string();
    assert!(said.contains("colour"), "{said}");
}

#[test]
fn largest_datagram_is_held_within_what_quic_and_udp_allow() {
    for bytes in ["1199", "65001"] {
        let said = refusal(NODE, &[("PLIMSOLL_NETWORK_MTU_MAX", bytes)], &[]);
        assert!(
            said.contains("network.mtu_max") && said.contains("1200"),
            "{said}"
        );
        let client = file(&format!(
            "mtu_max = {bytes}\ncluster = 'sea'\nca = 'a'\ncert = 'b'\nkey = 'c'\nnodes = [{{ id = 1, address = 'h:1' }}]\n"
        ));
        let said = ClientConfig::load(&client.path).unwrap_err().to_string();
        assert!(said.contains("mtu_max"), "{said}");
    }
    let held = load_with(NODE, &[], &["network.mtu_max=1452"]).unwrap();
    assert_eq!(held.network.mtu_max, 1452);
}

#[test]
fn cluster_identities_are_uuids_that_differ() {
    let (one, two) = (new_cluster_id(), new_cluster_id());
    assert_ne!(one, two);
    for id in [&one, &two] {
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4", "{id}");
        assert!(cluster_id_bytes(id).is_some(), "{id}");
    }
    for wrong in [
        "",
        "0f8fad5bd9cb469fa16570867728950e",
        "00000000-0000-0000-0000-000000000000",
        "0f8fad5b-d9cb-469f-a165-7086772895zz",
        "+f8fad5b-d9cb-469f-a165-70867728950e",
    ] {
        assert_eq!(cluster_id_bytes(wrong), None, "{wrong}");
    }
}

#[test]
fn address_that_does_not_resolve_names_the_node() {
    let node = NodeAddress {
        id: 3,
        address: "no-such-host.invalid:1".to_owned(),
    };
    let said = node.resolve().unwrap_err().to_string();
    assert!(
        said.contains("node 3") && said.contains("no-such-host"),
        "{said}"
    );
}

#[test]
fn acks_wait_for_the_sync_unless_the_node_is_told_otherwise_in_so_many_words() {
    let told = |flag: &str| load_with(NODE, &[], &[flag]).unwrap().log.durability;
    assert_eq!(LogConfig::default().durability, Durability::Fsync);
    assert_eq!(told("log.durability=fsync"), Durability::Fsync);
    assert_eq!(told("log.durability=page-cache"), Durability::PageCache);
    let text = refusal(NODE, &[], &["log.durability=memory"]);
    assert!(text.contains("`fsync` or `page-cache`"), "{text}");
}
