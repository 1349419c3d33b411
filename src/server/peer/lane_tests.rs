//! Lanes: how envelopes are merged, and what happens when a peer does not take them.

use bytes::Bytes;

use super::*;
use crate::raft::Message;
use crate::wire::Content;

fn envelope(group: u64, frame_bytes: usize) -> Envelope {
    Envelope {
        group,
        content: Content::Raft(Message::TimeoutNow { term: 1 }),
        frames: vec![Bytes::from(vec![0; frame_bytes])],
    }
}

fn groups(message: &Taken) -> Vec<u64> {
    message
        .envelopes
        .iter()
        .map(|envelope| envelope.group)
        .collect()
}

#[test]
fn heartbeats_of_many_groups_share_a_message_in_order() {
    let lane = Lane::new(Budget::new(1 << 20));
    for group in 0..100 {
        lane.push(envelope(group, 0)).unwrap();
    }
    let message = lane.take_message().unwrap();
    assert_eq!(groups(&message), (0..100).collect::<Vec<_>>());
    assert!(lane.take_message().is_none());
}

#[test]
fn messages_stay_small_except_for_a_single_large_envelope() {
    let lane = Lane::new(Budget::new(64 << 20));
    lane.push(envelope(1, 8 << 20)).unwrap();
    for group in 2..=5 {
        lane.push(envelope(group, 400 << 10)).unwrap();
    }
    assert_eq!(groups(&lane.take_message().unwrap()), [1]);
    assert_eq!(groups(&lane.take_message().unwrap()), [2, 3]);
    assert_eq!(groups(&lane.take_message().unwrap()), [4, 5]);
}

#[test]
fn a_full_budget_drops_the_envelope_and_is_shared_by_all_lanes_of_a_peer() {
    let budget = Budget::new(10_000);
    let (first, second) = (
        Lane::new(Arc::clone(&budget)),
        Lane::new(Arc::clone(&budget)),
    );
    first.push(envelope(1, 6_000)).unwrap();
    assert_eq!(second.push(envelope(2, 6_000)), Err(Full));
    assert!(second.take_message().is_none());
    second.push(envelope(3, 3_000)).unwrap();
    first.clear();
    second.push(envelope(4, 6_000)).unwrap();
}

#[test]
fn bytes_being_written_still_count_until_the_stream_has_them() {
    let lane = Lane::new(Budget::new(10_000));
    lane.push(envelope(1, 6_000)).unwrap();
    let message = lane.take_message().unwrap();
    assert_eq!(lane.push(envelope(2, 6_000)), Err(Full));
    drop(message);
    lane.push(envelope(2, 6_000)).unwrap();
}

#[test]
fn a_lane_that_is_dropped_gives_its_bytes_back() {
    let budget = Budget::new(10_000);
    let lane = Lane::new(Arc::clone(&budget));
    lane.push(envelope(1, 6_000)).unwrap();
    drop(lane);
    assert_eq!(budget.used.load(Ordering::Relaxed), 0);
}
