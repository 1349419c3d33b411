//! Groups and their members: a partition created in the middle of a run, and changes of who belongs to a group.
//!
//! Owns what is asked for, sensible and not. Must not know how a change is carried out.

use plimsoll::raft::{Membership, NodeId, Role, Target};

use crate::node::Ask;
use crate::swarm::{LATE, pick};
use crate::world::{Event, MILLI, World};

impl World {
    /// One of the groups that exist.
    pub(crate) fn any_group(&mut self) -> u64 {
        let groups = std::mem::take(&mut self.groups);
        let group = pick(&mut self.rng, &groups);
        self.groups = groups;
        group
    }

    /// The second partition is there from now on; each node hears of it in its own time.
    pub(crate) fn create_group(&mut self) {
        self.note(0, "a group is created", [LATE, 0, 0, 0]);
        self.groups.push(LATE);
        self.summary.groups_created += 1;
        for node in self.swarm.everyone() {
            let life = self.node(node).life;
            let delay = self.rng.u64(MILLI..300 * MILLI);
            let group = LATE;
            self.after(delay, Event::Open { node, life, group });
        }
    }

    pub(crate) fn open_group(&mut self, id: NodeId, group: u64) {
        let now = self.now;
        let at = usize::try_from(id - 1).expect("nodes are few");
        let node = &mut self.nodes[at];
        let there = node
            .process
            .as_ref()
            .map(|process| process.groups.contains_key(&group));
        if there != Some(false) {
            return;
        }
        if let Err(error) = node.open_group(&self.swarm, group, now, &mut self.checks) {
            return self.does_not_open(id, &error);
        }
        self.note(id, "opens", [group, 0, 0, 0]);
        self.wake(id, now + 1);
    }

    /// The membership of a group, as its leader of the latest term has it.
    pub(crate) fn members_of(&self, group: u64) -> Option<(NodeId, Membership)> {
        let running = self.nodes.iter().filter_map(|node| {
            let process = node.process.as_ref()?;
            Some((node.id, process.groups.get(&group)?.replica.raft()))
        });
        let leaders = running.filter(|(_, raft)| raft.role() == Role::Leader);
        let (id, raft) = leaders.max_by_key(|(_, raft)| raft.term())?;
        Some((id, raft.membership().1.clone()))
    }

    /// Asks for a change of the members of a group: of its leader mostly, and at times of two nodes.
    pub(crate) fn reconfigure(&mut self) {
        let group = self.any_group();
        let known = self.members_of(group);
        let founders = || Membership::of_voters(self.swarm.voters());
        let (leader, members) = known.unwrap_or_else(|| (1, founders()));
        let target = self.next_target(&members);
        let mut asked = vec![leader];
        if self.rng.u32(0..4) == 0 {
            asked.push(self.any_node());
        }
        self.note(
            leader,
            "members shall change",
            [
                group,
                bits(&target.voters),
                bits(&target.learners),
                bits(&members.voters),
            ],
        );
        self.summary.changes_asked += 1;
        for node in asked {
            let ask = Ask::Change(target.clone());
            let caller = None;
            let delay = self.rng.u64(1..MILLI);
            self.after(
                delay,
                Event::Request {
                    node,
                    group,
                    caller,
                    ask,
                },
            );
        }
    }

    /// What a group of `members` shall become.
    fn next_target(&mut self, members: &Membership) -> Target {
        let Membership {
            mut voters,
            mut learners,
            ..
        } = members.clone();
        let everyone = self.swarm.everyone();
        let outside: Vec<NodeId> = everyone
            .iter()
            .copied()
            .filter(|node| !voters.contains(node) && !learners.contains(node))
            .collect();
        let any = |rng: &mut fastrand::Rng, from: &[NodeId]| match from.len() {
            0 => None,
            len => Some(from[rng.usize(0..len)]),
        };
        // Whoever waits as a learner is most often what the next change is about.
        let choice = match self.rng.u32(0..3) {
            0 => self.rng.u32(0..10),
            _ if learners.is_empty() => pick(&mut self.rng, &[0, 5]),
            _ => 2,
        };
        match choice {
            // A node joins.
            0 | 1 => learners.extend(any(&mut self.rng, &outside)),
            // Learners become voters, perhaps in the place of one.
            2..=4 => {
                voters.append(&mut learners);
                if self.rng.bool() && voters.len() > 1 {
                    voters.remove(self.rng.usize(0..voters.len()));
                }
            }
            // A voter leaves, or goes on as a learner.
            5 | 6 if voters.len() > 1 => {
                let gone = voters.remove(self.rng.usize(0..voters.len()));
                if self.rng.bool() {
                    learners.push(gone);
                }
            }
            7 => {
                learners.pop();
            }
            // A node that has nothing yet shall vote: refused.
            8 => voters.extend(any(&mut self.rng, &outside)),
            // Anything, also what can never be.
            _ => {
                let rng = &mut self.rng;
                voters = everyone.iter().copied().filter(|_| rng.bool()).collect();
                learners = everyone
                    .iter()
                    .copied()
                    .filter(|_| rng.u32(0..4) == 0)
                    .collect();
            }
        }
        Target { voters, learners }
    }
}

/// Nodes as a bit set, for the trace.
fn bits(nodes: &[NodeId]) -> u64 {
    nodes.iter().fold(0, |bits, node| bits | 1 << node)
}
