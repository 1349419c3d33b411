//! Lives and deaths: how a process starts from its disk, how it ends, and how the storm does.
//!
//! Owns the judgement of what a node may refuse to open. Must not know what a process does while it lives.

use plimsoll::raft::NodeId;

use crate::node::Death;
use crate::swarm::{Fault, Weather};
use crate::world::{Event, MILLI, World};

impl World {
    pub(crate) fn start(&mut self, id: NodeId) {
        let seed = self.rng.u64(..);
        let opening_cut = self.stormy && self.rng.u32(0..8) == 0;
        let (kind, operations) = (self.rng.bool(), self.rng.u64(0..40));
        let now = self.now;
        let at = usize::try_from(id - 1).expect("nodes are few");
        let node = &mut self.nodes[at];
        if node.process.is_some() {
            return;
        }
        if opening_cut && self.swarm.has(Fault::PowerCut) {
            let death = if kind { Death::PowerCut } else { Death::Kill };
            node.arm(death, operations);
        }
        node.failing_from = node.fs.operations();
        match node.start(&self.swarm, &self.groups, seed, now, &mut self.checks) {
            Ok(()) => {
                let life = node.life;
                let cut = node.cut;
                self.note(id, "starts", [life, 0, 0, 0]);
                self.begin_repairs(id);
                if let Some((death, _)) = cut {
                    self.after(
                        20 * MILLI,
                        Event::Die {
                            node: id,
                            life,
                            death,
                        },
                    );
                }
                if std::mem::take(&mut self.node(id).cut_after_start) {
                    let delay = self.rng.u64(1..20 * MILLI);
                    let death = Death::PowerCut;
                    self.after(
                        delay,
                        Event::Die {
                            node: id,
                            life,
                            death,
                        },
                    );
                }
                self.wake(id, now + 1);
            }
            Err(error) => self.does_not_open(id, &error),
        }
    }

    /// A node cannot open what is on its disk: it has a reason, or it is a breach.
    pub(crate) fn does_not_open(&mut self, id: NodeId, error: &str) {
        let node = self.node(id);
        let death = node.met_cut();
        let failing = node.limited || node.failing_from < node.failing_until;
        assert!(
            death.is_some() || failing,
            "node {id} does not open (P13): {error}"
        );
        self.summary.cuts_while_opening += u64::from(death.is_some());
        self.note(id, "does not open", [u64::from(failing), 0, 0, 0]);
        self.die(id, death.unwrap_or(Death::Kill));
    }

    /// Ends a process, and lets another one start later.
    pub(crate) fn die(&mut self, id: NodeId, death: Death) {
        match death {
            Death::Kill => self.summary.kills += 1,
            Death::PowerCut => self.summary.power_cuts += 1,
        }
        self.note(id, "dies", [u64::from(death == Death::PowerCut), 0, 0, 0]);
        self.node(id).die(death);
        let delay_max = if self.stormy {
            self.swarm.restart_after_max
        } else {
            50 * MILLI
        };
        let delay = match self.node(id).cut_after_start {
            true => MILLI,
            false => self.rng.u64(MILLI..=delay_max),
        };
        self.after(delay, Event::Start { node: id });
    }

    /// The storm is over: everything that was broken is mended, and nothing breaks any more.
    pub(crate) fn calm(&mut self) {
        self.note(0, "calm", [0; 4]);
        self.stormy = false;
        self.network.heal();
        self.network.weather = Weather::CALM;
        for id in self.swarm.everyone() {
            let now = self.now;
            let node = self.node(id);
            node.paused_until = node.paused_until.min(now + 1);
            node.slow_until = 0;
            node.crawls_until = 0;
            node.cut_after_start = false;
            if let Some((death, _)) = node.cut {
                // The disk is armed to stop anyway.
                self.die(id, death);
            }
            self.give_space_back(id);
            if self.node(id).process.is_none() {
                self.after(MILLI, Event::Start { node: id });
            } else {
                self.wake(id, now + 2);
            }
        }
    }
}
