//! The faults: what goes wrong, and how it comes right again.
//!
//! Owns how each kind of fault is carried out. Must not know what it breaks.

use plimsoll::raft::NodeId;
use segment_store::fs::{Fs, Injection, When};

use crate::node::{Ask, Death};
use crate::swarm::{Fault, PARTITION, pick};
use crate::world::{Event, MILLI, Micros, SECOND, World};

/// A capacity that no run reaches.
const PLENTY: u64 = 1 << 40;

impl World {
    /// The next fault.
    pub(crate) fn fault(&mut self) {
        if !self.stormy {
            return;
        }
        let every = self.swarm.fault_every;
        let delay = self.rng.u64(every / 4..every * 2);
        self.after(delay, Event::Fault);
        let fault = self.swarm.faults[self.rng.usize(0..self.swarm.faults.len())];
        let node = self.any_node();
        self.note(node, "fault", [fault as u64, 0, 0, 0]);
        match fault {
            Fault::Kill => self.arm(node, Death::Kill),
            Fault::PowerCut => self.arm(node, Death::PowerCut),
            Fault::KillThenPowerCut => {
                self.arm(node, Death::Kill);
                self.node(node).cut_after_start = true;
            }
            Fault::IsolateLeader => self.isolate_leader(),
            Fault::PowerCutAll => {
                for node in self.swarm.everyone() {
                    if self.node(node).process.is_some() {
                        self.die(node, Death::PowerCut);
                    }
                }
            }
            Fault::Pause => self.pause(node),
            Fault::FailedSync => self.fail_a_sync(node),
            Fault::NoSpace => self.fill(node),
            Fault::SlowDisk => {
                let until = self.now + self.rng.u64(100 * MILLI..2 * SECOND);
                self.node(node).slow_until = until;
            }
            Fault::Transfer => self.transfer(node),
            Fault::Reconfigure => self.reconfigure(),
            Fault::Rot if self.rng.u32(0..4) == 0 => {
                let group = self.any_group();
                self.scrub(node, group);
            }
            Fault::Rot => self.rot(node),
            Fault::Crawl => {
                let until = self.now + self.rng.u64(200 * MILLI..3 * SECOND);
                self.node(node).crawls_until = until;
                self.summary.crawls += 1;
            }
            Fault::Partition | Fault::Isolate | Fault::OneWay | Fault::Bridge | Fault::Flap => {
                self.cut_links(fault, node);
            }
        }
    }

    /// Lets a process die at one of the next operations of its disk; if it has none, soon.
    fn arm(&mut self, id: NodeId, death: Death) {
        let operations = self.rng.u64(0..30);
        let node = self.node(id);
        if node.process.is_none() || node.cut.is_some() {
            return;
        }
        node.arm(death, operations);
        let life = node.life;
        let delay = self.rng.u64(MILLI..100 * MILLI);
        self.after(
            delay,
            Event::Die {
                node: id,
                life,
                death,
            },
        );
    }

    fn pause(&mut self, id: NodeId) {
        let until = self.now + self.rng.u64(10 * MILLI..1_500 * MILLI);
        self.node(id).paused_until = until;
        self.summary.pauses += 1;
    }

    /// Asks for a failure of a sync, if one of the next operations is a sync.
    fn fail_a_sync(&mut self, id: NodeId) {
        let ahead = self.rng.u64(1..12);
        let node = self.node(id);
        let operation = node.fs.operations() + ahead;
        node.fs
            .inject(When::Operation(operation), Injection::FailedSync);
        node.failing_until = node.failing_until.max(operation);
    }

    /// Leaves a disk with room for a few segments at most, for a while.
    fn fill(&mut self, id: NodeId) {
        let room = pick(&mut self.rng, &[0, 20 << 10, 100 << 10]);
        let node = self.node(id);
        if node.process.is_none() || node.cut.is_some() {
            return;
        }
        node.fs.set_capacity(Some(PLENTY));
        let free = node
            .fs
            .free_bytes("/".as_ref())
            .expect("the disk has power");
        node.fs.set_capacity(Some(PLENTY - free + room));
        node.limited = true;
        self.summary.full_disks += 1;
        let delay = self.rng.u64(50 * MILLI..2 * SECOND);
        self.after(delay, Event::SpaceBack(id));
    }

    pub(crate) fn give_space_back(&mut self, id: NodeId) {
        let node = self.node(id);
        node.fs.set_capacity(None);
        node.limited = false;
    }

    /// Asks a node, which leads or does not, to hand leadership over.
    fn transfer(&mut self, node: NodeId) {
        let to = self.any_node();
        let group = self.any_group();
        self.after(
            1,
            Event::Request {
                node,
                group,
                caller: None,
                ask: Ask::Transfer(to),
            },
        );
        // A group's leader is more likely to be found with two attempts.
        let node = self.any_node();
        let ask = Ask::Transfer(to);
        self.after(
            2,
            Event::Request {
                node,
                group: PARTITION,
                caller: None,
                ask,
            },
        );
    }

    fn cut_links(&mut self, fault: Fault, node: NodeId) {
        let voters = self.swarm.everyone();
        if voters.len() < 2 {
            return;
        }
        self.summary.partitions += 1;
        match fault {
            Fault::OneWay => self.summary.one_way_cuts += 1,
            Fault::Bridge => self.summary.bridges += 1,
            Fault::Flap => self.summary.flaps += 1,
            _ => {}
        }
        let side: Vec<bool> = voters.iter().map(|_| self.rng.bool()).collect();
        for (at, &one) in voters.iter().enumerate() {
            for (with, &other) in voters.iter().enumerate() {
                let apart = side[at] != side[with];
                let meets = one == node || other == node;
                let cut = match fault {
                    Fault::Partition => apart,
                    Fault::Bridge => apart && !meets,
                    Fault::Isolate => meets,
                    Fault::OneWay => one == node && apart,
                    _ => self.rng.u32(0..4) == 0,
                };
                if cut && one != other {
                    self.network.cut(one, other);
                }
            }
        }
        let last: Micros = match fault {
            Fault::Flap => 150 * MILLI,
            _ => 2_500 * MILLI,
        };
        let delay = self.rng.u64(20 * MILLI..=last);
        self.after(delay, Event::Heal);
    }

    /// Cuts a leader off: what it takes from its clients meanwhile will have to go again.
    fn isolate_leader(&mut self) {
        let leader = self.nodes.iter().find(|node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.leads(PARTITION))
        });
        let Some(leader) = leader.map(|node| node.id) else {
            return;
        };
        self.summary.partitions += 1;
        self.summary.leaders_cut_off += 1;
        let (speaks, hears) = pick(
            &mut self.rng,
            &[(false, false), (false, true), (true, false)],
        );
        for other in self.swarm.everyone() {
            if !speaks {
                self.network.cut(leader, other);
            }
            if !hears {
                self.network.cut(other, leader);
            }
        }
        if self.rng.bool() {
            let until = self.now + SECOND;
            self.node(leader).slow_until = until;
        }
        let delay = self.rng.u64(200 * MILLI..SECOND);
        self.after(delay, Event::Heal);
    }

    pub(crate) fn heal(&mut self) {
        self.note(0, "heals", [u64::from(self.network.is_cut()), 0, 0, 0]);
        self.network.heal();
    }
}
