//! Snapshots of the controller: all of the state, pinned bytes, contradictions refused.

use super::super::command::{Command, Outcome};
use super::*;

fn state() -> State {
    let mut state = State::default();
    let nodes = vec![1, 2, 3];
    for (name, partitions) in [("ships", 2), ("harbours-of-the-north", 1), ("gone", 4)] {
        let outcome = state.apply(Command::CreateTopic {
            name: name.into(),
            partitions,
            replicas: 3,
            nodes: nodes.clone(),
            partitions_max: 10_000,
            token: 7,
        });
        assert!(matches!(outcome, Outcome::TopicCreated { .. }));
    }
    state.apply(Command::DeleteTopic {
        name: "gone".into(),
    });
    state.apply(Command::AllocateProducerIds { count: 100 });
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
        nodes: vec![1],
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
            "01686172626f7572732d6f662d7468652d6e6f72746803000000000000000100000000000000020000000000000003",
            "00000000000000e0ffffff030000000100000000000000020000000000000003000000000000000200000000000000",
            "030000000000000001000000000000000100000000000000c8ffffff030000000200000000000000d0ffffff030000",
            "009500000073ffffff0200000000000000070000000000000088ffffff010000007368697073ffffff010000000000",
            "00000700000000000000a8ffffff02000000080000000000000004000000000000006500000000000000a8ffffff02",
            "000000"
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
        partitions: vec![Partition {
            group: 1,
            replicas: vec![1],
        }],
    };
    twice.insert(topic);
    assert!(matches!(
        decode(&encode(&twice)),
        Err(SnapshotError::Inconsistent(_))
    ));
}
