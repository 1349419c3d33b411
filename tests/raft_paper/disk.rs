//! The disk of a simulated node: what is durable, what is queued, and what has been done but not yet reported.
//!
//! Operations become durable in the order they were queued; the report of each reaches the core at any later time. A
//! crash loses the queue and the reports, and keeps what is durable.

use std::collections::VecDeque;

use plimsoll::raft::{Ballot, Index, LogId, Membership, Offer, Restored, Run, Term};

/// What an entry contains. The core never sees it; the checks compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Noop,
    Membership(Membership),
    Data(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) term: Term,
    pub(crate) payload: Payload,
}

/// A log with its payloads.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) prev: LogId,
    /// The membership in force at `prev`.
    pub(crate) base: (Index, Membership),
    entries: Vec<Entry>,
    /// Last entry of the state that was given, 0 if none was.
    pub(crate) state: Index,
}

impl Log {
    pub(crate) fn new(created_with: Membership) -> Log {
        Log {
            prev: LogId::ZERO,
            base: (0, created_with),
            entries: Vec::new(),
            state: 0,
        }
    }

    /// The log of a replica that was given a state: empty behind `base`, with the membership as of the state.
    pub(crate) fn begin_anew(base: LogId, membership: (Index, Membership), state: Index) -> Log {
        let (index, membership) = membership;
        Log {
            prev: base,
            base: (index.min(base.index), membership),
            entries: Vec::new(),
            state,
        }
    }

    pub(crate) fn last_index(&self) -> Index {
        self.prev.index + self.entries.len() as u64
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        let position = index.checked_sub(self.prev.index + 1)?;
        self.entries.get(position as usize)
    }

    pub(crate) fn slice(&self, first: Index, last: Index) -> Vec<Entry> {
        (first..=last)
            .map(|index| self.get(index).expect("a kept entry").clone())
            .collect()
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.prev.index {
            Some(self.prev.term)
        } else {
            self.get(index).map(|entry| entry.term)
        }
    }

    pub(crate) fn terms(&self) -> Vec<Term> {
        self.entries.iter().map(|entry| entry.term).collect()
    }

    pub(crate) fn append(&mut self, first: Index, entries: &[Entry]) {
        assert_eq!(first, self.last_index() + 1, "a log has no gaps");
        self.entries.extend_from_slice(entries);
    }

    pub(crate) fn truncate_after(&mut self, index: Index) {
        self.entries.truncate((index - self.prev.index) as usize);
    }

    pub(crate) fn trim_to(&mut self, prev: LogId) {
        assert_eq!(
            self.term_at(prev.index),
            Some(prev.term),
            "only what is here can be trimmed"
        );
        if let Some(base) = self
            .memberships()
            .into_iter()
            .rfind(|(index, _)| *index <= prev.index)
        {
            self.base = base;
        }
        self.entries
            .drain(..(prev.index - self.prev.index) as usize);
        self.prev = prev;
    }

    pub(crate) fn memberships(&self) -> Vec<(Index, Membership)> {
        let mut memberships = vec![self.base.clone()];
        for (position, entry) in self.entries.iter().enumerate() {
            if let Payload::Membership(membership) = &entry.payload {
                memberships.push((self.prev.index + 1 + position as u64, membership.clone()));
            }
        }
        memberships
    }

    /// What a replica that starts with this log is told.
    pub(crate) fn restored(&self, ballot: Ballot) -> Restored {
        let mut runs: Vec<Run> = Vec::new();
        for (position, entry) in self.entries.iter().enumerate() {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(Run {
                    first: self.prev.index + 1 + position as u64,
                    term: entry.term,
                });
            }
        }
        Restored {
            ballot,
            prev: self.prev,
            runs,
            last_index: self.last_index(),
            memberships: self.memberships(),
            commit_index: self.prev.index,
            suspect_tail: false,
            forgotten_term: None,
            pending_index: self.state,
        }
    }
}

/// One operation of the disk, and what the core is told when it is done.
#[derive(Clone, Debug)]
pub(crate) enum DiskOp {
    Ballot(Ballot),
    Truncate {
        after: Index,
    },
    Write {
        first: Index,
        entries: Vec<Entry>,
        truncations: u64,
    },
    Install(Offer),
}

#[derive(Clone, Debug)]
pub(crate) enum Done {
    Install,
    Ballot(Ballot),
    Write { id: LogId, truncations: u64 },
}

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) ballot: Ballot,
    pub(crate) log: Log,
    queue: VecDeque<DiskOp>,
    done: VecDeque<Done>,
    /// Entries after its end may have been lost, and none of a later term has come since.
    pub(crate) suspect: bool,
    /// Last term of a replica that was here before, if there was one.
    pub(crate) forgotten: Option<Term>,
    /// A stalled disk does nothing until a test lets it.
    pub(crate) stalled: bool,
}

impl Disk {
    pub(crate) fn new(ballot: Ballot, log: Log) -> Disk {
        Disk {
            ballot,
            log,
            queue: VecDeque::new(),
            done: VecDeque::new(),
            suspect: false,
            forgotten: None,
            stalled: false,
        }
    }

    /// The last `count` entries cannot be read any more. The node must be down.
    pub(crate) fn lose_tail(&mut self, count: u64) {
        let last = self.log.last_index().saturating_sub(count);
        self.log.truncate_after(last.max(self.log.prev.index));
        self.suspect = true;
    }

    pub(crate) fn submit(&mut self, op: DiskOp) {
        self.queue.push_back(op);
    }

    /// Makes the next operation durable. Returns whether there was one.
    pub(crate) fn work(&mut self) -> bool {
        let Some(op) = self.queue.pop_front() else {
            return false;
        };
        match op {
            DiskOp::Ballot(ballot) => {
                self.ballot = ballot;
                self.done.push_back(Done::Ballot(ballot));
            }
            DiskOp::Truncate { after } => self.log.truncate_after(after),
            DiskOp::Install(offer) => {
                self.log = Log::begin_anew(offer.base, offer.membership, offer.snapshot.index);
                self.done.push_back(Done::Install);
            }
            DiskOp::Write {
                first,
                entries,
                truncations,
            } => {
                self.log.append(first, &entries);
                let index = self.log.last_index();
                let id = LogId {
                    term: self.log.term_at(index).expect("just written"),
                    index,
                };
                self.done.push_back(Done::Write { id, truncations });
            }
        }
        true
    }

    /// The next report for the core.
    pub(crate) fn report(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// Whether the entry is durable, and will stay so when the queue is worked off.
    pub(crate) fn keeps(&self, id: LogId) -> bool {
        let cut = |op: &DiskOp| match op {
            DiskOp::Truncate { after } => *after < id.index,
            DiskOp::Install(offer) => offer.base.index < id.index,
            DiskOp::Ballot(_) | DiskOp::Write { .. } => false,
        };
        let here = id.index < self.log.prev.index || self.log.term_at(id.index) == Some(id.term);
        here && !self.queue.iter().any(cut)
    }

    /// Whether the entry is durable, or may have been before a loss.
    pub(crate) fn kept(&self, id: LogId) -> bool {
        self.keeps(id) || self.suspect
    }

    /// Power is lost: queue and reports are gone.
    pub(crate) fn crash(&mut self) {
        self.queue.clear();
        self.done.clear();
    }
}
