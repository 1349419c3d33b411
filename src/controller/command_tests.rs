//! Commands: their bytes are pinned, and bytes that no node wrote are refused.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn commands() -> [Command; 11] {
    [
        Command::CreateTopic {
            name: "a-name-longer-than-inline".into(),
            partitions: 3,
            replicas: 2,
            partitions_max: 10_000,
            token: 7,
        },
        Command::DeleteTopic {
            name: "ships".into(),
        },
        Command::AllocateProducerIds { count: 1000 },
        Command::Found {
            nodes: vec![(1, "host-1:7600".into()), (2, "host-2:7600".into())],
        },
        Command::AddNode {
            node: 3,
            address: "host-3:7600".into(),
        },
        Command::RemoveNode { node: 2 },
        Command::ReplaceNode {
            old: 2,
            new: 4,
            address: "host-4:7600".into(),
        },
        Command::Rebalance,
        Command::PreferLeader { group: 5, node: 3 },
        Command::Settle {
            groups: vec![(5, 1), (6, 2)],
        },
        Command::ForgetNode { node: 2 },
    ]
}

#[test]
fn commands_and_outcomes_come_back_as_they_went() {
    for command in commands() {
        assert_eq!(decode_command(&encode_command(&command)).unwrap(), command);
    }
    let outcomes = [
        Outcome::TopicCreated { topic: 7 },
        Outcome::TopicDeleted { topic: 7 },
        Outcome::ProducerIds {
            first: 5,
            count: 10,
        },
        Outcome::Refused(Refusal::TopicExists),
        Outcome::Refused(Refusal::UnknownTopic),
        Outcome::Refused(Refusal::InvalidTopic {
            reason: "empty".into(),
        }),
        Outcome::Refused(Refusal::InvalidRequest {
            reason: "0 partitions".into(),
        }),
        Outcome::Changed { moves: 3 },
        Outcome::Refused(Refusal::InvalidChange {
            reason: "unknown".into(),
        }),
        Outcome::Refused(Refusal::Unfounded),
    ];
    for outcome in outcomes {
        assert_eq!(decode_outcome(&encode_outcome(&outcome)).unwrap(), outcome);
    }
}

#[test]
fn the_stored_bytes_of_a_command_never_change() {
    let golden = [
        "02612d6e616d652d6c6f6e6765722d7468616e2d696e6c696e650099000000e6ffffff0300000002000000102700000700000000000000",
        "02017368697073ffffff0000000000000000000000000000000000000000",
        "0202e8030000000000000000000000000000000000000000000000000000",
        "02686f73742d313a37363030686f73742d323a3736303001000000000000008b000000e2ffffff02000000000000008b000000ddffffff03dfffffff020000000000000000000000000000000000000000000000",
        "02686f73742d333a373630300403000000000000008b000000ecffffff000000000000000000000000",
        "020502000000000000000000000000000000000000000000000000000000",
        "02686f73742d343a3736303006020000000000000004000000000000008b000000e4ffffff00000000",
        "020700000000000000000000000000000000000000000000000000000000",
        "020805000000000000000300000000000000000000000000000000000000",
        "02050000000000000001000000000000000600000000000000020000000000000009dfffffff020000000000000000000000000000000000000000000000",
        "020a02000000000000000000000000000000000000000000000000000000",
    ];
    for (command, golden) in commands().iter().zip(golden) {
        assert_eq!(hex(&encode_command(command)), golden, "{command:?}");
    }
}

#[test]
fn commands_cut_short_or_of_another_version_are_not_taken_for_whole() {
    for command in commands() {
        let bytes = encode_command(&command);
        for len in 0..bytes.len() {
            assert_ne!(
                decode_command(&bytes[..len]).as_ref(),
                Ok(&command),
                "{len} bytes"
            );
        }
        let mut future = bytes.clone();
        future[0] = 3;
        assert_eq!(
            decode_command(&future),
            Err(CommandError::UnknownVersion(3))
        );
    }
}
