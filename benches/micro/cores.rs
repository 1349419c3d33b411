//! Three consensus cores and nothing around them: disks that are done at once, and a network that is a queue.

use std::collections::VecDeque;

use plimsoll::raft::{
    Config, Effect, LogId, Membership, Message, Millis, NodeId, Raft, Restored, Role,
};

/// What an entry counts towards the windows.
const ENTRY_BYTES: u64 = 1024;

pub(crate) struct Cores {
    now: Millis,
    cores: Vec<Raft>,
    leader: usize,
    /// From, to, what.
    network: VecDeque<(NodeId, NodeId, Message)>,
}

impl Cores {
    /// Three that have elected a leader.
    pub(crate) fn elected() -> Cores {
        let voters = Membership::of_voters([1, 2, 3]);
        let core = |node| {
            let restored = Restored::empty(voters.clone());
            Raft::new(Config::new(node, node), restored, 0)
        };
        let mut cores = Cores {
            now: 0,
            cores: [1, 2, 3].map(core).into(),
            leader: 0,
            network: VecDeque::new(),
        };
        let leads = |core: &Raft| core.role() == Role::Leader && core.commit_index() > 0;
        while !cores.cores.iter().any(leads) {
            let next = cores.cores.iter().map(Raft::next_deadline).min();
            cores.now = cores.now.max(next.expect("there are three"));
            for place in 0..3 {
                cores.cores[place].tick(cores.now);
                cores.settle(place);
            }
            cores.deliver();
        }
        let leader = cores
            .cores
            .iter()
            .position(|core| core.role() == Role::Leader);
        cores.leader = leader.expect("waited for");
        cores
    }

    /// Has so many entries proposed together, and committed.
    pub(crate) fn commit(&mut self, entries: u64) {
        let leader = &mut self.cores[self.leader];
        let first = leader.propose(entries).expect("it leads");
        let last = LogId {
            term: first.term,
            index: first.index + entries - 1,
        };
        let truncations = leader.truncations();
        self.send(self.leader);
        self.cores[self.leader].durable(self.now, last, truncations);
        self.settle(self.leader);
        self.deliver();
        assert!(self.cores[self.leader].commit_index() >= last.index);
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.network.pop_front() {
            let place = to as usize - 1;
            self.cores[place].step(self.now, from, message);
            self.settle(place);
        }
    }

    /// Carries out what a core asks for, all of which succeeds at once.
    fn settle(&mut self, place: usize) {
        loop {
            let effects = self.cores[place].take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                let core = &mut self.cores[place];
                let truncations = core.truncations();
                match effect {
                    Effect::SaveBallot(ballot) => core.ballot_durable(ballot),
                    Effect::AppendOwn { id, .. } => core.durable(self.now, id, truncations),
                    Effect::AppendRemote { last, .. } => {
                        let term = core.term_at(last).expect("just appended");
                        core.durable(self.now, LogId { term, index: last }, truncations);
                    }
                    Effect::Send { to, message } => {
                        self.network.push_back((core.node(), to, message));
                    }
                    _ => {}
                }
            }
        }
        self.send(place);
    }

    fn send(&mut self, place: usize) {
        let core = &mut self.cores[place];
        for peer in (1..=3).filter(|peer| *peer != place as u64 + 1) {
            while let Some(plan) = core.next_append(peer) {
                let bytes = (plan.last - plan.first + 1) * ENTRY_BYTES;
                let message = core.sent(self.now, peer, plan.last, bytes);
                self.network.push_back((core.node(), peer, message));
            }
        }
    }
}
