//! The follower's side of replication (section 5.3): the consistency check, truncation of what conflicts, and the ack.
//!
//! Owns what a follower may acknowledge and commit. It must not know other followers, or how the leader paces itself.
//! On the walk append. An acknowledgement asserts durability, so it waits here until the disk says so; several appends
//! that one fsync covers share one.

use super::core::{Part, Raft};
use super::install::Receiving;
use super::{Append, AppendOutcome, Effect, Index, LogId, Message, Millis, NodeId};
use super::{log, mutation};

/// What a follower keeps for the leader of its term.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Last message of the leader; `None` before the first one.
    pub(super) leader_heard_at: Option<Millis>,
    /// Equal to the leader's log up to and including, as far as this term has shown; durable or not.
    pub(super) verified_index: Index,
    /// An accepted append has not been acknowledged in full.
    pub(super) ack_owed: bool,
    /// What is being received in place of entries.
    pub(super) receiving: Option<Receiving>,
    /// Latest heartbeat round answered in this term.
    round_answered: u64,
    /// Waits for nothing; see `rest`.
    pub(super) resting: bool,
}

impl Append {
    /// Whether the numbers agree with each other. They may come from a faulty peer.
    pub(super) fn is_well_formed(&self) -> bool {
        let sent = self.prev.index.saturating_add(1)..=self.last_index;
        log::well_formed(self.prev, &self.runs, self.last_index)
            && self.runs.last().is_none_or(|run| run.term <= self.term)
            && self.prev.term <= self.term
            && self.memberships.is_sorted_by(|a, b| a.0 < b.0)
            && self
                .memberships
                .iter()
                .all(|(index, membership)| sent.contains(index) && membership.is_well_formed())
    }
}

impl Raft {
    /// `from` leads our term: stands down for it, and waits for another election timeout.
    pub(super) fn follow(&mut self, from: NodeId) {
        assert!(
            self.leader.is_none_or(|leader| leader == from),
            "two leaders in term {}: {from} and {:?}",
            self.term(),
            self.leader
        );
        if !matches!(self.part, Part::Follower(_)) {
            self.become_follower();
        }
        self.leader = Some(from);
        self.end_contest();
        let (now, timeout) = (self.now, self.election_timeout_ms);
        self.following().leader_heard_at = Some(now);
        self.election_deadline = now + timeout;
        self.publish();
    }

    pub(super) fn following(&mut self) -> &mut Following {
        match &mut self.part {
            Part::Follower(following) => following,
            _ => unreachable!("only called after `follow`, or for a follower"),
        }
    }

    /// AppendEntries of our term (figure 2, receiver's rules 2 to 5).
    pub(super) fn on_append(&mut self, from: NodeId, append: Append) {
        self.follow(from);
        // What lies below our kept log is committed, so every later leader has it as we had it (section 5.4.3).
        let trimmed = append.prev.index < self.log.prev().index
            && !mutation::is("what is trimmed is a conflict");
        let mut term_here = self.log.term_at(append.prev.index);
        if mutation::is("term zero stands for unknown") {
            term_here = term_here.or(Some(0));
        }
        if !trimmed && term_here != Some(append.prev.term) {
            let conflict = append.prev.index <= self.log.last_index();
            assert!(
                !conflict || append.prev.index > self.commit_index,
                "leader {from} of term {} contradicts the committed entry {}",
                append.term,
                append.prev.index
            );
            let rejection = self.rejection(append.prev.index);
            self.send(from, rejection);
            return;
        }
        let mut conflict = self.log.first_conflict(&append.runs, append.last_index);
        if mutation::is("a short append cuts what follows it")
            && append.last_index < self.log.last_index()
        {
            conflict = conflict.or(Some(append.last_index + 1));
        }
        if let Some(conflict) = conflict
            && !mutation::is("a conflicting tail stays")
        {
            self.truncate_before(conflict);
        }
        let first = self.log.last_index() + 1;
        if append.last_index >= first {
            self.log.extend(&append.runs, append.last_index);
            self.effects.push(Effect::AppendRemote {
                first,
                last: append.last_index,
            });
        }
        for (index, membership) in append.memberships {
            if index >= first {
                self.members.push(index, membership);
            }
        }
        let following = self.following();
        following.verified_index = following.verified_index.max(append.last_index);
        let mut verified = following.verified_index;
        if mutation::is("commit beyond what was compared") {
            verified = self.log.last_index();
        }
        self.commit_to(append.commit.min(verified));
        self.acknowledge(from, append.last_index);
    }

    /// Acknowledges entries up to `last_index` to the leader: now if they are durable, else once they are.
    pub(super) fn acknowledge(&mut self, leader: NodeId, last_index: Index) {
        if self.installing == 0 && self.matched().index >= last_index {
            self.send_accepted(leader);
        } else {
            self.following().ack_owed = true;
        }
    }

    /// Removes the entries from `conflict` on: the leader has others in their place.
    fn truncate_before(&mut self, conflict: Index) {
        assert!(
            conflict > self.commit_index,
            "a leader contradicts the committed entry {conflict}"
        );
        assert!(
            conflict > self.following().verified_index,
            "a leader contradicts entry {conflict}, which it sent before"
        );
        let after = conflict - 1;
        self.log.truncate_after(after);
        if !mutation::is("a truncated membership stays in force") {
            self.members.truncate_after(after);
        }
        self.durable_index = self.durable_index.min(after);
        self.truncations += 1;
        self.effects.push(Effect::Truncate { after });
    }

    /// The last entry that is both equal to the leader's and durable here.
    fn matched(&mut self) -> LogId {
        let equal = self.following().verified_index.max(self.commit_index);
        let index = match mutation::is("followers ack before their disk") {
            true => equal,
            false => equal.min(self.durable_index),
        };
        self.log
            .id_at(index)
            .expect("a durable index is never below the kept log")
    }

    fn send_accepted(&mut self, leader: NodeId) {
        let matched = self.matched();
        let following = self.following();
        following.ack_owed = matched.index < following.verified_index;
        let outcome = AppendOutcome::Accepted {
            matched,
            commit: self.commit_index,
        };
        let message = Message::AppendReply {
            term: self.term(),
            outcome,
        };
        // An acknowledgement right after another one of the same leader replaces it.
        if let Some(Effect::Send { to, message: last }) = self.effects.last_mut()
            && *to == leader
            && last.term() == message.term()
            && matches!(
                last,
                Message::AppendReply {
                    outcome: AppendOutcome::Accepted { .. },
                    ..
                }
            )
        {
            *last = message;
            return;
        }
        self.send(leader, message);
    }

    /// The log became durable a bit further: acknowledges what is owed.
    pub(super) fn acknowledge_durable(&mut self) {
        if let Some(leader) = self.leader
            && self.installing == 0
            && self.following().ack_owed
        {
            self.send_accepted(leader);
        }
    }

    /// Refuses an append after `prev_index`, and says how far back to look: the term we have there, and where it starts.
    pub(super) fn rejection(&self, prev_index: Index) -> Message {
        let last_index = self.log.last_index();
        let at = prev_index.min(last_index).max(self.log.prev().index);
        let term = self.log.term_at(at).expect("clamped to the kept log");
        let hint = LogId {
            term,
            index: self.log.first_of_term_at(at),
        };
        Message::AppendReply {
            term: self.term(),
            outcome: AppendOutcome::Rejected {
                prev_index,
                hint,
                last_index,
            },
        }
    }

    /// Sign of life of the leader. Its `commit` was acknowledged by us as durable, so it is surely here and equal.
    pub(super) fn on_heartbeat(&mut self, from: NodeId, commit: Index, round: u64) {
        let news = self.note_heartbeat(from, commit, round);
        let following = self.following();
        // One that was overtaken by a later round says nothing of whether the leader is awake.
        following.resting &= round < following.round_answered;
        if news {
            let term = self.term();
            self.send(from, Message::HeartbeatReply { term, round });
        }
    }

    /// What every heartbeat says. Returns whether its round is yet to be answered, which the caller does.
    pub(super) fn note_heartbeat(&mut self, from: NodeId, commit: Index, round: u64) -> bool {
        self.follow(from);
        if commit <= self.durable_index {
            self.commit_to(commit);
        }
        let following = self.following();
        let news = round > following.round_answered;
        following.round_answered = following.round_answered.max(round);
        news
    }
}
