//! Tickets: who waits for which entry. Owns the order in which proposals are answered.
//!
//! It must not know what an answer looks like, nor when an entry is committed. It is the last step of
//! the produce walk: tickets leave in the order of the log, and a ticket whose entry was cut or whose
//! leader fell never leaves as a success.

use std::collections::VecDeque;

use crate::mutation;
use crate::raft::{Index, LogId, NodeId};

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A caller on this node, by the token it gave.
    Local(u64),
    /// A peer that forwarded, by the token it gave.
    Peer {
        /// The peer.
        node: NodeId,
        /// Its token.
        token: u64,
    },
}

/// A promise to answer once the entry `id` is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The entry: index and term, for an index alone may come to name another entry.
    pub(crate) id: LogId,
    /// First offset of the batch.
    pub(crate) base_offset: u64,
    /// Bytes that count against the limit of the group until the answer.
    pub(crate) bytes: u64,
    /// Who waits.
    pub(crate) origin: Origin,
}

/// The tickets of one group, ascending by index.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    queue: VecDeque<Ticket>,
    bytes: u64,
}

impl Pending {
    /// Takes a ticket in: that of a new entry goes last, that of a duplicate behind its original.
    pub(crate) fn push(&mut self, ticket: Ticket) {
        self.bytes += ticket.bytes;
        let at = self
            .queue
            .partition_point(|other| other.id.index <= ticket.id.index);
        self.queue.insert(at, ticket);
    }

    /// The next ticket whose entry is at or below `through`.
    pub(crate) fn release(&mut self, through: Index) -> Option<Ticket> {
        let first = self.queue.front()?;
        if first.id.index > through {
            return None;
        }
        let ticket = self.queue.pop_front()?;
        self.bytes -= ticket.bytes;
        Some(ticket)
    }

    /// The next ticket, from the front, whose entry is above `after`.
    pub(crate) fn cut(&mut self, after: Index) -> Option<Ticket> {
        let at = self
            .queue
            .partition_point(|ticket| ticket.id.index <= after);
        let ticket = self.queue.remove(at)?;
        if !mutation::is("bytes of lost proposals stay counted") {
            self.bytes -= ticket.bytes;
        }
        Some(ticket)
    }

    /// Bytes of all entries that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tickets that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(index: Index, token: u64) -> Ticket {
        Ticket {
            id: LogId { term: 1, index },
            base_offset: index * 10,
            bytes: 64,
            origin: Origin::Local(token),
        }
    }

    fn tokens(mut next: impl FnMut() -> Option<Ticket>) -> Vec<Origin> {
        std::iter::from_fn(|| next().map(|ticket| ticket.origin)).collect()
    }

    #[test]
    fn tickets_leave_in_log_order_and_a_duplicate_behind_its_original() {
        let mut pending = Pending::default();
        for (index, token) in [(5, 1), (6, 2), (7, 3), (5, 4)] {
            pending.push(ticket(index, token));
        }
        let released = tokens(|| pending.release(6));
        assert_eq!(released, [1, 4, 2].map(Origin::Local));
        assert_eq!((pending.len(), pending.bytes()), (1, 64));
    }

    #[test]
    fn cut_takes_the_tickets_of_lost_entries_and_leaves_the_others() {
        let mut pending = Pending::default();
        for index in 5..9 {
            pending.push(ticket(index, index));
        }
        let lost = tokens(|| pending.cut(6));
        assert_eq!(lost, [7, 8].map(Origin::Local));
        assert_eq!(tokens(|| pending.release(9)), [5, 6].map(Origin::Local));
        assert_eq!(pending.bytes(), 0);
    }
}
