//! Commands: their bytes are pinned, and bytes that no node wrote are refused.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn commands() -> [Command; 3] {
    [
        Command::CreateTopic {
            name: "a-name-longer-than-inline".into(),
            partitions: 3,
            replicas: 2,
            nodes: vec![1, 2, 3],
            partitions_max: 10_000,
            token: 7,
        },
        Command::DeleteTopic {
            name: "ships".into(),
        },
        Command::AllocateProducerIds { count: 1000 },
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
    ];
    for outcome in outcomes {
        assert_eq!(decode_outcome(&encode_outcome(&outcome)).unwrap(), outcome);
    }
}

#[test]
fn the_stored_bytes_of_a_command_never_change() {
    let golden = [
        "01612d6e616d652d6c6f6e6765722d7468616e2d696e6c696e650100000000000000020000000000000003000000000000000099000000ceffffff0300000002000000d7ffffff03000000102700000700000000000000",
        "01017368697073ffffff00000000000000000000000000000000000000000000000000000000",
        "0102e80300000000000000000000000000000000000000000000000000000000000000000000",
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
        future[0] = 2;
        assert_eq!(
            decode_command(&future),
            Err(CommandError::UnknownVersion(2))
        );
    }
}
