//! Snapshots of the controller: all of the state, pinned bytes, contradictions refused.

use super::super::command::{Command, Outcome};
use super::*;

fn state() -> State {
    let mut state = State::default();
    let nodes = (1..=4).map(|node| (node, format!("host-{node}:7600")));
    state.apply(Command::Found {
        nodes: nodes.collect(),
    });
    for (name, partitions) in [("ships", 2), ("harbours-of-the-north", 1), ("gone", 4)] {
        let outcome = state.apply(Command::CreateTopic {
            name: name.into(),
            partitions,
            replicas: 3,
            partitions_max: 10_000,
            token: 7,
        });
        assert!(matches!(outcome, Outcome::TopicCreated { .. }));
    }
    state.apply(Command::DeleteTopic {
        name: "gone".into(),
    });
    state.apply(Command::AllocateProducerIds { count: 100 });
    for (old, new) in [(4, 5), (3, 6)] {
        state.apply(Command::ReplaceNode {
            old,
            new,
            address: format!("host-{new}:7600"),
        });
        if old == 4 {
            let groups = state.partitions().map(|p| (p.group, p.version)).collect();
            state.apply(Command::Settle { groups });
            state.apply(Command::ForgetNode { node: old });
        }
    }
    state
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_snapshot_holds_the_whole_state() {
    assert_eq!(decode(&encode(&state())).unwrap(), state());
    assert_eq!(
        decode(&encode(&State::default())).unwrap(),
        State::default()
    );
}

#[test]
fn groups_and_topics_deleted_before_a_snapshot_are_not_used_again_after_it() {
    let mut restored = decode(&encode(&state())).unwrap();
    restored.apply(Command::CreateTopic {
        name: "new".into(),
        partitions: 1,
        replicas: 1,
        partitions_max: 10_000,
        token: 8,
    });
    let topic = restored.topic("new").unwrap();
    assert_eq!((topic.id, topic.partitions[0].group), (4, 8));
    assert!(restored.is_deleted(5) && !restored.is_deleted(8) && !restored.is_deleted(9));
}

#[test]
fn the_stored_bytes_of_a_snapshot_never_change() {
    assert_eq!(
        hex(&encode(&state())),
        concat!(
            "02686172626f7572732d6f662d7468652d6e6f727468010000000000000003000000000000000400000000000000",
            "06000000000000000500000000000000010000000000000001000000000000000300000000000000050000000000",
            "000006000000000000000300000000000000a8ffffff03000000b8ffffff03000000c8ffffff0400000002000000",
            "00000000000100000000000000020000000000000003000000000000000100000000000000020000000000000006",
            "00000000000000010000000000000002000000000000000300000000000000060000000000000001000000000000",
            "00020000000000000004000000000000000500000000000000010000000000000002000000000000000100000000",
            "00000002000000000000000500000000000000010000000000000060ffffff0300000070ffffff0300000080ffff",
            "ff04000000010000000000000000020000000000000087ffffff0300000097ffffff03000000a7ffffff03000000",
            "0100000000000000019500000088feffff02000000000000000700000000000000d5feffff010000007368697073",
            "ffffff0100000000000000070000000000000076ffffff02000000686f73742d313a37363030686f73742d323a37",
            "363030686f73742d333a37363030686f73742d353a37363030686f73742d363a3736303001000000000000008b00",
            "0000c1ffffff0002000000000000008b000000bbffffff0003000000000000008b000000b5ffffff010500000000",
            "0000008b000000afffffff0006000000000000008b000000a9ffffff000400000000000000080000000000000004",
            "00000000000000650000000000000014ffffff0200000083ffffff05000000d0ffffff01000000"
        )
    );
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let mut group_too_high = state();
    group_too_high.next_group = 2;
    assert!(matches!(
        decode(&encode(&group_too_high)),
        Err(SnapshotError::Inconsistent(_))
    ));
    let mut topic_too_high = state();
    topic_too_high.next_topic = 1;
    assert!(matches!(
        decode(&encode(&topic_too_high)),
        Err(SnapshotError::Inconsistent(_))
    ));
    let mut twice = state();
    let topic = Topic {
        name: "second".into(),
        id: 1,
        token: 8,
        partitions: vec![Partition::new(1, vec![1])],
    };
    twice.insert(topic);
    assert!(matches!(
        decode(&encode(&twice)),
        Err(SnapshotError::Inconsistent(_))
    ));
    let mut removed = state();
    removed.removed.insert(1);
    assert!(matches!(
        decode(&encode(&removed)),
        Err(SnapshotError::Inconsistent(_))
    ));
}
