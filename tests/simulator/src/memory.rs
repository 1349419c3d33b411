//! Memory: what a process may hold for others, whatever they do (P11).
//!
//! Owns the limits as sums of configured caps, checked after every turn, and the wait of a message for which there is no room.
//! Must not know what is held, only how much.

use plimsoll::raft::{NodeId, Role};

use crate::network::Packet;
use crate::process::Process;
use crate::swarm::{PAYLOAD_MAX, Swarm};
use crate::world::World;

/// One frame may pass a limit that the bytes before it did not reach.
pub(crate) const FRAME_MAX: u64 = PAYLOAD_MAX as u64 + 64;
/// What a waiting proposal counts for at least, so that their number is limited with their bytes.
const PROPOSAL_MIN: u64 = 64;
/// States of the groups of a run are small; a leader may be giving one to each peer.
const STATES_MAX: u64 = 4 << 20;
/// Questions that the clients of a run can have open at one node.
const QUESTIONS_MAX: u64 = 1_024;

impl World {
    /// Whether a message finds no room at its receiver: then it waits on the way, as a stream does that is not read.
    pub(crate) fn must_wait(&mut self, to: NodeId, packet: &Packet) -> bool {
        let limit = self.swarm.peer_bytes_max;
        let Some(process) = &self.node(to).process else {
            return false;
        };
        // As much as the cap may come in at a time, however long it is.
        let held = process.peer_bytes();
        packet.frame_bytes() > 0 && held > 0 && held + packet.frame_bytes() > limit
    }
}

impl Process {
    /// Bytes of frames from peers that wait here, in the mailbox or for the disk.
    fn peer_bytes(&self) -> u64 {
        let followed = self.groups.values().map(|group| &group.replica);
        let followed = followed.filter(|replica| replica.raft().role() != Role::Leader);
        let unwritten: u64 = followed.map(|replica| replica.held().unwritten_bytes).sum();
        self.mailbox_bytes + unwritten
    }

    /// Panics if anything is beyond its cap.
    pub(crate) fn check_memory(&self, id: NodeId, swarm: &Swarm) {
        let window = swarm.in_flight_bytes_max + FRAME_MAX;
        let peers = swarm.peer_bytes_max.max(window * self.groups.len() as u64);
        for (group, running) in &self.groups {
            let held = running.replica.held();
            let own = swarm.uncommitted_bytes_max;
            let bounds = [
                ("uncommitted bytes", held.uncommitted_bytes, own),
                ("forwarded bytes", held.forward_bytes, own),
                ("unwritten bytes", held.unwritten_bytes, own + peers),
                ("bytes of states", held.state_bytes, STATES_MAX),
                (
                    "waiting requests",
                    held.waiting as u64,
                    2 * own / PROPOSAL_MIN + QUESTIONS_MAX,
                ),
            ];
            for (what, found, most) in bounds {
                assert!(
                    found <= most,
                    "node {id} holds {found} {what} in group {group}, {most} is the limit (P11)"
                );
            }
        }
    }
}
