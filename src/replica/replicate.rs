//! To the peers: which frames go into which Append, and where they come from.
//!
//! Owns the choice of whole frames within the core's window. Frames that are not on this disk yet come
//! from memory, the others straight out of the map; a run that may have to come from the disk is brought
//! into memory elsewhere first, for this runs on the thread that carries heartbeats. It must not know
//! what the peers do with them.

use bytes::Bytes;

use super::effects::{Effect, Lane};
use super::replica::{Replica, Warming};
use crate::raft::{AppendPlan, Index, Millis, NodeId, ProgressState, Role};
use crate::wire::Content;

/// Frame bytes in one Append to a peer that is far behind, at most (one frame may pass it): each delays what is behind it.
const BULK_APPEND_BYTES: u64 = 1 << 20;

/// Frames for one Append.
struct Picked {
    frames: Vec<Bytes>,
    last: Index,
    bytes: u64,
}

impl Replica {
    /// Sends every peer all that its window takes.
    pub(super) fn pump(&mut self, now: Millis) {
        self.paced_until = Millis::MAX;
        if self.raft.role() != Role::Leader {
            return;
        }
        for peer in self.peers() {
            let lane = self.lane_to(peer);
            if lane == Lane::Bulk {
                self.pump_install(now, peer);
            }
            while self.poisoned.is_none()
                && let Some(plan) = self.raft.next_append(peer)
            {
                if lane == Lane::Bulk && self.must_wait(now) {
                    break;
                }
                let Some(picked) = self.pick(peer, &plan, lane) else {
                    break;
                };
                if lane == Lane::Bulk {
                    self.config.pacer.spend(picked.bytes);
                }
                let message = self.raft.sent(now, peer, picked.last, picked.bytes);
                self.send_on(lane, peer, Content::Raft(message), picked.frames);
            }
        }
    }

    /// How entries for `peer` go out: by how far it is behind, which is told to the core first.
    fn lane_to(&mut self, peer: NodeId) -> Lane {
        let Some(view) = self.raft.progress(peer) else {
            return Lane::Normal;
        };
        let streams = matches!(view.state, ProgressState::Pipeline | ProgressState::CatchUp);
        // What is not applied yet is little: a pipeline that has come so far needs no measuring.
        let far = view.next_index <= self.tail.base().id.index;
        if streams && (far || view.state == ProgressState::CatchUp) {
            let enough = self.raft.catch_up_lag_bytes();
            let lag = self.reader.bytes_from(view.next_index, enough);
            self.raft.set_lag(peer, lag);
        }
        match self.raft.progress(peer).map(|view| view.state) {
            Some(ProgressState::CatchUp | ProgressState::Install) => Lane::Bulk,
            _ => Lane::Normal,
        }
    }

    /// Whether the pace holds back what yields to all else; the next tick then comes in time.
    pub(super) fn must_wait(&mut self, now: Millis) -> bool {
        let until = self.config.pacer.wait(now);
        self.paced_until = self.paced_until.min(until.unwrap_or(Millis::MAX));
        until.is_some()
    }

    fn pick(&mut self, peer: NodeId, plan: &AppendPlan, lane: Lane) -> Option<Picked> {
        let mut bytes_max = plan.bytes_max.min(self.config.append_bytes_max);
        if lane == Lane::Bulk {
            bytes_max = bytes_max.min(BULK_APPEND_BYTES);
        }
        let first_held = self.tail.first_held();
        if plan.first < first_held {
            let last = plan.last.min(first_held - 1);
            return self.pick_from_log(peer, plan.first, last, bytes_max);
        }
        let mut frames = Vec::new();
        let (last, bytes) = self
            .tail
            .take_held(plan.first, plan.last, bytes_max, &mut frames);
        Some(Picked {
            frames,
            last,
            bytes,
        })
    }

    fn pick_from_log(
        &mut self,
        peer: NodeId,
        first: Index,
        last: Index,
        bytes_max: u64,
    ) -> Option<Picked> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let ready = Warming { first, ready: true };
        match self.warming.get(&peer) {
            Some(warming) if *warming == ready => {}
            Some(warming) if !warming.ready => return None,
            _ if self.reader.is_cold(first, bytes_max) => {
                let ready = false;
                self.warming.insert(peer, Warming { first, ready });
                self.warm(peer, first, bytes_max);
                return None;
            }
            _ => {}
        }
        self.warming.remove(&peer);
        // What a peer refused as damaged is sent again from the first entry that it lacks: it may have rotted here.
        let view = self.raft.progress(peer);
        let again = view.is_some_and(|view| first == view.match_index + 1);
        match self.reader.read(first, last, bytes_max) {
            Ok(run) if (run.cold || again) && !run.is_whole() => {
                self.found_damage(peer, first, "a frame is not what was written");
                None
            }
            Ok(run) if run.first_index == first && run.last_index >= first => Some(Picked {
                last: run.last_index,
                bytes: run.bytes.len() as u64,
                frames: vec![run.bytes],
            }),
            Ok(_) => {
                self.poison(format!(
                    "the log does not hold entry {first}, which is durable"
                ));
                None
            }
            Err(error) if error.is_damage() => {
                self.found_damage(peer, first, &error.to_string());
                None
            }
            // The disk has trimmed it and has not said so yet. Once it has, the core knows that the peer needs a state.
            Err(_) => None,
        }
    }

    /// Other peers may hold what is damaged here; nothing is made up for it.
    fn found_damage(&mut self, peer: NodeId, first: Index, what: &str) {
        let group = self.config.group;
        tracing::error!(
            group,
            peer,
            first,
            what,
            "entries for a peer cannot be read; the log is to be repaired"
        );
        self.raft.peer_unreachable(peer);
        self.effects.push(Effect::Damaged);
    }

    pub(super) fn on_warmed(&mut self, peer: NodeId, first: Index) {
        if let Some(warming) = self.warming.get_mut(&peer) {
            warming.ready |= warming.first == first;
        }
    }
}
