//! Envelopes there and back, pinned bytes, caps, and bytes from outside.

use proptest::prelude::*;

use super::*;
use crate::raft::{Append, AppendOutcome, LogId, Membership, Run};
use crate::wire::kind::ENVELOPES;

const LAST: LogId = LogId { term: 3, index: 4 };

fn append() -> Message {
    Message::Append(Append {
        term: 5,
        prev: LAST,
        runs: vec![Run { first: 5, term: 5 }, Run { first: 6, term: 6 }],
        last_index: 7,
        memberships: vec![(
            6,
            Membership {
                voters: vec![1, 2, 3],
                voters_outgoing: vec![],
                learners: vec![4],
            },
        )],
        commit: 2,
    })
}

/// One of each, in the order of their numbers on the wire.
fn contents() -> Vec<Content> {
    let accepted = AppendOutcome::Accepted {
        matched: LAST,
        commit: 2,
    };
    let rejected = AppendOutcome::Rejected {
        prev_index: 9,
        hint: LAST,
        last_index: 8,
    };
    let messages = [
        Message::PreVote {
            term: 2,
            last: LAST,
        },
        Message::PreVoteReply {
            term: 2,
            granted: true,
            conditional: true,
        },
        Message::Vote {
            term: 2,
            last: LAST,
            transfer: true,
        },
        Message::VoteReply {
            term: 2,
            granted: false,
            conditional: false,
        },
        append(),
        Message::AppendReply {
            term: 2,
            outcome: accepted,
        },
        Message::AppendReply {
            term: 2,
            outcome: rejected,
        },
        Message::Heartbeat {
            term: 2,
            commit: 1,
            round: 7,
        },
        Message::HeartbeatReply { term: 2, round: 7 },
        Message::ReadIndex { term: 2, token: 8 },
        Message::ReadIndexReply {
            term: 2,
            token: 8,
            index: Some(6),
        },
        Message::TimeoutNow { term: 2 },
    ];
    let mut contents: Vec<Content> = messages.into_iter().map(Content::Raft).collect();
    contents.extend(forwards());
    contents.extend(of_rest());
    contents
}

fn forwards() -> [Content; 3] {
    let ack = ForwardAck {
        index: 1,
        base_offset: 2,
        result: vec![3],
    };
    let answer = |result| Content::ForwardReply { token: 6, result };
    [
        Content::Forward { token: 6 },
        answer(Ok(ack)),
        answer(Err(ApiError::Overloaded)),
    ]
}

fn of_rest() -> [Content; 3] {
    let rest = Message::Rest {
        term: 2,
        commit: 1,
        round: 7,
    };
    let reply = Message::RestReply { term: 2, round: 7 };
    [
        Content::Raft(rest),
        Content::Raft(reply),
        Content::Beat { life: 9 },
    ]
}

fn envelopes() -> Vec<Envelope> {
    let with = |content| Envelope {
        group: 12,
        content,
        frames: Vec::new(),
    };
    let mut envelopes: Vec<Envelope> = contents().into_iter().map(with).collect();
    envelopes[4].frames = vec![
        Bytes::from_static(b"first run"),
        Bytes::from_static(b"second"),
    ];
    envelopes[12].frames = vec![Bytes::from_static(b"proposal")];
    envelopes
}

fn sent(envelopes: &[Envelope]) -> (Vec<u8>, Bytes) {
    let (_, head, body) = encode_envelopes(2, envelopes);
    (head, Bytes::from(body.concat()))
}

#[test]
fn every_kind_of_envelope_comes_back_as_it_went() {
    let (head, body) = sent(&envelopes());
    let received = decode_envelopes(ENVELOPES, &head, body, &PeerCaps::default());
    assert_eq!(received, Ok((2, envelopes())));
}

#[test]
fn frames_are_sent_and_received_without_a_copy() {
    let frame = Bytes::from(vec![1; 100]);
    let envelope = Envelope {
        group: 1,
        content: Content::Forward { token: 1 },
        frames: vec![frame.clone()],
    };
    let (_, head, body) = encode_envelopes(1, &[envelope]);
    assert_eq!(body[0].as_ptr(), frame.as_ptr());
    let (_, received) =
        decode_envelopes(ENVELOPES, &head, frame.clone(), &PeerCaps::default()).unwrap();
    assert_eq!(received[0].frames[0].as_ptr(), frame.as_ptr());
}

#[test]
fn the_bytes_of_every_envelope_are_pinned() {
    let pinned = PINNED.map(str::to_owned);
    let seen: Vec<String> = envelopes()
        .into_iter()
        .map(|envelope| {
            sent(&[envelope])
                .0
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        })
        .collect();
    assert_eq!(seen, pinned);
}

const PINNED: [&str; 18] = [
    "010c00000000000000000200000000000000030000000000000004000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000010200000000000000010100000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000020200000000000000030000000000000004000000000000000100000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000030200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "01050000000000000005000000000000000600000000000000060000000000000001000000000000000200000000000000030000000000000004000000000000000600000000000000d8ffffff03000000e8ffffff00000000e0ffffff0100000009000000060000000c000000000000000405000000000000000300000000000000040000000000000077ffffff020000000700000000000000a7ffffff010000000200000000000000b7ffffff020000000200000000000000afffffff01000000",
    "010c00000000000000050200000000000000030000000000000004000000000000000200000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000060200000000000000090000000000000003000000000000000400000000000000080000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000070200000000000000010000000000000007000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000080200000000000000070000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000090200000000000000080000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c000000000000000a0200000000000000080000000000000001060000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c000000000000000b0200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "01080000000c000000000000000c0600000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bbffffff010000000200000000000000afffffff01000000",
    "01030c000000000000000d060000000000000001000000000000000200000000000000deffffff01000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c000000000000000e06000000000000000a0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000110200000000000000010000000000000007000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000120200000000000000070000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
    "010c00000000000000130900000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000bfffffff000000000200000000000000afffffff01000000",
];

#[test]
fn another_kind_or_version_is_refused() {
    let (mut head, body) = sent(&envelopes());
    let caps = PeerCaps::default();
    assert_eq!(
        decode_envelopes(1, &head, body.clone(), &caps),
        Err(WireError::UnknownKind { kind: 1 })
    );
    head[0] = 2;
    assert_eq!(
        decode_envelopes(ENVELOPES, &head, body, &caps),
        Err(WireError::Version { version: 2 })
    );
    assert_eq!(
        decode_envelopes(ENVELOPES, &[], Bytes::new(), &caps),
        Err(WireError::Malformed)
    );
}

#[test]
fn a_body_that_is_longer_or_shorter_than_the_head_says_is_refused() {
    let (head, body) = sent(&envelopes());
    for len in [0, body.len() - 1, body.len() + 1] {
        let mut other = body.to_vec();
        other.resize(len, 0);
        let refused = decode_envelopes(ENVELOPES, &head, Bytes::from(other), &PeerCaps::default());
        assert_eq!(
            refused,
            Err(WireError::BodyLength {
                len,
                expected: body.len() as u64
            })
        );
    }
}

#[test]
fn everything_over_its_cap_is_refused() {
    let (head, body) = sent(&envelopes());
    let full = PeerCaps::default();
    let caps = [
        (
            "head",
            PeerCaps {
                head_bytes_max: head.len() - 1,
                ..full
            },
        ),
        (
            "body",
            PeerCaps {
                body_bytes_max: body.len() - 1,
                ..full
            },
        ),
        (
            "list of envelopes",
            PeerCaps {
                envelopes_max: 17,
                ..full
            },
        ),
        (
            "list of frames",
            PeerCaps {
                frames_max: 1,
                ..full
            },
        ),
        (
            "list of term runs",
            PeerCaps {
                term_runs_max: 1,
                ..full
            },
        ),
        (
            "membership",
            PeerCaps {
                members_max: 3,
                ..full
            },
        ),
        (
            "list of memberships",
            PeerCaps {
                members_max: 0,
                ..full
            },
        ),
        (
            "result",
            PeerCaps {
                result_bytes_max: 0,
                ..full
            },
        ),
    ];
    for (expected, caps) in caps {
        match decode_envelopes(ENVELOPES, &head, body.clone(), &caps) {
            Err(WireError::TooLong { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(
        head in proptest::collection::vec(any::<u8>(), 0..400),
        body in proptest::collection::vec(any::<u8>(), 0..100),
        version_is_right: bool,
    ) {
        let mut head = head;
        if let (true, Some(version)) = (version_is_right, head.first_mut()) {
            *version = 1;
        }
        let _ = decode_envelopes(ENVELOPES, &head, Bytes::from(body), &PeerCaps::default());
    }

    #[test]
    fn no_change_to_a_message_makes_the_decoder_panic_or_grow(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let (mut head, body) = sent(&envelopes());
        for (at, byte) in changes {
            let at = at.index(head.len() - 1) + 1;
            head[at] = byte;
        }
        if let Some(cut) = cut {
            head.truncate(cut.index(head.len()));
        }
        if let Ok((_, received)) = decode_envelopes(ENVELOPES, &head, body.clone(), &PeerCaps::default()) {
            let frames: usize = received.iter().flat_map(|envelope| &envelope.frames).map(Bytes::len).sum();
            prop_assert_eq!(frames, body.len());
            prop_assert!(received.len() <= head.len());
        }
    }
}
