//! The clients: producers that retry, consumers on any replica, readers that ask how far the log is, and one that commands
//! the controller.
//!
//! Owns what each client was told, and the judgement of it (P9). A client knows nothing but answers and time: whatever takes
//! too long it tries again elsewhere.

mod producing;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use fastrand::Rng;
use plimsoll::controller::{Command, Outcome as Decided, decode_outcome, encode_command};
use plimsoll::raft::NodeId;
use plimsoll::replica::{Acked, Answer};
use segment_store::ReadError;

use crate::node::{Ask, Caller, Outcome};
use crate::swarm::{LATE, PARTITION, Swarm};
use crate::world::{Event, MILLI, Micros, World};

/// A batch that is not acked yet.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Counts the batches of its producer.
    number: u64,
    first_sequence: u64,
    count: u64,
    bytes: Bytes,
    /// The request it was last sent with.
    request: u64,
    /// Entries that were committed when it was last sent.
    committed_before: u64,
}

/// A client that produces.
#[derive(Debug)]
pub(crate) struct Producer {
    id: u64,
    /// The partition it produces to.
    group: u64,
    next_sequence: u64,
    batches: u64,
    target: NodeId,
    unacked: VecDeque<Sent>,
    /// When everything unacked is sent again.
    resend_at: Micros,
}

/// A client that consumes.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) group: u64,
    pub(crate) position: u64,
}

/// A client that asks for the end of the log, one question at a time.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The question under way: its request, when it gives up, and the least it must hear.
    asked: Option<(u64, Micros, u64)>,
}

/// A client of the controller.
#[derive(Debug, Default)]
pub(crate) struct Admin {
    asked: Option<(u64, Micros)>,
    /// First ids of the blocks it was given, and their lengths.
    blocks: BTreeMap<u64, u64>,
    pub(crate) topics: Vec<String>,
    /// Name that the question under way wants to create.
    wants: Option<String>,
    commands: u64,
    /// Whether the controller was told of the nodes; nothing is placed before.
    founded: bool,
}

/// All clients. Numbered: producers, then consumers, then the reader, then the admin.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) producers: Vec<Producer>,
    pub(crate) consumers: Vec<Consumer>,
    reader: Reader,
    pub(crate) admin: Option<Admin>,
    next_request: u64,
    /// (first record, count) -> where it was acked.
    pub(crate) acks: BTreeMap<(u64, u64, u64), Acked>,
    /// End of everything acked or read so far: what the next linearizable read must see.
    floor: u64,
}

impl Clients {
    pub(crate) fn new(swarm: &Swarm, rng: &mut Rng) -> Clients {
        // The last of each kind is for the partition that is created late.
        let group = |at: usize, count: usize| match swarm.late {
            Some(_) if at + 1 == count => LATE,
            _ => PARTITION,
        };
        let late = usize::from(swarm.late.is_some());
        let (producers, consumers) = (swarm.producers + late, swarm.consumers + late);
        let producer = |id: usize| Producer {
            id: id as u64 + 1,
            group: group(id, producers),
            next_sequence: 0,
            batches: 0,
            target: rng.u64(1..=swarm.nodes),
            unacked: VecDeque::new(),
            resend_at: Micros::MAX,
        };
        let consumer = |at: usize| Consumer {
            group: group(at, consumers),
            position: 0,
        };
        Clients {
            producers: (0..producers).map(producer).collect(),
            consumers: (0..consumers).map(consumer).collect(),
            reader: Reader::default(),
            admin: swarm.controller.then(Admin::default),
            next_request: 0,
            acks: BTreeMap::new(),
            floor: 0,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.producers.len() + self.consumers.len() + 1 + usize::from(self.admin.is_some())
    }

    /// The partition that a producer's records are in.
    pub(crate) fn group_of(&self, producer: u64) -> u64 {
        let mut producers = self.producers.iter();
        let found = producers.find(|known| known.id == producer);
        found.expect("producers stay").group
    }

    fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// Whether every producer has every ack, and no question is open.
    pub(crate) fn are_done(&self) -> bool {
        self.producers
            .iter()
            .all(|producer| producer.unacked.is_empty())
    }
}

impl World {
    /// A client's time has come.
    pub(crate) fn client(&mut self, client: usize) {
        let (producers, consumers) = (self.clients.producers.len(), self.clients.consumers.len());
        if client < producers {
            self.produce(client);
        } else if client < producers + consumers {
            self.consume(client - producers);
        } else if client == producers + consumers {
            self.ask_for_the_end(client);
        } else {
            self.command(client);
        }
        let delay = self.rng.u64(MILLI..=self.swarm.think_max);
        self.after(delay, Event::Client(client));
    }

    pub(crate) fn any_node(&mut self) -> NodeId {
        self.rng.u64(1..=self.swarm.nodes + self.swarm.spares)
    }

    /// Sends a question on its way; it may be lost.
    fn ask(&mut self, node: NodeId, group: u64, caller: Option<Caller>, ask: Ask, delay: Micros) {
        if self.stormy && self.rng.u32(0..1000) < self.network.weather.lost {
            return;
        }
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

    fn consume(&mut self, at: usize) {
        let id = self.any_node();
        let Consumer { group, position } = self.clients.consumers[at];
        let partition = group;
        let node_at = usize::try_from(id - 1).expect("nodes are few");
        let Some(process) = &self.nodes[node_at].process else {
            return;
        };
        if self.nodes[node_at].paused_until > self.now {
            return;
        }
        let Some(group) = process.groups.get(&partition) else {
            return;
        };
        if position >= group.published.high_watermark {
            return;
        }
        let index = match group.reader.seek_offset(position) {
            Ok(index) => index,
            Err(ReadError::OffsetOutOfRange { log_start, .. }) if log_start > position => {
                // Retention was faster: what is gone is known to be gone.
                self.summary.retained_past += log_start - position;
                self.clients.consumers[at].position = log_start;
                return;
            }
            Err(_) => return self.met_damage(id, &[partition]),
        };
        let last = group.published.applied_index.min(index + 16);
        let (next, whole) =
            self.checks
                .group(partition)
                .consumed(position, &group.reader, index, last);
        assert!(
            next <= group.published.high_watermark,
            "a consumer sees no further than the high watermark (P8)"
        );
        self.summary.consumed += next - position;
        self.clients.consumers[at].position = next;
        if !whole {
            self.met_damage(id, &[partition]);
        }
    }

    fn ask_for_the_end(&mut self, client: usize) {
        let now = self.now;
        if self
            .clients
            .reader
            .asked
            .is_some_and(|(_, until, _)| now < until)
        {
            return;
        }
        let (node, request) = (self.any_node(), self.clients.request());
        let patience = self.rng.u64(100 * MILLI..2_000 * MILLI);
        self.clients.reader.asked = Some((request, now + patience, self.clients.floor));
        let caller = Caller { client, request };
        let delay = self.rng.u64(50..MILLI);
        self.ask(node, PARTITION, Some(caller), Ask::ReadIndex, delay);
    }

    fn command(&mut self, client: usize) {
        let (now, nodes) = (self.now, self.swarm.voters());
        let (node, count) = (self.any_node(), self.rng.u64(1..100));
        let (creates, patience) = (
            self.rng.u32(0..4) == 0,
            self.rng.u64(100 * MILLI..2_000 * MILLI),
        );
        let request = self.clients.request();
        let Some(admin) = &mut self.clients.admin else {
            return;
        };
        if !self.stormy || admin.asked.is_some_and(|(_, until)| now < until) {
            return;
        }
        admin.asked = Some((request, now + patience));
        admin.commands += 1;
        let name = format!("topic-{}", admin.commands);
        admin.wants = (creates && admin.founded).then(|| name.clone());
        let nodes = nodes
            .iter()
            .map(|node| (*node, format!("host-{node}:7600")));
        let command = match creates {
            true if !admin.founded => Command::Found {
                nodes: nodes.collect(),
            },
            true => Command::CreateTopic {
                name,
                partitions: 2,
                replicas: 1,
                partitions_max: 10_000,
                token: request,
            },
            false => Command::AllocateProducerIds { count },
        };
        let caller = Caller { client, request };
        let ask = Ask::Command(encode_command(&command));
        let delay = self.rng.u64(50..MILLI);
        self.ask(node, 0, Some(caller), ask, delay);
    }

    /// A client hears.
    pub(crate) fn answered(&mut self, caller: Caller, outcome: Outcome) {
        let (producers, consumers) = (self.clients.producers.len(), self.clients.consumers.len());
        self.note(
            0,
            "hears",
            [
                caller.client as u64,
                caller.request,
                u64::from(outcome.is_ok()),
                0,
            ],
        );
        if caller.client < producers {
            self.produced(caller, outcome);
        } else if caller.client == producers + consumers {
            self.heard_the_end(caller, &outcome);
        } else {
            self.commanded(caller, outcome);
        }
    }

    fn heard_the_end(&mut self, caller: Caller, outcome: &Outcome) {
        let Some((request, _, floor)) = self.clients.reader.asked else {
            return;
        };
        if request != caller.request {
            return;
        }
        self.clients.reader.asked = None;
        if let &Ok(Answer::ReadAt { high_watermark }) = outcome {
            assert!(
                high_watermark >= floor,
                "a read ends at {high_watermark}, {floor} had been acked or read before it was asked (P9, linearizability)"
            );
            self.summary.reads += 1;
            self.clients.floor = self.clients.floor.max(high_watermark);
        }
    }

    fn commanded(&mut self, caller: Caller, outcome: Outcome) {
        let Some(admin) = &mut self.clients.admin else {
            return;
        };
        if admin
            .asked
            .is_none_or(|(request, _)| request != caller.request)
        {
            return;
        }
        admin.asked = None;
        let Ok(Answer::Applied(bytes)) = outcome else {
            return;
        };
        self.summary.commands += 1;
        match decode_outcome(&bytes).expect("an outcome can be read") {
            Decided::ProducerIds { first, count } => {
                let before = admin.blocks.range(..first + count).next_back();
                let free = before.is_none_or(|(start, len)| start + len <= first);
                assert!(free, "producer ids from {first} are given out twice");
                admin.blocks.insert(first, count);
            }
            Decided::TopicCreated { .. } => admin.topics.extend(admin.wants.take()),
            Decided::Changed { .. } => admin.founded = true,
            // The command was delivered twice, and this is the second answer.
            Decided::Refused(_) | Decided::TopicDeleted { .. } => {}
        }
    }
}
