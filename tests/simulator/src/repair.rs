//! Repair: damaged groups fetch from other nodes what is missing, over the same network as everything else.
//!
//! Owns what the server's repair task does: it asks whom the shipped decision names, and carries answers back. Must not know what rotted;
//! only that nothing may be damaged where nothing did.

use plimsoll::raft::{Index, Millis, NodeId};
use plimsoll::replica::{REPAIR_BYTES, RepairAnswer, RepairStep, Repairing};

use crate::node::{Death, Node};
use crate::process::Process;
use crate::world::{Event, MILLI, Micros, World};

/// An answer that has not come by then is taken for silence.
const PATIENCE: Micros = 400 * MILLI;

/// A question of a repair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// Who asks, in which life.
    pub(crate) node: NodeId,
    pub(crate) life: u64,
    group: u64,
    /// Counts the questions of one repair.
    number: u64,
    peer: NodeId,
    first: Index,
    last: Index,
}

/// A group that is being repaired.
#[derive(Debug)]
pub(crate) struct Damaged {
    repairing: Repairing,
    /// Number of the question that is open, or of the last one.
    number: u64,
    open: bool,
}

impl Damaged {
    pub(crate) fn new(repairing: Repairing) -> Damaged {
        Damaged {
            repairing,
            number: 0,
            open: false,
        }
    }
}

impl World {
    /// A group that was read met damage: it is closed, and looked at byte by byte before it is opened again.
    pub(crate) fn met_damage(&mut self, id: NodeId, groups: &[u64]) {
        for &group in groups {
            assert!(
                self.checks.atlas.has_rot(id, group),
                "node {id} finds group {group} damaged, and nothing rotted there (P13)"
            );
            self.summary.damage_met += 1;
            self.note(id, "meets damage", [group, 0, 0, 0]);
            self.node(id).distrusted.insert(group);
        }
        // A real node closes these groups alone, and goes on knowing of the others.
        let node = self.node(id);
        let known = node
            .process
            .iter()
            .flat_map(|process| process.damaged.keys());
        let known: Vec<u64> = known.copied().collect();
        node.distrusted.extend(known);
        self.die(id, Death::Kill);
    }

    /// What a start found damaged is repaired from now on.
    pub(crate) fn begin_repairs(&mut self, id: NodeId) {
        let node = self.node(id);
        let life = node.life;
        let damaged = node
            .process
            .iter()
            .flat_map(|process| process.damaged.keys());
        for group in damaged.copied().collect::<Vec<_>>() {
            assert!(
                self.checks.atlas.has_rot(id, group),
                "node {id} opens group {group} as damaged, and nothing rotted there (P13)"
            );
            self.summary.damage_found += 1;
            self.note(id, "is damaged", [group, 0, 0, 0]);
            self.after(
                MILLI,
                Event::Repair {
                    node: id,
                    life,
                    group,
                },
            );
        }
        let mended = self
            .node(id)
            .process
            .as_mut()
            .map(|process| std::mem::take(&mut process.mended));
        for group in mended.into_iter().flatten() {
            self.summary.repairs += 1;
            self.note(id, "mended itself", [group, 0, 0, 0]);
            self.checks.atlas.made_whole(id, group);
        }
    }

    /// The next step of a repair.
    pub(crate) fn repair(&mut self, id: NodeId, group: u64) {
        let peers: Vec<NodeId> = self.swarm.everyone();
        let peers: Vec<NodeId> = peers.into_iter().filter(|peer| *peer != id).collect();
        let now = self.now;
        let node = self.node(id);
        let (life, local, until) = (node.life, node.local(now), node.paused_until);
        if until > now {
            return self.at(
                until,
                Event::Repair {
                    node: id,
                    life,
                    group,
                },
            );
        }
        node.failing_from = node.fs.operations();
        let Some(damaged) = node.damaged(group).filter(|damaged| !damaged.open) else {
            return;
        };
        let step = match damaged.repairing.next(local, &peers) {
            Ok(step) => step,
            Err(fault) => return self.does_not_open(id, &fault.to_string()),
        };
        match step {
            RepairStep::Ask { peer, first, last } => {
                damaged.number += 1;
                damaged.open = true;
                let number = damaged.number;
                let question = Question {
                    node: id,
                    life,
                    group,
                    number,
                    peer,
                    first,
                    last,
                };
                self.note(id, "asks for", [group, peer, first, last]);
                for at in self.network.route(&mut self.rng, now, id, peer) {
                    self.at(at, Event::RepairAsk(question));
                }
                let answer = RepairAnswer::Silence;
                self.after(PATIENCE, Event::RepairAnswer { question, answer });
            }
            RepairStep::Wait { until } => {
                let at = self.node(id).global(until).max(now + MILLI);
                self.at(
                    at,
                    Event::Repair {
                        node: id,
                        life,
                        group,
                    },
                );
            }
            RepairStep::Whole => self.made_whole(id, group),
        }
    }

    /// A peer is asked for frames.
    pub(crate) fn repair_asked(&mut self, question: Question) {
        let now = self.now;
        let Question {
            group,
            peer,
            first,
            last,
            ..
        } = question;
        let node = self.node(peer);
        if node.paused_until > now {
            return;
        }
        let process = node.process.as_ref();
        let Some(answer) = process.and_then(|process| process.answer(group, first, last)) else {
            return;
        };
        let len = match &answer {
            RepairAnswer::Frames(frames) | RepairAnswer::Committed(frames) => frames.len() as u64,
            RepairAnswer::Silence => 0,
        };
        self.note(peer, "answers with", [group, question.node, last, len]);
        let arrivals = self.network.route(&mut self.rng, now, peer, question.node);
        for at in arrivals {
            let answer = answer.clone();
            self.at(at, Event::RepairAnswer { question, answer });
        }
    }

    pub(crate) fn repair_answered(&mut self, question: Question, answer: RepairAnswer) {
        let Question {
            node: id,
            life,
            group,
            peer,
            last,
            ..
        } = question;
        let now = self.now;
        let node = self.node(id);
        let local: Millis = node.local(now);
        node.failing_from = node.fs.operations();
        let Some(damaged) = node.damaged(group) else {
            return;
        };
        if !damaged.open || damaged.number != question.number {
            return;
        }
        damaged.open = false;
        let before = damaged.repairing.status().repaired_entries;
        let answered = damaged.repairing.answered(local, peer, last, answer);
        let entries = damaged.repairing.status().repaired_entries - before;
        self.summary.repaired_entries += entries;
        if let Err(fault) = answered {
            return self.does_not_open(id, &fault.to_string());
        }
        if let Some(death) = self.node(id).met_cut() {
            return self.die(id, death);
        }
        self.note(id, "hears of", [group, peer, last, entries]);
        self.after(
            MILLI,
            Event::Repair {
                node: id,
                life,
                group,
            },
        );
    }

    /// Nothing is missing any more: the group is opened.
    fn made_whole(&mut self, id: NodeId, group: u64) {
        let now = self.now;
        self.note(id, "is whole", [group, 0, 0, 0]);
        self.summary.repairs += 1;
        let at = usize::try_from(id - 1).expect("nodes are few");
        let node = &mut self.nodes[at];
        if let Some(process) = &mut node.process {
            process.damaged.remove(&group);
        }
        if let Err(error) = node.open_group(&self.swarm, group, now, &mut self.checks) {
            return self.does_not_open(id, &error);
        }
        self.begin_repairs(id);
        if self.node(id).damaged(group).is_none() {
            self.checks.atlas.made_whole(id, group);
        }
        self.wake(id, now + 1);
    }
}

impl Node {
    fn damaged(&mut self, group: u64) -> Option<&mut Damaged> {
        self.process.as_mut()?.damaged.get_mut(&group)
    }
}

impl Process {
    /// What this node answers a peer whose log lacks the entries up to `last`: no frames if it has nothing of use, `None` if the
    /// group is not here.
    fn answer(&self, group: u64, first: Index, last: Index) -> Option<RepairAnswer> {
        let read = match (self.groups.get(&group), self.damaged.get(&group)) {
            (Some(running), _) => {
                // How far it knows, before it looks.
                let committed = running.replica.raft().commit_index() >= last;
                let read = running.reader.read_before(first, last, REPAIR_BYTES);
                if committed {
                    return Some(RepairAnswer::Committed(read.unwrap_or_default()));
                }
                read.ok()
            }
            (None, Some(damaged)) => {
                let read = damaged.repairing.read_before(first, last, REPAIR_BYTES);
                read.ok()
            }
            (None, None) => return None,
        };
        Some(RepairAnswer::Frames(read.unwrap_or_default()))
    }
}
