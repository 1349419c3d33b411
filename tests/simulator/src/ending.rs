//! The end of a run: has the cluster come right, and is everything there that anybody was promised?
//!
//! Owns P10 and what of P9 can only be said in the end. Must not know what went wrong before.

use plimsoll::raft::{Index, Role};
use plimsoll::wire::BatchReader;
use segment_store::LogReader;

use crate::checks::{GroupChecks, frames, record_of};
use crate::run::Mode;
use crate::swarm::caps;
use crate::world::World;

impl GroupChecks {
    /// A consumer at `position` reads the entries `first` to `last` of a replica; returns where it is then, and whether nothing it
    /// read was damaged.
    pub(crate) fn consumed(
        &self,
        position: u64,
        reader: &LogReader,
        first: Index,
        last: Index,
    ) -> (u64, bool) {
        let mut next = position;
        let read = frames(reader, first, last);
        for frame in read.frames {
            if frame.header().record_count == 0 {
                continue;
            }
            let batch = BatchReader::parse(&frame, &caps()).expect("a visible batch is whole");
            for record in batch.records().filter(|record| record.offset >= position) {
                assert_eq!(record.offset, next, "a consumer skips nothing (P9)");
                let known = usize::try_from(record.offset)
                    .ok()
                    .and_then(|at| self.records.get(at));
                assert_eq!(
                    known,
                    Some(&record_of(record.value)),
                    "offset {next} has one value for ever (P7)"
                );
                next += 1;
            }
        }
        (next, read.whole)
    }
}

impl World {
    /// Whether everybody agrees and nobody waits.
    pub(crate) fn has_converged(&mut self) -> bool {
        self.what_is_missing().is_empty()
    }

    /// What keeps the cluster from having converged; nothing if it has.
    pub(crate) fn what_is_missing(&mut self) -> String {
        let mut missing = String::new();
        for &group in &self.groups {
            let replicas = self.nodes.iter().filter_map(|node| {
                let process = node.process.as_ref()?;
                Some(&process.groups.get(&group)?.replica)
            });
            let mut replicas: Vec<_> = replicas.collect();
            if replicas.len() < self.nodes.len() {
                missing += &format!("group {group} runs on {} nodes; ", replicas.len());
            }
            let leaders = replicas
                .iter()
                .filter(|replica| replica.raft().role() == Role::Leader);
            if leaders.count() != 1 {
                missing += &format!("group {group} has no one leader: ");
                for replica in &replicas {
                    let (raft, id) = (replica.raft(), replica.raft().node());
                    let (role, term, last) = (raft.role(), raft.term(), raft.last_index());
                    missing += &format!(
                        "{id} {role:?} of {term}, ends at {last}, {:?}; ",
                        raft.membership()
                    );
                }
            }
            let Some((_, members)) = self.members_of(group) else {
                continue;
            };
            if members.joint() {
                missing += &format!("group {group} is still {members:?}; ");
            }
            // Who is no member any more need not know how far the others are.
            let members = members.members();
            replicas.retain(|replica| members.contains(&replica.raft().node()));
            let ends: Vec<_> = replicas
                .iter()
                .map(|replica| {
                    (
                        replica.raft().last_index(),
                        replica.raft().commit_index(),
                        replica.raft().durable_index(),
                    )
                })
                .collect();
            if ends
                .iter()
                .any(|end| *end != ends[0] || end.0 != end.1 || end.1 != end.2)
            {
                let statuses: Vec<_> = replicas.iter().map(|replica| replica.status()).collect();
                missing += &format!(
                    "group {group} ends (last, commit, durable) at {ends:?}: {statuses:#?}; "
                );
            }
        }
        if !self.clients.are_done() {
            missing += "a producer waits; ";
        }
        for consumer in &self.clients.consumers {
            let records = self.checks.group(consumer.group).records.len() as u64;
            if consumer.position < records {
                missing += "a consumer has not read everything; ";
            }
        }
        missing
    }

    /// What was acked is there, once, where the ack said (P9).
    pub(crate) fn check_end(&mut self) {
        for (&(producer, first_sequence, count), acked) in &self.clients.acks {
            let group = self.checks.group(self.clients.group_of(producer));
            if self.mode == Mode::SafetyOnly && acked.index > group.shown_through() {
                // Committed by others' disks, and on no disk yet whose node also knows of the commit.
                continue;
            }
            for at in 0..count {
                let found = group.offsets.get(&(producer, first_sequence + at));
                assert_eq!(
                    found,
                    Some(&(acked.base_offset + at)),
                    "record {} of producer {producer} was acked (P9, lost write or inconsistent offset)",
                    first_sequence + at
                );
            }
        }
        let Some(admin) = &self.clients.admin else {
            return;
        };
        // In the middle of a storm, some are behind; and nobody tells those that are no members.
        let members = match (self.mode, self.members_of(0)) {
            (Mode::Full, Some((_, members))) => members.members(),
            _ => return,
        };
        let members = self.nodes.iter().filter(|node| members.contains(&node.id));
        let states = members.filter_map(|node| {
            let process = node.process.as_ref()?;
            process.groups[&0].view.as_ref().map(|view| view.state())
        });
        let states: Vec<_> = states.collect();
        for state in &states {
            assert_eq!(
                state.topics().collect::<Vec<_>>(),
                states[0].topics().collect::<Vec<_>>(),
                "the controller's state is the same on all nodes (P2)"
            );
            for topic in &admin.topics {
                assert!(
                    state.topic(topic).is_some(),
                    "topic {topic} was created (P9, lost write)"
                );
            }
        }
    }
}
