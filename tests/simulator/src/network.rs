//! The simulated network: loses, doubles, delays, reorders, and cuts links, one way or both.
//!
//! Owns the state of each directed link. Messages are bytes as they would travel. Must not know what is in them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use plimsoll::raft::{Message, NodeId};
use plimsoll::wire::{Content, Envelope, PeerCaps, decode_envelopes, encode_envelopes};

use crate::swarm::Weather;
use crate::world::{MILLI, Micros};

/// A message as it travels.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    kind: u8,
    head: Bytes,
    body: Bytes,
}

impl Packet {
    pub(crate) fn encode(from: NodeId, envelopes: &[Envelope]) -> Packet {
        let (kind, head, chunks) = encode_envelopes(from, envelopes);
        let mut body = BytesMut::new();
        for chunk in chunks {
            body.extend_from_slice(&chunk);
        }
        Packet {
            from,
            kind,
            head: Bytes::from(head),
            body: body.freeze(),
        }
    }

    pub(crate) fn decode(self) -> Vec<Envelope> {
        let caps = PeerCaps::default();
        let decoded = decode_envelopes(self.kind, &self.head, self.body, &caps);
        let (sender, envelopes) = decoded.expect("what a node encodes, a node decodes");
        assert_eq!(sender, self.from, "the sender stands in the message");
        envelopes
    }

    /// Bytes of frames in it: what is counted until it is durable.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.body.len() as u64
    }

    pub(crate) fn len(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64
    }
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// Directed links that lose everything.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// When the last message of a link arrives, for links that keep order.
    last_arrival: BTreeMap<(NodeId, NodeId), Micros>,
}

impl Network {
    pub(crate) fn new(weather: Weather) -> Network {
        Network {
            weather,
            cut: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
        }
    }

    /// When copies of a message sent now arrive; none if it is lost.
    pub(crate) fn route(
        &mut self,
        rng: &mut Rng,
        now: Micros,
        from: NodeId,
        to: NodeId,
    ) -> Vec<Micros> {
        if self.cut.contains(&(from, to)) || rng.u32(0..1000) < self.weather.lost {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.u32(0..1000) < self.weather.doubled);
        (0..copies)
            .map(|_| self.arrival(rng, now, from, to))
            .collect()
    }

    fn arrival(&mut self, rng: &mut Rng, now: Micros, from: NodeId, to: NodeId) -> Micros {
        let at = now + rng.u64(self.weather.delay_min..=self.weather.delay_max);
        if rng.u32(0..1000) < self.weather.stray {
            return now + rng.u64(50 * MILLI..1_500 * MILLI);
        }
        if !self.weather.ordered {
            return at;
        }
        let last = self.last_arrival.entry((from, to)).or_default();
        *last = at.max(*last + 1);
        *last
    }

    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }
}

/// What a message is called in the trace.
pub(crate) fn name(content: &Content) -> &'static str {
    match content {
        Content::Beat { .. } => "sends Beat",
        Content::Forward { .. } => "sends Forward",
        Content::ForwardReply { .. } => "sends ForwardReply",
        Content::Raft(message) => match message {
            Message::PreVote { .. } => "sends PreVote",
            Message::PreVoteReply { .. } => "sends PreVoteReply",
            Message::Vote { .. } => "sends Vote",
            Message::VoteReply { .. } => "sends VoteReply",
            Message::Append(append) if append.runs.is_empty() => "sends empty Append",
            Message::Append(_) => "sends Append",
            Message::AppendReply { .. } => "sends AppendReply",
            Message::Install(_) => "sends Install",
            Message::InstallReply { .. } => "sends InstallReply",
            Message::Heartbeat { .. } => "sends Heartbeat",
            Message::HeartbeatReply { .. } => "sends HeartbeatReply",
            Message::Rest { .. } => "sends Rest",
            Message::RestReply { .. } => "sends RestReply",
            Message::ReadIndex { .. } => "sends ReadIndex",
            Message::ReadIndexReply { .. } => "sends ReadIndexReply",
            Message::TimeoutNow { .. } => "sends TimeoutNow",
        },
    }
}
