//! The state of the controller: what each command changes, and what it refuses.

use super::*;

fn founded() -> State {
    let mut state = State::default();
    let nodes = (1..=3).map(|node| (node, format!("host-{node}:7600")));
    state.apply(Command::Found {
        nodes: nodes.collect(),
    });
    state
}

fn create(name: &str, partitions: u32, replicas: u32) -> Command {
    Command::CreateTopic {
        name: name.into(),
        partitions,
        replicas,
        partitions_max: 10_000,
        token: 7,
    }
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        done => panic!("not refused: {done:?}"),
    }
}

#[test]
fn a_created_topic_has_its_partitions_numbered_and_its_groups_found() {
    let mut state = founded();
    assert_eq!(
        state.apply(create("ships", 3, 2)),
        Outcome::TopicCreated { topic: 1 }
    );
    let topic = Arc::clone(state.topic("ships").unwrap());
    assert_eq!(
        topic.partitions.iter().map(|p| p.group).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(state.group(2), Some((&topic, 1)));
    assert_eq!(state.partitions().count(), 3);
    assert!(state.group(0).is_none() && state.group(4).is_none());
}

#[test]
fn a_topic_that_exists_is_not_made_again() {
    let mut state = founded();
    state.apply(create("ships", 3, 2));
    let before = state.clone();
    let by_another = Command::CreateTopic {
        name: "ships".into(),
        partitions: 3,
        replicas: 2,
        partitions_max: 10_000,
        token: 8,
    };
    assert_eq!(refusal(state.apply(by_another)), Refusal::TopicExists);
    assert_eq!(state, before);
}

#[test]
fn a_creation_that_is_sent_again_finds_its_own_topic() {
    let mut state = founded();
    let created = state.apply(create("ships", 3, 2));
    let before = state.clone();
    assert_eq!(state.apply(create("ships", 3, 2)), created);
    assert_eq!(state, before);
}

#[test]
fn names_that_would_be_paths_are_refused() {
    let mut state = founded();
    for name in ["", ".", "..", "a/b", "../../etc/passwd", "a\0b", "a\nb"] {
        assert!(
            matches!(
                refusal(state.apply(create(name, 1, 1))),
                Refusal::InvalidTopic { .. }
            ),
            "{name:?}"
        );
    }
    assert_eq!(state, founded());
}

#[test]
fn partition_and_replica_counts_out_of_range_are_refused() {
    let mut state = founded();
    for (partitions, replicas) in [
        (0, 1),
        (PARTITIONS_PER_TOPIC_MAX + 1, 1),
        (u32::MAX, 1),
        (1, 4),
        (1, u32::MAX),
    ] {
        assert!(matches!(
            refusal(state.apply(create("ships", partitions, replicas))),
            Refusal::InvalidRequest { .. }
        ));
    }
    assert_eq!(state, founded());
}

#[test]
fn the_cluster_has_a_limit_of_partitions_in_all() {
    let mut state = founded();
    let create = |name: &str, partitions| Command::CreateTopic {
        name: name.into(),
        partitions,
        replicas: 1,
        partitions_max: 10,
        token: 7,
    };
    state.apply(create("seven", 7));
    assert!(matches!(
        refusal(state.apply(create("four", 4))),
        Refusal::InvalidRequest { .. }
    ));
    assert_eq!(
        state.apply(create("three", 3)),
        Outcome::TopicCreated { topic: 2 }
    );
    assert_eq!(state.partitions().count(), 10);
}

#[test]
fn a_deleted_topic_frees_its_name_but_not_its_groups() {
    let mut state = founded();
    state.apply(create("ships", 2, 1));
    assert_eq!(
        state.apply(Command::DeleteTopic {
            name: "ships".into()
        }),
        Outcome::TopicDeleted { topic: 1 }
    );
    assert!(state.is_deleted(1) && state.is_deleted(2) && !state.is_deleted(3));
    state.apply(create("ships", 2, 1));
    let topic = state.topic("ships").unwrap();
    assert_eq!((topic.id, topic.partitions[0].group), (2, 3));
    assert_eq!(
        refusal(state.apply(Command::DeleteTopic {
            name: "boats".into()
        })),
        Refusal::UnknownTopic
    );
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut state = founded();
    assert_eq!(
        state.apply(Command::AllocateProducerIds { count: 10 }),
        Outcome::ProducerIds {
            first: 1,
            count: 10
        }
    );
    assert_eq!(
        state.apply(Command::AllocateProducerIds { count: 1 }),
        Outcome::ProducerIds {
            first: 11,
            count: 1
        }
    );
    for count in [0, PRODUCER_ID_BLOCK_MAX + 1, u64::MAX] {
        assert!(matches!(
            refusal(state.apply(Command::AllocateProducerIds { count })),
            Refusal::InvalidRequest { .. }
        ));
    }
}

#[test]
fn leaders_of_many_topics_are_spread_over_the_nodes() {
    let mut state = founded();
    for topic in 0..30 {
        state.apply(create(&format!("topic-{topic}"), 1, 3));
    }
    for node in 1..=3 {
        assert_eq!(
            state
                .partitions()
                .filter(|partition| partition.replicas[0] == node)
                .count(),
            10
        );
    }
}

#[test]
fn a_topic_gets_as_many_replicas_as_survive_one_failure_unless_told_otherwise() {
    let mut state = founded();
    state.apply(create("ships", 1, 0));
    assert_eq!(
        state.topic("ships").unwrap().partitions[0].replicas.len(),
        3
    );
}
