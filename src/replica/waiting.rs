//! Requests that wait for somebody else, each until its deadline: owns their tokens and their time.
//!
//! It must not know what they wait for. All requests of one kind wait equally long, so the oldest token
//! has the earliest deadline.

use std::collections::BTreeMap;

use crate::mutation;
use crate::raft::Millis;

/// Waiting requests of one kind.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    next_token: u64,
    timeout_ms: u64,
    entries: BTreeMap<u64, (Millis, T)>,
}

impl<T> Waiting<T> {
    /// Nothing waits. `seed` differs between starts of a node, so that a late answer to a request from
    /// before a restart meets no request of after.
    pub(crate) fn new(timeout_ms: u64, seed: u64) -> Waiting<T> {
        Waiting {
            // Room for 2^32 requests before the counter of another start is reached.
            next_token: match mutation::is("numbers of requests start over") {
                true => 1,
                false => (seed & 0x3fff_ffff) << 32,
            },
            timeout_ms,
            entries: BTreeMap::new(),
        }
    }

    /// Lets `request` wait, and names it.
    pub(crate) fn insert(&mut self, now: Millis, request: T) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        let deadline = now.saturating_add(self.timeout_ms);
        self.entries.insert(token, (deadline, request));
        token
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The request named `token`, if it still waits.
    pub(crate) fn get_mut(&mut self, token: u64) -> Option<&mut T> {
        self.entries.get_mut(&token).map(|(_, request)| request)
    }

    /// Ends the wait of `token`.
    pub(crate) fn remove(&mut self, token: u64) -> Option<T> {
        self.entries.remove(&token).map(|(_, request)| request)
    }

    /// Ends the wait of the next request for which `over` holds, oldest first.
    pub(crate) fn take_if(&mut self, over: impl Fn(&T) -> bool) -> Option<T> {
        let found = self.entries.iter().find(|(_, (_, request))| over(request));
        let token = *found?.0;
        self.remove(token)
    }

    /// Ends the wait of the next request whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Millis) -> Option<T> {
        let first = self.entries.first_entry()?;
        if first.get().0 > now {
            return None;
        }
        Some(first.remove().1)
    }

    /// When `expire` will have something; [`Millis::MAX`] if nothing waits.
    pub(crate) fn next_deadline(&self) -> Millis {
        let first = self.entries.first_key_value();
        first.map_or(Millis::MAX, |(_, (deadline, _))| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_expire_in_order_of_their_arrival() {
        let mut waiting = Waiting::new(10, 1);
        assert_eq!(waiting.next_deadline(), Millis::MAX);
        waiting.insert(0, 'a');
        let token = waiting.insert(1, 'b');
        waiting.insert(5, 'c');
        assert_eq!(waiting.expire(9), None);
        assert_eq!(waiting.expire(10), Some('a'));
        assert_eq!(waiting.remove(token), Some('b'));
        assert_eq!(waiting.next_deadline(), 15);
        assert_eq!(waiting.take_if(|request| *request == 'c'), Some('c'));
        assert_eq!(waiting.next_deadline(), Millis::MAX);
    }

    #[test]
    fn tokens_of_two_starts_do_not_meet() {
        let before = Waiting::new(10, 1).insert(0, ());
        let after = Waiting::new(10, 2).insert(0, ());
        assert_ne!(before, after);
    }
}
