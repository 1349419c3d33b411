//! The checks of one run: what must hold at every step, on every replica and between them.
//!
//! Owns what the whole cluster has ever promised: votes, leaders, committed entries, records by offset. Properties are
//! numbered as in the list of promises. Must not know clients or faults; a breach panics, and the trace tells the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use plimsoll::raft::invariants::{View, check};
use plimsoll::raft::{Ballot, Index, Membership, Message, NodeId, Role, Term};
use plimsoll::replica::Published;
use plimsoll::wire::{BatchReader, Content};
use segment_store::{Frame, LogReader, kind};

use crate::atlas::Atlas;
use crate::swarm::{PAYLOAD_MAX, caps};

/// Bytes read from a log at a time.
const READ_BYTES: usize = 64 << 10;

/// What the cluster has committed at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    term: Term,
    /// Term of the leader that was the first to call it so.
    committed_in: Term,
}

/// An entry as readers were shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    header_crc: u32,
    payload_crc: u32,
    next_offset: u64,
}

/// A record as it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) producer: u64,
    pub(crate) sequence: u64,
}

/// One group, over all its replicas and all time.
#[derive(Debug, Default)]
pub(crate) struct GroupChecks {
    /// Each replica as it was last seen, dead or alive.
    views: BTreeMap<NodeId, View>,
    /// The last ballot of each that was durable.
    ballots: BTreeMap<NodeId, Ballot>,
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// By index, from 1.
    committed: Vec<Committed>,
    /// By index, from 1.
    shown: Vec<Shown>,
    /// By offset.
    pub(crate) records: Vec<Record>,
    /// Offset of each record that a producer sent.
    pub(crate) offsets: BTreeMap<(u64, u64), u64>,
    /// Entries that were durable, and gone with an end that rotted: who, index, term. Acks of theirs may be under way, and were true.
    lost: BTreeSet<(NodeId, Index, Term)>,
    pub(crate) truncations: u64,
    pub(crate) joint_committed: u64,
    pub(crate) leaders_removed: u64,
}

/// All groups.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) groups: BTreeMap<u64, GroupChecks>,
    /// What has rotted where.
    pub(crate) atlas: Atlas,
    /// Ends of logs that were opened as suspect.
    pub(crate) suspect_tails: u64,
    /// Bytes that a leader may have sent to a peer without an answer.
    in_flight_bytes_max: u64,
}

impl Checks {
    pub(crate) fn new(in_flight_bytes_max: u64) -> Checks {
        Checks {
            groups: BTreeMap::new(),
            atlas: Atlas::default(),
            suspect_tails: 0,
            in_flight_bytes_max,
        }
    }

    pub(crate) fn group(&mut self, group: u64) -> &mut GroupChecks {
        self.groups.entry(group).or_default()
    }

    /// Whether a copy of an entry has been spoiled since the group was last whole there.
    pub(crate) fn is_spoilt(&self, node: NodeId, group: u64, index: Index) -> bool {
        self.atlas.is_spoiled(node, group, &(index..=index))
    }

    /// Whether one of these nodes has, durable and unspoilt, all of the entries that `node` has; none is on every node.
    pub(crate) fn held_by_any(
        &mut self,
        others: &[NodeId],
        group: u64,
        node: NodeId,
        entries: RangeInclusive<Index>,
    ) -> bool {
        let Checks { groups, atlas, .. } = self;
        let all = groups.entry(group).or_default();
        let mut others = others.iter();
        entries.is_empty()
            || others.any(|other| {
                !atlas.is_spoiled(*other, group, &entries)
                    && all.holds_as(*other, node, entries.clone())
            })
    }

    /// A replica starts from its disk: whatever it ever called durable must be there (P6, P13).
    pub(crate) fn started(&mut self, node: NodeId, group: u64, now: View) {
        self.suspect_tails += u64::from(now.tail_suspect);
        let next = now.last_index + 1;
        let end_rotted = now.tail_suspect && self.atlas.is_spoiled(node, group, &(next..=next));
        let all = self.group(group);
        if let Some(before) = all.views.get(&node) {
            check_restart(before, all.ballots[&node], &now, end_rotted);
            let gone = next..=before.durable_index;
            let entry = |index| Some((node, index, before.term_at(index)?));
            all.lost.extend(gone.filter_map(entry));
        }
        all.ballots.insert(node, now.ballot);
        let kept = now.prev.index + 1..now.commit_index + 1;
        all.check_committed(&now, kept, &now.membership.1);
        all.views.insert(node, now);
    }

    /// A replica took an input or gave its effects.
    pub(crate) fn stepped(&mut self, node: NodeId, group: u64, after: View) {
        for (peer, progress) in &after.peers {
            assert!(
                progress.in_flight_bytes <= self.in_flight_bytes_max,
                "node {node} has {} bytes in flight to {peer} in group {group} (P11)",
                progress.in_flight_bytes
            );
        }
        let all = self.group(group);
        let before = &all.views[&node];
        check(before, &after);
        all.truncations += after.truncations - before.truncations;
        all.leaders_removed += u64::from(
            before.role == Role::Leader
                && after.role != Role::Leader
                && !after.membership.1.is_voter(node),
        );
        let (members_at, members) = &before.membership;
        let joint_commits = members.joint()
            && before.role == Role::Leader
            && before.commit_index < *members_at
            && after.commit_index >= *members_at;
        all.joint_committed += u64::from(joint_commits);
        let leads_now = after.role == Role::Leader
            && (before.role != Role::Leader || before.ballot.term != after.ballot.term);
        let known = before.commit_index;
        if after.ballot_saved {
            all.ballots.insert(node, after.ballot);
        }
        // What was in force when the input came: an entry that this very commit brought counts from the next one on.
        let commits =
            (after.commit_index > known).then(|| (after.clone(), before.membership.clone()));
        all.views.insert(node, after);
        if leads_now {
            all.check_leader(node);
        }
        if let Some((view, members)) = commits {
            let decided = match members.0 == view.membership.0 {
                true => view.commit_index,
                // Once it is committed itself, the one that follows may decide alone, in the same step.
                false => view.commit_index.min(members.0),
            };
            all.check_committed(&view, known + 1..decided + 1, &members.1);
            let rest = decided.max(known) + 1..view.commit_index + 1;
            all.check_committed(&view, rest, &view.membership.1);
        }
    }

    /// A message leaves: what it grants is granted for ever (P1).
    pub(crate) fn sent(&mut self, node: NodeId, group: u64, to: NodeId, content: &Content) {
        if let Content::Raft(Message::VoteReply {
            term,
            granted: true,
            ..
        }) = content
        {
            let all = self.group(group);
            let saved = all.ballots[&node];
            assert!(
                saved.term > *term || (saved.term == *term && saved.vote == Some(to)),
                "node {node} grants its vote to {to} in term {term}, durable is {saved:?} (P6)"
            );
            let voted = *self.group(group).votes.entry((node, *term)).or_insert(to);
            assert_eq!(
                voted, to,
                "node {node} votes twice in term {term} of group {group} (P1)"
            );
        }
    }

    /// A replica shows readers more: bytes that no replica ever shows differently (P2, P7, P8). False if some of them are damaged.
    pub(crate) fn published(
        &mut self,
        node: NodeId,
        group: u64,
        before: &Published,
        now: &Published,
        reader: &LogReader,
    ) -> bool {
        assert!(
            now.high_watermark >= before.high_watermark,
            "the high watermark of node {node} falls (P8)"
        );
        assert!(
            now.applied_index <= now.commit_index,
            "node {node} shows what is not committed (P8)"
        );
        let all = self.group(group);
        let from = before.applied_index.max(reader.first_index() - 1) + 1;
        let read = frames(reader, from, now.applied_index);
        for frame in &read.frames {
            all.show(node, frame);
        }
        if let Some(last) = all.shown_at(now.applied_index) {
            assert_eq!(
                last.next_offset, now.high_watermark,
                "the high watermark of node {node} is the end of what is applied"
            );
        }
        read.whole
    }
}

impl GroupChecks {
    /// Whether `member` has durably the entries that `node` has, as far as they were last seen.
    fn holds_as(&self, member: NodeId, node: NodeId, entries: RangeInclusive<Index>) -> bool {
        let (Some(there), Some(here)) = (self.views.get(&member), self.views.get(&node)) else {
            return false;
        };
        let (first, last) = entries.into_inner();
        there.durable_index >= last
            && first > there.prev.index
            && there.term_at(last) == here.term_at(last)
    }

    fn check_leader(&mut self, node: NodeId) {
        let view = &self.views[&node];
        let term = view.ballot.term;
        let leader = *self.leaders.entry(term).or_insert(node);
        assert_eq!(leader, node, "two leaders of term {term} (P1)");
        // What was committed in earlier terms; a leader elected late in an old term need not know of newer ones.
        let known = self
            .committed
            .iter()
            .rposition(|entry| entry.committed_in < term);
        if let Some(at) = known {
            let index = at as Index + 1;
            if index > view.prev.index {
                assert_eq!(
                    view.term_at(index),
                    Some(self.committed[at].term),
                    "node {node} leads term {term} without committed entry {index} (P3)"
                );
            }
        }
    }

    /// Whatever a replica calls committed is the same everywhere, and durable on a quorum (P2, P4, P5).
    fn check_committed(&mut self, view: &View, indexes: Range<Index>, members: &Membership) {
        for index in indexes.start.max(view.prev.index + 1)..indexes.end {
            let term = view
                .term_at(index)
                .expect("what is committed is in the log");
            let at = usize::try_from(index - 1).expect("indexes are small");
            match self.committed.get(at) {
                Some(known) => assert_eq!(
                    known.term, term,
                    "entry {index} is committed differently at node {} (P2)",
                    view.node
                ),
                None => {
                    assert_eq!(self.committed.len(), at, "commits leave no gap");
                    self.check_quorum(view, index, term, members);
                    self.committed.push(Committed {
                        term,
                        committed_in: view.ballot.term,
                    });
                }
            }
        }
    }

    /// During a joint change, a majority of the old voters and one of the new ones.
    fn check_quorum(&self, view: &View, index: Index, term: Term, members: &Membership) {
        let holds = |voter: &&NodeId| {
            let view = self.views.get(*voter);
            view.is_some_and(|view| {
                view.durable_index >= index && view.term_at(index) == Some(term)
            })
        };
        let promised =
            |voter: &&NodeId| holds(voter) || self.lost.contains(&(**voter, index, term));
        let sets = [&members.voters, &members.voters_outgoing];
        for voters in sets.into_iter().filter(|voters| !voters.is_empty()) {
            let held = voters.iter().filter(promised).count();
            assert!(
                2 * held > voters.len(),
                "entry {index} of term {term} is committed by node {} and durable on {held} of {voters:?} (P4)",
                view.node
            );
        }
        assert!(
            sets.into_iter().flatten().any(|voter| holds(&voter)),
            "entry {index} of term {term} is committed by node {} and no copy of it is left (P4)",
            view.node
        );
    }

    /// Last index that readers of any replica were shown.
    pub(crate) fn shown_through(&self) -> Index {
        self.shown.len() as Index
    }

    fn shown_at(&self, index: Index) -> Option<&Shown> {
        let at = usize::try_from(index.checked_sub(1)?).ok()?;
        self.shown.get(at)
    }

    fn show(&mut self, node: NodeId, frame: &Frame) {
        let header = frame.header();
        let shown = Shown {
            header_crc: frame.header_crc(),
            payload_crc: header.payload_crc,
            next_offset: header.next_offset(),
        };
        if let Some(known) = self.shown_at(header.index) {
            assert_eq!(
                known, &shown,
                "node {node} shows another entry {} (P2, P7)",
                header.index
            );
            return;
        }
        assert_eq!(
            self.shown.len() as Index + 1,
            header.index,
            "what is shown leaves no gap"
        );
        assert!(
            header.index <= self.committed.len() as Index,
            "node {node} shows an entry that nobody has committed (P8)"
        );
        self.shown.push(shown);
        if header.kind != kind::RECORDS {
            assert_eq!(
                header.next_offset(),
                self.records.len() as u64,
                "only records take offsets"
            );
            return;
        }
        let batch = BatchReader::parse(frame, &caps()).expect("a committed batch is whole");
        assert_eq!(
            batch.base_offset(),
            self.records.len() as u64,
            "offsets are dense (P9, hole)"
        );
        for record in batch.records() {
            let found = record_of(record.value);
            if let Some(before) = self
                .offsets
                .insert((found.producer, found.sequence), record.offset)
            {
                panic!(
                    "{found:?} is at offset {before} and again at {} (P9, duplicate)",
                    record.offset
                );
            }
            if let Some(last) = found.sequence.checked_sub(1) {
                let last = self.offsets.get(&(found.producer, last));
                assert!(
                    last.is_some(),
                    "{found:?} is committed before the one sent before it (P9, reorder)"
                );
            }
            self.records.push(found);
        }
    }

    /// Entries committed.
    pub(crate) fn committed(&self) -> Index {
        self.committed.len() as Index
    }

    /// Terms that had a leader.
    pub(crate) fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }
}

/// A restart finds every entry and vote that was durable before.
fn check_restart(before: &View, saved: Ballot, now: &View, end_rotted: bool) {
    let node = now.node;
    let Ballot { term, vote } = now.ballot;
    let keeps_vote = saved.vote.is_none() || vote == saved.vote;
    assert!(
        term > saved.term || (term == saved.term && keeps_vote),
        "node {node} comes back with {:?} after {saved:?} was durable (P1, P6)",
        now.ballot
    );
    assert!(
        now.last_index >= before.durable_index || end_rotted,
        "node {node} comes back with {} entries, {} were durable (P6, P13)",
        now.last_index,
        before.durable_index
    );
    for index in
        now.prev.index.max(before.prev.index) + 1..=before.durable_index.min(now.last_index)
    {
        assert_eq!(
            now.term_at(index),
            before.term_at(index),
            "entry {index} of node {node} was durable and is another one (P6, P13)"
        );
    }
}

/// What a replica takes for durable from now on is synced on its disk, and is the entry it thinks it is (P6). Its own word is not
/// taken: a completion may speak of an entry that was replaced since.
pub(crate) fn check_durable(view: &View, synced: Index, reader: &LogReader, spoilt: bool) {
    let (node, index) = (view.node, view.durable_index);
    if index == view.prev.index {
        // The log begins anew behind this entry: there is none to compare.
        return;
    }
    assert!(
        index <= synced,
        "node {node} takes entry {index} for durable, its disk has synced {synced} (P6)"
    );
    if spoilt || index < reader.first_index() {
        // It rotted while it was written, or stands for the log before it, which was trimmed, or came as a snapshot.
        return;
    }
    let found = frames(reader, index, index)
        .frames
        .first()
        .map(|frame| frame.header().term);
    assert_eq!(
        found,
        view.term_at(index),
        "node {node} takes entry {index} for durable, and another one is on its disk (P6)"
    );
}

/// What was read of a log.
pub(crate) struct Read {
    pub(crate) frames: Vec<Frame>,
    /// Whether all that was asked for is there and whole.
    pub(crate) whole: bool,
}

/// The frames of a log from `from` to `last`, up to the first that is damaged; checked as a consumer checks them.
pub(crate) fn frames(reader: &LogReader, from: Index, last: Index) -> Read {
    let mut frames = Vec::new();
    let mut next = from;
    let mut whole = true;
    while whole && next <= last {
        let run = reader.read(next, last, READ_BYTES);
        let mut bytes = run.map(|run| run.bytes).unwrap_or_default();
        whole = !bytes.is_empty();
        while whole && !bytes.is_empty() {
            match Frame::split_from(&mut bytes, PAYLOAD_MAX, true) {
                Ok(frame) if frame.header().index == next => frames.push(frame),
                _ => whole = false,
            }
            next += 1;
        }
    }
    Read { frames, whole }
}

/// Who sent a record, as its value says.
pub(crate) fn record_of(value: Option<&[u8]>) -> Record {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    let parts = text.and_then(|text| text.trim_end_matches('.').split_once('/'));
    let numbers = parts
        .and_then(|(producer, sequence)| Some((producer.parse().ok()?, sequence.parse().ok()?)));
    let (producer, sequence) =
        numbers.expect("every record was sent by a producer of this run (P9, unsent)");
    Record { producer, sequence }
}
