//! The world: one queue of events, one clock, one source of chance. Owns the nodes, the network between them and the order
//! in which everything happens.
//!
//! Must not know why a client asks or which fault comes next. Whatever is not in the queue does not happen: two runs of one
//! seed are the same run.

use std::collections::BTreeMap;

use fastrand::Rng;
use plimsoll::raft::NodeId;
use plimsoll::replica::{DiskReport, RepairAnswer};
use plimsoll::wire::Envelope;

use crate::checks::Checks;
use crate::clients::Clients;
use crate::memory::FRAME_MAX;
use crate::network::{Network, Packet, name};
use crate::node::{Ask, Caller, Death, Mail, Node, Outcome};
use crate::repair::Question;
use crate::run::Mode;
use crate::summary::Summary;
use crate::swarm::Swarm;
use crate::trace::Trace;

/// Time in the world, in microseconds from its start.
pub(crate) type Micros = u64;
pub(crate) const MILLI: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000_000;

/// After healing, the cluster must have converged within this time (P10).
const CONVERGE: Micros = 20 * SECOND;
/// How often a disk without room is tried again.
const RETRY: Micros = 250 * MILLI;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Arrive {
        to: NodeId,
        packet: Packet,
    },
    Turn {
        node: NodeId,
        life: u64,
    },
    /// The disk begins what is queued.
    Disk {
        node: NodeId,
        life: u64,
    },
    /// The disk has done it.
    Report {
        node: NodeId,
        life: u64,
        reports: Vec<DiskReport>,
    },
    /// A disk without room is tried again.
    Retry {
        node: NodeId,
        life: u64,
    },
    Warmed {
        node: NodeId,
        life: u64,
        group: u64,
        peer: NodeId,
        first: u64,
    },
    Start {
        node: NodeId,
    },
    /// A death that no operation of the disk has brought yet.
    Die {
        node: NodeId,
        life: u64,
        death: Death,
    },
    Request {
        node: NodeId,
        group: u64,
        caller: Option<Caller>,
        ask: Ask,
    },
    Answer {
        caller: Caller,
        outcome: Outcome,
    },
    Client(usize),
    Fault,
    /// The second partition is created.
    Create,
    /// A node hears that a group was created.
    Open {
        node: NodeId,
        life: u64,
        group: u64,
    },
    /// A damaged group may go on with its repair.
    Repair {
        node: NodeId,
        life: u64,
        group: u64,
    },
    /// A question of a repair arrives.
    RepairAsk(Question),
    /// Its answer arrives, or it is clear that none will.
    RepairAnswer {
        question: Question,
        answer: RepairAnswer,
    },
    /// A node reads the log of a group in search of damage.
    Scrub(NodeId, u64),
    Heal,
    SpaceBack(NodeId),
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Micros,
    queue: BTreeMap<(Micros, u64), Event>,
    next_event: u64,
    pub(crate) rng: Rng,
    pub(crate) swarm: Swarm,
    pub(crate) nodes: Vec<Node>,
    /// Groups that exist, ascending.
    pub(crate) groups: Vec<u64>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    pub(crate) summary: Summary,
    /// Whether faults may still come.
    pub(crate) stormy: bool,
    pub(crate) mode: Mode,
}

impl World {
    /// The world of `seed`, before anything happened.
    pub(crate) fn new(seed: u64, mode: Mode) -> World {
        let mut rng = Rng::with_seed(seed);
        let swarm = Swarm::draw(&mut rng);
        let mut world = World {
            now: SECOND,
            queue: BTreeMap::new(),
            next_event: 0,
            nodes: Vec::new(),
            groups: swarm.groups(),
            network: Network::new(swarm.weather),
            clients: Clients::new(&swarm, &mut rng),
            checks: Checks::new(swarm.in_flight_bytes_max + FRAME_MAX),
            mode,
            trace: Trace::new(seed, mode, format!("{swarm:?}")),
            summary: Summary::default(),
            stormy: true,
            swarm,
            rng,
        };
        for id in world.swarm.everyone() {
            let drift = world.swarm.drift;
            let rate = world.rng.u64(1000 - drift..=1000 + drift);
            world.summary.drifting_clocks += u64::from(rate != 1000);
            let disk_seed = world.rng.u64(..);
            world.nodes.push(Node::new(id, disk_seed, rate));
            world.after(0, Event::Start { node: id });
        }
        for client in 0..world.clients.count() {
            let delay = world.rng.u64(0..100 * MILLI);
            world.after(delay, Event::Client(client));
        }
        world.after(world.swarm.fault_every, Event::Fault);
        if let Some(late) = world.swarm.late {
            world.after(late, Event::Create);
        }
        world
    }

    /// Runs the world to its end: a storm of faults, then calm, in which everything must come right.
    pub(crate) fn run(&mut self) -> Summary {
        let end = self.now + self.swarm.safety;
        self.run_until(end);
        if self.mode == Mode::Full {
            self.come_right();
        }
        self.check_end();
        self.summary.virtual_ms = self.now / MILLI;
        self.summary.events = self.trace.events();
        for group in self.checks.groups.values() {
            self.summary.elections += group.elections();
            self.summary.committed += group.committed();
            self.summary.truncations += group.truncations;
            self.summary.joint_committed += group.joint_committed;
            self.summary.leaders_removed += group.leaders_removed;
        }
        self.summary.suspect_tails = self.checks.suspect_tails;
        self.summary
    }

    /// The storm ends, and within a stated time everybody agrees and nobody waits (P10).
    fn come_right(&mut self) {
        self.calm();
        let healed = self.now;
        while !self.has_converged() {
            assert!(
                self.now < healed + CONVERGE,
                "the cluster has not converged {} s after healing (P10): {}",
                CONVERGE / SECOND,
                self.what_is_missing()
            );
            let next = self.now + 100 * MILLI;
            self.run_until(next);
        }
        self.summary.converge_ms_max = (self.now - healed) / MILLI;
    }

    fn run_until(&mut self, end: Micros) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    pub(crate) fn after(&mut self, delay: Micros, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: Micros, event: Event) {
        self.next_event += 1;
        self.queue.insert((at, self.next_event), event);
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        let at = usize::try_from(id - 1).expect("nodes are few");
        &mut self.nodes[at]
    }

    pub(crate) fn note(&mut self, node: NodeId, what: &'static str, numbers: [u64; 4]) {
        self.trace.note(self.now, node, what, numbers);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { to, packet } => {
                if self.must_wait(to, &packet) {
                    return self.after(20 * MILLI, Event::Arrive { to, packet });
                }
                self.note(to, "arrives", [packet.from, packet.len(), 0, 0]);
                self.mail(to, Mail::Packet(packet));
            }
            Event::Turn { node, life } if self.lives(node, life) => self.turn(node),
            Event::Disk { node, life } if self.lives(node, life) => self.disk(node),
            Event::Report {
                node,
                life,
                reports,
            } if self.lives(node, life) => self.disk_is_done(node, reports),
            Event::Retry { node, life } if self.lives(node, life) => self.disk_tries_again(node),
            Event::Warmed {
                node,
                life,
                group,
                peer,
                first,
            } if self.lives(node, life) => {
                self.mail(node, Mail::Warmed { group, peer, first });
            }
            Event::Start { node } => self.start(node),
            Event::Die { node, life, death } if self.lives(node, life) => self.die(node, death),
            Event::Request {
                node,
                group,
                caller,
                ask,
            } => {
                self.note(
                    node,
                    "is asked",
                    [group, caller.map_or(0, |caller| caller.request), 0, 0],
                );
                self.mail(node, Mail::Request { group, caller, ask });
            }
            Event::Answer { caller, outcome } => self.answered(caller, outcome),
            Event::Client(client) => self.client(client),
            Event::Fault => self.fault(),
            Event::Create => self.create_group(),
            Event::Open { node, life, group } if self.lives(node, life) => {
                self.open_group(node, group);
            }
            Event::Repair { node, life, group } if self.lives(node, life) => {
                self.repair(node, group);
            }
            Event::Scrub(node, group) => self.scrub(node, group),
            Event::RepairAsk(question) => self.repair_asked(question),
            Event::RepairAnswer { question, answer }
                if self.lives(question.node, question.life) =>
            {
                self.repair_answered(question, answer);
            }
            Event::Heal => self.heal(),
            Event::SpaceBack(node) => self.give_space_back(node),
            // It was for a process that is gone.
            _ => {}
        }
    }

    pub(crate) fn lives(&mut self, node: NodeId, life: u64) -> bool {
        let node = self.node(node);
        node.process.is_some() && node.life == life
    }

    /// Puts something into a node's mailbox, if a process is there to take it.
    fn mail(&mut self, id: NodeId, mail: Mail) {
        let now = self.now;
        let slower = self.node(id).slower(now);
        let at = now + self.rng.u64(1..50) * slower;
        if let Some(process) = &mut self.node(id).process {
            process.post(mail);
            self.wake(id, at);
        }
    }

    /// Lets a node have a turn at `at`, or earlier.
    pub(crate) fn wake(&mut self, id: NodeId, at: Micros) {
        let node = self.node(id);
        let at = at.max(node.paused_until);
        let life = node.life;
        let Some(process) = &mut node.process else {
            return;
        };
        if at < process.wake_at {
            process.wake_at = at;
            self.at(at, Event::Turn { node: id, life });
        }
    }

    fn turn(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.node(id);
        let paused_until = node.paused_until;
        let Some(process) = &mut node.process else {
            return;
        };
        if process.wake_at != now {
            return;
        }
        process.wake_at = Micros::MAX;
        if paused_until > now {
            return self.wake(id, paused_until);
        }
        let at = usize::try_from(id - 1).expect("nodes are few");
        let turn = self.nodes[at].turn(now, &self.swarm, &mut self.checks);
        self.summary.transfers += turn.transferred;
        self.summary.installs += turn.installs;
        self.summary.bulk_sends += turn.bulk_sends;
        self.summary.reconfigurations += turn.changed;
        self.summary.turns_at_rest += u64::from(turn.resting);
        self.summary.woken_by_beats += turn.woken;
        let life = self.node(id).life;
        self.begin_disk(id);
        self.send(id, turn.sends);
        for (group, peer, first) in turn.warm {
            let delay = self.rng.u64(50..2 * MILLI);
            self.after(
                delay,
                Event::Warmed {
                    node: id,
                    life,
                    group,
                    peer,
                    first,
                },
            );
        }
        for (caller, outcome) in turn.answers {
            let delay = self.rng.u64(50..2 * MILLI);
            self.after(delay, Event::Answer { caller, outcome });
        }
        if !turn.damaged.is_empty() {
            return self.met_damage(id, &turn.damaged);
        }
        if turn.poisoned {
            self.note(id, "is poisoned", [0; 4]);
            self.summary.failed_syncs += 1;
            return self.die(id, Death::Kill);
        }
        let deadline = self.node(id).next_deadline();
        if deadline < Micros::MAX {
            self.wake(id, deadline.max(now + 1));
        }
    }

    /// Sends what a turn gave, each message or all to one peer together.
    fn send(&mut self, from: NodeId, sends: Vec<(NodeId, Envelope)>) {
        let mut batches: Vec<(NodeId, Vec<Envelope>)> = Vec::new();
        for (to, envelope) in sends {
            let with = batches.iter_mut().find(|(other, _)| *other == to);
            match with {
                Some((_, batch)) if self.network.weather.coalesced => batch.push(envelope),
                _ => batches.push((to, vec![envelope])),
            }
        }
        for (to, batch) in batches {
            let packet = Packet::encode(from, &batch);
            let arrivals = self.network.route(&mut self.rng, self.now, from, to);
            self.note(
                from,
                name(&batch[0].content),
                [to, batch.len() as u64, packet.len(), arrivals.len() as u64],
            );
            if arrivals.is_empty() && self.rng.bool() {
                self.mail(from, Mail::Unreachable(to));
            }
            for at in arrivals {
                let packet = packet.clone();
                self.at(at, Event::Arrive { to, packet });
            }
        }
    }

    fn disk_is_done(&mut self, id: NodeId, reports: Vec<DiskReport>) {
        self.mail(id, Mail::Disk(reports));
        if let Some(process) = &mut self.node(id).process {
            process.disk_busy = false;
        }
        self.begin_disk(id);
    }

    fn disk_tries_again(&mut self, id: NodeId) {
        if let Some(process) = &mut self.node(id).process {
            process.retry_due = true;
        }
        self.begin_disk(id);
    }

    fn begin_disk(&mut self, id: NodeId) {
        let delay = self.rng.u64(1..50);
        let node = self.node(id);
        let life = node.life;
        let Some(process) = &mut node.process else {
            return;
        };
        if process.disk_busy || (process.jobs.is_empty() && !process.retry_due) {
            return;
        }
        process.disk_busy = true;
        self.after(delay, Event::Disk { node: id, life });
    }

    fn disk(&mut self, id: NodeId) {
        let (now, delay_max) = (self.now, self.swarm.disk_delay_max);
        let node = self.node(id);
        let (life, until) = (node.life, node.paused_until);
        if until > now {
            return self.at(until, Event::Disk { node: id, life });
        }
        let slow = node.slow_until > now;
        let slower = node.slower(now);
        let Some(process) = &mut node.process else {
            return;
        };
        let jobs = std::mem::take(&mut process.jobs);
        let count = jobs.len() as u64;
        let mut reports = process.worker.turn(jobs);
        if std::mem::take(&mut process.retry_due) {
            reports.extend(process.worker.retry());
        }
        let stalled = process.worker.is_stalled();
        let operations = node.fs.operations();
        let death = node.met_cut();
        self.note(
            id,
            "wrote",
            [count, reports.len() as u64, operations, u64::from(stalled)],
        );
        if let Some(death) = death {
            return self.die(id, death);
        }
        let delay = match slow {
            true => self.rng.u64(20 * MILLI..400 * MILLI),
            false => self.rng.u64(50..=delay_max) * slower,
        };
        self.after(
            delay,
            Event::Report {
                node: id,
                life,
                reports,
            },
        );
        if stalled {
            self.after(RETRY, Event::Retry { node: id, life });
        }
    }
}
