//! Requests and replies there and back, pinned bytes, caps, and bytes from outside.

use proptest::prelude::*;

use super::kind::{REPLY, REQUEST};
use super::request::METADATA_TOPICS_MAX;
use super::*;

fn requests() -> Vec<Request> {
    let name = String::from("orders");
    vec![
        Request::Produce {
            correlation: 1,
            group: 2,
            forward: true,
        },
        Request::Fetch {
            group: 2,
            from: FetchFrom::Offset(3),
            max_bytes: 4,
            follow: true,
        },
        Request::Fetch {
            group: 2,
            from: FetchFrom::Start,
            max_bytes: 4,
            follow: false,
        },
        Request::Fetch {
            group: 2,
            from: FetchFrom::End,
            max_bytes: 4,
            follow: false,
        },
        Request::Fetch {
            group: 2,
            from: FetchFrom::Time(5),
            max_bytes: 4,
            follow: false,
        },
        Request::Metadata { topics: None },
        Request::Metadata {
            topics: Some(vec![
                name.clone(),
                String::from("a-name-that-is-not-inlined"),
            ]),
        },
        Request::CreateTopic {
            name: name.clone(),
            partitions: 3,
            replicas: 0,
            token: 9,
        },
        Request::DeleteTopic { name },
        Request::ProducerId,
        Request::ClusterStatus,
        Request::EndOffset { group: 2 },
        Request::TransferLeader { group: 2, to: 3 },
        Request::PreferLeader { group: 2, to: 3 },
        Request::AddNode {
            node: 4,
            address: String::from("host-4:7630"),
        },
        Request::RemoveNode { node: 4 },
        Request::ReplaceNode {
            old: 3,
            new: 4,
            address: String::from("host-4:7630"),
        },
        Request::Rebalance,
        Request::Usage,
    ]
}

fn errors() -> Vec<ApiError> {
    let reason = String::from("because");
    vec![
        ApiError::NotLeader { leader: None },
        ApiError::NotLeader {
            leader: Some((2, String::from("host:7610"))),
        },
        ApiError::UnknownTopic,
        ApiError::UnknownGroup,
        ApiError::TopicExists,
        ApiError::InvalidTopic {
            reason: reason.clone(),
        },
        ApiError::OffsetOutOfRange {
            log_start: 1,
            high_watermark: 2,
        },
        ApiError::BatchTooLarge { max: 3 },
        ApiError::CorruptBatch {
            reason: reason.clone(),
        },
        ApiError::OutOfOrderSequence { expected: 4 },
        ApiError::ProducerFenced { epoch: 5 },
        ApiError::Overloaded,
        ApiError::DiskFull,
        ApiError::Unavailable,
        ApiError::ShuttingDown,
        ApiError::Timeout,
        ApiError::InvalidRequest {
            reason: reason.clone(),
        },
        ApiError::Unsupported { version: 6 },
        ApiError::Internal,
        ApiError::NotYet { reason },
    ]
}

fn metadata() -> Metadata {
    let partition = PartitionInfo {
        partition: 0,
        group: 1,
        leader: Some(2),
        replicas: vec![2, 3, 1],
    };
    Metadata {
        cluster: String::from("dev"),
        controller_leader: Some(1),
        nodes: vec![NodeInfo {
            id: 1,
            address: String::from("127.0.0.1:7600"),
        }],
        topics: vec![TopicInfo {
            name: String::from("orders"),
            id: 7,
            partitions: vec![partition],
        }],
    }
}

fn status() -> ClusterStatus {
    let replica = |node, role| ReplicaStatus {
        node,
        role,
        match_index: 8,
        high_watermark: 9,
    };
    let group = GroupStatus {
        group: 1,
        topic: Some(String::from("orders")),
        partition: Some(0),
        leader: Some(1),
        term: 2,
        commit_index: 8,
        high_watermark: 9,
        log_start: 3,
        replicas: vec![
            replica(1, ReplicaRole::Leader),
            replica(2, ReplicaRole::Follower),
        ],
        shall: vec![1, 3],
        settled: false,
    };
    ClusterStatus {
        cluster: String::from("dev"),
        current: true,
        nodes: vec![NodeStatus {
            id: 1,
            address: String::from("127.0.0.1:7600"),
            up: true,
            leaving: false,
        }],
        groups: vec![group],
    }
}

fn replies() -> Vec<Reply> {
    let mut replies = vec![
        Reply::Produced {
            acks: vec![
                ProducedAck {
                    correlation: 1,
                    base_offset: 2,
                },
                ProducedAck {
                    correlation: 2,
                    base_offset: 7,
                },
            ],
        },
        Reply::Fetched {
            group: 1,
            first_offset: 2,
            high_watermark: 3,
            log_start: 4,
            end: true,
        },
        Reply::Metadata(metadata()),
        Reply::TopicCreated,
        Reply::TopicDeleted,
        Reply::ProducerId { id: 1, epoch: 2 },
        Reply::ClusterStatus(status()),
        Reply::EndOffset { offset: 5 },
        Reply::Transferred,
        Reply::Changed { moves: 3 },
    ];
    replies.extend(errors().into_iter().map(|error| Reply::Error {
        correlation: 6,
        error,
    }));
    replies.push(Reply::Usage(Box::new(NodeUsage {
        process: 1,
        clock_ns: 2,
        cpu_ns: 3,
        anonymous_bytes: 4,
        file_bytes: 5,
    })));
    replies
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_request_and_reply_comes_back_as_it_went() {
    for request in requests() {
        let (kind, head) = encode_request(&request);
        assert_eq!(decode_request(kind, &head), Ok(request));
    }
    for reply in replies() {
        let (kind, head) = encode_reply(&reply);
        assert_eq!(decode_reply(kind, &head), Ok(reply));
    }
}

#[test]
fn the_bytes_of_every_request_are_pinned() {
    let seen: Vec<String> = requests()
        .iter()
        .map(|request| hex(&encode_request(request).1))
        .collect();
    assert_eq!(seen, REQUESTS.map(str::to_owned));
}

#[test]
fn the_bytes_of_every_reply_are_pinned() {
    let seen: Vec<String> = replies()
        .iter()
        .map(|reply| hex(&encode_reply(reply).1))
        .collect();
    assert_eq!(seen, REPLIES.map(str::to_owned));
}

const REQUESTS: [&str; 19] = [
    "0100010000000000000002000000000000000100000000000000",
    "0101020000000000000000030000000000000004000000010000",
    "0101020000000000000001000000000000000004000000000000",
    "0101020000000000000002000000000000000004000000000000",
    "0101020000000000000003050000000000000004000000000000",
    "0102000000000000000000000000000000000000000000000000",
    "01612d6e616d652d746861742d69732d6e6f742d696e6c696e65646f7264657273ffff9a000000deffffff0201eeffffff02000000000000000000000000000000000000",
    "01036f7264657273ffff03000000000000000900000000000000",
    "01046f7264657273ffff00000000000000000000000000000000",
    "0105000000000000000000000000000000000000000000000000",
    "0106000000000000000000000000000000000000000000000000",
    "0107020000000000000000000000000000000000000000000000",
    "0108020000000000000003000000000000000000000000000000",
    "0109020000000000000003000000000000000000000000000000",
    "01686f73742d343a373633300a04000000000000008b000000ecffffff0000000000000000",
    "010b040000000000000000000000000000000000000000000000",
    "01686f73742d343a373633300c030000000000000004000000000000008b000000e4ffffff",
    "010d000000000000000000000000000000000000000000000000",
    "010e000000000000000000000000000000000000000000000000",
];

const REPLIES: [&str; 31] = [
    "01010000000000000002000000000000000200000000000000070000000000000000dfffffff0200000000000000000000000000000000000000000000000000000000",
    "0101010000000000000002000000000000000300000000000000040000000000000001",
    "013132372e302e302e313a3736303001000000000000008e000000eaffffff020000000000000003000000000000000100000000000000000000000100000000000000010200000000000000d3ffffff030000006f7264657273ffff0700000000000000d3ffffff0100000002646576ffffffffff01010000000000000091ffffff01000000ceffffff01000000",
    "0103000000000000000000000000000000000000000000000000000000000000000000",
    "0104000000000000000000000000000000000000000000000000000000000000000000",
    "0105010000000000000002000000000000000000000000000000000000000000000000",
    "013132372e302e302e313a3736303001000000000000008e000000eaffffff01000100000000000000000800000000000000090000000000000002000000000000000108000000000000000900000000000000010000000000000003000000000000000100000000000000016f7264657273ffff010000000001010000000000000002000000000000000800000000000000090000000000000003000000000000007fffffff02000000a9ffffff020000000006646576ffffffffff0152ffffff010000009effffff010000000000000000000000",
    "0107050000000000000000000000000000000000000000000000000000000000000000",
    "0108000000000000000000000000000000000000000000000000000000000000000000",
    "0109030000000000000000000000000000000000000000000000000000000000000000",
    "010a060000000000000000000000000000000000000000000000000000000000000000",
    "01686f73743a373631300a06000000000000000001020000000000000089000000e4ffffff00000000000000",
    "010a060000000000000001000000000000000000000000000000000000000000000000",
    "010a060000000000000002000000000000000000000000000000000000000000000000",
    "010a060000000000000003000000000000000000000000000000000000000000000000",
    "010a06000000000000000462656361757365ff00000000000000000000000000000000",
    "010a060000000000000005010000000000000002000000000000000000000000000000",
    "010a060000000000000006030000000000000000000000000000000000000000000000",
    "010a06000000000000000762656361757365ff00000000000000000000000000000000",
    "010a060000000000000008040000000000000000000000000000000000000000000000",
    "010a060000000000000009050000000000000000000000000000000000000000000000",
    "010a06000000000000000a000000000000000000000000000000000000000000000000",
    "010a06000000000000000b000000000000000000000000000000000000000000000000",
    "010a06000000000000000c000000000000000000000000000000000000000000000000",
    "010a06000000000000000d000000000000000000000000000000000000000000000000",
    "010a06000000000000000e000000000000000000000000000000000000000000000000",
    "010a06000000000000000f62656361757365ff00000000000000000000000000000000",
    "010a060000000000000010060000000000000000000000000000000000000000000000",
    "010a060000000000000011000000000000000000000000000000000000000000000000",
    "010a06000000000000001262656361757365ff00000000000000000000000000000000",
    "01010000000000000002000000000000000300000000000000040000000000000005000000000000000bd7ffffff0000000000000000000000000000000000000000000000000000000000",
];

#[test]
fn kinds_and_versions_of_others_are_refused() {
    for kind in (0..=u8::MAX).filter(|kind| *kind != REQUEST) {
        let (_, head) = encode_request(&Request::ProducerId);
        assert_eq!(
            decode_request(kind, &head),
            Err(WireError::UnknownKind { kind })
        );
    }
    for version in (0..=u8::MAX).filter(|version| *version != WIRE_VERSION) {
        let (kind, mut head) = encode_reply(&Reply::TopicCreated);
        head[0] = version;
        assert_eq!(
            decode_reply(kind, &head),
            Err(WireError::Version { version })
        );
    }
    assert_eq!(
        ApiError::from(WireError::Version { version: 9 }),
        ApiError::Unsupported { version: 9 }
    );
}

#[test]
fn a_head_cut_anywhere_is_not_taken_for_the_whole() {
    for request in requests() {
        let (kind, head) = encode_request(&request);
        for len in 0..head.len() {
            let cut = decode_request(kind, &head[..len]);
            assert_ne!(cut, Ok(request.clone()), "cut to {len}");
        }
    }
}

#[test]
fn a_head_over_its_cap_is_refused_unread() {
    let long = vec![WIRE_VERSION; REQUEST_HEAD_BYTES_MAX + 1];
    assert!(matches!(
        decode_request(REQUEST, &long),
        Err(WireError::TooLong { what: "head", .. })
    ));
}

#[test]
fn lists_and_strings_over_their_caps_are_refused() {
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let refuses = |request: &Request, expected: &str| {
        let (kind, head) = encode_request(request);
        match decode_request(kind, &head) {
            Err(WireError::TooLong { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    };
    let many = Some(vec![String::new(); METADATA_TOPICS_MAX + 1]);
    refuses(&Request::Metadata { topics: many }, "list of topics");
    refuses(
        &Request::Metadata {
            topics: Some(vec![long.clone()]),
        },
        "topic name",
    );
    refuses(&Request::DeleteTopic { name: long.clone() }, "topic name");
    refuses(
        &Request::CreateTopic {
            name: long.clone(),
            partitions: 1,
            replicas: 1,
            token: 1,
        },
        "topic name",
    );

    let refuses = |reply: &Reply, expected: &str| {
        let (kind, head) = encode_reply(reply);
        match decode_reply(kind, &head) {
            Err(WireError::TooLong { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    };
    let error = |error| Reply::Error {
        correlation: 0,
        error,
    };
    refuses(
        &error(ApiError::CorruptBatch {
            reason: long.clone(),
        }),
        "reason",
    );
    refuses(
        &error(ApiError::NotLeader {
            leader: Some((1, long.clone())),
        }),
        "address",
    );
    let mut crowded = metadata();
    crowded.topics[0].partitions[0].replicas = vec![1; 65];
    refuses(&Reply::Metadata(crowded), "list of replicas");
    let mut named = status();
    named.groups[0].topic = Some(long);
    refuses(&Reply::ClusterStatus(named), "topic name");
}

#[test]
fn what_may_succeed_later_or_elsewhere_is_retriable_and_nothing_else() {
    let retriable: Vec<ApiError> = errors()
        .into_iter()
        .filter(ApiError::is_retriable)
        .collect();
    assert!(retriable.contains(&ApiError::DiskFull) && retriable.contains(&ApiError::Unavailable));
    assert_eq!(retriable.len(), 9);
    assert!(!ApiError::OutOfOrderSequence { expected: 1 }.is_retriable());
    assert!(!ApiError::Internal.is_retriable());
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(head in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut head = head;
        head.insert(0, WIRE_VERSION);
        let _ = decode_request(REQUEST, &head);
        let _ = decode_reply(REPLY, &head);
    }

    #[test]
    fn no_change_to_a_message_makes_a_decoder_panic(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let replies = replies();
        let (_, mut reply) = encode_reply(&replies[which.index(replies.len())]);
        let requests = requests();
        let (_, mut request) = encode_request(&requests[which.index(requests.len())]);
        for (at, byte) in changes {
            let (a, b) = (at.index(reply.len()), at.index(request.len()));
            (reply[a], request[b]) = (byte, byte);
        }
        let _ = decode_reply(REPLY, &reply);
        let _ = decode_request(REQUEST, &request);
    }
}
