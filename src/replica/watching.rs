//! The loop's side of the beats: who is alive, and which groups that concerns.
//!
//! It must not know how silence is told, nor what a group that is woken does.

use super::beats::Arrived;
use super::effects::{Input, Lane};
use super::run::NodeLoop;
use super::running::Turn;
use crate::raft::NodeId;
use crate::wire::Envelope;

impl NodeLoop {
    /// Takes a beat in; of all else, says that it is for a group.
    pub(super) fn is_for_a_group(&mut self, from: NodeId, envelope: &mut Envelope) -> bool {
        match self.beats.receive(self.now(), from, &mut envelope.content) {
            Arrived::Message => return true,
            Arrived::Beat => {}
            Arrived::BeatOfAnother => self.wake_those_resting_on(from),
        }
        false
    }

    /// Lets time pass for the beats: sends those that are due, and wakes whom a silence concerns.
    pub(super) fn watch(&mut self, turn: &mut Turn) {
        let now = self.now();
        if self.beats.next_deadline() > now {
            return;
        }
        let ticked = self.beats.tick(now);
        for (to, beat) in ticked.beats {
            turn.sends.push((to, beat, Lane::Normal));
        }
        for node in ticked.silent {
            tracing::info!(node, "a node is silent: the groups that rested on it wake");
            self.wake_those_resting_on(node);
        }
    }

    fn wake_those_resting_on(&mut self, node: NodeId) {
        let resting = self.running.iter();
        let resting = resting.filter(|(_, running)| running.replica.rests_on(node));
        let resting: Vec<u64> = resting.map(|(group, _)| *group).collect();
        for group in resting {
            self.input(group, Input::Wake);
        }
    }
}
